"""Writes the table of rules in docs/fraud.md: ``python docs/render_fraud.py``. A contract test compares them."""

from __future__ import annotations

from pathlib import Path

from pipeline.stages.fraud_library import LIBRARY, LIBRARY_VERSION
from pipeline.stages.fraud_rules import Family, Rule

PAGE = Path(__file__).resolve().parent / "fraud.md"
BEGIN, END = "<!-- rules: written by docs/render_fraud.py -->\n", "<!-- end of rules -->\n"


def thresholds_of(rule: Rule) -> str:
    """Each threshold with its default and meaning."""
    texts = [f"`{each.name}` {each.default:,.10g}: {each.about}" for each in rule.thresholds()]
    return "<br>".join(texts) or "none"


def weight_of(rule: Rule) -> str:
    """From just above the limit to far above it."""
    return f"{rule.weight:g}" if rule.weight == rule.ceiling else f"{rule.weight:g} to {rule.ceiling:g}"


def table() -> str:
    """All rules, by family."""
    lines = [f"{len(LIBRARY)} rules, library version {LIBRARY_VERSION}. All are switched on.\n"]
    for family in Family:
        lines.append(
            f"\n### {family.value.capitalize()}\n\n| rule | what it is a sign of | weight | thresholds |\n|---|---|---|---|\n"
        )
        for rule in LIBRARY.values():
            if rule.family is family:
                lines.append(f"| `{rule.name}` | {rule.about} | {weight_of(rule)} | {thresholds_of(rule)} |\n")
    return "".join(lines) + "\n"


def render() -> str:
    """The whole page with today's table in its place."""
    before, rest = PAGE.read_text().split(BEGIN)
    return before + BEGIN + "\n" + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(render())
