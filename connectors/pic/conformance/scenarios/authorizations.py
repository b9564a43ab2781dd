"""Authorizations: an amount is held, then captured or let go of."""

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
    expect_true,
    follow_up,
    look_up,
    new_call,
    perform,
    refused,
    scenario,
    succeed,
)
from connectors.pic.conformance.stand import Behaviour, Stand

CAPTURES: Final[tuple[Kind, ...]] = ("authorize", "capture")
VOIDS: Final[tuple[Kind, ...]] = ("authorize", "void")


async def _held(pic: Pic, stand: Stand) -> Answer:
    return await succeed(pic, stand, new_call(pic, stand, kind="authorize"))


async def _capture(pic: Pic, stand: Stand, held: Answer, amount_minor: int = AMOUNT_MINOR) -> Call:
    return await done_once(pic, stand, follow_up(pic, stand, "capture", held, amount_minor))


@scenario(kinds=("authorize",))
async def an_authorization_holds_and_moves_nothing(pic: Pic, stand: Stand) -> None:
    """The amount is held, not captured, and there is a reference to capture it by."""
    call = new_call(pic, stand, kind="authorize")
    answer = await succeed(pic, stand, call)
    expect_true("a success has the PIC's reference", bool(answer.pic_reference))
    expect_effects(stand, call)


@scenario(kinds=CAPTURES)
async def a_capture_takes_what_was_authorized(pic: Pic, stand: Stand) -> None:
    """The whole amount, once."""
    await _capture(pic, stand, await _held(pic, stand))


@scenario("partial_captures", kinds=CAPTURES)
async def a_part_is_captured(pic: Pic, stand: Stand) -> None:
    """Less than what was authorized, to the cent."""
    await _capture(pic, stand, await _held(pic, stand), 2_34)


@scenario("several_captures", kinds=CAPTURES)
async def captures_follow_each_other(pic: Pic, stand: Stand) -> None:
    """Three of one authorization, up to the last cent."""
    held = await _held(pic, stand)
    for amount_minor in (1_00, 2_00, AMOUNT_MINOR - 3_00):
        await _capture(pic, stand, held, amount_minor)


@scenario(kinds=CAPTURES)
async def never_more_than_was_authorized(pic: Pic, stand: Stand) -> None:
    """A capture above the authorization is declined and takes nothing, not even a part."""
    held = await _held(pic, stand)
    await refused(pic, stand, follow_up(pic, stand, "capture", held, AMOUNT_MINOR + 1))


@scenario("several_captures", kinds=CAPTURES)
async def never_more_in_all_than_was_authorized(pic: Pic, stand: Stand) -> None:
    """A second capture above what is left is declined; what was captured stays."""
    held = await _held(pic, stand)
    first = await _capture(pic, stand, held, 10_00)
    await refused(pic, stand, follow_up(pic, stand, "capture", held, AMOUNT_MINOR - 10_00 + 1))
    expect_effects(stand, first)


@scenario(kinds=CAPTURES)
async def nothing_is_captured_twice(pic: Pic, stand: Stand) -> None:
    """A second capture of the whole amount, under a key of its own, is declined."""
    held = await _held(pic, stand)
    await _capture(pic, stand, held)
    await refused(pic, stand, follow_up(pic, stand, "capture", held, AMOUNT_MINOR))


@scenario("deduplicates", kinds=CAPTURES)
async def a_repeated_capture_is_one(pic: Pic, stand: Stand) -> None:
    """The same key again is answered the same, and takes nothing more."""
    held = await _held(pic, stand)
    call = follow_up(pic, stand, "capture", held, AMOUNT_MINOR)
    first, again = await succeed(pic, stand, call), await ask(pic, stand, call)
    expect("answer to the repeat", (again.outcome, again.pic_reference), (first.outcome, first.pic_reference))
    expect_effects(stand, call)


@scenario(kinds=CAPTURES)
async def what_is_not_there_is_not_captured(pic: Pic, stand: Stand) -> None:
    """A reference that the PIC does not know is its explicit no, not an unknown answer."""
    held = await _held(pic, stand)
    unknown = Answer("succeeded", pic_reference=_another(held.pic_reference))
    await refused(pic, stand, follow_up(pic, stand, "capture", unknown, AMOUNT_MINOR))


@scenario("looks_up", kinds=CAPTURES)
async def a_capture_whose_answer_is_lost_is_found(pic: Pic, stand: Stand) -> None:
    """Pending, then found done, by its own key; captured once."""
    held = await _held(pic, stand)
    call = follow_up(pic, stand, "capture", held, AMOUNT_MINOR, Behaviour.LOST)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    found = await look_up(pic, stand, call)
    expect("look-up", found and found.outcome, "succeeded")
    expect_effects(stand, call)


@scenario(kinds=VOIDS)
async def a_void_lets_go(pic: Pic, stand: Stand) -> None:
    """What is held is let go of, once."""
    call = follow_up(pic, stand, "void", await _held(pic, stand), AMOUNT_MINOR)
    await done_once(pic, stand, call)


@scenario(kinds=("authorize", "capture", "void"))
async def nothing_is_captured_after_a_void(pic: Pic, stand: Stand) -> None:
    """A capture of what was let go of is declined."""
    held = await _held(pic, stand)
    await succeed(pic, stand, follow_up(pic, stand, "void", held, AMOUNT_MINOR))
    await refused(pic, stand, follow_up(pic, stand, "capture", held, AMOUNT_MINOR))


@scenario(kinds=("authorize", "capture", "void"))
async def nothing_is_voided_after_a_capture(pic: Pic, stand: Stand) -> None:
    """What was captured cannot be let go of: it takes a refund."""
    held = await _held(pic, stand)
    captured = await _capture(pic, stand, held)
    await refused(pic, stand, follow_up(pic, stand, "void", held, AMOUNT_MINOR))
    expect_effects(stand, captured)


@scenario("deduplicates", kinds=VOIDS)
async def a_repeated_void_is_one(pic: Pic, stand: Stand) -> None:
    """The same key again is answered the same."""
    call = follow_up(pic, stand, "void", await _held(pic, stand), AMOUNT_MINOR)
    await succeed(pic, stand, call)
    await done_once(pic, stand, call)


@scenario("looks_up", kinds=("authorize", "capture", "void"))
async def a_look_up_tells_kinds_apart(pic: Pic, stand: Stand) -> None:
    """That an authorization succeeded says nothing of its capture, which never came: None."""
    held = await _held(pic, stand)
    expect(
        "look-up of the capture", await look_up(pic, stand, follow_up(pic, stand, "capture", held, AMOUNT_MINOR)), None
    )
    expect("look-up of the void", await look_up(pic, stand, follow_up(pic, stand, "void", held, AMOUNT_MINOR)), None)


def _another(reference: str) -> str:
    """A reference of the same form that nobody has: its last letter or digit is another."""
    last = reference[-1]
    return reference[:-1] + ("0" if last != "0" else "1")
