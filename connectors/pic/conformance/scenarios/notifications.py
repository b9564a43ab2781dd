"""Notifications: who sent them, when, and what they tell."""

from __future__ import annotations

import msgspec

from connectors.pic.base import NOTIFICATION_TOLERANCE_S, Call, Notice, NotificationError, Notified
from connectors.pic.calls import Pic
from connectors.pic.conformance.scenario import (
    CheckError,
    NotOfferedError,
    Wanted,
    expect,
    expect_true,
    look_up,
    new_call,
    perform,
    scenario,
)
from connectors.pic.conformance.stand import Behaviour, Stand
from connectors.pic.declines import DeclineCode


async def _noticed(pic: Pic, stand: Stand, wanted: Wanted = Behaviour.APPROVE) -> tuple[Call, list[Notice]]:
    call = new_call(pic, stand, wanted)
    await perform(pic, call)
    await stand.settle()
    notices = list(stand.notices(call.attempt_id))
    expect_true("the stand has sent something", bool(notices))
    return call, notices


def _told(pic: Pic, call: Call, notices: list[Notice]) -> list[Notified]:
    return [told for notice in notices for told in pic.parse_notification(notice) if told.attempt_id == call.attempt_id]


def _last(pic: Pic, call: Call, notices: list[Notice]) -> Notified:
    told = _told(pic, call, notices)
    expect_true("something is told of the attempt", bool(told))
    return max(told, key=lambda each: each.occurred_at_ms)


def _refused(pic: Pic, notice: Notice, *reasons: str) -> None:
    try:
        told = pic.parse_notification(notice)
    except NotificationError as error:
        expect("why it is refused", error.reason, *reasons)
        return
    raise CheckError(f"it was believed: {len(told)} events")


def _signs(pic: Pic) -> None:
    if pic.abilities.notifications != "signed":
        raise NotOfferedError("notifications are not signed")


@scenario("notifications")
async def a_success_is_told(pic: Pic, stand: Stand) -> None:
    """Of the attempt that it is about, with an id of its own and the PIC's time."""
    call, notices = await _noticed(pic, stand)
    last = _last(pic, call, notices)
    expect("what is told", last.answer.outcome, "succeeded")
    expect_true("the event has an id", bool(last.event_id))
    expect_true("and a time in milliseconds since 1970", 10**12 < last.occurred_at_ms < 10**14)


@scenario("notifications", offers=(DeclineCode.INSUFFICIENT_FUNDS,))
async def a_decline_is_told(pic: Pic, stand: Stand) -> None:
    """With its reason, as an answer would have said it."""
    call, notices = await _noticed(pic, stand, DeclineCode.INSUFFICIENT_FUNDS)
    answer = _last(pic, call, notices).answer
    expect("what is told", (answer.outcome, answer.reason), ("declined", "insufficient_funds"))


@scenario("notifications", "looks_up")
async def it_tells_what_a_look_up_says(pic: Pic, stand: Stand) -> None:
    """The same outcome and the same reference: two ways to know one thing."""
    call, notices = await _noticed(pic, stand)
    found, told = await look_up(pic, stand, call), _last(pic, call, notices).answer
    expect("what is told", (told.outcome, told.pic_reference), found and (found.outcome, found.pic_reference))


@scenario("notifications")
async def the_same_event_has_the_same_id(pic: Pic, stand: Stand) -> None:
    """A duplicate can be known as one, however late it comes."""
    call, notices = await _noticed(pic, stand)
    first = [told.event_id for told in _told(pic, call, notices)]
    again = [told.event_id for told in _told(pic, call, list(stand.notices(call.attempt_id)))]
    expect("ids of the duplicates", again, first)
    expect("different ids", len(set(first)), len(first))


@scenario("notifications")
async def order_does_not_matter(pic: Pic, stand: Stand) -> None:
    """Whatever order they come in, their times say which is the last."""
    call, notices = await _noticed(pic, stand)
    if len(notices) < 2:
        raise NotOfferedError("the stand sends one notification of a payment")
    expect("the last one", _last(pic, call, notices[::-1]), _last(pic, call, notices))
    expect("what the last one tells", _last(pic, call, notices[::-1]).answer.outcome, "succeeded")


@scenario("notifications")
async def a_changed_body_is_not_believed(pic: Pic, stand: Stand) -> None:
    """One byte more, under the signature of another: ``bad_signature``."""
    _signs(pic)
    _, notices = await _noticed(pic, stand)
    _refused(pic, msgspec.structs.replace(notices[-1], body=notices[-1].body + b" "), "bad_signature")


@scenario("notifications")
async def a_body_without_a_signature_is_not_believed(pic: Pic, stand: Stand) -> None:
    """``bad_signature``, not an exception of another kind."""
    _signs(pic)
    _, notices = await _noticed(pic, stand)
    _refused(pic, msgspec.structs.replace(notices[-1], headers={}), "bad_signature")


@scenario("notifications")
async def a_signature_of_another_is_not_believed(pic: Pic, stand: Stand) -> None:
    """Its form is right, its value is not: ``bad_signature``."""
    _signs(pic)
    _, notices = await _noticed(pic, stand)
    _refused(pic, msgspec.structs.replace(stand.signed(b"{}"), body=notices[-1].body), "bad_signature")


@scenario("notifications")
async def an_old_one_is_a_replay(pic: Pic, stand: Stand) -> None:
    """Rightly signed, but more than five minutes ago: ``replayed``."""
    _signs(pic)
    _, notices = await _noticed(pic, stand)
    received_at_s = notices[-1].received_at_s + NOTIFICATION_TOLERANCE_S + 2
    _refused(pic, msgspec.structs.replace(notices[-1], received_at_s=received_at_s), "replayed")


@scenario("notifications")
async def one_of_some_minutes_ago_is_believed(pic: Pic, stand: Stand) -> None:
    """Within the five minutes it is only late."""
    _signs(pic)
    call, notices = await _noticed(pic, stand)
    late = [
        msgspec.structs.replace(notice, received_at_s=notice.received_at_s + NOTIFICATION_TOLERANCE_S - 10)
        for notice in notices
    ]
    expect("what is told", _last(pic, call, late).answer.outcome, "succeeded")


@scenario("notifications")
async def a_rubbish_body_is_malformed(pic: Pic, stand: Stand) -> None:
    """Rightly signed, but not to be understood: ``malformed``, nothing else, and nothing is told."""
    for body in (b"", b"{", b"[]", b"null", b'{"id":1}', b"\xff\x00", b"<a/>", b"{}" * 10_000):
        _refused(pic, stand.signed(body), "malformed")
