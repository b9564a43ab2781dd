"""pipeline/stages/likeness.py."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.likeness import DIFFERENT_MAX, compare
from pipeline.stages.names import parse

_WORDS = ("ali", "alli", "abdul", "al", "hassan", "hasan", "ivan", "juan", "k", "7", "北", "京", "علي", "ltd", "gmbh")
_JOINED = ("hol", "ding", "holding")
NAMES = st.lists(st.sampled_from(_WORDS + _JOINED), max_size=6).map(" ".join)


def likeness(party: str, listed: str, kind: str = "person") -> tuple[float, tuple[str, ...]]:
    """The score and what made it."""
    found = compare(parse(party), parse(listed), kind)
    return found.score, found.evidence


@pytest.mark.parametrize(
    ("party", "listed", "score", "evidence"),
    [
        ("Vladimir Putin", "PUTIN, Vladimir", 1.0, ()),
        # One wrong letter in five: 0.0425 * 1 * (6 / 5) ** 0.5 = 0.0466
        ("Vladimir Pulin", "Vladimir Putin", 0.9534, ("spelling_differs",)),
        # Two wrong letters in one word of six: 0.0425 * 2 ** 1.3 = 0.1046
        ("Jansin Merxol", "Jansin Merkel", 0.8954, ("spelling_differs",)),
        # Three: 0.0425 * 3 ** 1.3 = 0.1773
        ("Mohammed Sultin", "Mohammed Salman", 0.8227, ("spelling_differs",)),
        # Doubled letters are a quarter of a mistake: 0.0425 * 0.25 ** 1.3 * (6 / 6) ** 0.5 = 0.0070
        ("Hasan Karimi", "Hassan Karimi", 0.993, ("spelling_differs",)),
        # A middle name that only the list has: 0.03
        ("Vladimir Putin", "Vladimir Vladimirovich Putin", 0.97, ("word_left_out",)),
        # ... and the other way round
        ("Vladimir Vladimirovich Putin", "Vladimir Putin", 0.97, ("word_left_out",)),
        # An initial is read as the beginning of a word: 0.05; one word in common is no further cost, nothing is missing
        ("V. Putin", "Vladimir Putin", 0.95, ("initial",)),
        # A different word in the same place: 0.25, and one word in common: 0.1
        ("Boris Abramovich", "Roman Abramovich", 0.65, ("word_differs", "one_word_in_common")),
        # Two of three agree: 0.25
        ("Tahir Jalil Dulaimi", "Tahir Jalil Tikriti", 0.75, ("word_differs",)),
        # One word of three: 0.1 and 2 * 0.03
        ("Walijan", "Walijan Abbas Haqqani", 0.84, ("one_word_in_common", "word_left_out")),
        # A particle that comes and goes weighs 0.15: 0.03 * 0.15 = 0.0045
        ("Bashar Assad", "Bashar al-Assad", 0.9955, ("word_left_out",)),
        # A word said twice is no other word.
        ("Shoigu Shoigu Sergey", "Sergey Shoigu", 0.9999, ()),
        # A space in the wrong place: 0.04
        ("Laurentn Kunda", "Laurent Nkunda", 0.96, ("spaces_differ",)),
        # A space too many costs nothing more than being noted: the letters are the same.
        ("Nikolai Patr ushev", "Nikolai Patrushev", 0.9999, ()),
        # John is Juan: 0.75 of a mistake in four letters: 0.0425 * 0.75 ** 1.3 * 1.5 ** 0.5 = 0.0358
        ("John Garcia", "Juan Garcia", 0.9642, ("spelling_differs",)),
        # Transliterated as sergei lavrov: a letter that sounds the same, 0.0070 as above
        ("Сергей Лавров", "Sergey Lavrov", 0.993, ("spelling_differs", "transliterated")),
        # One Chinese character of two is three letters of six: 0.0425 * 3 ** 1.3 = 0.1773
        ("王 小明", "王 小红", 0.8227, ("spelling_differs",)),
        ("Ali", "Zoe", 0.0, ()),
        ("A.", "Ali", 0.0, ()),  # one letter alone is nobody
        ("", "Ali", 0.0, ()),
        ("Ali", "---", 0.0, ()),
    ],
)
def test_scores_of_people_worked_out_by_hand(party: str, listed: str, score: float, evidence: tuple[str, ...]) -> None:
    """1 minus what each difference costs, with the reasons, the dearest first."""
    assert likeness(party, listed) == (pytest.approx(score, abs=0.0001), evidence)


@pytest.mark.parametrize(
    ("party", "listed", "score", "evidence"),
    [
        ("Siemens Aktiengesellschaft", "Siemens AG", 1.0, ()),
        ("Apple Inc.", "Apple", 1.0, ()),
        # A limited company is not a public one: 0.015
        ("Gazprom OOO", "Gazprom JSC", 0.985, ("legal_form_differs",)),
        # A word that only one organisation has tells it from others: 0.065
        ("Banco Santander Chile", "Banco Santander", 0.935, ("word_left_out",)),
        # ... a general one a little less: 0.8 * 0.065
        ("Greyhollow Meridian Trading", "Greyhollow Meridian", 0.948, ("word_left_out",)),
        ("Bank of China (Singapore)", "Bank of China (London)", 0.75, ("word_differs",)),
    ],
)
def test_scores_of_organisations_worked_out_by_hand(
    party: str, listed: str, score: float, evidence: tuple[str, ...]
) -> None:
    """Legal forms matter little, words that only one of two has more than in names of people."""
    assert likeness(party, listed, "organisation") == (pytest.approx(score, abs=0.0001), evidence)


def test_vessels() -> None:
    """The prefix of a ship is no part of its name; its other words tell ships apart as they do organisations."""
    assert likeness("MV Hellenic Spirit", "Hellenic Spirit", "vessel") == (1.0, ())
    assert likeness("Lady Leila", "Lady Rania", "vessel")[0] < 0.8
    assert likeness("Sea Lantern", "Sea Lantern Varesk", "vessel")[0] == pytest.approx(0.935)


@given(NAMES, NAMES)
def test_only_the_same_name_scores_one(party: str, listed: str) -> None:
    """For any two names: within 0 and 1, 1 for one key only, below it for any other, and the same both ways."""
    score, evidence = likeness(party, listed)
    assert 0 <= score <= 1
    assert score <= DIFFERENT_MAX or parse(party).key == parse(listed).key
    assert score < 1 or not evidence
    assert likeness(listed, party)[0] == pytest.approx(score)


def test_what_is_given_up_early_is_no_match_anyhow() -> None:
    """With a lowest score of interest every score from there on is the same, evidence included, and no other reaches it.

    All pairs of 300 names of one to five words, of few words that are alike, particles and words of organisations among them.
    """
    chance = random.Random(20261127)
    words = ["ali", "aly", "alia", "karim", "kareem", "karimov", "mohammed", "mahmud", "bin", "al", "abdul", "bank"]
    words += [
        "trading",
        "varanov",
        "varanoff",
        "waranow",
        "zahiran",
        "zahir",
        "zahra",
        "sea",
        "lantern",
        "seal",
        "o",
        "m",
    ]
    names = [parse(" ".join(chance.choices(words, k=chance.randint(1, 5)))) for _ in range(300)]
    given_up = 0
    for party in names:
        for listed in names:
            whole = compare(party, listed, "organisation")
            bounded = compare(party, listed, "organisation", 0.8)
            if whole.score >= 0.8:
                assert bounded == whole, (party, listed)
            else:
                assert bounded.score < 0.8, (party, listed)
                given_up += bounded.score == 0 != whole.score
    assert given_up > 1000
