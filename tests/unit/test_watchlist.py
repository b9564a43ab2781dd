"""pipeline/stages/watchlist.py."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from pipeline.stages.support import Support
from pipeline.stages.watchlist import ListEntry, Match, Watchlists

LISTS = Watchlists(
    [
        ListEntry("un", "U1", "person", ("Miroslav Varanov",), birth_dates=("1960",), countries=("RU",)),
        ListEntry("un", "U2", "person", ("Miroslav Varanov",), birth_dates=("1985-03-01",), countries=("RS",)),
        ListEntry("un", "U3", "person", ("Qasim Nuruddin al-Zahiran",), weak_names=("Abu Zahra", "Kasim Zahrani")),
        ListEntry("ofac", "4", "organisation", ("GREYHOLLOW MERIDIAN TRADING CO., LTD.", "Greyhollow")),
        ListEntry("ofac", "5", "vessel", ("SEA LANTERN OF VARESK",)),
        ListEntry("ofac", "6", "person", ("Сергей Ковалёнок", "陳大文", "عبد الرحمن الشمري")),
    ]
)


def found(name: str, support: Support | None = None) -> tuple[str, float] | None:
    """Entry and score of the best match."""
    match = LISTS.best_match(name, support)
    return (match.entry_id, match.score) if match else None


def test_a_match_says_all_that_a_person_needs_to_judge_it() -> None:
    """List, entry, both names, score, what made it, and the algorithm; the party's name as it was compared.

    Kassem for Qasim is three letters that sound the same, 0.75 of a mistake: 0.0425 * 0.75 ** 1.3 = 0.0292; one letter of
    eight in Nureddin: 0.0425 * (6 / 8) ** 0.5 = 0.0368; the article: 0.0045.
    """
    assert LISTS.best_match("Mr. Kassem Nureddin Zahiran") == Match(
        score=0.9295,
        list="un",
        entry_id="U3",
        party_name="kassem nureddin zahiran",
        listed_name="Qasim Nuruddin al-Zahiran",
        evidence=("spelling_differs", "word_left_out"),
        algorithm="mistakes-2",
    )


@pytest.mark.parametrize(
    ("party", "entry_id"),
    [
        ("VARANOV, Miroslav", "U1"),
        ("M. Varanov", "U1"),
        ("Miroslaw Waranow", "U1"),
        ("Miro slav Varanov", "U1"),
        ("MiroslavVaranov", "U1"),
        ("Мирослав Варанов", "U1"),
        ("Miroslav Petar Varanov", "U1"),
        ("Sergey Kovalyonok", "6"),
        ("Sergej Kowalenok", "6"),
        ("Chen Dawen", "6"),
        ("Abdulrahman al-Shammari", "6"),
        ("عبدالرحمن الشمري", "6"),
        ("Greyhollow Meridian Trading Limited", "4"),
        ("Grey Hollow Meridian Trading", "4"),
        ("M/V Sea Lantern of Varesk", "5"),
    ],
)
def test_ways_to_write_a_listed_name(party: str, entry_id: str) -> None:
    """Order, initials, spaces, scripts, transliterations, legal forms and prefixes: all are referred at the default 0.90."""
    match = LISTS.best_match(party)
    assert match is not None
    assert (match.entry_id, match.score >= 0.9) == (entry_id, True)


@pytest.mark.parametrize(
    "party", ["Miroslav", "Varanov Trading Ltd", "Boris Varanov", "Sea Lion", "Chen", "Abdul", "Petar"]
)
def test_who_is_not_listed(party: str) -> None:
    """One word in common is not enough to refer."""
    match = LISTS.best_match(party)
    assert match is None or match.score < 0.9


def test_weak_aliases_score_lower() -> None:
    """The same name as a weak alias refers and does not block: 1 - 0.025; as a strong one it would score 1."""
    assert found("Kasim Zahrani") == ("U3", 0.975)
    match = LISTS.best_match("Kasim Zahrani")
    assert match is not None and match.evidence == ("weak_alias",)


def test_a_birth_date_finds_the_right_one_of_two() -> None:
    """Of two entries of one name the one whose birth date and country agree; unknown, the first."""
    assert found("Miroslav Varanov") == ("U1", 1.0)
    assert found("Miroslav Varanov", Support("1985-03-01", ("RS",))) == ("U2", 1.0)
    assert found("Miroslav Varanov", Support("1960")) == ("U1", 1.0)


def test_a_differing_birth_date_refers_what_the_name_alone_would_block() -> None:
    """Same name, other year: 1 - 0.08, referred; nearly the same name, other year: below 0.90, clear."""
    assert found("Miroslav Varanov", Support("1940")) == ("U1", 0.92)
    misspelt = found("Miroslav Varanof", Support("1940"))
    assert misspelt is not None and misspelt[1] < 0.9
    match = LISTS.best_match("Miroslav Varanov", Support("1940"))
    assert match is not None and match.evidence == ("birth_date_differs",)


def test_what_is_known_does_not_change_what_is_remembered() -> None:
    """A question with a birth date leaves the answer without one as it was."""
    before = LISTS.best_match("Miroslav Varanov")
    LISTS.best_match("Miroslav Varanov", Support("1940"))
    assert LISTS.best_match("Miroslav Varanov") == before


def test_the_strong_name_counts_when_an_alias_says_the_same() -> None:
    """A name that an entry has both as strong and as weak is strong."""
    lists = Watchlists([ListEntry("un", "1", "person", ("Iggy Blackwood",), weak_names=("BLACKWOOD, Iggy",))])
    match = lists.best_match("Iggy Blackwood")
    assert match is not None and match.score == 1.0
    assert len(lists) == 1


def test_lists_that_are_replaced_are_freed() -> None:
    """Without a garbage collection: a worker freezes what it has, and each version takes tens of megabytes."""
    lists = Watchlists([ListEntry("ofac", "1", "person", ("Ada Lovelace",))])
    assert lists.best_match("Ada Lovelace") is not None
    gone = ref(lists)
    gc.disable()
    try:
        del lists
        assert gone() is None
    finally:
        gc.enable()
