"""Reviews under crashes, repeats, late and double decisions and clocks that are wrong: each payment once, nothing too early.

Screening refers here by itself; what fraud refers is put into its topic, for fraud's decision depends on the payments' order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.context import Context
from connectors.lists.book import ListBook
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.tenants.book import TenantBook
from connectors.tenants.document import document_hash, document_of
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.stage import Group
from pipeline.stages.attempts import Attempts
from pipeline.stages.profiles import HOUR_MS, Profile
from pipeline.stages.reviews import Reviews
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.codec import encode_request
from schemas.identity import attempt_id, payee_key, payer_key, payment_key
from schemas.records import (
    PaymentCompleted,
    PaymentRequested,
    PaymentScored,
    ReviewAnswered,
    ReviewDecided,
    ReviewOpened,
    TenantConfigured,
)
from schemas.tenant_rules import FraudRules, ReviewRules, TenantRules
from tables import attempts, profiles, reviews
from tests.builders import a_request
from tests.simulation.test_exactness import CODEC, rows_of
from tests.simulation.world import NOW_MS, World

LISTED = "Igor Sanctioned"
RESEMBLING = "Igor Sanctionedd"
MINUTE_MS = 60_000
LIMIT_MS = HOUR_MS
#: By tenant, what applies when nobody decides.
AT_EXPIRY = {"t0": "reject", "t1": "approve"}
TENANTS = {
    tenant: TenantRules(
        tenant=tenant,
        pic="simulator",
        currencies=["EUR"],
        fraud=FraudRules(refer_at=1.0, decline_at=1.0),
        review=ReviewRules(hours=1.0, at_expiry=at_expiry),
    )
    for tenant, at_expiry in AT_EXPIRY.items()
}

#: (payment, payer, whether screening refers it); the tenant is the payment's parity, and a repeat is the same triple again.
posts = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1), st.booleans()), min_size=1, max_size=12)
#: Payments that fraud refers.
frauds = st.lists(st.integers(100, 105), max_size=4)
POINTS = ("deliver", "delivered", "store", "ack", "end")
steps = st.tuples(
    st.just("step"),
    st.integers(0, 10),
    st.integers(1, 5),
    st.sampled_from((None, None, *POINTS)),
    st.floats(0, 0.99),
    st.booleans(),
    st.booleans(),
)
decisions = st.tuples(st.just("decide"), st.integers(0, 20), st.sampled_from(["approve", "reject"]))
clocks = st.tuples(st.just("clock"), st.integers(1, 50))
moves = st.lists(st.one_of(steps, steps, steps, decisions, clocks), max_size=70)


def name_of(payment: int) -> tuple[str, str]:
    return f"t{payment % 2}", f"p{payment}"


def request_of(post: tuple[int, int, bool]) -> PaymentRequested:
    payment, payer, refer = post
    tenant, payment_id = name_of(payment)
    return a_request(
        tenant=tenant,
        payment_id=payment_id,
        debtor_id=f"d{payer}",
        debtor_name=RESEMBLING if refer else "Ada Lovelace",
        requested_at_ms=NOW_MS - HOUR_MS,
    )


def scored_of(payment: int) -> PaymentScored:
    tenant, payment_id = name_of(payment)
    request = a_request(tenant=tenant, payment_id=payment_id)
    return PaymentScored(
        sender_partition=0,
        sender_offset=payment,
        rule_version=1,
        outcome="referred",
        payee_features=[],
        score=0.7,
        score_reasons=["payer_velocity"],
        payer_features=[],
        fee_minor=0,
        pic="simulator",
        requested_at_ms=NOW_MS,
        amount_minor=1250,
        tenant=tenant,
        payment_id=payment_id,
        creditor_id="c1",
        currency="EUR",
        debtor_id="d1",
        country="DE",
        method="card",
        token="tok_1",
        received_at_ms=NOW_MS,
        request=encode_request(request),
    )


def make_world(clock_ahead_ms: int) -> tuple[World, MemoryLedger]:
    ledger, book = MemoryLedger(), TenantBook()
    for tenant, rules in TENANTS.items():
        document = document_of(rules)
        configured = TenantConfigured(
            tenant=tenant, version=1, document=document, document_hash=document_hash(document)
        )
        assert book.apply(configured, NOW_MS - 1)
    context = Context(
        codec=CODEC,
        tenants=book,
        lists=ListBook(Watchlists([ListEntry("test", "1", "person", (LISTED,))])),
        pics={"simulator": Simulator("simulator", ledger)},
    )

    def groups() -> list[Group]:
        return [group for named in flow(context).values() for group in named]

    world = World(groups, CODEC)
    world.clock_ahead_ms = clock_ahead_ms
    return world, ledger


def post_decision(world: World, which: int, decision: str) -> None:
    """A person who looks at what is open, or was, and decides."""
    opened = [
        CODEC.decode(record.value or b"", ReviewOpened) for record in world.broker.all(topics.REVIEWS_OPENED.name)
    ]
    if opened:
        review = opened[which % len(opened)]
        decided = ReviewDecided(
            tenant=review.tenant,
            payment_id=review.payment_id,
            stage=review.stage,
            decision=decision,
            by="rita",
            reason="looked at it",
            decided_at_ms=0,
        )
        key = payment_key(review.tenant, review.payment_id)
        world.broker.append(topics.REVIEWS_DECIDED.name, CODEC.encode(decided), key)


async def run(
    requests: list[tuple[int, int, bool]], referred: list[int], drawn: list[tuple[Any, ...]], clock_ahead_ms: int
) -> tuple[World, MemoryLedger]:
    world, ledger = make_world(clock_ahead_ms)
    for post in requests:
        request = request_of(post)
        world.broker.append(
            topics.REQUESTED.name, CODEC.encode(request), payment_key(request.tenant, request.payment_id)
        )
    for payment in referred:
        world.broker.append(topics.SCORED.name, CODEC.encode(scored_of(payment)), payment_key(*name_of(payment)))
    names = list(world.processes)
    for move in drawn:
        match move:
            case ("decide", which, decision):
                post_decision(world, which, decision)
            case ("clock", minutes):
                world.broker.now_ms += minutes * MINUTE_MS
            case (_, number, take, point, share, checkpoint, record):
                crash_at = None if point is None else (point, share)
                await world.step(names[number % len(names)], take, crash_at, checkpoint, record)
    await world.settle()
    # Nobody decides any more: time ends what is still open. Twice, for what a wrong clock posted too early.
    for _ in range(2):
        world.broker.now_ms += LIMIT_MS + abs(clock_ahead_ms)
        await world.settle()
        await world.settle()
    return world, ledger


def recounted(world: World) -> dict[tuple[str, str], str]:
    """Of each payment that was referred, what its review must have ended with, from what went in alone."""
    results = {}
    for record in world.broker.all(topics.REFERRED.name):
        tenant, payment_id = (record.key or b"").decode().split("|")
        if (tenant, payment_id) in results:
            continue  # A repeat of the same.
        due_ms = record.timestamp + LIMIT_MS
        for decision in world.broker.all(topics.REVIEWS_DECIDED.name):
            if decision.key != record.key:
                continue
            decided = CODEC.decode(decision.value or b"", ReviewDecided)
            if decision.timestamp >= due_ms:
                results[tenant, payment_id] = AT_EXPIRY[tenant] + " expired"
                break
            if decided.decision != "expired":
                results[tenant, payment_id] = decided.decision
                break
    return results


def check(
    world: World, ledger: MemoryLedger, requests: list[tuple[int, int, bool]], referred: list[int]
) -> dict[tuple[str, str], str]:
    first: dict[int, tuple[int, int, bool]] = {}
    for post in requests:
        first.setdefault(post[0], post)
    results = recounted(world)
    assert results.keys() == {name_of(n) for n, post in first.items() if post[2]} | {name_of(n) for n in referred}

    expected: dict[tuple[str, str], tuple[str, str]] = {name_of(n): ("paid", "") for n in [*first, *referred]}
    for name, result in results.items():
        if result.startswith("reject"):
            outcome = "declined" if int(name[1][1:]) >= 100 else "blocked"
            expected[name] = (outcome, "review_expired" if result.endswith("expired") else "review_rejected")
    told: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for record in world.broker.all(topics.COMPLETED.name):
        event = CODEC.decode(record.value or b"", PaymentCompleted)
        if event.reason != "conflicting_request":
            told.setdefault((event.tenant, event.payment_id), set()).add((event.outcome, event.reason))
    assert told == {name: {outcome} for name, outcome in expected.items()}

    # Counted once, whether at once or after a review; what screening's review ended was never counted.
    passed = [post for n, post in first.items() if not results.get(name_of(n), "").startswith("reject")]
    hour = NOW_MS // HOUR_MS - 1
    payers = Counter((payer_key(name_of(n)[0], f"d{payer}"), hour) for n, payer, _ in passed)
    payees = Counter((payee_key(name_of(n)[0], "c1", "term-1"), hour) for n, _, _ in passed)
    for table, counts in ((profiles.PAYERS, payers), (profiles.PAYEES, payees)):
        assert counts == Counter(
            {
                (key, at): count
                for key, row in rows_of(world, table, Profile).items()
                for at, count in zip(row.hours, row.counts, strict=True)
            }
        )
    called = {attempt: entry.calls for attempt, entry in ledger.entries().items()}
    assert called == {attempt_id(*name, 1): 1 for name, (outcome, _) in expected.items() if outcome == "paid"}
    states = {key: row.state for key, row in rows_of(world, attempts.NAME, Attempts).items()}
    assert states == {payment_key(*name): "ended" for name in expected}

    # Each review opened and ended once, under ids that do not change; none ended before its time by a worker.
    opened: dict[str, set[ReviewOpened]] = {}
    for record in world.broker.all(topics.REVIEWS_OPENED.name):
        review = CODEC.decode(record.value or b"", ReviewOpened)
        opened.setdefault(f"{review.event_id}|ended", set()).add(review)
    assert all(len({review.opened_at_ms for review in same}) == 1 for same in opened.values())
    ended: dict[str, set[ReviewAnswered]] = {}
    for record in world.broker.all(topics.REVIEWS_ANSWERED.name):
        answer = CODEC.decode(record.value or b"", ReviewAnswered)
        if answer.result != "ignored":
            ended.setdefault(answer.event_id, set()).add(answer)
        else:
            assert (answer.decision, answer.ignored) != ("expired", ""), "a worker's word is never answered as ignored"
    assert ended.keys() == opened.keys()
    for event_id, answers in ended.items():
        (answer,) = answers
        due_at_ms = next(iter(opened[event_id])).due_at_ms
        assert (answer.decision == "expired") == (answer.decided_at_ms >= due_at_ms)
    rows = rows_of(world, reviews.NAME, Reviews)
    assert len(rows) == len(results)
    assert all(not row.due_at_ms and all(review.event == b"" for review in row.reviews) for row in rows.values())
    assert not world.broker.all(topics.DEAD_LETTERS.name)
    return results


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(requests=posts, referred=frauds, drawn=moves, clock_ahead_ms=st.sampled_from([0, -20 * MINUTE_MS, 3 * HOUR_MS]))
def test_whatever_dies_each_review_ends_once_and_each_payment_goes_on_once(
    requests: list[tuple[int, int, bool]], referred: list[int], drawn: list[tuple[Any, ...]], clock_ahead_ms: int
) -> None:
    """Kills at any step, decisions at any time and twice, clocks ahead and behind: outcomes, windows, calls as recounted."""
    world, ledger = asyncio.run(run(requests, referred, drawn, clock_ahead_ms))
    check(world, ledger, requests, referred)


def test_every_group_dies_while_reviews_are_opened_and_decided() -> None:
    """A fixed walk: each group is killed at each point while payments are referred, approved, rejected and expire."""
    requests = [(n, n % 2, n % 2 == 0) for n in range(8)]
    drawn: list[tuple[Any, ...]] = []
    for number, point in enumerate(POINTS * 3):
        drawn += [("step", group, 3, point, 0.4, group % 2 == 0, number % 3 != 1) for group in range(11)]
        drawn += [("decide", 3 * number, "approve" if number % 2 else "reject"), ("clock", 7)]
    world, ledger = asyncio.run(run(requests, [100, 101, 102], drawn, 0))
    assert world.kills > 20
    results = check(world, ledger, requests, [100, 101, 102])
    assert {"approve", "reject"} < set(results.values())
