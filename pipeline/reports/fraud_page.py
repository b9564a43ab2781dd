"""A fraud report as people read it: one HTML file that needs nothing else, or text. Pure: made of FraudReport.data()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from pipeline.reports import charts
from pipeline.reports.charts import Series
from pipeline.reports.fraud import ALERTS
from pipeline.stages.drift import PSI_LARGE, PSI_NOTABLE
from pipeline.stages.fraud_library import LIBRARY
from schemas.money import UnknownCurrencyError, format_amount

#: Dark, middle, light: told apart in print too (Okabe and Ito's colours for the colour-blind).
_DARK, _MIDDLE, _LIGHT, _RED = "#0072b2", "#56b4e9", "#cccccc", "#d55e00"
#: Features in the chart of drift; the table has all.
_DRIFT_SHOWN: Final = 12

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #ccc}
p{margin:.4rem 0}.note{color:#444}.figures{display:flex;flex-wrap:wrap;gap:1rem 2.2rem;margin:1rem 0}
.figures div{min-width:6.5rem}.figures b{display:block;font-size:1.45rem;font-weight:600}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%}
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #888}
svg{width:100%;height:auto;margin:.5rem 0}svg text{font:11px system-ui,sans-serif;fill:#1a1a1a}
svg .title{font-size:13px;font-weight:600}.grid{stroke:#ddd}.mark{stroke:#1a1a1a;stroke-dasharray:4 3}
@media print{body{margin:0;max-width:none}h2,svg{break-after:avoid}svg,tr,.figures{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}.scroll{overflow:visible}table{font-size:10px}}
"""


def html_of(data: Mapping[str, Any]) -> str:
    """The whole page. ``data`` is FraudReport's, with ``about`` (what it is of, by name) beside it."""
    total = data["total"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Fraud report</title><style>{_STYLE}</style></head><body><h1>Fraud report</h1>",
        f"<p class=note>{escape(about_of(data))}</p>",
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
        "ranks fraud above the rest. Weeks begin on Monday, UTC.</p></body></html>",
    ]
    return "\n".join(parts)


def about_of(data: Mapping[str, Any]) -> str:
    """One line: what the report is of."""
    about = data["about"]
    models = ", ".join(f"{name} ({count:,})" for name, count in data["models"].items())
    return (
        f"{about['tenant'] or 'All tenants'}, payments requested from {about['from']} to before {about['until']} (UTC), labels "
        f"known on {about['as_of']}. Models: {models or 'none'}."
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
        Series("caught fraud", _DARK, [each["caught"] for each in weeks]),
        Series("false alarms", _MIDDLE, [each["false_alarms"] for each in weeks]),
        Series("unknown", _LIGHT, [each["unknown"] for each in weeks]),
        Series("missed fraud", _RED, [each["missed"] for each in weeks]),
    ]
    quality = [
        Series("precision", _MIDDLE, [each["precision"] for each in weeks]),
        Series("recall", _DARK, [each["recall"] for each in weeks]),
        Series("average precision", _RED, [each["average_precision"] for each in weeks]),
    ]
    return charts.stacked_bars("Alerts and missed fraud", labels, alerts) + charts.lines("Quality", labels, quality)


def _score_chart(scores: Mapping[str, Sequence[int]]) -> str:
    labels = [f"{at / len(scores['fraud']):.2f}" for at in range(len(scores["fraud"]))]

    def shares(name: str) -> list[float | None]:
        whole = sum(scores[name])
        return [count / whole if whole else None for count in scores[name]]

    series = [Series("fraud", _RED, shares("fraud")), Series("genuine", _DARK, shares("genuine"))]
    return charts.lines("Scores: the share of fraud, and of genuine payments, in each twentieth", labels, series)


def _rule_chart(rules: Sequence[Mapping[str, Any]]) -> str:
    known = [each for each in rules if each["precision"] is not None]
    names, values = [each["rule"] for each in known], [each["precision"] for each in known]
    return charts.rows("Precision of each rule that fired", names, values, _DARK, 1.0) if known else ""


def _drift(data: Mapping[str, Any]) -> str:
    if not data["drift"]:
        return f"<p>{escape(data['about']['drift'])}</p>"
    shown = [each for each in data["drift"] if each["psi"] is not None][:_DRIFT_SHOWN]
    marks = ((PSI_NOTABLE, f"notable {PSI_NOTABLE}"), (PSI_LARGE, f"large {PSI_LARGE}"))
    names, values = [each["feature"] for each in shown], [each["psi"] for each in shown]
    note = f"<p class=note>{escape(data['about']['drift'])}</p>"
    return (
        note
        + charts.rows("Population stability index", names, values, _DARK, 2 * PSI_LARGE, marks)
        + _table(*drift_rows(data))
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>Nothing to show.</p>"
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: str) -> str:
    rule = LIBRARY.get(text)
    about = f' title="{escape(rule.about)}"' if rule else ""
    return f"<td{about}>{escape(text)}</td>"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
