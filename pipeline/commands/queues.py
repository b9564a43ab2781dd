"""``ptr queues``: what waits for each PIC, and pausing the calls to one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from connectors.broker.follow import TopicReadError
from connectors.broker.one import PostError
from connectors.controls.book import ControlBook
from connectors.controls.topic import ControlError, publish, read_all
from connectors.queues.waiting import PicQueue, QueuesError, Waiting, known_pics, waiting
from connectors.queues.workers import Calls, ask
from connectors.registry import RegistryError
from connectors.sinks.story import iso
from connectors.tenants.checks import suggestion
from pipeline.commands.parked import decide, parked
from pipeline.commands.shared import (
    broker_option,
    codec_of,
    duration_of,
    json_option,
    print_json,
    settings_with,
    user_name,
)
from schemas.records import PicControlled

_TROUBLE = (QueuesError, TopicReadError, PostError, ControlError, RegistryError)
_why = click.option("--why", required=True, metavar="TEXT", help="Why, in a sentence.")
_by = click.option("--by", metavar="WHO", help="Who decides that (default: the name of this user here).")


@click.group(invoke_without_command=True)
@click.option(
    "--worker",
    "workers",
    multiple=True,
    metavar="URL",
    help="Base address of a worker's web pages; several times for several (default: PTR_WEB_PEERS).",
)
@broker_option
@json_option
@click.pass_context
def queues(context: click.Context, workers: Sequence[str], broker: str | None, as_json: bool) -> None:
    """Show what waits for each PIC, pause the calls to one, and decide what only a person can.

    DEPTH is what waits to be called and RETRIES, by delay, what waits to be asked about again: records that no worker has
    acknowledged, and the age of the oldest, from Kafka. IN FLIGHT and BREAKER come from the workers' metrics pages
    (--worker or PTR_WEB_PEERS, with PTR_WEB_TOKEN); of workers that are not named nothing is counted there.

    \b
    Examples:
      ptr queues
      ptr queues --worker http://10.0.0.7:8080 --worker http://10.0.0.8:8080 --json
      ptr queues pause stripe --why 'maintenance until 14:00'
      ptr queues resume stripe --why 'maintenance is over'
      ptr queues parked
      ptr queues decide aurora pay_000001 succeeded --why 'seen in the portal'
    """
    if context.invoked_subcommand is not None:
        if workers or broker or as_json:
            raise click.UsageError(f"options of 'queues {context.invoked_subcommand}' stand after its name")
        return
    settings = settings_with(broker=broker)
    try:
        found = waiting(settings.access, [settings.worker_group])
        controls = read_all(settings.access, codec_of(settings))
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    told = ask(workers or settings.web_peers, settings.web_token)
    now_ms = int(time.time() * 1000)
    if as_json:
        rows = [_data(each, told.calls.get(each.pic), controls, now_ms) for each in found]
        print_json({"pics": rows, "troubles": told.troubles})
        return
    if not found:
        click.echo(f"{settings.broker} has no processing queues: make the topics with 'ptr topics apply'", err=True)
        return
    _print(found, told.calls, controls, now_ms)
    for trouble in told.troubles:
        click.echo(trouble, err=True)


@queues.command()
@click.argument("pic")
@_why
@_by
@broker_option
@json_option
def pause(pic: str, why: str, by: str | None, broker: str | None, as_json: bool) -> None:
    """Call PIC no more: what is for it waits in Kafka, in order. Other PICs go on.

    Workers heed it within a second or two; calls that were begun are finished. What was called already is still asked
    about. It holds until `ptr queues resume`, whatever is restarted.

    \b
    Examples:
      ptr queues pause stripe --why 'maintenance until 14:00'
      ptr queues pause stripe --why 'declines everything' --by mo@example.org
    """
    _control(pic, True, why, by, broker, as_json)


@queues.command()
@click.argument("pic")
@click.option("--why", default="may be called again", show_default=True, metavar="TEXT", help="Why, in a sentence.")
@_by
@broker_option
@json_option
def resume(pic: str, why: str, by: str | None, broker: str | None, as_json: bool) -> None:
    """Call PIC again; what waited goes first, in order.

    \b
    Examples:
      ptr queues resume stripe
      ptr queues resume stripe --why 'maintenance is over'
    """
    _control(pic, False, why, by, broker, as_json)


def _control(pic: str, paused: bool, why: str, by: str | None, broker: str | None, as_json: bool) -> None:
    settings = settings_with(broker=broker)
    record = PicControlled(
        pic=pic, paused=paused, who=by or user_name(), why=why, decided_at_ms=int(time.time() * 1000)
    )
    try:
        known = known_pics(settings.access)
        if pic not in known:
            raise ControlError(f"there is no queue of a PIC {pic}; {suggestion(pic, known)}")
        publish(settings.access, codec_of(settings), record)
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json(record)
    elif paused:
        click.echo(f"{pic} is paused by {record.who}: nothing is called there until 'ptr queues resume {pic}'")
    else:
        click.echo(f"{pic} is called again, by {record.who}")


def _print(found: Iterable[PicQueue], calls: Mapping[str, Calls], controls: ControlBook, now_ms: int) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("PIC", "DEPTH", "OLDEST", "RETRIES", "IN FLIGHT", "BREAKER", "PAUSED"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("DEPTH", "IN FLIGHT") else "left")
    for each in found:
        told = calls.get(each.pic)
        table.add_row(
            each.pic,
            f"{each.queue.records:,}",
            _age(each.queue, now_ms),
            _retries(each, now_ms),
            "-" if told is None else str(told.in_flight),
            "-" if told is None else _breaker(told),
            _paused(controls.latest(each.pic), now_ms),
        )
    Console(markup=False, highlight=False).print(table)


def _retries(queue: PicQueue, now_ms: int) -> str:
    waits = [
        f"{duration_of(delay_s)}: {each.records:,} ({_age(each, now_ms)})"
        for delay_s, each in queue.retries.items()
        if each.records
    ]
    return ", ".join(waits) or "0"


def _breaker(calls: Calls) -> str:
    if len(calls.breakers) == 1:
        return next(iter(calls.breakers))
    return ", ".join(f"{state} {workers}" for state, workers in sorted(calls.breakers.items()))


def _paused(latest: PicControlled | None, now_ms: int) -> str:
    if latest is None or not latest.paused:
        return "no"
    return f"{duration_of((now_ms - latest.decided_at_ms) // 1000)}, by {latest.who}: {latest.why}"


def _age(each: Waiting, now_ms: int) -> str:
    if each.oldest_ms is None:
        return "?" if each.records else "-"
    return duration_of((now_ms - each.oldest_ms) // 1000)


def _data(queue: PicQueue, calls: Calls | None, controls: ControlBook, now_ms: int) -> dict[str, Any]:
    latest = controls.latest(queue.pic)
    paused = latest if latest is not None and latest.paused else None
    return {
        "pic": queue.pic,
        "depth": queue.queue.records,
        "oldest_age_s": _age_s(queue.queue, now_ms),
        "retries": [
            {"delay_s": delay_s, "depth": each.records, "oldest_age_s": _age_s(each, now_ms)}
            for delay_s, each in queue.retries.items()
        ],
        "in_flight": None if calls is None else calls.in_flight,
        "breaker": None if calls is None else dict(calls.breakers),
        "paused": None
        if paused is None
        else {"who": paused.who, "why": paused.why, "decided_at": iso(paused.decided_at_ms)},
    }


def _age_s(each: Waiting, now_ms: int) -> float | None:
    return None if each.oldest_ms is None else max(now_ms - each.oldest_ms, 0) / 1000


queues.add_command(parked)
queues.add_command(decide)
