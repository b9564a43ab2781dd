"""``ptr queues parked`` and ``ptr queues decide``: what only a person can find out."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from connectors.broker.follow import TopicReadError
from connectors.broker.one import PostError
from connectors.queues.parked import OUTCOMES, Case, DecisionError, decided, find_case, publish, read_cases
from connectors.registry import RegistryError
from connectors.sinks.story import iso
from pipeline.commands.shared import (
    broker_option,
    codec_of,
    duration_of,
    json_option,
    print_json,
    settings_with,
    user_name,
)

_TROUBLE = (TopicReadError, PostError, DecisionError, RegistryError)
_WORDS = {word: outcome for outcome, word in OUTCOMES.items()}


@click.command()
@click.option("--tenant", default="", help="Only this tenant's.")
@click.option("--all", "everything", is_flag=True, help="Also those that were answered since.")
@broker_option
@json_option
def parked(tenant: str, everything: bool, broker: str | None, as_json: bool) -> None:
    """List payments and operations that nobody asks about any more: they wait for a person's word, the oldest first.

    REASON is unknowable (perhaps done, and the PIC can never tell), unknown_for_long (asked about again and again) or
    contradiction (the PIC takes back its word). AMOUNT is in the currency's minor unit. --json tells more of each.

    \b
    Examples:
      ptr queues parked
      ptr queues parked --tenant aurora --all --json
    """
    settings = settings_with(broker=broker)
    try:
        cases = read_cases(settings.access, codec_of(settings))
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    found = [case for case in cases if tenant in ("", case.parked.tenant) and (everything or case.answer is None)]
    if as_json:
        print_json([_data(case) for case in found])
        return
    if not found:
        click.echo("Nothing waits for a person.", err=True)
        return
    table = Table(box=None, pad_edge=False)
    headings = ("AGE", "TENANT", "PAYMENT", "OPERATION", "AMOUNT", "PIC", "REASON", *(["ANSWER"] if everything else []))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    now_ms = int(time.time() * 1000)
    for case in found:
        each = case.parked
        row = (
            duration_of((now_ms - case.since_ms) // 1000),
            each.tenant,
            each.payment_id,
            f"{each.kind} {each.operation_id}" if each.operation_id else "-",
            f"{each.amount_minor} {each.currency}",
            each.pic,
            each.reason,
        )
        table.add_row(*row, *([_answer(case)] if everything else []))
    Console(markup=False, highlight=False).print(table)


@click.command()
@click.argument("tenant")
@click.argument("payment")
@click.argument("outcome", type=click.Choice(tuple(OUTCOMES)))
@click.option("--operation", default="", metavar="ID", help="The capture, void or refund that it is about.")
@click.option("--reference", default="", metavar="R", help="What the PIC calls it, where that is known.")
@click.option("--why", required=True, metavar="TEXT", help="How you know, in a sentence.")
@click.option("--by", metavar="WHO", help="Who says so (default: the name of this user here).")
@broker_option
@json_option
def decide(**given: Any) -> None:
    """Say what became of PAYMENT, or of an operation on it, that is parked.

    Find out first, at the PIC: succeeded and failed end it, and unsent (it was surely never done) has it sent again, to
    the next route where there is one. The word is kept with who and why.

    \b
    Examples:
      ptr queues decide aurora pay_000001 succeeded --reference auth-81 --why 'seen in the portal'
      ptr queues decide aurora pay_000001 failed --operation refund-1 --why 'their support says it was refused'
    """
    settings = settings_with(broker=given["broker"])
    codec = codec_of(settings)
    try:
        case = find_case(read_cases(settings.access, codec), given["tenant"], given["payment"], given["operation"])
        news = decided(
            case,
            given["outcome"],
            who=given["by"] or user_name(),
            why=given["why"],
            reference=given["reference"],
            at_ms=int(time.time() * 1000),
        )
        publish(settings.access, codec, news)
    except _TROUBLE as error:
        raise click.ClickException(str(error)) from None
    if given["as_json"]:
        print_json(news)
        return
    what = f"{case.parked.kind} {news.operation_id} of {news.payment_id}" if news.operation_id else news.payment_id
    click.echo(f"{news.tenant}: {what} {given['outcome']}, says {news.who}")


def _answer(case: Case) -> str:
    if case.answer is None:
        return "-"
    return f"{_WORDS.get(case.answer.outcome, case.answer.outcome)}, says {case.answer.who or case.answer.source}"


def _data(case: Case) -> dict[str, Any]:
    each, answer = case.parked, case.answer
    return {
        "since": iso(case.since_ms),
        "tenant": each.tenant,
        "payment": each.payment_id,
        "operation": each.operation_id,
        "kind": each.kind,
        "attempt": each.attempt,
        "amount_minor": each.amount_minor,
        "currency": each.currency,
        "pic": each.pic,
        "pic_reference": each.pic_reference,
        "reason": each.reason,
        "detail": each.detail,
        "answer": None
        if answer is None
        else {
            "outcome": _WORDS.get(answer.outcome, answer.outcome),
            "source": answer.source,
            "who": answer.who,
            "why": answer.why,
        },
    }
