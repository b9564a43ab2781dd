"""Shell of fraud, payer side: ``payments.localized.v1`` -> ``payments.profiled.v1``, with ``payer_profiles``."""

from __future__ import annotations

from agents.context import Context
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.profiles import add_payment, payer_features
from schemas.codec import UndecodableError
from schemas.identity import payee_key
from schemas.reasons import Error
from schemas.records import PaymentLocalized, PaymentProfiled

NAME = "payer"


def make(context: Context) -> Stage:
    """The stage, bound to its topics and table."""
    codec = context.codec
    read = codec.carrying_reader(PaymentLocalized, "fee_minor", until="terminal_id")
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
        at_ms, terminal_id = event["requested_at_ms"], event["terminal_id"]
        add_payment(profile, at_ms, event["amount_minor"], terminal_id)
        head = {
            "sender_partition": record.partition,
            "sender_offset": record.offset,
            "rule_version": event["rule_version"],
            "outcome": "profiled",
            "reason": "",
            "payer_features": payer_features(profile, at_ms),
        }
        work.rows.save(record.key, profile)
        work.emit(target, write(head, carried), payee_key(event["tenant"], event["creditor_id"], terminal_id))

    return Stage(name=NAME, source=topics.LOCALIZED.name, handle=handle)
