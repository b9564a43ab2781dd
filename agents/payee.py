"""Shells of fraud, payee side, with ``payee_profiles``: ``payments.profiled.v1`` -> ``payments.scored.v1``, keyed by payment
again; and ``payments.chargebacks.v1``, labels that arrive late."""

from __future__ import annotations

from agents.context import Context
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.fraud import Approved, assess
from pipeline.stages.profiles import PAYEE_KEEP_HOURS, add_chargeback, add_payment, payee_features
from schemas.card_numbers import holds_card_number
from schemas.codec import UndecodableError
from schemas.identity import ID_PATTERN, TENANT_PATTERN, partition_of, payee_key, payment_key
from schemas.limits import REQUESTED_AHEAD_MS_MAX, VALUE_BYTES_MAX
from schemas.reasons import Error, Outcome
from schemas.records import ChargebackReceived, PaymentProfiled, PaymentScored

NAME = "payee"
CHARGEBACKS = "chargebacks"


def make(context: Context) -> Stage:
    """The scoring stage, bound to its topics, table and decision."""
    codec, tenants = context.codec, context.tenants
    read = codec.carrying_reader(PaymentProfiled, "payer_features", until="received_at_ms")
    write = codec.carrying_writer(PaymentScored, "payer_features", PaymentProfiled)
    target = topics.SCORED.name

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentProfiled is expected")
        event, carried = read(record.value)
        if event["outcome"] == Outcome.REJECTED.value:
            return  # A limit of the payer ended it.
        known = tenants.rules(event["tenant"], event["received_at_ms"])
        if known is None:
            raise LookupError("a tenant that screening knew")
        profile = work.rows.get(record.key)
        if repeated(profile.seen, event):
            return
        version, rules = known
        at_ms = event["requested_at_ms"]
        add_payment(profile, at_ms, event["amount_minor"], keep_hours=PAYEE_KEEP_HOURS)
        features = payee_features(profile, at_ms)
        answer = assess(event["payer_features"], features, event["amount_minor"], rules.fraud)
        head = {
            "sender_partition": record.partition,
            "sender_offset": record.offset,
            "rule_version": version,
            "outcome": type(answer).__name__.lower(),
            "reason": "" if isinstance(answer, Approved) else answer.reason.value,
            "payee_features": features,
            "score": answer.score,
            "score_reasons": answer.reasons,
        }
        work.rows.save(record.key, profile)
        work.emit(target, write(head, carried), payment_key(event["tenant"], event["payment_id"]))

    return Stage(name=NAME, source=topics.PROFILED.name, handle=handle)


def make_chargebacks(context: Context) -> Stage:
    """The labelling stage, on the same table."""
    decode = context.codec.decoder(ChargebackReceived)

    def handle(record: RawRecord, work: Work) -> None:
        value = record.value
        if not value:
            raise UndecodableError(Error.EMPTY_VALUE, "a ChargebackReceived is expected")
        if len(value) > VALUE_BYTES_MAX:
            raise UndecodableError(Error.VALUE_TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
        chargeback = decode(value)
        ids = (chargeback.payment_id, chargeback.creditor_id)
        if not TENANT_PATTERN.match(chargeback.tenant) or not all(ID_PATTERN.match(text) for text in ids):
            raise UndecodableError(Error.NO_PAYMENT_ID, "tenant, payment_id or creditor_id is not a valid id")
        if any(holds_card_number(text) for text in (chargeback.tenant, *ids, chargeback.terminal_id)):
            raise UndecodableError(Error.CARD_NUMBER_IN_ID, "one of the ids")
        if not 0 <= chargeback.paid_at_ms <= record.timestamp + REQUESTED_AHEAD_MS_MAX:
            raise UndecodableError(Error.UNREADABLE_VALUE, "paid_at_ms is not a time in the past")
        key = payee_key(chargeback.tenant, chargeback.creditor_id, chargeback.terminal_id)
        if record.key != key or partition_of(key, work.partitions) != record.partition:
            work.repost(record, key)
            return
        profile = work.rows.get(key)
        # Once per payment, whatever is repeated: the row knows which payments are labelled.
        if add_chargeback(profile, chargeback.payment_id, chargeback.paid_at_ms):
            work.rows.save(key, profile)

    return Stage(name=CHARGEBACKS, source=topics.CHARGEBACKS.name, handle=handle)
