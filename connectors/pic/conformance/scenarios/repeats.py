"""Repeats: the same key is the same call, done once."""

from __future__ import annotations

import asyncio
from typing import Final

from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    ask,
    done_once,
    expect,
    expect_declined,
    expect_effects,
    new_call,
    perform,
    scenario,
    succeed,
)
from connectors.pic.conformance.stand import Behaviour, Effect, Stand
from connectors.pic.declines import DeclineCode

#: How often a payment is asked for at once.
AT_ONCE: Final = 10


@scenario("deduplicates")
async def a_repeat_is_answered_the_same(pic: Pic, stand: Stand) -> None:
    """The second time: the same outcome, the same reference, one charge."""
    call = new_call(pic, stand)
    first, again = await succeed(pic, stand, call), await ask(pic, stand, call)
    expect("answer to the repeat", (again.outcome, again.pic_reference), (first.outcome, first.pic_reference))
    expect_effects(stand, call)


@scenario("deduplicates", offers=(DeclineCode.INSUFFICIENT_FUNDS,))
async def a_repeated_decline_stays_declined(pic: Pic, stand: Stand) -> None:
    """For the same reason, and nothing moves."""
    call = new_call(pic, stand, DeclineCode.INSUFFICIENT_FUNDS)
    for _ in range(2):
        expect_declined(await ask(pic, stand, call), DeclineCode.INSUFFICIENT_FUNDS)
    expect_effects(stand, call, 0)


@scenario("deduplicates")
async def many_at_once_are_one(pic: Pic, stand: Stand) -> None:
    """Ten of one key side by side: one charge, and whoever is told of it is told the same. One who comes in between may hear
    that it is not known yet, or that this call did nothing."""
    call = new_call(pic, stand)
    batches = await asyncio.gather(*(pic.perform([call]) for _ in range(AT_ONCE)))
    answers = [answer for batch in batches for answer in batch]
    for answer in answers:
        expect("answer", answer.outcome, "succeeded", "pending", "unsent")
    expect("references", len({answer.pic_reference for answer in answers if answer.outcome == "succeeded"}), 0, 1)
    await done_once(pic, stand, call)


@scenario("deduplicates", offers=(Behaviour.LOST,))
async def a_repeat_after_a_lost_answer_is_answered(pic: Pic, stand: Stand) -> None:
    """The answer was lost, not the payment: the same key again says what became of it, and charges nothing."""
    call = new_call(pic, stand, Behaviour.LOST)
    expect("first answer", (await perform(pic, call)).outcome, "pending")
    await done_once(pic, stand, call)


@scenario("deduplicates", offers=(Behaviour.RESET,))
async def a_repeat_after_a_broken_connection_is_made(pic: Pic, stand: Stand) -> None:
    """Nothing was done the first time: the same key again is the one charge."""
    call = new_call(pic, stand, Behaviour.RESET)
    expect("first answer", (await perform(pic, call)).outcome, "pending")
    await done_once(pic, stand, call)


@scenario("deduplicates")
async def the_same_key_with_another_amount(pic: Pic, stand: Stand) -> None:
    """Is not a success, and charges nothing: declined as ``duplicate`` or ``invalid_request``, or not known."""
    call = new_call(pic, stand)
    await succeed(pic, stand, call)
    other = new_call(pic, stand, attempt_id=call.attempt_id, payment_id=call.payment_id, amount_minor=99_99)
    answer = await perform(pic, other)
    if answer.outcome != "pending":
        expect_declined(answer, DeclineCode.DUPLICATE, DeclineCode.INVALID_REQUEST)
    await stand.settle()
    expect(
        "what the PIC did", list(stand.effects(call.attempt_id)), [Effect("payment", call.amount_minor, call.currency)]
    )
