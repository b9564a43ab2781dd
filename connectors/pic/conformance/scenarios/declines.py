"""Declines, by kind: the PIC's explicit no, in the words of the standard set."""

from __future__ import annotations

import re
from typing import Final

from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    Scenario,
    Wanted,
    ask,
    expect,
    expect_declined,
    expect_effects,
    expect_true,
    new_call,
    perform,
    scenario,
)
from connectors.pic.conformance.stand import Behaviour, Stand
from connectors.pic.declines import STANDARD, DeclineCode

#: Whose declines are checked one by one: what an issuer, a bank or a scheme says. The others a plugin says itself.
BY_KIND: Final = (
    DeclineCode.INSUFFICIENT_FUNDS,
    DeclineCode.DO_NOT_HONOR,
    DeclineCode.EXPIRED_CARD,
    DeclineCode.LOST_CARD,
    DeclineCode.STOLEN_CARD,
    DeclineCode.INVALID_ACCOUNT,
    DeclineCode.CLOSED_ACCOUNT,
    DeclineCode.LIMIT_EXCEEDED,
    DeclineCode.AUTHENTICATION_REQUIRED,
    DeclineCode.SUSPECTED_FRAUD,
    DeclineCode.NOT_PERMITTED,
    DeclineCode.ISSUER_UNAVAILABLE,
)
#: Nobody may be asked again for these: who has the card is not who it belongs to.
_FINAL: Final = (DeclineCode.LOST_CARD, DeclineCode.STOLEN_CARD, DeclineCode.SUSPECTED_FRAUD)
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def _declined(code: DeclineCode) -> Scenario:
    async def check(pic: Pic, stand: Stand) -> None:
        call = new_call(pic, stand, code)
        answer = await ask(pic, stand, call)
        expect_declined(answer, code)
        expect("retry", answer.retry, *(("never",) if code in _FINAL else ("never", "here", "elsewhere")))
        expect_effects(stand, call, 0)

    check.__name__ = f"declined_{code}"
    check.__doc__ = f"The PIC's word for it becomes ``{code}`` (usually: retry {STANDARD[code].retry}); nothing moves."
    return scenario(offers=(code,))(check)


EACH: Final = tuple(map(_declined, BY_KIND))


@scenario(kinds=("authorize",), offers=(DeclineCode.INSUFFICIENT_FUNDS,))
async def a_declined_authorization_holds_nothing(pic: Pic, stand: Stand) -> None:
    """A no to a payment is one to a hold too."""
    call = new_call(pic, stand, DeclineCode.INSUFFICIENT_FUNDS, kind="authorize")
    expect_declined(await ask(pic, stand, call), DeclineCode.INSUFFICIENT_FUNDS)
    expect_effects(stand, call, 0)


@scenario()
async def reasons_are_safe_to_show(pic: Pic, stand: Stand) -> None:
    """A reason is a snake_case word, whatever the PIC wrote; and no answer repeats the token."""
    declines: list[Wanted] = sorted(each for each in stand.offers if isinstance(each, DeclineCode))
    for wanted in (Behaviour.APPROVE, *declines):
        call = new_call(pic, stand, wanted)
        answer = await perform(pic, call)
        expect_true(f"{answer.reason!r} is a word", not answer.reason or bool(_WORD.match(answer.reason)))
        shown = (answer.reason, answer.pic_reference, answer.action_url)
        expect_true("no answer repeats the token", not any(call.token in text for text in shown))
