"""Shell of screening: ``payments.requested.v1`` -> ``payments.screened.v1``, with the table ``payments``.

The first stage stands between the outside and the pipeline: it reads what clients post, refuses what is not a payment, and
knows repeats and conflicts from its table.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict

from agents.context import Context
from agents.outside import bounded
from pipeline import topics
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.parties import Sightings
from pipeline.stages.request_check import Refused, check_request, content_of, differing_fields
from pipeline.stages.screening import Blocked, Clear, Referred, screen
from schemas.card_numbers import DIGITS_MIN, holds_card_number, may_hold_card_number
from schemas.codec import UndecodableError, encode_request
from schemas.identity import ID_PATTERN, TENANT_PATTERN, partition_of, party_key, payment_key
from schemas.reasons import Error, Outcome, Reason
from schemas.records import Party, PartySeen, PaymentEnded, PaymentRequested, PaymentScreened
from schemas.trace_context import of_headers
from tables.payments import PaymentRow

NAME = "screening"


def make(context: Context) -> Stage:
    """The stage, bound to its topics and decision."""
    codec, tenants, book, exceptions = context.codec, context.tenants, context.lists, context.exceptions
    decode = codec.decoder(PaymentRequested)
    encode_screened, encode_ended = codec.dict_encoder(PaymentScreened), codec.encoder(PaymentEnded)
    header = codec.header(PaymentRequested)
    header_length = len(header)
    screened_topic, ended_topic, referred_topic = topics.SCREENED.name, topics.ENDED.name, topics.REFERRED.name
    sightings, encode_seen, seen_topic = Sightings(context.erasures), codec.encoder(PartySeen), topics.PARTIES_SEEN.name

    def handle(record: RawRecord, work: Work) -> None:
        value = bounded(record.value, "a PTR")
        if record.key is None:
            raise UndecodableError(Error.NO_KEY, "the key is tenant|payment_id")
        request = decode(value)
        key = _readable_key(request)
        if record.key != key or partition_of(key, work.partitions) != record.partition:
            work.repost(record, key)
            return
        row: PaymentRow = work.rows.get(key)
        if row.offset >= record.offset:
            return  # A repeat after a crash: what it led to is durable.
        content, groups = content_of(request)
        if row.content:
            ended = _again(request, record, row, content, groups)
            row.offset = record.offset
            work.rows.save(key, row)
            work.emit(ended_topic, encode_ended(ended), key)
            return
        suspect = may_hold_card_number(value)
        screened, ended_first = _first(request, record, value, suspect)
        row.offset, row.content, row.groups = record.offset, content, groups
        if screened is not None:
            row.outcome, row.reason = screened["outcome"], screened["reason"]
            work.rows.save(key, row)
            screened["taken_at_ms"] = work.taken_at_ms
            event = encode_screened(screened)
            work.emit(screened_topic, event, key)
            if screened["outcome"] == Outcome.REFERRED:
                work.emit(referred_topic, event, key)  # It waits for a person; localization passes it over.
            for party in (request.debtor, request.creditor):
                if sightings.is_news(request.tenant, party, record.timestamp):
                    seen = _seen(request.tenant, party, screened)
                    work.emit(seen_topic, encode_seen(seen), party_key(request.tenant, party.id))
        if ended_first is not None:
            row.outcome, row.reason = ended_first.outcome, ended_first.reason
            if screened is None:
                work.rows.save(key, row)
            work.emit(ended_topic, encode_ended(ended_first), key)

    def _first(
        request: PaymentRequested, record: RawRecord, value: bytes, suspect: bool
    ) -> tuple[dict[str, Any] | None, PaymentEnded | None]:
        received_at_ms = record.timestamp
        checked = check_request(request, received_at_ms=received_at_ms, suspect_card_number=suspect)
        if isinstance(checked, Refused):
            return None, _ended(request, record, Outcome.REFUSED, checked.reason, checked.detail, 0)
        known = tenants.rules(request.tenant, received_at_ms)
        if known is None:
            return None, _ended(request, record, Outcome.REFUSED, Reason.UNKNOWN_TENANT, "", 0)
        version, rules = known
        lists = book.in_force(received_at_ms)
        answer = screen(
            request.debtor,
            request.creditor,
            lists=lists,
            rules=rules.screening,
            tenant=request.tenant,
            received_at_ms=received_at_ms,
            exceptions=exceptions,
        )
        body = value[header_length:] if value.startswith(header) else encode_request(request)
        outcome, reason, evidence = _words(answer)
        trace_id, trace_context = of_headers(record.headers)
        screened = {
            "sender_partition": record.partition,
            "sender_offset": record.offset,
            "rule_version": version,
            "outcome": outcome,
            "reason": reason,
            "list_version": lists.version,
            "evidence": None if evidence is None else asdict(evidence),
            "requested_at_ms": request.requested_at_ms,
            "amount_minor": request.amount_minor,
            "tenant": request.tenant,
            "payment_id": request.payment_id,
            "creditor_id": request.creditor.id,
            "terminal_id": request.terminal_id,
            "currency": request.currency,
            "debtor_id": request.debtor.id,
            "country": request.locality.country,
            "method": request.instrument.kind,
            "token": request.instrument.token,
            "kind": request.kind,
            "debtor_country": request.debtor.country,
            "received_at_ms": received_at_ms,
            "trace_id": trace_id,
            "trace_context": trace_context,
            "request": body,
        }
        if not isinstance(answer, Blocked):
            return screened, None
        detail = f"{answer.evidence.party} resembles {answer.evidence.list} {answer.evidence.entry_id}"
        return screened, _ended(request, record, Outcome(outcome), Reason(reason), detail, version)

    return Stage(name=NAME, source=topics.REQUESTED.name, handle=handle)


def _readable_key(request: PaymentRequested) -> bytes:
    """The key of a payment whose ids can be shown; otherwise it cannot even be refused by name."""
    tenant, payment_id = request.tenant, request.payment_id
    if not TENANT_PATTERN.match(tenant) or not ID_PATTERN.match(payment_id):
        raise UndecodableError(Error.NO_PAYMENT_ID, "tenant or payment_id is not a valid id")
    if not payment_id.isalpha() and holds_card_number(payment_id):
        raise UndecodableError(Error.CARD_NUMBER_IN_ID, "payment_id")
    if len(tenant) >= DIGITS_MIN and holds_card_number(tenant):
        raise UndecodableError(Error.CARD_NUMBER_IN_ID, "tenant")
    return payment_key(tenant, payment_id)


def _again(
    request: PaymentRequested, record: RawRecord, row: PaymentRow, content: bytes, groups: bytes
) -> PaymentEnded:
    """A second request under one id: the same is answered again, another one is a conflict."""
    if content == row.content:
        return _ended(
            request, record, Outcome(row.outcome) if row.outcome in _ENDS else Outcome.REFUSED, "", "", 0, kind="repeat"
        )
    fields = differing_fields(row.groups, groups) or ["content"]
    safe = not isinstance(check_request(request, received_at_ms=record.timestamp), Refused)
    return _ended(
        request,
        record,
        Outcome.REFUSED,
        Reason.CONFLICTING_REQUEST,
        "differs in " + ", ".join(fields),
        0,
        kind="conflict",
        request_id=content.hex(),
        currency=request.currency if safe else "",
    )


_ENDS = frozenset(outcome.value for outcome in Outcome)


def _ended(
    request: PaymentRequested,
    record: RawRecord,
    outcome: Outcome,
    reason: str,
    detail: str,
    version: int,
    *,
    kind: str = "first",
    request_id: str = "",
    currency: str | None = None,
) -> PaymentEnded:
    # A refused request may hold anything: of its texts only a currency code that looks like one is shown.
    shown = request.currency if currency is None else currency
    trace_id, trace_context = of_headers(record.headers)
    return PaymentEnded(
        sender_partition=record.partition,
        sender_offset=record.offset,
        rule_version=version,
        outcome=outcome.value,
        reason=str(reason),
        stage=NAME,
        request_kind=kind,
        request_id=request_id,
        requested_at_ms=request.requested_at_ms,
        amount_minor=request.amount_minor,
        currency=shown if len(shown) == 3 and shown.isascii() and shown.isalpha() else "",
        detail=detail,
        tenant=request.tenant,
        payment_id=request.payment_id,
        received_at_ms=record.timestamp,
        trace_id=trace_id,
        trace_context=trace_context,
    )


def _seen(tenant: str, party: Party, screened: dict[str, Any]) -> PartySeen:
    return PartySeen(
        tenant=tenant,
        party_id=party.id,
        name=party.name,
        country=party.country,
        birth_date=party.birth_date,
        list_version=screened["list_version"],
        seen_at_ms=screened["received_at_ms"],
    )


def _words(answer: Clear | Referred | Blocked) -> tuple[str, str, Any]:
    match answer:
        case Clear(evidence):
            return "clear", "" if evidence is None else Reason.EXCEPTION_APPLIED.value, evidence
        case Referred(reason, evidence):
            return Outcome.REFERRED.value, reason.value, evidence
        case Blocked(reason, evidence):
            return Outcome.BLOCKED.value, reason.value, evidence
