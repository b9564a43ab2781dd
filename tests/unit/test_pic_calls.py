"""Plugins in batches: order, bounded concurrency, time-outs, what an exception means, the lease, the circuit breaker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.pic.base import (
    KINDS,
    NOT_SENT,
    UNKNOWN,
    Abilities,
    Answer,
    Call,
    Kind,
    Notice,
    NotificationError,
    Notified,
    NotSentError,
    Plugin,
)
from connectors.pic.breaker import Breaker
from connectors.pic.calls import CURRENCY_NOT_SUPPORTED, UNSUPPORTED, LeaseLostError, OneByOne

NOTICE = Notice(headers={}, body=b"{}", received_at_s=0.0)


def call(payment_id: str = "p1", token: str = "ok", kind: Kind = "payment", **named: Any) -> Call:
    fields: dict[str, Any] = {"tenant": "aurora", "amount_minor": 1_250, "currency": "EUR", "method": "card"} | named
    return Call(attempt_id=f"aurora|{payment_id}|1", payment_id=payment_id, token=token, kind=kind, **fields)


class Scripted(Plugin):
    """A plugin whose payments and look-ups end as their token says; it notes what it was asked."""

    abilities = Abilities(looks_up=True)

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.in_flight = 0
        self.in_flight_max = 0

    async def authorize(self, call: Call) -> Answer:
        self.asked.append(call.payment_id)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await asyncio.sleep(0)
            match call.token:
                case "raise":
                    raise ConnectionError("broken")
                case "not sent":
                    raise NotSentError
                case "hang":
                    await asyncio.Event().wait()
                case "nonsense":
                    return None  # type: ignore[return-value]
            return Answer("succeeded", "", f"ref-{call.payment_id}")
        finally:
            self.in_flight -= 1

    async def look_up(self, call: Call) -> Answer | None:
        self.asked.append(call.payment_id)
        match call.token:
            case "raise":
                raise ConnectionError("broken")
            case "not sent":
                raise NotSentError
            case "unsent":
                return Answer("unsent", "try_again_later")
        return None if call.token == "absent" else Answer("declined", "do_not_honor")


def scripted(**options: Any) -> tuple[OneByOne, Scripted]:
    plugin = Scripted()
    return OneByOne("scripted", plugin, **({"timeout_s": 30.0} | options)), plugin


def test_a_batch_is_answered_in_order_with_bounded_concurrency() -> None:
    """200 payments through 7 slots: never more than 7 at once, each its own answer."""

    async def run() -> None:
        pic, plugin = scripted(in_flight_max=7)
        answers = await pic.perform([call(f"p{n}") for n in range(200)])
        assert [answer.pic_reference for answer in answers] == [f"ref-p{n}" for n in range(200)]
        assert plugin.in_flight_max == 7

    asyncio.run(run())


def test_an_exception_is_an_unknown_answer() -> None:
    """Pending, in its place; the others are not touched. What is not sent surely is the plugin's word, not a guess."""
    pic, _ = scripted()
    answers = asyncio.run(pic.perform([call("p1", "raise"), call("p2"), call("p3", "not sent")]))
    assert answers == [UNKNOWN, Answer("succeeded", "", "ref-p2"), NOT_SENT]


def test_no_answer_in_time_is_an_unknown_answer() -> None:
    """A PIC that never answers holds nobody, and the call to it is given up, not left behind."""

    async def run() -> None:
        pic, plugin = scripted(timeout_s=0.05)
        assert await pic.perform([call("p1", "hang"), call("p2", "hang")]) == [UNKNOWN, UNKNOWN]
        assert plugin.in_flight == 0

    asyncio.run(run())


def test_a_look_up_that_fails_is_not_a_look_up_that_finds_nothing() -> None:
    """None would let the payment be sent again, and so would ``unsent``; any failure is the unknown answer."""
    pic, _ = scripted()
    tokens = ("raise", "not sent", "unsent", "absent", "there")
    found = asyncio.run(pic.look_up([call(token=token) for token in tokens]))
    assert found == [UNKNOWN, UNKNOWN, UNKNOWN, None, Answer("declined", "do_not_honor")]


class OnlyPays(Plugin):
    """What the smallest plugin is: it pays, in euros by card, and looks nothing up."""

    abilities = Abilities(currencies=frozenset({"EUR"}), methods=frozenset({"card"}))

    async def authorize(self, call: Call) -> Answer:
        return Answer("succeeded")


def test_what_a_pic_cannot_do_is_declined_and_may_go_elsewhere() -> None:
    """By its own description, for kind, method and currency; and it is not asked."""
    pic = OneByOne("small", OnlyPays(), timeout_s=5)
    asked = [call(kind=kind) for kind in KINDS] + [call(method="wallet"), call(currency="JPY")]
    answers = asyncio.run(pic.perform(asked))
    assert answers[0] == Answer("succeeded")
    assert answers[1:6] == [UNSUPPORTED] * 5
    assert answers[6] == CURRENCY_NOT_SUPPORTED
    assert {answer.retry for answer in answers[1:]} == {"elsewhere"}


def test_a_plugin_that_says_more_than_it_does_is_declined_too() -> None:
    """Its abilities name captures, its code has none: unsupported, and nobody takes that for an outage."""

    class Boasts(OnlyPays):
        abilities = Abilities(kinds=frozenset(KINDS))

    pic = OneByOne("boasts", Boasts(), timeout_s=5, breaker=Breaker(1, 10.0))
    assert (
        asyncio.run(pic.perform([call(kind=kind) for kind in KINDS])) == [Answer("succeeded")] * 2 + [UNSUPPORTED] * 3
    )


def test_without_look_ups_nothing_is_known_and_nothing_is_ruled_out() -> None:
    """Never None: the PIC may have the payment."""
    assert asyncio.run(OneByOne("small", OnlyPays(), timeout_s=5).look_up([call()])) == [UNKNOWN]


@pytest.mark.parametrize("error", [KeyError("id"), ValueError("secret"), NotificationError("malformed")])
def test_a_notification_that_a_plugin_stumbles_over_is_malformed(error: Exception) -> None:
    """Whatever it raises, in words that are safe to show."""

    class Stumbles(OnlyPays):
        def parse_notification(self, notice: Notice) -> list[Notified]:
            raise error

    for plugin in (Stumbles(), OnlyPays()):
        with pytest.raises(NotificationError) as caught:
            OneByOne("stumbles", plugin, timeout_s=5).parse_notification(NOTICE)
        assert (str(caught.value), caught.value.reason) == ("malformed", "malformed")


def test_a_lost_lease_ends_the_batch() -> None:
    """Two calls are allowed, the third is not made, nor any after it, and what is in flight is not left behind."""
    left = [2]

    def allowed() -> bool:
        left[0] -= 1
        return left[0] >= 0

    async def run() -> None:
        pic, plugin = scripted(in_flight_max=2, allowed=allowed, timeout_s=3600)
        with pytest.raises(LeaseLostError):
            async with asyncio.timeout(60):  # only so that a batch that waits for what is in flight fails here
                await pic.perform([call("p1"), call("p2", "hang"), call("p3"), call("p4")])
        assert plugin.asked == ["p1", "p2"]
        assert plugin.in_flight == 0

    asyncio.run(run())


@pytest.mark.parametrize("token", ["raise", "not sent", "nonsense"])
def test_a_pic_that_does_not_answer_is_left_alone(token: str) -> None:
    """Three failures open the breaker: the rest of the batch is not called; after 10 s one probe is, and it closes.

    What is held back by it is surely unsent, but a look-up that is held back says nothing.
    """
    now_s = [100.0]
    failed = NOT_SENT if token == "not sent" else UNKNOWN

    async def run() -> None:
        pic, plugin = scripted(breaker=Breaker(3, 10.0), in_flight_max=1, clock_s=lambda: now_s[0])
        answers = await pic.perform([call(f"p{n}", token) for n in range(6)])
        assert answers == [failed] * 3 + [NOT_SENT] * 3
        assert plugin.asked == ["p0", "p1", "p2"]
        assert await pic.look_up([call("there")]) == [UNKNOWN]
        assert len(plugin.asked) == 3
        now_s[0] += 10.0
        answers = await pic.perform([call("p7"), call("p8")])
        assert [answer.outcome for answer in answers] == ["succeeded", "succeeded"]

    asyncio.run(run())


def test_the_breaker_opens_probes_and_closes() -> None:
    """By hand: two unknown open it at 1 s for 5 s; the probe at 6 s fails; the one at 11 s closes it."""
    breaker = Breaker(2, 5.0)
    breaker.record(0.0, known=False)
    assert breaker.allows(0.5)
    breaker.record(1.0, known=False)
    assert [breaker.allows(t) for t in (1.0, 5.9)] == [False, False]
    assert [breaker.allows(t) for t in (6.0, 6.0)] == [True, False]
    breaker.record(6.0, known=False)
    assert [breaker.allows(t) for t in (15.9, 16.0, 16.0)] == [False, True, False]
    breaker.record(16.5, known=True)
    assert [breaker.allows(t) for t in (16.5, 16.5)] == [True, True]
    assert not breaker.is_open


def test_each_failed_probe_doubles_the_time_and_an_answer_ends_that() -> None:
    """Only probes count: what was under way when it opened fails without making the time longer."""
    breaker = Breaker(1, 5.0, 15.0)
    for now_s in (0.0, 0.0, 0.0):
        breaker.record(now_s, known=False)
    for opened_s, open_s in ((0.0, 5.0), (5.0, 10.0), (15.0, 15.0), (30.0, 15.0)):
        assert [breaker.allows(opened_s + open_s - 0.1), breaker.allows(opened_s + open_s)] == [False, True]
        breaker.record(opened_s + open_s, known=False)
    assert breaker.allows(60.0)
    breaker.record(60.0, known=True)
    breaker.record(61.0, known=False)
    assert [breaker.allows(65.9), breaker.allows(66.0)] == [False, True]


def test_what_would_become_of_the_next_call_is_known() -> None:
    """It leaves, it would not leave, it finds out; and while one finds out, none leaves."""
    breaker = Breaker(1, 5.0)
    assert breaker.next_call(0.0) == "closed"
    breaker.record(0.0, known=False)
    assert [breaker.next_call(t) for t in (0.0, 4.9, 5.0)] == ["open", "open", "half_open"]
    assert breaker.allows(5.0)
    assert breaker.next_call(5.1) == "open"
    breaker.record(5.2, known=True)
    assert breaker.next_call(5.2) == "closed"


def test_only_unknown_answers_in_a_row_open_the_breaker() -> None:
    """A known answer in between starts the count again."""
    breaker = Breaker(2, 5.0)
    for now_s in range(10):
        breaker.record(float(now_s), known=now_s % 2 == 0)
    assert breaker.allows(10.0)


def test_a_lost_probe_does_not_keep_the_breaker_open_for_ever() -> None:
    """A probe whose task was cancelled is never recorded: the next may go 5 s after it."""
    breaker = Breaker(1, 5.0)
    breaker.record(0.0, known=False)
    assert [breaker.allows(t) for t in (5.0, 9.9, 10.0)] == [True, False, True]
