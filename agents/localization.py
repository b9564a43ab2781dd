"""Shell of localization: ``payments.screened.v1`` -> ``payments.localized.v1``, re-keyed by payer."""

from __future__ import annotations

from agents import ended
from agents.context import Context
from pipeline import topics
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.localization import Rejected, localize
from pipeline.stages.rules.difference import decided_fields
from pipeline.stages.rules.facts import Facts, facts_of
from schemas.codec import UndecodableError, decode_request
from schemas.identity import payer_key
from schemas.reasons import Error, Outcome
from schemas.records import PaymentEnded, PaymentLocalized, PaymentScreened

NAME = "localization"
#: What a tenant's own lists and limits are about.
_ENOUGH = ("amount_minor", "currency", "method", "country", "received_at_ms", "requested_at_ms")
_READS = {"sender_partition", "sender_offset", "outcome", "debtor_id", "request", *_ENOUGH, *ended.READS}


def make(context: Context) -> Stage:
    """The stage, bound to its topics and decision."""
    codec, tenants, watch = context.codec, context.tenants, context.rules_watch
    read = codec.carrying_reader(PaymentScreened, "requested_at_ms", _READS)
    write = codec.carrying_writer(PaymentLocalized, "requested_at_ms", PaymentScreened)
    encode_ended = codec.encoder(PaymentEnded)
    localized_topic, ended_topic = topics.LOCALIZED.name, topics.ENDED.name

    def handle(record: RawRecord, work: Work) -> None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentScreened is expected")
        screened, carried = read(record.value)
        if screened["outcome"] != "clear":
            return  # Screening ended it.
        tenant = screened["tenant"]
        known = tenants.decider(tenant, screened["received_at_ms"])
        if known is None:
            raise LookupError("a tenant that screening knew")  # This worker's book is behind: a dead letter, retried.
        version, rules, book = known
        if book.empty:  # Then the PTR need not be read again.
            facts = Facts(**{name: screened[name] for name in _ENOUGH})
        else:
            facts = facts_of(decode_request(screened["request"]), screened["received_at_ms"])
        answer = localize(facts, rules, book)
        head = {
            # Without a table this stage cannot tell a repeat, so it passes the coordinates of its own sender on: a repeat
            # keeps them and the next table drops it. That is right because nothing was re-keyed in between.
            "sender_partition": screened["sender_partition"],
            "sender_offset": screened["sender_offset"],
            "rule_version": version,
            "taken_at_ms": work.taken_at_ms,
        }
        if answer.failed:
            watch.failed(tenant)
        shadow = None
        if book.shadow is not None:
            shadow = localize(facts, rules, book.shadow)
        head |= decided_fields(answer, shadow, rules.pic)
        if shadow is not None:
            watch.shadowed(tenant, differs=head["shadow"] is not None)
        if isinstance(answer, Rejected):
            end = ended.ended_of(screened, record, NAME, Outcome.REJECTED, answer.reason.value, answer.detail, version)
            work.emit(ended_topic, encode_ended(end), record.key)
        work.emit(localized_topic, write(head, carried), payer_key(tenant, screened["debtor_id"]))

    return Stage(name=NAME, source=topics.SCREENED.name, handle=handle)
