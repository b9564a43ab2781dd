"""Stripe's webhooks: which are believed, and what they tell."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.pic.base import Answer, Notice, NotificationError
from connectors.pic.stripe.notices import NOTICE_BYTES_MAX, told
from tests.stripe_objects import INTENT, REFUND

NOW_S = 1_800_000_000
FAILED_REFUND = REFUND | {"status": "failed", "metadata": {"attempt_id": "acme|p-1|2"}}


def event(about: dict[str, Any], word: str = "payment_intent.succeeded") -> bytes:
    fields = {"id": "evt_1", "object": "event", "type": word, "created": NOW_S - 9, "data": {"object": about}}
    return json.dumps(fields).encode()


def sign(body: bytes, secret: str, at_s: object = NOW_S) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()


def notice(body: bytes, header: str | None = None, received_at_s: float = NOW_S) -> Notice:
    header = f"t={NOW_S},v1={sign(body, 'whsec_a')}" if header is None else header
    return Notice(headers={"stripe-signature": header}, body=body, received_at_s=received_at_s)


def refused(of: Notice, *secrets: str) -> str:
    with pytest.raises(NotificationError) as error:
        told(of, secrets or ("whsec_a",))
    return error.value.reason


def test_the_signature_is_stripes() -> None:
    """HMAC-SHA256 of ``t.body``: a value worked out with another program (openssl dgst -sha256 -hmac)."""
    header = "t=1800000000,v1=KNOWN"
    body = b'{"id":"evt_1","object":"event","type":"account.updated","created":1,"data":{"object":{}}}'
    assert told(notice(body, header.replace("KNOWN", OPENSSL)), ["whsec_test"]) == []


#: printf '1800000000.%s' BODY | openssl dgst -sha256 -hmac whsec_test
OPENSSL = "aab74e55184f0d1e041071243bf6c3c01fd710bea05b241aea6f3de5176b812e"


def test_while_a_secret_is_replaced_both_are_believed() -> None:
    """Ours may be two, and theirs may be two; one pair that fits is enough, and none is not."""
    body = event(INTENT)
    old, new = sign(body, "whsec_old"), sign(body, "whsec_new")
    for header in (f"t={NOW_S},v1={old},v1={new}", f"t={NOW_S},v1={new}", f"t={NOW_S}, v1={old}"):
        assert len(told(notice(body, header), ["whsec_old", "whsec_new"])) == 1
    assert len(told(notice(body, f"t={NOW_S},v1={old},v1={new}"), ["whsec_new"])) == 1
    assert refused(notice(body, f"t={NOW_S},v1={old}"), "whsec_new") == "bad_signature"


@pytest.mark.parametrize("age_s", [-301, 301, 86_400])
def test_five_minutes_are_enough(age_s: int) -> None:
    """An older or a younger one is a replay, though it is rightly signed."""
    assert refused(notice(event(INTENT), received_at_s=NOW_S + age_s)) == "replayed"
    for near_s in (-300, 300):
        assert told(notice(event(INTENT), received_at_s=NOW_S + near_s), ["whsec_a"])


@pytest.mark.parametrize(
    "header",
    ["", "t=", "v1=", f"t={NOW_S}", f"t={NOW_S},v0=RIGHT", "v1=RIGHT", f"t={NOW_S},t={NOW_S},v1=RIGHT", "t=now,v1=RIGHT",
     f"t={NOW_S + 1},v1=RIGHT", f"t={NOW_S},v1=RIGHT0", "t=٣,v1=RIGHT", f"t={NOW_S},v1=é"],
)  # fmt: skip
def test_a_header_that_does_not_prove_anything(header: str) -> None:
    """An older scheme, two times, none, another time than the signed one."""
    body = event(INTENT)
    assert refused(notice(body, header.replace("RIGHT", sign(body, "whsec_a")))) == "bad_signature"


def test_a_body_without_end_is_not_read() -> None:
    """Whoever signed it."""
    assert refused(notice(b" " * (NOTICE_BYTES_MAX + 1))) == "malformed"


@given(st.binary(max_size=100), st.text(alphabet=st.characters(codec="utf-8"), max_size=100))
def test_nothing_made_up_is_believed(body: bytes, header: str) -> None:
    """Neither body nor header raises anything else."""
    assert refused(notice(body, header)) == "bad_signature"


@given(st.binary(max_size=100))
def test_signed_rubbish_is_malformed(body: bytes) -> None:
    """Only that."""
    assert refused(notice(body)) == "malformed"


@pytest.mark.parametrize(
    ("about", "word", "expected"),
    [
        ({}, "succeeded", [("acme|p-1|1", Answer("succeeded", "", "pi_1"))]),
        ({"status": "processing"}, "processing", [("acme|p-1|1", Answer("pending", "processing", "pi_1"))]),
        ({"status": "requires_confirmation"}, "created", []),
        ({"status": "canceled"}, "canceled", []),
        ({"metadata": {}}, "succeeded", []),
        (
            {"status": "requires_payment_method", "last_payment_error": {"type": "card_error", "code": "expired_card"}},
            "payment_failed",
            [("acme|p-1|1", Answer("declined", "expired_card", "pi_1"))],
        ),
        (
            {"status": "requires_capture", "capture_method": "manual"},
            "amount_capturable_updated",
            [("acme|p-1|1", Answer("succeeded", "", "pi_1"))],
        ),
        (
            {"capture_method": "manual", "metadata": {"attempt_id": "a|p|1", "capture_attempt_id": "a|p|2"}},
            "succeeded",
            [("a|p|1", Answer("succeeded", "", "pi_1")), ("a|p|2", Answer("succeeded", "", "pi_1"))],
        ),
    ],
)
def test_what_is_told(about: dict[str, Any], word: str, expected: list[tuple[str, Answer]]) -> None:
    """Of payments that we made, authorizations and captures; of a cancel it is not said whose it was."""
    events = told(notice(event(INTENT | about, f"payment_intent.{word}")), ["whsec_a"])
    assert [(each.attempt_id, each.answer) for each in events] == expected
    assert {each.event_id for each in events} <= {"evt_1"}


def test_refunds_are_told() -> None:
    """One that failed after all."""
    (one,) = told(notice(event(FAILED_REFUND, "refund.failed")), ["whsec_a"])
    assert (one.attempt_id, one.answer) == ("acme|p-1|2", Answer("declined", "other", "re_1"))


def test_of_one_second_what_is_further_on_is_later() -> None:
    """Stripe's times are whole seconds."""
    stages = [{"status": "processing"}, {"status": "succeeded"}]
    first, last = (told(notice(event(INTENT | each)), ["whsec_a"])[0].occurred_at_ms for each in stages)
    assert (NOW_S - 9) * 1_000 <= first < last < (NOW_S - 8) * 1_000
