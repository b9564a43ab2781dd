"""Why a payment was decided as it was: every rule, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pipeline.stages.localization import CASH, Accepted, Rejected
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.routes import RouteView, explain_routes
from pipeline.stages.rules.rule_book import Ready, RuleBook, RuleFailed, misfit
from schemas.business_rules import ALL_APPLY, EFFECTS
from schemas.reasons import Reason
from schemas.tenant_rules import TenantRules

#: Effects at which the tenant's own terms reject, where no rule has that effect.
_OWN = {Reason.FEE_ABOVE_AMOUNT: "fee", Reason.ROUTE_NOT_ALLOWED: "route"}


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a decision. ``what`` is one of

    ``applied``, ``rejected`` (it ended the payment), ``filtered`` (``why`` names the filter that does not hold), ``false`` (its
    condition is), ``failed`` (its condition could not be evaluated), ``not_needed`` (``why`` names the rule that decided the
    same before it), ``not_reached`` (the payment was rejected before it).
    """

    rule: str
    effect: str
    what: str
    why: str = ""
    source: str = ""
    when: str = ""


def explain(facts: Facts, book: RuleBook, decision: Accepted | Rejected) -> list[RuleView]:
    """What became of every rule of ``book``, in the order in which they are asked; ``decision`` is
    :func:`pipeline.stages.localization.localize` of the same."""
    rejecting = decision.rule if isinstance(decision, Rejected) else ""
    # Without a rule that rejected, the tenant's own lists did, before any rule, or its fee or routes, where these are decided.
    own = _OWN.get(decision.reason, "") if isinstance(decision, Rejected) and not rejecting else ""
    over = isinstance(decision, Rejected) and not rejecting and not own
    views: list[RuleView] = []
    for effect in EFFECTS:
        ranked = [rule for rule in book.rules if rule.effect == effect]
        if over or (effect == "cash_rounding" and facts.method != CASH):
            why = "the payment was rejected before" if over else "it is not paid in cash"
            views += _of_effect(ranked, facts, one=False, unreached=why)
            continue
        of_effect = list(_of_effect(ranked, facts, one=effect not in ALL_APPLY))
        if rejecting and any(rule.id == rejecting for rule in ranked):
            of_effect = [_rejected(view) if view.rule == rejecting else view for view in of_effect]
            over = True
        if effect == own:
            over = True
        views += of_effect
    return views


def explain_order(facts: Facts, rules: TenantRules, book: RuleBook, decision: Accepted | Rejected) -> list[RouteView]:
    """The PICs that may carry the payment in their order, then those that may not, each with why; empty when the payment was
    rejected for anything else."""
    if isinstance(decision, Rejected) and decision.reason is not Reason.ROUTE_NOT_ALLOWED:
        return []
    plan = book.plan(facts.country, facts.method, facts.currency, facts.received_at_ms)
    residency, route = (
        next((rule for rule in ranked if rule.applies(facts, [])), None) for ranked in (plan.residency, plan.route)
    )
    return explain_routes(facts, rules, book, residency, route)


def applied(views: Sequence[RuleView]) -> list[str]:
    """Ids of the rules that applied, in order."""
    return [view.rule for view in views if view.what == "applied"]


def _of_effect(ranked: Sequence[Ready], facts: Facts, *, one: bool, unreached: str = "") -> Iterator[RuleView]:
    winner = ""
    for rule in ranked:
        filtered = misfit(rule, facts.country, facts.method, facts.currency, facts.received_at_ms)
        if not filtered and not rule.fits_place(facts):
            filtered = "region or postcode"
        if filtered:
            yield _view(rule, "filtered", filtered)
            continue
        if unreached:
            yield _view(rule, "not_reached", unreached)
            continue
        if winner:
            yield _view(rule, "not_needed", f"{winner} applied")
            continue
        failed: list[str] = []
        try:
            holds = rule.applies(facts, failed)
        except RuleFailed:
            yield _view(rule, "failed", "and rejects")
            continue
        if failed:
            yield _view(rule, "failed", "its condition could not be evaluated")
        elif not holds:
            yield _view(rule, "false", "")
        else:
            yield _view(rule, "applied", "")
            winner = rule.id if one else ""


def _view(rule: Ready, what: str, why: str) -> RuleView:
    return RuleView(rule=rule.id, effect=rule.effect, what=what, why=why, source=rule.rule.source, when=rule.rule.when)


def _rejected(view: RuleView) -> RuleView:
    return msgspec.structs.replace(view, what="rejected")
