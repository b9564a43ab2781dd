"""Where things are and what they are called: a new stage that forgets a part is told so."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from agents.context import Context
from connectors.lists.book import ListBook
from connectors.pic.ledger import MemoryLedger
from connectors.pic.simulator import Simulator
from connectors.tenants.book import TenantBook
from pipeline import topics
from pipeline.app import flow
from pipeline.engine.stage import Group
from pipeline.settings import STAGES
from pipeline.stages.watchlist import Watchlists
from schemas.codec import Codec

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "connectors", "pipeline", "schemas", "tables")
#: Where a stage's decision is: fraud decides for payer and payee, dispatch's state machine also for the plugin's answers.
DECISIONS = {
    "screening": ("screening", "screen"),
    "localization": ("localization", "localize"),
    "payer": ("profiles", "add_payer_payment"),
    "payee": ("fraud", "assess"),
    "reviews": ("reviews", "decide"),
    "dispatch": ("dispatch", "route"),
    "plugin": ("dispatch", "settle"),
    "parties": ("parties", "flag"),
}


def groups_by_stage() -> dict[str, list[Group]]:
    context = Context(
        codec=Codec(),
        tenants=TenantBook(),
        lists=ListBook(Watchlists([])),
        pics={"simulator": Simulator("simulator", MemoryLedger())},
    )
    return flow(context)


def test_the_composition_root_runs_every_stage() -> None:
    """What PTR_STAGES may name is what pipeline/app.py makes, in the same order."""
    assert tuple(groups_by_stage()) == STAGES == tuple(DECISIONS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_shell_decision_and_tests(stage: str) -> None:
    """agents/<stage>.py, a pure decision in pipeline/stages, its unit test, and the shell in tests/stream."""
    shell = importlib.import_module(f"agents.{stage}")
    assert stage == shell.NAME
    module, decision = DECISIONS[stage]
    assert callable(getattr(importlib.import_module(f"pipeline.stages.{module}"), decision))
    assert (ROOT / "tests" / "unit" / f"test_{module}.py").is_file()
    assert re.search(rf'"{stage}', (ROOT / "tests" / "stream" / "test_shells.py").read_text())


def test_every_source_is_a_topic_with_one_reader() -> None:
    """Two stages on one topic would split its records between them."""
    sources = [stage.source for groups in groups_by_stage().values() for group in groups for stage in group.stages]
    assert len(sources) == len(set(sources))
    assert set(sources) < {topic.name for topic in topics.all_topics(["simulator"])}


def test_every_changelog_is_a_topic() -> None:
    """A table's changelog must have been made, compacted, before a worker starts."""
    tables = {g.table.changelog for groups in groups_by_stage().values() for g in groups if g.table is not None}
    made = {topic.name for topic in topics.all_topics(["simulator"]) if topic.config["cleanup.policy"] == "compact"}
    books = (topics.TENANTS, topics.LISTS, topics.MODELS, topics.EXCEPTIONS, topics.CONTROLS)
    assert tables == made - {topic.name for topic in books}


def test_topics_are_named_by_participle_and_version() -> None:
    """payments.<participle>.v1; tables, queues and retries in their own way."""
    plain = {"dead-letter", "chargebacks", "seen"}  # things that are kept, not what happened to a payment
    for topic in topics.all_topics(["simulator"]):
        kinds = (
            r"payments\.([a-z-]+)\.v1",
            r"payments\.table\.[a-z_.]+\.v1",
            r"payments\.queue\.simulator\.v1",
            r"payments\.retry\.simulator\.\d+s\.v1",
            r"tenants\.configured\.v1",
            r"lists\.updated\.v1",
            r"parties\.([a-z]+)\.v1",
            r"models\.updated\.v1",
            r"fraud\.snoozed\.v1",
            r"heads\.signed\.v1",
            r"pics\.controlled\.v1",
            r"reviews\.([a-z-]+)\.v1",
            r"exceptions\.granted\.v1",
            r"operations\.([a-z]+)\.v1",
            r"inventory\.([a-z]+)\.v1",
            r"invoices\.([a-z]+)\.v1",
            r"erasures\.([a-z]+)\.v1",
        )
        found = [match for kind in kinds if (match := re.fullmatch(kind, topic.name))]
        assert found, topic.name
        if found[0].re.groups:
            assert found[0][1] in plain or found[0][1].endswith("ed"), topic.name


def test_the_classifier_keeps_it_off_the_public_index() -> None:
    """`agents` and `tables` are too common as names to be published."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "Private :: Do Not Upload" in setup["metadata"]["classifiers"]
    assert (setup["metadata"]["name"], setup["metadata"]["license"]) == ("payment-pipeline", "Apache-2.0")


def test_nobody_else_owns_our_packages() -> None:
    """No installed distribution has a top-level package of the same name, which would hide ours or be hidden by it."""
    owners = importlib.metadata.packages_distributions()
    others = {package: set(owners.get(package, ())) - {"payment-pipeline"} for package in PACKAGES}
    assert others == {package: set() for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_come_from_here(package: str) -> None:
    """The tests test this checkout."""
    where = importlib.import_module(package).__file__
    assert where is not None
    assert Path(where).is_relative_to(ROOT)
