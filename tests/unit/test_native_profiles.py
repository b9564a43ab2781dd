"""Payments counted by compiled code, against the reference in Python: the same rows and the same facts."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages import profiles, windows
from pipeline.stages.profiles import (
    CARDS_MAX,
    COUNTRIES_MAX,
    HOUR_MS,
    PAYEE_KEEP_HOURS,
    PAYER_KEEP_HOURS,
    SMALL_AMOUNT_MINOR,
    TERMINALS_MAX,
    PayeeProfile,
    PayerProfile,
    add_chargeback,
    add_credit,
    add_payer_payment,
    count_at_payee,
    count_at_payer,
)

if not windows.COMPILED:
    pytest.skip("pipeline.stages.native_windows is not compiled here", allow_module_level=True)

from pipeline.stages import native_windows

COUNTER = profiles.counter()
NOW_MS = 480_000 * HOUR_MS + 1_234_567
#: Steps in time: within the hour, to other windows, to another day, and now and then back.
steps = st.sampled_from(
    [0, 1, 999, 1000, 60_000, *(h * HOUR_MS for h in (1, 2, 23, 24, 25, 167, 168, 169, 719, 720, 721))]
)
steps |= st.sampled_from([-1, -HOUR_MS, -30 * HOUR_MS, -721 * HOUR_MS])
amounts = st.sampled_from([0, 1, SMALL_AMOUNT_MINOR, SMALL_AMOUNT_MINOR + 1, -5]) | st.integers(1, 10**7)
#: Those that no sum of 64 bits holds among them.
amounts |= st.sampled_from([2**62, 2**63 - 1, 2**63, 2**70])
names = st.sampled_from(["", "a", "b", "ç", "漢"])
keeps = st.sampled_from([PAYER_KEEP_HOURS, PAYEE_KEEP_HOURS] * 3 + [1, 24])


def same(row: msgspec.Struct, reference: msgspec.Struct) -> None:
    """Every field, the order of names included, as they are stored."""
    assert repr(row) == repr(reference)


@given(st.lists(st.tuples(steps, amounts, names, names, names, names, keeps), max_size=30), st.booleans())
def test_a_payers_row_and_facts_are_those_of_the_reference(payments: list[tuple[Any, ...]], credited: bool) -> None:
    """Whatever is paid when; what compiled code leaves to the reference it has not changed."""
    row, reference, at_ms = PayerProfile(), PayerProfile(), NOW_MS
    for number, (step, amount, terminal, card, country, home, keep) in enumerate(payments):
        if number == 5 and credited:
            assert add_credit(row, "p", at_ms, 7) == add_credit(reference, "p", at_ms, 7)
        at_ms += step
        before = repr(row)
        facts = COUNTER.add_payer_payment(row, at_ms, amount, terminal, card, country, home, keep)
        if facts is None:
            assert repr(row) == before
            facts = count_at_payer(row, at_ms, amount, terminal, card, country, home, keep)
        assert facts == count_at_payer(reference, at_ms, amount, terminal, card, country, home, keep)
        same(row, reference)


@given(st.lists(st.tuples(steps, amounts, names, st.booleans(), keeps), max_size=30), st.booleans())
def test_a_payees_row_is_that_of_the_reference(payments: list[tuple[Any, ...]], charged_back: bool) -> None:
    """Whatever is paid when, and charged back."""
    row, reference, at_ms = PayeeProfile(), PayeeProfile(), NOW_MS
    for number, (step, amount, card, new, keep) in enumerate(payments):
        if charged_back and number % 3 == 2:
            for each in (row, reference):
                add_chargeback(each, f"p{number}", at_ms - number * HOUR_MS)
        at_ms += step
        before = repr(row)
        counted = COUNTER.add_payee_payment(row, at_ms, amount, card, new, keep)
        if counted is None:
            assert repr(row) == before
            counted = count_at_payee(row, at_ms, amount, card, new, keep)
        assert counted == count_at_payee(reference, at_ms, amount, card, new, keep)
        same(row, reference)


def test_names_beyond_the_limits_are_forgotten_alike() -> None:
    """The oldest of them, terminals, cards and countries."""
    payer, payer_reference, payee, payee_reference = PayerProfile(), PayerProfile(), PayeeProfile(), PayeeProfile()
    for number in range(TERMINALS_MAX + TERMINALS_MAX // 4 + 40):
        at_ms, name = NOW_MS + number // 7 * HOUR_MS // 5, f"{number:x}"
        paid = (at_ms, 1000, name, name, name, "", PAYER_KEEP_HOURS)
        assert COUNTER.add_payer_payment(payer, *paid) == count_at_payer(payer_reference, *paid)
        got = (at_ms, 1000, name, True, PAYEE_KEEP_HOURS)
        assert COUNTER.add_payee_payment(payee, *got) is count_at_payee(payee_reference, *got) is True
    same(payer, payer_reference)
    same(payee, payee_reference)
    assert len(payer.terminals) < TERMINALS_MAX + TERMINALS_MAX // 4
    assert len(payee.cards) < CARDS_MAX + CARDS_MAX // 4
    assert len(payer.countries) <= COUNTRIES_MAX + COUNTRIES_MAX // 4


def test_the_usual_payment_is_counted_by_compiled_code() -> None:
    """Its first, one in the same hour, one months later; one that comes late is left to the reference."""
    payer, payee = PayerProfile(), PayeeProfile()
    for hours in (0, 0, 3000):
        at_ms = NOW_MS + hours * HOUR_MS
        assert COUNTER.add_payer_payment(payer, at_ms, 1000, "t", "c", "DE", "DE", PAYER_KEEP_HOURS) is not None
        assert COUNTER.add_payee_payment(payee, at_ms, 1000, "c", False, PAYEE_KEEP_HOURS)
    assert COUNTER.add_payer_payment(payer, NOW_MS, 1000, "t", "c", "DE", "DE", PAYER_KEEP_HOURS) is None
    assert COUNTER.add_payee_payment(payee, NOW_MS, 1000, "c", False, PAYEE_KEEP_HOURS) is None


@pytest.mark.parametrize("hours_later", [0, 1])
def test_a_row_of_an_earlier_version_is_left_to_the_reference(hours_later: int) -> None:
    """It lacks columns, which the reference adds."""
    hour, at_ms = NOW_MS // HOUR_MS, NOW_MS + hours_later * HOUR_MS
    payer, payee = (kind(hours=[hour], counts=[1], amounts=[5]) for kind in (PayerProfile, PayeeProfile))
    before = repr((payer, payee))
    assert COUNTER.add_payer_payment(payer, at_ms, 1, "t", "c", "DE", "DE", PAYER_KEEP_HOURS) is None
    assert COUNTER.add_payee_payment(payee, at_ms, 1, "c", True, PAYEE_KEEP_HOURS) is None
    assert repr((payer, payee)) == before
    assert add_payer_payment(payer, at_ms, 1, terminal="t")[0] == 2
    assert len(payer.hours) == len(payer.squares) == 1 + hours_later


@pytest.mark.parametrize("wrong", [{"hours": (1, 2)}, {"counts": None}, {"logs": [None]}, {"terminals": []}])
def test_what_is_no_row_raises(wrong: dict[str, Any]) -> None:
    """Nothing is read past what is there."""
    row = PayerProfile(hours=[NOW_MS // HOUR_MS], counts=[1], amounts=[1], smalls=[1], logs=[1], squares=[1])
    for name, value in wrong.items():
        setattr(row, name, value)
    with pytest.raises(TypeError):
        COUNTER.add_payer_payment(row, NOW_MS, 1, "t", "c", "DE", "DE", PAYER_KEEP_HOURS)


@given(st.lists(st.lists(st.integers(-(2**70), 2**70) | st.integers(-3, 900), min_size=3, max_size=3), max_size=5))
def test_facts_become_the_floats_that_numpy_makes(rows: list[list[int]]) -> None:
    """Bit for bit, also where a float cannot hold the number."""
    expected = np.array(rows, dtype=object).astype(np.float64).tobytes()
    assert bytes(native_windows.doubles(rows, 3)) == bytes(native_windows.doubles(map(tuple, rows), 3)) == expected


def test_a_row_with_a_fact_too_few_is_no_row() -> None:
    """Nothing is read past its end, and the others do not move."""
    with pytest.raises(ValueError, match="2 numbers in a row, 3 are expected"):
        native_windows.doubles([[1, 2, 3], [4, 5], [6, 7, 8, 9]], 3)
