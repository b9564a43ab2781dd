"""What `ptr queues` is made of: which topics are whose, what workers tell, what may be said of a PIC, and of what is parked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from connectors.controls import book as book_module
from connectors.controls.book import ControlBook, fault
from connectors.pic.base import Abilities, Answer, Call
from connectors.pic.breaker import UNKNOWN_IN_A_ROW_MAX
from connectors.pic.calls import OneByOne
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.pic.watched import WatchedPic
from connectors.queues.parked import Case, DecisionError, decided, find_case
from connectors.queues.waiting import pics_of
from connectors.queues.workers import ask, calls_of
from pipeline.engine.metrics import Metrics, PicMetrics
from pipeline.topics import queue, retries
from schemas.records import PaymentNotified, PaymentParked, PicControlled
from tests.unit.test_pic_calls import Scripted
from tests.unit.test_pic_calls import call as a_call


def a_word(**named: Any) -> PicControlled:
    """A valid record."""
    fields: dict[str, Any] = {"pic": "stripe-2", "paused": True, "who": "mo", "why": "they asked", "decided_at_ms": 1}
    return PicControlled(**(fields | named))


# -- paused PICs ------------------------------------------------------------------------------------------------------


def test_the_latest_word_on_a_pic_counts() -> None:
    """At once, and of no other PIC."""
    book = ControlBook()
    assert not book.paused("stripe-2")
    assert book.take(a_word())
    assert (book.paused("stripe-2"), book.paused("stripe")) == (True, False)
    assert book.take(a_word(paused=False, why="they are back", decided_at_ms=2))
    assert not book.paused("stripe-2")
    latest = book.latest("stripe-2")
    assert latest is not None and latest.why == "they are back"
    book.forget("stripe-2")
    assert book.latest("stripe-2") is None


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"pic": "Stripe"}, "not a valid name"),
        ({"pic": ""}, "not a valid name"),
        ({"who": " "}, "who must be"),
        ({"who": "x" * 81}, "1 to 80"),
        ({"why": "x" * 201}, "1 to 200"),
        ({"why": "two\nlines"}, "printable"),
        ({"why": "card 4111 1111 1111 1111"}, "card number"),
    ],
)
def test_what_is_no_word_on_a_pic_changes_nothing(
    named: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused with why, and the log repeats nothing of it."""
    book = ControlBook()
    with caplog.at_level(logging.ERROR):
        assert not book.take(a_word(**named))
    assert says in fault(a_word(**named)) and says in caplog.text
    assert "4111" not in caplog.text and not book.paused("stripe-2")


def test_a_book_of_pics_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes names without end fills no memory; those that are known still change."""
    monkeypatch.setattr(book_module, "PICS_MAX", 2)
    book = ControlBook()
    assert [book.take(a_word(pic=pic)) for pic in ("a", "b", "c")] == [True, True, False]
    assert book.take(a_word(pic="a", paused=False)) and not book.paused("a")


# -- whose topics -----------------------------------------------------------------------------------------------------


def test_queues_are_found_by_their_names() -> None:
    """Names of PICs hold hyphens; delays of an earlier version are listed too; what has no queue is no PIC."""
    names = [queue("stripe-2").name, *[topic.name for topic in retries("stripe-2")], queue("a").name]
    names += [
        "payments.retry.stripe-2.60s.v1",
        "payments.retry.gone.1s.v1",
        "payments.requested.v1",
        "payments.queue.v1",
    ]
    found = pics_of(names)
    assert list(found) == ["a", "stripe-2"]
    assert found["a"] == ("payments.queue.a.v1", {})
    assert sorted(found["stripe-2"][1]) == [1, 5, 30, 60, 300, 1800, 10800]


# -- what workers tell ------------------------------------------------------------------------------------------------


class Slow(Scripted):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def authorize(self, call: Call) -> Answer:
        await self.go_on.wait()
        return await super().authorize(call)


def page_of(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_calls_are_counted_by_outcome_and_in_flight_while_they_last() -> None:
    """Read back from the page as `ptr queues` does: in flight at most what the plugin has in its slots."""

    async def run() -> None:
        registry = CollectorRegistry()
        watch = PicMetrics(Metrics(registry), "scripted", lambda: True)
        plugin = Slow()
        one_by_one = OneByOne("scripted", plugin, timeout_s=30.0, in_flight_max=2, took=watch.took)
        pic = WatchedPic(one_by_one, watch)
        task = asyncio.create_task(pic.perform([a_call("p1"), a_call("p2", "raise"), a_call("p3")]))
        await asyncio.sleep(0.01)
        assert calls_of([page_of(registry)])["scripted"].in_flight == 2
        plugin.go_on.set()
        await task
        assert await pic.look_up([a_call("p4", "absent"), a_call("p5")]) == [None, Answer("declined", "do_not_honor")]
        page = page_of(registry)
        told = calls_of([page, page])["scripted"]
        assert (told.in_flight, told.breakers) == (0, {"closed": 2})
        for line in (
            'ptr_pic_calls_total{call="perform",outcome="succeeded",pic="scripted"} 2.0',
            'ptr_pic_calls_total{call="perform",outcome="pending",pic="scripted"} 1.0',
            'ptr_pic_calls_total{call="look_up",outcome="absent",pic="scripted"} 1.0',
            'ptr_pic_call_seconds_count{pic="scripted"} 5.0',
            'ptr_pic_paused{pic="scripted"} 1.0',
        ):
            assert line in page.splitlines(), page

    asyncio.run(run())


def test_an_open_breaker_is_told() -> None:
    """Open after five unknown answers in a row, half open when its time is over."""

    async def run() -> None:
        registry, now_s = CollectorRegistry(), [0.0]
        watch = PicMetrics(Metrics(registry), "scripted", lambda: False)
        made = OneByOne("scripted", Scripted(), timeout_s=30.0, clock_s=lambda: now_s[0], took=watch.took)
        pic = WatchedPic(made, watch)
        states = []
        for at_s in (0.0, 9.9, 10.0):
            now_s[0] = at_s
            if not states:
                await pic.perform([a_call(f"p{n}", "raise") for n in range(UNKNOWN_IN_A_ROW_MAX)])
            states.append(dict(calls_of([page_of(registry)])["scripted"].breakers))
        assert states == [{"open": 1}, {"open": 1}, {"half open": 1}]
        now_s[0] = 11.0
        assert [each.outcome for each in await pic.perform([a_call("p")])] == ["succeeded"]
        assert calls_of([page_of(registry)])["scripted"].breakers == {"closed": 1}

    asyncio.run(run())


def test_a_pic_that_takes_whole_batches_is_counted_too() -> None:
    """In flight is what it was given; time is the batch's; it has no breaker."""

    class Held(Simulator):
        async def perform(self, calls: Sequence[Call]) -> list[Answer]:
            self.seen = calls_of([page_of(registry)])["held"].in_flight
            return await super().perform(calls)

    registry = CollectorRegistry()
    made = Held("held", MemoryLedger())
    pic = WatchedPic(made, PicMetrics(Metrics(registry), "held", lambda: False))
    asyncio.run(pic.perform([a_call("p1"), a_call("p2")]))
    told = calls_of([page_of(registry)])["held"]
    assert (made.seen, told.in_flight, told.breakers) == (2, 0, {"closed": 1})
    assert 'ptr_pic_call_seconds_count{pic="held"} 1.0' in page_of(registry)
    assert isinstance(pic.abilities, Abilities)


class _Page(BaseHTTPRequestHandler):
    """Answers as its server says."""

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        status, headers, body = self.server.said  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Any:
    """A web server on loopback: set ``said``, see ``heard``."""
    server = HTTPServer(("127.0.0.1", 0), _Page)
    server.heard, server.url = [], f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ((200, {}, b'ptr_pic_in_flight{pic="a"} 3.0\n'), ""),
        ((401, {}, b""), "does not take the token"),
        ((500, {}, b""), "status 500"),
        ((302, {"Location": "/elsewhere"}, b""), "status 302"),
        ((200, {}, b'ptr_pic_in_flight{pic="a" 3.0 {{{\n'), "is no worker"),
        ((200, {}, b"\xff\xfe<html>"), "is no worker"),
    ],
)
def test_what_a_worker_does_not_tell_is_said(site: Any, said: Any, trouble: str) -> None:
    """Each in a sentence that names the worker, and never the token; the token goes to no other address."""
    site.said = said
    told = ask([site.url], "secret-1")
    assert ("a" in told.calls and told.calls["a"].in_flight == 3) == (not trouble)
    assert len(told.troubles) == bool(trouble)
    assert all(trouble in each and site.url in each and "secret-1" not in each for each in told.troubles)
    assert site.heard == [("/metrics", "Bearer secret-1")]


def test_workers_are_not_asked_in_vain() -> None:
    """Nobody named, no token, nobody there: what is missing is said."""
    assert "--worker" in ask([], "t").troubles[0]
    assert "PTR_WEB_TOKEN" in ask(["http://127.0.0.1:9"], "").troubles[0]
    assert "does not answer" in ask(["http://127.0.0.1:9"], "t").troubles[0]
    assert "does not answer" in ask(["127.0.0.1"], "t").troubles[0]


# -- what needs a person ----------------------------------------------------------------------------------------------


def a_case(operation_id: str = "", answered: bool = False, attempt: int = 1) -> Case:
    """Something that is parked."""
    parked = PaymentParked(
        event_id=f"t1|p1|{operation_id}|{attempt}|unknowable",
        tenant="t1",
        payment_id="p1",
        operation_id=operation_id,
        kind="refund" if operation_id else "payment",
        attempt=attempt,
        pic="bank",
        reason="unknowable",
        amount_minor=1250,
        currency="EUR",
        parked_at_ms=1,
    )
    case = Case(parked, 1)
    if answered:
        case.answer = decided(case, "failed", who="mo", why="seen", at_ms=2)
    return case


def test_a_persons_word_is_news_of_the_attempt_that_is_parked() -> None:
    """Everything by hand: PIC and attempt are those of the parked one."""
    news = decided(a_case("r1", attempt=3), "succeeded", who="mo", why="seen in the portal", reference="A-1", at_ms=9)
    assert news == PaymentNotified(
        event_id="t1|p1|r1|3|person|9",
        source="person",
        who="mo",
        why="seen in the portal",
        pic="bank",
        tenant="t1",
        payment_id="p1",
        operation_id="r1",
        attempt=3,
        outcome="paid",
        pic_reference="A-1",
        occurred_at_ms=9,
    )
    words = {word: decided(a_case(), word, who="mo", why="w").outcome for word in ("succeeded", "failed", "unsent")}
    assert words == {"succeeded": "paid", "failed": "declined", "unsent": "unsent"}


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"why": "card 4111111111111111"}, "--why holds what looks like a card number"),
        ({"reference": "4111111111111111"}, "--reference holds"),
        ({"who": ""}, "--by must be"),
        ({"reference": "a\tb"}, "--reference must be"),
    ],
)
def test_a_word_that_cannot_be_kept_is_refused(named: dict[str, str], says: str) -> None:
    """It would be in the topics and the audit tables for ever."""
    with pytest.raises(DecisionError, match=says):
        decided(a_case(), "failed", **({"who": "mo", "why": "w"} | named))


def test_a_word_is_about_what_is_parked_and_not_answered() -> None:
    """What else there is, is said."""
    payment, refund, done = a_case(), a_case("r1"), a_case("r2", answered=True)
    assert find_case([payment, refund, done], "t1", "p1", "") is payment
    assert find_case([payment, refund, done], "t1", "p1", "r1") is refund
    for cases, operation, says in (
        ([refund, done], "", "of that payment there is: r1"),
        ([done], "r2", "was answered already"),
        ([], "", "nothing of payment p1 of t1 is parked"),
    ):
        with pytest.raises(DecisionError, match=says):
            find_case(cases, "t1", "p1", operation)
