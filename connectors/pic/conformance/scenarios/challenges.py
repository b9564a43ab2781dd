"""Challenges: the payer has to prove who they are before money moves."""

from __future__ import annotations

from connectors.pic.base import Answer, Call
from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    expect,
    expect_declined,
    expect_effects,
    expect_true,
    look_up,
    new_call,
    perform,
    scenario,
)
from connectors.pic.conformance.stand import Behaviour, Stand
from connectors.pic.declines import DeclineCode

OFFERS = (Behaviour.CHALLENGE,)


async def _challenged(pic: Pic, stand: Stand) -> tuple[Call, Answer]:
    call = new_call(pic, stand, Behaviour.CHALLENGE)
    answer = await perform(pic, call)
    expect("answer", answer.outcome, "requires_action")
    return call, answer


@scenario("challenges", offers=OFFERS)
async def a_challenge_sends_the_payer_somewhere(pic: Pic, stand: Stand) -> None:
    """An address to open and the PIC's reference; nothing moves before the payer has acted."""
    call, answer = await _challenged(pic, stand)
    expect_true(f"{answer.action_url!r} is an address", answer.action_url.startswith(("https://", "http://127.0.0.1")))
    expect_true("there is a reference", bool(answer.pic_reference))
    expect_effects(stand, call, 0)


@scenario("challenges", "looks_up", offers=OFFERS)
async def a_challenge_that_waits_still_waits(pic: Pic, stand: Stand) -> None:
    """A look-up says so, and where to go."""
    call, answer = await _challenged(pic, stand)
    found = await look_up(pic, stand, call)
    expect("look-up", found and (found.outcome, found.pic_reference), ("requires_action", answer.pic_reference))


@scenario("challenges", "looks_up", offers=OFFERS)
async def a_challenge_that_is_passed_pays(pic: Pic, stand: Stand) -> None:
    """A look-up finds the payment done under the same reference; charged once."""
    call, answer = await _challenged(pic, stand)
    await stand.finish_challenge(call.attempt_id, passed=True)
    found = await look_up(pic, stand, call)
    expect("look-up", found and (found.outcome, found.pic_reference), ("succeeded", answer.pic_reference))
    expect_effects(stand, call)


@scenario("challenges", "looks_up", offers=OFFERS)
async def a_challenge_that_is_failed_does_not(pic: Pic, stand: Stand) -> None:
    """Declined, ``authentication_failed``, and nothing moved."""
    call, _ = await _challenged(pic, stand)
    await stand.finish_challenge(call.attempt_id, passed=False)
    expect_declined(await look_up(pic, stand, call), DeclineCode.AUTHENTICATION_FAILED)
    expect_effects(stand, call, 0)


@scenario("challenges", "deduplicates", offers=OFFERS)
async def a_repeat_is_not_another_challenge(pic: Pic, stand: Stand) -> None:
    """The same key again: the same reference."""
    call, answer = await _challenged(pic, stand)
    again = await perform(pic, call)
    expect("answer to the repeat", (again.outcome, again.pic_reference), ("requires_action", answer.pic_reference))
    expect_effects(stand, call, 0)
