"""The compiled windows of profiles, against the reference in Python and against sums over single events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages import windows
from pipeline.stages.profiles import PayeeProfile, payee_features

if not windows.COMPILED:
    pytest.skip("pipeline.stages.native_windows is not compiled here", allow_module_level=True)

from pipeline.stages import native_windows

NOW = 489_000
#: Ages at and around where windows end.
EDGES = [edge + by for edge in (0, 2, 24, 168, 192, 336, 720, 888) for by in (-1, 0, 1)]
ages = st.one_of(st.sampled_from(EDGES), st.integers(-5, 1_000))
names = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), ages.map(lambda age: NOW - age), max_size=12)
numbers = st.integers(0, 3) | st.integers(-(2**45), 2**45)


@st.composite
def buckets(draw: st.DrawFn) -> list[list[int]]:
    """Hours, and five columns that may end early, as those of a row of an earlier version do."""
    hours = sorted(NOW - age for age in draw(st.sets(ages, max_size=20)))
    columns = []
    for _ in range(5):
        length = draw(st.just(len(hours)) | st.integers(0, len(hours)))
        columns.append(draw(st.lists(numbers, min_size=length, max_size=length)))
    return [hours, *columns]


@given(rows=buckets(), terminals=names, cards=names, limits=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_a_payers_windows_are_those_of_the_reference(
    rows: list[list[int]], terminals: dict[str, int], cards: dict[str, int], limits: tuple[int, int]
) -> None:
    """Every number, wherever windows begin and end."""
    arguments = (*rows, terminals, cards, NOW, *limits)
    assert native_windows.payer_facts(*arguments) == windows.payer_facts(*arguments)


@given(rows=buckets(), cards=names, cards_max=st.integers(1, 12))
def test_a_payees_windows_are_those_of_the_reference(
    rows: list[list[int]], cards: dict[str, int], cards_max: int
) -> None:
    """Every number, wherever windows begin and end."""
    arguments = (*rows, cards, NOW, cards_max)
    assert native_windows.payee_facts(*arguments) == windows.payee_facts(*arguments)


@pytest.mark.parametrize("amounts", [[2**63], [2**62, 2**62], [-(2**63), -1]])
def test_sums_of_more_than_64_bits_are_pythons(amounts: list[int]) -> None:
    """Never a wrong number: the compiled code refuses, and a profile is looked at by the reference."""
    hours = list(range(NOW - len(amounts) + 1, NOW + 1))
    ones = [1] * len(amounts)
    with pytest.raises(OverflowError):
        native_windows.payee_facts(hours, ones, amounts, ones, ones, ones, {}, NOW, 5)
    profile = PayeeProfile(hours=hours, counts=ones, amounts=amounts)
    assert payee_features(profile, NOW * 3_600_000)[4:6] == [sum(amounts)] * 2


@pytest.mark.parametrize("wrong", [None, (1, 2), [None], ["1"]])
def test_what_is_no_list_of_numbers_raises(wrong: Any) -> None:
    """Nothing is read past what is there."""
    with pytest.raises(TypeError):
        native_windows.payee_facts([NOW], wrong, [1], [1], [1], [1], {}, NOW, 5)
