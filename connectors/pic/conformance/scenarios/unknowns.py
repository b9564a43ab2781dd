"""Unknown answers: whoever called may have been heard. Never a success by accident, never sent again by mistake."""

from __future__ import annotations

from connectors.pic.base import Answer, Call
from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    ask,
    done_once,
    expect,
    expect_effects,
    expect_true,
    look_up,
    new_call,
    perform,
    scenario,
    succeed,
)
from connectors.pic.conformance.stand import Behaviour, Stand
from connectors.pic.declines import DeclineCode


def _same(found: Answer | None) -> tuple[str, str, str] | None:
    return (found.outcome, found.reason, found.pic_reference) if found is not None else None


async def _no_success(pic: Pic, stand: Stand, call: Call) -> None:
    """Pending; or declined by a plugin that undoes what was not answered: then nothing is left of it."""
    answer = await perform(pic, call)
    expect("answer", answer.outcome, "pending", "declined")
    if answer.outcome == "declined":
        expect_effects(stand, call, 0)


@scenario(offers=(Behaviour.LOST, Behaviour.RESET, Behaviour.GARBAGE, Behaviour.BROKEN))
async def what_is_not_known_is_no_success(pic: Pic, stand: Stand) -> None:
    """No answer, a broken connection, rubbish, an error of the PIC: pending, or undone."""
    for wanted in (Behaviour.LOST, Behaviour.RESET, Behaviour.GARBAGE, Behaviour.BROKEN):
        await _no_success(pic, stand, new_call(pic, stand, wanted))


@scenario("looks_up")
async def a_look_up_says_what_was_answered(pic: Pic, stand: Stand) -> None:
    """The same outcome and the same reference, and nothing is done by asking."""
    call = new_call(pic, stand)
    answer = await succeed(pic, stand, call)
    for _ in range(2):
        expect("look-up", _same(await look_up(pic, stand, call)), _same(answer))
    expect_effects(stand, call)


@scenario("looks_up", offers=(DeclineCode.INSUFFICIENT_FUNDS,))
async def a_look_up_finds_a_decline(pic: Pic, stand: Stand) -> None:
    """Declined, for the same reason; or None where the PIC keeps nothing of what it declined."""
    call = new_call(pic, stand, DeclineCode.INSUFFICIENT_FUNDS)
    answer = await ask(pic, stand, call)
    expect("answer", answer.outcome, "declined")
    found = await look_up(pic, stand, call)
    expect("look-up", found and (found.outcome, found.reason), None, (answer.outcome, answer.reason))


@scenario("looks_up")
async def what_never_came_is_not_there(pic: Pic, stand: Stand) -> None:
    """A look-up of a payment that was never made is None, and makes none."""
    call = new_call(pic, stand)
    expect("look-up", await look_up(pic, stand, call), None)
    expect_effects(stand, call, 0)


@scenario("looks_up", offers=(Behaviour.LOST,))
async def a_payment_whose_answer_is_lost_is_found(pic: Pic, stand: Stand) -> None:
    """Pending, then found done; charged once."""
    call = new_call(pic, stand, Behaviour.LOST)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    expect("look-up", (_same(await look_up(pic, stand, call)) or ("",))[0], "succeeded")
    expect_effects(stand, call)


@scenario("looks_up", offers=(Behaviour.LATE,))
async def a_late_answer_is_looked_up(pic: Pic, stand: Stand) -> None:
    """Who does not answer in time is not waited for: pending, then found done; charged once."""
    call = new_call(pic, stand, Behaviour.LATE)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    expect("look-up", (_same(await look_up(pic, stand, call)) or ("",))[0], "succeeded")
    expect_effects(stand, call)


@scenario(offers=(Behaviour.LATE, Behaviour.APPROVE))
async def a_late_answer_is_nobody_elses(pic: Pic, stand: Stand) -> None:
    """The payments that come after it get their own answers, not the one that was too late."""
    late = new_call(pic, stand, Behaviour.LATE, amount_minor=50_00)
    await _no_success(pic, stand, late)
    for amount_minor in (1_00, 2_00, 3_00):
        call = new_call(pic, stand, amount_minor=amount_minor)
        await done_once(pic, stand, call)


@scenario("looks_up", offers=(Behaviour.RESET,))
async def a_broken_connection_is_unknown(pic: Pic, stand: Stand) -> None:
    """The request may have been read, so it is not ``unsent``. A look-up finds nothing; sent again it is made, once."""
    call = new_call(pic, stand, Behaviour.RESET)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    expect("look-up", await look_up(pic, stand, call), None)
    await done_once(pic, stand, call)


@scenario("looks_up", offers=(Behaviour.GARBAGE,))
async def a_rubbish_answer_is_unknown(pic: Pic, stand: Stand) -> None:
    """What cannot be understood is neither yes nor no. A look-up tells; charged once."""
    call = new_call(pic, stand, Behaviour.GARBAGE)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    expect("look-up", (_same(await look_up(pic, stand, call)) or ("",))[0], "succeeded")
    expect_effects(stand, call)


@scenario("looks_up", offers=(Behaviour.BROKEN,))
async def an_error_of_the_pic_is_unknown(pic: Pic, stand: Stand) -> None:
    """An internal error says nothing of what was done. A look-up finds nothing, or that it is not known; sent again it is
    made, once."""
    call = new_call(pic, stand, Behaviour.BROKEN)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    expect("look-up", (_same(await look_up(pic, stand, call)) or ("",))[0], "", "pending")
    await done_once(pic, stand, call)


@scenario(offers=(Behaviour.THROTTLED,))
async def too_many_requests_is_unsent(pic: Pic, stand: Stand) -> None:
    """Surely nothing was done, and how long to wait is passed on where the protocol says it; sent again it is made, once."""
    call = new_call(pic, stand, Behaviour.THROTTLED)
    answer = await perform(pic, call)
    expect("answer", answer.outcome, "unsent")
    expect("retry_after_s", answer.retry_after_s, stand.retry_after_s)
    expect_effects(stand, call, 0)
    await done_once(pic, stand, call)


@scenario(offers=(Behaviour.REFUSED,))
async def no_connection_is_unsent(pic: Pic, stand: Stand) -> None:
    """Nothing listens, so nothing was heard; sent again when something does, it is made, once."""
    async with stand.refusing() as token:
        call = new_call(pic, stand, token=token)
        expect("answer", (await perform(pic, call)).outcome, "unsent")
    expect_effects(stand, call, 0)
    await done_once(pic, stand, call)


@scenario("looks_up", offers=(Behaviour.PROCESSING,))
async def what_is_not_decided_is_pending(pic: Pic, stand: Stand) -> None:
    """Taken is not done. A look-up finds it once it is; charged once."""
    call = new_call(pic, stand, Behaviour.PROCESSING)
    expect("answer", (await perform(pic, call)).outcome, "pending")
    found = await look_up(pic, stand, call)
    if found is not None and found.outcome == "pending":
        found = await look_up(pic, stand, call)
    expect("look-up", (_same(found) or ("",))[0], "succeeded")
    expect_effects(stand, call)


@scenario("looks_up", offers=(Behaviour.LOOK_UP_FAILS,))
async def a_look_up_that_fails_finds_nothing_out(pic: Pic, stand: Stand) -> None:
    """It is unknown, never None: that would send the payment again. The next one finds it."""
    call = new_call(pic, stand, Behaviour.LOOK_UP_FAILS)
    await perform(pic, call)
    found = await look_up(pic, stand, call)
    expect_true("a look-up that fails is not None", found is not None)
    expect("look-up", found and found.outcome, "pending")
    expect("next look-up", (_same(await look_up(pic, stand, call)) or ("",))[0], "succeeded")
