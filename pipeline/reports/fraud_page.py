"""A fraud report as people read it: one HTML file that needs nothing else, or text. Pure: made of FraudReport.data()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from pipeline.reports import charts
from pipeline.reports.charts import Series
from pipeline.reports.fraud import ALERTS
from pipeline.reports.page import DARK, LIGHT, MIDDLE, RED, document, table
from pipeline.stages.drift import PSI_LARGE, PSI_NOTABLE
from pipeline.stages.fraud_library import LIBRARY
from schemas.money import UnknownCurrencyError, format_amount

#: Features in the chart of drift; the table has all.
_DRIFT_SHOWN: Final = 12


def html_of(data: Mapping[str, Any]) -> str:
    """The whole page. ``data`` is FraudReport's, with ``about`` (what it is of, by name) beside it."""
    total = data["total"]
    parts = [
        _figures(total),
        "<h2>By week</h2>",
        _week_charts(data["weeks"]),
        _table(*week_rows(data)),
        "<h2>Score</h2>",
        _score_chart(data["scores"]),
        _table(*ranking_rows(data)),
        "<h2>By rule</h2>",
        _rule_chart(data["rules"]),
        _table(*rule_rows(data)),
        "<h2>Drift of features against the training window</h2>",
        _drift(data),
        "<h2>What the words mean</h2>",
        "<p>An alert is a payment that was challenged, referred or declined. Precision is the share of fraud among the alerts "
        "of which something is known; its floor takes all others for genuine. Recall is the share of alerts among all known "
        "fraud. Fraud is known from chargebacks and refunds with a reason of fraud, and from reviews; a payment that went "
        "through and of which nothing was heard for seven days is genuine. Average precision and AUC say how well a score "
        "ranks fraud above the rest. Weeks begin on Monday, UTC.</p>",
    ]
    return document("Fraud report", about_of(data), parts)


def about_of(data: Mapping[str, Any]) -> str:
    """One line: what the report is of, and what is missing in it."""
    about = data["about"]
    models = ", ".join(f"{name} ({count:,})" for name, count in data["models"].items())
    missing = f" {about['missing']}" if "missing" in about else ""
    return (
        f"{about['tenant'] or 'All tenants'}, payments requested from {about['from']} to before {about['until']} (UTC), labels "
        f"known on {about['as_of']}. Models: {models or 'none'}.{missing}"
    )


def week_rows(data: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of the table of weeks, the total last."""
    counts = "week", "payments", *ALERTS, "fraud", "caught", "missed", "false", "unknown"
    headings = *counts, "precision", "floor", "recall", "AP", "caught money", "missed money"
    rows = []
    for each in [*data["weeks"], data["total"] | {"week": "total"}]:
        rows.append(
            [
                each["week"],
                f"{each['payments']:,}",
                *(f"{each['alerts'][name]:,}" for name in ALERTS),
                *(f"{each[name]:,}" for name in ("frauds", "caught", "missed", "false_alarms", "unknown")),
                *(_share(each[name]) for name in ("precision", "precision_floor", "recall", "average_precision")),
                money(each["caught_minor"]),
                money(each["missed_minor"]),
            ]
        )
    return headings, rows


def rule_rows(data: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of the table of rules, those that met most fraud first."""
    headings = (
        "rule",
        "fired",
        "alone",
        "snoozed",
        "in alerts",
        "fraud",
        "genuine",
        "precision",
        "recall",
        "fraud money",
    )
    rows = [
        [
            each["rule"],
            *(f"{each[name]:,}" for name in ("fired", "alone", "snoozed", "alerts", "frauds", "genuine")),
            _share(each["precision"]),
            _share(each["recall"]),
            money(each["fraud_minor"]),
        ]
        for each in data["rules"]
    ]
    return headings, rows


def ranking_rows(data: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of the table of scores."""
    names = {"score": "the score", "rules": "rules alone", "model": "champion alone", "challenger": "challenger alone"}
    rows = [
        [names[name], _share(each["average_precision"]), _share(each["auc"])]
        for name, each in data["rankings"].items()
        if each["average_precision"] is not None
    ]
    return ("", "average precision", "AUC"), rows


def drift_rows(data: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of the table of drift, the largest first."""
    return ("feature", "PSI", ""), [[each["feature"], _share(each["psi"]), said(each["psi"])] for each in data["drift"]]


def said(index: float | None) -> str:
    """What a population stability index is taken to say."""
    if index is None:
        return "nothing to compare"
    if index >= PSI_LARGE:
        return "moved: look at the model"
    return "notable" if index >= PSI_NOTABLE else ""


def money(minor: Mapping[str, int]) -> str:
    """Amounts of several currencies."""
    texts = []
    for currency, amount in minor.items():
        try:
            texts.append(format_amount(amount, currency))
        except UnknownCurrencyError:
            texts.append(f"{amount} minor units")
    return ", ".join(texts)


def _figures(total: Mapping[str, Any]) -> str:
    shown = {
        "payments": f"{total['payments']:,}",
        "alerts": f"{sum(total['alerts'].values()):,}",
        "known fraud": f"{total['frauds']:,}",
        "precision": _share(total["precision"]) or "–",
        "recall": _share(total["recall"]) or "–",
        "average precision": _share(total["average_precision"]) or "–",
        "caught": money(total["caught_minor"]) or "–",
        "missed": money(total["missed_minor"]) or "–",
    }
    return "<div class=figures>" + "".join(f"<div><b>{escape(b)}</b>{a}</div>" for a, b in shown.items()) + "</div>"


def _week_charts(weeks: Sequence[Mapping[str, Any]]) -> str:
    labels = [each["week"] for each in weeks]
    alerts = [
        Series("caught fraud", DARK, [each["caught"] for each in weeks]),
        Series("false alarms", MIDDLE, [each["false_alarms"] for each in weeks]),
        Series("unknown", LIGHT, [each["unknown"] for each in weeks]),
        Series("missed fraud", RED, [each["missed"] for each in weeks]),
    ]
    quality = [
        Series("precision", MIDDLE, [each["precision"] for each in weeks]),
        Series("recall", DARK, [each["recall"] for each in weeks]),
        Series("average precision", RED, [each["average_precision"] for each in weeks]),
    ]
    return charts.stacked_bars("Alerts and missed fraud", labels, alerts) + charts.lines("Quality", labels, quality)


def _score_chart(scores: Mapping[str, Sequence[int]]) -> str:
    labels = [f"{at / len(scores['fraud']):.2f}" for at in range(len(scores["fraud"]))]

    def shares(name: str) -> list[float | None]:
        whole = sum(scores[name])
        return [count / whole if whole else None for count in scores[name]]

    series = [Series("fraud", RED, shares("fraud")), Series("genuine", DARK, shares("genuine"))]
    return charts.lines("Scores: the share of fraud, and of genuine payments, in each twentieth", labels, series)


def _rule_chart(rules: Sequence[Mapping[str, Any]]) -> str:
    known = [each for each in rules if each["precision"] is not None]
    names, values = [each["rule"] for each in known], [each["precision"] for each in known]
    return charts.rows("Precision of each rule that fired", names, values, DARK, 1.0) if known else ""


def _drift(data: Mapping[str, Any]) -> str:
    if not data["drift"]:
        return f"<p>{escape(data['about']['drift'])}</p>"
    shown = [each for each in data["drift"] if each["psi"] is not None][:_DRIFT_SHOWN]
    marks = ((PSI_NOTABLE, f"notable {PSI_NOTABLE}"), (PSI_LARGE, f"large {PSI_LARGE}"))
    names, values = [each["feature"] for each in shown], [each["psi"] for each in shown]
    note = f"<p class=note>{escape(data['about']['drift'])}</p>"
    return (
        note
        + charts.rows("Population stability index", names, values, DARK, 2 * PSI_LARGE, marks)
        + _table(*drift_rows(data))
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(headings, rows, {name: rule.about for name, rule in LIBRARY.items()})


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
