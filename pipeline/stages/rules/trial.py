"""One payment through localization and the payer's checks, as the pipeline does it: for cases and backtests. Pure."""

from __future__ import annotations

import msgspec

from pipeline.stages.localization import Accepted, localize
from pipeline.stages.payer_checks import NO_USE, LimitReached, PayerUse, check_payer
from pipeline.stages.rules.facts import Facts
from pipeline.stages.rules.rule_book import RuleBook
from schemas.reasons import Outcome
from schemas.records import PaymentTerms
from schemas.tenant_rules import TenantRules


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What business rules decide of one payment. ``outcome`` is accepted or rejected."""

    outcome: str
    reason: str = ""
    detail: str = ""
    #: The rule that rejected it; empty when it was none, or nothing did.
    rejected_by: str = ""
    fee_minor: int = 0
    pic: str = ""
    terms: PaymentTerms | None = None
    sca: str = ""
    sca_basis: str = ""
    failed: tuple[str, ...] = ()


def try_payment(facts: Facts, rules: TenantRules, book: RuleBook, use: PayerUse = NO_USE) -> tuple[Trial, PayerUse]:
    """The decision, and the payer's counters after it."""
    answer = localize(facts, rules, book)
    if not isinstance(answer, Accepted):
        return (
            Trial(
                outcome=Outcome.REJECTED.value,
                reason=answer.reason.value,
                detail=answer.detail,
                rejected_by=answer.rule,
                failed=answer.failed,
            ),
            use,
        )
    sca = sca_basis = ""
    if answer.checks is not None:
        checked = check_payer(answer.checks, use, amount_minor=facts.amount_minor, currency=facts.currency)
        if isinstance(checked, LimitReached):
            return (
                Trial(
                    outcome=Outcome.REJECTED.value,
                    reason=checked.reason.value,
                    detail=checked.detail,
                    rejected_by=checked.rule,
                    failed=answer.failed,
                ),
                use,
            )
        use, sca, sca_basis = checked.use, checked.sca, checked.sca_basis
    return (
        Trial(
            outcome="accepted",
            fee_minor=answer.fee_minor,
            pic=answer.pic,
            terms=answer.terms,
            sca=sca,
            sca_basis=sca_basis,
            failed=answer.failed,
        ),
        use,
    )
