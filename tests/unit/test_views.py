"""What tables look like to a person and to a program."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import pytest

from pipeline.stages.asking import Told
from pipeline.stages.attempts import Attempts, Life, Operation
from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from pipeline.stages.profiles import (
    HOUR_MS,
    PAYER_WINDOWS,
    PayeeProfile,
    PayerProfile,
    add_chargeback,
    add_payee_payment,
    add_payer_payment,
)
from tables.payments import PaymentRow
from tables.views import BUCKETS_SHOWN_MAX, VIEWS, attempts_view, page, payee_view, payer_view, payment_view

#: 2025-10-09T08:00:00 UTC.
HOUR = 488_888


def test_a_payment_shows_no_more_than_its_row_has() -> None:
    """Hashes, no personal data."""
    row = PaymentRow(version=2, offset=7, content=b"\x00\xff", groups=b"x", outcome="clear")
    assert payment_view(row) == {"outcome": "clear", "reason": "", "content_hash": "00ff", "version": 2}


def test_an_attempt_shows_times_for_people_and_hides_the_ptr() -> None:
    """The carried bytes hold the whole PTR, with names: they stay inside."""
    row = Attempts(
        state="ended",
        outcome="paid",
        attempt=1,
        received_at_ms=HOUR * HOUR_MS,
        queued=b"Ada Lovelace",
        early=Told(1, 0, "paid", "", "x", 1),
        token="tok_secret",
    )
    shown = attempts_view(row)
    assert (shown["state"], shown["outcome"], shown["attempt"]) == ("ended", "paid", 1)
    assert (shown["received_at_ms"], shown["requested_at_ms"]) == ("2025-10-09T08:00:00.000+00:00", "")
    assert not {"queued", "early", "token"} & set(shown)
    assert b"Ada" not in msgspec.json.encode(shown)
    assert b"tok_secret" not in msgspec.json.encode(shown)


def test_an_attempt_shows_its_status_and_its_operations() -> None:
    captured = Operation(
        operation_id="cap-1",
        kind="capture",
        amount_minor=0,
        asked_minor=400,
        currency="EUR",
        requested_at_ms=HOUR * HOUR_MS,
        received_at_ms=1,
        state="ended",
        outcome="succeeded",
        attempt=1,
    )
    waiting = msgspec.structs.replace(
        captured, operation_id="ref-1", kind="refund", state="", outcome="", asked_minor=0
    )
    life = Life(status="partially_captured", authorized_minor=1000, captured_minor=400, operations=(captured, waiting))
    shown = attempts_view(Attempts(state="ended", outcome="authorized", amount_minor=1000, life=life))
    assert (shown["status"], shown["captured_minor"]) == ("partially_captured", 400)
    assert [(one["operation"], one["state"], one["amount_minor"]) for one in shown["operations"]] == [
        ("cap-1", "ended", 400),
        ("ref-1", "waiting", 0),
    ]
    assert shown["operations"][0]["requested_at"] == "2025-10-09T08:00:00.000+00:00"


def test_a_payers_buckets_and_features() -> None:
    """Newest first, with the features at the newest hour."""
    row = PayerProfile(version=3)
    add_payer_payment(row, HOUR * HOUR_MS, 100, terminal="t")
    add_payer_payment(row, (HOUR - 1) * HOUR_MS, 50, terminal="u")
    shown = payer_view(row)
    assert shown["newest_hour"] == "2025-10-09T08:00:00.000+00:00"
    assert tuple(shown["features_at_newest_hour"]) == PAYER_FEATURES[:PAYER_WINDOWS]
    assert shown["features_at_newest_hour"]["amount_1d"] == 150
    assert [bucket["amount_minor"] for bucket in shown["buckets"]] == [100, 50]


def test_a_payees_chargebacks() -> None:
    """In the bucket in which they were paid."""
    row = PayeeProfile()
    add_payee_payment(row, HOUR * HOUR_MS, 100)
    add_chargeback(row, "p1", HOUR * HOUR_MS)
    shown = payee_view(row)
    assert tuple(shown["features_at_newest_hour"]) == PAYEE_FEATURES
    assert shown["buckets"][0]["chargebacks"] == 1


def test_a_new_row_is_shown_too() -> None:
    """Empty, without a year 1970."""
    assert payer_view(PayerProfile())["newest_hour"] == ""


def test_only_so_many_buckets_are_shown() -> None:
    """And how many there are."""
    row = PayerProfile()
    for hour in range(100):
        add_payer_payment(row, (HOUR + hour) * HOUR_MS, 1, terminal="t")
    shown = payer_view(row)
    assert (len(shown["buckets"]), shown["buckets_total"]) == (BUCKETS_SHOWN_MAX, 100)


@pytest.mark.parametrize(
    ("table", "parts", "key"),
    [
        ("payments", ("t1", "p1"), b"t1|p1"),
        ("attempts", ("t1", "p1"), b"t1|p1"),
        ("payer_profiles", ("t1", "d1"), b"t1|d1"),
        ("payee_profiles", ("t1", "c1"), b"t1|c1"),
        ("parties", ("t1", "d1"), b"t1|d1"),
        ("payee_profiles", ("t1", "c1", "term"), b"t1|c1|term"),
    ],
)
def test_the_path_makes_the_key(table: str, parts: tuple[str, ...], key: bytes) -> None:
    """As schemas/identity.py does."""
    assert VIEWS[table].key_of(*parts) == key


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_escapes_everything() -> None:
    """Titles, keys and values, at any depth: no tag of theirs is one."""
    bad = "<script>alert('x')</script>"
    reader = Reader()
    reader.feed(page(bad, {bad: bad, "list": [{bad: bad}], "words": [bad], "nested": {"a": {bad: bad}}}))
    assert "script" not in reader.tags
    assert reader.words.count(bad) >= 7
    assert reader.tags[0] == "html"
    assert reader.tags.count("h1") == 1
