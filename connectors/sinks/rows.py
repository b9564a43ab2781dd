"""Audited records to rows. Pure: a row depends on the record and its coordinates only, so a repeat is the same row."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from connectors.privacy.cuts import row_cutter
from pipeline import topics
from pipeline.stages import inventory, invoices
from pipeline.stages.exceptions import exception_id
from pipeline.stages.outside import card_number_in, trace_mistake
from pipeline.stages.reviews import IGNORED
from schemas.card_numbers import mask_card_numbers, may_hold_card_number
from schemas.codec import Codec, UndecodableError, schema_of
from schemas.cutting import Cut, Cutter, whole
from schemas.identity import ID_PATTERN, SEPARATOR, TENANT_PATTERN
from schemas.personal import owners
from schemas.reasons import REVIEWED, Error, Reason
from schemas.records import (
    ChargebackReceived,
    DeadLetter,
    ExceptionGranted,
    InvoiceChanged,
    PartyErased,
    PartyFlagged,
    PaymentAnswered,
    PaymentCompleted,
    PaymentLocalized,
    PaymentNotified,
    PaymentParked,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    PaymentUpdated,
    PicControlled,
    Record,
    ReviewAnswered,
    ReviewOpened,
    RuleSnoozed,
    StockMoved,
    TenantConfigured,
)
from schemas.transcripts import Transcript, transcriber

#: Places in a payment's story. An attempt has room for 50,000 asks (17 years, one every 3 h); more share one place.
SCREENING, LOCALIZATION, PAYER, PAYEE = 10, 20, 30, 40
#: After the stage that referred the payment: its review opens, decisions end it or are ignored, the payment goes on.
REVIEW_OPENED, REVIEW_DECIDED, REVIEWED_EVENT = 2, 4, 6
FIRST_DISPATCH = 100
PER_ATTEMPT = 100_000
ASKS_MAX = PER_ATTEMPT // 2 - 1
ATTEMPTS_MAX = 9_000
#: At the end of an attempt: news of it, where the payer is to go, that a person is needed.
NEWS = PER_ATTEMPT - 2
COMPLETED = 1_000_000_000
#: Everything about captures, voids and refunds, in the order of its time.
OPERATIONS = 1_500_000_000
#: Goods and invoices, in the order of their time.
GOODS_AND_INVOICES = 1_700_000_000
CHARGEBACK = 2_000_000_000
DEAD_LETTER = 3_000_000_000

#: Longer event ids do not fit an index entry of PostgreSQL (2,700 bytes) together with tenant and payment.
EVENT_ID_CHARS_MAX = 300
#: The stage that reviews' events are of.
REVIEWS = "reviews"
#: Names of what is told beside the stages.
NOTIFIED, UPDATED, PARKED = "notified", "updated", "parked"
#: Stands for a word from outside that is none of those that there are.
UNKNOWN = "unknown"

_sequence = itemgetter(3)
_decode_exception = msgspec.json.Decoder(ExceptionGranted).decode

#: The columns of an :class:`EventRow`: a plain tuple is made and stored in less time than one with names.
Columns = tuple[Any, ...]


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
    topics.NOTIFIED.name: PaymentNotified,
    topics.UPDATED.name: PaymentUpdated,
    topics.PARKED.name: PaymentParked,
    topics.CHARGEBACKS.name: ChargebackReceived,
    topics.PARTIES_FLAGGED.name: PartyFlagged,
    topics.PARTIES_ERASED.name: PartyErased,
    topics.DEAD_LETTERS.name: DeadLetter,
    topics.TENANTS.name: TenantConfigured,
    topics.SNOOZES.name: RuleSnoozed,
    topics.CONTROLS.name: PicControlled,
    topics.EXCEPTIONS.name: ExceptionGranted,
    topics.INVENTORY.name: StockMoved,
    topics.INVOICES.name: InvoiceChanged,
}


def dispatch_sequence(attempt: int, ask: int) -> int:
    """Place of an ask in the story; its answer comes one later."""
    attempt, ask = min(max(attempt, 0), ATTEMPTS_MAX), min(max(ask, 0), ASKS_MAX)
    return FIRST_DISPATCH + PER_ATTEMPT * attempt + 2 * ask


#: The columns that the record itself tells, from ``tenant`` to ``trace_id``.
_Told = tuple[str, str, str, int, str, str, str, int | None, str | None]


# Each takes the payload and the fields that are picked for it below, in their order.


def _screened(_: str, tenant: str, payment: str, outcome: str, reason: str, version: int, trace: str) -> _Told:
    event_id, place = "screening", SCREENING
    if reason in REVIEWED:
        event_id, place = "screening/reviewed", SCREENING + REVIEWED_EVENT
    return (tenant, payment, event_id, place, "screening", outcome, reason, version, trace or None)


def _localized(_: str, tenant: str, payment: str, outcome: str, reason: str, version: int, trace: str) -> _Told:
    return (tenant, payment, "localization", LOCALIZATION, "localization", outcome, reason, version, trace or None)


def _profiled(_: str, tenant: str, payment: str, outcome: str, reason: str, version: int, trace: str) -> _Told:
    return (tenant, payment, "payer", PAYER, "payer", outcome, reason, version, trace or None)


def _scored(_: str, tenant: str, payment: str, outcome: str, reason: str, version: int, trace: str) -> _Told:
    event_id, place = "payee", PAYEE
    if reason in REVIEWED:
        event_id, place = "payee/reviewed", PAYEE + REVIEWED_EVENT
    return (tenant, payment, event_id, place, "payee", outcome, reason, version, trace or None)


def _place_of_review(stage: str) -> int:
    return SCREENING if stage == "screening" else PAYEE


def _opened(
    _: str, tenant: str, payment: str, event_id: str, stage: str, reason: str, version: int, trace: str
) -> _Told:
    place = _place_of_review(stage) + REVIEW_OPENED
    return (tenant, payment, event_id, place, REVIEWS, "referred", reason, version, trace or None)


def _review_answered(
    _: str, tenant: str, payment: str, event_id: str, stage: str, result: str, ignored: str, decision: str, trace: str
) -> _Told:
    place = _place_of_review(stage) + REVIEW_DECIDED
    if ignored:
        return (tenant, payment, event_id, place, REVIEWS, IGNORED, ignored, None, trace or None)
    reason = "review_expired" if decision == "expired" else f"review_{result}"
    return (tenant, payment, event_id, place, REVIEWS, result, reason, None, trace or None)


def _queued(
    _: str, tenant: str, payment: str, attempt: int, ask: int, operation: str, version: int, trace: str
) -> _Told:
    name, place = _asked(operation, attempt, ask)
    return (tenant, payment, f"dispatch/{name}", place, "dispatch", "queued", "", version, trace or None)


def _answered(
    _: str,
    tenant: str,
    payment: str,
    attempt: int,
    ask: int,
    operation: str,
    outcome: str,
    reason: str,
    trace: str,
) -> _Told:
    name, place = _asked(operation, attempt, ask)
    after = 0 if operation else 1
    return (tenant, payment, f"plugin/{name}", place + after, "plugin", outcome, reason, None, trace or None)


def _asked(operation: str, attempt: int, ask: int) -> tuple[str, int]:
    """Name and place of an ask."""
    if operation:
        return f"{operation}/{attempt}.{ask}", OPERATIONS
    return f"{attempt}.{ask}", dispatch_sequence(attempt, ask)


def _place_of_news(operation: str, attempt: int) -> int:
    return OPERATIONS if operation else dispatch_sequence(attempt, 0) + NEWS


def _notified(
    _: str, tenant: str, payment: str, event_id: str, operation: str, attempt: int, outcome: str, reason: str
) -> _Told:
    place = _place_of_news(operation, attempt)
    return (tenant, payment, f"notified/{event_id}", place, NOTIFIED, outcome, reason, None, None)


def _updated(
    _: str,
    tenant: str,
    payment: str,
    event_id: str,
    operation: str,
    attempt: int,
    outcome: str,
    reason: str,
    trace: str,
) -> _Told:
    place = _place_of_news(operation, attempt)
    return (tenant, payment, event_id, place, UPDATED, outcome, reason, None, trace or None)


def _parked(
    _: str, tenant: str, payment: str, event_id: str, operation: str, attempt: int, reason: str, trace: str
) -> _Told:
    place = _place_of_news(operation, attempt)
    return (tenant, payment, f"parked/{event_id}", place, PARKED, "parked", reason, None, trace or None)


def _completed(
    _: str, tenant: str, payment: str, event_id: str, outcome: str, reason: str, version: int, trace: str
) -> _Told:
    return (tenant, payment, event_id, COMPLETED, "settlement", outcome, reason, version, trace or None)


def _charged_back(_: str, tenant: str, payment: str, kind: str, charged_back_at_ms: int, reason: str) -> _Told:
    outcome = "refunded" if kind == "refund" else "charged_back"
    return (tenant, payment, f"{kind}/{charged_back_at_ms}", CHARGEBACK, "chargeback", outcome, reason, None, None)


def _flagged(_: str, tenant: str, party_id: str, list_id: str, version: str, entry_id: str, rule_version: int) -> _Told:
    # Once for each party, version and entry, whatever is repeated.
    event_id = f"flagged/{party_id}/{list_id}/{version}/{entry_id}"
    reason = Reason.PARTY_RESEMBLES_LISTED.value
    return (tenant, "", event_id, 0, "parties", "flagged", reason, rule_version, None)


def _erased(_: str, tenant: str, erasure_id: str, found: bool) -> _Told:
    return (tenant, "", f"erasure/{erasure_id}", 0, "parties", "erased" if found else "not_known", "", None, None)


def _dead(_: str, key: bytes | None, topic: str, partition: int, offset: int, stage: str, error: str) -> _Told:
    event_id = f"dead-letter/{topic}/{partition}/{offset}"
    return (*_ids_of_key(key), event_id, DEAD_LETTER, stage, "dead_letter", error, None, None)


def _configured(_: str, tenant: str, version: int, document_hash: str) -> _Told:
    # With the hash: another document under a version that was used is another event, and must not vanish.
    event_id = f"tenant/{version}/{document_hash}"
    return (tenant, "", event_id, 0, "tenants", "configured", "", version, None)


def _snoozed(_: str, tenant: str, debtor_id: str, rule: str, until_ms: int, decided_at_ms: int) -> _Told:
    event_id = f"snooze/{decided_at_ms}/{debtor_id}/{rule}"
    outcome = "snoozed" if until_ms > decided_at_ms else "snooze_ended"
    return (tenant, "", event_id, 0, "fraud", outcome, rule, None, None)


def _controlled(_: str, pic: str, paused: bool, decided_at_ms: int) -> _Told:
    # Of no tenant: all of them wait.
    event_id = f"control/{pic}/{decided_at_ms}"
    return ("", "", event_id, 0, "plugin", "paused" if paused else "resumed", pic, None, None)


def _excepted(payload: str, tenant: str, revoked: bool) -> _Told:
    event_id = f"exception/{exception_id(_decode_exception(payload))}"
    return (tenant, "", event_id, 0, "exceptions", "revoked" if revoked else "granted", "", None, None)


def _trace(trace: str) -> str | None:
    """Of a record that no stage has looked at."""
    return trace if trace and trace_mistake(trace) is None else None


# Of the payment that they name, so that its story tells what became of its goods and its invoice; else of none.


def _moved(_: str, tenant: str, payment: str, movement_id: str, kind: str, trace: str) -> _Told:
    outcome = kind if kind in inventory.KINDS else UNKNOWN
    event_id = f"inventory/{movement_id}"
    return (tenant, payment, event_id, GOODS_AND_INVOICES, inventory.NAME, outcome, "", None, _trace(trace))


def _invoiced(_: str, tenant: str, payment: str, invoice_id: str, event_id: str, status: str, trace: str) -> _Told:
    outcome = status if status in invoices.STATUSES else UNKNOWN
    # No id holds the separator, so no two changes share a name.
    event_id = f"invoice/{invoice_id}{SEPARATOR}{event_id}"
    return (tenant, payment, event_id, GOODS_AND_INVOICES, invoices.NAME, outcome, "", None, _trace(trace))


@lru_cache(maxsize=4096)
def _is_tenant(tenant: str) -> bool:
    return TENANT_PATTERN.match(tenant) is not None


def _is_id(text: str) -> bool:
    return ID_PATTERN.match(text) is not None


def _has_ids(told: _Told) -> bool:
    return _is_tenant(told[0]) and _is_id(told[1])


def _has_event_id(told: _Told) -> bool:
    return len(told[2]) <= EVENT_ID_CHARS_MAX and told[2].isprintable()


def _has_ids_of_event(told: _Told) -> bool:
    return _has_ids(told) and _has_event_id(told)


def _has_tenant(told: _Told) -> bool:
    return _is_tenant(told[0]) and _has_event_id(told)


def _has_posted_ids(number: int) -> Callable[[_Told], bool]:
    """For events of a payment or of none, whose id is made of so many ids of the sender's."""

    def fits(told: _Told) -> bool:
        tenant, payment, event_id, *_ = told
        ids = event_id.partition("/")[2].split(SEPARATOR)
        return _is_tenant(tenant) and (not payment or _is_id(payment)) and len(ids) == number and all(map(_is_id, ids))

    return fits


class _Kind(NamedTuple):
    """What is particular to one kind of record."""

    #: The fields that make its row, what makes it, and whether it can be kept under these ids.
    picked: tuple[str, ...]
    told: Callable[..., _Told]
    fits: Callable[[_Told], bool] = _has_ids


_STAGE = ("tenant", "payment_id", "outcome", "reason", "rule_version", "trace_id")
_KINDS: dict[type[Record], _Kind] = {
    PaymentScreened: _Kind(_STAGE, _screened),
    PaymentLocalized: _Kind(_STAGE, _localized),
    PaymentProfiled: _Kind(_STAGE, _profiled),
    PaymentScored: _Kind(_STAGE, _scored),
    ReviewOpened: _Kind(
        ("tenant", "payment_id", "event_id", "stage", "reason", "rule_version", "trace_id"), _opened, _has_ids_of_event
    ),
    ReviewAnswered: _Kind(
        ("tenant", "payment_id", "event_id", "stage", "result", "ignored", "decision", "trace_id"),
        _review_answered,
        _has_ids_of_event,
    ),
    PaymentQueued: _Kind(
        ("tenant", "payment_id", "attempt", "ask", "operation_id", "rule_version", "trace_id"),
        _queued,
        _has_ids_of_event,
    ),
    PaymentAnswered: _Kind(
        ("tenant", "payment_id", "attempt", "ask", "operation_id", "outcome", "reason", "trace_id"),
        _answered,
        _has_ids_of_event,
    ),
    PaymentNotified: _Kind(
        ("tenant", "payment_id", "event_id", "operation_id", "attempt", "outcome", "reason"),
        _notified,
        _has_ids_of_event,
    ),
    PaymentUpdated: _Kind(
        ("tenant", "payment_id", "event_id", "operation_id", "attempts", "outcome", "reason", "trace_id"),
        _updated,
        _has_ids_of_event,
    ),
    PaymentParked: _Kind(
        ("tenant", "payment_id", "event_id", "operation_id", "attempt", "reason", "trace_id"),
        _parked,
        _has_ids_of_event,
    ),
    PaymentCompleted: _Kind(
        ("tenant", "payment_id", "event_id", "outcome", "reason", "rule_version", "trace_id"),
        _completed,
        _has_ids_of_event,
    ),
    ChargebackReceived: _Kind(("tenant", "payment_id", "kind", "charged_back_at_ms", "reason"), _charged_back),
    PartyFlagged: _Kind(("tenant", "party_id", "list", "version", "entry_id", "rule_version"), _flagged, _has_tenant),
    PartyErased: _Kind(("tenant", "erasure_id", "found"), _erased, _has_tenant),
    DeadLetter: _Kind(("key", "topic", "partition", "offset", "stage", "error"), _dead, _has_event_id),
    TenantConfigured: _Kind(("tenant", "version", "document_hash"), _configured, _has_tenant),
    RuleSnoozed: _Kind(("tenant", "debtor_id", "rule", "until_ms", "decided_at_ms"), _snoozed, _has_tenant),
    PicControlled: _Kind(("pic", "paused", "decided_at_ms"), _controlled, _has_event_id),
    ExceptionGranted: _Kind(("tenant", "revoked"), _excepted, _has_tenant),
    StockMoved: _Kind(("tenant", "payment_id", "movement_id", "kind", "trace_id"), _moved, _has_posted_ids(1)),
    InvoiceChanged: _Kind(
        ("tenant", "payment_id", "invoice_id", "event_id", "status", "trace_id"), _invoiced, _has_posted_ids(2)
    ),
}
#: Written by outsiders, or not looked at by screening: a card number may be in them.
_UNSCREENED = frozenset(
    {
        PaymentNotified,
        ChargebackReceived,
        TenantConfigured,
        ReviewAnswered,
        ExceptionGranted,
        RuleSnoozed,
        PicControlled,
        StockMoved,
        InvoiceChanged,
    }
)
#: Their events say nothing of where a payment stands that settlement does not say too.
_BESIDE = frozenset({NOTIFIED, UPDATED, PARKED})
#: What a stage says of its own: it knows all that the stages before it know.
_STAGES = frozenset({PaymentScreened, PaymentLocalized, PaymentProfiled, PaymentScored, PaymentQueued})
#: A NUL in any text, as JSON writes it.
_NUL = "\\u0000"


class RegistryAwayError(Exception):
    """The schema registry does not answer, so nothing can be said about the record; may pass."""


class _Reader(NamedTuple):
    """How one kind of record becomes a row."""

    #: JSON and the picked fields.
    transcribe: Callable[[bytes], Transcript]
    told: Callable[..., _Told]
    fits: Callable[[_Told], bool]
    is_unscreened: bool
    decode: Callable[[bytes], Any]
    #: What is personal, cut out; None: rows are stored as they come, or nothing in them is.
    cut: Cutter | None
    #: Its row is made of what is cut out, too.
    tells_personal: bool


class Mapper:
    """Makes rows; keeps one reader per record type.

    ``cutting``: rows for a sealer. In place of the value they have a :class:`~schemas.cutting.Cut` where something is personal,
    their payload shows such fields empty, and so is the party's place in an event's id.
    """

    def __init__(self, codec: Codec, *, cutting: bool = False) -> None:
        self._codec = codec
        self._cutting = cutting
        self._readers = {
            record: _Reader(
                transcriber(codec, record, kind.picked, with_request=record is PaymentScreened),
                kind.told,
                kind.fits,
                record in _UNSCREENED,
                codec.decoder(record),
                row_cutter(codec, record) if cutting and owners(schema_of(record)) else None,
                record is DeadLetter,
            )
            for record, kind in _KINDS.items()
        }
        self._by_topic: dict[str, _Reader] = {}
        self._known_ids: set[bytes] = set()

    def row(self, topic: str, partition: int, offset: int, timestamp_ms: int, value: bytes | None) -> EventRow:
        """:meth:`columns` by their names."""
        return EventRow._make(self.columns(topic, partition, offset, timestamp_ms, value))

    def columns(self, topic: str, partition: int, offset: int, timestamp_ms: int, value: bytes | None) -> Columns:
        """The row of one record; what is unreadable is a row too, without payload.

        Raises :class:`RegistryAwayError`, nothing else.
        """
        recorded_at_ms = timestamp_ms if timestamp_ms > 0 else 0
        at = (topic, partition, offset, recorded_at_ms)
        if not value:
            return self._unreadable(at, value, Error.EMPTY_VALUE)
        try:
            if value[0] == 0 and value[:5] not in self._known_ids:  # Confluent framing
                self._look_up(value)
            reader = self._by_topic.get(topic) or self._reader_of(topic, value)
            transcribe, tell, fits, is_unscreened, decode, cut, tells_personal = reader
            kept: Any = value
            if cut is not None and (found_cut := cut(value)) is not None:
                kept = found_cut
                found = transcribe(value if tells_personal else found_cut.rest)
            else:
                found = transcribe(value)
        except UndecodableError as error:
            return self._unreadable(at, value, error.error)
        except ConnectionError as error:
            raise RegistryAwayError(type(error).__name__) from None
        if is_unscreened and may_hold_card_number(value) and card_number_in(decode(value)):
            return self._unreadable(at, value, Reason.CARD_NUMBER)
        payload: str = found[0]
        told = tell(*found)
        if "\\" in payload and _NUL in payload:  # one character is found ten times faster
            told = _without_nul(told)
        if not fits(told):
            told = ("", "", f"record/{topic}/{partition}/{offset}", *told[3:])
        if tells_personal and kept is not value:
            payload = transcribe(kept.rest)[0]
        return (*told, topic, partition, offset, recorded_at_ms, kept, payload)

    def record_of(self, row: EventRow) -> Record:
        """The record that ``row`` was made of, which must have a payload; of a cut one what is left."""
        value: Any = row.avro
        return self.record_of_value(row.topic, value.rest if type(value) is Cut else value)

    def record_of_value(self, topic: str, value: bytes) -> Record:
        """The record that is stored under ``topic``. Raises :class:`~schemas.codec.UndecodableError`."""
        return (self._by_topic.get(topic) or self._reader_of(topic, value)).decode(value)  # type: ignore[no-any-return]

    def payload(self, topic: str, value: bytes) -> str:
        """The JSON of a record that is stored under ``topic``. Raises :class:`~schemas.codec.UndecodableError`."""
        reader = self._by_topic.get(topic) or self._reader_of(topic, value)
        return reader.transcribe(value)[0]  # type: ignore[no-any-return]

    def _unreadable(self, at: tuple[str, int, int, int], value: bytes | None, error: str) -> Columns:
        row = _unreadable(at, value, error)
        if not self._cutting or not value:
            return row
        return (*row[:13], whole(row[13]), None)

    def _reader_of(self, topic: str, value: bytes) -> _Reader:
        known = record_of_topic(topic)
        if known is not None:
            self._by_topic[topic] = self._readers[known]
            return self._readers[known]
        # A topic under another name: each value says in its header what it is.
        record = self._codec.record_of(value)
        reader = self._readers.get(record)
        if reader is None:
            raise UndecodableError(Error.WRONG_SCHEMA, f"{record.__name__} is not audited")
        return reader

    def _look_up(self, value: bytes) -> None:
        # A decoder cannot tell a registry that is away from bytes that are no record, and a row says so for ever.
        try:
            self._codec.record_of(value)
        except UndecodableError:
            raise
        except Exception as error:
            raise RegistryAwayError(type(error).__name__) from None
        self._known_ids.add(value[:5])


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
    return _mapper(codec).row(topic, partition, offset, timestamp_ms, value)


def expired_row(topic: str, partition: int, first_missing: int, next_offset: int, noticed_at_ms: int) -> EventRow:
    """The row that says: records from ``first_missing`` to before ``next_offset`` expired before they were audited."""
    payload = f'{{"first_missing":{first_missing},"next_offset":{next_offset}}}'
    event_id = f"expired/{topic}/{partition}/{first_missing}-{next_offset}"
    at = (topic, partition, first_missing, noticed_at_ms)
    return EventRow("", "", event_id, 0, "audit", "expired", "", None, None, *at, None, payload)


def erased_row(tenant: str, key_id: int, kind: str, by: str, erased_at_ms: int) -> EventRow:
    """The row that says: the key ``key_id`` was destroyed, by whom and when; nothing of whose it was."""
    payload = msgspec.json.encode({"key_id": key_id, "kind": kind, "by": by, "erased_at_ms": erased_at_ms}).decode()
    at = ("privacy_keys", 0, key_id, erased_at_ms)
    return EventRow(tenant, "", f"erased/{key_id}", 0, "privacy", "erased", "", None, None, *at, None, payload)


def tells_state(row: Columns) -> bool:
    """Whether the event says something about its payment; it depends on the row alone.

    Operations, goods, invoices, chargebacks, dead letters, configurations, ignored decisions, news and what is parked do not,
    nor does the refusal of another request under the payment's id, nor an event whose ids are not valid.
    """
    sequence: int = row[3]
    if (sequence == COMPLETED and row[6] == Reason.CONFLICTING_REQUEST) or (row[4] == REVIEWS and row[5] == IGNORED):
        return False
    return sequence < OPERATIONS and row[1] != "" and row[4] not in _BESIDE


def payment_state(row: EventRow, record: Record) -> PaymentState | None:
    """What the event says about its payment; None when it says nothing."""
    if not tells_state(row):
        return None
    kind = type(record)
    r: Any = record
    if kind is PaymentCompleted:
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


def state_of(events: list[Columns], record_of: Callable[[EventRow], Record]) -> PaymentState | None:
    """What several events of one payment say together: the latest speaks, earlier ones fill what it leaves open.

    Of two in the same place the first in ``events`` counts. Only records that matter are asked for.
    """
    if len(events) > 1:
        events = sorted(events, key=_sequence, reverse=True)
    state: PaymentState | None = None
    for event in events:
        if not tells_state(event):
            continue
        row = EventRow._make(event)
        record = record_of(row)
        earlier = payment_state(row, record)
        if earlier is not None:
            state = earlier if state is None else merged(state, earlier)
        # An outcome leaves nothing open, and a stage's own event nothing that the stages before it know.
        if state is not None and (
            state.outcome is not None or (type(record) in _STAGES and row.sequence <= PAYEE + REVIEWED_EVENT)
        ):
            break
    return state


def merged(later: PaymentState, earlier: PaymentState) -> PaymentState:
    """``later`` with its open fields from ``earlier``."""
    values: list[Any] = [old if new is None else new for new, old in zip(later, earlier, strict=True)]
    return PaymentState(*values)


def _unreadable(at: tuple[str, int, int, int], value: bytes | None, error: str) -> Columns:
    """A row for what is not the record it should be; its bytes are kept, card numbers masked."""
    topic, partition, offset, _ = at
    event_id = f"record/{topic}/{partition}/{offset}"
    kept = None if value is None else mask_card_numbers(value)
    return ("", "", event_id, 0, "audit", "unreadable", str(error), None, None, *at, kept, None)


def _ids_of_key(key: bytes | None) -> tuple[str, str]:
    """Tenant and payment of a dead letter's key where it is the key of a payment, else empty."""
    try:
        tenant, payment_id = (key or b"").decode().split(SEPARATOR)
    except ValueError:
        return "", ""
    return (tenant, payment_id) if _is_tenant(tenant) and ID_PATTERN.match(payment_id) else ("", "")


def _without_nul(told: _Told) -> _Told:
    tenant, payment_id, event_id, sequence, stage, outcome, reason, rule_version, trace_id = told
    texts = (_text(stage), _text(outcome), _text(reason))
    return tenant, payment_id, event_id, sequence, *texts, rule_version, _text(trace_id or "") or None


def _text(text: str) -> str:
    # PostgreSQL's text holds no NUL.
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
