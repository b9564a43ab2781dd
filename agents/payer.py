"""Shell of fraud, payer side: ``payments.localized.v1`` -> ``payments.profiled.v1``, with ``payer_profiles``."""

from __future__ import annotations

from agents.context import Context
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.features import FEATURE_SET
from pipeline.stages.profiles import add_payer_payment, tag_of
from schemas.codec import UndecodableError
from schemas.identity import payee_key
from schemas.reasons import Error
from schemas.records import PaymentLocalized, PaymentProfiled

NAME = "payer"


def make(context: Context) -> Stage:
    """The stage, bound to its topics and table."""
    codec = context.codec
    read = codec.carrying_reader(PaymentLocalized, "fee_minor", until="debtor_country")
    write = codec.carrying_writer(PaymentProfiled, "fee_minor", PaymentLocalized)
    target = topics.PROFILED.name

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentLocalized is expected")
        event, carried = read(record.value)
        if event["outcome"] != "accepted":
            return  # Localization ended it.
        profile = work.rows.get(record.key)
        if repeated(profile.seen, event):
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
            "outcome": "profiled",
            "reason": "",
            "feature_set": FEATURE_SET,
            "payer_features": facts,
        }
        work.rows.save(record.key, profile)
        work.emit(target, write(head, carried), payee)

    return Stage(name=NAME, source=topics.LOCALIZED.name, handle=handle)
