"""Each shell alone: what goes in, what comes out, under which key, and what a repeat, a conflict or a wrong key does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from connectors.exceptions.book import EFFECTIVE_DELAY_MS
from connectors.exceptions.evidence import granted_from
from connectors.pic.base import UNKNOWN, Answer, Call
from connectors.pic.simulator import Simulator
from pipeline import topics
from pipeline.stages.attempts import Attempts
from pipeline.stages.features import FEATURE_SET, PAYER_FEATURES
from pipeline.stages.fraud_library import LIBRARY_VERSION
from pipeline.stages.parties import ERASURE_DELAY_MS
from pipeline.stages.profiles import HOUR_MS, Profile
from pipeline.stages.reviews import Reviews
from schemas.codec import decode_request, encode_request
from schemas.identity import attempt_id, partition_of, payer_key, payment_key
from schemas.records import (
    ErasureRequested,
    PartyErased,
    PartyFlagged,
    PartySeen,
    PaymentAnswered,
    PaymentCompleted,
    PaymentEnded,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentRequested,
    PaymentScored,
    PaymentScreened,
    ReviewAnswered,
    ReviewDecided,
    ReviewOpened,
)
from tables import attempts, parties, profiles, reviews
from tables.payments import NAME as PAYMENTS
from tables.payments import PaymentRow
from tests.builders import a_request
from tests.simulation.world import NOW_MS, PARTITIONS
from tests.stream.events import KEY, PAYEE, a_chargeback, a_fact, an_answer
from tests.stream.shell import CODEC, LISTED, Shell, written_to

WRONG_KEY = b"somebody else"


# -- screening --------------------------------------------------------------------------------------------------------


def test_screening_passes_a_request_on() -> None:
    """Under the payment's key, with the coordinates of the request, its time of receipt, and the PTR as it came."""
    shell, request = Shell("screening"), a_request()
    kept = shell.ask(request)
    shell.run()
    ((key, event),) = shell.out(topics.SCREENED.name, PaymentScreened)
    assert key == KEY
    assert (event.sender_partition, event.sender_offset) == (kept.partition, kept.offset)
    assert (event.outcome, event.rule_version, event.received_at_ms) == ("clear", 1, NOW_MS)
    assert event.request == encode_request(request)
    assert (event.country, event.debtor_country) == (request.locality.country, request.debtor.country)
    assert written_to(shell) == {topics.REQUESTED.name, topics.SCREENED.name, topics.PARTIES_SEEN.name}


def test_screening_tells_of_parties_once() -> None:
    """Payer and payee of a payment that was screened, under their own keys; of the next payment only who changed."""
    shell = Shell("screening")
    shell.ask(a_request())
    shell.ask(a_request(payment_id="p2", creditor_name="Corner Shop Ltd"))
    shell.ask(a_request(payment_id="p3", amount_minor=0, debtor_id="d9"))
    shell.run()
    told = sorted(shell.out(topics.PARTIES_SEEN.name, PartySeen), key=lambda each: (each[1].party_id, each[1].name))
    assert [(key, event.name, event.list_version, event.seen_at_ms) for key, event in told] == [
        (b"t1|c1", "Corner Shop", "test", NOW_MS),
        (b"t1|c1", "Corner Shop Ltd", "test", NOW_MS),
        (b"t1|d1", "Ada Lovelace", "test", NOW_MS),
    ]


def test_screening_ends_who_is_listed() -> None:
    """The event says blocked, with its evidence, and settlement is told."""
    shell = Shell("screening")
    shell.ask(a_request(debtor_name=LISTED))
    shell.run()
    ((_, event),) = shell.out(topics.SCREENED.name, PaymentScreened)
    ((key, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (event.outcome, event.evidence.entry_id) == ("blocked", "1")
    assert (key, ended.outcome, ended.reason, ended.request_kind) == (
        KEY,
        "blocked",
        "party_on_sanctions_list",
        "first",
    )
    assert LISTED not in ended.detail


def test_screening_refuses_without_screening() -> None:
    """What is no payment is not screened: one end, no PaymentScreened, and the row knows it."""
    shell = Shell("screening")
    shell.ask(a_request(amount_minor=0))
    shell.run()
    ((_, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (ended.outcome, ended.reason) == ("refused", "amount_not_positive")
    assert shell.rows(PAYMENTS, PaymentRow)[KEY].reason == "amount_not_positive"
    assert topics.SCREENED.name not in written_to(shell)


def test_a_repeat_is_told_to_settlement_and_a_conflict_names_what_differs() -> None:
    """The same id: same content is a repeat; other content is refused under the hash of that content."""
    shell = Shell("screening")
    for request in (a_request(), a_request(), a_request(amount_minor=1), a_request(creditor_id="c2", currency="USD")):
        shell.ask(request)
    shell.run()
    assert len(shell.out(topics.SCREENED.name, PaymentScreened)) == 1
    ended = [event for _, event in shell.out(topics.ENDED.name, PaymentEnded)]
    assert [event.request_kind for event in ended] == ["repeat", "conflict", "conflict"]
    assert [event.detail for event in ended] == ["", "differs in amount", "differs in amount, creditor"]
    assert ended[1].request_id != ended[2].request_id


def test_screening_drops_what_it_handled_before_a_crash() -> None:
    """Read again from the beginning with its rows: nothing comes out a second time."""
    shell = Shell("screening")
    shell.ask(a_request())
    shell.ask(a_request(payment_id="p2"))
    shell.run()
    shell.again()
    assert len(shell.out(topics.SCREENED.name, PaymentScreened)) == 2
    assert shell.out(topics.ENDED.name, PaymentEnded) == []


@pytest.mark.parametrize("wrong", ["key", "partition"])
def test_a_wrong_key_or_partition_is_posted_again_once_and_counted(wrong: str) -> None:
    """Under the right key, in its partition; then it is handled as any other, with the new coordinates."""
    shell, right = Shell("screening"), partition_of(KEY, PARTITIONS)
    if wrong == "key":
        shell.ask(a_request(), key=WRONG_KEY, partition=right)
    else:
        shell.ask(a_request(), partition=1 - right)
    shell.run()
    ((_, event),) = shell.out(topics.SCREENED.name, PaymentScreened)
    posted = [kept for kept in shell.world.broker.all(topics.REQUESTED.name) if kept.headers]
    assert [(kept.key, kept.partition) for kept in posted] == [(KEY, right)]
    assert (event.sender_partition, event.sender_offset) == (posted[0].partition, posted[0].offset)
    assert shell.reposted("screening") == 1


def test_still_wrong_after_that_is_a_dead_letter() -> None:
    """It is not posted for ever."""
    shell = Shell("screening")
    shell.world.broker.append(
        topics.REQUESTED.name, CODEC.encode(a_request()), WRONG_KEY, headers=[("ptr-reposted", b"0:0")]
    )
    shell.run()
    assert [letter.error for letter in shell.letters()] == ["wrong_partition_twice"]
    assert shell.reposted("screening") == 0


@pytest.mark.parametrize(
    ("value", "key", "error"),
    [
        (None, KEY, "empty_value"),
        (b"x" * 70_000, KEY, "value_too_large"),
        (b"garbage", KEY, "not_avro"),
        (a_request(), None, "no_key"),
        (a_request(payment_id="4111111111111111"), KEY, "card_number_in_id"),
        (a_request(tenant="4111111111111111"), KEY, "card_number_in_id"),
    ],
)
def test_what_screening_cannot_read_is_a_dead_letter_and_the_next_goes_on(
    value: Any, key: bytes | None, error: str
) -> None:
    """One letter with the coordinates; the payment behind it passes."""
    shell = Shell("screening")
    kept = shell.give(topics.REQUESTED.name, value, key, partition_of(KEY, PARTITIONS))
    shell.ask(a_request())
    shell.run()
    (letter,) = shell.letters()
    assert (letter.topic, letter.partition, letter.offset) == (kept.topic, kept.partition, kept.offset)
    assert (letter.stage, letter.error) == ("screening", error)
    assert len(shell.out(topics.SCREENED.name, PaymentScreened)) == 1


# -- localization -----------------------------------------------------------------------------------------------------


def test_localization_passes_on_keyed_by_payer() -> None:
    """With the coordinates of its own sender, for it has no table: the next one fences."""
    shell = Shell("localization")
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened, sender_partition=1, sender_offset=42), KEY)
    shell.run()
    ((key, event),) = shell.out(topics.LOCALIZED.name, PaymentLocalized)
    assert key == payer_key("t1", "d1")
    assert (event.outcome, event.pic, event.sender_partition, event.sender_offset) == ("accepted", "simulator", 1, 42)
    assert event.request == encode_request(a_request(requested_at_ms=NOW_MS))


def test_localization_ends_what_the_tenant_does_not_take() -> None:
    """Rejected, told to settlement under the payment's key; and still an event, for the story."""
    shell = Shell("localization")
    request = encode_request(a_request(currency="USD"))
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened, currency="USD", request=request), KEY)
    shell.run()
    ((key, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (key, ended.outcome, ended.reason, ended.stage) == (KEY, "rejected", "currency_not_allowed", "localization")
    assert [event.outcome for _, event in shell.out(topics.LOCALIZED.name, PaymentLocalized)] == ["rejected"]


def test_localization_leaves_alone_what_screening_ended() -> None:
    """Nothing comes out."""
    shell = Shell("localization")
    shell.give(topics.SCREENED.name, a_fact(PaymentScreened, outcome="blocked"), KEY)
    shell.run()
    assert written_to(shell) == {topics.SCREENED.name}


# -- payer and payee --------------------------------------------------------------------------------------------------


def test_payer_counts_once_and_passes_on_keyed_by_payee() -> None:
    """An event of the same sender at or below the last one is a repeat: not counted, not passed on."""
    shell, key = Shell("payer"), payer_key("t1", "d1")
    for offset in (5, 5, 6, 4):
        shell.give(topics.LOCALIZED.name, a_fact(PaymentLocalized, sender_offset=offset), key)
    shell.run()
    passed = shell.out(topics.PROFILED.name, PaymentProfiled)
    assert [key for key, _ in passed] == [PAYEE] * 2
    assert [event.payer_features[0] for _, event in passed] == [1, 2]
    assert [event.sender_offset for _, event in passed] == [0, 2]
    assert shell.rows(profiles.PAYERS, Profile)[key].counts == [2]


def test_payer_sees_country_and_card() -> None:
    """What screening promoted for it: the payer's own country, the place of the payment, the card; passed on as it came."""
    shell = Shell("payer")
    for number, token in enumerate(("tok_1", "tok_2")):
        fact = a_fact(PaymentLocalized, sender_offset=number, country="DE", debtor_country="FR", token=token)
        shell.give(topics.LOCALIZED.name, fact, payer_key("t1", "d1"))
    shell.run()
    events = [event for _, event in shell.out(topics.PROFILED.name, PaymentProfiled)]
    facts = [dict(zip(PAYER_FEATURES, event.payer_features, strict=True)) for event in events]
    assert [(each["country_mismatch"], each["payee_new"], each["cards_1d"]) for each in facts] == [(1, 1, 1), (1, 0, 2)]
    assert {(event.debtor_country, event.feature_set) for event in events} == {("FR", FEATURE_SET)}


def test_payee_scores_keyed_by_payment_again() -> None:
    """With the payee's features, the score, and the coordinates of the record it handled."""
    shell, key = Shell("payee"), PAYEE
    for offset in (0, 0):
        shell.give(topics.PROFILED.name, a_fact(PaymentProfiled, sender_offset=offset), key)
    shell.run()
    ((at, event),) = shell.out(topics.SCORED.name, PaymentScored)
    assert (at, event.outcome, event.fee_minor) == (KEY, "approved", 7)
    assert event.payee_features[:3] == [1, 1, 1]
    said = (event.reason, event.score, event.score_reasons, event.rule_hits, event.rule_library, event.rule_score)
    assert said == ("", 0.0, [], [], LIBRARY_VERSION, 0.0)
    of_models = (event.model, event.model_score, event.model_failure, event.challenger, event.challenger_score)
    assert (*of_models, event.effects) == ("", 0.0, "", "", 0.0, [])
    assert shell.rows(profiles.PAYEES, Profile)[key].counts == [1]


def test_a_chargeback_counts_once_per_payment() -> None:
    """Whoever posts it how often, in the hour in which it was paid; chargebacks come out nowhere."""
    shell, key = Shell("payee"), PAYEE
    for chargeback in (a_chargeback(), a_chargeback(), a_chargeback(payment_id="p2")):
        shell.give(topics.CHARGEBACKS.name, chargeback, key)
    shell.run()
    shell.again()
    row = shell.rows(profiles.PAYEES, Profile)[key]
    assert (row.hours, row.chargebacks) == ([NOW_MS // HOUR_MS - 1], [2])
    assert written_to(shell) == {topics.CHARGEBACKS.name}


def test_a_chargeback_under_a_wrong_key_is_posted_again_once() -> None:
    """And then counted, under the payee's key."""
    shell = Shell("payee")
    shell.give(topics.CHARGEBACKS.name, a_chargeback(), WRONG_KEY)
    shell.run()
    assert shell.rows(profiles.PAYEES, Profile)[PAYEE].chargebacks == [1]
    assert shell.reposted("chargebacks") == 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "empty_value"),
        (b"x" * 70_000, "value_too_large"),
        (b"garbage", "not_avro"),
        (a_chargeback(creditor_id="a b"), "no_payment_id"),
        (a_chargeback(paid_at_ms=NOW_MS + 10 * HOUR_MS), "unreadable_value"),
        (a_chargeback(paid_at_ms=-1), "unreadable_value"),
    ],
)
def test_a_bad_chargeback_is_a_dead_letter(value: Any, error: str) -> None:
    """A time in the future would age everything that is kept."""
    shell = Shell("payee")
    shell.give(topics.CHARGEBACKS.name, value, PAYEE)
    shell.run()
    assert [(letter.stage, letter.error) for letter in shell.letters()] == [("chargebacks", error)]


# -- dispatch, ending, settlement -------------------------------------------------------------------------------------


def test_dispatch_queues_the_first_ask_once() -> None:
    """On the PIC's queue under the payment's key, with the coordinates of the scored record; a second one is a repeat."""
    shell = Shell("dispatch")
    kept = shell.give(topics.SCORED.name, a_fact(PaymentScored), KEY)
    shell.give(topics.SCORED.name, a_fact(PaymentScored), KEY)
    shell.run()
    ((key, queued),) = shell.out(topics.queue("simulator").name, PaymentQueued)
    assert (key, queued.attempt, queued.ask, queued.fee_minor) == (KEY, 1, 0, 7)
    assert (queued.sender_partition, queued.sender_offset) == (kept.partition, kept.offset)
    assert shell.rows(attempts.NAME, Attempts)[KEY].state == "queued"


def test_settlement_completes_once() -> None:
    """The first explicit word is the outcome; a second answer changes nothing."""
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored), KEY)
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(), KEY)
    shell.give(topics.ANSWERED.name, an_answer(outcome="declined"), KEY)
    shell.run()
    ((key, event),) = shell.out(topics.COMPLETED.name, PaymentCompleted)
    assert (key, event.event_id, event.outcome, event.pic_reference, event.attempts) == (
        KEY,
        "t1|p1|completed",
        "paid",
        "sim-1",
        1,
    )


def test_settlement_asks_again_on_the_retry_topic() -> None:
    """An unknown answer is asked for after the first delay, as the next ask of the same attempt."""
    shell = Shell("dispatch")
    shell.give(topics.SCORED.name, a_fact(PaymentScored), KEY)
    shell.run()
    shell.give(topics.ANSWERED.name, an_answer(outcome="pending"), KEY)
    shell.run()
    first_delay_s, first_topic = topics.RETRY_DELAYS_S[0], topics.retries("simulator")[0].name
    ((_, queued),) = shell.out(first_topic, PaymentQueued)
    assert (queued.attempt, queued.ask, queued.not_before_ms) == (1, 1, NOW_MS + 1000 * first_delay_s)
    assert shell.out(topics.COMPLETED.name, PaymentCompleted) == []


def test_ending_answers_first_repeat_and_conflict() -> None:
    """One outcome; a repeat gets it again, marked; a conflict is refused under an event id of its own."""
    shell = Shell("dispatch")
    ended = PaymentEnded(
        sender_partition=0,
        sender_offset=0,
        rule_version=1,
        outcome="blocked",
        reason="party_on_sanctions_list",
        stage="screening",
        request_kind="first",
        requested_at_ms=NOW_MS,
        amount_minor=1,
        currency="EUR",
        tenant="t1",
        payment_id="p1",
        received_at_ms=NOW_MS,
    )
    conflict = {"outcome": "refused", "reason": "conflicting_request", "request_kind": "conflict", "request_id": "ff"}
    for event in (
        ended,
        msgspec.structs.replace(ended, request_kind="repeat"),
        msgspec.structs.replace(ended, **conflict),
    ):
        shell.give(topics.ENDED.name, event, KEY)
    shell.run()
    events = [event for _, event in shell.out(topics.COMPLETED.name, PaymentCompleted)]
    assert [(event.event_id, event.outcome, event.repeat) for event in events] == [
        ("t1|p1|completed", "blocked", False),
        ("t1|p1|completed", "blocked", True),
        ("t1|p1|refused|ff", "refused", False),
    ]


def test_dispatch_sends_what_fraud_referred_to_the_reviews() -> None:
    """The event as it came, no outcome; a repeat of the request goes there too, and what a review approved is queued."""
    shell = Shell("dispatch")
    scored = a_fact(PaymentScored, outcome="referred", reason="fraud_score_raised")
    shell.give(topics.SCORED.name, scored, KEY)
    shell.run()
    repeat = ended_of_request("repeat", outcome="refused")
    shell.give(topics.ENDED.name, repeat, KEY)
    shell.run()
    kept = shell.world.broker.all(topics.REFERRED.name)
    assert [(record.key, record.value) for record in kept] == [
        (KEY, CODEC.encode(scored)),
        (KEY, CODEC.encode(repeat)),
    ]
    assert shell.rows(attempts.NAME, Attempts)[KEY].state == "referred"
    approved = msgspec.structs.replace(scored, outcome="approved", reason="review_approved")
    shell.give(topics.SCORED.name, msgspec.structs.replace(approved, reason=""), KEY)
    shell.run()
    assert shell.rows(attempts.NAME, Attempts)[KEY].state == "referred"
    shell.give(topics.SCORED.name, approved, KEY)
    shell.run()
    assert len(shell.out(topics.queue("simulator").name, PaymentQueued)) == 1
    assert shell.out(topics.COMPLETED.name, PaymentCompleted) == []


def test_a_repeat_of_what_screening_referred_goes_to_the_reviews() -> None:
    """They know whether it waits; settlement has no outcome to repeat, and answers both when there is one."""
    shell = Shell("dispatch")
    repeat = ended_of_request("repeat", outcome="referred")
    shell.give(topics.ENDED.name, repeat, KEY)
    shell.give(topics.ENDED.name, ended_of_request("repeat", outcome="refused"), KEY)
    shell.run()
    assert shell.out(topics.REFERRED.name, PaymentEnded) == [(KEY, repeat)]
    assert shell.rows(attempts.NAME, Attempts)[KEY].asked_again
    assert topics.COMPLETED.name not in written_to(shell)


def ended_of_request(kind: str, **named: str) -> PaymentEnded:
    """What screening says of a second request."""
    fields: dict[str, Any] = {
        "sender_partition": 0,
        "sender_offset": 0,
        "rule_version": 0,
        "outcome": "refused",
        "stage": "screening",
        "requested_at_ms": NOW_MS,
        "amount_minor": 1,
        "currency": "EUR",
        "tenant": "t1",
        "payment_id": "p1",
        "received_at_ms": NOW_MS,
    }
    return PaymentEnded(request_kind=kind, **(fields | named))


# -- reviews ----------------------------------------------------------------------------------------------------------


def a_word(decision: str, **named: Any) -> ReviewDecided:
    """A person's decision."""
    fields = {"tenant": "t1", "payment_id": "p1", "stage": "screening", "by": "rita", "reason": "looked at it"}
    return ReviewDecided(decision=decision, decided_at_ms=NOW_MS, **(fields | named))


def a_referral() -> PaymentScreened:
    return a_fact(PaymentScreened, outcome="referred", reason="party_resembles_listed", received_at_ms=NOW_MS)  # type: ignore[no-any-return]


def test_screening_refers_without_ending() -> None:
    """The event goes to localization's topic, where it is passed over, and to the reviews; settlement is told nothing."""
    shell = Shell("screening")
    shell.ask(a_request(debtor_name=f"{LISTED}d"))
    shell.run()
    ((_, event),) = shell.out(topics.SCREENED.name, PaymentScreened)
    assert (event.outcome, event.evidence.listed_name) == ("referred", LISTED)
    assert shell.out(topics.REFERRED.name, PaymentScreened) == [(KEY, event)]
    assert topics.ENDED.name not in written_to(shell)


def test_reviews_open_once_and_tell_a_repeat_again() -> None:
    """One event for a referral that is read twice; a repeat of the request is told the same, marked."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.give(topics.REFERRED.name, ended_of_request("repeat", outcome="referred"), KEY)
    shell.run()
    shell.again()
    opened = shell.out(topics.REVIEWS_OPENED.name, ReviewOpened)
    assert [(key, event.repeat) for key, event in opened] == [(KEY, False), (KEY, True), (KEY, True)]
    assert len({event.event_id for _, event in opened}) == 1
    assert opened[0][1].due_at_ms == NOW_MS + 72 * HOUR_MS
    assert shell.rows(reviews.NAME, Reviews)[KEY].due_at_ms == NOW_MS + 72 * HOUR_MS


@pytest.mark.parametrize(("decision", "topic"), [("approve", topics.SCREENED), ("reject", topics.ENDED)])
def test_reviews_carry_a_decision_out_once(decision: str, topic: topics.Topic) -> None:
    """On to the topic that the event came from, or to settlement; a second word is answered and changes nothing."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.run()
    shell.give(topics.REVIEWS_DECIDED.name, a_word(decision), KEY)
    shell.give(topics.REVIEWS_DECIDED.name, a_word("approve", by="late"), KEY)
    shell.run()
    shell.world.broker.now_ms += 100 * HOUR_MS
    shell.run()
    assert len(shell.world.broker.all(topics.REVIEWS_DECIDED.name)) == 2, "its time came, and it was decided before"
    shell.again()
    assert len(shell.world.broker.all(topic.name)) == 1
    answers = [event for _, event in shell.out(topics.REVIEWS_ANSWERED.name, ReviewAnswered)]
    assert {(event.decision, event.ignored, event.by) for event in answers} == {
        (decision, "", "rita"),
        ("approve", "already_decided", "late"),
    }
    assert written_to(shell) == {
        topics.REFERRED.name,
        topics.REVIEWS_DECIDED.name,
        topics.REVIEWS_OPENED.name,
        topics.REVIEWS_ANSWERED.name,
        topic.name,
    }


def test_a_payment_is_reviewed_twice_one_after_the_other() -> None:
    """Screening's review approved, then fraud's rejected: each event goes where its stage left it, each word once."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.run()
    shell.give(topics.REVIEWS_DECIDED.name, a_word("approve"), KEY)
    shell.run()
    shell.give(topics.REFERRED.name, a_fact(PaymentScored, outcome="referred", reason="fraud_score_raised"), KEY)
    shell.run()
    assert shell.rows(reviews.NAME, Reviews)[KEY].due_at_ms > 0
    shell.give(topics.REVIEWS_DECIDED.name, a_word("reject", stage="payee"), KEY)
    shell.run()
    shell.again()
    ((_, resumed),) = shell.out(topics.SCREENED.name, PaymentScreened)
    ((_, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (resumed.outcome, resumed.sender_partition) == ("clear", 1_000_000 + partition_of(KEY, PARTITIONS))
    assert (ended.outcome, ended.reason, ended.detail) == ("declined", "review_rejected", "payee: fraud_score_raised")
    assert [event.stage for _, event in shell.out(topics.REVIEWS_OPENED.name, ReviewOpened)] == ["screening", "payee"]
    assert shell.rows(reviews.NAME, Reviews)[KEY].due_at_ms == 0


def test_screening_clears_what_the_tenant_excepted() -> None:
    """The event says clear, which match it was and by which exception; nothing is referred and nothing ends."""
    shell = Shell("screening")
    shell.ask(a_request(debtor_name=LISTED))
    shell.run()
    ((_, blocked),) = shell.out(topics.SCREENED.name, PaymentScreened)
    event = {"evidence": msgspec.to_builtins(blocked.evidence), "request": {"debtor": {"id": "d1"}}}
    granted = granted_from(event, tenant="t1", days=1, by="rita", reason="seen", at_ms=NOW_MS)
    assert shell.exceptions.apply(granted, NOW_MS - EFFECTIVE_DELAY_MS)
    shell.ask(a_request(payment_id="p2", debtor_name=LISTED))
    shell.run()
    (after,) = [event for key, event in shell.out(topics.SCREENED.name, PaymentScreened) if event.payment_id == "p2"]
    assert (after.outcome, after.reason) == ("clear", "exception_applied")
    assert after.evidence.exception_id == f"test|1|d1|{NOW_MS}"
    assert topics.REFERRED.name not in written_to(shell)
    assert len(shell.out(topics.ENDED.name, PaymentEnded)) == 1


def test_nobody_decides_another_tenants_review() -> None:
    """The tenant in the record is the one whose row it reaches: under another's key it is posted again under its own."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.run()
    shell.give(topics.REVIEWS_DECIDED.name, a_word("approve", tenant="t2"), KEY)
    shell.run()
    assert topics.SCREENED.name not in written_to(shell)
    assert shell.reposted("deciding") == 1
    ((key, answer),) = shell.out(topics.REVIEWS_ANSWERED.name, ReviewAnswered)
    assert (key, answer.tenant, answer.ignored) == (payment_key("t2", "p1"), "t2", "no_review")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"", "empty_value"),
        (b"junk", "not_avro"),
        (b"x" * 70_000, "value_too_large"),
        (a_word("maybe"), "invalid_decision"),
        (a_word("approve", reason="pan 4111111111111111"), "card_number_in_text"),
    ],
)
def test_a_bad_decision_is_a_dead_letter_and_the_next_counts(value: Any, error: str) -> None:
    """Nothing of it reaches an event, and no card number a letter."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.run()
    shell.give(topics.REVIEWS_DECIDED.name, value, KEY)
    shell.give(topics.REVIEWS_DECIDED.name, a_word("approve"), KEY)
    shell.run()
    (letter,) = shell.letters()
    assert (letter.error, letter.stage) == (error, "deciding")
    assert b"4111" not in (letter.value or b"")
    assert len(shell.out(topics.SCREENED.name, PaymentScreened)) == 1


def test_time_ends_what_nobody_decides_also_after_a_restart() -> None:
    """The due time is read from the stored row; before it nothing is posted."""
    shell = Shell("reviews")
    shell.give(topics.REFERRED.name, a_referral(), KEY)
    shell.run()
    for name in list(shell.world.processes):
        shell.world.kill(name)
    shell.world.broker.now_ms += 72 * HOUR_MS - 1
    shell.run()
    assert topics.REVIEWS_DECIDED.name not in written_to(shell)
    shell.world.broker.now_ms += 1
    shell.run()
    ((_, ended),) = shell.out(topics.ENDED.name, PaymentEnded)
    assert (ended.outcome, ended.reason, ended.stage) == ("blocked", "review_expired", "reviews")


# -- plugin -----------------------------------------------------------------------------------------------------------


def test_plugin_calls_once_for_each_intent_and_answers_keyed_by_payment() -> None:
    """The second of two equal intents is dropped by the queue's fence; the call carries the attempt id."""
    shell, queue = Shell("plugin"), topics.queue("simulator").name
    for offset in (3, 3):
        shell.give(queue, a_fact(PaymentQueued, sender_offset=offset), KEY)
    shell.run()
    ((key, answer),) = shell.out(topics.ANSWERED.name, PaymentAnswered)
    assert (key, answer.outcome, answer.attempt, answer.ask, answer.called) == (KEY, "paid", 1, 0, True)
    assert {attempt: entry.calls for attempt, entry in shell.ledger.entries().items()} == {attempt_id("t1", "p1", 1): 1}


def test_plugin_tells_the_pic_to_challenge() -> None:
    """The intent's challenge is the call's: a payer who cannot prove who they are is declined."""
    shell, queue = Shell("plugin"), topics.queue("simulator").name
    for number, challenge in enumerate((False, True)):
        token = f"tok_unproved_{number}"
        queued = a_fact(PaymentQueued, sender_offset=number, payment_id=f"p{number}", token=token, challenge=challenge)
        shell.give(queue, queued, payment_key("t1", f"p{number}"))
    shell.run()
    answers = {event.payment_id: event.outcome for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)}
    assert answers == {"p0": "paid", "p1": "declined"}


@pytest.mark.parametrize(
    ("token", "outcome", "reason"),
    [
        ("tok_1", "paid", ""),
        ("tok_decline_stolen_card", "declined", "stolen_card"),
        ("tok_lost", "pending", "pic_answer_unknown"),
        ("tok_throttled", "unsent", "try_again_later"),
        ("tok_refused", "unsent", "not_sent"),
        ("tok_challenge", "requires_action", "challenge"),
    ],
)
def test_plugin_says_what_the_pic_said(token: str, outcome: str, reason: str) -> None:
    """What is not done for sure, and what waits for the payer, is asked about again."""
    shell = Shell("plugin")
    shell.give(topics.queue("simulator").name, a_fact(PaymentQueued, token=token), KEY)
    shell.run()
    ((_, answer),) = shell.out(topics.ANSWERED.name, PaymentAnswered)
    assert (answer.outcome, answer.reason) == (outcome, reason)


def test_plugin_looks_up_what_an_earlier_owner_may_have_called() -> None:
    """After a crash before anything was stored the intent is looked up, found, and not called again."""
    shell, queue = Shell("plugin"), topics.queue("simulator").name
    shell.give(queue, a_fact(PaymentQueued), KEY)
    shell.run()
    for disk in shell.world.disks.values():
        disk.rows.clear()
    shell.world.broker.logs = type(shell.world.broker.logs)(
        list, {at: log for at, log in shell.world.broker.logs.items() if ".table." not in at[0]}
    )
    for disk in shell.world.disks.values():
        disk.offset = -1
    shell.again()
    answers = [event for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)]
    assert [answer.called for answer in answers] == [True, False]
    assert [entry.calls for entry in shell.ledger.entries().values()] == [1]


@pytest.mark.parametrize(
    ("looks_up", "deduplicates", "calls", "outcome"),
    [(True, True, 1, "paid"), (True, False, 1, "paid"), (False, True, 2, "paid"), (False, False, 1, "unknowable")],
)
def test_what_may_have_been_called_is_asked_about_as_the_pic_allows(
    monkeypatch: pytest.MonkeyPatch, looks_up: bool, deduplicates: bool, calls: int, outcome: str
) -> None:
    """An answer is lost: looked up where that works, otherwise repeated under its key; where neither works, not called."""

    class Limited(Simulator):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            self.abilities = msgspec.structs.replace(self.abilities, looks_up=looks_up, deduplicates=deduplicates)

        async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
            return await super().look_up(calls) if looks_up else [UNKNOWN] * len(calls)

    monkeypatch.setattr("tests.stream.shell.Simulator", Limited)
    shell = Shell("plugin")
    shell.give(topics.queue("simulator").name, a_fact(PaymentQueued, token="tok_lost"), KEY)
    shell.give(topics.retries("simulator")[0].name, a_fact(PaymentQueued, token="tok_lost", ask=1), KEY)
    shell.run()
    answers = {event.ask: event.outcome for _, event in shell.out(topics.ANSWERED.name, PaymentAnswered)}
    assert answers == {0: "pending" if looks_up or deduplicates else "unknowable", 1: outcome}
    assert [entry.calls for entry in shell.ledger.entries().values()] == [calls]


def test_plugin_gives_up_what_it_cannot_read_and_serves_the_rest() -> None:
    """A dead letter, and the intent behind it is called."""
    shell, queue = Shell("plugin"), topics.queue("simulator").name
    shell.give(queue, b"garbage", KEY)
    shell.give(queue, a_fact(PaymentQueued), KEY)
    shell.run()
    assert [letter.error for letter in shell.letters()] == ["not_avro"]
    assert len(shell.out(topics.ANSWERED.name, PaymentAnswered)) == 1


def test_a_request_decodes_from_what_travels() -> None:
    """The PTR inside an event is the one that was posted."""
    shell = Shell("screening")
    shell.ask(a_request(metadata={"k": "ü"}))
    shell.run()
    ((_, event),) = shell.out(topics.SCREENED.name, PaymentScreened)
    decoded: PaymentRequested = decode_request(event.request)
    assert decoded == a_request(metadata={"k": "ü"})


# -- parties ----------------------------------------------------------------------------------------------------------


def a_sighting(name: str, list_version: str = "test", seen_at_ms: int = NOW_MS) -> PartySeen:
    return PartySeen(
        tenant="t1", party_id="d1", name=name, country="DE", list_version=list_version, seen_at_ms=seen_at_ms
    )


def test_a_party_screened_by_other_lists_is_screened_at_once() -> None:
    """Its payment came before the list, its sighting after: one event, that names nobody; a repeat is none."""
    shell = Shell("parties")
    shell.run()  # The lists in force are known to be held against everybody.
    shell.give(topics.PARTIES_SEEN.name, a_sighting(LISTED, "before"), b"t1|d1")
    shell.run()
    ((key, event),) = shell.out(topics.PARTIES_FLAGGED.name, PartyFlagged)
    assert key == b"t1|d1"
    assert (event.tenant, event.party_id, event.list, event.entry_id, event.score) == ("t1", "d1", "test", "1", 1.0)
    assert LISTED not in repr(event)
    shell.give(topics.PARTIES_SEEN.name, a_sighting(LISTED, "before"), b"t1|d1")
    shell.again()
    assert len(shell.out(topics.PARTIES_FLAGGED.name, PartyFlagged)) == 1


def test_a_party_screened_by_the_lists_in_force_is_only_kept() -> None:
    """Its payment was blocked or referred already."""
    shell = Shell("parties")
    shell.run()
    shell.give(topics.PARTIES_SEEN.name, a_sighting(LISTED), b"t1|d1")
    shell.run()
    assert shell.out(topics.PARTIES_FLAGGED.name, PartyFlagged) == []
    rows = shell.rows(parties.NAME, parties.PartyRow)
    assert rows[b"t1|d1"].name == LISTED
    assert rows[parties.PROGRESS].progress == parties.Progress(done="test")


def an_erasure(erasure_id: str = "e1", party_id: str = "d1") -> ErasureRequested:
    return ErasureRequested(tenant="t1", party_id=party_id, erasure_id=erasure_id, by="dpo", requested_at_ms=1)


def test_an_erased_party_is_in_no_row_and_answered_without_its_id() -> None:
    """A tombstone in the changelog; told once, whatever is repeated; who was not known is told as that."""
    shell = Shell("parties")
    shell.give(topics.PARTIES_SEEN.name, a_sighting("Ada Lovelace"), b"t1|d1")
    shell.run()
    shell.give(topics.ERASURES.name, an_erasure(), b"t1|d1")
    shell.run()
    log = [record for record in shell.world.broker.all(parties.CHANGELOG) if record.key == b"t1|d1"]
    assert [record.value is None for record in log] == [False, True]
    rows = shell.rows(parties.NAME, parties.PartyRow)
    assert set(rows) == {parties.PROGRESS, parties.erased_key(b"t1|d1")}
    assert "Ada" not in repr(rows)
    shell.again()
    shell.give(topics.ERASURES.name, an_erasure("e2"), b"t1|d1")
    shell.run()
    said = shell.out(topics.PARTIES_ERASED.name, PartyErased)
    assert [(key, event.found, event.by, event.erased_at_ms) for key, event in said] == [
        (b"t1|e1", True, "dpo", NOW_MS),
        (b"t1|e2", False, "dpo", NOW_MS),
    ]
    assert b"d1" not in b"".join(record.value or b"" for record in shell.world.broker.all(topics.PARTIES_ERASED.name))


def test_an_erased_party_is_known_again_by_a_later_payment_only() -> None:
    """A sighting of before that is read after it changes nothing; the row that comes back wins over the old one in recovery."""
    shell = Shell("parties")
    for name in ("Ada", "Eve", "Ada"):
        shell.give(topics.PARTIES_SEEN.name, a_sighting(name, seen_at_ms=NOW_MS + len(name)), b"t1|d1")
        shell.run()
    before = shell.rows(parties.NAME, parties.PartyRow)[b"t1|d1"].version
    shell.give(topics.ERASURES.name, an_erasure(), b"t1|d1")
    shell.run()
    shell.give(topics.PARTIES_SEEN.name, a_sighting("Late", seen_at_ms=NOW_MS + ERASURE_DELAY_MS - 1), b"t1|d1")
    shell.run()
    assert b"t1|d1" not in shell.rows(parties.NAME, parties.PartyRow)
    shell.give(topics.PARTIES_SEEN.name, a_sighting("New", seen_at_ms=NOW_MS + ERASURE_DELAY_MS), b"t1|d1")
    shell.run()
    row = shell.rows(parties.NAME, parties.PartyRow)[b"t1|d1"]
    assert (row.name, row.version > before) == ("New", True)
    shell.give(topics.ERASURES.name, an_erasure("e2"), b"t1|d1")  # The broker's clock is where it was: it paid since.
    shell.run()
    assert shell.rows(parties.NAME, parties.PartyRow)[b"t1|d1"].erased is None
    assert shell.rows(parties.NAME, parties.PartyRow)[b"t1|d1"].name == "New"


def test_an_erasure_that_came_under_another_key_is_posted_again_and_one_that_is_none_is_a_dead_letter() -> None:
    """Also what is empty, too large, or by nobody."""
    shell = Shell("parties")
    shell.give(topics.PARTIES_SEEN.name, a_sighting("Ada"), b"t1|d1")
    shell.give(topics.ERASURES.name, an_erasure(), b"t1|other")
    shell.run()
    assert shell.reposted("erasing") == 1
    assert b"t1|d1" not in shell.rows(parties.NAME, parties.PartyRow)
    nobody = ErasureRequested(tenant="t1", party_id="d2", erasure_id="e3", by="", requested_at_ms=1)
    for value in (None, b"x" * 70_000, CODEC.encode(nobody)):
        shell.give(topics.ERASURES.name, value, b"t1|d2")
    shell.run()
    assert sorted((letter.stage, letter.error) for letter in shell.letters()) == [
        ("erasing", "empty_value"),
        ("erasing", "invalid_erasure"),
        ("erasing", "value_too_large"),
    ]


def test_a_party_that_cannot_be_read_is_a_dead_letter() -> None:
    """Empty or no record; the table stays as it is."""
    shell = Shell("parties")
    shell.give(topics.PARTIES_SEEN.name, None, b"t1|d1")
    shell.give(topics.PARTIES_SEEN.name, b"garbage", b"t1|d1")
    shell.run()
    assert [letter.stage for letter in shell.letters()] == ["parties", "parties"]
    assert set(shell.rows(parties.NAME, parties.PartyRow)) == {parties.PROGRESS}
