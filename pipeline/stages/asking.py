"""What is said to an ask, and what follows from it: one table for payments and for operations on them. Pure.

    answer                       with another PIC to go to    otherwise
    ---------------------------  ---------------------------  -------------------------------------------------
    paid                         done                         done
    declined, retry never        failed                       failed
    declined, retry elsewhere    next attempt, there          failed
    declined, retry here         next attempt, there          next attempt here, later; after three: failed
    unsent                       next attempt, there          the same attempt, later, without asking about it
    unsent or pending, retry     (a crash, not the PIC)       the same attempt, soon
    here
    pending, requires_action     asked about, later           asked about, later; in the end parked
    unknowable                   parked                       parked

Only what surely was not done leads to another attempt: an explicit no, or a call that never left. Whatever else an answer
says, it is pending.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, PIC_PATTERN
from schemas.limits import TEXT_CHARS_MAX
from schemas.reasons import Outcome
from schemas.records import PaymentAnswered, PaymentNotified, PaymentParked, PaymentQueued, PaymentUpdated

REQUIRES_ACTION: Final = "requires_action"
UNSENT: Final = "unsent"
UNKNOWABLE: Final = "unknowable"

#: Texts of news, addresses among them.
URL_CHARS_MAX: Final = 2048
#: Attempts at one PIC that says "not now", each an attempt of its own.
ATTEMPTS_HERE_MAX: Final = 3
#: After so many asks a person is told, and nobody asks any more: a week, with the delays of ``pipeline.topics``.
ASKS_MAX: Final = 60
#: What was never sent is tried again at least this often: it costs no call while the PIC is away.
UNSENT_DELAY_S_MAX: Final = 300


class Told(msgspec.Struct, array_like=True, frozen=True):
    """What was said to one ask. In rows: an answer that came before its ask is known there."""

    attempt: int
    ask: int
    outcome: str
    reason: str
    pic_reference: str
    answered_at_ms: int
    operation_id: str = ""
    retry: str = "never"
    retry_after_ms: int = 0
    action_url: str = ""


def told_by(answer: PaymentAnswered) -> Told:
    """What a PIC answered."""
    return Told(
        answer.attempt,
        answer.ask,
        answer.outcome,
        answer.reason,
        answer.pic_reference,
        answer.answered_at_ms,
        answer.operation_id,
        answer.retry,
        answer.retry_after_ms,
        answer.action_url,
    )


def told_of(news: PaymentNotified, ask: int) -> Told:
    """News as the answer to the ask that is waited for."""
    return Told(
        news.attempt,
        ask,
        news.outcome,
        news.reason,
        news.pic_reference,
        news.occurred_at_ms,
        news.operation_id,
        news.retry,
        0,
        news.action_url,
    )


#: Who may bring news, and the words that each may use.
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "pic": (Outcome.PAID, Outcome.DECLINED, REQUIRES_ACTION),
    "statement": (Outcome.PAID, Outcome.DECLINED),
    "person": (Outcome.PAID, Outcome.DECLINED, UNSENT),
}


def news_mistake(news: PaymentNotified) -> str:
    """The field for which news cannot be used; empty when they can. Tenant and payment are the shell's to check."""
    checks = {
        "source": news.source in SOURCES,
        "outcome": news.outcome in SOURCES.get(news.source, ()),
        "who, only of a person": bool(news.who) == (news.source == "person"),
        "pic": bool(PIC_PATTERN.match(news.pic)),
        "operation_id": not news.operation_id or bool(ID_PATTERN.match(news.operation_id)),
        "attempt": news.attempt > 0,
        "retry": news.retry in ("never", "here", "elsewhere"),
        "event_id": 0 < len(news.event_id) <= TEXT_CHARS_MAX and news.event_id.isprintable(),
        "occurred_at_ms": 0 < news.occurred_at_ms < 2**53,
    }
    texts = {name: getattr(news, name) for name in ("who", "why", "reason", "pic_reference", "action_url")}
    checks |= {name: len(text) <= URL_CHARS_MAX and (not text or text.isprintable()) for name, text in texts.items()}
    checks |= {
        name: checks[name] and not holds_card_number(text) for name, text in texts.items() if name != "action_url"
    }
    return next((field for field, fits in checks.items() if not fits), "")


def _no_change(carried: bytes, carried_as: str, pic: str) -> bytes:
    return carried


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What decisions know of the world around them."""

    #: PICs that have a plugin.
    pics: Collection[str] = ()
    #: Those that take several captures of one authorization.
    several_captures: Collection[str] = ()
    #: Delays of the retry topics, in order.
    delays_s: Sequence[int] = (1,)
    #: Which schema carried bytes are of.
    carried_as: str = ""
    #: Carried bytes, and the schema that they are of: the same of today's schema, to be carried by that PIC.
    with_pic: Callable[[bytes, str, str], bytes] = field(default=_no_change)


@dataclass(frozen=True, slots=True)
class Again:
    """Ask (again): by the retry topic number ``tier``, or at once through a queue when that is None."""

    attempt: int
    ask: int
    tier: int | None
    #: It was never called for sure: no look-up first.
    unsent: bool = False
    #: At the next PIC.
    elsewhere: bool = False


Verdict = Literal["done", "failed", "parked"]


def follow(told: Told, *, others: bool, delays_s: Sequence[int]) -> Again | Verdict:
    """What follows from an answer to the ask that was waited for; ``others``: there is another PIC to go to."""
    attempt, ask = told.attempt, told.ask
    match told.outcome:
        case Outcome.PAID:
            return "done"
        case Outcome.DECLINED:
            if told.retry not in ("here", "elsewhere"):
                return "failed"
            if others:
                return Again(attempt + 1, 0, None, elsewhere=True)
            if told.retry == "here" and attempt < ATTEMPTS_HERE_MAX:
                return Again(attempt + 1, 0, _tier(attempt, told, delays_s), unsent=True)
            return "failed"
        case "unknowable":
            return "parked"
    if ask + 1 >= ASKS_MAX:
        return "parked"
    if told.outcome == UNSENT:
        if others and told.retry != "here":
            return Again(attempt + 1, 0, None, elsewhere=True)
        if told.retry == "here":
            return Again(attempt, ask + 1, 0, unsent=True)
        often = [delay_s for delay_s in delays_s if delay_s <= UNSENT_DELAY_S_MAX] or delays_s[:1]
        return Again(attempt, ask + 1, max(min(ask, len(often) - 1), _least(told, delays_s)), unsent=True)
    return Again(attempt, ask + 1, 0 if told.retry == "here" else _tier(ask, told, delays_s))


def _tier(number: int, told: Told, delays_s: Sequence[int]) -> int:
    return max(min(number, len(delays_s) - 1), _least(told, delays_s))


def _least(told: Told, delays_s: Sequence[int]) -> int:
    """The first delay that leaves the PIC alone for as long as it wants, or the longest."""
    for tier, delay_s in enumerate(delays_s):
        if delay_s * 1000 >= told.retry_after_ms:
            return tier
    return len(delays_s) - 1


# -- what else decisions lead to ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """An operation's intent: on its PIC's queue, or on the retry topic number ``tier``. The shell says who sends."""

    queued: PaymentQueued
    tier: int | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """A step of a payment's life, for whoever follows it."""

    updated: PaymentUpdated


@dataclass(frozen=True, slots=True)
class Park:
    """Something for a person."""

    parked: PaymentParked


@dataclass(frozen=True, slots=True)
class Reconsider:
    """The end of an operation's wait is posted once more: what follows is told only when the row that says so is durable."""


Step = Ask | Tell | Park | Reconsider
