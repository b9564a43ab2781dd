"""What business rules cost a payment: ten rules of ten conditions, the base rule sets, and the worst that is accepted."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from connectors.rules.editions import edition, editions
from connectors.tenants.book import rule_book
from connectors.tenants.rule_checks import COST_MAX, RULES_MAX, rule_cost, tenant_rule_mistakes
from pipeline.stages.localization import Accepted, localize
from pipeline.stages.rules.conditions import environment
from pipeline.stages.rules.facts import VARIABLES, Facts, facts_of
from schemas.business_rules import DenyTerms, FeeRules, LimitTerms, RouteTerms, Rule
from schemas.codec import decode_request, encode_request
from schemas.limits import METADATA_ENTRIES_MAX, METADATA_VALUE_CHARS_MAX, TEXT_CHARS_MAX
from schemas.records import Instrument, Locality, Party, PaymentRequested
from schemas.tenant_rules import PicRules, TenantRules

Figures = dict[str, Any]

#: 2026-11-27T10:00:00Z.
AT_MS: Final = 1_795_773_600_000
#: Ten conditions that are all true of :func:`payment`, so that all ten are evaluated.
CONDITIONS: Final = (
    "amount_minor > 100",
    'country == "DE"',
    'currency in ["EUR", "CHF", "NOK"]',
    'method != "cash"',
    'debtor_country == "DE"',
    "amount_minor < 1000000",
    'channel.startsWith("w")',
    'meta("cart") == "7"',
    'creditor_country in ["AT", "DE", "FR"]',
    '!(postcode == "")',
)
#: Each figure is the median of this many rounds.
ROUNDS: Final = 7
_ROUND_S: Final = 0.05


def payment(**named: Any) -> PaymentRequested:
    """An ordinary payment in Germany."""
    fields: dict[str, Any] = {
        "tenant": "bench",
        "payment_id": "pay_1",
        "amount_minor": 12_50,
        "currency": "EUR",
        "debtor": Party(id="payer-1", name="Ada Winter", country="DE"),
        "creditor": Party(id="payee-1", name="Laden GmbH", country="DE"),
        "terminal_id": "terminal-1",
        "channel": "web",
        "instrument": Instrument(kind="card", token="tok_1"),  # noqa: S106 - a name, no secret
        "locality": Locality(country="DE", region="BE", postcode="10115", locale="de-DE"),
        "metadata": {"cart": "7"},
        "requested_at_ms": AT_MS,
    }
    return PaymentRequested(**(fields | named))


def ten_rules() -> TenantRules:
    """Ten rules of ten conditions; all apply, so that nothing is left out."""
    when = " && ".join(CONDITIONS)
    rules = [Rule(id=f"rule-{n}", when=when, limit=LimitTerms(max_minor={"EUR": 10**9 + n})) for n in range(10)]
    return _tenant(rules=rules)


def base_rules() -> TenantRules:
    """No rule of its own, and every base rule set."""
    return _tenant(inherits=list(editions()))


def routed() -> Iterator[tuple[str, TenantRules]]:
    """One way of routing each, between three payment integration clients."""
    pics = ["simulator", "simulator-2", "simulator-3"]
    cost = PicRules(cost=FeeRules(percent_bp=100, fixed_minor={"EUR": 10}))
    yield "failover", _tenant(failover=pics[1:])
    for name, terms in (
        ("priority", RouteTerms(pics=pics)),
        ("split", RouteTerms(split=dict.fromkeys(pics, 10))),
        ("cost", RouteTerms(pics=pics, by="cost")),
    ):
        yield name, _tenant(rules=[Rule(id="r", route=terms)], pics=dict.fromkeys(pics, cost))


def hostile() -> Iterator[tuple[str, TenantRules]]:
    """The worst that checks let pass, each kind alone: as many rules as there may be, each as costly as it may be."""
    overflow = "amount_minor * 9223372036854775807 == 1"
    for name, when in (
        ("comparisons", "||".join(["1>2"] * 390)),
        ("arithmetic", " || ".join(["amount_minor * 3 / 7 % 5 == 9"] * 18)),
        ("searches", " || ".join(f'meta("k{n}").contains("{"a" * 63}b")' for n in range(1, 21))),
        ("regular_expressions", 'meta("k0").matches("(x?y?z?){3}(a|b|ab)*[^a-y]{2}$")'),
        ("small_regular_expressions", " || ".join(['meta("k0").matches("b(ab)*c")'] * 4)),
        ("missing_keys", " || ".join(f'metadata["missing{n}"] == ""' for n in range(30))),
        ("overflows", " || ".join([overflow] * 25)),
    ):
        yield name, _filled(when)


def hostile_payment() -> PaymentRequested:
    """Texts as long as they may be, the worst for searches."""
    text = "ab" * (METADATA_VALUE_CHARS_MAX // 2)
    near = "a" * METADATA_VALUE_CHARS_MAX
    metadata = {f"k{n}": near if n else text for n in range(METADATA_ENTRIES_MAX)}
    return payment(metadata=metadata, locality=Locality(country="DE", region="b" * TEXT_CHARS_MAX, postcode="1"))


def measure() -> Figures:
    """All figures, in microseconds per payment on this machine in this hour."""
    request = payment()
    body, facts = encode_request(request), facts_of(request, AT_MS)
    figures: Figures = {
        "decode_us": _us(lambda: decode_request(body)),
        "facts_us": _us(lambda: facts_of(request, AT_MS)),
    }
    for name, rules in (("none", _tenant()), ("ten_of_ten", ten_rules()), ("base", base_rules())):
        figures[f"{name}_us"] = _us(_decision(rules, facts))
    figures["ten_of_ten_whole_us"] = round(figures["decode_us"] + figures["facts_us"] + figures["ten_of_ten_us"], 2)
    figures["ten_of_ten_in_the_library_us"] = _in_the_library(facts)
    figures["route"] = {f"{name}_us": _us(_decision(rules, facts)) for name, rules in routed()}
    figures["base_rules"] = sum(len(edition(name).rules) for name in editions())
    began = time.perf_counter()
    for _ in range(20):
        rule_book(base_rules())
    figures["base_book_ms"] = round((time.perf_counter() - began) / 20 * 1000, 2)
    worst = facts_of(hostile_payment(), AT_MS)
    figures["hostile"] = {f"{name}_us": _us(_decision(rules, worst)) for name, rules in hostile()}
    return figures


def _tenant(**named: Any) -> TenantRules:
    return TenantRules(tenant="bench", pic="simulator", currencies=["EUR"], **named)


def _filled(when: str) -> TenantRules:
    """As many rules with this condition as the checks take."""
    each = rule_cost(Rule(id="r", when=when), {})
    count = min(RULES_MAX, COST_MAX // each)
    rules = _tenant(rules=[Rule(id=f"r{n}", when=when, deny=DenyTerms(why="never")) for n in range(count)])
    found = list(tenant_rule_mistakes(rules))
    if found:
        raise AssertionError(found[0].text)
    return rules


def _decision(rules: TenantRules, facts: Facts) -> Callable[[], object]:
    book = rule_book(rules)
    answer = localize(facts, rules, book)
    if not isinstance(answer, Accepted):
        raise AssertionError(answer.detail)
    return lambda: localize(facts, rules, book)


def _in_the_library(facts: Facts) -> float:
    """The same conditions by the CEL library, one call a rule, with one activation."""
    env = environment(())
    conditions = [text for text in CONDITIONS if "meta(" not in text] + ['metadata["cart"] == "7"']
    expressions = [env.compile(" && ".join(conditions)) for _ in range(10)]
    values = {name: getattr(facts, name) for name in VARIABLES}

    def evaluate() -> None:
        activation = env.Activation(values)
        for expression in expressions:
            if expression.eval(activation).value() is not True:
                raise AssertionError("the conditions are true of the payment")

    return _us(evaluate)


def _us(run: Callable[[], object]) -> float:
    run()
    times = 1
    while True:
        began = time.perf_counter()
        for _ in range(times):
            run()
        if time.perf_counter() - began > _ROUND_S / 4:
            break
        times *= 2
    rounds = []
    gc.disable()
    try:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(times):
                run()
            rounds.append((time.perf_counter() - began) / times * 1e6)
    finally:
        gc.enable()
    return round(statistics.median(rounds), 2)
