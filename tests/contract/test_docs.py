"""The documents name everything that an operator or a client can meet: settings, metrics, topics, reasons, records."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agents.sink_page import SinkMetrics
from connectors.pic.registry import codes_of
from connectors.sinks.sink import Status
from pipeline.engine.metrics import Metrics
from pipeline.settings import Settings
from pipeline.stages.fraud_library import LIBRARY
from pipeline.topics import all_topics
from schemas.reasons import Error, Outcome, Reason
from schemas.records import RECORDS

SETTINGS = [field.name for field in fields(Settings)]
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
REASONS = (DOCS / "reference" / "reasons.md").read_text()
TOPICS = (DOCS / "reference" / "topics.md").read_text()


def _rows(text: str, heading: str = "") -> dict[str, list[str]]:
    """Rows of the tables below ``heading`` (everywhere when empty): the first cell's code to all cells."""
    if heading:
        text = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows[cells[0].split("`")[1]] = cells
    return rows


def _shown(value: object) -> str:
    """A default as the table writes it: code, nothing when empty."""
    text = (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return f"`{text}`" if text else ""


def test_every_setting_is_documented_with_its_default() -> None:
    """The table has each variable with the default that the program has, and no other; secrets are marked."""
    rows = _rows(OPERATIONS, "Settings")
    defaults = Settings()
    assert set(rows) == {f"PTR_{name.upper()}" for name in SETTINGS}
    for name in SETTINGS:
        cells = rows[f"PTR_{name.upper()}"]
        assert cells[1] == _shown(getattr(defaults, name)), name
        assert cells[0].endswith("†") == (name in Settings.SECRETS), name
        assert len(cells[2]) > 10


def test_every_metric_is_documented_with_its_labels() -> None:
    """The table has each metric under the name that Prometheus sees, its type and labels, and no other."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    rows = _rows(OPERATIONS, "Metrics")
    known = {}
    for metric in vars(metrics).values():
        (family,) = metric.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        known[name] = (family.type, ", ".join(metric._labelnames))
    for family in SinkMetrics(Status()).collect():
        known[family.name + ("_total" if family.type == "counter" else "")] = (family.type, "")
    assert {name: (cells[1], cells[2]) for name, cells in rows.items()} == known


@pytest.mark.parametrize(
    ("source", "says", "heading"),
    [
        ("pipeline/engine/lease.py", "no heartbeat was answered for a whole session", None),
        ("pipeline/engine/output.py", "was not delivered", None),
        ("pipeline/engine/output.py", "the producer failed for good", None),
        ("pipeline/engine/app.py", "nothing was committed", None),
        ("pipeline/engine/app.py", "not ready for", None),
        ("pipeline/engine/app.py", "partitions are taken away and a cycle did not end in time", None),
        ("pipeline/engine/app.py", "another worker runs in", None),
        ("pipeline/engine/app.py", "Faust's compiled parts are missing", None),
        ("pipeline/engine/runner.py", "went missing", None),
        ("pipeline/engine/transport.py", "goes by the same name", None),
        ("pipeline/engine/transport.py", "group membership failed", None),
        ("pipeline/app.py", "tenants' configurations are no longer read", None),
        ("pipeline/app.py", "sanctions lists are no longer read", None),
        ("pipeline/app.py", "fraud models are no longer read", None),
        ("pipeline/app.py", "snoozed fraud rules are no longer read", None),
        ("pipeline/app.py", "exceptions are no longer read", None),
        ("pipeline/app.py", "erasures are no longer read", None),
        ("pipeline/app.py", "which PICs are paused is no longer read", None),
        ("pipeline/engine/offsets.py", "stop its workers first", "another group reads its topics"),
    ],
)
def test_every_end_of_a_worker_has_a_heading(source: str, says: str, heading: str | None) -> None:
    """Whatever a worker says when it ends itself is still what the program says, and is a heading of "What to do when"."""
    assert says in (ROOT / source).read_text()
    headings = re.findall(r"^### (.+)$", OPERATIONS, re.MULTILINE)
    assert any((heading or says) in each for each in headings), headings


def test_no_end_of_a_worker_is_forgotten() -> None:
    """The engine ends its process at as many places as the test above knows, and for each side input that is followed; a new
    one needs a heading."""
    files = [ROOT / "pipeline/app.py", *(ROOT / "pipeline/engine").glob("*.py")]
    calls = [
        line
        for file in files
        for line in file.read_text().splitlines()
        if re.search(r"(?<!def )(end_process|\bfollow)\(", line)
    ]
    assert len(calls) == 17, calls


def test_every_topic_is_documented() -> None:
    """The reference has each topic with what is kept of it, and no other."""
    rows = _rows(TOPICS)
    topics = {topic.name: topic for topic in all_topics(("simulator",))}
    assert set(rows) == set(topics)
    for name, topic in topics.items():
        if topic.config["cleanup.policy"] == "compact":
            assert "compacted" in rows[name][3], name
        else:
            days = int(topic.config["retention.ms"]) // (24 * 60 * 60 * 1000)
            assert rows[name][3] == f"{days} days", name
        assert rows[name][4] == (str(topic.partitions) if topic.partitions else ""), name


@pytest.mark.parametrize(
    ("headings", "codes"),
    [
        (("Outcomes",), set(Outcome)),
        (
            (
                "Reasons of an outcome",
                "Reasons of a payment that goes on",
                "Reasons of a review",
                "Reasons of an operation",
                "Reasons of an unanswered ask",
            ),
            set(Reason),
        ),
        (("Errors of dead letters",), set(Error)),
    ],
    ids=["outcomes", "reasons", "errors"],
)
def test_every_code_is_documented(headings: tuple[str, ...], codes: set[str]) -> None:
    """The reference has each code once, and no other; a reason's outcome is one that exists."""
    rows: dict[str, list[str]] = {}
    for heading in headings:
        rows |= _rows(REASONS, heading)
    assert set(rows) == {str(code) for code in codes}
    if headings[0].startswith("Reasons"):
        outcomes = {each for cells in _rows(REASONS, headings[0]).values() for each in cells[1].split(", ")}
        assert outcomes <= set(Outcome)


def test_limits_in_the_reference_are_those_of_the_program() -> None:
    """Numbers that clients rely on are written as they are."""
    from schemas import limits

    assert f"{limits.METADATA_VALUE_CHARS_MAX}, their keys {limits.METADATA_KEY_CHARS_MAX}" in REASONS
    assert f"more than {limits.METADATA_ENTRIES_MAX} entries" in REASONS
    assert f"texts take {limits.TEXT_CHARS_MAX} characters" in REASONS
    assert f"above {limits.VALUE_BYTES_MAX // 1024} KiB" in REASONS
    assert limits.AMOUNT_MINOR_MAX == 10**13
    assert "above 10^13 minor units" in REASONS
    assert f"more than {limits.REQUESTED_AHEAD_MS_MAX // 60_000} minutes" in REASONS


def test_the_reference_of_records_is_that_of_the_schemas() -> None:
    """docs/schemas.md is what docs/render_schemas.py writes, and it holds each field of each schema with its meaning."""
    page = (DOCS / "schemas.md").read_text()
    rendered = runpy.run_path(str(DOCS / "render_schemas.py"))["render"]()
    assert page == rendered, "run: python docs/render_schemas.py"
    files = sorted((ROOT / "schemas" / "avro").glob("*.avsc"))
    assert len(files) == len(RECORDS)
    for file in files:
        schema = json.loads(file.read_text())
        section = page.split(f"\n## {schema['name']}\n", 1)[1].split("\n## ", 1)[0]
        assert list(_rows(section)) == [field["name"] for field in schema["fields"]]
        for field in schema["fields"]:
            assert field["doc"].replace("|", "\\|") in section


def test_the_table_of_fraud_rules_is_that_of_the_library() -> None:
    """docs/fraud.md holds what docs/render_fraud.py writes: rules with meaning, weight and thresholds; and the features."""
    page = (DOCS / "fraud.md").read_text()
    assert page == runpy.run_path(str(DOCS / "render_fraud.py"))["render"](), "run: python docs/render_fraud.py"
    rows = _rows(page.split("<!-- end of rules -->")[0])
    for name, rule in LIBRARY.items():
        assert rule.about in rows[name][1]
        assert f"{rule.weight:g}" in rows[name][2]
        assert all(f"`{each.name}` {each.default:,.10g}: {each.about}" in rows[name][3] for each in rule.thresholds())


def test_the_page_of_codes_is_that_of_the_plugins() -> None:
    """docs/plugins-codes.md is what docs/render_codes.py writes: every code of our plugins, what it means and allows."""
    page = (DOCS / "plugins-codes.md").read_text()
    assert page == runpy.run_path(str(DOCS / "render_codes.py"))["render"](), "run: python docs/render_codes.py"
    for title, name in (
        ("Simulator", "simulator"),
        ("Stripe", "stripe"),
        ("ISO 8583", "iso8583"),
        ("ISO 20022", "iso20022"),
    ):
        codes = codes_of(name)
        assert codes
        rows = _rows(page, title)
        assert {code: tuple(cells[1:]) for code, cells in rows.items()} == {
            code: (f"`{meant.code}`", f"`{meant.retry}`") for code, meant in codes.items()
        }


def test_every_decision_is_listed() -> None:
    """Decisions are numbered without gaps, titled by their number, and listed in the index under their title."""
    files = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    index = (DOCS / "decisions" / "README.md").read_text()
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        number, title = file.read_text().splitlines()[0].removeprefix("# ").split(" ", 1)
        assert number == file.name[:4]
        assert f"| [{number}]({file.name}) | {title} |" in index
        text = file.read_text()
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), file.name


def test_the_changelog_is_one() -> None:
    """Keep a Changelog: an Unreleased part first, and only its kinds of changes, but for what is known to be missing."""
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
