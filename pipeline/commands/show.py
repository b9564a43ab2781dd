"""``ptr show``: tell the story of a payment."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from connectors.sinks.story import Story
from pipeline.commands.shared import archive_option, shown_amount
from pipeline.commands.stories import database_option, found_story, not_told


@click.command("show")
@click.argument("tenant")
@click.argument("payment")
@database_option
@archive_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every event's whole record.")
def show(tenant: str, payment: str, database: str | None, archive_folder: Path | None, as_json: bool) -> None:
    """Tell what became of PAYMENT of TENANT, event by event, from the audit tables.

    Of events that `ptr audit archive` moved to files it tells with --archive; without it, in which files they are. Ends with
    code 1 when there is no such payment.

    \b
    Examples:
      ptr show aurora pay_000001
      ptr show aurora pay_000001 --json
      ptr show aurora pay_000001 --archive /mnt/archive
    """
    found = found_story(tenant, payment, database, archive_folder)
    if as_json:
        click.echo(json.dumps(_data(found), ensure_ascii=False))
        return
    console = Console(markup=False, highlight=False)
    console.print("\n".join([_header(found), *_hidden(found)]), soft_wrap=True)
    console.print(_table(found))


def _data(found: Story) -> dict[str, object]:
    return {
        "tenant": found.tenant,
        "payment_id": found.payment_id,
        "payment": found.payment._asdict() if found.payment else None,
        "events": [asdict(event) for event in found.events],
        "archived": found.archived,
    }


def _header(found: Story) -> str:
    lines = [f"{found.tenant} {found.payment_id}"]
    if found.archived:
        lines.append(not_told(found))
    payment = found.payment
    if payment is None:
        return "\n".join(lines)
    why = f": {payment.reason}" if payment.reason else ""
    lines[0] += f"  {payment.status if payment.outcome is None else payment.outcome}{why}"
    if payment.outcome is None and (payment.stage, payment.status) == ("reviews", "referred"):
        lines[0] += "  (waits for a person: `ptr reviews show` says until when)"
    elif payment.outcome is None:
        lines[0] += f"  (no outcome yet; last heard of in {payment.stage})"
    if payment.amount_minor is not None:
        lines.append(f"amount {shown_amount(payment.amount_minor, payment.currency or '')}")
        if payment.fee_minor is not None:
            lines[-1] += f"  fee {shown_amount(payment.fee_minor, payment.currency or '')}"
        if payment.score is not None:
            lines[-1] += f"  score {payment.score:.2f}"
    if payment.pic:
        lines.append(
            f"pic {payment.pic} {payment.pic_reference or ''}  attempts {payment.attempts or 0}".replace("  ", " ")
        )
    told = [event for event in found.events if event.payload is not None]
    updates = [event.payload for event in told if event.stage == "updated" and event.payload]
    if updates:
        last = updates[-1]
        amounts = ", ".join(
            f"{word} {shown_amount(last[f'{word}_minor'], payment.currency or '')}"
            for word in ("authorized", "captured", "refunded")
        )
        lines.append(f"stands at {last['status']}: {amounts}")
    if told and told[-1].stage == "parked":
        lines.append(f"needs a person: {told[-1].reason} (`ptr queues parked` lists what does)")
    if payment.received_at_ms is not None and payment.completed_at_ms is not None:
        lines.append(f"took {payment.completed_at_ms - payment.received_at_ms:,} ms from Kafka to its outcome")
    return "\n".join(lines)


def _hidden(found: Story) -> list[str]:
    """Whose data is gone, and whose is closed for want of a master key."""
    erased = sorted({who for event in found.events for who in event.erased})
    sealed = sorted({who for event in found.events for who in event.sealed})
    lines = [f"erased: what was said of {', '.join(erased)}"] if erased else []
    if sealed:
        lines.append(f"sealed: what is said of {', '.join(sealed)} (PTR_PRIVACY_MASTER_KEY_FILE opens it)")
    return lines


def _table(found: Story) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("+ms", "right"),
        ("stage", "left"),
        ("outcome", "left"),
        ("reason", "left"),
        ("version", "right"),
        ("detail", "left"),
        ("topic/partition/offset", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for event in found.events:
        table.add_row(
            "" if event.since_previous_ms is None else f"{event.since_previous_ms:,}",
            event.stage,
            event.outcome,
            event.reason,
            "" if event.rule_version is None else str(event.rule_version),
            event.detail,
            f"{event.topic}/{event.partition}/{event.offset}",
        )
    return table
