"""A tenant's configuration: what a version in ``tenants.configured.v1`` holds, typed.

Amounts are in minor units per currency, rates in basis points (1/100 of a percent), scores from 0 to 1.
"""

from __future__ import annotations

import msgspec

from schemas.business_rules import FeeRules as FeeRules
from schemas.business_rules import Rule, ShadowRules


class _Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are mistakes, not extensions."""


class MethodRules(_Rules, frozen=True, kw_only=True):
    """One payment method: which amounts it takes, per currency; a currency that is not named has no limit."""

    min_minor: dict[str, int] = {}
    max_minor: dict[str, int] = {}


#: Methods of a tenant that names none: each is taken, without limits.
METHODS: tuple[str, ...] = ("card", "bank_account", "wallet")


def _every_method() -> dict[str, MethodRules]:
    return {method: MethodRules() for method in METHODS}


class ScreeningRules(_Rules, frozen=True, kw_only=True):
    """Match scores from which a party is referred to a person, or blocked."""

    refer_at: float = 0.90
    block_at: float = 1.0


class FraudRules(_Rules, frozen=True, kw_only=True):
    """Scores from which a payment is referred or declined, and the limits of the rules that make the score."""

    refer_at: float = 0.6
    decline_at: float = 0.8
    #: Payments of one payer within the clock hours of the last day.
    payer_count_1d_max: int = 20
    #: An amount this many times the payer's 30-day mean is unusual.
    amount_to_mean_max: float = 10.0
    #: Different terminals of one payer in a day.
    payer_terminals_1d_max: int = 5
    #: Payments at one payee within the current and the previous clock hour.
    payee_count_1h_max: int = 200
    #: Share of charged-back payments at one payee over 30 days, basis points, once there are enough payments.
    payee_chargeback_bp_max: int = 500
    #: Card testing: more payments of one payer in a day than this ...
    card_testing_count_1d_max: int = 8
    #: ... of no more than this on average, in minor units: somebody tries which cards work.
    card_testing_mean_minor_max: int = 200


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
    #: Runs beside the rules in force, without effect.
    shadow: ShadowRules | None = None
    review: ReviewRules = ReviewRules()
