"""schemas/card_numbers.py. The numbers are the schemes' published test numbers; none was ever issued."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.card_numbers import holds_card_number, mask_card_numbers, may_hold_card_number, passes_luhn
from schemas.codec import encode_request
from tests.builders import a_request

CARD_NUMBERS = [
    "4222222222222",  # Visa, 13 digits
    "30569309025904",  # Diners, 14
    "378282246310005",  # American Express, 15
    "4111111111111111",
    "5555555555554444",
    "3566002020360505",
    "6205500000000000004",  # UnionPay, 19
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "4111 1111-1111 1111",
    "3782 822463 10005",
    "3056-930902-5904",
    "6205 5000 0000 0000 004",
    "４１１１１１１１１１１１１１１１",  # full width
    "٤١١١ ١١١١ ١١١١ ١١١١",  # Arabic
    "४१११११११११११११११",  # Devanagari
    "4111\u00a01111\u00a01111\u00a01111",
    "4111\u20131111\u20131111\u20131111",
]
AROUND = ["{}", "card {}", "{}.", "a={}&b", "({})", "Visa{}", "{}x", "12 {} 34", "\n{}\n", "Erika Mustermann {} 12/29"]
NO_CARD_NUMBERS = [
    "",
    "Ada Lovelace",
    "411111111111",  # 12 digits
    "4111111111111112",  # wrong check digit
    "41111111111111110",  # a digit more
    "14111111111111111",
    "62055000000000000040",  # 20 digits
    "4111  1111 1111 1111",  # two spaces
    "4111.1111.1111.1111",
    "41 11 11 11 11 11 11 11",  # no card prints that
    "41111111 11111111",
    "550e8400-e29b-41d4-a716-446655440000",
    "a4111111-1111-4111-1111-111111111111",
    "1234abcd-4111-1111-1111-1111abcdef12",  # a UUID with a grouped card number inside
    "9f4111111111111111c3d2",  # a hash with one inside
    "00-4bf92f3577b34da6a3ce929d0e0e4736-4111111111111111c-01",
    "DE89370400440532013001",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("number", CARD_NUMBERS)
def test_card_numbers_are_found(number: str, around: str) -> None:
    """In every length, grouping and script, alone and within other text; the quick look never rules one out."""
    text = around.format(number)
    assert holds_card_number(text)
    assert may_hold_card_number(text.encode())


@pytest.mark.parametrize("text", NO_CARD_NUMBERS)
def test_other_texts_hold_none(text: str) -> None:
    """Too few or too many digits, a wrong check digit, groups that no card has, UUIDs and hashes; none is masked."""
    assert not holds_card_number(text)


@pytest.mark.parametrize("text", ["card4111111111111111", "zz 4111111111111111", "deed:4111111111111111"])
def test_only_a_word_of_hexadecimal_digits_is_a_hash(text: str) -> None:
    """Letters nearby do not make a card number a hash."""
    assert holds_card_number(text)


@pytest.mark.parametrize(
    ("digits", "passes"),
    # The usual worked examples.
    [("49927398716", True), ("49927398717", False), ("79927398713", True), ("79927398710", False), ("0", True)],
)
def test_luhn(digits: str, passes: bool) -> None:
    """The check digit as the standard computes it."""
    assert passes_luhn(digits) is passes


@given(st.text(alphabet=st.characters(categories=["Nd"]), min_size=12, max_size=18))
def test_any_digits_with_their_check_digit_are_found(body: str) -> None:
    """For any digits of any scripts, exactly one last digit makes a card number, and the quick look lets it through."""
    found = [digit for digit in "0123456789" if holds_card_number(body + digit)]
    assert len(found) == 1
    assert may_hold_card_number((body + found[0]).encode())


@given(st.text(), st.sampled_from(CARD_NUMBERS), st.text())
def test_the_quick_look_never_rules_out_what_is_found(before: str, number: str, after: str) -> None:
    """Within any text: whatever :func:`holds_card_number` finds, :func:`may_hold_card_number` lets through."""
    text = before + number + after
    raw = text.encode("utf-8", "replace")
    assert may_hold_card_number(raw) or not holds_card_number(raw.decode())


@pytest.mark.parametrize("length", range(16, 140))
def test_the_quick_look_reads_avro(length: int) -> None:
    """In an encoded request, whatever byte the length of the text before and after happens to be."""
    padded = "4111111111111111".ljust(length, "x")
    assert may_hold_card_number(encode_request(a_request(order_reference=padded, token="t" * length)))


def test_every_decimal_digit_of_unicode_counts() -> None:
    """All scripts' digits pass the quick look and are found."""
    for script_zero in (c for c in map(chr, range(sys.maxunicode + 1)) if c.isdecimal() and int(c) == 0):
        number = "".join(chr(ord(script_zero) + int(digit)) for digit in "4111111111111111")
        assert holds_card_number(number)
        assert may_hold_card_number(number.encode())


def test_a_usual_request_is_not_suspected() -> None:
    """The quick look answers False for a request with names in other scripts, so that it is of use."""
    request = a_request(
        debtor_name="حسین موسوی محمد عبدالعلی", creditor_name="Łódź Öğretmen Café", token="tok_123456789"
    )
    assert not may_hold_card_number(encode_request(request))


@pytest.mark.parametrize(
    ("data", "masked"),
    [
        (b"pay 4111111111111111 now", b"pay **************** now"),
        (b"4111 1111-1111 1111", b"**** ****-**** ****"),
        (b"\xff\x00\x20" + b"4111111111111111" + b"\xfe", b"\xff\x00\x20" + b"*" * 16 + b"\xfe"),
        (b"2 of 4222222222222 and 378282246310005", b"2 of ************* and ***************"),
        (b"4111111111111112", b"4111111111111112"),
        (b"550e8400-e29b-41d4-a716-446655440000", b"550e8400-e29b-41d4-a716-446655440000"),
        (b"9f4111111111111111c3d2", b"9f4111111111111111c3d2"),
        ("４".encode() + b"1" * 15, b"*" * 18),
        (b"", b""),
    ],
)
def test_masking(data: bytes, masked: bytes) -> None:
    """Each byte of each digit becomes a star and nothing else changes, whatever the bytes around are."""
    assert mask_card_numbers(data) == masked


@pytest.mark.parametrize("number", CARD_NUMBERS)
@pytest.mark.parametrize("length", [*range(16, 64), 120])
def test_masking_reads_avro(number: str, length: int) -> None:
    """The length byte before or after a text may be a digit (lengths 24 to 28) or a letter a to f: it hides nothing."""
    text = f"{number} ".ljust(length, "x")
    raw = encode_request(a_request(order_reference=text, token="t" * 10 + number, metadata={"k" * length: "v"}))
    masked = mask_card_numbers(raw)
    assert len(masked) == len(raw)
    assert number.encode() in raw
    assert number.encode() not in masked


@given(st.binary(max_size=200))
def test_masking_keeps_everything_else(data: bytes) -> None:
    """For any bytes: the same length, and only digits (with their bytes) changed."""
    masked = mask_card_numbers(data)
    assert len(masked) == len(data)
    assert all(now == was or now == ord("*") for now, was in zip(masked, data, strict=True))
