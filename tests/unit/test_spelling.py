"""pipeline/stages/spelling.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.spelling import mistakes, skeleton, sound

WORDS = st.text(alphabet="abcdeghikmqsuyz", min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ("qaddafi", "kadafi"),
        ("gaddafi gadhafi ghaddafi", "gadafi"),
        ("husayn husain", "husain"),
        ("sergey sergei sergej", "sirgi"),
        ("xi hsi", "shi"),
        ("schmidt shmidt", "shmidt"),
        ("dzhokhar jokar", "jukar"),
        ("philip filip", "filip"),
        ("wladimir vladimir", "vladimir"),
        ("mohammed mohamed", "muhamid"),
        ("4x4", "4x4"),
    ],
)
def test_spellings_of_one_sound(words: str, heard: str) -> None:
    """What transliterations and languages write differently sounds the same."""
    assert {sound(word) for word in words.split()} == {heard}


def test_consonants() -> None:
    """Vowels are what misspellings change most; a word without consonants keeps its vowels."""
    assert skeleton("mohammed") == skeleton("muhammad") == "mhmd"
    assert skeleton("aue") == sound("aue")


@pytest.mark.parametrize(
    ("ours", "theirs", "wrong"),
    [
        ("merkel", "merkel", 0),
        ("putin", "pulin", 1),  # one other letter, which sounds different too
        ("donald", "donlad", 1),  # two neighbours swapped
        ("salman", "sultan", 2),
        ("salman", "sultin", 3),
        ("qaddafi", "gaddafi", 1),
        ("hassan", "hasan", 0.25),  # one letter that is not heard
        ("ghaddafi", "gadafi", 0.5),  # two
        ("john", "juan", 0.75),  # one name in two languages
        ("hsyn", "hussein", 0.75),  # consonants of a script without vowels
        ("hsyn", "hassan", 0.75),
        ("rhmn", "rahman", 0.75),  # an h that is not heard
        ("slm", "sulayman", 2.75),  # one consonant missing where there are only consonants: 0.75 + 2
        ("kim", "sok", 3),
    ],
)
def test_mistakes_counted_by_hand(ours: str, theirs: str, wrong: float) -> None:
    """Letters that are wrong, the likely ones for a fraction."""
    assert mistakes(ours, theirs) == pytest.approx(wrong)


@given(WORDS, WORDS)
def test_mistakes_are_a_distance(ours: str, theirs: str) -> None:
    """For any two words: the same both ways, and nothing exactly when they are equal."""
    assert mistakes(ours, theirs) == mistakes(theirs, ours)
    assert (mistakes(ours, theirs) == 0) == (ours == theirs)
