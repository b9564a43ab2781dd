"""W3C trace context (https://www.w3.org/TR/trace-context/): read from a request's headers, carried in events, and written for
whoever is called.

Events hold two fields: ``trace_id``, and in ``trace_context`` what else the caller said, ``PARENT-FLAGS[;TRACESTATE]``. Span
ids are in none: each is derived from its payment and step (:func:`span_id`), so that whoever makes a span, a header or a link
comes to the same id, also when a record is handled again. So is the trace id of a payment whose caller had none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from schemas.card_numbers import holds_card_number, may_hold_card_number

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
#: What is passed on of a longer tracestate: the least that the specification asks for.
STATE_CHARS_MAX: Final = 512
#: More members make a tracestate invalid.
STATE_MEMBERS_MAX: Final = 32

# Lower case only. Of a later version the beginning is understood as version 00.
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16
_MEMBER: Final = re.compile(
    r"([a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
#: Sampled, and that the trace id is random: the flags that are defined, and so passed on.
_FLAGS: Final = 0x03
_NO_FLAGS: Final = "00"


class Caller(NamedTuple):
    """What ``trace_context`` holds: the caller's span, its flags as two hex digits, and its tracestate; each may be empty."""

    parent_id: str
    flags: str
    state: str


def of_headers(headers: Sequence[tuple[str, bytes]]) -> tuple[str, str]:
    """``trace_id`` and ``trace_context`` for an event of a record with these headers; both empty without a valid traceparent.

    An invalid traceparent is ignored, with its tracestate; an invalid tracestate alone. So is what looks like a card number.
    """
    if not headers:
        return "", ""
    parent, states = None, []
    for name, value in headers:
        lower = name.lower()
        if lower == TRACEPARENT:
            if parent is not None:
                return "", ""
            parent = value
        elif lower == TRACESTATE:
            states.append(value)
    found = None if parent is None else _PARENT.fullmatch(parent.strip(b" \t"))
    if found is None:
        return "", ""
    version, trace, parent_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace == _NO_TRACE or parent_id == _NO_PARENT:
        return "", ""
    # Hexadecimal digits with a letter among them are no card number, nor are 32 digits.
    if parent_id.isdigit() and holds_card_number(parent_id.decode()):
        return "", ""
    context = f"{parent_id.decode()}-{int(flags, 16) & _FLAGS:02x}"
    state = _state_of(states) if states else ""
    return trace.decode(), f"{context};{state}" if state else context


def _state_of(values: Sequence[bytes]) -> str:
    """One tracestate of several headers, its oldest members left out where it is too long; empty when it is invalid."""
    joined = b",".join(values)
    members = [member for part in joined.decode("latin-1").split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > STATE_MEMBERS_MAX or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    while len(state := ",".join(members)) > STATE_CHARS_MAX:
        members.pop()
    return "" if may_hold_card_number(joined) and holds_card_number(state) else state


def caller_of(trace_context: str) -> Caller:
    """The parts of an event's ``trace_context``."""
    parent, _, state = trace_context.partition(";")
    parent_id, _, flags = parent.partition("-")
    return Caller(parent_id, flags or _NO_FLAGS, state)


def trace_id_of(tenant: str, payment_id: str, trace_id: str = "") -> str:
    """The trace of a payment: its caller's, or one that is made from its identity; 32 hex digits."""
    return trace_id or _derived("trace", f"{tenant}|{payment_id}", 16)


def span_id(tenant: str, payment_id: str, step: str) -> str:
    """The span of a step of a payment, 16 hex digits; ``step`` is a step's id (:mod:`connectors.sinks.journey`)."""
    return _derived("span", f"{tenant}|{payment_id}|{step}", 8)


def _derived(what: str, of: str, size: int) -> str:
    return blake2b(of.encode(), digest_size=size, person=what.encode()).hexdigest()


def call_step(operation_id: str, attempt: int, ask: int) -> str:
    """The step in which a PIC is called, or asked what became of a call."""
    return f"call/{operation_id}/{attempt}.{ask}" if operation_id else f"call/{attempt}.{ask}"


def headers_for(
    tenant: str, payment_id: str, step: str, *, trace_id: str = "", trace_context: str = ""
) -> dict[str, str]:
    """The headers for whoever is called in ``step`` of a payment: its trace, the step as the parent, the caller's state."""
    caller = caller_of(trace_context)
    span = span_id(tenant, payment_id, step)
    headers = {TRACEPARENT: f"00-{trace_id_of(tenant, payment_id, trace_id)}-{span}-{caller.flags}"}
    if caller.state:
        headers[TRACESTATE] = caller.state
    return headers
