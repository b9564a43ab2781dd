"""What a tenant's configuration must satisfy beyond its types. Pure; for files (document.py) and records (book.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from connectors.tenants.names import METHOD_PATTERN, countries, shown
from connectors.tenants.rule_checks import amount_mistakes, fee_mistakes
from pipeline.stages.fraud_library import LIBRARY
from schemas.identity import PIC_PATTERN, TENANT_PATTERN
from schemas.money import is_currency
from schemas.tenant_rules import MODEL_FAILURES, TenantRules

#: More methods than any tenant offers; bounds a document.
METHODS_MAX = 50
WHOLE_BP = 10_000
#: Thirty days: nobody's payment waits longer, and its place in fraud's windows is still kept.
REVIEW_HOURS_MAX = 720
#: Names that a mistake lists when none is close.
NAMES_SHOWN_MAX = 12

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
    if rules.fraud.challenge_at is not None:
        yield from _thresholds(
            "fraud", "challenge_at", rules.fraud.challenge_at, "refer_at", rules.fraud.refer_at, unread
        )
    if rules.fraud.model_failure not in MODEL_FAILURES:
        value = rules.fraud.model_failure
        yield "fraud.model_failure", f"must be one of {', '.join(MODEL_FAILURES)}, is {shown(value)}"
    if not 0 < rules.review.hours <= REVIEW_HOURS_MAX:
        yield "review.hours", f"must be above 0 and at most {REVIEW_HOURS_MAX}, is {rules.review.hours:g}"
    if rules.review.at_expiry not in ("approve", "reject"):
        yield "review.at_expiry", f"must be approve or reject, is {shown(rules.review.at_expiry)}"
    yield from _thresholds("fraud", "refer_at", rules.fraud.refer_at, "decline_at", rules.fraud.decline_at, unread)
    yield from _fraud_rules(rules)


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


def _fraud_rules(rules: TenantRules) -> Iterator[Mistake]:
    for name, tuning in rules.fraud.rules.items():
        path = f"fraud.rules.{name}"
        rule = LIBRARY.get(name)
        if rule is None:
            yield path, f"unknown rule; {suggestion(name, LIBRARY)}"
            continue
        if tuning.weight is not None and not 0 <= tuning.weight <= 1:
            yield f"{path}.weight", f"must be between 0 and 1, is {tuning.weight:g}"
        known = {threshold.name: threshold for threshold in rule.thresholds()}
        for threshold, value in tuning.thresholds.items():
            at = f"{path}.thresholds.{threshold}"
            if threshold not in known:
                yield at, f"unknown threshold; {suggestion(threshold, known)}"
            elif not 0 <= value <= known[threshold].high:
                yield at, f"must be between 0 and {known[threshold].high:.0f}, is {shown(value)}"


def suggestion(name: str, known: Collection[str]) -> str:
    """What somebody may have meant who wrote ``name``: the closest of ``known``, or some of them."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    if not known:
        return "there is none"
    more = f" and {len(known) - NAMES_SHOWN_MAX} more" if len(known) > NAMES_SHOWN_MAX else ""
    return f"there are {', '.join(list(known)[:NAMES_SHOWN_MAX])}{more}"


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
