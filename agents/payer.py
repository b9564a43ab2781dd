"""Shells of fraud, payer side, with ``payer_profiles``: ``payments.localized.v1`` -> ``payments.profiled.v1``; and
``payments.credited.v1``, what came in for payers."""

from __future__ import annotations

from agents import ended
from agents.context import Context
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.features import FEATURE_SET
from pipeline.stages.payer_checks import NO_USE, LimitReached, check_payer
from pipeline.stages.profiles import add_credit, add_payer_payment, short_of, tag_of
from schemas.codec import UndecodableError
from schemas.identity import payee_key, payment_key
from schemas.reasons import Error, Outcome
from schemas.records import PaymentCredited, PaymentEnded, PaymentLocalized, PaymentProfiled

NAME = "payer"
CREDITS = "credits"
_READS = {
    *("sender_partition", "sender_offset", "rule_version", "outcome", "checks"),
    *("creditor_id", "terminal_id", "country", "token", "debtor_country"),
    *ended.READS,
}


def make(context: Context) -> Stage:
    """The stage, bound to its topics and table."""
    codec = context.codec
    read = codec.carrying_reader(PaymentLocalized, "fee_minor", _READS)
    write = codec.carrying_writer(PaymentProfiled, "fee_minor", PaymentLocalized)
    encode_ended = codec.encoder(PaymentEnded)
    target, ended_topic = topics.PROFILED.name, topics.ENDED.name

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentLocalized is expected")
        event, carried = read(record.value)
        if event["outcome"] != "accepted":
            return  # Localization ended it.
        profile = work.rows.get(record.key)
        if repeated(profile.seen, event["sender_partition"], event["sender_offset"]):
            return
        payee = payee_key(event["tenant"], event["creditor_id"], event["terminal_id"])
        facts = add_payer_payment(
            profile,
            event["requested_at_ms"],
            event["amount_minor"],
            terminal=tag_of(payee),
            card=tag_of(event["token"].encode()),
            country=event["country"],
            home=event["debtor_country"],
        )
        head = {
            "sender_partition": record.partition,
            "sender_offset": record.offset,
            "rule_version": event["rule_version"],
            "taken_at_ms": work.taken_at_ms,
            "outcome": "profiled",
            "reason": "",
            "feature_set": FEATURE_SET,
            "payer_features": facts,
            "sca": "",
            "sca_basis": "",
        }
        checks = event["checks"]
        if checks is not None:
            answer = check_payer(
                checks, profile.use or NO_USE, amount_minor=event["amount_minor"], currency=event["currency"]
            )
            if isinstance(answer, LimitReached):
                head["outcome"], head["reason"] = Outcome.REJECTED.value, answer.reason.value
                version = event["rule_version"]
                end = ended.ended_of(event, record, NAME, Outcome.REJECTED, answer.reason.value, answer.detail, version)
                work.emit(ended_topic, encode_ended(end), payment_key(event["tenant"], event["payment_id"]))
            else:
                profile.use = answer.use
                head["sca"], head["sca_basis"] = answer.sca, answer.sca_basis
        work.rows.save(record.key, profile)
        work.emit(target, write(head, carried), payee)

    return Stage(name=NAME, source=topics.LOCALIZED.name, handle=handle)


def make_credits(context: Context) -> Stage:
    """The stage that learns what came in, on the same table."""
    decode = context.codec.decoder(PaymentCredited)

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentCredited is expected")
        credited = decode(record.value)
        profile = work.rows.get(record.key)
        # Once per payment, whatever is repeated: after a crash another record of settlement may lead to it
        # (docs/decisions/0006-early-answers.md), so coordinates do not tell.
        name = short_of(credited.payment_id.encode())
        if add_credit(profile, name, credited.requested_at_ms, credited.amount_minor):
            work.rows.save(record.key, profile)

    return Stage(name=CREDITS, source=topics.CREDITED.name, handle=handle)
