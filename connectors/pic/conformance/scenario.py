"""A scenario of the conformance kit: what it needs, what it does, and how it says what is wrong."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from connectors.pic.base import Abilities, Answer, Call, Kind
from connectors.pic.calls import Pic
from connectors.pic.conformance.stand import Behaviour, Effect, Stand
from connectors.pic.declines import DeclineCode

#: What a payment of the kit is worth, unless the scenario says otherwise: odd enough not to be somebody's default.
AMOUNT_MINOR: Final = 12_34

Check = Callable[[Pic, Stand], Awaitable[None]]
Wanted = Behaviour | DeclineCode


class CheckError(AssertionError):
    """The plugin did not do what the scenario is about; the text says what was found and what was expected."""


class NotOfferedError(Exception):
    """The plugin does not say that it can do this, or its stand cannot show it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that a plugin promises, and how to see it. ``check`` raises :class:`CheckError`, or what the plugin raised."""

    name: str
    theme: str
    #: The promise, in a sentence.
    about: str
    check: Check
    kinds: frozenset[Kind] = frozenset({"payment"})
    #: Names of fields of :class:`Abilities` that must be true.
    needs: tuple[str, ...] = ()
    offers: frozenset[Wanted] = frozenset()

    def missing(self, abilities: Abilities, stand: Stand) -> str:
        """What this plugin does not say it can do, or its stand can't show; empty when the scenario can be run."""
        for kind in sorted(self.kinds - abilities.kinds):
            return f"no {kind}"
        for need in self.needs:
            if getattr(abilities, need) in (False, "none"):
                return f"no {need.replace('_', ' ')}"
        for wanted in sorted(self.offers - stand.offers):
            return f"the stand has no {wanted}"
        return ""


def scenario(
    *needs: str, kinds: tuple[Kind, ...] = ("payment",), offers: Collection[Wanted] = (Behaviour.APPROVE,)
) -> Callable[[Check], Scenario]:
    """Make a scenario of a function: its name, its module's last word as theme, its docstring as promise."""

    def made(check: Check) -> Scenario:
        return Scenario(
            name=check.__name__,
            theme=check.__module__.rpartition(".")[2],
            about=" ".join((check.__doc__ or "").split()),
            check=check,
            kinds=frozenset(kinds),
            needs=needs,
            offers=frozenset(offers),
        )

    return made


# -- what scenarios are written with ----------------------------------------------------------------------------------

_numbers = itertools.count(1)
#: So that a stand that outlives a run never sees an attempt id twice.
_RUN: Final = os.urandom(4).hex()


def new_call(
    pic: Pic, stand: Stand, wanted: Wanted = Behaviour.APPROVE, *, kind: Kind = "payment", **named: Any
) -> Call:
    """A call that was never made, with a token that makes it go as ``wanted``; ``named`` are fields of its own."""
    abilities = pic.abilities
    payment_id = f"check-{_RUN}-{next(_numbers)}"
    fields: dict[str, Any] = {
        "attempt_id": f"conformance|{payment_id}|1",
        "tenant": "conformance",
        "payment_id": payment_id,
        "amount_minor": AMOUNT_MINOR,
        "currency": _first("EUR", abilities.currencies),
        "token": stand.token(wanted) if "token" not in named else "",
        "method": _first("card", abilities.methods),
        "kind": kind,
        # Who is challenged is asked to be; who can't is not.
        "challenge": wanted in (Behaviour.CHALLENGE, DeclineCode.AUTHENTICATION_FAILED) and abilities.challenges,
    }
    return stand.prepare(Call(**(fields | named)))


def follow_up(
    pic: Pic, stand: Stand, kind: Kind, original: Answer, amount_minor: int, wanted: Wanted = Behaviour.APPROVE
) -> Call:
    """A capture, void or refund of what ``original`` answered. Raises :class:`NotOfferedError` when it cannot go as wanted."""
    call = new_call(pic, stand, wanted, kind=kind, amount_minor=amount_minor, original_reference=original.pic_reference)
    if wanted != Behaviour.APPROVE and not stand.script(call.attempt_id, wanted):
        raise NotOfferedError(f"the stand has no {kind} that goes {wanted}")
    return call


async def perform(pic: Pic, call: Call) -> Answer:
    """The first answer to one call."""
    answers = await pic.perform([call])
    expect("number of answers", len(answers), 1)
    return answers[0]


async def look_up(pic: Pic, stand: Stand, call: Call) -> Answer | None:
    """What one look-up says, when everything that the PIC does later is done."""
    await stand.settle()
    found = await pic.look_up([call])
    expect("number of look-ups answered", len(found), 1)
    return found[0]


async def ask(pic: Pic, stand: Stand, call: Call) -> Answer:
    """The final answer to one call: where the PIC settles later, that of a look-up."""
    answer = await perform(pic, call)
    if answer.outcome == "pending" and pic.abilities.settles_later:
        answer = await look_up(pic, stand, call) or answer
    return answer


async def succeed(pic: Pic, stand: Stand, call: Call) -> Answer:
    """The same, for a call that has to succeed for the scenario to go on."""
    answer = await ask(pic, stand, call)
    expect(f"answer to the {call.kind}", answer.outcome, "succeeded")
    return answer


async def done_once(pic: Pic, stand: Stand, call: Call) -> Call:
    """The same, and the PIC did it once; gives the call."""
    await succeed(pic, stand, call)
    expect_effects(stand, call)
    return call


async def refused(pic: Pic, stand: Stand, call: Call) -> None:
    """The PIC says no, and did nothing."""
    expect_declined(await ask(pic, stand, call))
    expect_effects(stand, call, 0)


def expect(what: str, found: object, *wanted: object) -> None:
    """Raise :class:`CheckError` unless ``found`` is one of ``wanted``."""
    if found not in wanted:
        raise CheckError(f"{what} is {found!r}, not {' or '.join(map(repr, wanted))}")


def expect_true(says: str, holds: bool) -> None:
    """Raise :class:`CheckError` with what should be, unless it is."""
    if not holds:
        raise CheckError(f"not so: {says}")


def expect_effects(stand: Stand, call: Call, times: int = 1) -> None:
    """The PIC did exactly this, so many times under this key."""
    done = Effect(call.kind, call.amount_minor, call.currency)
    expect("what the PIC did", list(stand.effects(call.attempt_id)), [done] * times)


def expect_declined(answer: Answer | None, *codes: DeclineCode) -> None:
    """Declined, for one of these reasons (any of the standard set when none is named)."""
    expect("answer", answer.outcome if answer else None, "declined")
    assert answer is not None
    expect("reason", answer.reason, *(code.value for code in codes or DeclineCode))


def _first(usual: str, possible: frozenset[str]) -> str:
    return usual if not possible or usual in possible else min(possible)
