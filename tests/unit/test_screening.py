"""pipeline/stages/screening.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.lists.load import load_watchlists
from pipeline.stages.exceptions import entry_hash
from pipeline.stages.screening import Blocked, Clear, Referred, screen
from pipeline.stages.watchlist import ListEntry, Match, Watchlists
from schemas.reasons import Reason
from schemas.records import ListEvidence, Party
from schemas.tenant_rules import ScreeningRules

DATA = Path(__file__).parents[3] / "shared/data"
RULES = ScreeningRules(refer_at=0.9, block_at=1.0)
ENTRIES = (
    ListEntry("ofac", "1", "person", ("BLACKWOOD, Ignatius Thorne", "Iggy")),
    ListEntry("ofac", "2", "person", ("VARANOV, Miroslav",)),
    ListEntry("un", "U1", "person", ("Miroslav Varanov", "ميروسلاف فارانوف", "Kim Ok")),
    ListEntry("un", "U2", "organisation", ("GREYHOLLOW TRADING CO., LTD.", "---")),
)
LISTS = Watchlists(ENTRIES)


def party(name: str, **known: str) -> Party:
    """Somebody of whom nothing is known but the name."""
    return Party(id="x", name=name, country=known.pop("country", ""), **known)


#: The name of each entry that the cases below are like.
NAMES = {"1": "BLACKWOOD, Ignatius Thorne", "2": "VARANOV, Miroslav", "U2": "GREYHOLLOW TRADING CO., LTD."}


def evidence(
    party: str, list_: str, entry_id: str, score: float, name: str, listed: str = "", *support: str
) -> ListEvidence:
    """What names a listed entry, and both names."""
    return ListEvidence(
        party=party,
        list=list_,
        entry_id=entry_id,
        score=score,
        algorithm="mistakes-2",
        party_name=name,
        listed_name=listed or NAMES[entry_id],
        support=list(support),
        entry_hash=next(entry_hash(entry) for entry in ENTRIES if entry.entry_id == entry_id),
    )


@pytest.mark.parametrize(
    ("debtor", "creditor", "answer"),
    [
        ("Ada Lovelace", "Corner Shop", Clear()),
        (
            "Ignatius Thorne Blackwood",
            "Corner Shop",
            Blocked(Reason.PARTY_ON_SANCTIONS_LIST, evidence("debtor", "ofac", "1", 1.0, "ignatius thorne blackwood")),
        ),
        (
            "Ada Lovelace",
            "Greyhollow Trading",
            Blocked(Reason.PARTY_ON_SANCTIONS_LIST, evidence("creditor", "un", "U2", 1.0, "greyhollow trading")),
        ),
        # blackwod is blackwood but for a letter that is not heard, a quarter of a mistake in nine letters:
        # 1 - 0.0425 * 0.25 ** 1.3 * (6 / 9) ** 0.5 = 0.9943
        (
            "Ada Lovelace",
            "Ignatius Thorne Blackwod",
            Referred(
                Reason.PARTY_RESEMBLES_LISTED,
                evidence("creditor", "ofac", "1", 0.9943, "ignatius thorne blackwod", NAMES["1"], "spelling_differs"),
            ),
        ),
        # The strictest party decides: the creditor is listed, the debtor resembles somebody.
        (
            "Ignatius Thorne Blackwod",
            "Greyhollow Trading",
            Blocked(Reason.PARTY_ON_SANCTIONS_LIST, evidence("creditor", "un", "U2", 1.0, "greyhollow trading")),
        ),
        # Of equals the debtor, and of lists the first.
        (
            "Varanov Miroslav",
            "Greyhollow Trading",
            Blocked(Reason.PARTY_ON_SANCTIONS_LIST, evidence("debtor", "ofac", "2", 1.0, "varanov miroslav")),
        ),
        (
            "ميروسلاف فارانوف",
            "Corner Shop",
            Blocked(
                Reason.PARTY_ON_SANCTIONS_LIST,
                evidence("debtor", "un", "U1", 1.0, "ميروسلاف فارانوف", "ميروسلاف فارانوف"),
            ),
        ),
    ],
)
def test_decisions(debtor: str, creditor: str, answer: Clear | Referred | Blocked) -> None:
    """Listed is blocked, resembling is referred, and the evidence says which party, list and entry."""
    assert screen(party(debtor), party(creditor), lists=LISTS, rules=RULES) == answer


def test_the_tenants_thresholds_decide() -> None:
    """A score at the threshold counts; block_at below 1 blocks what resembles."""
    name = "Ignatius Thorne Blackwod"
    found = LISTS.best_match(name)
    assert found is not None
    at = found.score
    above = at + 0.0001
    assert isinstance(
        screen(party(name), party("x"), lists=LISTS, rules=ScreeningRules(refer_at=at, block_at=1.0)), Referred
    )
    assert isinstance(
        screen(party(name), party("x"), lists=LISTS, rules=ScreeningRules(refer_at=above, block_at=1.0)), Clear
    )
    assert isinstance(
        screen(party(name), party("x"), lists=LISTS, rules=ScreeningRules(refer_at=0.5, block_at=at)), Blocked
    )


@pytest.mark.parametrize(
    ("known", "score", "kind", "support"),
    [
        # Another year lowers a name that is the same below what blocks; 1 - 0.08.
        ({"birth_date": "1985-04-02"}, 0.92, Referred, ["birth_date_differs"]),
        ({"birth_date": "1985-04-02", "country": "FR"}, 0.905, Referred, ["birth_date_differs", "country_differs"]),
        ({"birth_date": "1951-02-03", "country": "RU"}, 1.0, Blocked, ["birth_date_agrees", "country_agrees"]),
        ({}, 1.0, Blocked, []),
    ],
)
@pytest.mark.parametrize("side", ["debtor", "creditor"])
def test_birth_date_and_country_speak_for_and_against_both_parties(
    side: str, known: dict[str, str], score: float, kind: type, support: list[str]
) -> None:
    """What the PTR knows of a party reaches the matcher, and the evidence says what it did."""
    lists = Watchlists(
        [ListEntry("un", "9", "person", ("Miroslav Varanov",), birth_dates=("1951-02-03",), countries=("RU",))]
    )
    listed, other = party("Miroslav Varanov", **known), party("Ada Lovelace", country="DE")
    pair = (listed, other) if side == "debtor" else (other, listed)
    found = screen(*pair, lists=lists, rules=RULES)
    assert isinstance(found, kind)
    assert isinstance(found, Referred | Blocked)
    assert (found.evidence.party, found.evidence.score, found.evidence.support) == (side, score, support)


@pytest.mark.parametrize(
    "name", ["Iggy Pop", "Kim", "Ok", "Kim Jones", "Mr Kim", "Thorne", "Trading Ltd", "", "-", "Ltd"]
)
def test_one_word_in_common_is_no_match(name: str) -> None:
    """Neither a short name nor one that shares a single word with a listed name is referred."""
    assert screen(party(name), party(name), lists=LISTS, rules=RULES) == Clear()


def test_a_listed_name_without_letters_matches_nothing() -> None:
    """``---`` on a list is no name, so that it is not equal to every other name without letters."""
    assert LISTS.best_match("...") is None
    assert LISTS.best_match("---") is None


def test_the_version_changes_with_the_content() -> None:
    """The same entries have the same version; another name, kind, id or entry another one."""
    assert Watchlists(ENTRIES).version == LISTS.version
    assert len(LISTS.version) == 12
    others = [
        ENTRIES[:3],
        (ListEntry("ofac", "1", "person", ("BLACKWOOD, Ignatius Thorne",)), *ENTRIES[1:]),
        (ListEntry("ofac", "1", "unknown", ENTRIES[0].names), *ENTRIES[1:]),
        (ListEntry("ofac", "9", "person", ENTRIES[0].names), *ENTRIES[1:]),
        (ListEntry("un", "1", "person", ENTRIES[0].names), *ENTRIES[1:]),
    ]
    assert len({LISTS.version, *(Watchlists(entries).version for entries in others)}) == 6
    assert Watchlists(ENTRIES, version="sample").version == "sample"


def test_an_unknown_kind_is_refused() -> None:
    """A kind that nobody defined is a mistake of whoever reads the list."""
    with pytest.raises(ValueError, match="ship"):
        Watchlists([ListEntry("ofac", "1", "ship", ("A",))])


def test_no_lists_is_clear() -> None:
    """Without entries nobody matches."""
    lists = Watchlists([])
    assert len(lists) == 0
    assert lists.best_match("Miroslav Varanov") is None


def test_of_equals_the_first_listed_in_every_process() -> None:
    """Two entries that a name is equally like: the first, however Python orders its sets (its hash seed)."""
    program = (
        "from pipeline.stages.watchlist import ListEntry, Watchlists\n"
        "names = [f'Miroslav Varano{letter} Petrovic' for letter in 'bcdfghklmnpqrstxz']\n"
        "lists = Watchlists(ListEntry('un', str(n), 'person', (name,)) for n, name in enumerate(names))\n"
        "print(lists.best_match('Miroslav Varanow Petrovic').entry_id)"
    )
    root = Path(__file__).parents[2]
    for seed in ("1", "2", "3"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert run.stdout == "0\n"


@pytest.fixture(scope="module")
def public_lists() -> Watchlists:
    """OFAC's list of 2021 and the UN's of 2026."""
    ofac, un = DATA / "ofac", DATA / "un/UN_consolidated.xml"
    for needed in (ofac / "sdn.csv", ofac / "alt.csv", un):
        if not needed.exists():
            pytest.skip(f"../shared/data/{needed.relative_to(DATA)} is not there")
    return load_watchlists((("ofac", str(ofac)), ("un", str(un))))


def test_a_listed_name_is_itself_in_any_order(public_lists: Watchlists) -> None:
    """The name of the last record of OFAC's file, as written there and as a payer writes it, scores 1."""
    match = Match(1.0, "ofac", "32391", "ousmane illiassou djibo", "DJIBO, Ousmane Illiassou")
    assert public_lists.best_match("DJIBO, Ousmane Illiassou") == match
    assert public_lists.best_match("Ousmane Illiassou Djibo") == match
