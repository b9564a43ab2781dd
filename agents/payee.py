"""Shells of fraud, payee side, with ``payee_profiles``: ``payments.profiled.v1`` -> ``payments.scored.v1``, keyed by payment
again; and ``payments.chargebacks.v1``, labels that arrive late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import msgspec

from agents.context import Context
from agents.outside import bounded
from connectors.models.book import NO_MODELS, InForce
from pipeline import topics
from pipeline.engine.fence import repeated
from pipeline.engine.stage import RawRecord, Stage, Work
from pipeline.stages.features import PAYER_FEATURES, complete_payer, matrix
from pipeline.stages.fraud import Approved, Challenged, Declined, Referred, assess
from pipeline.stages.fraud_library import LIBRARY_VERSION
from pipeline.stages.fraud_model import Effect, copies_with_usual, effects_of
from pipeline.stages.labels import Source, is_fraud
from pipeline.stages.profiles import add_chargeback, add_payee_payment, payee_features, tag_of
from schemas.card_numbers import holds_card_number
from schemas.codec import UndecodableError
from schemas.identity import ID_PATTERN, TENANT_PATTERN, partition_of, payee_key, payment_key
from schemas.limits import REQUESTED_AHEAD_MS_MAX
from schemas.reasons import Error, Outcome
from schemas.records import ChargebackReceived, PaymentProfiled, PaymentScored
from schemas.tenant_rules import FraudRules

NAME = "payee"
CHARGEBACKS = "chargebacks"
#: What a ChargebackReceived may be.
KINDS = (Source.CHARGEBACK.value, Source.REFUND.value)

_OUTCOMES: Final = {answer: answer.__name__.lower() for answer in (Approved, Challenged, Referred, Declined)}
#: Of a payment that no rule and no model had anything to say about.
_NOTHING_SAID: Final[dict[str, Any]] = {
    "reason": "",
    "score_reasons": (),
    "rule_hits": (),
    "rule_library": LIBRARY_VERSION,
    "rule_score": 0.0,
    "model": "",
    "model_score": 0.0,
    "model_failure": "",
    "challenger": "",
    "challenger_score": 0.0,
    "effects": (),
}
_READS = {
    *("sender_partition", "sender_offset", "outcome", "payer_features", "requested_at_ms", "amount_minor"),
    *("tenant", "payment_id", "debtor_id", "token", "received_at_ms"),
}
_PAYEE_NEW = PAYER_FEATURES.index("payee_new")


class _Counted(msgspec.Struct, gc=False):
    """A payment whose payee's row knows it, on its way to a decision."""

    record: RawRecord
    event: dict[str, Any]
    carried: bytes
    version: int
    rules: FraudRules
    payer: Sequence[int]
    payee: list[int]
    models: InForce
    model_score: float | None = None
    model_failure: str = ""
    challenger_score: float | None = None
    effects: tuple[Effect, ...] = ()


def make(context: Context) -> Stage:
    """The scoring stage, bound to its topics, table and decision."""
    codec, tenants = context.codec, context.tenants
    snoozes, models = context.snoozes, context.models
    read = codec.carrying_reader(PaymentProfiled, "feature_set", _READS)
    write = codec.carrying_writer(PaymentScored, "feature_set", PaymentProfiled)
    target = topics.SCORED.name

    def count(record: RawRecord, work: Work) -> _Counted | None:
        if record.value is None or record.key is None:
            raise UndecodableError(Error.EMPTY_VALUE, "a PaymentProfiled is expected")
        event, carried = read(record.value)
        if event["outcome"] == Outcome.REJECTED.value:
            return None  # A limit of the payer ended it.
        known = tenants.rules(event["tenant"], event["received_at_ms"])
        if known is None:
            raise LookupError("a tenant that screening knew")
        payer = complete_payer(event["payer_features"])
        profile = work.rows.get(record.key)
        if repeated(profile.seen, event["sender_partition"], event["sender_offset"]):
            return None
        at_ms = event["requested_at_ms"]
        add_payee_payment(
            profile,
            at_ms,
            event["amount_minor"],
            card=tag_of(event["token"].encode()),
            new_payer=bool(payer[_PAYEE_NEW]),
        )
        work.rows.save(record.key, profile)
        facts = payee_features(profile, at_ms)
        in_force = models.in_force(event["received_at_ms"])
        return _Counted(record, event, carried, known[0], known[1].fraud, payer, facts, in_force)

    def decide(counted: _Counted, record: RawRecord, work: Work) -> Approved | Challenged | Referred | Declined:
        event = counted.event
        return assess(
            counted.payer,
            counted.payee,
            event["amount_minor"],
            event["requested_at_ms"],
            counted.rules,
            snoozes.snoozed(event["tenant"], event["debtor_id"], event["received_at_ms"]),
            model_score=counted.model_score,
            model_failed=bool(counted.model_failure),
        )

    async def handle_batch(records: Sequence[RawRecord], work: Work) -> None:
        found = [each for each in (work.attempt(count, record) for record in records) if each is not None]
        if any(each.models is not NO_MODELS for each in found):
            await _score(found, context)
        decided = [(each, answer) for each in found if (answer := work.attempt(partial(decide, each), each.record))]
        suspicious = [each for each, answer in decided if each.model_score and answer.reason is not None]
        if suspicious:
            await _explain(suspicious, context)
        for each, answer in decided:
            event, in_force = each.event, each.models
            head = {
                "sender_partition": each.record.partition,
                "sender_offset": each.record.offset,
                "rule_version": each.version,
                "taken_at_ms": work.taken_at_ms,
                "outcome": _OUTCOMES[type(answer)],
                "payee_features": each.payee,
                "score": answer.score,
                **_NOTHING_SAID,
            }
            if answer.reason is not None:
                head["reason"] = answer.reason.value
            if answer.hits:
                head["score_reasons"], head["rule_score"] = answer.reasons, answer.rule_score
                head["rule_hits"] = [hit._asdict() for hit in answer.hits]
            if in_force is not NO_MODELS:
                head |= _of_models(each)
            work.emit(target, write(head, each.carried), payment_key(event["tenant"], event["payment_id"]))

    return Stage(name=NAME, source=topics.PROFILED.name, handle_batch=handle_batch)


def _of_models(counted: _Counted) -> dict[str, Any]:
    """What the models said of a payment."""
    in_force, beside = counted.models, counted.challenger_score
    return {
        "model": in_force.champion.version if in_force.champion else in_force.unusable,
        "model_score": counted.model_score or 0.0,
        "model_failure": counted.model_failure,
        "challenger": in_force.challenger.version if in_force.challenger and beside is not None else "",
        "challenger_score": beside or 0.0,
        "effects": [asdict(effect) for effect in counted.effects],
    }


async def _score(found: Sequence[_Counted], context: Context) -> None:
    """Fill in what the models say: one matrix, one call for each model, whatever the batch."""
    rows = matrix(
        [each.payer for each in found],
        [each.payee for each in found],
        [each.event["amount_minor"] for each in found],
        [each.event["requested_at_ms"] for each in found],
    )
    for in_force in {id(each.models): each.models for each in found}.values():
        at = [number for number, each in enumerate(found) if each.models is in_force]
        mine = rows if len(at) == len(found) else rows[at]
        if in_force.champion is not None:
            scores = await context.scorer.score(in_force.champion, in_force.champion.rows(mine))
            for place, number in enumerate(at):
                if isinstance(scores, str):
                    found[number].model_failure = scores
                else:
                    found[number].model_score = float(scores[place])
        elif in_force.unusable:
            context.scorer.unusable(len(at))
            for number in at:
                found[number].model_failure = "unusable"
        if in_force.challenger is not None:
            beside = await context.scorer.score(in_force.challenger, in_force.challenger.rows(mine))
            if not isinstance(beside, str):
                for place, number in enumerate(at):
                    found[number].challenger_score = float(beside[place])


async def _explain(suspicious: Sequence[_Counted], context: Context) -> None:
    """Fill in which features moved the champion's score: one call for each model."""
    for champion in {id(each.models.champion): each.models.champion for each in suspicious}.values():
        assert champion is not None
        mine = [each for each in suspicious if each.models.champion is champion]
        rows = champion.rows(
            matrix(
                [each.payer for each in mine],
                [each.payee for each in mine],
                [each.event["amount_minor"] for each in mine],
                [each.event["requested_at_ms"] for each in mine],
            )
        )
        of_copies = await context.scorer.score(champion, copies_with_usual(champion.facts, rows))
        if isinstance(of_copies, str):
            continue  # Counted there. The decision stands without its explanation.
        scores = [each.model_score or 0.0 for each in mine]
        for each, effects in zip(mine, effects_of(champion.facts, rows, scores, of_copies), strict=True):
            each.effects = effects


def make_chargebacks(context: Context) -> Stage:
    """The labelling stage, on the same table."""
    decode = context.codec.decoder(ChargebackReceived)

    def handle(record: RawRecord, work: Work) -> None:
        chargeback = decode(bounded(record.value, "a ChargebackReceived"))
        ids = (chargeback.payment_id, chargeback.creditor_id)
        if not TENANT_PATTERN.match(chargeback.tenant) or not all(ID_PATTERN.match(text) for text in ids):
            raise UndecodableError(Error.NO_PAYMENT_ID, "tenant, payment_id or creditor_id is not a valid id")
        if any(holds_card_number(text) for text in (chargeback.tenant, *ids, chargeback.terminal_id)):
            raise UndecodableError(Error.CARD_NUMBER_IN_ID, "one of the ids")
        if not 0 <= chargeback.paid_at_ms <= record.timestamp + REQUESTED_AHEAD_MS_MAX:
            raise UndecodableError(Error.UNREADABLE_VALUE, "paid_at_ms is not a time in the past")
        if chargeback.kind not in KINDS:
            raise UndecodableError(Error.UNREADABLE_VALUE, f"kind is not one of {', '.join(KINDS)}")
        if not is_fraud(chargeback.reason):
            return  # A dispute about goods says nothing about who paid.
        key = payee_key(chargeback.tenant, chargeback.creditor_id, chargeback.terminal_id)
        if record.key != key or partition_of(key, work.partitions) != record.partition:
            work.repost(record, key)
            return
        profile = work.rows.get(key)
        # Once per payment, whatever is repeated: the row knows which payments are labelled.
        if add_chargeback(profile, chargeback.payment_id, chargeback.paid_at_ms):
            work.rows.save(key, profile)

    return Stage(name=CHARGEBACKS, source=topics.CHARGEBACKS.name, handle=handle)
