"""pipeline/stages/names.py."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.names import _token_likeness, likeness, tokens_of

JARO_WINKLER_CASES = Path(__file__).parents[3] / "shared/data/names/jaro_winkler_cases.csv"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Saddam Hussein", "hussein saddam"),
        ("Hussein, Saddam", "hussein saddam"),
        ("  HUSSEIN   saddam ", "hussein saddam"),
        ("Dr. José María Muñoz-Gómez", "gomez jose maria munoz"),
        ("Łukasz Ørsted", "lukasz orsted"),
        ("Straße", "strasse"),
        ("O’Brien, Seán", "obrien sean"),
        ("al-Qa`ida", "al qaida"),
        ("ＡＣＭＥ　Ｌｔｄ", "acme"),
        ("ACME TRADING CO., LTD.", "acme trading"),
        ("Acme S.A. de C.V.", "acme"),
        ("Acme Trading GmbH & Co. KG", "acme trading"),
        ("J.R.R. Tolkien", "jrr tolkien"),
        ("Bank of the North", "bank north"),
        ("Ali Ali", "ali ali"),
        ("The Limited Company", "company limited the"),
        ("محمد عبدالعلی", "عبدالعلی محمد"),
        ("金 正恩", "正恩 金"),
        ("", ""),
        ("--- ...", ""),
    ],
)
def test_one_spelling(name: str, tokens: str) -> None:
    """Case, accents, width, punctuation, order, titles and legal forms make no other name; repeats count."""
    assert " ".join(tokens_of(name)) == tokens


@given(st.text(max_size=60))
def test_spelling_is_final(name: str) -> None:
    """For any text: the tokens of tokens are themselves, sorted, none empty."""
    tokens = tokens_of(name)
    assert list(tokens) == sorted(tokens)
    assert all(tokens)
    assert tokens_of(" ".join(tokens)) == tokens or not name.isascii()


@given(st.text(max_size=60))
def test_order_and_case_do_not_matter(name: str) -> None:
    """For any ASCII words: reversed and in capitals they are the same name."""
    words = [word for word in name.split() if word.isascii() and word.isalnum()]
    assert tokens_of(" ".join(words)) == tokens_of(", ".join(reversed(words)).upper())


WORDS = st.lists(st.text(alphabet="abcdeé漢ع", min_size=1, max_size=9), max_size=6).map(
    lambda words: tuple(sorted(words))
)


@given(WORDS, WORDS)
def test_only_equal_names_score_one(party: tuple[str, ...], listed: tuple[str, ...]) -> None:
    """For any two names: within 0 and 1, and 1 exactly when they are equal."""
    score = likeness(party, listed)
    assert 0 <= score <= 1
    assert (score == 1) == (party == listed and bool(party))


@pytest.mark.parametrize(
    ("party", "listed", "score"),
    [
        # 13 of 13 characters, 13 of 26: (13 + 0.3 * 13) / (13 + 0.3 * 26)
        ("vladimir putin", "putin vladimir vladimirovich", 0.8125),
        # 5 of 13 characters: (5 + 0.3 * 5) / (13 + 0.3 * 5)
        ("ahmed goldberg", "ahmed", 0.4483),
        # martha, marhta: Winkler's own example, 0.9611: (0.9611 * 6 * 1.3 + 5 * 1.3) / (11 * 1.3)
        ("martha smith", "marhta smith", 0.9788),
        ("kim chol", "kin chol", 0.5714),  # short words must be equal: 4 of 7 characters
        ("ali", "abi", 0.0),
        # A short word is no beginning of a long one: 5 of 8 and of 13, 5 of 13 and of 8.
        ("moh smith", "mohammed smith", 0.5462),
        ("mohammed smith", "moh smith", 0.4221),
        ("a b", "a b c d", 0.8125),  # (2 + 0.3 * 2) / (2 + 0.3 * 4)
        ("", "ali", 0.0),
        ("ali", "", 0.0),
    ],
)
def test_scores_worked_out_by_hand(party: str, listed: str, score: float) -> None:
    """The share of characters in pairs of like words; the listed name's count 0.3."""
    assert likeness(tuple(party.split()), tuple(listed.split())) == pytest.approx(score, abs=0.0001)


def test_words_are_compared_by_jaro_winkler() -> None:
    """Single words of somebody else's cases score as they say, where they say that the words are alike at all.

    Theirs are whole names with tuning of their own on top, so only exact agreement on equal words is to be expected.
    """
    if not JARO_WINKLER_CASES.exists():
        pytest.skip("../shared/data/names/jaro_winkler_cases.csv is not there")
    with JARO_WINKLER_CASES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    equal = [row for row in rows if tokens_of(row["indexed"]) == tokens_of(row["search"]) and tokens_of(row["search"])]
    assert len(equal) > 5
    assert all(likeness(tokens_of(row["search"]), tokens_of(row["indexed"])) == 1 for row in equal)


@pytest.mark.parametrize(
    ("ours", "theirs", "score"),
    # Winkler 1990, table of examples (prefix scale 0.1, at most four letters).
    [("martha", "marhta", 0.9611), ("dwayne", "duane", 0.84), ("dixon", "dicksonx", 0.0), ("jones", "johnson", 0.0)],
)
def test_words_below_the_least_likeness_are_different(ours: str, theirs: str, score: float) -> None:
    """Winkler's examples: 0.9611 and 0.84 are alike, 0.8133 and 0.8324 are different words."""
    assert _token_likeness(ours, theirs) == pytest.approx(score, abs=0.0001)
