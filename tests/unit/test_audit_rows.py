"""Audited records to rows."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sinks import rows as rows_module
from connectors.sinks.database import DatabaseError, open_database, shown_url, sqlite_path
from connectors.sinks.rows import (
    EventRow,
    Mapper,
    PaymentState,
    RegistryAwayError,
    dispatch_sequence,
    event_row,
    payment_state,
    tells_state,
)
from connectors.sinks.story import detail_of
from pipeline import topics
from pipeline.topics import audited
from schemas.codec import Codec, encode_request
from schemas.records import (
    ChargebackReceived,
    DeadLetter,
    ListEvidence,
    PaymentAnswered,
    PaymentCompleted,
    PaymentEnded,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    PaymentTerms,
    PicControlled,
    Record,
    RuleHit,
    RuleSnoozed,
    TenantConfigured,
)
from tests.builders import NOON_MS, a_request
from tests.unit.test_inventory import a_movement
from tests.unit.test_invoices import a_change

CODEC = Codec()
TRACE = "0af7651916cd43dd8448eb211c80319c"
#: Everybody's example of a card number (Visa's test number).
CARD_NUMBER = "4111111111111111"
QUEUE = topics.queue("simulator").name


def common(**named: Any) -> dict[str, Any]:
    """Fields that the stages' events share."""
    return {
        "sender_partition": 2,
        "sender_offset": 77,
        "rule_version": 3,
        "requested_at_ms": NOON_MS,
        "amount_minor": 1250,
        "tenant": "t1",
        "payment_id": "p1",
        "creditor_id": "c1",
        "currency": "EUR",
        "debtor_id": "d1",
        "country": "DE",
        "method": "card",
        "token": "tok_1",
        "received_at_ms": NOON_MS + 5,
        "trace_id": TRACE,
        "request": encode_request(a_request()),
    } | named


def screened(**named: Any) -> PaymentScreened:
    return PaymentScreened(**common(outcome="clear", **named))


def localized(**named: Any) -> PaymentLocalized:
    return PaymentLocalized(**common(outcome="accepted", fee_minor=30, pic="simulator", **named))


def profiled(**named: Any) -> PaymentProfiled:
    return PaymentProfiled(**common(outcome="profiled", fee_minor=30, pic="simulator", payer_features=[1], **named))


def scored(**named: Any) -> PaymentScored:
    features = {"payer_features": [1], "payee_features": [2], "score": 0.25, "score_reasons": ["new_payer"]}
    return PaymentScored(**common(outcome="approved", fee_minor=30, pic="simulator", **features, **named))


def queued(attempt: int = 1, ask: int = 0, **named: Any) -> PaymentQueued:
    return PaymentQueued(**common(attempt=attempt, ask=ask, not_before_ms=0, fee_minor=30, pic="simulator", **named))


def answered(attempt: int = 1, ask: int = 0, **named: Any) -> PaymentAnswered:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": "p1",
        "outcome": "pending",
        "answered_at_ms": NOON_MS + 90,
        "called": ask == 0,
        "pic": "simulator",
        "trace_id": TRACE,
    }
    return PaymentAnswered(attempt=attempt, ask=ask, **(fields | named))


def completed(**named: Any) -> PaymentCompleted:
    fields: dict[str, Any] = {
        "event_id": "t1|p1|completed",
        "tenant": "t1",
        "payment_id": "p1",
        "outcome": "paid",
        "stage": "plugin",
        "rule_version": 3,
        "requested_at_ms": NOON_MS,
        "received_at_ms": NOON_MS + 5,
        "amount_minor": 1250,
        "currency": "EUR",
        "fee_minor": 30,
        "score": 0.25,
        "pic": "simulator",
        "pic_reference": "sim-9",
        "attempts": 1,
        "trace_id": TRACE,
    }
    return PaymentCompleted(**(fields | named))


def chargeback(**named: Any) -> ChargebackReceived:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": "p1",
        "creditor_id": "c1",
        "amount_minor": 1250,
        "currency": "EUR",
        "paid_at_ms": NOON_MS,
        "charged_back_at_ms": 1_765_000_000_000,
    }
    return ChargebackReceived(**(fields | named))


def dead_letter(**named: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "topic": "payments.scored.v1",
        "partition": 1,
        "offset": 44,
        "stage": "dispatch",
        "error": "not_avro",
        "key": b"t1|p1",
        "value": b"\xff\x00junk",
        "value_length": 6,
    }
    return DeadLetter(**(fields | named))


def row_of(record: Record, topic: str = "any.topic", at: int = 9) -> EventRow:
    return event_row(topic, 3, at, NOON_MS + 100, CODEC.encode(record), CODEC)


def event(record: Record, at_ms: int = NOON_MS + 100) -> EventRow:
    return row_of(record)._replace(recorded_at_ms=at_ms)


def state_of(rows: list[EventRow]) -> PaymentState | None:
    return rows_module.state_of(list(rows), Mapper(CODEC).record_of)


@pytest.mark.parametrize(
    ("topic", "record", "event_id", "sequence", "stage", "outcome", "rule_version"),
    [
        (topics.SCREENED.name, screened(), "screening", 10, "screening", "clear", 3),
        (topics.LOCALIZED.name, localized(), "localization", 20, "localization", "accepted", 3),
        (topics.PROFILED.name, profiled(), "payer", 30, "payer", "profiled", 3),
        (topics.SCORED.name, scored(), "payee", 40, "payee", "approved", 3),
        (QUEUE, queued(), "dispatch/1.0", 100_100, "dispatch", "queued", 3),
        ("payments.retry.simulator.5s.v1", queued(2, 3), "dispatch/2.3", 200_106, "dispatch", "queued", 3),
        (topics.ANSWERED.name, answered(2, 3), "plugin/2.3", 200_107, "plugin", "pending", None),
        (topics.COMPLETED.name, completed(), "t1|p1|completed", 1_000_000_000, "settlement", "paid", 3),
        (
            topics.CHARGEBACKS.name,
            chargeback(),
            "chargeback/1765000000000",
            2_000_000_000,
            "chargeback",
            "charged_back",
            None,
        ),
        (
            topics.DEAD_LETTERS.name,
            dead_letter(),
            "dead-letter/payments.scored.v1/1/44",
            3_000_000_000,
            "dispatch",
            "dead_letter",
            None,
        ),
    ],
)
def test_each_record_has_its_row(
    topic: str, record: Record, event_id: str, sequence: int, stage: str, outcome: str, rule_version: int | None
) -> None:
    """Every audited record of a payment is kept under tenant, payment and a derived event id, bytes unchanged."""
    value = CODEC.encode(record)
    row = event_row(topic, 3, 9, NOON_MS + 100, value, CODEC)
    assert row[:6] == ("t1", "p1", event_id, sequence, stage, outcome)
    assert row.rule_version == rule_version
    assert (row.topic, row.partition, row.offset, row.recorded_at_ms) == (topic, 3, 9, NOON_MS + 100)
    assert row.avro == value


def test_configurations_are_kept_under_their_tenant_version_and_content() -> None:
    """Another document under a used version is another event: it does not vanish behind the first."""
    one = row_of(TenantConfigured(tenant="t1", version=4, document="{}", document_hash="aa"))
    other = row_of(TenantConfigured(tenant="t1", version=4, document="{ }", document_hash="bb"))
    assert one[:6] == ("t1", "", "tenant/4/aa", 0, "tenants", "configured")
    assert one.rule_version == 4
    assert other.event_id == "tenant/4/bb"


def test_a_snooze_is_kept_under_its_tenant_with_who_and_why() -> None:
    """Each change of a payer's rule is an event of its own, and its end is told from its beginning."""
    fields: dict[str, Any] = {"tenant": "t1", "debtor_id": "d1", "rule": "amount_high", "by": "mo", "reason": "known"}
    begun = row_of(RuleSnoozed(**fields, until_ms=9_000, decided_at_ms=1_000))
    ended = row_of(RuleSnoozed(**fields, until_ms=2_000, decided_at_ms=2_000))
    assert begun[:7] == ("t1", "", "snooze/1000/d1/amount_high", 0, "fraud", "snoozed", "amount_high")
    assert ended[:7] == ("t1", "", "snooze/2000/d1/amount_high", 0, "fraud", "snooze_ended", "amount_high")
    assert json.loads(begun.payload or "")["by"] == "mo"
    hidden = row_of(RuleSnoozed(**fields | {"reason": f"card {CARD_NUMBER}"}, until_ms=1, decided_at_ms=0))
    assert (hidden.outcome, hidden.reason, hidden.payload) == ("unreadable", "card_number", None)
    assert CARD_NUMBER.encode() not in (hidden.avro or b"")


def test_a_pause_and_its_end_are_told_of_no_tenant() -> None:
    """Who, why and when are in the payload; every word on a PIC is an event of its own."""
    fields: dict[str, Any] = {"pic": "stripe-2", "who": "mo", "why": "they asked"}
    paused = row_of(PicControlled(**fields, paused=True, decided_at_ms=1_000))
    resumed = row_of(PicControlled(**fields, paused=False, decided_at_ms=2_000))
    assert paused[:7] == ("", "", "control/stripe-2/1000", 0, "plugin", "paused", "stripe-2")
    assert resumed[:7] == ("", "", "control/stripe-2/2000", 0, "plugin", "resumed", "stripe-2")
    assert json.loads(paused.payload or "")["who"] == "mo"
    hidden = row_of(PicControlled(**fields | {"why": f"card {CARD_NUMBER}"}, paused=True, decided_at_ms=0))
    assert (hidden.outcome, hidden.reason, hidden.payload) == ("unreadable", "card_number", None)


def test_goods_and_invoices_are_of_the_payment_that_they_name() -> None:
    """Else of none; a repeat is the same row, and two changes of two invoices never share one."""
    moved = row_of(a_movement(payment_id="p1", trace_id=TRACE))
    assert moved[:7] == ("acme", "p1", "inventory/mv-1", 1_700_000_000, "inventory", "received", "")
    assert moved.trace_id == TRACE
    assert row_of(a_movement())[:3] == ("acme", "", "inventory/mv-1")
    changed = row_of(a_change(status="partly_paid", payment_id="p1"))
    assert changed[:7] == ("acme", "p1", "invoice/2026-17|1", 1_700_000_000, "invoices", "partly_paid", "")
    assert row_of(a_change(invoice_id="2026/17"))[:3] == ("acme", "", "invoice/2026/17|1")
    assert row_of(a_change(invoice_id="2026-17/1", event_id="1"))[2] != row_of(a_change(event_id="1/1"))[2]
    for row in (moved, changed):
        assert not tells_state(row)


@pytest.mark.parametrize(
    "record",
    [
        a_movement(movement_id="a|b"),
        a_movement(movement_id=""),
        a_movement(tenant="A"),
        a_movement(payment_id="a b"),
        a_change(invoice_id="a|b"),
        a_change(event_id=""),
        a_change(invoice_id="", event_id="a|b"),
        a_change(invoice_id="x" * 81),
    ],
)
def test_goods_and_invoices_without_valid_ids_are_kept_under_their_coordinates(record: Record) -> None:
    """Of no tenant: they change no payment, and no report counts them."""
    assert row_of(record)[:3] == ("", "", "record/any.topic/3/9")


def test_words_of_others_are_not_repeated() -> None:
    """A kind, status or trace that is none may say anything; a card number is masked, a GTIN that looks like one is kept."""
    assert row_of(a_movement(kind="dead_letter", trace_id="Ada Lovelace"))[5:9] == ("unknown", "", None, None)
    assert row_of(a_change(status="Ada Lovelace"))[5:9] == ("unknown", "", None, None)
    for record in (
        a_movement(order_reference=CARD_NUMBER),
        a_movement(sku=CARD_NUMBER),
        a_change(debtor_id=CARD_NUMBER),
    ):
        row = row_of(record)
        assert row[4:7] == ("audit", "unreadable", "card_number")
        assert CARD_NUMBER not in repr(row)
    assert row_of(a_movement(sku="4000000000105")).outcome == "received"


def test_a_refund_is_told_from_a_chargeback() -> None:
    """Both of one payment at one time are two events."""
    row = row_of(chargeback(kind="refund"))
    assert (row.event_id, row.stage, row.outcome) == ("refund/1765000000000", "chargeback", "refunded")


def test_every_audited_topic_is_known_by_name() -> None:
    """A value that is another record than its topic holds is not taken for that topic's word."""
    for topic in audited(["simulator"]):
        row = event_row(topic.name, 0, 1, 1, CODEC.encode(PaymentEnded(**ENDED)), CODEC)
        assert (row.stage, row.outcome, row.reason) == ("audit", "unreadable", "wrong_schema"), topic.name


def test_the_sink_reads_every_topic_that_has_rows() -> None:
    """And no other."""
    known = {topic.name for topic in topics.all_topics(["simulator"]) if rows_module.record_of_topic(topic.name)}
    assert {topic.name for topic in audited(["simulator"])} == known


ENDED: dict[str, Any] = {
    "sender_partition": 0,
    "sender_offset": 0,
    "rule_version": 1,
    "outcome": "refused",
    "stage": "screening",
    "request_kind": "first",
    "requested_at_ms": 1,
    "amount_minor": 1,
    "currency": "EUR",
    "tenant": "t1",
    "payment_id": "p1",
    "received_at_ms": 1,
}


def test_the_payload_holds_the_record_without_the_request_bytes() -> None:
    """Only screening's event shows the PTR, decoded; the later ones carry the same and leave it out."""
    evidence = ListEvidence(party="debtor", list="ofac", entry_id="7", score=0.93, algorithm="v1")
    first = json.loads(row_of(screened(evidence=evidence)).payload or "")
    assert first["request"]["debtor"]["name"] == "Ada Lovelace"
    assert first["request"]["amount_minor"] == 1250
    assert first["evidence"]["entry_id"] == "7"
    later = json.loads(row_of(scored()).payload or "")
    assert "request" not in later
    assert later["score"] == 0.25
    dead = json.loads(row_of(dead_letter()).payload or "")
    assert base64.b64decode(dead["value"]) == b"\xff\x00junk"


def test_an_empty_trace_id_is_null_and_a_reason_is_text() -> None:
    """No trace is NULL; no reason is the empty text."""
    row = row_of(screened(trace_id=""))
    assert (row.trace_id, row.reason) == (None, "")
    assert row_of(screened()).trace_id == TRACE


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b"junk", "not_avro"),
        (b"\xc3\x01" + bytes(8) + b"x", "unknown_schema"),
        (CODEC.encode(screened())[:-3], "unreadable_value"),
        (CODEC.encode(screened(request=b"\x02")), "unreadable_value"),
        (b"\x00\x00\x00\x00\x07body", "unknown_schema"),
    ],
)
def test_what_is_unreadable_is_a_row_too(value: bytes | None, reason: str) -> None:
    """Nothing is lost and nothing stops: the bytes are kept under their coordinates with a stable reason."""
    row = event_row(topics.SCREENED.name, 1, 8, 5, value, CODEC)
    assert row[:6] == ("", "", "record/payments.screened.v1/1/8", 0, "audit", "unreadable")
    assert (row.reason, row.avro, row.payload) == (reason, value, None)


def test_no_card_number_is_kept() -> None:
    """Chargebacks and unreadable bytes come past screening: card numbers in them are masked, also in the kept bytes."""
    named = row_of(chargeback(payment_id=CARD_NUMBER))
    assert (named.payment_id, named.outcome, named.reason, named.payload) == ("", "unreadable", "card_number", None)
    junk = event_row(topics.SCREENED.name, 1, 8, 5, f"pan={CARD_NUMBER};".encode(), CODEC)
    assert junk.avro == b"pan=" + b"*" * 16 + b";"
    for row in (named, junk):
        assert CARD_NUMBER not in repr(row)


@pytest.mark.parametrize(
    "ids",
    [
        {"tenant": "T 1"},
        {"payment_id": "a|b"},
        {"payment_id": "x" * 5000},
        {"payment_id": "nul\x00"},
        {"payment_id": ""},
        {"tenant": ""},
    ],
)
def test_ids_that_no_key_can_hold_are_not_used(ids: dict[str, str]) -> None:
    """A record with such ids is kept, under its coordinates, and changes no payment."""
    record = chargeback(**ids)
    row = row_of(record)
    assert row[:3] == ("", "", "record/any.topic/3/9")
    assert row.stage == "chargeback"
    answer = msgspec.structs.replace(answered(), **ids)
    assert payment_state(row_of(answer), answer) is None


def test_a_nul_in_a_text_does_not_stop_postgresql() -> None:
    """PostgreSQL takes no NUL in text; it becomes U+FFFD, the bytes keep the truth."""
    row = row_of(chargeback(reason="a\x00b"))
    assert row.reason == "a\ufffdb"
    assert "\x00" not in (row.payload or "")


def test_dead_letters_of_keys_that_are_no_payments_have_no_ids() -> None:
    """A key that is not tenant and payment (of a payee with terminal, junk, none) is not guessed at."""
    for key in (None, b"\xff", b"t1", b"t1|c1|term", b"|", b"T|p"):
        assert row_of(dead_letter(key=key))[:2] == ("", ""), key


@given(st.binary(max_size=80), st.sampled_from([topic.name for topic in audited(["simulator"])] + ["other"]))
def test_any_bytes_make_a_row(junk: bytes, topic: str) -> None:
    """Whatever stands behind a valid header, there is a row that both databases can store."""
    for head in (b"", CODEC.header(PaymentQueued), CODEC.header(ChargebackReceived), CODEC.header(PaymentScored)):
        mapper = Mapper(CODEC)
        row = mapper.row(topic, 0, 1, 2, head + junk)
        assert len(row) == len(EventRow._fields)
        texts = [text for text in row if isinstance(text, str)]
        numbers = [number for number in row if isinstance(number, int)]
        state = payment_state(row, mapper.record_of(row)) if row.payload is not None else None
        if state is not None:
            texts += [text for text in state if isinstance(text, str)]
            numbers += [number for number in state if isinstance(number, int)]
        assert not any("\x00" in text for text in texts)
        assert all(-(2**63) <= number < 2**63 for number in numbers)


def test_places_in_the_story_never_pass_the_outcome() -> None:
    """Attempts and asks are in order, and no number of asks reaches the next attempt or the outcome."""
    assert dispatch_sequence(1, 0) < dispatch_sequence(1, 1) < dispatch_sequence(2, 0)
    assert dispatch_sequence(1, 10**9) + 1 < dispatch_sequence(2, 0)
    assert dispatch_sequence(2**31 - 1, 2**31 - 1) + 1 < 1_000_000_000
    assert dispatch_sequence(-5, -5) > 40


def state(**named: Any) -> PaymentState:
    fields = dict.fromkeys(PaymentState._fields) | {"tenant": "t1", "payment_id": "p1", "reason": ""} | named
    return PaymentState(**fields)  # type: ignore[arg-type]


def test_the_latest_event_speaks_and_earlier_ones_fill_what_it_leaves_open() -> None:
    """A PIC's answer knows no amount and a queue entry no score: both stay from before, in whatever order they came."""
    events = [event(answered(), 4), event(scored(), 2), event(queued(), 3), event(screened(), 1)]
    expected = state(
        status="pending",
        stage="plugin",
        amount_minor=1250,
        currency="EUR",
        fee_minor=30,
        score=0.25,
        pic="simulator",
        attempts=1,
        rule_version=3,
        requested_at_ms=NOON_MS,
        received_at_ms=NOON_MS + 5,
        last_sequence=100_101,
        updated_at_ms=4,
    )
    assert state_of(events) == expected
    assert state_of(events[::-1]) == expected


def test_an_outcome_is_the_whole_state() -> None:
    """The completed event says everything by itself."""
    expected = state(
        status="declined",
        outcome="declined",
        reason="fraud_score_high",
        stage="payee",
        amount_minor=1250,
        currency="EUR",
        fee_minor=30,
        score=0.25,
        pic="simulator",
        pic_reference="sim-9",
        attempts=1,
        rule_version=3,
        requested_at_ms=NOON_MS,
        received_at_ms=NOON_MS + 5,
        completed_at_ms=8,
        last_sequence=1_000_000_000,
        updated_at_ms=8,
    )
    ending = event(completed(outcome="declined", reason="fraud_score_high", stage="payee"), 8)
    assert state_of([event(answered(), 9), ending]) == expected


def test_the_first_of_two_outcomes_counts() -> None:
    """A repeated answer has the same place; the payment keeps the time of the first."""
    found = state_of([event(completed(), 8), event(completed(repeat=True), 20)])
    assert found is not None
    assert found.completed_at_ms == 8


def test_what_is_not_about_this_request_changes_no_payment() -> None:
    """The refusal of another request under the id, chargebacks, dead letters, configurations: the state stays."""
    conflict = completed(event_id="t1|p1|refused|x", outcome="refused", reason="conflicting_request")
    records = [
        conflict,
        chargeback(),
        dead_letter(),
        TenantConfigured(tenant="t1", version=1, document="{}", document_hash=""),
    ]
    assert [payment_state(row_of(record), record) for record in records] == [None] * 4
    assert state_of([event(record) for record in records]) is None
    kept = state_of([event(conflict), event(completed())])
    assert kept is not None
    assert kept.outcome == "paid"


class _Registry:
    """Somebody else's registry: knows ``schemas``, or does not answer."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.away = False

    def id_of(self, subject: str, schema: str) -> int:
        self.schemas[len(self.schemas) + 1] = schema
        return len(self.schemas)

    def schema_of(self, schema_id: int) -> str:
        if self.away:
            raise ConnectionError
        return self.schemas[schema_id]


def test_a_registry_that_is_away_makes_no_record_unreadable() -> None:
    """The row would say it for ever; so it is told apart, and the record read when the registry is back."""
    registry = _Registry()
    value = Codec(registry).encode(screened())
    mapper = Mapper(Codec(registry))
    registry.away = True
    with pytest.raises(RegistryAwayError):
        mapper.row(topics.SCREENED.name, 0, 1, 2, value)
    registry.away = False
    row = mapper.row(topics.SCREENED.name, 0, 1, 2, value)
    assert (row.event_id, row.avro, mapper.record_of(row)) == ("screening", value, screened())
    unknown = mapper.row(topics.SCREENED.name, 0, 1, 2, b"\x00\x00\x00\x00\x63" + value[5:])
    assert unknown.reason == "unknown_schema"


def test_details_name_no_person() -> None:
    """What the story shows beside reasons: ids, numbers, list entries."""
    evidence = ListEvidence(party="debtor", list="ofac", entry_id="7", score=0.93, algorithm="v1")
    payload = json.loads(row_of(screened(evidence=evidence, list_version="2026-11-20")).payload or "")
    assert detail_of("screening", payload) == "debtor ~ ofac 7 0.93, list 2026-11-20"
    terms = PaymentTerms(payable_minor=1250, rules=["vat", "sca"])
    assert detail_of("localization", msgspec.to_builtins(localized())) == "fee 30, pic simulator"
    assert detail_of("localization", msgspec.to_builtins(localized(terms=terms))) == (
        "fee 30, pic simulator, rules vat, sca"
    )
    assert detail_of("localization", msgspec.to_builtins(localized(rejected_by="closed"))) == (
        "fee 30, pic simulator, rejected by rule closed"
    )
    assert detail_of("payee", msgspec.to_builtins(scored())) == "score 0.25, new_payer"
    hits = [
        RuleHit(rule="payer_velocity_1h", value=7.0, limit=5.0, weight=0.5),
        RuleHit(rule="amount_high", value=123_456.0, limit=100_000.0, weight=0.0, snoozed=True),
        RuleHit(rule="of_a_later_program", value=1.0, limit=0.0, weight=0.1),
    ]
    assert detail_of("payee", msgspec.to_builtins(scored(rule_hits=hits))) == (
        "score 0.25, payer_velocity_1h: 7 payments of this payer in one hour, usual limit 5, "
        "amount_high: an amount of 1234.56 EUR, usual limit 1000.00 EUR (snoozed), of_a_later_program"
    )
    assert detail_of("plugin", msgspec.to_builtins(answered(1, 2))) == "attempt 1, ask 2, pic simulator, looked up"
    assert detail_of("settlement", msgspec.to_builtins(completed())) == "decided by plugin"
    for stage in (
        "screening",
        "localization",
        "payer",
        "payee",
        "dispatch",
        "plugin",
        "settlement",
        "audit",
        "tenants",
    ):
        assert detail_of(stage, {}) is not None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://audit:s3cret@db.internal:5432/audit", "postgresql://audit@db.internal:5432/audit"),
        ("postgresql://audit:p%40ss@h/audit?password=s3cret&sslmode=require", "postgresql://audit@h/audit"),
        ("postgresql://h/audit", "postgresql://h/audit"),
        ("sqlite:///var/audit.db", "sqlite:///var/audit.db"),
    ],
)
def test_messages_show_no_password(url: str, shown: str) -> None:
    """Neither from the user part nor from a parameter."""
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url", ["", "audit.db", "mysql://u:s3cret@h/db", "sqlite:audit.db", "sqlite:///", "sqlite://host/x"]
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    """The message says what is taken, and repeats no secret."""
    with pytest.raises(DatabaseError, match="sqlite:///FILE") as caught:
        open_database(url)
    assert "s3cret" not in str(caught.value)


def test_sqlite_paths() -> None:
    """Three slashes are relative, four absolute."""
    assert str(sqlite_path("sqlite:///var/a.db")) == "var/a.db"
    assert str(sqlite_path("sqlite:////srv/a%20b.db")) == "/srv/a b.db"
