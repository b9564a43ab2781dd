"""``ptr events``: follow events live."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from connectors.broker.tail import Tail, TailError
from connectors.registry import RegistryError
from connectors.sinks.rows import Columns, Mapper, RegistryAwayError
from pipeline.commands.shared import Since, broker_option, codec_of, json_option, settings_with
from pipeline.topics import audited
from schemas.reasons import shown

#: How long a look for new records waits: Ctrl-C is heard after this.
WAIT_S: Final = 0.2


@click.group("events")
def events() -> None:
    """Follow what happens to payments, live.

    \b
    Examples:
      ptr events tail --tenant aurora
      ptr events tail --stage payee --reason fraud_score_high --since 1h
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is shown of an event: whose it is, and the stage's words; nothing of the payment itself."""

    at_ms: int
    tenant: str
    payment_id: str
    stage: str
    outcome: str
    reason: str


def told_by(row: Columns) -> Told:
    """What is shown of a row of the audit tables."""
    stage, outcome, reason = (shown(word) for word in row[4:7])
    return Told(at_ms=row[12], tenant=row[0], payment_id=row[1], stage=stage, outcome=outcome, reason=reason)


@events.command("tail")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--stage", help="Only this stage's: screening, localization, payer, payee, reviews, dispatch, plugin ...")
@click.option("--reason", help="Only with this reason (docs/reference/reasons.md).")
@click.option(
    "--since", type=Since(), metavar="TIME", help="From then on: 30m, 2h, 7d, or ISO 8601 (UTC). Default: now."
)
@broker_option
@json_option
def tail(
    tenant: str | None, stage: str | None, reason: str | None, since: int | None, broker: str | None, as_json: bool
) -> None:
    """Show events as they are written, a line each, until Ctrl-C; then how many.

    Time, tenant, payment, stage, outcome, reason: no names, amounts or texts. Each topic's events are in order, those of
    several topics come as they are read. After a crash an event may be in its topic twice, and is shown twice.

    \b
    Examples:
      ptr events tail
      ptr events tail --tenant aurora --stage plugin
      ptr events tail --since 10m --json | jq .reason
    """
    chosen = settings_with(broker=broker)
    mapper = Mapper(codec_of(chosen))
    printer = _Printer(as_json)
    read = matching = 0
    trouble = ""
    try:
        with (
            Tail(chosen.access, [topic.name for topic in audited(chosen.pics)], since_ms=since) as log,
            _ending() as ended,
        ):
            click.echo(f"following {log.topics} topics at {chosen.broker}; Ctrl-C ends", err=True)
            while not ended.is_set:
                messages = log.read(WAIT_S)
                read += len(messages)
                for message in messages:
                    told = told_by(
                        mapper.columns(
                            message.topic(),
                            message.partition(),
                            message.offset(),
                            message.timestamp()[1],
                            message.value(),
                        )
                    )
                    wanted = (tenant or told.tenant, stage or told.stage, reason or told.reason)
                    if wanted == (told.tenant, told.stage, told.reason):
                        matching += 1
                        printer(told)
                sys.stdout.flush()
                if not messages and log.trouble != trouble:
                    trouble = log.trouble
                    click.echo(f"Kafka at {chosen.broker}: {trouble}; waiting", err=True)
    except (TailError, RegistryError, RegistryAwayError) as error:
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:
        # Whoever read has enough, as `head` has. Python would complain of it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    click.echo(f"{matching:,} events shown, {read:,} read", err=True)


class _Ended:
    is_set = False


@contextmanager
def _ending() -> Iterator[_Ended]:
    """Ctrl-C and SIGTERM as a flag: to be ended is how this command ends. A second one ends at once."""
    ended = _Ended()

    def hear(number: int, frame: FrameType | None) -> None:
        if ended.is_set:
            raise KeyboardInterrupt
        ended.is_set = True

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Printer:
    """A line an event; in colour on a terminal, where NO_COLOR does not forbid it."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(markup=False, highlight=False)

    def __call__(self, told: Told) -> None:
        if self._as_json:
            click.echo(json.dumps({name: getattr(told, name) for name in Told.__slots__}, ensure_ascii=False))
            return
        at = datetime.fromtimestamp(told.at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        who = f"{told.tenant or '-':<10} {told.payment_id or '-':<24}"
        if not self._console.is_terminal:
            click.echo(f"{at} {who} {told.stage:<12} {told.outcome:<12} {told.reason}".rstrip())
            return
        line = Text(f"{at} {who} ")
        line.append(f"{told.stage:<12} ", style="cyan")
        line.append(f"{told.outcome:<12} ", style="bold")
        line.append(told.reason)
        self._console.print(line, soft_wrap=True)
