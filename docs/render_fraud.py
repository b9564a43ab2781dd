"""Writes the tables of rules and features in docs/fraud.md: ``python docs/render_fraud.py``. A contract test compares them."""

from __future__ import annotations

from pathlib import Path

from pipeline.stages.features import FEATURE_SET, HANDBOOK_FEATURES, MODEL, PAYEE, PAYER, Feature
from pipeline.stages.fraud_library import LIBRARY, LIBRARY_VERSION
from pipeline.stages.fraud_rules import Family, Rule

PAGE = Path(__file__).resolve().parent / "fraud.md"
BEGIN, END = "<!-- rules: written by docs/render_fraud.py -->\n", "<!-- end of rules -->\n"
BEGIN_FEATURES, END_FEATURES = (
    "<!-- features: written by docs/render_fraud.py -->\n",
    "<!-- end of features -->\n",
)


def thresholds_of(rule: Rule) -> str:
    """Each threshold with its default and meaning."""
    texts = [f"`{each.name}` {each.default:,.10g}: {each.about}" for each in rule.thresholds()]
    return "<br>".join(texts) or "none"


def weight_of(rule: Rule) -> str:
    """From just above the limit to far above it."""
    return f"{rule.weight:g}" if rule.weight == rule.ceiling else f"{rule.weight:g} to {rule.ceiling:g}"


def table() -> str:
    """All rules, by family."""
    opt_in = ", ".join(f"`{rule.name}`" for rule in LIBRARY.values() if rule.opt_in)
    on = f"All are switched on but {opt_in}, which a tenant switches on by naming it."
    lines = [f"{len(LIBRARY)} rules, library version {LIBRARY_VERSION}. {on}\n"]
    for family in Family:
        lines.append(
            f"\n### {family.value.capitalize()}\n\n| rule | what it is a sign of | weight | thresholds |\n|---|---|---|---|\n"
        )
        for rule in LIBRARY.values():
            if rule.family is family:
                lines.append(f"| `{rule.name}` | {rule.about} | {weight_of(rule)} | {thresholds_of(rule)} |\n")
    return "".join(lines) + "\n"


def features() -> str:
    """Facts in their order, then what models read."""
    parts: tuple[tuple[str, tuple[Feature, ...]], ...] = (
        (f"Facts about the payer (`payer_features`, feature set {FEATURE_SET}, by place)", PAYER),
        ("Facts about the payee (`payee_features`)", PAYEE),
        (f"What a model may read (the first {len(HANDBOOK_FEATURES)} are the handbook's)", MODEL),
    )
    lines = []
    for title, found in parts:
        lines.append(f"\n### {title}\n\n| feature | unit | meaning |\n|---|---|---|\n")
        lines += [f"| `{each.name}` | {each.unit} | {each.about} |\n" for each in found]
    return "".join(lines) + "\n"


def render() -> str:
    """The whole page with today's tables in their places."""
    page = PAGE.read_text()
    for begin, end, made in ((BEGIN, END, table()), (BEGIN_FEATURES, END_FEATURES, features())):
        before, rest = page.split(begin)
        page = before + begin + "\n" + made + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(render())
