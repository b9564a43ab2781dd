"""The compiled comparison of names beside its reference: the same pairs of words, the same costs to the last bit."""

from __future__ import annotations

import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages import alignment, selection, spelling
from pipeline.stages.likeness import COMPILED

if not COMPILED:
    pytest.skip("pipeline.stages.native_names is not compiled here", allow_module_level=True)

from pipeline.stages import native_names as native

ROOT = Path(__file__).parents[2]
RUNS = settings(max_examples=100, deadline=None)

#: Families, particles, general words, initials, digits, words without vowels, other scripts, and what hardly differs.
_WORDS = (
    *(
        "ali",
        "alli",
        "aly",
        "abdul",
        "al",
        "bin",
        "hassan",
        "hasan",
        "hussein",
        "hsyn",
        "rhmn",
        "rahman",
        "slm",
        "sulayman",
    ),
    *(
        "ivan",
        "juan",
        "john",
        "k",
        "h",
        "7",
        "4x4",
        "bank",
        "trading",
        "sea",
        "lantern",
        "seal",
        "laurent",
        "nkunda",
        "laurentn",
    ),
    *(
        "北京",
        "北",
        "京",
        "김정은",
        "علي",
        "عبد",
        "сергеи",
        "хассан",
        "karim",
        "kareem",
        "karimov",
        "holding",
        "hol",
        "ding",
    ),
)
_SPELT = st.text("aeiouhklmnrstcz", min_size=1, max_size=12)
#: Around the longest word that is compiled, and the most words.
_LONG = st.integers(40, 60).map("kalmar".__mul__) | st.integers(44, 52).map(lambda n: ("ab" * n)[:n])
_NAMES = st.lists(st.sampled_from(_WORDS) | _SPELT | _SPELT.map(lambda word: word[::-1]), min_size=1, max_size=6).map(
    tuple
)
_MANY = st.lists(st.sampled_from(_WORDS) | _LONG, min_size=1, max_size=40).map(tuple)
_LETTERS = st.sampled_from([1, alignment.ROMAN_SYLLABLE_COST, alignment.SYLLABLE_LETTERS])
#: What is lost at most: with SCORE_MIN of a watchlist, and when every score is of interest.
_LOST_MAX = st.sampled_from([0.2001, 1.0001])


@RUNS
@given(_NAMES | _MANY, _NAMES | _MANY, _LETTERS, _LOST_MAX)
def test_the_same_words_are_paired_at_the_same_cost(
    left: tuple[str, ...], right: tuple[str, ...], letters: int, lost_max: float
) -> None:
    """For any two names of words that are easily mistaken; order and bits included, since sums depend on them."""
    assert native.align(left, right, letters, lost_max) == alignment.align(left, right, letters, lost_max)


@RUNS
@given(_SPELT, _SPELT, st.integers(0, 3), _LETTERS)
def test_misspelt_words(word: str, other: str, kept: int, letters: int) -> None:
    """Words that begin or end alike: most of them are one word with some wrong letters."""
    for theirs in (
        word[:kept] + other,
        other + word[kept:],
        word[:kept] + word[kept + 1 :],
        word[1::-1] + word[2:],
        other,
    ):
        left, right = (word, "varanov"), (theirs or "x", "varanof")
        assert native.align(left, right, letters, 1.0) == alignment.align(left, right, letters, 1.0)


def blocks_of(sounds: list[list[str]]) -> list[tuple[str, bytes]]:
    """As the index keeps them, numbered through."""
    numbers = iter(range(7, 1_000_000))
    return [(" ".join(block), array("i", [next(numbers) for _ in block]).tobytes()) for block in sounds]


_HEARD = st.text("aiukmnrh", min_size=1, max_size=9) | st.text("ik北", min_size=1, max_size=4) | st.just("kali" * 13)


@RUNS
@given(_HEARD, st.lists(st.lists(_HEARD, min_size=1, max_size=9), min_size=1, max_size=4), st.integers(1, 2))
def test_the_same_sounds_are_near(heard: str, sounds: list[list[str]], wrong_max: int) -> None:
    """In any script, longer ones than are compiled among them."""
    blocks = blocks_of(sounds)
    assert native.sounds_near(heard, blocks, wrong_max) == spelling.sounds_near(heard, blocks, wrong_max)


def test_sounds_counted_by_hand() -> None:
    """One letter more, one other, two swapped; not two others."""
    blocks = blocks_of([["karim", "karimu"], ["karin", "kairm", "kumin", "k"]])
    assert native.sounds_near("karim", blocks, 1) == {7, 8, 9, 10}


@st.composite
def hits(draw: Any) -> tuple[list[bytes], bytes, int]:
    """Words of a name, each with the listed names that may have it, the rarest first; some names stand there twice."""
    names_count = draw(st.integers(1, 120))
    names = st.integers(0, names_count - 1)
    found = draw(
        st.lists(st.lists(names, max_size=4) | st.lists(names, min_size=10, max_size=90), min_size=1, max_size=6)
    )
    sizes = bytes(draw(st.lists(st.integers(1, 7), min_size=names_count, max_size=names_count)))
    return [array("i", each).tobytes() for each in sorted(found, key=len)], sizes, draw(st.integers(1, 6))


@RUNS
@given(hits())
def test_the_same_names_are_compared(asked: tuple[list[bytes], bytes, int]) -> None:
    """Which of the names that share words are worth it, and the first forty of them; no question leaves a trace."""
    assert sorted(native.select(*asked)) == sorted(selection.select(*asked))


@pytest.mark.parametrize("select", [native.select, selection.select])
def test_names_to_compare_worked_out_by_hand(select: Any) -> None:
    """Two words in common, or one rare one where nothing else is missing; the commonest word counts only beside another."""
    rare, common = array("i", [0, 1, 1]).tobytes(), array("i", [0, *range(2, 20)]).tobytes()
    assert sorted(select([rare, common], bytes([2] * 20), 2)) == [0, 1]
    assert select([rare, common], bytes([3] * 20), 3) == [0]  # Of three words two are needed.
    assert sorted(select([common], bytes([1] * 20), 1)) == [0, *range(2, 20)]
    assert select([b""], b"", 1) == []


def test_lists_answer_the_same_without_it() -> None:
    """Every score, entry and reason, in another process that finds no compiled code: names of the sample list, misspelt."""
    script = (
        "import random, sys; {}"
        "from connectors.lists import sample\n"
        "from pipeline.stages.likeness import COMPILED\n"
        "from pipeline.stages.support import Support\n"
        "from pipeline.stages.watchlist import Watchlists\n"
        "entries, chance = sample.load(), random.Random(40)\n"
        "names = [name for entry in entries for name in (*entry.names, *entry.weak_names)]\n"
        "asked = [name.replace(chance.choice(name), chance.choice('aiokms '), 1) for name in names for _ in range(5)]\n"
        "lists = Watchlists(entries)\n"
        "print(COMPILED, file=sys.stderr)\n"
        "for name in asked: print(name, [match for match, _ in lists.matches(name, Support())])\n"
    )
    hide = "sys.modules['pipeline.stages.native_names'] = None\n"
    answers = [
        subprocess.run(
            [sys.executable, "-c", script.format(first)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        for first in ("\n", hide)
    ]
    assert [each.stderr.strip() for each in answers] == ["True", "False"]
    assert answers[0].stdout == answers[1].stdout
    assert answers[0].stdout.count("Match(") > 50
