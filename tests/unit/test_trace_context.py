"""W3C trace context: what is valid by the specification, what is passed on, and ids that need no memory."""

from __future__ import annotations

import re

import pytest

from connectors.pic.base import Call
from schemas.trace_context import Caller, caller_of, headers_for, of_headers, span_id, trace_id_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


def headers(*parents: str, state: tuple[str, ...] = ()) -> list[tuple[str, bytes]]:
    return [("traceparent", each.encode("latin-1")) for each in parents] + [
        ("tracestate", each.encode("latin-1")) for each in state
    ]


@pytest.mark.parametrize(
    ("given", "context"),
    [
        (VALID, f"{PARENT}-01"),
        (f"00-{TRACE}-{PARENT}-00", f"{PARENT}-00"),
        (f" {VALID}\t", f"{PARENT}-01"),
        # Flags that are not defined are not passed on.
        (f"00-{TRACE}-{PARENT}-ff", f"{PARENT}-03"),
        # Of a later version the beginning is understood.
        (f"cc-{TRACE}-{PARENT}-01-what-the-future", f"{PARENT}-01"),
        (f"cc-{TRACE}-{PARENT}-01", f"{PARENT}-01"),
    ],
)
def test_a_valid_traceparent_is_taken(given: str, context: str) -> None:
    """Section 3.2 of the specification: version, trace id, parent id, flags."""
    assert of_headers(headers(given)) == (TRACE, context)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        VALID.upper(),
        VALID[:-1],
        f"{VALID}-more",
        f"{VALID}.",
        f"cc-{TRACE}-{PARENT}-01.what",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE}-{PARENT}-01\xff",
        # What looks like a card number must not enter (Visa's test number).
        f"00-{TRACE}-4111111111111111-01",
    ],
)
def test_an_invalid_traceparent_is_ignored_with_its_tracestate(given: str) -> None:
    """The payment gets a trace of its own, as one without a caller's."""
    assert of_headers(headers(given, state=("rojo=1",))) == ("", "")


def test_two_traceparents_are_none() -> None:
    """Nobody could say which one is meant."""
    assert of_headers(headers(VALID, VALID)) == ("", "")
    assert of_headers([]) == ("", "")
    assert of_headers([("Traceparent", VALID.encode())])[0] == TRACE


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ((" a=1 , ,b=2\t", "c=3"), "a=1,b=2,c=3"),
        (("fw529a3039@dt=FfAAAAAA~#!",), "fw529a3039@dt=FfAAAAAA~#!"),
        (("a=1,a=2",), ""),
        (("A=1",), ""),
        (("a",), ""),
        (("a=1=2",), ""),
        (("a=\x7f",), ""),
        ((",".join(f"k{n}=v" for n in range(32)),), ",".join(f"k{n}=v" for n in range(32))),
        ((",".join(f"k{n}=v" for n in range(33)),), ""),
        ((f"a=1,b={'x' * 200},c={'y' * 200},d={'z' * 200}",), f"a=1,b={'x' * 200},c={'y' * 200}"),
        (("a=4111-1111-1111-1111",), ""),
    ],
)
def test_a_tracestate_is_passed_on_if_it_is_valid(given: tuple[str, ...], passed_on: str) -> None:
    """Section 3.3: members in order, the oldest left out of a long one; an invalid one harms the traceparent not."""
    trace_id, context = of_headers(headers(VALID, state=given))
    assert trace_id == TRACE
    assert caller_of(context) == Caller(PARENT, "01", passed_on)


def test_without_a_caller_there_is_nobody_and_no_state() -> None:
    """Nor are we sampled by anybody's word."""
    assert caller_of("") == Caller("", "00", "")


def test_ids_are_made_from_what_they_are_of() -> None:
    """The same each time, of the right form, and different for each payment and step."""
    assert trace_id_of("t", "p", TRACE) == TRACE
    made = [trace_id_of("t", "p"), trace_id_of("t", "q"), trace_id_of("u", "p")]
    assert len(set(made)) == 3
    assert made[0] == trace_id_of("t", "p")
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    spans = {span_id("t", "p", "screening"), span_id("t", "p", "payer"), span_id("t", "q", "payer")}
    assert len(spans) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in spans)


def test_a_pic_is_told_the_trace_and_that_the_call_is_its_parent() -> None:
    """Version 00, the caller's trace and flags, the call's span; the caller's state. Of a capture, the capture's call."""
    fields = {"tenant": "t", "payment_id": "p", "currency": "EUR", "token": "x", "method": "card", "amount_minor": 1}
    call = Call(attempt_id="t|p|2", ask=1, trace_id=TRACE, trace_context=f"{PARENT}-01;rojo=1", **fields)  # type: ignore[arg-type]
    assert call.trace_headers() == {
        "traceparent": f"00-{TRACE}-{span_id('t', 'p', 'call/2.1')}-01",
        "tracestate": "rojo=1",
    }
    capture = Call(attempt_id="t|p|cap-1|1", **fields)  # type: ignore[arg-type]
    assert capture.trace_headers() == {
        "traceparent": f"00-{trace_id_of('t', 'p')}-{span_id('t', 'p', 'call/cap-1/1.0')}-00"
    }


def test_what_is_written_is_valid_again() -> None:
    """What we write another pipeline of ours would take."""
    written = headers_for("t", "p", "screening")
    trace_id, context = of_headers([(name, value.encode()) for name, value in written.items()])
    assert (trace_id, caller_of(context).parent_id) == (trace_id_of("t", "p"), span_id("t", "p", "screening"))
