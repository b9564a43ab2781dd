"""Refunds: of payments, and of what was captured."""

from __future__ import annotations

from typing import Final

from connectors.pic.base import Answer, Call, Kind
from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    AMOUNT_MINOR,
    ask,
    done_once,
    expect,
    expect_effects,
    follow_up,
    look_up,
    new_call,
    perform,
    refused,
    scenario,
    succeed,
)
from connectors.pic.conformance.stand import Behaviour, Stand

REFUNDS: Final[tuple[Kind, ...]] = ("payment", "refund")


async def _paid(pic: Pic, stand: Stand) -> Answer:
    return await succeed(pic, stand, new_call(pic, stand))


async def _refund(pic: Pic, stand: Stand, paid: Answer, amount_minor: int = AMOUNT_MINOR) -> Call:
    return await done_once(pic, stand, follow_up(pic, stand, "refund", paid, amount_minor))


@scenario(kinds=REFUNDS)
async def a_payment_is_refunded(pic: Pic, stand: Stand) -> None:
    """The whole amount, once."""
    await _refund(pic, stand, await _paid(pic, stand))


@scenario("partial_refunds", kinds=REFUNDS)
async def a_part_is_refunded(pic: Pic, stand: Stand) -> None:
    """Less than what was paid, to the cent."""
    await _refund(pic, stand, await _paid(pic, stand), 2_34)


@scenario("partial_refunds", kinds=REFUNDS)
async def refunds_follow_each_other(pic: Pic, stand: Stand) -> None:
    """Two equal ones under keys of their own are two, and a third takes the rest."""
    paid = await _paid(pic, stand)
    for amount_minor in (3_00, 3_00, AMOUNT_MINOR - 6_00):
        await _refund(pic, stand, paid, amount_minor)


@scenario(kinds=REFUNDS)
async def never_more_than_was_paid(pic: Pic, stand: Stand) -> None:
    """A refund above the payment is declined and gives nothing."""
    await refused(pic, stand, follow_up(pic, stand, "refund", await _paid(pic, stand), AMOUNT_MINOR + 1))


@scenario("partial_refunds", kinds=REFUNDS)
async def never_more_in_all_than_was_paid(pic: Pic, stand: Stand) -> None:
    """A second refund above what is left is declined."""
    paid = await _paid(pic, stand)
    await _refund(pic, stand, paid, 10_00)
    await refused(pic, stand, follow_up(pic, stand, "refund", paid, AMOUNT_MINOR - 10_00 + 1))


@scenario(kinds=REFUNDS)
async def nothing_is_refunded_twice(pic: Pic, stand: Stand) -> None:
    """A second refund of the whole amount, under a key of its own, is declined."""
    paid = await _paid(pic, stand)
    await _refund(pic, stand, paid)
    await refused(pic, stand, follow_up(pic, stand, "refund", paid, AMOUNT_MINOR))


@scenario("deduplicates", kinds=REFUNDS)
async def a_repeated_refund_is_one(pic: Pic, stand: Stand) -> None:
    """The same key again is answered the same, and gives nothing more."""
    call = follow_up(pic, stand, "refund", await _paid(pic, stand), AMOUNT_MINOR)
    first, again = await succeed(pic, stand, call), await ask(pic, stand, call)
    expect("answer to the repeat", (again.outcome, again.pic_reference), (first.outcome, first.pic_reference))
    expect_effects(stand, call)


@scenario("looks_up", kinds=REFUNDS)
async def a_refund_whose_answer_is_lost_is_found(pic: Pic, stand: Stand) -> None:
    """Pending, then found done, by its own key; given once."""
    call = follow_up(pic, stand, "refund", await _paid(pic, stand), AMOUNT_MINOR, Behaviour.LOST)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    found = await look_up(pic, stand, call)
    expect("look-up", found and found.outcome, "succeeded")
    expect_effects(stand, call)


@scenario("looks_up", kinds=REFUNDS)
async def a_refund_that_never_came_is_not_there(pic: Pic, stand: Stand) -> None:
    """None, though the payment is there."""
    call = follow_up(pic, stand, "refund", await _paid(pic, stand), AMOUNT_MINOR)
    expect("look-up", await look_up(pic, stand, call), None)


@scenario(kinds=("authorize", "refund"))
async def what_was_not_captured_is_not_refunded(pic: Pic, stand: Stand) -> None:
    """Held is not paid."""
    held = await succeed(pic, stand, new_call(pic, stand, kind="authorize"))
    await refused(pic, stand, follow_up(pic, stand, "refund", held, AMOUNT_MINOR))


@scenario("partial_captures", kinds=("authorize", "capture", "refund"))
async def never_more_than_was_captured(pic: Pic, stand: Stand) -> None:
    """What was captured is refunded, and not what was authorized."""
    held = await succeed(pic, stand, new_call(pic, stand, kind="authorize"))
    await succeed(pic, stand, follow_up(pic, stand, "capture", held, 10_00))
    await refused(pic, stand, follow_up(pic, stand, "refund", held, 10_01))
    await _refund(pic, stand, held, 10_00)
