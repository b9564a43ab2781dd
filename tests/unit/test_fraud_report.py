"""The fraud report: figures are recounted from the raw events, by another way than the report's."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from connectors.sinks.database import Database
from connectors.sinks.judged import judged_payments
from pipeline.commands.fraud import fraud
from pipeline.reports.fraud import DriftTally, FraudReport, Ranking, week_of
from pipeline.reports.fraud_page import html_of
from pipeline.stages.drift import psi
from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from pipeline.stages.labels import Source, Truth
from pipeline.training.figures import average_precision, roc_auc
from schemas.records import ChargebackReceived, PaymentCompleted, PaymentScored, Record, ReviewAnswered, RuleHit
from tests import audited

DAY_MS = 86_400_000
#: Monday, 2026-06-01.
MONDAY_MS = 20_605 * DAY_MS
AS_OF_MS = MONDAY_MS + 60 * DAY_MS
RULES = ("amount_high", "payee_burst_1h", "payer_velocity_1d")


def a_scored(number: int, **named: Any) -> PaymentScored:
    """A scored payment."""
    fields: dict[str, Any] = {
        "sender_partition": 0,
        "sender_offset": number,
        "rule_version": 1,
        "outcome": "approved",
        "payee_features": [1] * len(PAYEE_FEATURES),
        "score": 0.0,
        "score_reasons": [],
        "payer_features": [1] * len(PAYER_FEATURES),
        "fee_minor": 0,
        "pic": "simulator",
        "requested_at_ms": MONDAY_MS,
        "amount_minor": 1_000,
        "tenant": "acme",
        "payment_id": f"p{number:06d}",
        "creditor_id": "c1",
        "currency": "EUR",
        "debtor_id": "d1",
        "country": "DE",
        "method": "card",
        "token": "tok",
        "received_at_ms": MONDAY_MS,
        "request": b"",
    }
    return PaymentScored(**(fields | named))


def a_chargeback(of: PaymentScored, days: float, reason: str = "fraud", kind: str = "chargeback") -> ChargebackReceived:
    """``of`` is disputed so many days after it was paid."""
    return ChargebackReceived(
        tenant=of.tenant,
        payment_id=of.payment_id,
        creditor_id="c1",
        amount_minor=of.amount_minor,
        currency=of.currency,
        paid_at_ms=of.requested_at_ms,
        charged_back_at_ms=of.requested_at_ms + round(days * DAY_MS),
        reason=reason,
        kind=kind,
    )


def an_outcome(of: PaymentScored, outcome: str) -> PaymentCompleted:
    """What became of ``of``."""
    return PaymentCompleted(
        event_id=f"{of.tenant}|{of.payment_id}|completed",
        tenant=of.tenant,
        payment_id=of.payment_id,
        outcome=outcome,
        stage="settlement",
        rule_version=1,
        requested_at_ms=of.requested_at_ms,
        received_at_ms=of.received_at_ms,
        amount_minor=of.amount_minor,
        currency=of.currency,
    )


def a_review(of: PaymentScored, result: str, **named: Any) -> ReviewAnswered:
    """A person decided about ``of``, an hour after it was requested."""
    fields: dict[str, Any] = {
        "event_id": f"{of.tenant}|{of.payment_id}|review|payee|ended",
        "tenant": of.tenant,
        "payment_id": of.payment_id,
        "stage": "payee",
        "decision": {"approved": "approve", "rejected": "reject"}.get(result, result),
        "result": result,
        "by": "rita",
        "reason": "called them",
        "decided_at_ms": of.requested_at_ms + 3_600_000,
    }
    return ReviewAnswered(**(fields | named))


def write(database: Database, events: list[Record], first_offset: int = 0) -> None:
    """As the audit sink does."""
    audited.write(database, events, first_offset, recorded_at_ms=lambda event: AS_OF_MS)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty audit database."""
    with audited.a_database(f"sqlite:///{tmp_path}/audit.db") as opened:
        yield opened


def some_events(seed: int, payments: int) -> list[Record]:
    """Three weeks of traffic of two tenants in two currencies, with every kind of evidence, in no order."""
    rng = random.Random(seed)
    events: list[Record] = []
    for number in range(payments):
        bad = rng.random() < 0.15
        score = round(min(max(rng.gauss(0.6 if bad else 0.2, 0.25), 0.0), 1.0), 4)
        outcome = (
            "declined" if score >= 0.8 else "referred" if score >= 0.6 else "challenged" if score > 0.5 else "approved"
        )
        fired = [rule for rule in RULES if rng.random() < (0.5 if bad else 0.1)]
        scored = a_scored(
            number,
            tenant=rng.choice(["acme", "other"]),
            requested_at_ms=MONDAY_MS + rng.randrange(21 * DAY_MS),
            amount_minor=rng.randrange(100, 100_000),
            currency=rng.choice(["EUR", "JPY"]),
            score=score,
            rule_score=score / 2,
            outcome=outcome,
            rule_hits=[RuleHit(rule=r, value=2.0, limit=1.0, weight=0.4, snoozed=rng.random() < 0.1) for r in fired],
        )
        events.append(scored)
        stopped = outcome in ("referred", "declined")
        # Of some that fraud let pass nothing is known either: the PIC declined them.
        events.append(an_outcome(scored, "declined" if stopped or rng.random() < 0.1 else "paid"))
        if bad and not (stopped and rng.random() < 0.3):
            events.append(a_chargeback(scored, rng.uniform(1, 30), rng.choice(["fraud", "10.4"])))
        elif rng.random() < 0.1:
            events.append(a_chargeback(scored, 5, "not_received"))
        if bad and rng.random() < 0.1:
            events.append(a_chargeback(scored, 2, "fraud", "refund"))
    rng.shuffle(events)
    return events


def report_of(database: Database, tenant: str = "acme", **named: Any) -> dict[str, Any]:
    """The report's data."""
    made = FraudReport(named.pop("histograms", None))
    window = {"from_ms": MONDAY_MS, "until_ms": MONDAY_MS + 21 * DAY_MS, "as_of_ms": AS_OF_MS} | named
    for judged in judged_payments(database, tenant=tenant, **window):
        made.add(judged)
    return made.data()


def recounted(events: list[Record], tenant: str) -> dict[str, Any]:
    """The same figures by brute force from the events: sets of payments, no label function, no database."""
    scored = {e.payment_id: e for e in events if isinstance(e, PaymentScored) and e.tenant == tenant}
    paid = {e.payment_id for e in events if isinstance(e, PaymentCompleted) and e.outcome == "paid"}
    bad = {e.payment_id for e in events if isinstance(e, ChargebackReceived) and e.reason in ("fraud", "10.4")}
    bad &= scored.keys()
    good = (paid & scored.keys()) - bad
    alerts = {p for p, e in scored.items() if e.outcome != "approved"}
    weeks: dict[str, set[str]] = defaultdict(set)
    for payment, event in scored.items():
        weeks[("2026-06-01", "2026-06-08", "2026-06-15")[(event.requested_at_ms - MONDAY_MS) // (7 * DAY_MS)]].add(
            payment
        )

    def money(payments: set[str]) -> dict[str, int]:
        total: dict[str, int] = defaultdict(int)
        for payment in payments:
            total[scored[payment].currency] += scored[payment].amount_minor
        return dict(sorted(total.items()))

    def figures(which: set[str]) -> dict[str, Any]:
        known = sorted((bad | good) & which)
        labels = np.array([payment in bad for payment in known], dtype=np.bool_)
        scores = np.array([scored[payment].score for payment in known])
        caught, false_alarms = alerts & bad & which, alerts & good & which
        return {
            "payments": len(which),
            "alerts": {
                name: sum(scored[p].outcome == name for p in which) for name in ("challenged", "referred", "declined")
            },
            "caught": len(caught),
            "false_alarms": len(false_alarms),
            "unknown": len(alerts & which) - len(caught) - len(false_alarms),
            "frauds": len(bad & which),
            "missed": len(bad & which - alerts),
            "precision": pytest.approx(len(caught) / (len(caught) + len(false_alarms))),
            "precision_floor": pytest.approx(len(caught) / len(alerts & which)),
            "recall": pytest.approx(len(caught) / len(bad & which)),
            "alerted_minor": money(alerts & which),
            "caught_minor": money(caught),
            "missed_minor": money(bad & which - alerts),
            "average_precision": pytest.approx(average_precision(labels, scores)),
            "auc": pytest.approx(roc_auc(labels, scores)),
        }

    rules: dict[str, Any] = {}
    for rule in RULES:
        fired = {p for p, e in scored.items() if rule in [hit.rule for hit in e.rule_hits]}
        rules[rule] = {
            "fired": len(fired),
            "snoozed": sum(hit.snoozed for p in fired for hit in scored[p].rule_hits if hit.rule == rule),
            "alone": sum(len(scored[p].rule_hits) == 1 for p in fired),
            "alerts": len(fired & alerts),
            "frauds": len(fired & bad),
            "genuine": len(fired & good),
            "precision": pytest.approx(len(fired & bad) / len(fired & (bad | good))),
            "recall": pytest.approx(len(fired & bad) / len(bad)),
            "fraud_minor": money(fired & bad),
        }
    return {
        "total": figures(set(scored)),
        "weeks": [{"week": week} | figures(payments) for week, payments in sorted(weeks.items())],
        "rules": rules,
    }


def test_the_figures_are_those_of_the_raw_events(database: Database) -> None:
    """All counts, money, precision, recall, average precision and AUC, by week and by rule, recounted another way."""
    events = some_events(7, 1_500)
    write(database, events)
    expected, found = recounted(events, "acme"), report_of(database)
    assert found["total"] == expected["total"]
    assert found["weeks"] == expected["weeks"]
    assert {each.pop("rule"): each for each in found["rules"]} == expected["rules"]
    assert found["total"]["unknown"] > 10
    assert found["total"]["missed"] > 5
    assert report_of(database, tenant="")["total"]["payments"] == 1_500
    other = report_of(database, tenant="other")["total"]["payments"]
    assert other + found["total"]["payments"] == 1_500


def test_a_report_does_not_depend_on_its_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same report, whatever the pages are."""
    write(database, some_events(3, 60))
    whole = report_of(database, tenant="")
    for payments in (1, 2, 3, 7):
        monkeypatch.setattr("connectors.sinks.judged.PAGE_PAYMENTS", payments)
        assert report_of(database, tenant="") == whole


def test_a_report_knows_only_what_was_known_then(database: Database) -> None:
    """A chargeback of a later day is not seen, and silence is no proof before a week is over."""
    scored = a_scored(1, outcome="challenged", score=0.55)
    write(database, [scored, an_outcome(scored, "paid"), a_chargeback(scored, 9)])
    found = {days: report_of(database, as_of_ms=MONDAY_MS + round(days * DAY_MS))["total"] for days in (6.9, 7, 8.9, 9)}
    assert [(found[day]["unknown"], found[day]["false_alarms"], found[day]["caught"]) for day in found] == [
        (1, 0, 0),
        (0, 1, 0),
        (0, 1, 0),
        (0, 0, 1),
    ]


def test_reviews_are_labels(database: Database) -> None:
    """A person's word counts for fraud's reviews; not a time that ran out, an ignored decision, or screening's review.

    The event that a review sends on is no second payment: the first decision, referred, is the one that is judged.
    """
    made = [a_scored(number, outcome="referred", reason="fraud_score_raised", score=0.7) for number in range(6)]
    ended = [
        a_review(made[0], "approved"),
        a_review(made[1], "rejected"),
        a_review(made[2], "rejected", decision="expired", by="", reason=""),
        a_review(made[3], "ignored", ignored="too_late", event_id="ignored"),
        a_review(made[4], "rejected", stage="screening"),
        a_review(made[5], "approved"),
    ]
    sent_on = msgspec.structs.replace(made[0], outcome="approved", reason="review_approved", sender_offset=99)
    late = a_chargeback(made[5], 9)
    write(database, [*made, *ended, sent_on, late, *[an_outcome(each, "declined") for each in made[1:5]]])
    found = {
        judged.payment_id: (judged.outcome, judged.label.truth, judged.label.source)
        for judged in judged_payments(
            database, tenant="acme", from_ms=MONDAY_MS, until_ms=MONDAY_MS + DAY_MS, as_of_ms=AS_OF_MS
        )
    }
    assert found == {
        "p000000": ("referred", Truth.GENUINE, Source.REVIEW_APPROVED),
        "p000001": ("referred", Truth.FRAUD, Source.REVIEW_REJECTED),
        "p000002": ("referred", Truth.UNKNOWN, Source.NOTHING),
        "p000003": ("referred", Truth.UNKNOWN, Source.NOTHING),
        "p000004": ("referred", Truth.UNKNOWN, Source.NOTHING),
        "p000005": ("referred", Truth.FRAUD, Source.CHARGEBACK),
    }
    total = report_of(database)["total"]
    assert (total["payments"], total["caught"], total["false_alarms"], total["unknown"]) == (6, 2, 1, 3)


def test_only_the_days_that_were_asked_for(database: Database) -> None:
    """From the first millisecond to before the last."""
    inside = [a_scored(1), a_scored(2, requested_at_ms=MONDAY_MS + DAY_MS - 1)]
    outside = [a_scored(3, requested_at_ms=MONDAY_MS - 1), a_scored(4, requested_at_ms=MONDAY_MS + DAY_MS)]
    write(database, [*inside, *outside])
    found = judged_payments(database, tenant="acme", from_ms=MONDAY_MS, until_ms=MONDAY_MS + DAY_MS, as_of_ms=AS_OF_MS)
    assert [judged.payment_id for judged in found] == ["p000001", "p000002"]


def test_memory_is_flat(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times the payments take no more memory."""
    monkeypatch.setattr("connectors.sinks.judged.PAGE_PAYMENTS", 200)
    peaks = []
    for first, payments in ((0, 1_000), (1_000, 5_000)):
        events: list[Record] = [
            a_scored(number, score=number % 97 / 100, requested_at_ms=MONDAY_MS + number % 21 * DAY_MS)
            for number in range(first, first + payments)
        ]
        write(database, events, first)
        del events
        tracemalloc.start()
        counted = report_of(database, histograms={"amount": {"edges": [500.0, 5_000.0], "counts": [1, 2, 3]}})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert counted["total"]["payments"] == first + payments
    assert peaks[1] < 1.5 * peaks[0]


def test_weeks_begin_on_monday_utc() -> None:
    """The last millisecond of Sunday is of the week before."""
    assert week_of(MONDAY_MS).isoformat() == "2026-06-01"
    assert week_of(MONDAY_MS - 1).isoformat() == "2026-05-25"


def test_a_ranking_by_hand() -> None:
    """Scores 0.9 fraud, 0.8 genuine, 0.7 fraud: precisions 1 and 2/3, AP 5/6; AUC: 1 of 2 pairs; a tie counts half."""
    ranking = Ranking()
    for score, truth in ((0.9, Truth.FRAUD), (0.8, Truth.GENUINE), (0.7, Truth.FRAUD), (0.95, Truth.UNKNOWN)):
        ranking.add(score, truth)
    assert ranking.average_precision() == pytest.approx(5 / 6)
    assert ranking.auc() == pytest.approx(0.5)
    ranking.add(0.7, Truth.GENUINE)
    assert ranking.auc() == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert Ranking().average_precision() is None
    assert Ranking().auc() is None


def test_drift_by_hand() -> None:
    """Of 3 bins with 8, 1, 1 against 1, 1, 8 and half a payment added to each."""
    expected = 2 * ((8.5 - 1.5) / 11.5) * np.log(8.5 / 1.5)
    assert psi([8, 1, 1], [1, 1, 8]) == pytest.approx(expected)
    assert psi([80, 10, 10], [80, 10, 10]) == 0.0
    assert np.isnan(psi([0, 0], [1, 1]))
    with pytest.raises(ValueError, match="3 bins against 2"):
        psi([1, 2, 3], [1, 2])


def test_drift_counts_bins_as_training_does() -> None:
    """A value equal to an edge is at or below it; what the model does not know is left out."""
    histogram = {"edges": [1_000.0, 2_000.0], "counts": [10, 10, 10]}
    drift = DriftTally({"amount": histogram, "no_feature": histogram})
    for amount_minor in (1_000, 1_001, 2_000, 2_001):
        drift.add(a_scored(1, amount_minor=amount_minor))
    assert drift.result() == [{"feature": "amount", "psi": pytest.approx(psi([10, 10, 10], [1, 2, 1]))}]


def test_the_page_stands_alone_and_says_the_same(database: Database, tmp_path: Path) -> None:
    """One file without scripts or links; its charts are well-formed; its tables hold the figures of the JSON."""
    write(database, some_events(7, 800))
    url = f"sqlite:///{tmp_path}/audit.db"
    window = ("--database", url, "--from", "2026-06-01", "--to", "2026-06-22", "--as-of", "2026-07-31", "--no-drift")
    made = CliRunner().invoke(fraud, ["report", *window, "--format", "json"])
    assert made.exit_code == 0, made.output
    data = json.loads(made.stdout)
    file = tmp_path / "report.html"
    written = CliRunner().invoke(fraud, ["report", *window, "--format", "html", "--output", str(file)])
    assert written.exit_code == 0, written.output
    assert "800 payments" in written.stdout
    page = file.read_text()
    assert not re.search(r"<script|<link|<img|https?://|url\(|@import", page)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 4
    for chart in charts:
        assert ET.fromstring(chart).attrib["role"] == "img"
    bars = [bar for bar in re.findall(r"2026-06-08: caught fraud ([\d,]+)", page)]
    assert bars == [str(data["weeks"][1]["caught"])]
    for week in data["weeks"]:
        assert f"<td>{week['week']}</td><td>{week['payments']:,}</td>" in page
    table = CliRunner().invoke(fraud, ["report", *window], env={"COLUMNS": "250"})
    assert table.exit_code == 0, table.output
    total = data["total"]
    assert re.search(
        rf"^total +800 .* {total['precision']:.3f} +{total['precision_floor']:.3f}", table.stdout, re.MULTILINE
    )
    assert re.search(
        rf"^amount_high +{data['rules'][0]['fired'] if data['rules'][0]['rule'] == 'amount_high' else ''}",
        table.stdout,
        re.MULTILINE,
    )


def test_what_an_event_says_is_text_in_the_page(database: Database) -> None:
    """Nothing that somebody wrote into an event is markup."""
    nasty = RuleHit(rule="<script>alert(1)</script>", value=1.0, limit=0.0, weight=0.1)
    write(database, [a_scored(1, rule_hits=[nasty], model="<b>")])
    page = html_of(
        {"about": {"tenant": "<i>", "from": "", "until": "", "as_of": "", "drift": "<u>"}} | report_of(database)
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<(b|i|u)>(?!\d|–)", page)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "2026-06-01", "--to", "2026-06-01"], "--from must be before --to"),
        (["--from", "1990-01-01"], "at most 3660 days"),
        (["--from", "June"], "is no day"),
        (["--tenant", "A|b"], "not a tenant's id"),
        (["--database", "sqlite:///nowhere/audit.db", "--no-drift"], "nowhere/audit.db"),
    ],
)
def test_a_users_mistakes_are_told(arguments: list[str], told: str) -> None:
    """What is wrong, without a traceback."""
    result = CliRunner().invoke(fraud, ["report", *arguments])
    assert result.exit_code in (1, 2)
    assert told in " ".join(result.output.split())


def test_a_report_of_nothing_is_a_report(database: Database, tmp_path: Path) -> None:
    """No payments, no division by zero, in every format."""
    for shape in ("table", "json", "html"):
        arguments = ["report", "--database", f"sqlite:///{tmp_path}/audit.db", "--no-drift", "--format", shape]
        result = CliRunner().invoke(fraud, arguments)
        assert result.exit_code == 0, result.output
