"""Base rule sets: each is right, cites its sources, decides its cases, and never changes once it is released."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from connectors.pic.base import Abilities
from connectors.rules.cases import read_cases, run_cases
from connectors.rules.editions import edition, edition_text, editions
from connectors.tenants.document import check_edition, parse_tenants

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "rules"
#: SHA-256 of every edition. Once it is in a release a change is a new edition: recorded decisions name these.
RELEASED: dict[str, str] = {
    "ch-2026-11": "c7b3dc279db55479a032543c68cc1b6196544d0617be2fcaf16c0a3ea8899327",
    "eu-2026-11": "3494047eae73aabc5140050d8ba1b36a50bfad184f1ebbf34402bf22953624f3",
    "gb-2026-11": "8907437ca11621416ed7747f08e9411cbc83f64d228127d04245fc42cfa0b393",
    "jp-2026-11": "0e48dd93cad54333914b908505b2d2fb10136f0a0dda0404fdeee325d6de67a0",
    "us-2026-11": "8f517fb8323fac8085baec91ce325f7bf175ae1484ce7052b976e26fd26e8a16",
}
CASE_FILES = sorted(path for path in CASES.glob("*/*.yaml") if path.name != "tenants.yaml")


@pytest.mark.parametrize("name", editions())
def test_an_edition_is_right_and_is_what_the_fast_reader_reads(name: str) -> None:
    """The program reads editions without checking them; here they are checked, by the reader that users' files go through."""
    assert check_edition(edition_text(name), f"{name}.yaml") == edition(name)
    assert edition(name).edition == name
    assert list((CASES / name).glob("*.yaml")), f"tests/rules/{name} has no cases"


def test_released_editions_are_what_they_were() -> None:
    """Byte for byte; and none is left out here."""
    assert set(RELEASED) == set(editions())
    for name, sha256 in RELEASED.items():
        assert hashlib.sha256(edition_text(name).encode()).hexdigest() == sha256, f"{name} changed: make a new edition"


@pytest.mark.parametrize("path", CASE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_edition_decides_its_cases(path: Path) -> None:
    """As `ptr rules test` does."""
    tenants = parse_tenants((path.parent / "tenants.yaml").read_text(), "tenants.yaml", pics=("simulator",))
    results = run_cases(tenants, read_cases(path.read_text(), path.name), path.name)
    assert results
    assert [(result.case, result.differences) for result in results if result.differences] == []


#: What plugins of PICs in the examples can do, by hand.
ABILITIES = {
    "simulator": Abilities(),
    "stripe": Abilities(methods=frozenset({"card"})),
    "iso8583": Abilities(methods=frozenset({"card"})),
    "iso20022": Abilities(methods=frozenset({"bank_account"}), currencies=frozenset({"EUR"})),
}


@pytest.mark.parametrize(
    ("example", "pics"), [("tenants-example", ["simulator"]), ("routing-example", ["stripe", "iso8583", "iso20022"])]
)
def test_an_example_decides_its_cases(example: str, pics: list[str]) -> None:
    """What the documents show is what happens."""
    docs = ROOT / "docs"
    tenants = parse_tenants((docs / f"{example}.yaml").read_text(), "tenants", pics=pics, abilities=ABILITIES)
    results = run_cases(tenants, read_cases((docs / f"{example}.cases.yaml").read_text(), "cases"), "cases")
    assert results
    assert [(result.case, result.differences) for result in results if result.differences] == []
