"""Payments: authorized and captured at once."""

from __future__ import annotations

from typing import Final

from connectors.pic.base import KINDS, Kind
from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    NotOfferedError,
    ask,
    done_once,
    expect,
    expect_declined,
    expect_effects,
    expect_true,
    new_call,
    perform,
    scenario,
    succeed,
)
from connectors.pic.conformance.stand import Behaviour, Stand
from connectors.pic.declines import DeclineCode

#: What a batch of the kit holds.
BATCH: Final = 12


@scenario()
async def a_payment_is_made(pic: Pic, stand: Stand) -> None:
    """The PIC's yes is ``succeeded``, with its reference; the amount moved once."""
    call = new_call(pic, stand)
    answer = await succeed(pic, stand, call)
    expect_true("a success has the PIC's reference", bool(answer.pic_reference))
    expect_effects(stand, call)


@scenario()
async def payments_are_told_apart(pic: Pic, stand: Stand) -> None:
    """Two payments of one payer with one amount are two, under two references."""
    first = new_call(pic, stand)
    second = new_call(pic, stand)
    one, other = await succeed(pic, stand, first), await succeed(pic, stand, second)
    expect_true("each has a reference of its own", one.pic_reference != other.pic_reference)
    expect_effects(stand, first)
    expect_effects(stand, second)


@scenario(offers=(Behaviour.APPROVE, DeclineCode.INSUFFICIENT_FUNDS))
async def a_batch_is_answered_in_order(pic: Pic, stand: Stand) -> None:
    """Of many at once each gets its own answer, in the order of what was asked."""
    wanted = [DeclineCode.INSUFFICIENT_FUNDS if n % 3 == 0 else Behaviour.APPROVE for n in range(BATCH)]
    calls = [new_call(pic, stand, each, amount_minor=1_000 + n) for n, each in enumerate(wanted)]
    answers = await pic.perform(calls)
    if pic.abilities.settles_later:
        await stand.settle()
        answers = [answer for answer in await pic.look_up(calls) if answer]
    outcomes = ["declined" if each is DeclineCode.INSUFFICIENT_FUNDS else "succeeded" for each in wanted]
    expect("answers", [answer.outcome for answer in answers], outcomes)
    for call, outcome in zip(calls, outcomes, strict=True):
        expect_effects(stand, call, int(outcome == "succeeded"))
    if pic.abilities.looks_up:
        found = await pic.look_up(calls)
        references = [each.pic_reference for each in found if each and each.outcome == "succeeded"]
        made = [answer.pic_reference for answer in answers if answer.outcome == "succeeded"]
        expect("references that a look-up finds", references, made)


async def _in_currency(pic: Pic, stand: Stand, currency: str, amount_minor: int) -> None:
    if pic.abilities.currencies and currency not in pic.abilities.currencies:
        raise NotOfferedError(f"no {currency}")
    call = new_call(pic, stand, currency=currency, amount_minor=amount_minor)
    await done_once(pic, stand, call)


@scenario()
async def a_currency_without_minor_units(pic: Pic, stand: Stand) -> None:
    """1234 yen are 1234 yen, neither 12.34 nor 123400."""
    await _in_currency(pic, stand, "JPY", 1_234)


@scenario()
async def a_currency_with_three_decimals(pic: Pic, stand: Stand) -> None:
    """12340 fils are 12.340 dinars."""
    await _in_currency(pic, stand, "KWD", 12_340)


@scenario()
async def a_large_amount_is_exact(pic: Pic, stand: Stand) -> None:
    """No float anywhere: 999,999.29 arrives to the cent."""
    call = new_call(pic, stand, amount_minor=99_999_929)
    await done_once(pic, stand, call)


@scenario(offers=())
async def a_currency_that_is_not_taken(pic: Pic, stand: Stand) -> None:
    """Declined as ``currency_not_supported``, may go elsewhere, and the PIC is not asked."""
    others = [each for each in ("XAF", "ISK", "KWD", "EUR") if each not in pic.abilities.currencies]
    if not pic.abilities.currencies or not others:
        raise NotOfferedError("every currency is taken")
    before = stand.requests()
    answer = await perform(pic, new_call(pic, stand, currency=others[0]))
    expect_declined(answer, DeclineCode.CURRENCY_NOT_SUPPORTED)
    expect("retry", answer.retry, "elsewhere")
    expect("requests", stand.requests() - before, 0)


@scenario(offers=())
async def what_is_not_offered_is_declined(pic: Pic, stand: Stand) -> None:
    """A kind, or an instrument, that the PIC does not have is ``unsupported``, may go elsewhere, and the PIC is not asked."""
    kinds: list[Kind] = [kind for kind in KINDS if kind not in pic.abilities.kinds]
    calls = [new_call(pic, stand, kind=kind, original_reference="none") for kind in kinds]
    if pic.abilities.methods:
        calls.append(new_call(pic, stand, method="barter"))
    if not calls:
        raise NotOfferedError("everything is offered")
    before = stand.requests()
    for call in calls:
        answer = await perform(pic, call)
        expect_declined(answer, DeclineCode.UNSUPPORTED)
        expect("retry", answer.retry, "elsewhere")
    expect("requests", stand.requests() - before, 0)


@scenario(offers=(Behaviour.SLOW,))
async def a_slow_answer_is_an_answer(pic: Pic, stand: Stand) -> None:
    """Slow, but in time: it is waited for."""
    call = new_call(pic, stand, Behaviour.SLOW)
    expect("answer", (await ask(pic, stand, call)).outcome, "succeeded")
    expect_effects(stand, call)
