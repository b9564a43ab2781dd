"""connectors/pic/iso8583: calls to messages, messages to answers, and the profile of a switch. No connection."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.pic.base import UNKNOWN, Answer, Call, UnsupportedError
from connectors.pic.declines import DeclineCode
from connectors.pic.iso8583 import answers, requests
from connectors.pic.iso8583.answers import APPROVED, DECLINES, NOT_DECIDED, UNWANTED
from connectors.pic.iso8583.codec import Format, Message
from connectors.pic.iso8583.profile import Profile, profile_of
from connectors.pic.iso8583.requests import Original, RefusedError
from connectors.pic.options import PicOptions, PicSettingError
from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN
from schemas.records import PaymentTerms

PROFILE = Profile(host="127.0.0.1", port=1, terminal="TERM0001", merchant="MERCHANT0000001", acquirer="12345")
AT = datetime(2026, 11, 27, 14, 5, 6, tzinfo=UTC)
#: printf 'aurora|p1|1' | b2sum -l 64, as a number modulo 999,999, and one more.
TRACE_OF_P1 = "268647"
#: printf 'aurora|p1|1|reference' | b2sum -l 128, as a number: its twelve lowest digits in base 36, the lowest first.
REFERENCE_OF_P1 = "CN0M9H0824NP"
PAID = f"0200.{TRACE_OF_P1}.1127140506.{REFERENCE_OF_P1}.A1B2C3"


def call(**named: Any) -> Call:
    fields: dict[str, Any] = {
        "attempt_id": "aurora|p1|1",
        "tenant": "aurora",
        "payment_id": "p1",
        "amount_minor": 1_234,
        "currency": "EUR",
        "token": "tok_p1",
        "method": "card",
    }
    return Call(**(fields | named))


def follow_up(kind: str, **named: Any) -> Call:
    return call(kind=kind, attempt_id="aurora|p1|2", original_reference=PAID, **named)


def answered(asked: Message, code: str = "00", **changed: str) -> Message:
    """What a switch says: the request's own fields but for the token, and its code."""
    fields = {at: value for at, value in asked.fields.items() if at != 63}
    return Message(
        asked.mti[:2] + "10", fields | {39: code, 38: "A1B2C3"} | {int(at[1:]): v for at, v in changed.items()}
    )


def test_a_payment_is_named_by_its_attempt() -> None:
    """0200 with trace number and reference from the attempt id, whenever it is sent; everything else by hand."""
    message = requests.request(call(), PROFILE, AT)
    assert message == Message(
        "0200",
        {
            3: "000000",
            4: "000000001234",
            7: "1127140506",
            11: TRACE_OF_P1,
            12: "140506",
            13: "1127",
            18: "5999",
            22: "100",
            25: "59",
            32: "12345",
            37: REFERENCE_OF_P1,
            41: "TERM0001",
            42: "MERCHANT0000001",
            49: "978",
            63: "tok_p1",
        },
    )
    again = requests.request(call(), PROFILE, AT.replace(day=28))
    assert {at for at in message.fields if message.fields[at] != again.fields[at]} == {7, 13}


def test_kinds_have_their_messages() -> None:
    """What is new has its own reference, what follows that of its original and, in field 90, all that names it."""
    data = f"0200{TRACE_OF_P1}1127140506" + "00000012345" + "0" * 11
    own = requests.reference_number("aurora|p1|2")
    capture, void = (
        make(follow_up(kind), PROFILE, AT) for kind, make in (("capture", requests.advice), ("void", requests.void))
    )
    refund = requests.request(follow_up("refund"), PROFILE, AT)
    found = [(m.mti, m.fields[3], m.fields[37], m.fields.get(38), m.fields[90]) for m in (capture, void, refund)]
    assert found == [
        ("0220", "000000", REFERENCE_OF_P1, "A1B2C3", data),
        ("0400", "000000", REFERENCE_OF_P1, "A1B2C3", data),
        ("0200", "200000", own, None, data),
    ]
    assert requests.request(call(kind="authorize"), PROFILE, AT).mti == "0100"
    for message in (capture, void, refund):
        assert message.fields[11] == requests.trace_number("aurora|p1|2") != TRACE_OF_P1
        assert Format().read(Format().write(message)) == message


@pytest.mark.parametrize("kind", ["payment", "authorize", "refund"])
def test_a_reversal_names_what_it_reverses(kind: str) -> None:
    """Fields 37 and 90, and a trace number of its own: the same each time, so that a repeat is known as one."""
    made = follow_up(kind) if kind == "refund" else call(kind=kind)
    asked = requests.request(made, PROFILE, AT)
    undoing = requests.reversal(made, Original.of(asked), PROFILE, AT.replace(second=9))
    assert (undoing.mti, undoing.fields[3], undoing.fields[4]) == ("0400", asked.fields[3], asked.fields[4])
    assert undoing.fields[90][:20] == asked.mti + asked.fields[11] + asked.fields[7]
    assert undoing.fields[37] == asked.fields[37]
    assert undoing.fields[11] != asked.fields[11]
    repeated = requests.repeat(undoing)
    assert (repeated.mti, repeated.fields) == ("0401", undoing.fields)
    assert requests.repeat(repeated) == repeated
    assert answers.match_key(repeated) == answers.match_key(undoing) != answers.match_key(asked)


def test_an_advice_repeated_says_so() -> None:
    """0221, else the same."""
    advice = requests.advice(follow_up("capture"), PROFILE, AT)
    assert requests.repeat(advice) == Message("0221", advice.fields)


def test_what_is_to_be_paid_is_paid() -> None:
    """The terms' amount, of a payment; a refund's is its own."""
    terms = PaymentTerms(payable_minor=1_235)
    assert requests.request(call(terms=terms), PROFILE, AT).fields[4] == "000000001235"
    assert requests.request(follow_up("refund", terms=terms), PROFILE, AT).fields[4] == "000000001234"


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ({"amount_minor": 0}, "invalid_amount"),
        ({"amount_minor": -1}, "invalid_amount"),
        ({"amount_minor": 10**12}, "invalid_amount"),
        ({"currency": "XXX"}, "currency_not_supported"),
        ({"token": "tok 4111 1111 1111 1111"}, "invalid_request"),
        ({"kind": "refund", "original_reference": ""}, "invalid_request"),
        ({"kind": "refund", "original_reference": PAID + "."}, "invalid_request"),
        ({"kind": "refund", "original_reference": PAID.replace("0200", "0400")}, "invalid_request"),
    ],
)
def test_what_cannot_be_a_message_is_refused(named: dict[str, Any], code: str) -> None:
    """Before anything is sent, with a standard code."""
    with pytest.raises(RefusedError) as caught:
        requests.request(call(**named), PROFILE, AT)
    assert (caught.value.answer.outcome, caught.value.answer.reason) == ("declined", code)


def test_the_largest_amount_fits() -> None:
    """Twelve nines."""
    assert requests.request(call(amount_minor=10**12 - 1), PROFILE, AT).fields[4] == "9" * 12


def test_nobody_can_be_challenged() -> None:
    """A switch sends no payer anywhere."""
    with pytest.raises(UnsupportedError):
        requests.request(call(challenge=True), PROFILE, AT)


@given(st.text(max_size=40))
def test_references_fit_wherever_they_go(attempt: str) -> None:
    """Twelve digits and capitals, six digits; what becomes the PIC's reference is a plain id and no card number."""
    asked = requests.request(call(attempt_id=attempt), PROFILE, AT)
    text = Original.of(asked, "A1B2C3").text
    assert Format().write(asked)
    assert asked.fields[11] != "000000"
    assert ID_PATTERN.match(text) and not holds_card_number(text)
    assert Original.parse(text).text == text


# -- answers ------------------------------------------------------------------------------------------------------


def test_an_approval_is_a_success_with_a_reference() -> None:
    """Of which everything can be named again."""
    asked = requests.request(call(), PROFILE, AT)
    assert answers.decided(call(), asked, answered(asked)) == Answer("succeeded", pic_reference=PAID)
    captured = follow_up("capture")
    advice = requests.advice(captured, PROFILE, AT)
    assert answers.decided(captured, advice, answered(advice)) == Answer("succeeded", pic_reference=PAID)


CODES = ["".join(pair) for pair in product(string.digits + string.ascii_uppercase, repeat=2)]


def test_every_code_has_one_meaning() -> None:
    """Of all 1,296: three approve, two leave it open, a decline says what may be tried, and the rest is not relied on."""
    asked = requests.request(call(), PROFILE, AT)
    found = {code: answers.decided(call(), asked, answered(asked, code)) for code in CODES}
    assert {code for code, answer in found.items() if answer and answer.outcome == "succeeded"} == {"00", "11", "16"}
    assert {code for code, answer in found.items() if answer == UNKNOWN} == {"09", "94"} == set(NOT_DECIDED)
    declined = {code for code, answer in found.items() if answer and answer.outcome == "declined"}
    assert declined == set(DECLINES)
    assert {code for code, answer in found.items() if answer is None} == set(CODES) - declined - NOT_DECIDED - APPROVED


@pytest.mark.parametrize(
    ("code", "reason", "retry"),
    [
        ("05", "do_not_honor", "elsewhere"),
        ("14", "invalid_account", "never"),
        ("1A", "authentication_required", "never"),
        ("41", "lost_card", "never"),
        ("43", "stolen_card", "never"),
        ("51", "insufficient_funds", "never"),
        ("54", "expired_card", "never"),
        ("59", "suspected_fraud", "never"),
        ("61", "limit_exceeded", "never"),
        ("91", "issuer_unavailable", "here"),
    ],
)
def test_declines_by_hand(code: str, reason: str, retry: str) -> None:
    """Some codes that every card scheme has."""
    asked = requests.request(call(), PROFILE, AT)
    assert answers.decided(call(), asked, answered(asked, code)) == Answer("declined", reason, retry=retry)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["00", "51"])
@pytest.mark.parametrize("changed", [{"f4": "000000001235"}, {"f49": "840"}])
def test_a_word_about_another_amount_is_pending(code: str, changed: dict[str, str]) -> None:
    """Neither yes nor no to what was asked, and nothing of ours to undo."""
    asked = requests.request(call(), PROFILE, AT)
    assert answers.decided(call(), asked, answered(asked, code, **changed)) == UNKNOWN


@pytest.mark.parametrize("code", ["08", "10", "06", "68", "96", "ZZ"])
def test_what_cannot_be_used_is_undone(code: str) -> None:
    """Approved in part or on a condition, in error, too late, in no table: not known, so it must not stand."""
    asked = requests.request(call(), PROFILE, AT)
    assert answers.decided(call(), asked, answered(asked, code, f4="000000000001")) is None


@pytest.mark.parametrize("at", [4, 39, 49])
def test_an_answer_without_what_it_is_about_is_none(at: int) -> None:
    """Amount, currency and code are there, or nothing is believed."""
    asked = requests.request(call(), PROFILE, AT)
    whole = answered(asked).fields
    assert answers.decided(call(), asked, Message("0210", {n: v for n, v in whole.items() if n != at})) is None


PRINTABLE = st.text(string.digits + string.ascii_uppercase + " ", max_size=12)


@given(st.dictionaries(st.sampled_from([3, 4, 7, 11, 37, 38, 39, 41, 49, 90]), PRINTABLE))
def test_no_success_by_accident(changed: dict[int, str]) -> None:
    """Whatever stands in an answer: a success has an approval's code, the amount and the currency."""
    asked = requests.request(call(), PROFILE, AT)
    answer = Message("0210", answered(asked).fields | changed)
    found = answers.decided(call(), asked, answer)
    if found is not None and found.outcome == "succeeded":
        assert answer.fields[39] in APPROVED
        assert (answer.fields[4], answer.fields[49]) == ("000000001234", "978")


@pytest.mark.parametrize(
    ("code", "repeated", "undone"),
    [
        ("00", False, True),
        ("25", False, False),
        ("25", True, True),
        ("21", False, False),
        ("21", True, True),
        ("12", True, False),
        ("", True, False),
    ],
)
def test_a_reversal_is_believed_when_nothing_can_stand(code: str, repeated: bool, undone: bool) -> None:
    """Approved; or not there the second time that it is asked: the first time the request may still be on its way."""
    asked = requests.request(call(), PROFILE, AT)
    undoing = requests.reversal(call(), Original.of(asked), PROFILE, AT)
    if repeated:
        undoing = requests.repeat(undoing)
    assert answers.undone(undoing, answered(undoing, code)) is undone
    assert not answers.undone(undoing, answered(undoing, "00", f4="000000009999"))


def test_an_inquiry_names_what_it_asks_for() -> None:
    """By reference and, in field 90, kind and trace number; its answer tells when that was sent."""
    asked = requests.inquiry(call(), PROFILE, AT)
    assert (asked.mti, asked.fields[37], asked.fields[90]) == ("0600", REFERENCE_OF_P1, f"0200{TRACE_OF_P1}" + "0" * 32)
    of_capture = requests.inquiry(follow_up("capture"), PROFILE, AT)
    assert of_capture.fields[90][:4] == "0220"
    assert of_capture.fields[37] == REFERENCE_OF_P1
    data = f"0200{TRACE_OF_P1}1127140506" + "0" * 22
    assert answers.found(call(), asked, answered(asked, "00", f90=data)) == Answer("succeeded", pic_reference=PAID)
    assert answers.found(call(), asked, answered(asked, "51", f90=data)) == Answer("declined", "insufficient_funds")
    assert answers.found(call(), asked, answered(asked, "25")) is None
    reversed_ = answers.found(call(), asked, answered(asked, "21"))
    assert reversed_ is not None and (reversed_.outcome, reversed_.retry) == ("declined", "here")


@pytest.mark.parametrize(
    "changed", [{"f39": "96"}, {"f39": "09"}, {"f90": "0" * 42}, {"f90": "0100" + "1" * 38}, {"f4": "000000000001"}]
)
def test_what_an_inquiry_does_not_tell_is_unknown(changed: dict[str, str]) -> None:
    """Never None: that would send the payment again."""
    asked = requests.inquiry(call(), PROFILE, AT)
    data = f"0200{TRACE_OF_P1}1127140506" + "0" * 22
    assert answers.found(call(), asked, answered(asked, **({"f90": data} | changed))) == UNKNOWN


def test_answers_are_matched_by_what_they_repeat() -> None:
    """Kind, trace number, time, terminal, reference: another one in any of them is another request."""
    asked = requests.request(call(), PROFILE, AT)
    key = answers.match_key(asked)
    assert answers.match_key(answered(asked)) == key
    assert answers.match_key(Message("0211", answered(asked).fields)) == key
    for changed in ({"f11": "000001"}, {"f7": "1127140507"}, {"f41": "TERM0002"}, {"f37": "ABCDEFGHIJKL"}):
        assert answers.match_key(answered(asked, **changed)) != key
    assert answers.match_key(Message("0110", answered(asked).fields)) != key
    assert answers.match_key(Message("0230", answered(asked).fields)) != key
    echo = requests.management("301", 41, AT)
    assert (echo.fields, answers.match_key(requests.managed(echo))) == (
        {7: "1127140506", 11: "000042", 70: "301"},
        answers.match_key(echo),
    )


def test_no_table_holds_a_code_twice() -> None:
    """A code approves, leaves open, is unwanted or declines."""
    assert not (APPROVED & NOT_DECIDED) and not (UNWANTED & (APPROVED | NOT_DECIDED))
    assert not set(DECLINES) & (APPROVED | NOT_DECIDED | UNWANTED)
    assert DeclineCode.OTHER not in {meaning.code for meaning in DECLINES.values()}


# -- the profile --------------------------------------------------------------------------------------------------

SETTINGS = {"host": "switch.invalid", "port": "5000", "terminal": "TERM0001", "merchant": "M1", "acquirer": "12345"}


def options(**settings: str) -> PicOptions:
    return PicOptions(name="iso8583", settings=SETTINGS | settings, timeout_s=5.0)


def test_settings_have_defaults() -> None:
    """Half of the time-out is for the answer, what is left for its reversal; filled to the length of their fields."""
    profile = profile_of(options())
    assert (profile.answer_s, profile.reversal_s, profile.connect_s, profile.header) == (2.5, 1.0, 1.0, "binary2")
    assert (profile.merchant, profile.token_field, profile.mac_key) == ("M1" + " " * 13, 63, b"")
    assert not (profile.deduplicates or profile.inquiries or profile.several_captures)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host", ""),
        ("port", "70000"),
        ("port", "x"),
        ("port", "nan"),
        ("terminal", "TOO LONG A NAME"),
        ("acquirer", "12a"),
        ("category", "1"),
        ("header", "binary4"),
        ("inquiries", "true"),
        ("connections", "0"),
        ("token_field", "2"),
        ("token_field", "35"),
        ("token_field", "37"),
        ("format", "/nowhere/at/all.json"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(key: str, value: str) -> None:
    """And its value is not repeated."""
    with pytest.raises(PicSettingError, match=f"PTR_PIC_ISO8583_{key.upper()}") as caught:
        profile_of(options(**{key: value}))
    assert not value or len(value) < 3 or value not in str(caught.value) or key in ("header", "format")


def test_a_format_is_read_from_its_file(tmp_path: Path) -> None:
    """Elements and encoding of this switch; an error in it names the field."""
    file = tmp_path / "switch.json"
    file.write_text(
        '{"elements": {"3": {"Describe": "n 6"}, "11": {"Describe": "n 6"}}, "encoding": {"num_enc": "BCD"}}'
    )
    form = profile_of(options(format=str(file))).format
    assert form.write(Message("0800", {11: "123456"})) == b"08000020000000000000\x12\x34\x56"
    file.write_text('{"elements": {"3": {"Describe": "digits"}}}')
    with pytest.raises(PicSettingError, match="PTR_PIC_ISO8583_FORMAT cannot be read: field 3"):
        profile_of(options(format=str(file)))


def test_the_key_is_a_secret(tmp_path: Path) -> None:
    """By reference, and never shown."""
    file = tmp_path / "key"
    file.write_text("made-up-key\n")
    profile = profile_of(options(mac_key_file=str(file)))
    assert profile.mac_key == b"made-up-key"
    assert "made-up" not in repr(profile)
