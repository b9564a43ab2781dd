"""What a tenant's configuration must satisfy beyond its types. Pure; for files (document.py) and records (book.py)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from babel import Locale

from schemas.identity import PIC_PATTERN, TENANT_PATTERN
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.money import is_currency
from schemas.tenant_rules import TenantRules

METHOD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
#: More methods than any tenant offers; bounds a document.
METHODS_MAX = 50
#: Above any count of payments that a payee has in a window; catches a time or an amount in the wrong field.
COUNT_MAX = 1_000_000_000
WHOLE_BP = 10_000
#: Thirty days: nobody's payment waits longer, and its place in fraud's windows is still kept.
REVIEW_HOURS_MAX = 720
#: A mistake repeats at most this much of a value.
SHOWN_CHARS_MAX = 40

#: Two letters that CLDR knows and ISO 3166-1 does not assign: groups of countries, private use, exceptional
#: reservations.
_NOT_COUNTRIES = frozenset(["AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"])

#: A path such as ``fraud.decline_at`` or ``methods.card.max_minor.EUR``, and what is wrong there.
Mistake = tuple[str, str]


@cache
def countries() -> frozenset[str]:
    """ISO 3166-1 alpha-2 codes, from CLDR, and XK (Kosovo), which is user-assigned and in use for payments."""
    known = [str(code) for code in Locale("en").territories]
    return frozenset(code for code in known if re.fullmatch("[A-Z]{2}", code)) - _NOT_COUNTRIES


def shown(value: object) -> str:
    """A value for a message: short, text in quotes, and nothing that may be a card number."""
    text = str(value)
    if sum(character.isdigit() for character in text) >= 13:
        return "a value of 13 digits or more"
    short = text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "..."
    return repr(short) if isinstance(value, str) else short


def mistakes(rules: TenantRules, *, pics: Collection[str] | None, unread: Collection[str] = ()) -> Iterator[Mistake]:
    """Every mistake in ``rules``.

    ``pics`` are the payment integration clients that have a plugin; None takes any name. ``unread`` are paths whose
    values could not be read: what depends on them is not judged.
    """
    if not TENANT_PATTERN.match(rules.tenant):
        yield (
            "tenant",
            f"must be 1 to 40 of a-z, 0-9, '-' and '_', not beginning with '-' or '_', is {shown(rules.tenant)}",
        )
    if not PIC_PATTERN.match(rules.pic):
        yield "pic", f"must be 1 to 40 of a-z, 0-9 and '-', not beginning with '-', is {shown(rules.pic)}"
    elif pics is not None and rules.pic not in pics:
        yield "pic", f"must be one of {', '.join(sorted(pics)) or '(no PIC is set up)'}, is {shown(rules.pic)}"
    if not rules.currencies:
        yield "currencies", "must name at least one currency"
    yield from _repeats("currencies", rules.currencies)
    for at, currency in enumerate(rules.currencies):
        if not is_currency(currency):
            yield f"currencies[{at}]", f"must be an ISO 4217 code in capitals, is {shown(currency)}"
    yield from _repeats("countries", rules.countries)
    for at, country in enumerate(rules.countries):
        if country not in countries():
            yield f"countries[{at}]", f"must be an ISO 3166-1 code of two capitals, is {shown(country)}"
    taken = None if "currencies" in unread else rules.currencies
    yield from _methods(rules, taken)
    yield from _fee(rules, taken)
    yield from _thresholds(
        "screening", "refer_at", rules.screening.refer_at, "block_at", rules.screening.block_at, unread
    )
    if not 0 < rules.review.hours <= REVIEW_HOURS_MAX:
        yield "review.hours", f"must be above 0 and at most {REVIEW_HOURS_MAX}, is {rules.review.hours:g}"
    if rules.review.at_expiry not in ("approve", "reject"):
        yield "review.at_expiry", f"must be approve or reject, is {shown(rules.review.at_expiry)}"
    yield from _thresholds("fraud", "refer_at", rules.fraud.refer_at, "decline_at", rules.fraud.decline_at, unread)
    yield from _limits(rules)


def _methods(rules: TenantRules, taken: Collection[str] | None) -> Iterator[Mistake]:
    if not rules.methods:
        yield "methods", "must name at least one method"
    if len(rules.methods) > METHODS_MAX:
        yield "methods", f"must be at most {METHODS_MAX} methods, are {len(rules.methods)}"
    for method, limits in rules.methods.items():
        path = f"methods.{method}"
        if not METHOD_PATTERN.match(method):
            yield path, "a method's name must be 1 to 40 of a-z, 0-9 and '_', beginning with a letter"
        yield from _amounts(f"{path}.min_minor", limits.min_minor, taken)
        yield from _amounts(f"{path}.max_minor", limits.max_minor, taken)
        for currency in limits.max_minor.keys() & limits.min_minor.keys():
            least, most = limits.min_minor[currency], limits.max_minor[currency]
            if most < least:
                yield f"{path}.max_minor.{currency}", f"must be at least min_minor ({least}), is {shown(most)}"


def _fee(rules: TenantRules, taken: Collection[str] | None) -> Iterator[Mistake]:
    if not 0 <= rules.fee.percent_bp <= WHOLE_BP:
        yield "fee.percent_bp", f"must be between 0 and {WHOLE_BP} basis points, is {shown(rules.fee.percent_bp)}"
    yield from _amounts("fee.fixed_minor", rules.fee.fixed_minor, taken)


def _limits(rules: TenantRules) -> Iterator[Mistake]:
    fraud = rules.fraud
    if not 0 < fraud.amount_to_mean_max <= COUNT_MAX:
        yield "fraud.amount_to_mean_max", f"must be above 0 and at most {COUNT_MAX}, is {fraud.amount_to_mean_max:g}"
    if not 0 <= fraud.payee_chargeback_bp_max <= WHOLE_BP:
        value = fraud.payee_chargeback_bp_max
        yield "fraud.payee_chargeback_bp_max", f"must be between 0 and {WHOLE_BP} basis points, is {shown(value)}"
    if not 0 <= fraud.card_testing_mean_minor_max <= AMOUNT_MINOR_MAX:
        value = fraud.card_testing_mean_minor_max
        yield "fraud.card_testing_mean_minor_max", f"must be between 0 and {AMOUNT_MINOR_MAX}, is {shown(value)}"
    for name in ("payer_count_1d_max", "payer_terminals_1d_max", "payee_count_1h_max", "card_testing_count_1d_max"):
        value = getattr(fraud, name)
        if not 0 <= value <= COUNT_MAX:
            yield f"fraud.{name}", f"must be between 0 and {COUNT_MAX}, is {shown(value)}"


def _amounts(path: str, amounts: Mapping[str, int], taken: Collection[str] | None) -> Iterator[Mistake]:
    for currency, amount in amounts.items():
        if not is_currency(currency):
            yield f"{path}.{currency}", "must be under an ISO 4217 code in capitals"
        elif taken is not None and currency not in taken:
            yield f"{path}.{currency}", "must be under one of the tenant's currencies"
        if not 0 <= amount <= AMOUNT_MINOR_MAX:
            yield f"{path}.{currency}", f"must be between 0 and {AMOUNT_MINOR_MAX} minor units, is {shown(amount)}"


def _thresholds(
    group: str, low_name: str, low: float, high_name: str, high: float, unread: Collection[str]
) -> Iterator[Mistake]:
    if not 0 <= low <= 1:
        yield f"{group}.{low_name}", f"must be between 0 and 1, is {low:g}"
    elif f"{group}.{low_name}" not in unread and not low <= high <= 1:
        yield f"{group}.{high_name}", f"must be between {low_name} ({low:g}) and 1, is {high:g}"
        return
    if not 0 <= high <= 1:
        yield f"{group}.{high_name}", f"must be between 0 and 1, is {high:g}"


def _repeats(path: str, values: list[str]) -> Iterator[Mistake]:
    for at, value in enumerate(values):
        if value in values[:at]:
            yield f"{path}[{at}]", f"{shown(value)} is named twice"
