"""Business rules as a tenant's configuration holds them, typed. What they mean: docs/rules.md.

Amounts are in minor units per currency, rates in basis points (1/100 of a percent). Unknown fields are mistakes.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from schemas.localities import (
    CashRoundingTerms,
    LocaleTerms,
    ResidencyTerms,
    ScaTerms,
    SurchargeTerms,
    TaxTerms,
    ValueDateTerms,
)

Rounding = Literal["half_up", "half_even", "down", "up"]


class Sparse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """Unknown fields are mistakes; what has its default is not written into a document: a rule uses few of its fields."""


class DenyTerms(Sparse, frozen=True, kw_only=True):
    """Rejects the payment. ``why`` is told to the client."""

    why: str


class LimitTerms(Sparse, frozen=True, kw_only=True):
    """Amounts of one payment, per currency; a currency that is not named has no limit."""

    min_minor: dict[str, int] = {}
    max_minor: dict[str, int] = {}


class PayerLimitTerms(Sparse, frozen=True, kw_only=True):
    """How often and how much one payer may pay in a calendar day, week (from Monday) or month of the rule's zone."""

    per: Literal["day", "week", "month"] = "day"
    #: 0 means no limit.
    max_count: int = 0
    max_minor: dict[str, int] = {}


class Tier(Sparse, frozen=True, kw_only=True):
    """Rates of amounts above ``above_minor``, up to the next tier."""

    above_minor: int = 0
    percent_bp: int = 0
    fixed_minor: int = 0


class FeeRules(Sparse, frozen=True, kw_only=True):
    """The tenant's fee: ``fixed_minor[currency] + amount * percent_bp / 10 000``, or by ``tiers`` for currencies that it names;
    then the least and the most of it."""

    percent_bp: int = 0
    fixed_minor: dict[str, int] = {}
    tiers: dict[str, list[Tier]] = {}
    tiers_apply: Literal["whole", "part"] = "whole"
    min_minor: dict[str, int] = {}
    cap_minor: dict[str, int] = {}
    rounding: Rounding = "half_up"


class RouteTerms(Sparse, frozen=True, kw_only=True):
    """Payment integration clients (PICs) that carry the payment; those after the first are its failover.

    Either ``pics``, in the order written or ordered by what this payment costs there (``pics`` of the tenant); or ``split``:
    weights by PIC, whole numbers of any sum. Which PIC is the first comes from tenant and payment id, the others follow by
    weight.
    """

    pics: list[str] = []
    by: Literal["priority", "cost"] = "priority"
    split: dict[str, int] = {}


class Rule(Sparse, frozen=True, kw_only=True):
    """One rule: filters, a condition, and one effect. A filter that is empty always holds."""

    id: str
    country: list[str] = []
    region: list[str] = []
    postcode: list[str] = []
    method: list[str] = []
    currency: list[str] = []
    #: First and last day in ``zone``, ``YYYY-MM-DD``.
    since: str = msgspec.field(name="from", default="")
    until: str = ""
    zone: str = "UTC"
    when: str = ""
    #: What a condition that cannot be evaluated does.
    on_error: Literal["skip", "reject"] = "skip"
    source: str = ""
    #: Removes the inherited rule of this id.
    off: bool = False
    deny: DenyTerms | None = None
    allow_methods: list[str] | None = None
    allow_currencies: list[str] | None = None
    limit: LimitTerms | None = None
    payer_limit: PayerLimitTerms | None = None
    fee: FeeRules | None = None
    tax: TaxTerms | None = None
    sca: ScaTerms | None = None
    surcharge: SurchargeTerms | None = None
    value_date: ValueDateTerms | None = None
    cash_rounding: CashRoundingTerms | None = None
    residency: ResidencyTerms | None = None
    route: RouteTerms | None = None
    locale: LocaleTerms | None = None

    def effects(self) -> list[tuple[str, Any]]:
        """Name and terms of its effects: one, in a valid rule that is not off."""
        return [(name, terms) for name in EFFECTS if (terms := getattr(self, name)) is not None]


#: Names of the effects, in the order in which they are decided.
EFFECTS: Final = (
    "allow_currencies",
    "allow_methods",
    "deny",
    "limit",
    "surcharge",
    "cash_rounding",
    "fee",
    "tax",
    "residency",
    "route",
    "value_date",
    "sca",
    "payer_limit",
    "locale",
)
#: Effects of which every rule that matches applies; of the others the first that matches does.
ALL_APPLY: Final = frozenset(["deny", "limit", "payer_limit"])


class Edition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base rule set. Never changed once it is released: recorded decisions name it."""

    edition: str
    groups: dict[str, list[str]] = {}
    rules: list[Rule]


class ShadowRules(Sparse, frozen=True, kw_only=True):
    """Rules that run beside those in force, without effect; their differences are told."""

    inherits: list[str] = []
    groups: dict[str, list[str]] = {}
    rules: list[Rule] = []
