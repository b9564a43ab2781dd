"""pipeline/stages/reconciliation.py: what an attempt and the lines about it make together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.reconciliation import (
    OPEN,
    AmountDiffers,
    Attempt,
    AtTheEdge,
    DuplicateThere,
    Finding,
    Line,
    Matched,
    MissingHere,
    MissingThere,
    Span,
    StatusDiffers,
    is_tenants,
    judge,
    news,
    shown,
)

NOVEMBER = Span(1_000_000, 2_000_000)


def an_attempt(outcome: str = "paid", **named: Any) -> Attempt:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "payment_id": "p1",
        "operation_id": "",
        "attempt": 1,
        "movement": "payment",
        "outcome": outcome,
        "amount_minor": 1_234,
        "currency": "EUR",
        "pic_reference": "pi_1",
        "first_ms": 1_200_000,
        "last_ms": 1_300_000,
    }
    return Attempt(**(fields | named))


def a_line(says: str = "paid", **named: Any) -> Line:
    fields: dict[str, Any] = {
        "row": 7,
        "movement": "payment",
        "says": says,
        "amount_minor": 1_234,
        "currency": "EUR",
        "keys": (("attempt_id", "acme|p1|1"), ("pic_reference", "pi_9")),
        "at": Span(1_250_000, 1_251_000),
    }
    return Line(**(fields | named))


def words(found: list[Finding]) -> list[str]:
    return [type(each).__name__ for each in found]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ("paid", "paid", "Matched"),
        ("declined", "declined", "Matched"),
        ("pending", "pending", "Matched"),
        ("requires_action", "pending", "Matched"),
        ("declined", "paid", "StatusDiffers"),
        ("pending", "paid", "StatusDiffers"),
        ("queued", "paid", "StatusDiffers"),
        ("unsent", "paid", "StatusDiffers"),
        ("paid", "declined", "StatusDiffers"),
        ("paid", "pending", "StatusDiffers"),
        ("paid", "returned", "StatusDiffers"),
        ("declined", "pending", "StatusDiffers"),
    ],
)
def test_what_one_line_makes(here: str, there: str, expected: str) -> None:
    """What they paid and we call something else differs, and so does the opposite."""
    assert words(judge(an_attempt(here), [a_line(there)], NOVEMBER)) == [expected]


@pytest.mark.parametrize("named", [{"amount_minor": 1_233}, {"amount_minor": 1_235}, {"currency": "USD"}])
def test_one_minor_unit_is_a_difference(named: dict[str, Any]) -> None:
    """Exactly, and in the same currency."""
    (found,) = judge(an_attempt(), [a_line(**named)], NOVEMBER)
    assert isinstance(found, AmountDiffers) and found.amount_minor == named.get("amount_minor", 1_234)


def test_corrections_are_part_of_the_amount() -> None:
    """A partial capture: the whole authorization, and what was let go of; in another currency it is none."""
    whole = a_line(amount_minor=2_000)
    assert words(judge(an_attempt(), [whole, a_line("correction", amount_minor=-766)], NOVEMBER)) == ["Matched"]
    (found,) = judge(an_attempt(), [whole, a_line("correction", amount_minor=-766, currency="USD")], NOVEMBER)
    assert isinstance(found, AmountDiffers) and found.amount_minor == 2_000


def test_each_more_line_is_a_duplicate() -> None:
    """The first is compared, the others are told one by one, whatever their amounts."""
    lines = [a_line(row=3), a_line(row=5, amount_minor=1), a_line(row=9)]
    found = judge(an_attempt(), lines, NOVEMBER)
    assert words(found) == ["Matched", "DuplicateThere", "DuplicateThere"]
    assert [each.line.row for each in found if isinstance(each, DuplicateThere)] == [5, 9]


def test_what_came_back_is_told() -> None:
    """Paid and returned is not paid."""
    (found,) = judge(an_attempt(), [a_line(row=3), a_line("returned", row=4)], NOVEMBER)
    assert isinstance(found, StatusDiffers) and found.line.row == 4


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "expected"),
    [
        (1_000_000, 1_999_999, ["MissingThere"]),
        (999_999, 1_999_999, ["AtTheEdge"]),
        (1_000_000, 2_000_000, ["AtTheEdge"]),
        (999_998, 999_999, []),
        (2_000_000, 2_000_001, []),
    ],
)
def test_what_is_paid_here_has_to_be_there(first_ms: int, last_ms: int, expected: list[str]) -> None:
    """Within the statement's time for sure; across its edge it may be in another one; outside it is none of its business."""
    assert words(judge(an_attempt(first_ms=first_ms, last_ms=last_ms), [], NOVEMBER)) == expected


@pytest.mark.parametrize("outcome", [*sorted(OPEN), "declined", "unsent"])
def test_what_is_not_paid_need_not_be_there(outcome: str) -> None:
    """Nobody expects it."""
    assert judge(an_attempt(outcome), [], NOVEMBER) == []


@given(
    st.sampled_from([*sorted(OPEN), "paid", "declined", "unsent"]),
    st.lists(
        st.builds(
            a_line,
            st.sampled_from(["paid", "declined", "pending", "returned", "correction"]),
            amount_minor=st.integers(0, 3_000),
            currency=st.sampled_from(["EUR", "USD"]),
        ),
        max_size=6,
    ),
)
def test_matched_is_what_it_says(outcome: str, lines: list[Line]) -> None:
    """Nothing matches by accident: of a payment, both said paid and to the same amount. And no paid line goes unseen."""
    found = judge(an_attempt(outcome), lines, NOVEMBER)
    paid = [line for line in lines if line.says == "paid"]
    assert sum(isinstance(each, DuplicateThere) for each in found) == max(len(paid) - 1, 0)
    for each in found:
        if isinstance(each, Matched) and each.line.says == "paid":
            total = each.line.amount_minor + sum(
                line.amount_minor for line in lines if line.says == "correction" and line.currency == each.line.currency
            )
            assert (outcome, total, each.line.currency) == ("paid", 1_234, "EUR")
            assert all(line.says != "returned" for line in lines)


def test_news_is_the_plain_case_only() -> None:
    """A pending attempt that they paid, once and to the amount; the same again is the same event."""
    told = news(judge(an_attempt("pending"), [a_line()], NOVEMBER), "stripe")
    assert told is not None
    assert (told.source, told.pic, told.outcome, told.reason) == ("statement", "stripe", "paid", "")
    assert (told.tenant, told.payment_id, told.operation_id, told.attempt) == ("acme", "p1", "", 1)
    assert (told.pic_reference, told.occurred_at_ms) == ("pi_9", 1_250_000)
    again = news(judge(an_attempt("queued"), [a_line(row=99)], NOVEMBER), "stripe")
    assert again is not None and again.event_id == told.event_id
    declined = news(judge(an_attempt("pending"), [a_line("declined")], NOVEMBER), "stripe")
    assert declined is not None and (declined.outcome, declined.reason) == ("declined", "other")
    assert declined.event_id != told.event_id


@pytest.mark.parametrize(
    ("here", "lines"),
    [
        ("paid", [a_line()]),
        ("declined", [a_line()]),
        ("unsent", [a_line()]),
        ("pending", [a_line(amount_minor=1_233)]),
        ("pending", [a_line(currency="USD")]),
        ("pending", [a_line(), a_line(row=8)]),
        ("pending", [a_line(), a_line("returned")]),
        ("pending", [a_line(amount_minor=2_000), a_line("correction", amount_minor=-766)]),
        ("pending", [a_line("pending")]),
        ("pending", []),
    ],
)
def test_everything_else_is_for_a_person(here: str, lines: list[Line]) -> None:
    """What is settled here, what differs, what is there twice or came back: nothing is told."""
    assert news(judge(an_attempt(here), lines, NOVEMBER), "stripe") is None


@pytest.mark.parametrize("value", ["pi_3abc", "E" + "A2" * 16, "acme|order-1001|1", "re_1", "2026/1"])
def test_ids_are_shown(value: str) -> None:
    """They are what one looks for."""
    assert shown(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "Rent John Smith",
        "JohnSmith",
        "DE89370400440532013000",
        "4111111111111111",
        "tel 0151 1",
        "a" * 300 + "1",
        "",
        "é1a",
    ],
)
def test_what_may_be_a_persons_is_withheld(value: str) -> None:
    """Names, accounts, card numbers, texts: banks put all of that into references."""
    assert shown(value) == "(withheld)"


def test_a_line_that_nobody_knows_may_be_anybodys() -> None:
    """But not where it names another tenant's attempt."""
    unknown = a_line(keys=(("pic_reference", "pi_1"),))
    assert is_tenants(MissingHere(unknown), "other")
    assert not is_tenants(MissingHere(a_line()), "other")
    assert is_tenants(MissingHere(a_line()), "acme")
    assert not is_tenants(MissingThere(an_attempt()), "other")
    assert is_tenants(AtTheEdge(an_attempt()), "acme")
