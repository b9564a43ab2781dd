"""Broken answers of all kinds, at every plugin: never a success by accident.

Each test begins with the bytes of a real answer and breaks them. A success afterwards is right only where the broken bytes
still say so in words: an approval by name, of this attempt, amount and currency, read here by another reader than the plugin's.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.pic import simulator_notices
from connectors.pic.base import UNKNOWN, Abilities, Answer, Call, Notice, NotificationError, Plugin
from connectors.pic.calls import OneByOne
from connectors.pic.iso8583 import answers, requests
from connectors.pic.iso8583.codec import CodecError, Format
from connectors.pic.iso20022.reports import ReportError, read_report
from connectors.pic.simulator_notices import Event
from connectors.pic.stripe.mapping import decided
from tests.stripe_objects import CALL, INTENT
from tests.unit import test_iso8583_mapping as switch
from tests.unit import test_iso20022_mapping as bank

#: What is put into an answer where something else was.
WORDS = ("succeeded", "true", "00", "ACSC", "null", "[]", '"', "{", "\x00", "BOOK", "é", "paid")


@st.composite
def broken(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with bits flipped, bytes and words put in or taken out, parts repeated or swapped, and perhaps cut off."""
    body = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 12))
        match draw(st.sampled_from("fbwdrc")):
            case "f" if at < len(body):
                body[at] ^= 1 << draw(st.integers(0, 7))
            case "b":
                body[at : at + length] = draw(st.binary(max_size=6))
            case "w":
                body[at : at + length] = draw(st.sampled_from(WORDS)).encode()
            case "d":
                del body[at : at + length]
            case "r":
                body[at:at] = body[at : at + 4 * length]
            case "c":
                del body[at:]
            case _:
                pass
    return bytes(body)


def told_by_json(body: bytes) -> Any:
    """What a plain reader of JSON sees, whatever bytes are no text; None for what is none."""
    try:
        return json.loads(body.decode(errors="replace"))
    except ValueError:
        return None


@pytest.mark.parametrize("word", ["succeeded", "processing", "requires_payment_method", "canceled", "requires_action"])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_stripes_answers(word: str, drawn: st.DataObject) -> None:
    """A payment's JSON under any status: a success is 200, ``succeeded``, of this attempt, amount and currency."""
    whole = json.dumps(INTENT | {"status": word, "last_payment_error": {"code": "card_declined"}}).encode()
    body = drawn.draw(broken(whole))
    status = drawn.draw(st.sampled_from([200, 200, 200, 201, 202, 204, 206, 301, 402, 404, 409, 429, 500, 502, 504]))
    answer = decided(CALL, status, {}, body)
    if answer.outcome == "succeeded":
        told = told_by_json(body)
        assert status == 200
        assert (told["object"], told["status"], told["amount"], told["currency"]) == (
            "payment_intent", "succeeded", 1_234, "eur",
        )  # fmt: skip
        assert told["metadata"]["attempt_id"] == CALL.attempt_id
        assert told["id"] == answer.pic_reference


@pytest.mark.parametrize("code", ["00", "05", "51", "91", "09", "10"])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_switchs_answers(code: str, drawn: st.DataObject) -> None:
    """A message's bytes, as the connection reads them: a success has an approval's code, and what was asked."""
    asked = requests.request(switch.call(), switch.PROFILE, switch.AT)
    form = Format()
    raw = drawn.draw(broken(form.write(switch.answered(asked, code))))
    try:
        message = form.read(raw)
        if answers.match_key(message) != answers.match_key(asked):
            return  # Nobody waits for it.
    except (CodecError, ValueError):
        return
    answer = answers.decided(switch.call(), asked, message)
    if answer is not None and answer.outcome == "succeeded":
        # By hand, in the bytes: amount, time and trace number, then the reference, the approval's code and the terminal.
        assert re.search(rb"000000001234" + rb".*" + switch.TRACE_OF_P1.encode(), raw, re.DOTALL)
        assert re.search(switch.REFERENCE_OF_P1.encode() + rb".*(00|11|16)TERM0001", raw, re.DOTALL)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_switchs_signed_answers(drawn: st.DataObject) -> None:
    """With an authentication code no bit of an answer can change: a decline that reads as an approval is refused."""
    asked = requests.request(switch.call(), switch.PROFILE, switch.AT)
    form, key = Format(), b"0123456789abcdef"
    declined = form.signed(switch.answered(asked, "01"), key)  # One bit of it makes 00.
    raw = form.write(declined)
    changed = drawn.draw(broken(raw))
    try:
        message = form.read(changed)
        form.check_signature(message, key)
    except (CodecError, ValueError):
        return
    assert changed == raw


@pytest.mark.parametrize("word", ["ACSC", "RJCT", "PDNG", "ACCP", "ACSP", "RCVD"])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_banks_reports(word: str, drawn: st.DataObject) -> None:
    """A pain.002 about our transfer: a success has the word for settled in it, and our transfer's name."""
    ours = bank.transfer()
    body = drawn.draw(broken(bank.status(bank.heard(ours), word).encode()))
    try:
        said = read_report(body)
    except ReportError:
        return
    for each in said:
        if each.end_to_end_id == ours.end_to_end_id and each.outcome == "succeeded":
            assert re.search(rb"<TxSts>\s*(ACSC|ACCC)\s*(<!--.*?-->|<\?.*?\?>)*\s*</TxSts>", body, re.DOTALL), body
            assert ours.end_to_end_id.encode() in body


def event(outcome: str) -> bytes:
    """A notification's body."""
    answer = {"outcome": outcome, "reason": "", "pic_reference": "sim_1"}
    fields = {"id": "evt_1", "attempt_id": "aurora|p1|1", "occurred_at_ms": 1, "answer": answer}
    return json.dumps(fields).encode()


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_notifications_that_were_changed(drawn: st.DataObject) -> None:
    """On its way: not one byte of the body, and nothing of the signature that is looked at."""
    notice = simulator_notices.signed(event("declined"), "secret", 1_000)
    body = drawn.draw(broken(notice.body))
    header = drawn.draw(st.just(notice.headers[simulator_notices.HEADER]).flatmap(lambda text: broken(text.encode())))
    for changed in (
        Notice(headers=notice.headers, body=body, received_at_s=1_000.0),
        Notice(headers={simulator_notices.HEADER: header.decode("latin-1")}, body=notice.body, received_at_s=1_000.0),
    ):
        if changed in (notice, Notice(headers=notice.headers, body=notice.body, received_at_s=1_000.0)):
            continue
        with pytest.raises(NotificationError):
            simulator_notices.parse(changed, "secret")


@pytest.mark.parametrize("outcome", ["succeeded", "declined", "pending", "unsent", "paid", ""])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_notifications_that_were_signed_so(outcome: str, drawn: st.DataObject) -> None:
    """Rubbish with a right signature is malformed, and a success says so in its outcome."""
    body = drawn.draw(broken(event(outcome)))
    try:
        found = simulator_notices.parse(simulator_notices.signed(body, "secret", 1_000), "secret")
    except NotificationError:
        return
    for each in found:
        if each.answer.outcome == "succeeded":
            told = told_by_json(body)
            assert told["answer"]["outcome"] == "succeeded"
            assert told["attempt_id"] == each.attempt_id


class Rubbish(Plugin):
    """Says what it is told to, which is no answer."""

    abilities = Abilities(looks_up=True, deduplicates=True)

    def __init__(self, says: Any) -> None:
        self._says = says

    async def authorize(self, call: Call) -> Answer:
        """Anything."""
        if isinstance(self._says, BaseException):
            raise self._says
        return self._says  # type: ignore[no-any-return]

    async def look_up(self, call: Call) -> Answer | None:
        """The same."""
        return await self.authorize(call)


_OBJECTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.sampled_from(["succeeded", "declined"])),
    st.dictionaries(st.sampled_from(["outcome", "reason"]), st.just("succeeded")),
    st.builds(Answer, st.sampled_from(["SUCCEEDED", "ok", "paid", "", "success", "succeeded ", None, 1])),
    st.sampled_from([Event, Answer, Exception("x"), ValueError(), OSError(), TimeoutError(), KeyError("y")]),
)


@settings(max_examples=120, deadline=None)
@given(_OBJECTS)
def test_what_a_plugin_gives_instead_of_an_answer(says: Any) -> None:
    """Is the unknown answer, to a call and to a look-up; None says that the PIC has nothing, to a look-up alone."""
    pic = OneByOne("rubbish", Rubbish(says), timeout_s=1.0)

    async def ask() -> tuple[list[Answer], list[Answer | None]]:
        return await pic.perform([CALL]), await pic.look_up([CALL])

    assert asyncio.run(ask()) == ([UNKNOWN], [None if says is None else UNKNOWN])
