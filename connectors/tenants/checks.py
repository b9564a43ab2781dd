"""What a tenant's configuration must satisfy beyond its types. Pure; for files (document.py) and records (book.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from connectors.tenants.names import METHOD_PATTERN, countries, shown
from connectors.tenants.rule_checks import amount_mistakes, fee_mistakes
from schemas.identity import PIC_PATTERN, TENANT_PATTERN
from schemas.limits import AMOUNT_MINOR_MAX
from schemas.money import is_currency
from schemas.tenant_rules import TenantRules

#: More methods than any tenant offers; bounds a document.
METHODS_MAX = 50
#: Above any count of payments that a payee has in a window; catches a time or an amount in the wrong field.
COUNT_MAX = 1_000_000_000
WHOLE_BP = 10_000
#: Thirty days: nobody's payment waits longer, and its place in fraud's windows is still kept.
REVIEW_HOURS_MAX = 720

#: A path such as ``fraud.decline_at`` or ``methods.card.max_minor.EUR``, and what is wrong there.
Mistake = tuple[str, str]


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
    for mistake in fee_mistakes(rules.fee):
        yield f"fee.{mistake.path}", mistake.text
    fee = rules.fee
    for name, amounts in (("fixed_minor", fee.fixed_minor), ("min_minor", fee.min_minor), ("cap_minor", fee.cap_minor)):
        yield from _taken(f"fee.{name}", amounts, taken)
    yield from _taken("fee.tiers", fee.tiers, taken)


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
    for mistake in amount_mistakes(path, amounts):
        yield mistake.path, mistake.text
    yield from _taken(path, amounts, taken)


def _taken(path: str, amounts: Collection[str], taken: Collection[str] | None) -> Iterator[Mistake]:
    for currency in amounts:
        if taken is not None and currency not in taken and is_currency(currency):
            yield f"{path}.{currency}", "must be under one of the tenant's currencies"


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
