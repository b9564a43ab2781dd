"""The terms of a place: what a rule of a locality may state, typed. Each decision of :mod:`pipeline.stages.localities`
takes one of these.

Amounts are in minor units per currency, rates in basis points (1/100 of a percent). Unknown fields are mistakes.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

#: What a client may say of a payment in the request's ``metadata``. A flag is set when its value is ``true``.
TAX_CATEGORY: Final = "tax_category"
SURCHARGE_MINOR: Final = "surcharge_minor"
CARD_CATEGORY: Final = "card_category"
CONTACTLESS: Final = "contactless"
UNATTENDED: Final = "unattended"
MERCHANT_INITIATED: Final = "merchant_initiated"
SERIES: Final = "series"
TRUSTED_PAYEE: Final = "trusted_payee"
OWN_ACCOUNT: Final = "own_account"
CORPORATE: Final = "corporate"

#: The category of a payment that names none, and the one that every tax has.
STANDARD: Final = "standard"


class _Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Unknown fields are mistakes, not extensions."""


class TaxTerms(_Terms, frozen=True, kw_only=True):
    """A tax on what is sold. ``rates_bp`` has a rate per category; ``standard`` is the one for all that is not named.

    ``inclusive``: the amount that is paid contains the tax, as prices for consumers do in the EU, the UK, Switzerland
    and Japan. Otherwise the tax comes on top and is only told.
    """

    #: The tax's name: vat, consumption_tax, igic, ...
    kind: str = "vat"
    rates_bp: dict[str, int]
    inclusive: bool = True
    #: ``half_up`` to the nearest minor unit, a half away from zero; ``down`` drops the fraction.
    rounding: Literal["half_up", "down"] = "half_up"


class CounterTerms(_Terms, frozen=True, kw_only=True):
    """An exemption from strong customer authentication that is used up: articles 11 and 16 of (EU) 2018/389.

    A currency that is not named has no exemption. ``counter`` says which limit holds: of the sum, of the number, or both.
    The payment service provider of the payer chooses one of the first two (EBA-Op-2018-04, paragraph 43); who does not
    know which it chose asks for nothing that it must refuse under ``both``.
    """

    single_minor: dict[str, int]
    cumulative_minor: dict[str, int] = {}
    count: int = 5
    counter: Literal["amount", "count", "both"] = "both"


class ScaTerms(_Terms, frozen=True, kw_only=True):
    """Strong customer authentication in one jurisdiction."""

    #: Countries (ISO 3166-1) in which both payer and payee must be for it to be needed; empty: nowhere.
    within: list[str] = []
    low_value: CounterTerms | None = None
    contactless: CounterTerms | None = None
    #: Articles 12, 13, 14, 15 and 17 as far as the tenant uses them.
    exemptions: list[
        Literal["unattended_transport", "trusted_payee", "recurring", "own_account", "corporate_process"]
    ] = []


class SurchargeTerms(_Terms, frozen=True, kw_only=True):
    """What may be charged for the use of a method on top of the price: nothing unless ``max_bp`` (of the amount) is given.

    ``card_categories``: the cards meant, as the request's metadata name them (consumer, credit, debit, prepaid, commercial,
    three_party); a card of which nothing is told is a consumer's. Empty means every payment.
    """

    max_bp: int = 0
    card_categories: list[str] = []


class ValueDateTerms(_Terms, frozen=True, kw_only=True):
    """When money that is paid now counts: on the first business day of ``calendar``, ``days`` business days later.

    A payment at or after ``cut_off`` (local time, ``HH:MM``) belongs to the next day.
    """

    calendar: str
    cut_off: str
    days: int = 0


class CashRoundingTerms(_Terms, frozen=True, kw_only=True):
    """Amounts in cash are multiples of ``step_minor``: the nearest one, the higher of two that are equally near."""

    step_minor: int
    #: An amount above zero is never rounded below this.
    least_minor: int = 0


class ResidencyTerms(_Terms, frozen=True, kw_only=True):
    """Countries (ISO 3166-1) or named sets of them in which a route may keep the payment's personal data."""

    within: list[str]


class LocaleTerms(_Terms, frozen=True, kw_only=True):
    """Languages of messages, BCP 47. ``offered`` in order of preference; the first is the one for all others."""

    offered: list[str]
