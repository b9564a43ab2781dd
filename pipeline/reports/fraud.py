"""What fraud's decisions were worth: figures by week and by rule, money, and drift, out of judged payments. Pure.

Payments are given one after the other and are not kept: what is held grows with weeks, rules, currencies and distinct
scores (four decimals), never with payments.

An *alert* is a payment that was challenged, referred or declined. *Precision* is the share of fraud among the alerts of
which something is known, *recall* the share of alerts among all known fraud. Of a payment that was stopped nobody hears
without a review: such alerts are counted as ``unknown``, and the floor of the precision takes them all for genuine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.drift import psi
from pipeline.stages.features import MODEL_FEATURES, complete_payee, complete_payer, matrix
from pipeline.stages.labels import Label, Truth

#: What an alert may be.
ALERTS: Final = ("challenged", "referred", "declined")
#: Scores are told apart to this part, which is far below what a decision depends on.
SCORE_STEPS: Final = 10_000
#: Payments whose features are looked at together.
FEATURES_AT_ONCE: Final = 1_000
#: Rules and currencies by name; more come from nowhere but a defect, and go under one name.
NAMES_MAX: Final = 200
OTHERS: Final = "(others)"
_EPOCH: Final = date(1970, 1, 1)


class HitLike(Protocol):
    """A rule that fired."""

    @property
    def rule(self) -> str: ...
    @property
    def snoozed(self) -> bool: ...


class ScoredLike(Protocol):
    """What an event says of a scored payment."""

    @property
    def requested_at_ms(self) -> int: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def rule_score(self) -> float: ...
    @property
    def model(self) -> str: ...
    @property
    def model_score(self) -> float: ...
    @property
    def challenger(self) -> str: ...
    @property
    def challenger_score(self) -> float: ...
    @property
    def rule_hits(self) -> Sequence[HitLike]: ...
    @property
    def payer_features(self) -> Sequence[int]: ...
    @property
    def payee_features(self) -> Sequence[int]: ...


class JudgedLike(Protocol):
    """A scored payment and its label."""

    @property
    def outcome(self) -> str: ...
    @property
    def scored(self) -> ScoredLike: ...
    @property
    def label(self) -> Label: ...


@dataclass(slots=True)
class Ranking:
    """How scores rank fraud above the rest: counts of both by score."""

    fraud: Counter[int] = field(default_factory=Counter)
    genuine: Counter[int] = field(default_factory=Counter)

    def add(self, score: float, truth: Truth) -> None:
        """Count a payment; one of which nothing is known says nothing."""
        if truth is not Truth.UNKNOWN:
            counter = self.fraud if truth is Truth.FRAUD else self.genuine
            counter[round(min(max(score, 0.0), 1.0) * SCORE_STEPS)] += 1

    def average_precision(self) -> float | None:
        """The mean of the precisions at each score, weighted by the recall gained there; None without fraud."""
        bad = self.fraud.total()
        if not bad:
            return None
        found, seen, total = 0, 0, 0.0
        for score in sorted(self.fraud | self.genuine, reverse=True):
            found += self.fraud[score]
            seen += self.fraud[score] + self.genuine[score]
            total += self.fraud[score] / bad * found / seen
        return total

    def auc(self) -> float | None:
        """How often a fraud scores above a genuine payment, a tie counting half; None without both."""
        bad, good = self.fraud.total(), self.genuine.total()
        if not bad or not good:
            return None
        below, wins = 0, 0.0
        for score in sorted(self.fraud | self.genuine):
            wins += self.fraud[score] * (below + self.genuine[score] / 2)
            below += self.genuine[score]
        return wins / (bad * good)

    def bins(self, number: int) -> tuple[list[int], list[int]]:
        """Counts of fraud and of the rest in ``number`` equal parts of 0 to 1."""
        counts = ([0] * number, [0] * number)
        for counter, into in zip((self.fraud, self.genuine), counts, strict=True):
            for score, count in counter.items():
                into[min(score * number // SCORE_STEPS, number - 1)] += count
        return counts


@dataclass(slots=True)
class Money:
    """Minor units by currency."""

    minor: Counter[str] = field(default_factory=Counter)

    def add(self, currency: str, amount_minor: int) -> None:
        """Count an amount."""
        self.minor[_bounded(currency, self.minor)] += amount_minor


@dataclass(slots=True)
class Tally:
    """Payments of one week, of one rule, or of all."""

    payments: int = 0
    alerts: Counter[str] = field(default_factory=Counter)
    #: Alerts by what is known of them.
    caught: int = 0
    false_alarms: int = 0
    unknown: int = 0
    #: Fraud without an alert.
    missed: int = 0
    frauds: int = 0
    alerted_money: Money = field(default_factory=Money)
    caught_money: Money = field(default_factory=Money)
    missed_money: Money = field(default_factory=Money)

    def add(self, judged: JudgedLike, *, alert: bool) -> None:
        """Count a payment."""
        scored, truth = judged.scored, judged.label.truth
        money = scored.currency, scored.amount_minor
        self.payments += 1
        self.frauds += truth is Truth.FRAUD
        if alert:
            self.alerts[judged.outcome] += 1
            self.alerted_money.add(*money)
            self.caught += truth is Truth.FRAUD
            self.false_alarms += truth is Truth.GENUINE
            self.unknown += truth is Truth.UNKNOWN
            if truth is Truth.FRAUD:
                self.caught_money.add(*money)
        elif truth is Truth.FRAUD:
            self.missed += 1
            self.missed_money.add(*money)

    def precision(self) -> float | None:
        """Of the alerts of which something is known; None when nothing is of any."""
        known = self.caught + self.false_alarms
        return self.caught / known if known else None

    def precision_floor(self) -> float | None:
        """With all alerts of which nothing is known taken for genuine."""
        alerts = self.alerts.total()
        return self.caught / alerts if alerts else None

    def recall(self) -> float | None:
        """Of all known fraud; None when there is none."""
        return self.caught / self.frauds if self.frauds else None

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "payments": self.payments,
            "alerts": {name: self.alerts[name] for name in ALERTS},
            "caught": self.caught,
            "false_alarms": self.false_alarms,
            "unknown": self.unknown,
            "frauds": self.frauds,
            "missed": self.missed,
            "precision": self.precision(),
            "precision_floor": self.precision_floor(),
            "recall": self.recall(),
            "alerted_minor": dict(sorted(self.alerted_money.minor.items())),
            "caught_minor": dict(sorted(self.caught_money.minor.items())),
            "missed_minor": dict(sorted(self.missed_money.minor.items())),
        }


@dataclass(slots=True)
class RuleTally:
    """Payments on which one rule fired, whatever the answer was."""

    fired: int = 0
    snoozed: int = 0
    #: On which no other rule fired.
    alone: int = 0
    alerts: int = 0
    frauds: int = 0
    genuine: int = 0
    fraud_money: Money = field(default_factory=Money)

    def add(self, judged: JudgedLike, hit: HitLike, *, alone: bool, alert: bool) -> None:
        """Count a payment."""
        truth = judged.label.truth
        self.fired += 1
        self.snoozed += hit.snoozed
        self.alone += alone
        self.alerts += alert
        self.frauds += truth is Truth.FRAUD
        self.genuine += truth is Truth.GENUINE
        if truth is Truth.FRAUD:
            self.fraud_money.add(judged.scored.currency, judged.scored.amount_minor)

    def data(self, frauds: int) -> dict[str, Any]:
        """As plain data; ``frauds`` is all fraud that is known."""
        known = self.frauds + self.genuine
        return {
            "fired": self.fired,
            "snoozed": self.snoozed,
            "alone": self.alone,
            "alerts": self.alerts,
            "frauds": self.frauds,
            "genuine": self.genuine,
            "precision": self.frauds / known if known else None,
            "recall": self.frauds / frauds if frauds else None,
            "fraud_minor": dict(sorted(self.fraud_money.minor.items())),
        }


class DriftTally:
    """How features of scored payments are distributed over the bins of a model's training."""

    def __init__(self, histograms: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """``histograms`` by feature, as a model's file has them: ``edges`` and the ``counts`` between them."""
        self._edges = {
            name: np.asarray(each["edges"], dtype=np.float64)
            for name, each in histograms.items()
            if name in MODEL_FEATURES
        }
        self._expected = {name: list(histograms[name]["counts"]) for name in self._edges}
        self._actual = {name: np.zeros(len(edges) + 1, dtype=np.int64) for name, edges in self._edges.items()}
        self._waiting: list[ScoredLike] = []

    def add(self, scored: ScoredLike) -> None:
        """Count a payment's features."""
        self._waiting.append(scored)
        if len(self._waiting) >= FEATURES_AT_ONCE:
            self._count()

    def result(self) -> list[dict[str, Any]]:
        """The index of each feature, the largest first."""
        self._count()
        found = []
        for name, counts in self._actual.items():
            index = psi(self._expected[name], counts.tolist())
            found.append({"feature": name, "psi": None if math.isnan(index) else index})
        return sorted(found, key=lambda each: (-(each["psi"] or 0.0), each["feature"]))

    def _count(self) -> None:
        if not self._waiting or not self._edges:
            return
        rows: NDArray[np.float32] = matrix(
            [complete_payer(each.payer_features) for each in self._waiting],
            [complete_payee(each.payee_features) for each in self._waiting],
            [each.amount_minor for each in self._waiting],
            [each.requested_at_ms for each in self._waiting],
        )
        self._waiting.clear()
        for name, edges in self._edges.items():
            at = np.searchsorted(edges, rows[:, MODEL_FEATURES.index(name)], side="left")
            self._actual[name] += np.bincount(at, minlength=len(edges) + 1)


class FraudReport:
    """Give it judged payments, then take :meth:`data`."""

    def __init__(self, histograms: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> None:
        self._total = Tally()
        self._weeks: dict[date, tuple[Tally, Ranking]] = {}
        self._rules: dict[str, RuleTally] = {}
        self._rankings = {name: Ranking() for name in ("score", "rules", "model", "challenger")}
        self._sources: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._drift = None if histograms is None else DriftTally(histograms)

    def add(self, judged: JudgedLike) -> None:
        """Count a payment."""
        scored, truth = judged.scored, judged.label.truth
        alert = judged.outcome in ALERTS
        self._total.add(judged, alert=alert)
        week = week_of(scored.requested_at_ms)
        tally, ranking = self._weeks.setdefault(week, (Tally(), Ranking()))
        tally.add(judged, alert=alert)
        ranking.add(scored.score, truth)
        self._sources[judged.label.source] += 1
        self._models[_bounded(scored.model, self._models)] += 1
        self._rankings["score"].add(scored.score, truth)
        self._rankings["rules"].add(scored.rule_score, truth)
        if scored.model:
            self._rankings["model"].add(scored.model_score, truth)
        if scored.challenger:
            self._rankings["challenger"].add(scored.challenger_score, truth)
        hits = scored.rule_hits
        for hit in hits:
            rule = self._rules.setdefault(_bounded(hit.rule, self._rules), RuleTally())
            rule.add(judged, hit, alone=len(hits) == 1, alert=alert)
        if self._drift is not None:
            self._drift.add(scored)

    def data(self) -> dict[str, Any]:
        """All figures, as plain data: what is shown, and what ``--format json`` prints."""
        frauds = self._total.frauds
        rules = sorted(self._rules.items(), key=lambda item: (-item[1].frauds, -item[1].fired, item[0]))
        fraud_bins, genuine_bins = self._rankings["score"].bins(20)
        return {
            "total": self._total.data() | _ranked(self._rankings["score"]),
            "rankings": {name: _ranked(ranking) for name, ranking in self._rankings.items()},
            "scores": {"fraud": fraud_bins, "genuine": genuine_bins},
            "labels": dict(sorted(self._sources.items())),
            "models": {name or "(none)": count for name, count in sorted(self._models.items())},
            "weeks": [
                {"week": week.isoformat()} | tally.data() | _ranked(ranking)
                for week, (tally, ranking) in sorted(self._weeks.items())
            ],
            "rules": [{"rule": name} | tally.data(frauds) for name, tally in rules],
            "drift": [] if self._drift is None else self._drift.result(),
        }


def week_of(at_ms: int) -> date:
    """The Monday (UTC) of the week of ``at_ms``."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC).date()
    return day - timedelta(days=day.weekday())


def _ranked(ranking: Ranking) -> dict[str, float | None]:
    return {"average_precision": ranking.average_precision(), "auc": ranking.auc()}


def _bounded(name: str, known: Mapping[str, object]) -> str:
    return name if name in known or len(known) < NAMES_MAX else OTHERS
