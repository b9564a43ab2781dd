"""Base rule sets: each is right, cites its sources, decides its cases, and never changes once it is released."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from connectors.rules.cases import read_cases, run_cases
from connectors.rules.editions import edition, edition_text, editions
from connectors.tenants.document import check_edition, parse_tenants

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "rules"
#: SHA-256 of the released editions. A change is a new edition: recorded decisions name these.
RELEASED: dict[str, str] = {}
CASE_FILES = sorted(path for path in CASES.glob("*/*.yaml") if path.name != "tenants.yaml")


@pytest.mark.parametrize("name", editions())
def test_an_edition_is_right_and_is_what_the_fast_reader_reads(name: str) -> None:
    """The program reads editions without checking them; here they are checked, by the reader that users' files go through."""
    assert check_edition(edition_text(name), f"{name}.yaml") == edition(name)
    assert edition(name).edition == name
    assert list((CASES / name).glob("*.yaml")), f"tests/rules/{name} has no cases"


def test_released_editions_are_what_they_were() -> None:
    """Byte for byte."""
    for name, sha256 in RELEASED.items():
        assert hashlib.sha256(edition_text(name).encode()).hexdigest() == sha256, f"{name} changed: make a new edition"


@pytest.mark.parametrize("path", CASE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_edition_decides_its_cases(path: Path) -> None:
    """As `ptr rules test` does."""
    tenants = parse_tenants((path.parent / "tenants.yaml").read_text(), "tenants.yaml", pics=("simulator",))
    results = run_cases(tenants, read_cases(path.read_text(), path.name), path.name)
    assert results
    assert [(result.case, result.differences) for result in results if result.differences] == []


def test_the_example_decides_its_cases() -> None:
    """What the documents show is what happens."""
    docs = ROOT / "docs"
    tenants = parse_tenants((docs / "tenants-example.yaml").read_text(), "tenants", pics=("simulator",))
    results = run_cases(tenants, read_cases((docs / "tenants-example.cases.yaml").read_text(), "cases"), "cases")
    assert [(result.case, result.differences) for result in results if result.differences] == []
