"""Limits per payer and strong customer authentication: what localization left to the payer's counters. Pure.

The counters are part of the payer's row, and belong to nothing else. They count payments that this stage let pass, whatever
becomes of them later: a limit is on what is asked for, and what is asked for is known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pipeline.stages.localities.sca import Counted, Required, ScaCounters, settle
from schemas.reasons import Reason
from schemas.records import PayerChecks, PayerLimit

#: Limits that one row counts for; beyond that the one whose period is oldest goes. A tenant has at most 200 rules.
LIMITS_MAX: Final = 200
#: Periods that are kept of each limit: a record that comes late by a moment belongs to the one before.
PERIODS_KEPT: Final = 2

_ARTICLE: Final = "article_"


class PeriodUse(msgspec.Struct, array_like=True, frozen=True):
    """What a payer used of one limit in one calendar period: payments, and sums in minor units per currency."""

    period: int
    count: int = 0
    sums_minor: dict[str, int] = {}


class PayerUse(msgspec.Struct, array_like=True, frozen=True):
    """A payer's counters: by rule the latest periods, the newest last; and of authentication."""

    limits: dict[str, tuple[PeriodUse, ...]] = {}
    sca: ScaCounters | None = None


NO_USE: Final = PayerUse()


@dataclass(frozen=True, slots=True)
class Within:
    """The payer may pay. ``use`` are the counters with this payment; ``sca`` is ``required``, ``exempt``, ``out_of_scope`` or
    empty, ``sca_basis`` the article or the reason."""

    use: PayerUse
    sca: str
    sca_basis: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The payment would be above a limit of the payer; nothing is counted. ``detail`` names the limit, and no person."""

    reason: Reason
    detail: str
    rule: str


def check_payer(checks: PayerChecks, use: PayerUse, *, amount_minor: int, currency: str) -> Within | LimitReached:
    """Decide whether the payer may pay ``amount_minor`` of ``currency`` now, having paid what ``use`` says."""
    limits = use.limits
    if checks.limits:
        limits = dict(limits)
        for limit in checks.limits:
            known = limits.get(limit.rule, ())
            if known and limit.period < known[0].period and len(known) >= PERIODS_KEPT:
                continue  # Older than all that is kept: what was used then is not known any more.
            before = next((used for used in known if used.period == limit.period), PeriodUse(limit.period))
            after = _add(before, limit, amount_minor, currency)
            reached = _beyond(limit, after, currency)
            if reached is not None:
                return reached
            kept = sorted((*(used for used in known if used is not before), after), key=_period)
            limits[limit.rule] = tuple(kept[-PERIODS_KEPT:])
        if len(limits) > LIMITS_MAX:
            _forget(limits, {limit.rule for limit in checks.limits})
    sca, sca_basis, counters = _authentication(checks, use.sca)
    return Within(PayerUse(limits, counters), sca, sca_basis)


def _authentication(checks: PayerChecks, counters: ScaCounters | None) -> tuple[str, str, ScaCounters | None]:
    if checks.sca == "required":
        return "required", "", None  # It sets the counters to nothing.
    if checks.sca != "counted":
        return checks.sca, checks.sca_basis, counters
    article = int(checks.sca_basis.removeprefix(_ARTICLE))
    counted = Counted(article, checks.sca_share_ppm, checks.sca_count, checks.sca_counter)
    settled, after = settle(counted, counters or ScaCounters())
    if isinstance(settled, Required):
        return "required", "", None
    return "exempt", checks.sca_basis, after


def _add(before: PeriodUse, limit: PayerLimit, amount_minor: int, currency: str) -> PeriodUse:
    sums = before.sums_minor
    if limit.max_minor:
        sums = {**sums, currency: sums.get(currency, 0) + amount_minor}
    return PeriodUse(before.period, before.count + 1, sums)


def _beyond(limit: PayerLimit, after: PeriodUse, currency: str) -> LimitReached | None:
    if limit.max_count and after.count > limit.max_count:
        detail = f"payment {after.count} of the payer is above the {limit.max_count} of rule {limit.rule}"
        return LimitReached(Reason.PAYER_LIMIT_REACHED, detail, limit.rule)
    if limit.max_minor and (total := after.sums_minor[currency]) > limit.max_minor:
        detail = f"{total} {currency} of the payer are above the {limit.max_minor} of rule {limit.rule} (minor units)"
        return LimitReached(Reason.PAYER_LIMIT_REACHED, detail, limit.rule)
    return None


def _period(used: PeriodUse) -> int:
    return used.period


def _forget(limits: dict[str, tuple[PeriodUse, ...]], but: set[str]) -> None:
    """Drop the rules whose newest period is the oldest; among equals the first name, so that it depends on nothing else."""
    spare = sorted((periods[-1].period, rule) for rule, periods in limits.items() if rule not in but)
    for _, rule in spare[: len(limits) - LIMITS_MAX]:
        del limits[rule]
