"""``ptr reconcile``: a PIC's statement against the attempts in the audit tables."""

from __future__ import annotations

import re
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connectors.broker.one import PostError, RecordPoster
from connectors.registry import RegistryError
from connectors.sinks.attempts import attempts_at
from connectors.sinks.database import DatabaseError, open_database, shown_url
from connectors.sinks.story import iso
from connectors.statements.lines import StatementError
from connectors.statements.reader import FORMATS, Format, read
from connectors.statements.scratch import Counts, Scratch
from connectors.statements.table import FIELDS, RuleError, table_of
from pipeline.commands.shared import DAY_MS, broker_option, codec_of, day_ms, json_option, settings_with
from pipeline.settings import Settings
from pipeline.stages.reconciliation import (
    DIFFERENCES,
    AmountDiffers,
    Attempt,
    Finding,
    Line,
    MissingHere,
    MissingThere,
    Span,
    is_tenants,
    news,
    shown,
)
from pipeline.topics import NOTIFIED
from schemas.identity import PIC_PATTERN, TENANT_PATTERN, payment_key
from schemas.money import UnknownCurrencyError, format_amount
from schemas.records import PaymentNotified

#: Nothing was compared.
NOT_DONE: Final = 2
LIMIT: Final = 50
#: A PIC books days after it was asked, and its answer here may be as much later.
AROUND_DAYS: Final = 7
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


class _NotDoneError(click.ClickException):
    exit_code = NOT_DONE


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--pic", required=True, help="The PIC whose statement it is, as in PTR_PICS.")
@click.option("--tenant", default="", help="Only what is about this tenant (default: all).")
@click.option(
    "--from", "from_", metavar="YYYY-MM-DD", help="First day of the statement (default: its first line's time)."
)
@click.option("--to", metavar="YYYY-MM-DD", help="The day after its last (default: its last line's time).")
@click.option(
    "--around",
    type=click.IntRange(0, 400),
    default=AROUND_DAYS,
    show_default=True,
    metavar="DAYS",
    help="Attempts of so many days before it are known, too.",
)
@click.option("--format", "kind", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--map", "rules", multiple=True, metavar="RULE", help="FIELD=COLUMN or FIELD:=TEXT, of a CSV file.")
@click.option("--word", "words", multiple=True, metavar="WORD=MEANING", help="What a word of the column kind means.")
@click.option("--publish", is_flag=True, help="Tell the pipeline what it says of attempts that are pending here.")
@click.option("--limit", type=click.IntRange(0), default=LIMIT, show_default=True, help="Differences in the table.")
@click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db).")
@broker_option
@json_option
def reconcile(
    file: Path,
    pic: str,
    tenant: str,
    from_: str | None,
    to: str | None,
    around: int,
    kind: Format,
    rules: tuple[str, ...],
    words: tuple[str, ...],
    publish: bool,
    limit: int,
    database: str | None,
    broker: str | None,
    as_json: bool,
) -> None:
    """Compare a PIC's statement with the attempts in the audit tables.

    FILE is a bank's camt.053 or camt.054, one of Stripe's balance files (the itemized report or the export), or any CSV file
    whose columns are named with --map. A file that is damaged anywhere is refused as a whole, with the line and the reason.

    \b
    Exit codes:
      0  everything matched
      1  there are differences
      2  nothing was compared: usage, a refused file, a database or broker that is away

    \b
    Differences:
      missing_here     they have it, and no attempt here is what the line names
      missing_there    paid here within the statement's time, and not in it
      amount_differs   the amount or the currency
      status_differs   paid there and not here, or the other way round, or returned
      duplicate_there  one more line for what is there already

    \b
    Examples:
      ptr reconcile statement.xml --pic iso20022
      ptr reconcile balance.csv --pic stripe --from 2026-11-01 --to 2026-12-01 --json
      ptr reconcile payouts.csv --pic acme-bank --map attempt_id=Reference --map amount=Gross \\
          --map currency=Currency --map kind=Type --word Sale=payment --word Refund=refund
      ptr reconcile statement.xml --pic iso20022 --publish
    """
    if not PIC_PATTERN.match(pic):
        raise click.UsageError("--pic is not a PIC's name")
    if tenant and not TENANT_PATTERN.match(tenant):
        raise click.UsageError("--tenant is not a tenant's id")
    if (rules or words) and kind not in ("auto", "csv"):
        raise click.UsageError("--map and --word are for --format csv")
    if kind == "csv" and not rules:
        raise click.UsageError(f"--format csv needs --map FIELD=COLUMN, of {', '.join(FIELDS)}")
    try:
        table = table_of(rules, words) if rules else None
    except RuleError as error:
        raise click.UsageError(str(error)) from None
    settings = settings_with(database=database, broker=broker)
    report = _Json(file, pic) if as_json else _Screen(limit)
    try:
        with Scratch() as scratch:
            counts = scratch.take_lines(read(file, kind, table))
            period = _period(counts, from_, to)
            with closing(open_database(settings.database)) as opened:
                known = scratch.take_attempts(
                    attempts_at(opened, pic, from_ms=period.from_ms - around * DAY_MS, until_ms=period.until_ms)
                )
            tally = _compare(scratch, period, pic, tenant, report, _Teller(settings) if publish else None)
    except StatementError as error:
        raise _NotDoneError(f"{file} is refused: {error}") from None
    except (DatabaseError, PostError, RegistryError) as error:
        raise _NotDoneError(str(error)) from None
    report.end(_Result(file, shown_url(settings.database), counts, period, known, tally))
    if tally.differences:
        sys.exit(1)


def _period(counts: Counts, from_: str | None, to: str | None) -> Span:
    own = counts.period()
    if own is None and not (from_ and to):
        raise click.UsageError("the file tells no time: give --from and --to")
    from_ms = day_ms(from_) if from_ else own.from_ms if own is not None else 0
    until_ms = day_ms(to) if to else own.until_ms if own is not None else 0
    if from_ms >= until_ms:
        raise click.UsageError("--from must be before --to")
    return Span(from_ms, until_ms)


@dataclass(slots=True)
class _Tally:
    """What was found, by its name."""

    found: Counter[str] = field(default_factory=Counter)
    published: int = 0

    @property
    def differences(self) -> int:
        return sum(self.found[_name(kind)] for kind in DIFFERENCES)


@dataclass(frozen=True, slots=True)
class _Result:
    """All that is said at the end."""

    file: Path
    database: str
    counts: Counts
    period: Span
    attempts: int
    tally: _Tally


class _Teller:
    """Publishes news of attempts."""

    def __init__(self, settings: Settings) -> None:
        self._poster = RecordPoster(settings.access, NOTIFIED.name)
        self._encode = codec_of(settings).encoder(PaymentNotified)

    def tell(self, notified: PaymentNotified) -> None:
        self._poster.post(self._encode(notified), payment_key(notified.tenant, notified.payment_id))

    def finish(self) -> None:
        self._poster.finish()


def _compare(
    scratch: Scratch, period: Span, pic: str, tenant: str, report: _Json | _Screen, teller: _Teller | None
) -> _Tally:
    tally = _Tally()
    for found in scratch.findings(period):
        if tenant and not is_tenants(found[0], tenant):
            continue
        for each in found:
            tally.found[_name(type(each))] += 1
            if isinstance(each, DIFFERENCES):
                report.add(each)
        if teller is not None and (notified := news(found, pic)) is not None:
            teller.tell(notified)
            tally.published += 1
    if teller is not None:
        teller.finish()
    return tally


def _name(kind: type[Any]) -> str:
    """``AmountDiffers`` as ``amount_differs``."""
    return _WORD.sub("_", kind.__name__).lower()


def _data(found: Finding) -> dict[str, Any]:
    """A difference: ids, amounts and times, and nothing that could be a person's."""
    line = None if isinstance(found, MissingThere) else getattr(found, "line", None)
    attempt = None if isinstance(found, MissingHere) else getattr(found, "attempt", None)
    return {
        "what": _name(type(found)),
        "line": line.row if line is not None else None,
        "attempt": _attempt_data(attempt) if attempt is not None else None,
        "statement": _line_data(line, found) if line is not None else None,
    }


def _attempt_data(attempt: Attempt) -> dict[str, Any]:
    return {
        "tenant": attempt.tenant,
        "payment_id": attempt.payment_id,
        "operation_id": attempt.operation_id,
        "attempt": attempt.attempt,
        "movement": attempt.movement,
        "outcome": attempt.outcome,
        "amount_minor": attempt.amount_minor,
        "currency": attempt.currency,
    }


def _line_data(line: Line, found: Finding) -> dict[str, Any]:
    return {
        "movement": line.movement,
        "says": line.says,
        "amount_minor": found.amount_minor if isinstance(found, AmountDiffers) else line.amount_minor,
        "currency": line.currency,
        "names": {kind: shown(value) for kind, value in line.keys},
    }


class _Json:
    """One document, written as it comes: there may be any number of differences."""

    def __init__(self, file: Path, pic: str) -> None:
        self._about = {"file": str(file), "pic": pic}
        self._is_open = False

    def add(self, found: Finding) -> None:
        click.echo(("," if self._open() else "") + msgspec.json.encode(_data(found)).decode())

    def end(self, result: _Result) -> None:
        self._open()
        counts, tally = result.counts, result.tally
        end = {
            "database": result.database,
            "from_ms": result.period.from_ms,
            "until_ms": result.period.until_ms,
            "lines": counts.lines,
            "other_lines": counts.others,
            "attempts": result.attempts,
            "found": dict(sorted(tally.found.items())),
            "published": tally.published,
        }
        click.echo("]," + msgspec.json.encode(end).decode()[1:])

    def _open(self) -> bool:
        """Whether it was open already."""
        was_open, self._is_open = self._is_open, True
        if not was_open:
            click.echo(msgspec.json.encode(self._about).decode()[:-1] + ',"differences":[')
        return was_open


class _Screen:
    """A table of the first differences, and the counts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shown = 0
        self._table = Table(box=None, pad_edge=False)
        for heading in ("difference", "line", "tenant", "payment", "attempt", "here", "there"):
            self._table.add_column(heading, justify="right" if heading == "line" else "left", overflow="fold")

    def add(self, found: Finding) -> None:
        self._shown += 1
        if self._shown > self._limit:
            return
        data = _data(found)
        attempt, line = data["attempt"], data["statement"]
        if attempt is not None:
            number = f"{attempt['operation_id']} {attempt['attempt']}".strip()
            ours = [attempt["tenant"], attempt["payment_id"], number, _words(attempt, attempt["outcome"])]
        else:
            ours = ["", next(iter(line["names"].values()), "(no name)"), "", ""]
        theirs = _words(line, line["says"]) if line is not None else ""
        self._table.add_row(data["what"], "" if line is None else str(data["line"]), *ours, theirs)

    def end(self, result: _Result) -> None:
        console = Console(markup=False, highlight=False)
        counts, tally = result.counts, result.tally
        if self._shown and self._limit:
            console.print(self._table)
        if self._shown > self._limit:
            console.print(f"and {self._shown - self._limit:,} more; --limit or --json shows them")
        console.print(
            f"{result.file}: {counts.lines:,} lines, {counts.others:,} of them about no attempt;"
            f" {iso(result.period.from_ms)} to {iso(result.period.until_ms)}"
        )
        console.print(f"{result.database}: {result.attempts:,} attempts in and around that time")
        found = [f"{name} {number:,}" for name, number in sorted(tally.found.items())]
        console.print(", ".join(found) or "nothing to compare")
        if tally.published:
            console.print(f"published {tally.published:,} to {NOTIFIED.name}")


def _words(said: dict[str, Any], word: str) -> str:
    amount_minor, currency = said["amount_minor"], said["currency"]
    try:
        amount = format_amount(amount_minor, currency)
    except UnknownCurrencyError:
        amount = f"{amount_minor} minor units of an unknown currency"
    return f"{word} {amount}" if said["movement"] == "payment" else f"{word} {amount} (refund)"
