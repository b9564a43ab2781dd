"""``ptr operations``: capture, void or refund a payment."""

from __future__ import annotations

import sys
import time
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from connectors.broker.desk import Desk, DeskError
from connectors.broker.one import PostError
from connectors.registry import RegistryError
from pipeline import topics
from pipeline.commands.shared import broker_option, codec_of, json_option, print_json, settings_with, shown_amount
from pipeline.stages.life import has_valid_id
from schemas.identity import ID_PATTERN, TENANT_PATTERN, payment_key
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.money import UnknownCurrencyError, minor_units
from schemas.records import OperationRequested, PaymentUpdated

#: It was posted, and has not ended in time: it waits, or its PIC's answer is not known yet.
UNANSWERED = 3


@click.group()
def operations() -> None:
    """Capture, void or refund a payment.

    What was authorized is captured, in one part or several, or voided; what was captured or paid is refunded. Never more is
    captured than authorized, nor refunded than captured. An id makes it safe to repeat: the same id is the same operation.

    \b
    Examples:
      ptr operations capture aurora pay_000001 --id cap-1 --currency EUR
      ptr operations capture aurora pay_000001 --id cap-2 --amount 12.50 --currency EUR
      ptr operations void aurora pay_000002 --id void-1 --currency EUR
      ptr operations refund aurora pay_000001 --id ref-1 --amount 5 --currency EUR
    """


def _options(command: Any) -> Any:
    for option in (
        click.argument("tenant"),
        click.argument("payment"),
        click.option("--id", "operation_id", required=True, help="Your id of it, unique within the payment."),
        click.option("--currency", required=True, metavar="CODE", help="That of the payment, ISO 4217."),
        click.option("--amount", metavar="AMOUNT", help="As 12.50; without it all that is left."),
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(0, 3600),
            default=15.0,
            show_default=True,
            help="Wait so many seconds for what becomes of it.",
        ),
        broker_option,
        json_option,
    )[::-1]:
        command = option(command)
    return command


@operations.command()
@_options
def capture(**given: Any) -> None:
    """Take what was authorized, or a part of it.

    Ends with code 1 when it was declined or refused, 3 when it has not ended in time.

    \b
    Examples:
      ptr operations capture aurora pay_000001 --id cap-1 --amount 12.50 --currency EUR
    """
    _operate("capture", **given)


@operations.command()
@_options
def void(**given: Any) -> None:
    """Let go of what was authorized and is not captured; always the whole of it.

    Ends with code 1 when it was declined or refused, 3 when it has not ended in time.

    \b
    Examples:
      ptr operations void aurora pay_000001 --id void-1 --currency EUR
    """
    _operate("void", **given)


@operations.command()
@_options
def refund(**given: Any) -> None:
    """Give back what was captured or paid, or a part of it.

    Ends with code 1 when it was declined or refused, 3 when it has not ended in time.

    \b
    Examples:
      ptr operations refund aurora pay_000001 --id ref-1 --amount 5 --currency EUR
    """
    _operate("refund", **given)


def _operate(
    kind: str,
    tenant: str,
    payment: str,
    operation_id: str,
    currency: str,
    amount: str | None,
    wait_s: float,
    broker: str | None,
    as_json: bool,
) -> None:
    if not TENANT_PATTERN.match(tenant) or not ID_PATTERN.match(payment):
        raise click.UsageError("TENANT or PAYMENT is not an id: printable, no spaces, no |, at most 80 characters")
    operation = OperationRequested(
        tenant=tenant,
        payment_id=payment,
        operation_id=operation_id,
        kind=kind,
        amount_minor=0 if amount is None else _minor(amount, currency),
        currency=currency,
        requested_at_ms=int(time.time() * 1000),
    )
    if not has_valid_id(operation):
        raise click.UsageError("--id is not an id: printable, no spaces, no |, at most 80 characters, no card number")
    settings = settings_with(broker=broker)
    try:
        codec = codec_of(settings)
        with Desk(settings.access, codec, topics.UPDATED.name, PaymentUpdated) as desk:
            answer = desk.hand_in(
                topics.OPERATIONS.name,
                codec.encode(operation),
                payment_key(tenant, payment),
                lambda told: (told.tenant, told.payment_id, told.operation_id) == (tenant, payment, operation_id),
                wait_s,
            )
    except (DeskError, PostError, RegistryError) as error:
        raise click.ClickException(str(error)) from None
    _tell(operation, answer, as_json)


def _minor(amount: str, currency: str) -> int:
    try:
        value = Decimal(amount).scaleb(minor_units(currency))
    except UnknownCurrencyError:
        raise click.UsageError(f"--currency {currency!r} is not an active ISO 4217 code, in capitals") from None
    except InvalidOperation:
        raise click.UsageError(f"--amount {amount!r} is not a number: write 12.50") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise click.UsageError(f"--amount {amount} has more decimals than {currency} has")
    if not 0 < value <= AMOUNT_MINOR_MAX:
        raise click.UsageError(f"--amount {amount} is not above zero, or too large")
    return int(value)


def _tell(operation: OperationRequested, answer: PaymentUpdated | None, as_json: bool) -> None:
    if as_json:
        print_json({"posted": operation, "answer": answer})
    elif answer is None:
        click.echo(
            f"{operation.kind} {operation.operation_id} of {operation.tenant} {operation.payment_id}: posted, and not ended"
            " yet. It waits for the payment's outcome or its turn, or the PIC's answer is not known: `ptr show` tells."
        )
    else:
        why = f": {answer.reason} {answer.detail}".rstrip() if answer.reason else ""
        what = f"{answer.kind} {answer.operation_id} of {shown_amount(answer.amount_minor, answer.currency)}"
        click.echo(f"{what}: {answer.outcome}{why}")
        amounts = ", ".join(
            f"{word} {shown_amount(minor, answer.currency)}"
            for word, minor in (
                ("authorized", answer.authorized_minor),
                ("captured", answer.captured_minor),
                ("refunded", answer.refunded_minor),
            )
        )
        click.echo(f"{answer.tenant} {answer.payment_id} is {answer.status}: {amounts}")
    if answer is None:
        sys.exit(UNANSWERED)
    if answer.outcome != "succeeded":
        sys.exit(1)
