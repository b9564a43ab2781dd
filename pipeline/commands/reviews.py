"""``ptr reviews``: the payments that wait for a person, and a person's decisions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from connectors.broker.desk import Desk, DeskError
from connectors.broker.one import PostError
from connectors.exceptions.publish import ExceptionError
from connectors.registry import RegistryError
from connectors.sinks.database import DatabaseError, open_database, shown_url
from connectors.sinks.reviews import OpenReview, evidence_of, open_reviews
from connectors.sinks.story import iso, story
from pipeline import topics
from pipeline.commands.exceptions import remember, told
from pipeline.commands.shared import (
    broker_option,
    codec_of,
    json_option,
    print_json,
    reader_of,
    settings_with,
    shown_amount,
)
from pipeline.stages.exceptions import DAYS_MAX
from pipeline.stages.reviews import APPROVE, APPROVED, PAYEE, REJECT, SCREENING, mistake_in
from schemas.identity import TENANT_PATTERN, payment_key
from schemas.records import ExceptionGranted, ReviewAnswered, ReviewDecided

LIMIT = 100
#: The decision was posted, and no worker answered in time.
UNANSWERED = 3

_STAGES = click.Choice([SCREENING, PAYEE])
_database_option = click.option(
    "--database", metavar="URL", help="Audit database (default: PTR_DATABASE, or sqlite:///var/audit.db)."
)
_stage_option = click.option("--stage", type=_STAGES, help="Who referred it: screening or payee (fraud).")

_IGNORED = {
    "no_review": "no review of this payment is open at that stage",
    "already_decided": "somebody decided before; the first decision counts",
    "too_late": "its time was over; the tenant's configured answer applies",
}


@click.group()
def reviews() -> None:
    """Show payments that wait for a person, and decide them.

    A payment that screening or fraud referred has no outcome until somebody approves or rejects it, or until its tenant's
    time limit is over. The first decision counts.

    \b
    Examples:
      ptr reviews list --tenant aurora
      ptr reviews show aurora pay_000001
      ptr reviews approve aurora pay_000001 --by rita --reason 'another birth date'
      ptr reviews reject aurora pay_000001 --by rita --reason 'same person'
    """


@reviews.command("list")
@click.option("--tenant", help="Only this tenant's.")
@_stage_option
@click.option("--limit", type=click.IntRange(1, 100_000), default=LIMIT, show_default=True, help="The first so many.")
@_database_option
@json_option
def list_reviews(tenant: str | None, stage: str | None, limit: int, database: str | None, as_json: bool) -> None:
    """List the payments that wait, the one whose time is over first first; from the audit tables.

    \b
    Examples:
      ptr reviews list
      ptr reviews list --tenant aurora --stage screening --json
    """
    chosen = settings_with(database=database)
    now_ms = _now_ms()
    try:
        opened = open_database(chosen.database)
        try:
            found = open_reviews(opened, now_ms=now_ms, tenant=tenant or "", stage=stage or "", limit=limit + 1)
        finally:
            opened.close()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None
    more, found = len(found) > limit, found[:limit]
    if as_json:
        print_json([asdict(review) for review in found])
        return
    if not found:
        click.echo("no payment waits for a review")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("due", "left", "then", "tenant", "payment", "stage", "amount", "reason", "detail"):
        table.add_column(heading, justify="right" if heading in ("left", "amount") else "left", overflow="fold")
    for review in found:
        table.add_row(
            iso(review.due_at_ms),
            _left(review.due_at_ms - now_ms),
            review.at_expiry,
            review.tenant,
            review.payment_id,
            review.stage,
            shown_amount(review.amount_minor, review.currency),
            review.reason,
            review.detail,
        )
    Console(markup=False, highlight=False).print(table)
    if more:
        click.echo(f"and more; --limit {limit} shows so many", err=True)


@reviews.command("show")
@click.argument("tenant")
@click.argument("payment")
@_database_option
@json_option
def show_review(tenant: str, payment: str, database: str | None, as_json: bool) -> None:
    """Show what is known of a payment's reviews: why it was referred, both names, who decided. Holds personal data.

    \b
    Examples:
      ptr reviews show aurora pay_000001
      ptr reviews show aurora pay_000001 --json
    """
    chosen = settings_with(database=database)
    try:
        opened = open_database(chosen.database)
        try:
            reader = reader_of(opened, chosen)
            waiting = open_reviews(opened, now_ms=_now_ms(), tenant=tenant, payment_id=payment)
            events = [event for event in story(opened, tenant, payment, reader).events if event.stage == "reviews"]
            evidence = evidence_of(opened, tenant, payment, reader)
        finally:
            opened.close()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None
    if not events:
        raise click.ClickException(
            f"{shown_url(chosen.database)} has no review of payment {payment} of {tenant}: `ptr show` tells its story"
        )
    if as_json:
        print_json(
            {
                "tenant": tenant,
                "payment_id": payment,
                "open": [asdict(review) for review in waiting],
                "evidence": evidence,
                "events": [event.payload for event in events],
            }
        )
        return
    console = Console(markup=False, highlight=False)
    for review in waiting:
        console.print(_summary(review))
    if not waiting:
        console.print(f"{tenant} {payment}: no review is open")
    if evidence is not None:
        console.print(_evidence(evidence))
        if not evidence.get("party_name"):
            console.print("the party's name is sealed (PTR_PRIVACY_MASTER_KEY_FILE opens it), or was erased")
    for event in events:
        console.print(f"{iso(event.recorded_at_ms)}  {event.outcome}  {event.reason}  {event.detail}")


def _decision_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        [
            click.argument("tenant"),
            click.argument("payment"),
            click.option("--by", required=True, help="Who decides: a user or an address."),
            click.option("--reason", required=True, help="Why, in a sentence without personal data."),
            _stage_option,
            broker_option,
            _database_option,
            json_option,
        ]
    ):
        command = option(command)
    return command


@reviews.command("approve")
@_decision_options
@click.option(
    "--remember",
    type=click.IntRange(1, DAYS_MAX),
    metavar="DAYS",
    help="Also except the party from the entry that it is like, for so many days (`ptr exceptions`).",
)
def approve(remember: int | None, **given: Any) -> None:
    """Let a payment that waits go on, from where it was stopped.

    Ends with code 1 when the decision was ignored, 3 when it was posted and no worker answered in time. Without --stage
    the audit tables say which review is open.

    \b
    Examples:
      ptr reviews approve aurora pay_000001 --by rita --reason 'another birth date'
      ptr reviews approve aurora pay_000001 --by rita --reason 'passport seen' --remember 365
      ptr reviews approve aurora pay_000001 --stage payee --by rita --reason 'called the customer'
    """
    _decide(APPROVE, **given, remember_days=remember)


@reviews.command("reject")
@_decision_options
def reject(**given: Any) -> None:
    """End a payment that waits: blocked where screening referred it, declined where fraud did.

    Ends with code 1 when the decision was ignored, 3 when it was posted and no worker answered in time. Without --stage
    the audit tables say which review is open.

    \b
    Examples:
      ptr reviews reject aurora pay_000001 --by rita --reason 'same birth date and address'
    """
    _decide(REJECT, **given)


def _decide(
    decision: str,
    tenant: str,
    payment: str,
    by: str,
    reason: str,
    stage: str | None,
    broker: str | None,
    database: str | None,
    as_json: bool,
    remember_days: int | None = None,
) -> None:
    settings = settings_with(broker=broker, database=database)
    decided = ReviewDecided(
        tenant=tenant,
        payment_id=payment,
        stage=stage or _stage_of(settings.database, tenant, payment),
        decision=decision,
        by=by,
        reason=reason,
        decided_at_ms=_now_ms(),
    )
    if mistake := mistake_in(decided):
        raise click.ClickException(f"{mistake[1]} ({mistake[0]})")
    if remember_days and decided.stage != SCREENING:
        raise click.ClickException("--remember is for what screening referred: fraud has no list to be excepted from")
    codec = codec_of(settings)
    try:
        with Desk(settings.access, codec, topics.REVIEWS_ANSWERED.name, ReviewAnswered) as desk:
            ours = (tenant, payment, decided.stage, decision, by)
            answer = desk.hand_in(
                topics.REVIEWS_DECIDED.name,
                codec.encode(decided),
                payment_key(tenant, payment),
                lambda told: (told.tenant, told.payment_id, told.stage, told.decision, told.by) == ours,
            )
        excepted = None
        if remember_days and (answer is None or not answer.ignored):
            # After the decision: a decision that was ignored teaches nothing.
            excepted = remember(settings, codec, tenant, payment, by=by, reason=reason, days=remember_days)
    except (DeskError, PostError, ExceptionError, DatabaseError, RegistryError) as error:
        raise click.ClickException(str(error)) from None
    _tell(decided, answer, excepted, as_json)


def _stage_of(database: str, tenant: str, payment: str) -> str:
    if not TENANT_PATTERN.match(tenant):
        raise click.ClickException("TENANT is not a tenant's id")
    try:
        opened = open_database(database)
        try:
            found = open_reviews(opened, now_ms=_now_ms(), tenant=tenant, payment_id=payment)
        finally:
            opened.close()
    except DatabaseError as error:
        raise click.ClickException(f"{error}; with --stage the audit tables are not needed") from None
    if len(found) != 1:
        raise click.ClickException(
            f"{shown_url(database)} shows {len(found)} open reviews of payment {payment} of {tenant}: name the --stage"
        )
    return found[0].stage


def _tell(
    decided: ReviewDecided, answer: ReviewAnswered | None, excepted: ExceptionGranted | None, as_json: bool
) -> None:
    what = f"{decided.tenant} {decided.payment_id} ({decided.stage})"
    if as_json:
        print_json({"posted": decided, "answer": answer, "exception": excepted})
    elif answer is None:
        click.echo(f"{what}: the decision was posted; no worker has answered yet. It counts when one runs in time.")
    elif answer.ignored:
        click.echo(f"{what}: ignored: {_IGNORED.get(answer.ignored, answer.ignored)}")
    else:
        click.echo(f"{what}: {'approved, it goes on' if answer.result == APPROVED else 'rejected, it ends'}")
    if excepted is not None and not as_json:
        click.echo(told(excepted))
    if answer is None:
        sys.exit(UNANSWERED)
    if answer.ignored:
        sys.exit(1)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _left(left_ms: int) -> str:
    if left_ms <= 0:
        return "over"
    minutes = left_ms // 60_000
    return f"{minutes // 60}h {minutes % 60:02}m"


def _summary(review: OpenReview) -> str:
    return (
        f"{review.tenant} {review.payment_id}  {shown_amount(review.amount_minor, review.currency)}\n"
        f"referred by {review.stage}: {review.reason} ({review.detail})\n"
        f"waits since {iso(review.opened_at_ms)}, until {iso(review.due_at_ms)}; then {review.at_expiry}"
    )


def _evidence(evidence: dict[str, Any]) -> str:
    support = ", ".join(evidence.get("support") or []) or "nothing beside the name"
    return (
        f"{evidence['party']} {evidence.get('party_name', '')!r} ~ {evidence['list']} {evidence['entry_id']}"
        f" {evidence.get('listed_name', '')!r}\n"
        f"score {evidence['score']:.4f} ({evidence['algorithm']}): {support}"
    )
