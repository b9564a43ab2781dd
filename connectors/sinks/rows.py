"""Audited records to rows. Pure: a row depends on the record and its coordinates only, so a repeat is the same row."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from pipeline import topics
from pipeline.stages.exceptions import exception_id
from schemas.card_numbers import holds_card_number, mask_card_numbers, may_hold_card_number
from schemas.codec import Codec, UndecodableError, decode_request
from schemas.identity import ID_PATTERN, SEPARATOR, TENANT_PATTERN
from schemas.reasons import REVIEWED, Error, Reason
from schemas.records import (
    ChargebackReceived,
    DeadLetter,
    ExceptionGranted,
    PartyFlagged,
    PaymentAnswered,
    PaymentCompleted,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    Record,
    ReviewAnswered,
    ReviewOpened,
    RuleSnoozed,
    TenantConfigured,
)

#: Places in a payment's story. An attempt has room for 50,000 asks (17 days, one every 30 s); more share one place.
SCREENING, LOCALIZATION, PAYER, PAYEE = 10, 20, 30, 40
#: After the stage that referred the payment: its review opens, decisions end it or are ignored, the payment goes on.
REVIEW_OPENED, REVIEW_DECIDED, REVIEWED_EVENT = 2, 4, 6
FIRST_DISPATCH = 100
PER_ATTEMPT = 100_000
ASKS_MAX = PER_ATTEMPT // 2 - 1
ATTEMPTS_MAX = 9_000
COMPLETED = 1_000_000_000
CHARGEBACK = 2_000_000_000
DEAD_LETTER = 3_000_000_000

#: Longer event ids do not fit an index entry of PostgreSQL (2,700 bytes) together with tenant and payment.
EVENT_ID_CHARS_MAX = 300
#: The stage that reviews' events are of.
REVIEWS = "reviews"

_encode = msgspec.json.Encoder().encode
#: A row from a tuple of its columns; a third of what the class itself takes.
_row = tuple.__new__


class EventRow(NamedTuple):
    """One row of ``payment_events``; the fields are its columns, in order."""

    tenant: str
    payment_id: str
    #: Derived; with tenant and payment it identifies the event, the first one of two wins.
    event_id: str
    #: Sorts a payment's story.
    sequence: int
    stage: str
    outcome: str
    reason: str
    rule_version: int | None
    trace_id: str | None
    topic: str
    partition: int
    offset: int
    #: The Kafka timestamp.
    recorded_at_ms: int
    #: The value as it came, header included; None when it was withheld or there was none.
    avro: bytes | None
    #: The record as JSON without the PTR's bytes; bytes are base64. None when the value is unreadable.
    payload: str | None


class PaymentState(NamedTuple):
    """What one event says about its payment: a row of ``payments``, None where it says nothing."""

    tenant: str
    payment_id: str
    #: The last stage's word, or the outcome.
    status: str
    outcome: str | None
    reason: str
    #: The stage that spoke last, or that decided the outcome.
    stage: str
    amount_minor: int | None
    currency: str | None
    fee_minor: int | None
    score: float | None
    pic: str | None
    pic_reference: str | None
    attempts: int | None
    rule_version: int | None
    requested_at_ms: int | None
    received_at_ms: int | None
    completed_at_ms: int | None
    last_sequence: int
    #: The Kafka timestamp of the event that spoke last.
    updated_at_ms: int


def record_of_topic(topic: str) -> type[Record] | None:
    """Which record ``topic`` holds, None when the name is not one of the pipeline's."""
    if topic.startswith(("payments.queue.", "payments.retry.")):
        return PaymentQueued
    return _RECORDS.get(topic)


_RECORDS: dict[str, type[Record]] = {
    topics.SCREENED.name: PaymentScreened,
    topics.LOCALIZED.name: PaymentLocalized,
    topics.PROFILED.name: PaymentProfiled,
    topics.SCORED.name: PaymentScored,
    topics.REVIEWS_OPENED.name: ReviewOpened,
    topics.REVIEWS_ANSWERED.name: ReviewAnswered,
    topics.ANSWERED.name: PaymentAnswered,
    topics.COMPLETED.name: PaymentCompleted,
    topics.CHARGEBACKS.name: ChargebackReceived,
    topics.PARTIES_FLAGGED.name: PartyFlagged,
    topics.DEAD_LETTERS.name: DeadLetter,
    topics.TENANTS.name: TenantConfigured,
    topics.SNOOZES.name: RuleSnoozed,
    topics.EXCEPTIONS.name: ExceptionGranted,
}


def dispatch_sequence(attempt: int, ask: int) -> int:
    """Place of an ask in the story; its answer comes one later."""
    attempt, ask = min(max(attempt, 0), ATTEMPTS_MAX), min(max(ask, 0), ASKS_MAX)
    return FIRST_DISPATCH + PER_ATTEMPT * attempt + 2 * ask


#: What a record type adds to its row: event id, sequence, stage, outcome, reason, rule version, trace id.
_Fields = tuple[str, int, str, str, str, int | None, str | None]


def _screened(r: PaymentScreened) -> _Fields:
    event_id, sequence = "screening", SCREENING
    if r.reason in REVIEWED:
        event_id, sequence = "screening/reviewed", SCREENING + REVIEWED_EVENT
    return (event_id, sequence, "screening", r.outcome, r.reason, r.rule_version, r.trace_id or None)


def _localized(r: PaymentLocalized) -> _Fields:
    return ("localization", LOCALIZATION, "localization", r.outcome, r.reason, r.rule_version, r.trace_id or None)


def _profiled(r: PaymentProfiled) -> _Fields:
    return ("payer", PAYER, "payer", r.outcome, r.reason, r.rule_version, r.trace_id or None)


def _scored(r: PaymentScored) -> _Fields:
    event_id, sequence = "payee", PAYEE
    if r.reason in REVIEWED:
        event_id, sequence = "payee/reviewed", PAYEE + REVIEWED_EVENT
    return (event_id, sequence, "payee", r.outcome, r.reason, r.rule_version, r.trace_id or None)


def _place_of_review(stage: str) -> int:
    return SCREENING if stage == "screening" else PAYEE


def _opened(r: ReviewOpened) -> _Fields:
    place = _place_of_review(r.stage) + REVIEW_OPENED
    return (r.event_id, place, REVIEWS, "referred", r.reason, r.rule_version, r.trace_id or None)


def _review_answered(r: ReviewAnswered) -> _Fields:
    place = _place_of_review(r.stage)
    if r.ignored:
        return (r.event_id, place + REVIEW_DECIDED, REVIEWS, r.result, r.ignored, None, r.trace_id or None)
    reason = "review_expired" if r.decision == "expired" else f"review_{r.result}"
    return (r.event_id, place + REVIEW_DECIDED, REVIEWS, r.result, reason, None, r.trace_id or None)


def _queued(r: PaymentQueued) -> _Fields:
    place = dispatch_sequence(r.attempt, r.ask)
    return (f"dispatch/{r.attempt}.{r.ask}", place, "dispatch", "queued", "", r.rule_version, r.trace_id or None)


def _answered(r: PaymentAnswered) -> _Fields:
    place = dispatch_sequence(r.attempt, r.ask) + 1
    return (f"plugin/{r.attempt}.{r.ask}", place, "plugin", r.outcome, r.reason, None, r.trace_id or None)


def _completed(r: PaymentCompleted) -> _Fields:
    return (r.event_id, COMPLETED, "settlement", r.outcome, r.reason, r.rule_version, r.trace_id or None)


def _charged_back(r: ChargebackReceived) -> _Fields:
    event_id = f"{r.kind}/{r.charged_back_at_ms}"
    return (
        event_id,
        CHARGEBACK,
        "chargeback",
        "refunded" if r.kind == "refund" else "charged_back",
        r.reason,
        None,
        None,
    )


def _flagged(r: PartyFlagged) -> _Fields:
    # Once for each party, version and entry, whatever is repeated.
    event_id = f"flagged/{r.party_id}/{r.list}/{r.version}/{r.entry_id}"
    return (event_id, 0, "parties", "flagged", Reason.PARTY_RESEMBLES_LISTED, r.rule_version, None)


def _dead(r: DeadLetter) -> _Fields:
    event_id = f"dead-letter/{r.topic}/{r.partition}/{r.offset}"
    return (event_id, DEAD_LETTER, r.stage, "dead_letter", r.error, None, None)


def _configured(r: TenantConfigured) -> _Fields:
    # With the hash: another document under a version that was used is another event, and must not vanish.
    event_id = f"tenant/{r.version}/{r.document_hash}"
    return (event_id, 0, "tenants", "configured", "", r.version, None)


def _snoozed(r: RuleSnoozed) -> _Fields:
    event_id = f"snooze/{r.decided_at_ms}/{r.debtor_id}/{r.rule}"
    return (event_id, 0, "fraud", "snoozed" if r.until_ms > r.decided_at_ms else "snooze_ended", r.rule, None, None)


def _excepted(r: ExceptionGranted) -> _Fields:
    event_id = f"exception/{exception_id(r)}"
    return (event_id, 0, "exceptions", "revoked" if r.revoked else "granted", "", None, None)


_FIELDS: dict[type[Record], Callable[[Any], _Fields]] = {
    PaymentScreened: _screened,
    PaymentLocalized: _localized,
    PaymentProfiled: _profiled,
    PaymentScored: _scored,
    ReviewOpened: _opened,
    ReviewAnswered: _review_answered,
    PaymentQueued: _queued,
    PaymentAnswered: _answered,
    PaymentCompleted: _completed,
    ChargebackReceived: _charged_back,
    PartyFlagged: _flagged,
    DeadLetter: _dead,
    TenantConfigured: _configured,
    RuleSnoozed: _snoozed,
    ExceptionGranted: _excepted,
}
#: Written by outsiders, or not looked at by screening: a card number may be in them.
_UNSCREENED = frozenset({ChargebackReceived, TenantConfigured, ReviewAnswered, ExceptionGranted, RuleSnoozed})
_STATELESS = frozenset({ChargebackReceived, PartyFlagged, DeadLetter, TenantConfigured, ExceptionGranted, RuleSnoozed})
#: Their last field holds the PTR's bytes.
_CARRYING = frozenset({PaymentScreened, PaymentLocalized, PaymentProfiled, PaymentScored, PaymentQueued})
#: How the field of the PTR's bytes begins in JSON; base64 holds no quote, so its last place is the field's.
_REQUEST_FIELD = b',"request":'
#: A NUL in any text, as JSON writes it.
_NUL = b"\\u0000"


class RegistryAwayError(Exception):
    """The schema registry does not answer, so nothing can be said about the record; may pass."""


class Mapper:
    """Makes rows; keeps one decoder per record type."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._decoders: dict[type[Record], Callable[[bytes], Any]] = {r: codec.decoder(r) for r in _FIELDS}
        self._by_topic: dict[str, Callable[[bytes], Any]] = {}
        self._known_ids: set[bytes] = set()

    def row(
        self, topic: str, partition: int, offset: int, timestamp_ms: int, value: bytes | None
    ) -> tuple[EventRow, Record | None]:
        """The row of one record, and the record; None when it cannot be read: what is unreadable is a row too.

        Raises :class:`RegistryAwayError`, nothing else.
        """
        recorded_at_ms = timestamp_ms if timestamp_ms > 0 else 0
        if not value:
            return _unreadable((topic, partition, offset, recorded_at_ms), value, Error.EMPTY_VALUE), None
        try:
            if value[0] == 0 and value[:5] not in self._known_ids:  # Confluent framing
                self._look_up(value)
            record = (self._by_topic.get(topic) or self._decoder_of(topic))(value)
            kind = type(record)
            payload = _encode(record)
            if kind in _CARRYING:
                payload = payload[: payload.rindex(_REQUEST_FIELD)]
                if kind is PaymentScreened:
                    payload += _REQUEST_FIELD + _encode(decode_request(record.request))
                payload += b"}"
        except UndecodableError as error:
            return _unreadable((topic, partition, offset, recorded_at_ms), value, error.error), None
        except RegistryAwayError:
            raise
        except Exception:  # the PTR inside an event: the codec raises whatever its bytes provoke
            return _unreadable((topic, partition, offset, recorded_at_ms), value, Error.UNREADABLE_VALUE), None
        if kind in _UNSCREENED and may_hold_card_number(value) and _holds_card_number(record):
            return _unreadable((topic, partition, offset, recorded_at_ms), value, Reason.CARD_NUMBER), None
        fields = _FIELDS[kind](record)
        if _NUL in payload:
            fields = _without_nul(fields)
        tenant, payment_id, known = _identity(record)
        event_id = fields[0]
        if not known or len(event_id) > EVENT_ID_CHARS_MAX or not event_id.isprintable():
            tenant, payment_id, fields = "", "", (f"record/{topic}/{partition}/{offset}", *fields[1:])
        at = (topic, partition, offset, recorded_at_ms, value, payload.decode())
        return _row(EventRow, (tenant, payment_id, *fields, *at)), record

    def _decoder_of(self, topic: str) -> Callable[[bytes], Any]:
        known = record_of_topic(topic)
        # A topic under another name: each value says in its header what it is.
        decode = self._decoders[known] if known else self._decode_by_header
        self._by_topic[topic] = decode
        return decode

    def _look_up(self, value: bytes) -> None:
        # A decoder cannot tell a registry that is away from bytes that are no record, and a row says so for ever.
        try:
            self._codec.record_of(value)
        except UndecodableError:
            raise
        except Exception as error:
            raise RegistryAwayError(type(error).__name__) from None
        self._known_ids.add(value[:5])

    def _decode_by_header(self, value: bytes) -> Any:
        record = self._codec.record_of(value)
        decode = self._decoders.get(record)
        if decode is None:
            raise UndecodableError(Error.WRONG_SCHEMA, f"{record.__name__} is not audited")
        return decode(value)


@lru_cache(maxsize=4)
def _mapper(codec: Codec) -> Mapper:
    return Mapper(codec)


def event_row(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    value: bytes | None,
    codec: Codec,
) -> EventRow:
    """The row of one audited record; see :class:`Mapper`."""
    return _mapper(codec).row(topic, partition, offset, timestamp_ms, value)[0]


def expired_row(topic: str, partition: int, first_missing: int, next_offset: int, noticed_at_ms: int) -> EventRow:
    """The row that says: records from ``first_missing`` to before ``next_offset`` expired before they were audited."""
    payload = f'{{"first_missing":{first_missing},"next_offset":{next_offset}}}'
    event_id = f"expired/{topic}/{partition}/{first_missing}-{next_offset}"
    at = (topic, partition, first_missing, noticed_at_ms)
    return EventRow("", "", event_id, 0, "audit", "expired", "", None, None, *at, None, payload)


def payment_state(row: EventRow, record: Record) -> PaymentState | None:
    """What the event says about its payment; None when it says nothing.

    Chargebacks, dead letters, configurations and ignored decisions do not change a payment's state, nor does the refusal
    of another request under its id, nor an event whose ids are not valid.
    """
    kind = type(record)
    if not row.payment_id or kind in _STATELESS:
        return None
    r: Any = record
    if kind is ReviewAnswered and r.ignored:
        return None
    if kind is PaymentCompleted:
        if r.reason == Reason.CONFLICTING_REQUEST:
            return None
        return PaymentState(
            row.tenant,
            row.payment_id,
            row.outcome,
            row.outcome,
            row.reason,
            _text(r.stage),
            r.amount_minor,
            _text(r.currency),
            r.fee_minor,
            r.score,
            _text(r.pic),
            _text(r.pic_reference),
            r.attempts,
            r.rule_version,
            r.requested_at_ms,
            r.received_at_ms,
            row.recorded_at_ms,
            row.sequence,
            row.recorded_at_ms,
        )
    # What a kind does not know of the payment.
    answered = kind in (PaymentAnswered, ReviewAnswered)
    screened = kind in (PaymentScreened, ReviewOpened, ReviewAnswered)
    return PaymentState(
        row.tenant,
        row.payment_id,
        row.outcome,
        None,
        row.reason,
        row.stage,
        None if answered else r.amount_minor,
        None if answered else _text(r.currency),
        None if answered or screened else r.fee_minor,
        r.score if kind is PaymentScored else None,
        None if screened else _text(r.pic),
        _text(r.pic_reference) or None if kind is PaymentAnswered else None,
        r.attempt if kind in (PaymentAnswered, PaymentQueued) else None,
        row.rule_version,
        None if answered else r.requested_at_ms,
        None if answered else r.received_at_ms,
        None,
        row.sequence,
        row.recorded_at_ms,
    )


def state_of(events: list[tuple[EventRow, Record]]) -> PaymentState | None:
    """What several events of one payment say together: the latest speaks, earlier ones fill what it leaves open.

    Of two in the same place the first in ``events`` counts.
    """
    if len(events) == 1:
        return payment_state(*events[0])
    events = sorted(events, key=lambda event: event[0].sequence, reverse=True)
    state: PaymentState | None = None
    for row, record in events:
        earlier = payment_state(row, record)
        if earlier is not None:
            state = earlier if state is None else merged(state, earlier)
        # An outcome leaves nothing open, and a stage's own event nothing that the stages before it know.
        if state is not None and (
            state.outcome is not None or (type(record) in _CARRYING and row.sequence <= PAYEE + REVIEWED_EVENT)
        ):
            break
    return state


def merged(later: PaymentState, earlier: PaymentState) -> PaymentState:
    """``later`` with its open fields from ``earlier``."""
    values: list[Any] = [old if new is None else new for new, old in zip(later, earlier, strict=True)]
    return PaymentState(*values)


def _unreadable(at: tuple[str, int, int, int], value: bytes | None, error: str) -> EventRow:
    """A row for what is not the record it should be; its bytes are kept, card numbers masked."""
    topic, partition, offset, _ = at
    event_id = f"record/{topic}/{partition}/{offset}"
    kept = None if value is None else mask_card_numbers(value)
    return EventRow("", "", event_id, 0, "audit", "unreadable", str(error), None, None, *at, kept, None)


def _identity(record: Any) -> tuple[str, str, bool]:
    """Tenant, payment, and whether the row can be kept under them."""
    kind = type(record)
    if kind in (TenantConfigured, ExceptionGranted, RuleSnoozed, PartyFlagged):
        return record.tenant, "", _is_tenant(record.tenant)
    if kind is DeadLetter:
        tenant, payment_id = _ids_of_key(record.key)
        return tenant, payment_id, True
    tenant, payment_id = record.tenant, record.payment_id
    return tenant, payment_id, _is_tenant(tenant) and ID_PATTERN.match(payment_id) is not None


@lru_cache(maxsize=4096)
def _is_tenant(tenant: str) -> bool:
    return TENANT_PATTERN.match(tenant) is not None


def _ids_of_key(key: bytes | None) -> tuple[str, str]:
    """Tenant and payment of a dead letter's key where it is the key of a payment, else empty."""
    try:
        tenant, payment_id = (key or b"").decode().split(SEPARATOR)
    except ValueError:
        return "", ""
    return (tenant, payment_id) if _is_tenant(tenant) and ID_PATTERN.match(payment_id) else ("", "")


def _holds_card_number(record: Record) -> bool:
    return any(isinstance(text, str) and holds_card_number(text) for text in msgspec.structs.astuple(record))


def _without_nul(fields: _Fields) -> _Fields:
    event_id, sequence, stage, outcome, reason, rule_version, trace_id = fields
    return event_id, sequence, _text(stage), _text(outcome), _text(reason), rule_version, _text(trace_id or "") or None


def _text(text: str) -> str:
    # PostgreSQL's text holds no NUL.
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
