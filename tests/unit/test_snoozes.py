"""Snoozed rules: in force when, for whom, until when; what is refused; how little is held."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from connectors.snoozes import book as book_module
from connectors.snoozes.book import EFFECTIVE_DELAY_MS, KEPT_MS, Ignored, SnoozeBook, fault
from schemas.records import RuleSnoozed

RULE = "payer_velocity_1d"
WRITTEN_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
#: In force from here on.
FROM_MS = WRITTEN_MS + EFFECTIVE_DELAY_MS


def a_snooze(**named: Any) -> RuleSnoozed:
    """A valid record, an hour long."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "debtor_id": "d1",
        "rule": RULE,
        "until_ms": WRITTEN_MS + HOUR_MS,
        "by": "mo@example.org",
        "reason": "pays for a whole team",
        "decided_at_ms": WRITTEN_MS,
    }
    return RuleSnoozed(**(fields | named))


class Told:
    """Listens to a book."""

    def __init__(self) -> None:
        self.why: list[Ignored] = []

    def ignored(self, why: Ignored) -> None:
        self.why.append(why)


def off(book: SnoozeBook, at_ms: int, debtor_id: str = "d1", tenant: str = "acme") -> set[str]:
    """What is snoozed."""
    return set(book.snoozed(tenant, debtor_id, at_ms))


def test_nothing_is_snoozed_at_first() -> None:
    """The usual answer, and it is empty."""
    assert off(SnoozeBook(), 10**15) == set()


def test_a_snooze_is_in_force_three_seconds_after_it_was_written_until_its_time() -> None:
    """To the millisecond, by the payment's time of receipt and nobody's clock."""
    book = SnoozeBook()
    assert book.take(a_snooze(), WRITTEN_MS)
    assert EFFECTIVE_DELAY_MS == 3_000
    expected = {0: False, WRITTEN_MS + 2_999: False, WRITTEN_MS + 3_000: True}
    expected |= {WRITTEN_MS + HOUR_MS - 1: True, WRITTEN_MS + HOUR_MS: False, 10**15: False}
    assert {at_ms: off(book, at_ms) == {RULE} for at_ms in expected} == expected


def test_payers_rules_and_tenants_do_not_mix() -> None:
    """Each payer of each tenant has its own."""
    book = SnoozeBook()
    book.take(a_snooze(), WRITTEN_MS)
    book.take(a_snooze(rule="amount_high"), WRITTEN_MS)
    book.take(a_snooze(tenant="other", rule="amount_round"), WRITTEN_MS)
    assert off(book, FROM_MS) == {RULE, "amount_high"}
    assert off(book, FROM_MS, tenant="other") == {"amount_round"}
    assert off(book, FROM_MS, debtor_id="d2") == set()


def test_the_end_of_a_snooze_counts_from_its_own_time() -> None:
    """What was received before is decided as it was: a repeat after a crash finds the same."""
    book = SnoozeBook()
    book.take(a_snooze(), WRITTEN_MS)
    ended_ms = WRITTEN_MS + 60_000
    book.take(a_snooze(until_ms=ended_ms), ended_ms)
    assert off(book, ended_ms + EFFECTIVE_DELAY_MS - 1) == {RULE}
    assert off(book, ended_ms + EFFECTIVE_DELAY_MS) == set()
    again_ms = ended_ms + 1_000
    book.take(a_snooze(until_ms=again_ms + HOUR_MS), again_ms)
    assert off(book, again_ms + EFFECTIVE_DELAY_MS) == {RULE}
    assert off(book, ended_ms + EFFECTIVE_DELAY_MS) == set()
    assert off(book, FROM_MS) == {RULE}


def test_a_clock_that_goes_back_does_not_put_an_earlier_record_in_force() -> None:
    """The order of the topic counts."""
    book = SnoozeBook()
    book.take(a_snooze(), WRITTEN_MS)
    book.take(a_snooze(until_ms=0), WRITTEN_MS - 10_000)
    assert off(book, FROM_MS) == set()


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"rule": "no_such_rule"}, "no rule of that name"),
        ({"tenant": "A|b"}, "not a valid id"),
        ({"debtor_id": "a b"}, "not a valid id"),
        ({"by": " "}, "by must be"),
        ({"by": "x" * 81}, "by must be"),
        ({"reason": ""}, "reason must be"),
        ({"reason": "x" * 201}, "reason must be"),
        ({"reason": "a\nb"}, "reason must be"),
        ({"reason": "card 4111 1111 1111 1111"}, "card number"),
        ({"debtor_id": "4111111111111111"}, "card number"),
        ({"until_ms": -1}, "not a time"),
        ({"until_ms": 2**62}, "not a time"),
    ],
)
def test_what_is_no_snooze_is_refused_and_told(
    named: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted and logged, without what was in it; what was before stays."""
    told = Told()
    book = SnoozeBook(told)
    book.take(a_snooze(), WRITTEN_MS)
    with caplog.at_level(logging.ERROR):
        assert not book.take(a_snooze(**named), WRITTEN_MS)
    assert why in fault(a_snooze(**named))
    assert told.why == [Ignored.UNKNOWN_RULE if "rule" in named else Ignored.UNREADABLE]
    assert why in caplog.text
    assert "4111" not in caplog.text
    assert off(book, FROM_MS) == {RULE}


def test_a_rule_that_is_no_more_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Once for a tenant and rule, however many payers; each is counted. A name that no rule can have is not repeated."""
    told = Told()
    book = SnoozeBook(told)
    with caplog.at_level(logging.ERROR):
        for payer in range(50):
            book.take(a_snooze(debtor_id=f"d{payer}", rule="payer_velocity_2d"), WRITTEN_MS)
        book.take(a_snooze(tenant="other", rule="payer_velocity_2d"), WRITTEN_MS)
        book.take(a_snooze(rule="4111 1111 1111 1111"), WRITTEN_MS)
    assert told.why == [Ignored.UNKNOWN_RULE] * 52
    assert len(caplog.records) == 3
    assert "tenant acme, rule payer_velocity_2d" in caplog.text
    assert "4111" not in caplog.text
    assert len(book) == 0


@pytest.mark.parametrize(
    ("until_ms", "decided_at_ms", "expired"),
    [
        (WRITTEN_MS - 1, WRITTEN_MS - HOUR_MS, True),
        (FROM_MS, WRITTEN_MS, True),
        (FROM_MS + 1, WRITTEN_MS, False),
        # The end of a snooze: over when it was decided.
        (WRITTEN_MS, WRITTEN_MS, False),
        (0, WRITTEN_MS, False),
    ],
)
def test_a_snooze_that_is_over_when_it_arrives_is_told(
    until_ms: int, decided_at_ms: int, expired: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted each time and said once; as the latest word it ends what was before it."""
    told = Told()
    book = SnoozeBook(told)
    book.take(a_snooze(), WRITTEN_MS - HOUR_MS)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert book.take(a_snooze(until_ms=until_ms, decided_at_ms=decided_at_ms), WRITTEN_MS)
    assert told.why == [Ignored.EXPIRED] * 2 * expired
    assert len(caplog.records) == expired
    assert off(book, FROM_MS + 1) == set()


def test_the_log_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever invents rules fills no disk."""
    monkeypatch.setattr(book_module, "TOLD_MAX", 2)
    book = SnoozeBook(told := Told())
    with caplog.at_level(logging.ERROR):
        for letter in "abcde":
            book.take(a_snooze(rule=f"rule_{letter}"), WRITTEN_MS)
    assert (len(caplog.records), len(told.why)) == (2, 5)


def test_what_is_over_is_let_go_after_ten_minutes() -> None:
    """Before, a payment that was received in its time still finds it."""
    book = SnoozeBook()
    book.take(a_snooze(), WRITTEN_MS)
    over_ms = WRITTEN_MS + HOUR_MS
    book.tidy(over_ms + KEPT_MS - 1)
    assert (len(book), off(book, FROM_MS)) == (1, {RULE})
    book.tidy(over_ms + KEPT_MS)
    assert (len(book), off(book, FROM_MS)) == (0, set())
    assert not book._snoozes


def test_a_rule_that_is_snoozed_again_and_again_does_not_grow() -> None:
    """Only what may still be asked for is held: the one in force and those of the last ten minutes."""
    book = SnoozeBook()
    for minute in range(1_000):
        book.take(a_snooze(until_ms=WRITTEN_MS + 2_000 * 60_000), WRITTEN_MS + minute * 60_000)
    assert len(book._snoozes["acme", "d1"][RULE]) <= KEPT_MS / 60_000 + 2
    assert off(book, WRITTEN_MS + 999 * 60_000) == {RULE}


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused, known ones can still be changed, and room comes back."""
    monkeypatch.setattr(book_module, "SNOOZES_MAX", 2)
    told = Told()
    book = SnoozeBook(told)
    assert book.take(a_snooze(), WRITTEN_MS)
    assert book.take(a_snooze(debtor_id="d2"), WRITTEN_MS)
    assert not book.take(a_snooze(debtor_id="d3"), WRITTEN_MS)
    assert told.why == [Ignored.TOO_MANY]
    assert book.take(a_snooze(until_ms=0), WRITTEN_MS)
    book.tidy(WRITTEN_MS + HOUR_MS)
    assert book.take(a_snooze(debtor_id="d3"), WRITTEN_MS)
    book.forget("acme", "d2", RULE)
    assert len(book) == 1
