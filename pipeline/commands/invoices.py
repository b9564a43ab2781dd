"""``ptr invoices``: what an invoicing program tells of its invoices."""

from __future__ import annotations

from typing import BinaryIO, Final

import click

from pipeline import topics
from pipeline.commands.posted_lines import Posted, post_lines
from pipeline.commands.shared import broker_option, json_option
from pipeline.stages.invoices import mistake_in
from schemas.identity import invoice_key
from schemas.records import InvoiceChanged, TaxSubtotal


class _StrictTax(TaxSubtotal, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Strict(InvoiceChanged, frozen=True, kw_only=True, forbid_unknown_fields=True):
    taxes: list[_StrictTax] = []  # type: ignore[assignment]


_CHANGES: Final[Posted[InvoiceChanged]] = Posted(
    "changes of invoices",
    topics.INVOICES,
    InvoiceChanged,
    _Strict,
    mistake_in,
    lambda change: invoice_key(change.tenant, change.invoice_id),
)


@click.group()
def invoices() -> None:
    """Tell of invoices and what became of them; `ptr report invoices` adds them up.

    \b
    Examples:
      ptr invoices post changes.jsonl
    """


@invoices.command("post")
@click.argument("file", type=click.File("rb"))
@broker_option
@json_option
def post(file: BinaryIO, broker: str | None, as_json: bool) -> None:
    """Post the changes of FILE, JSON Lines with the fields of InvoiceChanged (docs/schemas.md); - is standard input.

    Every line is checked before the first is posted: with one that is wrong nothing is, and the exit code is 1. Posting a
    file twice is safe: a change is known by its invoice_id and event_id, and the first one counts.

    \b
    One line; net, tax and gross are the invoice's, the amount is that of the change:
      {"tenant": "aurora", "invoice_id": "2026-17", "event_id": "1", "kind": "order", "status": "issued",
       "currency": "EUR", "net_minor": 10000, "tax_minor": 2000, "gross_minor": 12000, "amount_minor": 12000,
       "due_date": "2026-12-31", "debtor_id": "customer-17", "changed_at_ms": 1764000000000}

    \b
    Kinds: pre_order, pre_payment, order, pos_payment, invoice_service_first, invoice_service_recurring,
    invoice_service_terms. Statuses: issued, partly_paid, paid, refunded, credited, cancelled, written_off.

    \b
    Examples:
      ptr invoices post changes.jsonl
      billing-export --json | ptr invoices post - --json
    """
    post_lines(file, _CHANGES, broker, as_json=as_json)
