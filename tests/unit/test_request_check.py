"""pipeline/stages/request_check.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.stages.request_check import (
    CONTENT_GROUPS,
    Accepted,
    Refused,
    check_request,
    content_of,
    differing_fields,
)
from schemas.reasons import Reason
from schemas.records import PaymentRequested
from tests.builders import NOON_MS, a_request

CARD_NUMBER = "4111111111111111"


def with_party(party: str, **changes: Any) -> PaymentRequested:
    """A valid request but for fields of one party."""
    request = a_request()
    return msgspec.structs.replace(request, **{party: msgspec.structs.replace(getattr(request, party), **changes)})


def with_locality(**changes: Any) -> PaymentRequested:
    """A valid request but for its locality."""
    request = a_request()
    return msgspec.structs.replace(request, locality=msgspec.structs.replace(request.locality, **changes))


def test_a_usual_request_is_accepted() -> None:
    """So is one with everything that is optional, at every limit, in any script."""
    assert check_request(a_request(), received_at_ms=NOON_MS) == Accepted()
    full = a_request(
        terminal_id="",
        debtor_name="محمد عبدالعلی",
        creditor_name="晃 直人 井上 " + "x" * 192,
        metadata={f"{n:064d}".replace("0", "k"): "v" * 512 for n in range(32)},
        order_reference="o" * 200,
        amount_minor=10_000_000_000_000,
        requested_at_ms=NOON_MS + 300_000,
    )
    assert check_request(full, received_at_ms=NOON_MS) == Accepted()


REFUSALS: list[tuple[PaymentRequested, Reason, str]] = [
    (a_request(kind="refund"), Reason.UNSUPPORTED_KIND, "kind"),
    (a_request(kind=""), Reason.UNSUPPORTED_KIND, "kind"),
    (a_request(payment_id=""), Reason.INVALID_FIELD, "payment_id"),
    (a_request(payment_id="a|b"), Reason.INVALID_FIELD, "payment_id"),
    (a_request(payment_id="p" * 81), Reason.INVALID_FIELD, "payment_id"),
    (a_request(payment_id="p1\n"), Reason.INVALID_FIELD, "payment_id"),
    (a_request(tenant="T1"), Reason.INVALID_FIELD, "tenant"),
    (a_request(debtor_id="a b"), Reason.INVALID_FIELD, "debtor.id"),
    (a_request(creditor_id=""), Reason.INVALID_FIELD, "creditor.id"),
    (a_request(terminal_id="t\t1"), Reason.INVALID_FIELD, "terminal_id"),
    (a_request(debtor_name="n" * 201), Reason.FIELD_TOO_LONG, "debtor.name"),
    (a_request(creditor_name="n" * 201), Reason.FIELD_TOO_LONG, "creditor.name"),
    (a_request(channel="c" * 201), Reason.FIELD_TOO_LONG, "channel"),
    (a_request(method="m" * 201), Reason.FIELD_TOO_LONG, "instrument.kind"),
    (a_request(token="t" * 201), Reason.FIELD_TOO_LONG, "instrument.token"),
    (a_request(order_reference="o" * 201), Reason.FIELD_TOO_LONG, "order_reference"),
    (with_locality(region="r" * 201), Reason.FIELD_TOO_LONG, "locality.region"),
    (with_locality(postcode="p" * 201), Reason.FIELD_TOO_LONG, "locality.postcode"),
    (with_locality(locale="l" * 201), Reason.FIELD_TOO_LONG, "locality.locale"),
    (with_party("debtor", birth_date="1" * 201), Reason.FIELD_TOO_LONG, "debtor.birth_date"),
    (with_party("debtor", registration="r" * 201), Reason.FIELD_TOO_LONG, "debtor.registration"),
    (with_party("creditor", birth_date="1" * 201), Reason.FIELD_TOO_LONG, "creditor.birth_date"),
    (with_party("creditor", registration="r" * 201), Reason.FIELD_TOO_LONG, "creditor.registration"),
    (a_request(metadata={f"k{n}": "" for n in range(33)}), Reason.TOO_MANY_METADATA, "more than 32 entries"),
    (a_request(metadata={"k" * 65: ""}), Reason.FIELD_TOO_LONG, "metadata key"),
    (a_request(metadata={"k": "v" * 513}), Reason.FIELD_TOO_LONG, "metadata value"),
    (a_request(currency="ABC"), Reason.UNKNOWN_CURRENCY, "currency: ABC"),
    (a_request(currency="eur"), Reason.UNKNOWN_CURRENCY, "currency: eur"),
    (a_request(currency="Ada Lovelace"), Reason.UNKNOWN_CURRENCY, "currency"),
    (a_request(currency="éé€"), Reason.UNKNOWN_CURRENCY, "currency"),
    (a_request(amount_minor=0), Reason.AMOUNT_NOT_POSITIVE, "amount_minor"),
    (a_request(amount_minor=-1), Reason.AMOUNT_NOT_POSITIVE, "amount_minor"),
    (a_request(amount_minor=10**13 + 1), Reason.AMOUNT_ABOVE_LIMIT, "amount_minor above 10000000000000"),
    (
        a_request(requested_at_ms=NOON_MS + 300_001),
        Reason.REQUESTED_IN_FUTURE,
        "requested_at_ms more than 300000 ms ahead",
    ),
    (a_request(requested_at_ms=-1), Reason.INVALID_FIELD, "requested_at_ms"),
    (a_request(debtor_country="de"), Reason.INVALID_FIELD, "debtor.country"),
    (a_request(creditor_country="DEU"), Reason.INVALID_FIELD, "creditor.country"),
    (a_request(country=""), Reason.INVALID_FIELD, "locality.country"),
    (a_request(country="ÄÖ"), Reason.INVALID_FIELD, "locality.country"),
    (a_request(debtor_name="Ada\x00Lovelace"), Reason.INVALID_FIELD, "debtor.name"),
    (a_request(creditor_name="Corner\nShop"), Reason.INVALID_FIELD, "creditor.name"),
    (a_request(debtor_name="Ada\u0085"), Reason.INVALID_FIELD, "debtor.name"),
    (a_request(debtor_name=""), Reason.INVALID_FIELD, "debtor.name"),
    (a_request(creditor_name=" \u00a0"), Reason.INVALID_FIELD, "creditor.name"),
]


@pytest.mark.parametrize(("request_", "reason", "detail"), REFUSALS)
def test_each_mistake_has_its_reason_and_names_its_field(
    request_: PaymentRequested, reason: Reason, detail: str
) -> None:
    """One step over each limit is refused; the detail names the field and never shows a value."""
    assert check_request(request_, received_at_ms=NOON_MS) == Refused(reason, detail)


def test_joiners_that_some_scripts_need_are_no_control_characters() -> None:
    """A zero-width non-joiner (Persian) and a no-break space may stand in a name."""
    request = a_request(debtor_name="علی\u200cرضا", creditor_name="Caf\u00e9\u00a0Noir")
    assert check_request(request, received_at_ms=NOON_MS) == Accepted()


CARD_FIELDS: list[tuple[PaymentRequested, str]] = [
    (a_request(payment_id=CARD_NUMBER), "payment_id"),
    (a_request(tenant=CARD_NUMBER), "tenant"),
    (a_request(currency=CARD_NUMBER), "currency"),
    (a_request(debtor_id=CARD_NUMBER), "debtor.id"),
    (a_request(debtor_name=f"Ada {CARD_NUMBER}"), "debtor.name"),
    (a_request(debtor_country=CARD_NUMBER), "debtor.country"),
    (with_party("debtor", birth_date=CARD_NUMBER), "debtor.birth_date"),
    (with_party("debtor", registration=CARD_NUMBER), "debtor.registration"),
    (a_request(creditor_id=CARD_NUMBER), "creditor.id"),
    (a_request(creditor_name=f"Shop {CARD_NUMBER}"), "creditor.name"),
    (a_request(creditor_country=CARD_NUMBER), "creditor.country"),
    (with_party("creditor", birth_date=CARD_NUMBER), "creditor.birth_date"),
    (with_party("creditor", registration=CARD_NUMBER), "creditor.registration"),
    (a_request(terminal_id=CARD_NUMBER), "terminal_id"),
    (a_request(channel=CARD_NUMBER), "channel"),
    (a_request(method=CARD_NUMBER), "instrument.kind"),
    (a_request(token=CARD_NUMBER), "instrument.token"),
    (a_request(country=CARD_NUMBER), "locality.country"),
    (with_locality(region=CARD_NUMBER), "locality.region"),
    (with_locality(postcode=CARD_NUMBER), "locality.postcode"),
    (with_locality(locale=CARD_NUMBER), "locality.locale"),
    (a_request(order_reference=CARD_NUMBER), "order_reference"),
    (a_request(metadata={CARD_NUMBER: "v"}), "metadata key"),
    (a_request(metadata={"k": f"card 4111 1111 1111 1111 {'x' * 400}"}), "metadata value"),
]


@pytest.mark.parametrize(("request_", "field"), CARD_FIELDS)
def test_a_card_number_is_refused_wherever_it_stands(request_: PaymentRequested, field: str) -> None:
    """In every text field, keys and values of metadata included; the detail does not repeat it."""
    assert check_request(request_, received_at_ms=NOON_MS) == Refused(Reason.CARD_NUMBER, field)


def texts_of(value: object) -> int:
    """How many texts a record or its data hold."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return sum(map(texts_of, value.values()))
    return 0


def test_no_text_field_is_left_out_of_the_search() -> None:
    """The cases above are as many as a request has text fields, so a field that is added must be added here."""
    filled = with_party("debtor", birth_date="1980", registration="")
    filled = msgspec.structs.replace(filled, creditor=filled.debtor, metadata={"k": "v"})
    keys_of_metadata, kind = 1, 1  # ``kind`` is compared with its one value and needs no search.
    assert texts_of(msgspec.to_builtins(filled)) + keys_of_metadata - kind == len(CARD_FIELDS)


def test_precedence() -> None:
    """Of several mistakes the one that is checked first gives the reason: what was asked, ids, lengths, card numbers,
    currency, amount, time, countries, names."""
    bad = {
        "kind": "void",
        "payment_id": "a|b",
        "debtor_name": "\n" + "n" * 200,
        "token": CARD_NUMBER,
        "currency": "ABC",
        "amount_minor": 0,
        "requested_at_ms": -1,
        "country": "d",
        "creditor_name": "\n",
    }
    seen = []
    for fixed in [
        "kind",
        "payment_id",
        "debtor_name",
        "token",
        "currency",
        "amount_minor",
        "requested_at_ms",
        "country",
    ]:
        refused = check_request(a_request(**bad), received_at_ms=NOON_MS)
        assert isinstance(refused, Refused)
        seen.append((refused.reason, refused.detail))
        del bad[fixed]
    assert seen == [
        (Reason.UNSUPPORTED_KIND, "kind"),
        (Reason.INVALID_FIELD, "payment_id"),
        (Reason.FIELD_TOO_LONG, "debtor.name"),
        (Reason.CARD_NUMBER, "instrument.token"),
        (Reason.UNKNOWN_CURRENCY, "currency: ABC"),
        (Reason.AMOUNT_NOT_POSITIVE, "amount_minor"),
        (Reason.INVALID_FIELD, "requested_at_ms"),
        (Reason.INVALID_FIELD, "locality.country"),
    ]
    assert check_request(a_request(**bad), received_at_ms=NOON_MS) == Refused(Reason.INVALID_FIELD, "creditor.name")


def test_the_search_for_card_numbers_can_be_left_out() -> None:
    """A caller that knows from the bytes that there is none saves the search, and nothing else."""
    request = a_request(token=CARD_NUMBER)
    assert check_request(request, received_at_ms=NOON_MS, suspect_card_number=False) == Accepted()


CHANGES: list[tuple[PaymentRequested, str]] = [
    (a_request(kind="void"), "kind"),
    (a_request(amount_minor=1251), "amount"),
    (a_request(currency="USD"), "amount"),
    (a_request(debtor_id="d2"), "debtor"),
    (a_request(debtor_name="Ada Byron"), "debtor"),
    (a_request(debtor_country="FR"), "debtor"),
    (with_party("debtor", birth_date="1815-12-10"), "debtor"),
    (with_party("debtor", birth_date=""), "debtor"),
    (with_party("debtor", registration="HRB 1"), "debtor"),
    (a_request(creditor_id="c2"), "creditor"),
    (a_request(creditor_name="Other Shop"), "creditor"),
    (a_request(creditor_country="FR"), "creditor"),
    (with_party("creditor", registration="HRB 1"), "creditor"),
    (a_request(terminal_id="term-2"), "terminal"),
    (a_request(channel="moto"), "terminal"),
    (a_request(method="wallet"), "instrument"),
    (a_request(token="tok_2"), "instrument"),
    (a_request(country="FR"), "locality"),
    (with_locality(region="BE"), "locality"),
    (with_locality(postcode="10117"), "locality"),
    (with_locality(locale="de-DE"), "locality"),
    (a_request(order_reference="order-2"), "order_reference"),
    (a_request(metadata={"k": "v"}), "metadata"),
    (a_request(requested_at_ms=NOON_MS + 1), "requested_at"),
]


@pytest.mark.parametrize(("changed", "group"), CHANGES)
def test_every_change_is_another_content_and_is_named(changed: PaymentRequested, group: str) -> None:
    """A change of any one field changes the hash, and exactly its group differs."""
    ours, our_groups = content_of(a_request())
    theirs, their_groups = content_of(changed)
    assert ours != theirs
    assert differing_fields(our_groups, their_groups) == [group]


def test_the_same_again_is_the_same_content() -> None:
    """Equal requests are equal in content, whatever the order of metadata; tenant and payment id are no part of it."""
    one = a_request(metadata={"a": "1", "b": "2"})
    two = a_request(metadata={"b": "2", "a": "1"}, tenant="t2", payment_id="p2")
    assert content_of(one) == content_of(two)
    assert differing_fields(content_of(one)[1], content_of(two)[1]) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (a_request(metadata={"a": "b", "c": "d"}), a_request(metadata={"a": "bc", "": "d"})),
        (a_request(metadata={"a": "1"}), a_request(metadata={"a1": ""})),
        (a_request(terminal_id="ab", channel="c"), a_request(terminal_id="a", channel="bc")),
        (a_request(order_reference="x", terminal_id=""), a_request(order_reference="", terminal_id="x")),
    ],
)
def test_moving_text_between_fields_is_a_change(one: PaymentRequested, two: PaymentRequested) -> None:
    """Contents whose texts only join up the same are different."""
    assert content_of(one)[0] != content_of(two)[0]


def test_content_has_a_fixed_size_and_outlives_a_release() -> None:
    """16 bytes and four per group; the value is kept in rows, so it must not change from release to release."""
    content, groups = content_of(a_request())
    assert (len(content), len(groups)) == (16, 4 * len(CONTENT_GROUPS))
    assert content.hex() == "c656d405a56012764f585b281f323ac2"


def test_checksums_of_other_lengths_are_not_compared() -> None:
    """Checksums of another version are an error, not a difference."""
    with pytest.raises(ValueError, match="cannot be compared"):
        differing_fields(b"\x00" * 40, b"\x00" * 44)
