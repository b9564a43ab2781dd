"""Why a payment was decided as it was: every rule, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from pipeline.stages.localization import CASH, Accepted, Rejected
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.rule_book import Ready, RuleBook, RuleFailed, misfit
from schemas.business_rules import ALL_APPLY, EFFECTS
from schemas.reasons import Reason


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
    # Without a rule that rejected, the tenant's own lists did, before any rule; a fee comes where fees are decided.
    over = isinstance(decision, Rejected) and not rejecting and decision.reason is not Reason.FEE_ABOVE_AMOUNT
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
        if isinstance(decision, Rejected) and not rejecting and effect == "fee":
            over = True
        views += of_effect
    return views


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
