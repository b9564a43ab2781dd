"""``ptr submit``: post the payments of a file."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.broker.poster import DELIVERY_TIMEOUT_S, RequestPoster, TooLargeError, UnreachableError
from connectors.files import source
from connectors.files.mapping import Mapping, MappingError, Refused, Why
from connectors.files.presets import PRESETS
from connectors.files.readers import FileError
from connectors.registry import RegistryError
from pipeline.commands.shared import broker_option, codec_of, settings_with
from schemas.identity import TENANT_PATTERN
from schemas.records import PaymentRequested

#: Refused rows that are named one by one; the rest is only counted.
REFUSED_SHOWN = 20
#: How often failures are heard of and the progress is drawn, in rows.
ROWS_PER_LOOK = 500
#: The same at a --rate.
LOOKS_PER_S = 50
#: Longest sleep at a low --rate, so that Ctrl-C is heard.
SLEEP_S_MAX = 0.2
INTERRUPTED = 130


@dataclass(slots=True)
class Counts:
    """What became of the rows. ``read`` = ``posted`` + ``refused``; ``posted`` = ``delivered`` + ``failed``."""

    read: int = 0
    posted: int = 0
    delivered: int = 0
    failed: int = 0
    refused: int = 0
    refused_by_reason: dict[str, int] = field(default_factory=dict)
    refused_rows: list[Refused] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0
    per_second: float = 0.0
    interrupted: bool = False

    def refuse(self, row: Refused) -> None:
        """Count a row that is not a PTR."""
        self.refused += 1
        self.refused_by_reason[row.why.value] = self.refused_by_reason.get(row.why.value, 0) + 1
        if len(self.refused_rows) < REFUSED_SHOWN:
            self.refused_rows.append(row)


class _Interrupt:
    """Ctrl-C as a flag, so that no count is lost in the middle; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        return self.is_set

    @contextmanager
    def heard(self) -> Iterator[None]:
        before = signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--format", "file_format", type=click.Choice(source.FORMATS), help="What FILE is (default: its suffix).")
@click.option(
    "--map", "rules", multiple=True, metavar="RULE", help="FIELD=COLUMN, FIELD=COLUMN*100 or FIELD:=TEXT; repeatable."
)
@click.option(
    "--map-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Rules, one a line; # begins a comment line.",
)
@click.option("--preset", type=click.Choice(sorted(PRESETS)), help="Rules for a well-known file.")
@broker_option
@click.option("--limit", type=click.IntRange(min=1), help="Post at most so many rows.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many rows at the beginning.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Post at most so many a second.")
@click.option("--tenant", help="Post everything for this tenant, whatever the file or its mapping says.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be mapped.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 3600),
    default=DELIVERY_TIMEOUT_S,
    show_default=True,
    help="Seconds after which a PTR that the broker has not taken has failed.",
)
@click.option("--dry-run", is_flag=True, help="Show the first PTR as JSON and post nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def submit(
    file: Path,
    file_format: str | None,
    rules: tuple[str, ...],
    map_file: Path | None,
    preset: str | None,
    broker: str | None,
    limit: int | None,
    offset: int,
    rate: float | None,
    tenant: str | None,
    strict: bool,
    timeout_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Post the payments of FILE: JSON Lines, CSV or Parquet.

    JSON Lines whose objects have the PTR's own shape need nothing more. For other files, rules say where each field of
    the PTR comes from; of two rules for a field the later one counts, in the order preset, file, --map. Every field
    without a default needs one. Times without an offset are UTC.

    A row that cannot be mapped is reported by line and field, and the rest goes on. Posting a file twice is safe: a
    payment that was asked for before gets the answer that it got. With PTR_SCHEMA_REGISTRY_URL set, PTRs are written in
    Confluent framing, as workers write their events.

    Exit code: 0 when every row was delivered, 1 when some were refused or failed, 130 after Ctrl-C.

    \b
    Examples:
      ptr submit payments.jsonl
      ptr submit transactions.parquet --preset fdh --limit 1000
      ptr submit shop.csv --tenant acme --map payment_id=ORDER --map amount_minor=TOTAL*100 --map-file shop.rules
      ptr submit shop.csv --map-file shop.rules --dry-run
    """
    if tenant is not None and not TENANT_PATTERN.match(tenant):
        raise click.UsageError("--tenant takes small letters, digits, - and _, at most 40, the first no sign.")
    try:
        kind = file_format or source.format_of(file)
        mapping = _mapping(kind, rules, map_file, preset, tenant)
        # With a mapping the tenant is one of its rules.
        forced_tenant = tenant if mapping is None else None
        pages = source.read(file, kind, mapping, offset=offset, limit=limit)
        if dry_run:
            _show_first(pages, forced_tenant)
            return
        total = source.count(file, kind)
        chosen = settings_with(broker=broker)
        poster = RequestPoster(chosen.access, codec=codec_of(chosen), delivery_timeout_s=timeout_s)
        poster.check()
        run = _Run(poster, rate, strict, forced_tenant)
        run.go(pages, None if total is None else min(max(total - offset, 0), limit or total))
    except MappingError as error:
        raise click.UsageError(f"{error}.") from None
    except (FileError, UnreachableError, RegistryError) as error:
        raise click.ClickException(f"{error}.") from None
    _report(run.counts, as_json)
    if run.broken:
        raise click.ClickException(f"{run.broken}.")
    if run.counts.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if run.counts.failed or run.counts.refused:
        raise click.exceptions.Exit(1)


def _mapping(
    kind: str, rules: tuple[str, ...], map_file: Path | None, preset: str | None, tenant: str | None
) -> Mapping | None:
    """The mapping that the options describe; None for JSON Lines of PTRs."""
    lines = [*PRESETS[preset]] if preset else []
    if map_file is not None:
        try:
            lines += [line.strip() for line in map_file.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{map_file} cannot be read as text: {type(error).__name__}.") from None
    lines = [line for line in [*lines, *rules] if line and not line.startswith("#")]
    if not lines:
        if kind == "jsonl":
            return None
        raise click.UsageError(
            f"a {kind} file needs rules that say which column is what: --map FIELD=COLUMN, --map-file or --preset."
        )
    if tenant is not None:
        lines.append(f"tenant:={tenant}")
    return Mapping.parse(lines)


def _for_tenant(request: PaymentRequested, tenant: str | None) -> PaymentRequested:
    return request if tenant is None else msgspec.structs.replace(request, tenant=tenant)


def _show_first(pages: Iterator[source.Items], tenant: str | None) -> None:
    """Print the first row that can be mapped, and on standard error the refused ones before it."""
    shown = 0
    for page in pages:
        for item in page.items:
            if isinstance(item, PaymentRequested):
                click.echo(json.dumps(msgspec.to_builtins(_for_tenant(item, tenant)), indent=2, ensure_ascii=False))
                return
            if shown < REFUSED_SHOWN:
                click.echo(_refused_text(item), err=True)
            shown += 1
    raise click.ClickException(f"the file has no row that can be mapped ({shown} refused).")


def _refused_text(refused: Refused) -> str:
    return f"row {refused.row}: {refused.why.value}" + (f" ({refused.field})" if refused.field else "")


class _Run:
    """One run of the command: rows in, PTRs out, counts."""

    def __init__(self, poster: RequestPoster, rate: float | None, strict: bool, tenant: str | None) -> None:
        self.counts = Counts()
        #: Why the file could not be read to its end, empty when it was.
        self.broken = ""
        self._poster, self._rate, self._strict, self._tenant = poster, rate, strict, tenant
        self._stop = _Interrupt()

    def go(self, pages: Iterator[source.Items], total: int | None) -> None:
        """Post everything, wait for the broker, and leave the counts in :attr:`counts`."""
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
        started = time.monotonic()
        with self._stop.heard(), Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("posting", total=total, now="")

            def look() -> None:
                rate = self.counts.read / max(time.monotonic() - started, 1e-9)
                progress.update(task, completed=self.counts.read, now=f"{self.counts.read:,} rows, {rate:,.0f}/s")

            try:
                self._post(pages, started, look)
            except KeyboardInterrupt:
                pass
            except FileError as error:
                self.broken = str(error)
            finally:
                progress.update(task, description="waiting for the broker")
                with suppress(KeyboardInterrupt):
                    self._poster.flush(self._stop)
                self._count(time.monotonic() - started)
                look()

    def _count(self, seconds: float) -> None:
        counts, poster = self.counts, self._poster
        counts.posted, counts.failed, counts.failure = poster.posted, poster.failed + poster.waiting, poster.failure
        counts.delivered = counts.posted - counts.failed
        counts.seconds = round(seconds, 3)
        counts.per_second = round(counts.delivered / max(seconds, 1e-9), 1)
        counts.interrupted = self._stop.is_set

    def _post(self, pages: Iterator[source.Items], started: float, look: Callable[[], None]) -> None:
        poster, stop, counts = self._poster, self._stop, self.counts
        per_look = max(1, min(ROWS_PER_LOOK, int(self._rate / LOOKS_PER_S))) if self._rate else ROWS_PER_LOOK
        for page in pages:
            for row, item in zip(page.rows, page.items, strict=True):
                if counts.read % per_look == 0:
                    self._wait_for_turn(started)
                    poster.serve()
                    look()
                    # After one failure the rest would fail too, each after its time-out.
                    if stop.is_set or poster.failed:
                        return
                refused = item if isinstance(item, Refused) else None
                if isinstance(item, PaymentRequested):
                    try:
                        if not poster.post(_for_tenant(item, self._tenant), stop):
                            return
                    except TooLargeError:
                        refused = Refused(row, "", Why.TOO_LARGE)
                    except (OverflowError, UnicodeEncodeError):
                        refused = Refused(row, "", Why.OUT_OF_RANGE)
                counts.read += 1
                if refused is not None:
                    counts.refuse(refused)
                    if self._strict:
                        return

    def _wait_for_turn(self, started: float) -> None:
        if self._rate is None:
            return
        due = started + self.counts.read / self._rate
        while not self._stop.is_set and (early := due - time.monotonic()) > 0:
            self._poster.serve(min(early, SLEEP_S_MAX))


def _report(counts: Counts, as_json: bool) -> None:
    for refused in counts.refused_rows:
        click.echo(_refused_text(refused), err=True)
    if counts.refused > len(counts.refused_rows):
        click.echo(f"... and {counts.refused - len(counts.refused_rows):,} more", err=True)
    if counts.failed:
        click.echo(
            f"Error: the broker did not confirm {counts.failed:,} PTRs: {counts.failure or 'given up'}. Run the "
            "command again: a payment that was asked for before is not paid twice.",
            err=True,
        )
    if as_json:
        click.echo(json.dumps(asdict(counts)))
        return
    click.echo(f"read       {counts.read:>12,}")
    click.echo(f"posted     {counts.posted:>12,}")
    click.echo(f"delivered  {counts.delivered:>12,}")
    click.echo(f"refused    {counts.refused:>12,}")
    for why, number in sorted(counts.refused_by_reason.items()):
        click.echo(f"  {why:<20}{number:>10,}")
    click.echo(f"failed     {counts.failed:>12,}")
    click.echo(f"seconds    {counts.seconds:>12,.1f}")
    click.echo(f"rate       {counts.per_second:>12,.0f} /s")
    if counts.interrupted:
        click.echo("Stopped by Ctrl-C.", err=True)
