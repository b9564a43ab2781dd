"""A tenant's configuration: what a version in ``tenants.configured.v1`` holds, typed.

Amounts are in minor units per currency, rates in basis points (1/100 of a percent), scores from 0 to 1.
"""

from __future__ import annotations

import msgspec

from schemas.business_rules import FeeRules as FeeRules
from schemas.business_rules import Rule, ShadowRules, Sparse


class _Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are mistakes, not extensions."""


class MethodRules(_Rules, frozen=True, kw_only=True):
    """One payment method: which amounts it takes, per currency; a currency that is not named has no limit."""

    min_minor: dict[str, int] = {}
    max_minor: dict[str, int] = {}


class PicRules(Sparse, frozen=True, kw_only=True):
    """What a tenant says of one payment integration client: what it is for, and what a payment costs there."""

    #: Methods and currencies that it carries; empty means all. Others are not routed to it.
    methods: list[str] = []
    currencies: list[str] = []
    #: What the PIC takes of a payment, for routes by cost.
    cost: FeeRules | None = None


#: Methods of a tenant that names none: each is taken, without limits.
METHODS: tuple[str, ...] = ("card", "bank_account", "wallet")


def _every_method() -> dict[str, MethodRules]:
    return {method: MethodRules() for method in METHODS}


class ScreeningRules(_Rules, frozen=True, kw_only=True):
    """Match scores from which a party is referred to a person, or blocked."""

    refer_at: float = 0.90
    block_at: float = 1.0


class RuleTuning(_Rules, frozen=True, kw_only=True):
    """What a tenant changes of one fraud rule; the rest is the library's (pipeline/stages/fraud_rules.py, docs/fraud.md)."""

    enabled: bool = True
    #: What the rule weighs just above its limit, 0 to 1; the library's own weight when it is left out.
    weight: float | None = None
    #: By name, in the unit that the name ends in.
    thresholds: dict[str, float] = {}


#: What ``FraudRules.model_failure`` may be.
MODEL_FAILURES: tuple[str, ...] = ("open", "closed", "review")


class FraudRules(_Rules, frozen=True, kw_only=True):
    """Scores from which a payment is referred or declined, and what this tenant changes of the rules that make them."""

    #: From here on the payer is asked to prove who they are, and the payment goes on; without it nobody is asked.
    challenge_at: float | None = None
    refer_at: float = 0.6
    decline_at: float = 0.8
    #: What is answered where a model is in force and gives no score (it cannot be loaded, or takes too long): open (the
    #: rules alone decide), closed (declined), review (a person decides).
    model_failure: str = "open"
    #: By the rule's name. A rule that is not named has the library's weight and thresholds.
    rules: dict[str, RuleTuning] = {}


#: Fields of ``fraud`` that documents had until the rules became a library: now a threshold of a rule.
MOVED_THRESHOLDS: dict[str, tuple[str, str]] = {
    "payer_count_1d_max": ("payer_velocity_1d", "count_max"),
    "amount_to_mean_max": ("amount_unusual_30d", "ratio_max"),
    "payer_terminals_1d_max": ("payer_terminals_1d", "terminals_max"),
    "payee_count_1h_max": ("payee_burst_1h", "count_max"),
    "payee_chargeback_bp_max": ("payee_chargebacks_30d", "share_bp_max"),
    "card_testing_count_1d_max": ("card_testing_1d", "count_max"),
    "card_testing_mean_minor_max": ("card_testing_1d", "mean_minor_max"),
}


class ReviewRules(_Rules, frozen=True, kw_only=True):
    """How long a referred payment waits for a person, and what applies when nobody decided: ``approve`` or ``reject``."""

    hours: float = 72.0
    at_expiry: str = "reject"


class TenantRules(_Rules, frozen=True, kw_only=True):
    """All that one tenant decides for itself."""

    tenant: str
    #: Payment integration client that carries this tenant's payments.
    pic: str
    currencies: list[str]
    #: Countries in which payments may take place, ISO 3166-1 alpha-2; empty means all.
    countries: list[str] = []
    #: Payment methods that are taken, by name: the ``kind`` of a PTR's instrument.
    methods: dict[str, MethodRules] = msgspec.field(default_factory=_every_method)
    fee: FeeRules = FeeRules()
    screening: ScreeningRules = ScreeningRules()
    fraud: FraudRules = FraudRules()
    #: Base rule sets, by name; later ones win (docs/rules.md).
    inherits: list[str] = []
    #: Names for lists of countries, for rules.
    groups: dict[str, list[str]] = {}
    rules: list[Rule] = []
    #: Where payment integration clients keep payments: countries, or groups of them. What is left out is not known.
    routes: dict[str, list[str]] = {}
    #: PICs that are tried after ``pic``, in this order, where no ``route`` rule applies.
    failover: list[str] = []
    #: What single PICs are for and cost; one that is not named carries everything.
    pics: dict[str, PicRules] = {}
    #: Runs beside the rules in force, without effect.
    shadow: ShadowRules | None = None
    review: ReviewRules = ReviewRules()


def rules_of(document: str) -> TenantRules:
    """The rules in ``document``, the JSON of a version in ``tenants.configured.v1``, also of an earlier program.

    A field of :data:`MOVED_THRESHOLDS` is read as the threshold that it became. Raises ``msgspec.MsgspecError``.
    """
    data = msgspec.json.decode(document)
    fraud = data.get("fraud") if isinstance(data, dict) else None
    if isinstance(fraud, dict) and not MOVED_THRESHOLDS.keys().isdisjoint(fraud):
        moved: dict[str, dict[str, dict[str, object]]] = {}
        for name in MOVED_THRESHOLDS.keys() & fraud.keys():
            rule, threshold = MOVED_THRESHOLDS[name]
            moved.setdefault(rule, {"thresholds": {}})["thresholds"][threshold] = fraud.pop(name)
        fraud["rules"] = moved
    return msgspec.convert(data, TenantRules)
