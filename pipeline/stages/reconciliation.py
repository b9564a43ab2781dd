"""Reconciliation: does a PIC's statement say of our attempts what we say of them?  Pure: no files, no database, no clock.

Amounts are whole minor units and compared exactly. A statement tells what moved money; what never did (an authorization, a
void) is in none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from schemas.card_numbers import holds_card_number
from schemas.identity import attempt_id, parse_attempt_id
from schemas.records import PaymentNotified

#: What moves money: to pay (or capture), and to give back.
Movement: TypeAlias = Literal["payment", "refund"]
MOVEMENTS: Final[dict[str, Movement]] = {"payment": "payment", "capture": "payment", "refund": "refund"}

#: What a line says of an attempt. ``correction`` changes the amount of its payment, ``returned`` gives it back.
Says: TypeAlias = Literal["paid", "declined", "pending", "returned", "correction"]

#: Outcomes of attempts here that wait for news.
OPEN: Final = frozenset({"queued", "pending", "requires_action", "unknowable"})

#: By what a line names an attempt, the surest first.
KEYS: Final = ("attempt_id", "end_to_end_id", "pic_reference")

_ID: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9][A-Za-z0-9_.:|/-]{2,199}\Z")
_ACCOUNT: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """A time that is known to a day or a second: from ``from_ms`` to before ``until_ms``."""

    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one line of a statement says of one attempt."""

    #: Line of a text file, or entry of an XML file; both from 1.
    row: int
    movement: Movement
    says: Says
    #: Never negative, but of a ``correction``, which is what is to be added.
    amount_minor: int
    currency: str
    #: Names of the attempt, as kind (of :data:`KEYS`) and value; the surest first, one kind may come twice.
    keys: tuple[tuple[str, str], ...]
    at: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt as we know it. It moved, if it did, between ``first_ms`` and ``last_ms``."""

    tenant: str
    payment_id: str
    operation_id: str
    attempt: int
    movement: Movement
    #: ``paid``, ``declined``, ``unsent``, or one of :data:`OPEN`.
    outcome: str
    amount_minor: int
    currency: str
    pic_reference: str
    #: When its intent was recorded, and what was last said of it. Epoch milliseconds.
    first_ms: int
    last_ms: int

    @property
    def name(self) -> str:
        """Its attempt id."""
        return attempt_id(self.tenant, self.payment_id, self.attempt, self.operation_id)


@dataclass(frozen=True, slots=True)
class Matched:
    """Both say the same."""

    attempt: Attempt
    line: Line


@dataclass(frozen=True, slots=True)
class AmountDiffers:
    """Both say that it was done, with another amount or currency. ``amount_minor`` is theirs, corrections included."""

    attempt: Attempt
    line: Line
    amount_minor: int


@dataclass(frozen=True, slots=True)
class StatusDiffers:
    """They say that it was paid and we that it was not, or the other way round, or that it came back."""

    attempt: Attempt
    line: Line


@dataclass(frozen=True, slots=True)
class DuplicateThere:
    """One more line that says of an attempt that it was paid."""

    attempt: Attempt
    line: Line


@dataclass(frozen=True, slots=True)
class MissingThere:
    """We say paid, within the statement's time, and the statement says nothing."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AtTheEdge:
    """The same, but it began before the statement or ended after it: it may be in the one before or after."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class MissingHere:
    """No attempt here is what the line names."""

    line: Line


Finding: TypeAlias = Matched | AmountDiffers | StatusDiffers | DuplicateThere | MissingThere | AtTheEdge | MissingHere
#: Those that somebody has to look at.
DIFFERENCES: Final = (AmountDiffers, StatusDiffers, DuplicateThere, MissingThere, MissingHere)


def judge(attempt: Attempt, lines: Sequence[Line], period: Span) -> list[Finding]:
    """What an attempt and the lines about it, in the order of the statement, make together; ``period`` is the statement's.

    Each line that says ``paid`` is in one finding. Nothing is found of an attempt that is not paid here and not there.
    """
    if not lines:
        return _unmentioned(attempt, period)
    paid = [line for line in lines if line.says == "paid"]
    first, *others = paid or [line for line in lines if line.says != "correction"] or lines
    amount_minor = theirs(first, lines)
    duplicates: list[Finding] = [DuplicateThere(attempt, line) for line in others if line.says == "paid"]
    back = next((line for line in lines if line.says == "returned"), None)
    if back is not None:
        return [StatusDiffers(attempt, back), *duplicates]
    if not _agree(attempt.outcome, first.says):
        return [StatusDiffers(attempt, first), *duplicates]
    if first.says == "paid" and (amount_minor, first.currency) != (attempt.amount_minor, attempt.currency):
        return [AmountDiffers(attempt, first, amount_minor), *duplicates]
    return [Matched(attempt, first), *duplicates]


def theirs(first: Line, lines: Sequence[Line]) -> int:
    """What ``first`` comes to with the corrections among ``lines``; one in another currency corrects nothing."""
    corrected = [line.amount_minor for line in lines if line.says == "correction" and line.currency == first.currency]
    return first.amount_minor + sum(corrected)


def news(found: Sequence[Finding], pic: str) -> PaymentNotified | None:
    """What the findings of one attempt tell those who still wait for its answer here; None where a person must look first.

    Only the plain case: one line, an explicit word, the same amount and currency. Told again it is the same event.
    """
    match found:
        case [StatusDiffers(attempt, line)] if attempt.outcome in OPEN and line.says in ("paid", "declined"):
            if (line.amount_minor, line.currency) != (attempt.amount_minor, attempt.currency):
                return None
            reference = next((value for kind, value in line.keys if kind != "attempt_id"), attempt.pic_reference)
            return PaymentNotified(
                event_id=f"statement/{attempt.name}/{line.says}",
                source="statement",
                pic=pic,
                tenant=attempt.tenant,
                payment_id=attempt.payment_id,
                operation_id=attempt.operation_id,
                attempt=attempt.attempt,
                outcome=line.says,
                reason="" if line.says == "paid" else "other",
                pic_reference=reference,
                occurred_at_ms=line.at.from_ms if line.at is not None else attempt.last_ms,
            )
    return None


def is_tenants(found: Finding, tenant: str) -> bool:
    """Whether a finding is about ``tenant``, or may be: a line that only a PIC's reference names may be anybody's."""
    if not isinstance(found, MissingHere):
        return found.attempt.tenant == tenant
    for kind, value in found.line.keys:
        if kind == "attempt_id":
            try:
                return parse_attempt_id(value).tenant == tenant
            except ValueError:
                continue
    return True


def shown(value: str) -> str:
    """A name of an attempt as it may be shown; what is not plainly an id (a text, an account, a card number) is withheld."""
    if _ID.match(value) and not _ACCOUNT.match(value) and not holds_card_number(value):
        return value
    return "(withheld)"


def _unmentioned(attempt: Attempt, period: Span) -> list[Finding]:
    if attempt.outcome != "paid" or attempt.last_ms < period.from_ms or attempt.first_ms >= period.until_ms:
        return []
    if period.from_ms <= attempt.first_ms and attempt.last_ms < period.until_ms:
        return [MissingThere(attempt)]
    return [AtTheEdge(attempt)]


def _agree(here: str, there: Says) -> bool:
    if there == "pending":
        return here in OPEN
    return here == there
