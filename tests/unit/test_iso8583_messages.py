"""connectors/pic/iso8583: elements, codec, framing. Samples and specifications are somebody else's (shared/data/iso8583)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.pic.iso8583.codec import CodecError, Format, Message, check_fields
from connectors.pic.iso8583.elements import ISO_8583_1987, Element, parse_elements
from connectors.pic.iso8583.encoding import Encoding
from connectors.pic.iso8583.framing import HEADERS, MESSAGE_BYTES_MAX, Deframer, FramingError, Header, frame

DATA = Path(__file__).parents[3] / "shared/data/iso8583"
PLAIN = {"trk_enc": "EBCDIC"}
#: Every sample that can be read, with what its encoding has beside characters for everything (the origin's own tests say so).
READABLE = {
    "financial_transaction_message": PLAIN,
    "financial_transaction_message_response": PLAIN,
    "iso_reversal_message": PLAIN,
    "iso_reversal_message_advice": PLAIN,
    "iso_reversal_message_response": PLAIN,
    "iso_reversal_repeat_message": PLAIN,
    "iso_reversal_repeat_message_response": PLAIN,
    "network_management_message": PLAIN,
    "network_management_message_response": PLAIN,
    "network_management_message_with_track": PLAIN,
    "message_with_character_ebcdic_encoding": {"chr_enc": "EBCDIC"},
    "message_with_hex_length": {"len_enc": "HEX"},
    "message_with_hex_bcd": {"len_enc": "BCD"},
    "message_with_hex_rbcd": {"len_enc": "RBCD"},
    "message_with_indicate_numeric": {"len_enc": "RBCD"},
    "message_with_number_bcd_encoding": {"num_enc": "BCD"},
}
MALFORMED = {
    "error_message": ("truncated", 55),
    "iso_reversal_message_error_date": ("bad_date", 13),
    "message_with_error_indicate_numeric": ("bad_content", 28),
    "network_management_message_with_error_track": ("bad_content", 35),
    "iso_reversal_message_advice_missing_field": ("missing_field", 32),
    "iso_reversal_message_advice_unexpected_field": ("unexpected_field", 13),
}
#: What a reversal advice of the samples' origin has.
ADVICE = frozenset({2, 3, 4, 7, 11, 12, 25, 32})


def data(name: str) -> bytes:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"../shared/data/iso8583/{name} is not there")
    return path.read_bytes()


def sample_format(**encoding: str) -> Format:
    """The samples' elements, in an encoding."""
    elements = json.loads(data("specification_without_encoding_ver_1987.json").decode("utf-8", "replace"))["elements"]
    parsed = parse_elements({int(at): element["Describe"] for at, element in elements.items()})
    return Format(parsed, Encoding(**encoding))  # type: ignore[arg-type]


def read(name: str) -> Message:
    return sample_format(**READABLE.get(name, PLAIN)).read(data(f"{name}.dat"))


@pytest.mark.parametrize("name", READABLE)
def test_a_sample_is_read_and_written_to_the_byte(name: str) -> None:
    """ASCII, EBCDIC, BCD, hexadecimal lengths: what was read is written again as it came."""
    raw = data(f"{name}.dat")
    form = sample_format(**READABLE[name])
    assert form.write(form.read(raw)) == raw


def test_digits_may_be_right_or_left_where_they_are_even() -> None:
    """The sample of BCD digits is read with either filler."""
    raw = data("message_with_number_bcd_encoding.dat")
    form = sample_format(num_enc="RBCD")
    message = form.read(raw)
    assert form.write(message) == raw
    assert message.fields == {7: "0420090613", 11: "900001", 12: "090613"}


@pytest.mark.parametrize(("name", "fault"), MALFORMED.items())
def test_a_malformed_sample_is_refused_with_its_reason(name: str, fault: tuple[str, int]) -> None:
    """And with the field; the text holds no value of the message."""
    form, raw = sample_format(**PLAIN, len_enc="RBCD" if "indicate" in name else "CHAR"), data(f"{name}.dat")

    def read_as_advice() -> None:
        check_fields(form.read(raw), ADVICE, ())

    with pytest.raises(CodecError) as caught:
        read_as_advice()
    assert (caught.value.reason, caught.value.at) == fault
    assert str(caught.value) == f"{fault[0]}: field {fault[1]}"


def test_the_advice_that_is_right_has_what_an_advice_has() -> None:
    """Neither a field too few nor one too many."""
    check_fields(read("iso_reversal_message_advice"), ADVICE, ())


def test_no_sample_is_forgotten() -> None:
    """Every message of the folder is read or refused above."""
    data("error_message.dat")
    there = {path.stem for path in DATA.glob("*.dat")} - {"attributes_data_elements"}
    assert there == {*READABLE, *MALFORMED}


def test_values_are_those_that_the_origin_reads() -> None:
    """The reversal's values by JSON and by XML, written by the samples' authors; field 1 there is the second bitmap."""
    fields = read("iso_reversal_message").fields
    told = json.loads(data("iso_reversal_message.json"))["elements"]
    assert fields == {int(at): value for at, value in told.items() if at != "1"}
    elements = ElementTree.fromstring(data("iso_reversal_message.xml")).iter("Element")
    assert fields == {int(e.attrib["Number"]): e.text or "" for e in elements if e.attrib["Number"] != "1"}


def test_some_values_by_hand() -> None:
    """Of an EBCDIC field, of one with a length in hexadecimal, of an answer."""
    assert read("message_with_character_ebcdic_encoding").fields[42] == "ABCDEFGHIJKLMNO"
    assert read("message_with_hex_length").fields[32] == "0" * 11
    assert read("message_with_hex_bcd").fields[48] == "0" * 8 == read("message_with_hex_rbcd").fields[48]
    assert read("message_with_indicate_numeric").fields[28] == "C0000000"
    assert read("network_management_message_with_track").fields == {
        7: "0420090613",
        11: "900001",
        12: "090613",
        13: "0420",
        15: "0420",
        35: "FFF",
        70: "001",
    }
    answer = read("network_management_message_response")
    assert (answer.mti, answer.get(39), answer.get(70), answer.get(73)) == ("0810", "00", "001", "031128")


def test_the_format_of_a_switch_is_read_from_a_file() -> None:
    """The origin's own specification, with its encoding; its descriptions are in another character set."""
    form = Format.of_file(data("specification_ver_1987.json"))
    raw = data("network_management_message_with_track.dat")
    assert form.write(form.read(raw)) == raw
    assert form.elements == sample_format().elements


def test_our_elements_are_those_of_the_1987_edition() -> None:
    """All 128, as the origin has them in its two lists; the length of a signed amount is one more here, as in the third."""
    described = json.loads(data("attributes_data_elements.dat").decode("utf-8", "replace"))
    theirs = dict(parse_elements({int(at): element["Describe"] for at, element in described.items()}))
    assert theirs == dict(sample_format().elements)
    signed = {at: replace(each, length=each.length + 1) for at, each in theirs.items() if each.kind == "x+n"}
    assert dict(ISO_8583_1987) == theirs | signed


def test_our_elements_are_as_long_as_in_the_other_list() -> None:
    """A second author's list of the same edition: fixed or variable, and how long. It lets field 44 be longer."""
    fields = json.loads(data("spec87ascii.json"))["fields"]
    widths = {"ASCII.fixed": 0, "Hex.fixed": 0, "ASCII.LL": 2, "ASCII.LLL": 3}
    theirs = {
        int(name[5:]): (widths[each["prefix"]], each["length"]) for name, each in fields.items() if int(name[5:]) > 1
    }
    ours = {at: ISO_8583_1987[at] for at in theirs}
    found = {at: (each.digits, each.length // 8 if each.kind == "b" else each.length) for at, each in ours.items()}
    assert found | {44: (2, 99)} == theirs
    assert len(theirs) == 64


@pytest.mark.parametrize("notation", ["", "n", "6", "q 6", "n.6", "n....6", "n 6; HHMM", "n 1000", "n 0", "n 6 x"])
def test_what_is_no_notation_is_refused(notation: str) -> None:
    """With the field that it was for."""
    with pytest.raises(ValueError, match=r"field 9: .* is not the notation of an element"):
        parse_elements({9: notation})


@pytest.mark.parametrize(
    ("at", "good", "bad"),
    [
        (7, "0229235959", "0230000000"),
        (12, "000000", "240000"),
        (13, "1231", "1301"),
        (14, "9912", "9913"),
        (73, "260228", "260229"),
    ],
)
def test_dates_and_times_exist(at: int, good: str, bad: str) -> None:
    """Without a year every 29 February is one."""
    assert ISO_8583_1987[at].is_date(good)
    assert not ISO_8583_1987[at].is_date(bad)


def test_all_days_and_times_are_those_of_the_calendar() -> None:
    """Every four and six digits, as the standard library reads them; 2000 is the leap year that stands for all."""

    def read(digits: str, form: str) -> bool:
        try:
            datetime.strptime(digits, form)
        except ValueError:
            return False
        return True

    for number in range(10_000):
        day = f"{number:04}"
        assert ISO_8583_1987[13].is_date(day) == read("2000" + day, "%Y%m%d"), day
        assert ISO_8583_1987[14].is_date(day) == read(day, "%y%m"), day
        for year in ("24", "25", "26", "28"):
            assert ISO_8583_1987[73].is_date(year + day) == read("20" + year + day, "%Y%m%d"), day
        # %S of the library takes a leap second's 60 and 61, a switch's clock does not.
        time = day + "59"
        assert ISO_8583_1987[12].is_date(time) == read(time, "%H%M%S"), time
        assert ISO_8583_1987[7].is_date("0229" + time) == read(time, "%H%M%S"), time
    assert [ISO_8583_1987[12].is_date(f"0000{second}") for second in (59, 60, 61)] == [True, False, False]


def test_kinds_take_their_characters_and_no_others() -> None:
    """Every character of the first 256, for each kind; by hand."""
    digits, capitals, smalls = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
    special = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    takes = {
        "n": digits,
        "a": capitals + smalls + " ",
        "s": special,
        "an": digits + capitals + smalls + " ",
        "as": capitals + smalls + special,
        "ns": digits + special,
        "ans": digits + capitals + smalls + special,
        "z": digits + ":;<=>?" + "ABCDEF",
    }
    for kind, characters in takes.items():
        element = Element(kind, 1)
        assert {character for character in map(chr, range(256)) if element.takes(character)} == set(characters), kind
    assert not Element("n", 2).takes("٣٣")
    assert Element("b", 16).takes("0AFF") and not Element("b", 16).takes("0aff") and not Element("b", 16).takes("0AF")
    assert Element("x+n", 2).takes("C1") and Element("x+n", 2).takes("D1") and not Element("x+n", 2).takes("E1")


# -- any message, any bytes ---------------------------------------------------------------------------------------

MINE = Message(
    "0200",
    {
        3: "000000",
        4: "000000001234",
        7: "0801120000",
        11: "123456",
        12: "120000",
        13: "0801",
        18: "5999",
        22: "100",
        25: "59",
        32: "12345",
        37: "ABCDEF123456",
        41: "TERM0001",
        42: "MERCHANT0000001",
        49: "978",
        63: "tok-approve-1",
        52: "0123456789ABCDEF",
        28: "C00000012",
        36: "1" * 104,
        90: "0" * 42,
    },
)
ENCODINGS = [
    dict(zip(("mti_enc", "bmp_enc", "len_enc", "num_enc", "chr_enc", "bin_enc", "trk_enc"), words, strict=True))
    for words in product(
        ("CHAR", "EBCDIC", "BCD"), ("HEX", "BIN"), ("CHAR", "EBCDIC", "HEX", "BCD", "RBCD"), ("CHAR", "EBCDIC", "BCD", "RBCD"),
        ("ASCII", "EBCDIC"), ("HEX", "BIN"), ("ASCII", "EBCDIC"),
    )
]  # fmt: skip


def test_every_encoding_reads_what_it_wrote() -> None:
    """All 960 of them, with odd and even digits, short and long fields, with and without a second bitmap."""
    short = Message("0800", {7: "0801120000", 11: "000001", 19: "280", 32: "123"}, second_bitmap=True)
    for words in ENCODINGS:
        form = Format(encoding=Encoding(**words))  # type: ignore[arg-type]
        for message in (MINE, short, replace(short, second_bitmap=False)):
            assert form.read(form.write(message)) == message, words


def values_of(element: Element) -> st.SearchStrategy[str]:
    """Values that an element takes; of the right length when that is fixed."""
    if element.date:
        return st.sampled_from(
            {"MMDDhhmmss": ["1231235959"], "MMDD": ["0229"], "hhmmss": ["000000"]}.get(
                element.date, ["260101"[: element.length]]
            )
        )
    if element.kind == "x+n":
        return st.integers(0, 9999).map(lambda n: f"D{n:0{element.length - 1}}")
    if element.kind == "b":
        return st.binary(min_size=element.length // 8, max_size=element.length // 8).map(lambda raw: raw.hex().upper())
    alphabet = "".join(c for c in map(chr, range(128)) if Element(element.kind, 1).takes(c))
    return st.text(alphabet, min_size=0 if element.digits else element.length, max_size=min(element.length, 120))


FIELDS = st.sets(st.sampled_from([at for at in ISO_8583_1987 if at not in (1, 65)]), max_size=8).flatmap(
    lambda chosen: st.fixed_dictionaries({at: values_of(ISO_8583_1987[at]) for at in chosen})
)


@given(FIELDS, st.sampled_from(ENCODINGS), st.sampled_from(["0110", "0200", "0421", "0810"]))
def test_any_message_is_read_as_it_was_written(fields: dict[int, str], words: dict[str, str], mti: str) -> None:
    """In any encoding."""
    form = Format(encoding=Encoding(**words))  # type: ignore[arg-type]
    message = Message(mti, fields)
    assert form.read(form.write(message)) == message


FORMS = [Format(encoding=Encoding(**words)) for words in ENCODINGS[::37]]  # type: ignore[arg-type]


@given(st.sampled_from(FORMS), st.binary(max_size=300))
@settings(max_examples=500)
def test_any_bytes_are_refused_or_written_again(form: Format, raw: bytes) -> None:
    """Nothing else is raised, and nothing is read that would be written another way."""
    try:
        message = form.read(raw)
    except CodecError:
        return
    assert form.write(message) == raw


@given(st.sampled_from(FORMS), st.data())
@settings(max_examples=500)
def test_a_message_with_bytes_changed_is_refused_or_written_again(form: Format, drawn: st.DataObject) -> None:
    """The same from messages that are nearly right."""
    raw = bytearray(form.write(MINE))
    for _ in range(drawn.draw(st.integers(1, 3))):
        at = drawn.draw(st.integers(0, len(raw) - 1))
        match drawn.draw(st.sampled_from("rdi")):
            case "r":
                raw[at] = drawn.draw(st.integers(0, 255))
            case "d":
                del raw[at:]
                break
            case _:
                raw[at:at] = drawn.draw(st.binary(max_size=3))
    try:
        message = form.read(bytes(raw))
    except CodecError:
        return
    assert form.write(message) == bytes(raw)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "truncated"),
        (b"0800", "truncated"),
        (b"0800002000000000000012345", "truncated"),
        (b"08000020000000000000123456x", "trailing_data"),
        (b"0800002000000000000012345x", "bad_content: field 11"),
        (b"0800zz20000000000000123456", "undecodable"),
        (b"08x00020000000000000123456", "undecodable"),
        (b"0200" + b"0000000100000000" + b"23" + b"1" * 23, "undecodable: field 32"),
        (b"0200" + b"0000000100000000" + b"1x0", "undecodable: field 32"),
        (b"0200" + b"0000000100000000" + b"-10", "truncated: field 32"),
        (b"0200" + b"0000000100000000" + b"+15", "not_canonical"),
        (b"0800" + b"00a0000000000000" + b"1" * 14, "not_canonical"),
        (b"0800" + b"8000000000000000" * 3, "unknown_field: field 129"),
        (b"0800" + b"8000000000000000" * 2 + b"0" * 16, "not_canonical"),
    ],
)
def test_faults_are_named(raw: bytes, fault: str) -> None:
    """By the rule that is broken, and where."""
    with pytest.raises(CodecError) as caught:
        Format().read(raw)
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("at", [0, 1, 65, 129, 200])
def test_fields_that_are_none_are_not_written(at: int) -> None:
    """Bitmaps are made, not given."""
    with pytest.raises(CodecError, match=f"unknown_field: field {at}|unknown_field"):
        Format().write(Message("0200", {at: "0"}))


@pytest.mark.parametrize(("at", "value"), [(3, "00000"), (32, "1" * 12), (3, "0000000")])
def test_values_that_do_not_fit_are_not_written(at: int, value: str) -> None:
    """Neither filled nor cut."""
    with pytest.raises(CodecError, match=f"bad_content: field {at}"):
        Format().write(Message("0200", {at: value}))


def test_a_message_shows_no_value() -> None:
    """What may be logged by accident says only what kind it is."""
    assert repr(MINE) == "Message(mti='0200', second_bitmap=False)"


# -- authentication code ------------------------------------------------------------------------------------------

KEY = b"made up for this test"


@pytest.mark.parametrize("words", ENCODINGS[::97])
@pytest.mark.parametrize("message", [MINE, Message("0800", {11: "000001"})])
def test_a_signed_message_is_believed_and_a_changed_one_is_not(words: dict[str, str], message: Message) -> None:
    """In field 64, or 128 with a second bitmap; wrong with another key, any value changed, or none."""
    form = Format(encoding=Encoding(**words))  # type: ignore[arg-type]
    signed = form.read(form.write(form.signed(message, KEY)))
    at = 128 if 90 in message.fields else 64
    assert set(signed.fields) - set(message.fields) == {at}
    form.check_signature(signed, KEY)
    changed = [replace(signed, fields=signed.fields | {11: "999999"}), replace(signed, mti="0210"), message]
    for wrong in [*changed, replace(signed, fields=signed.fields | {at: "00" * 8})]:
        with pytest.raises(CodecError, match=f"bad_mac: field {at}"):
            form.check_signature(wrong, KEY)
    with pytest.raises(CodecError, match="bad_mac"):
        form.check_signature(signed, KEY + b"!")


def test_the_code_is_an_hmac() -> None:
    """printf '08000020000000000001000001' | openssl dgst -sha256 -hmac 'made up for this test' | cut -c 1-16."""
    signed = Format().signed(Message("0800", {11: "000001"}), KEY)
    assert Format().write(signed)[:-16] == b"08000020000000000001000001"
    assert signed.fields[64] == MAC_BY_OPENSSL


MAC_BY_OPENSSL = "51CFC8F44FBCA7C3"

# -- framing ------------------------------------------------------------------------------------------------------


@given(st.sampled_from(HEADERS), st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_messages_are_cut_out_of_any_stream(header: Header, payloads: list[bytes], drawn: st.DataObject) -> None:
    """However it was cut on its way; empty ones, which only say that the line is alive, are left out."""
    empty = frame(b"", header)
    stream = b"".join(frame(payload, header) + empty for payload in payloads)
    deframer, found, at = Deframer(header), [], 0
    while at < len(stream):
        size = drawn.draw(st.integers(1, 200))
        found += deframer.feed(stream[at : at + size])
        at += size
    assert found == payloads


def test_lengths_by_hand() -> None:
    """Two bytes, high byte first; four digits."""
    assert frame(b"x" * 258, "binary2")[:2] == b"\x01\x02"
    assert frame(b"x" * 258, "ascii4")[:4] == b"0258"


@pytest.mark.parametrize(
    ("header", "raw", "reason"),
    [
        ("binary2", b"\x20\x01", "too_long"),
        ("binary2", b"GET / HTTP/1.1\r\n", "too_long"),
        ("ascii4", b"8193", "too_long"),
        ("ascii4", b"+123", "bad_length"),
        ("ascii4", b"12 4", "bad_length"),
        ("ascii4", b"\x00\x01\x02\x03", "bad_length"),
    ],
)
def test_a_length_that_cannot_be_ends_the_stream(header: Header, raw: bytes, reason: str) -> None:
    """What came before it is still taken; nothing is waited for or kept."""
    deframer = Deframer(header)
    taken = deframer.feed(frame(b"ok", header) + raw)
    assert next(taken) == b"ok"
    with pytest.raises(FramingError, match=reason):
        next(taken)


def test_the_largest_message_passes_and_no_larger_one() -> None:
    """The limit is the same in both directions."""
    largest = b"x" * MESSAGE_BYTES_MAX
    for header in HEADERS:
        assert list(Deframer(header).feed(frame(largest, header))) == [largest]
        with pytest.raises(FramingError, match="too_long"):
            frame(largest + b"x", header)


def test_samples_name_no_field_twice() -> None:
    """The table of elements has each field once: a second one would hide the first."""
    source = (Path(__file__).parents[2] / "connectors/pic/iso8583/elements.py").read_text()
    table = source[source.index('_1987: Final = """') : source.index("#: The fields of the 1987")]
    cells = re.findall(r"(?:^|\s{2,})(\d+) [a-z]", table)
    assert sorted(map(int, cells)) == list(range(1, 129))
