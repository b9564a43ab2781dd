"""Stripe's API: what is sent for a call, and what an answer says. Never a success by accident."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.pic.base import UNKNOWN, Answer, Call, Kind
from connectors.pic.options import PicOptions, PicSettingError
from connectors.pic.stripe.declines import DECLINES
from connectors.pic.stripe.mapping import (
    Intent,
    Refund,
    RefusedError,
    decided,
    idempotency_key,
    never_done,
    never_got,
    request_of,
    search_query,
    stripe_amount,
)
from connectors.pic.stripe.plugin import make
from tests.stripe_objects import CALL, INTENT, REFUND

REDIRECT = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.stripe.com/3ds?a=1"}}
CAPTURED = {"capture_method": "manual", "metadata": {"attempt_id": "acme|p-1|0", "capture_attempt_id": "acme|p-1|1"}}
DONE = Answer("succeeded", "", "pi_1")


def call(kind: Kind = "payment", **changed: Any) -> Call:
    follows = {} if kind in ("payment", "authorize") else {"original_reference": "pi_1"}
    return msgspec.structs.replace(CALL, kind=kind, **(follows | changed))


def answer(to: Call, status: int, body: object, headers: dict[str, str] | None = None) -> Answer:
    return decided(to, status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def error(**fields: object) -> dict[str, object]:
    return {"error": {"type": "card_error", "message": "Ms Lovelace"} | fields}


# -- what is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount_minor", "currency", "amount"),
    [
        (1_234, "EUR", 1_234),
        (1_234, "JPY", 1_234),
        (12_340, "KWD", 12_340),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (1_200, "MGA", 12),
    ],
)
def test_amounts_are_stripes(amount_minor: int, currency: str, amount: int) -> None:
    """As docs.stripe.com/currencies counts, whose decimals are not always those of ISO 4217."""
    assert stripe_amount(amount_minor, currency) == amount


@pytest.mark.parametrize(
    ("amount_minor", "currency", "reason"),
    [(12_345, "KWD", "invalid_amount"), (1_234, "MGA", "invalid_amount"), (1, "XXX", "currency_not_supported")],
)
def test_what_would_be_rounded_is_refused(amount_minor: int, currency: str, reason: str) -> None:
    """Nothing is sent."""
    with pytest.raises(RefusedError) as refused:
        request_of(call(amount_minor=amount_minor, currency=currency))
    assert (refused.value.answer.outcome, refused.value.answer.reason) == ("declined", reason)


def test_requests_are_what_the_api_reference_has() -> None:
    """Path and form of every kind."""
    made = {
        "amount": "1234",
        "currency": "eur",
        "payment_method": "pm_1",
        "payment_method_types[]": "card",
        "capture_method": "automatic",
        "confirm": "true",
        "metadata[attempt_id]": "acme|p-1|1",
    }
    assert (request_of(call()).path, request_of(call()).fields) == ("payment_intents", made)
    assert request_of(call("authorize")).fields == made | {"capture_method": "manual"}
    assert request_of(call(challenge=True), "https://shop.example").fields == made | {
        "return_url": "https://shop.example",
        "payment_method_options[card][request_three_d_secure]": "any",
    }
    capture, void, refund = (request_of(call(kind)) for kind in ("capture", "void", "refund"))
    assert (capture.path, capture.fields) == (
        "payment_intents/pi_1/capture",
        {"amount_to_capture": "1234", "metadata[capture_attempt_id]": "acme|p-1|1"},
    )
    assert (void.path, void.fields) == ("payment_intents/pi_1/cancel", {})
    assert (refund.path, refund.fields) == (
        "refunds",
        {"payment_intent": "pi_1", "amount": "1234", "metadata[attempt_id]": "acme|p-1|1"},
    )


@pytest.mark.parametrize("reference", ["", "ch_1", "pi_", "pi_1/../../refunds", "pi_1?x", "pi_" + "1" * 300, "pi_1\n"])
@pytest.mark.parametrize("kind", ["capture", "void", "refund"])
def test_a_reference_that_is_none_goes_nowhere(kind: Kind, reference: str) -> None:
    """It would be part of a path."""
    with pytest.raises(RefusedError, match="invalid_request"):
        request_of(call(kind, original_reference=reference))


def test_a_challenge_needs_an_address_to_come_back_to() -> None:
    """Without one it is declined as unsupported, for another PIC."""
    with pytest.raises(RefusedError, match="unsupported"):
        request_of(call(challenge=True))


def test_a_key_fits_into_a_header() -> None:
    """As it is when it can be; otherwise a hash, the same every time."""
    assert idempotency_key("acme|p-1|1") == "acme|p-1|1"
    for long in ("acme|päy|1", "a" * 256, "a\nb"):
        assert idempotency_key(long) == idempotency_key(long) != idempotency_key(long + "x")
        assert len(idempotency_key(long)) == 64 and idempotency_key(long).isalnum()


def test_a_search_cannot_be_broken_out_of() -> None:
    """Quotes and backslashes of an id are its own."""
    assert search_query("a'b\\c") == "metadata['attempt_id']:'a\\'b\\\\c'"


# -- what is answered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changed", "expected"),
    [
        ("payment", {}, DONE),
        ("payment", {"status": "processing"}, Answer("pending", "processing", "pi_1")),
        ("payment", {"status": "requires_capture"}, UNKNOWN),
        ("payment", {"status": "requires_confirmation"}, UNKNOWN),
        ("payment", {"status": "requires_payment_method"}, UNKNOWN),
        ("payment", {"status": "canceled"}, Answer("declined", "other", "pi_1")),
        ("payment", {"status": "paid"}, UNKNOWN),
        ("payment", {"amount": 1_233}, UNKNOWN),
        ("payment", {"currency": "usd"}, UNKNOWN),
        ("payment", {"metadata": {"attempt_id": "acme|p-2|1"}}, UNKNOWN),
        ("payment", {"metadata": {}}, UNKNOWN),
        ("payment", {"id": "pi 1"}, UNKNOWN),
        ("payment", {"object": "charge"}, UNKNOWN),
        ("payment", {"capture_method": "manual"}, UNKNOWN),
        (
            "payment",
            {"status": "requires_action", "next_action": REDIRECT},
            Answer("requires_action", "authentication_required", "pi_1", action_url="https://hooks.stripe.com/3ds?a=1"),
        ),
        (
            "payment",
            {"status": "requires_action", "next_action": {"type": "use_stripe_sdk"}},
            Answer("pending", "authentication_required", "pi_1"),
        ),
        (
            "payment",
            {"status": "requires_action", "next_action": {"redirect_to_url": {"url": "javascript:alert(1)"}}},
            Answer("pending", "authentication_required", "pi_1"),
        ),
        (
            "payment",
            {
                "status": "requires_payment_method",
                "last_payment_error": {"code": "payment_intent_authentication_failure"},
            },
            Answer("declined", "authentication_failed", "pi_1"),
        ),
        ("authorize", {"status": "requires_capture", "capture_method": "manual"}, DONE),
        ("authorize", {"status": "succeeded", "capture_method": "manual"}, DONE),
        ("authorize", {"status": "succeeded"}, UNKNOWN),
        ("capture", CAPTURED, DONE),
        ("capture", CAPTURED | {"amount_received": 1_000}, UNKNOWN),
        ("capture", CAPTURED | {"status": "requires_capture"}, UNKNOWN),
        ("capture", CAPTURED | {"id": "pi_2"}, UNKNOWN),
        ("capture", {}, UNKNOWN),
        ("void", {"status": "canceled"}, DONE),
        ("void", {"status": "requires_capture"}, UNKNOWN),
        ("void", {"status": "canceled", "id": "pi_2"}, UNKNOWN),
    ],
)
def test_what_a_payment_says(kind: Kind, changed: dict[str, Any], expected: Answer) -> None:
    """A success names the attempt, the amount and the currency; what is not plain is unknown."""
    assert answer(call(kind), 200, INTENT | changed) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Answer("succeeded", "", "re_1")),
        ({"status": "pending"}, Answer("pending", "processing", "re_1")),
        ({"status": "failed", "failure_reason": "lost_or_stolen_card"}, Answer("declined", "stolen_card", "re_1")),
        ({"status": "failed", "failure_reason": "unknown"}, Answer("declined", "other", "re_1")),
        ({"status": "refunded"}, UNKNOWN),
        ({"amount": 1}, UNKNOWN),
        ({"payment_intent": "pi_2"}, UNKNOWN),
        ({"metadata": None}, UNKNOWN),
        ({"object": "payment_intent"}, UNKNOWN),
    ],
)
def test_what_a_refund_says(changed: dict[str, Any], expected: Answer) -> None:
    """The same."""
    assert answer(call("refund"), 200, REFUND | changed) == expected


@pytest.mark.parametrize(
    ("status", "fields", "reason", "retry"),
    [
        (402, {"code": "card_declined", "decline_code": "insufficient_funds"}, "insufficient_funds", "never"),
        (402, {"code": "card_declined", "decline_code": "generic_decline"}, "do_not_honor", "elsewhere"),
        (402, {"code": "card_declined", "decline_code": "do_not_try_again"}, "do_not_honor", "never"),
        (402, {"code": "card_declined", "decline_code": "pickup_card"}, "stolen_card", "never"),
        (402, {"code": "card_declined", "decline_code": "issuer_not_available"}, "issuer_unavailable", "here"),
        (402, {"code": "card_declined", "decline_code": "of_next_year"}, "other", "never"),
        (402, {"code": "card_declined"}, "do_not_honor", "elsewhere"),
        (402, {"code": "incorrect_cvc"}, "invalid_account", "never"),
        (402, {"code": "processing_error"}, "try_again_later", "here"),
        (402, {}, "other", "never"),
        (400, {"type": "invalid_request_error"}, "invalid_request", "elsewhere"),
        (400, {"type": "invalid_request_error", "code": "amount_too_small"}, "invalid_amount", "never"),
        (400, {"type": "invalid_request_error", "param": "amount"}, "invalid_amount", "never"),
        (400, {"type": "invalid_request_error", "param": "currency"}, "currency_not_supported", "elsewhere"),
        (400, {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}, "not_permitted", "never"),
        (400, {"type": "idempotency_error"}, "duplicate", "never"),
        (401, {"type": "authentication_error"}, "not_permitted", "elsewhere"),
        (404, {"type": "invalid_request_error", "code": "resource_missing"}, "invalid_request", "elsewhere"),
    ],
)
def test_errors_become_declines(status: int, fields: dict[str, Any], reason: str, retry: str) -> None:
    """In the standard words, with what may be tried; the issuer's own word counts before Stripe's."""
    said = answer(call(), status, error(**fields, payment_intent={"id": "pi_9"}))
    assert (said.outcome, said.reason, said.retry) == ("declined", reason, retry)
    assert said.pic_reference in ("pi_9", "")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, error(type="invalid_request_error", code="idempotency_key_in_use")),
        (500, error(type="api_error")),
        (503, error(code="card_declined")),
        (402, error(type="api_error")),
        (402, b"<html>Payment required</html>"),
        (404, b""),
        (403, b'{"error": "denied by the proxy"}'),
        (301, INTENT),
        (201, INTENT),
        (200, b""),
        (200, [INTENT]),
        (200, {"data": INTENT}),
        (200, b"\xff\xfe"),
    ],
)
def test_everything_else_is_unknown(status: int, body: object) -> None:
    """A key in use, an error of the server, rubbish, the word of a proxy, a redirect."""
    assert answer(call(), status, body) == UNKNOWN


@pytest.mark.parametrize(
    ("said", "wait_s"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("-1", 0.0), ("nan", 0.0), ("9" * 30, 3_600.0)]
)
def test_too_many_requests_did_nothing(said: str, wait_s: float) -> None:
    """And how long to wait, within reason."""
    assert answer(call(), 429, b"", {"Retry-After": said}) == Answer("unsent", "try_again_later", retry_after_s=wait_s)


def test_only_stripes_own_word_is_never_got() -> None:
    """A 404 of a proxy is none."""
    missing = error(type="invalid_request_error", code="resource_missing")
    assert never_got(404, json.dumps(missing).encode())
    assert not never_got(404, b"not found")
    assert not never_got(404, b'{"error": {}}')
    assert not never_got(500, json.dumps(missing).encode())


def test_a_payment_shows_what_was_never_done_to_it() -> None:
    """Captured by another is not captured by this; what is held is not voided. Of another payment it says nothing."""
    held = msgspec.convert(INTENT | {"status": "requires_capture", "capture_method": "manual"}, Intent)
    by_this = msgspec.convert(INTENT | CAPTURED, Intent)
    assert [never_done(call("capture"), each) for each in (held, by_this)] == [True, False]
    canceled = msgspec.convert(INTENT | {"status": "canceled"}, Intent)
    assert [never_done(call("void"), each) for each in (held, canceled)] == [True, False]
    assert not never_done(call("capture", original_reference="pi_2"), held)


def test_the_table_has_stripes_codes() -> None:
    """Of its list of decline codes, each that is not there is ``other``."""
    listed = """authentication_required approve_with_id call_issuer card_not_supported card_velocity_exceeded
        currency_not_supported do_not_honor do_not_try_again duplicate_transaction expired_card fraudulent generic_decline
        incorrect_number incorrect_cvc incorrect_pin incorrect_zip insufficient_funds invalid_account invalid_amount invalid_cvc
        invalid_expiry_month invalid_expiry_year invalid_number invalid_pin issuer_not_available lost_card merchant_blacklist
        new_account_information_available no_action_taken offline_pin_required online_or_offline_pin_required pickup_card
        pin_try_exceeded processing_error reenter_transaction restricted_card revocation_of_all_authorizations
        revocation_of_authorization security_violation service_not_allowed stolen_card stop_payment_order
        transaction_not_allowed try_again_later withdrawal_count_limit_exceeded"""
    assert [code for code in listed.split() if code not in DECLINES] == []
    final = ("fraudulent", "lost_card", "stolen_card", "pickup_card", "restricted_card", "stop_payment_order")
    assert {DECLINES[code].retry for code in final} == {"never"}


# -- never by accident ----------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_WORDS = st.sampled_from(
    ["succeeded", "requires_capture", "canceled", "payment_intent", "refund", "pi_1", "re_1", "eur", "acme|p-1|1", ""]
)
_KINDS: list[Kind] = ["payment", "authorize", "capture", "void", "refund"]


@given(
    kind=st.sampled_from(_KINDS),
    status=st.integers(100, 599),
    body=st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()),
)
def test_rubbish_is_never_a_success(kind: Kind, status: int, body: bytes) -> None:
    """Whatever comes under whatever status."""
    assert decided(call(kind), status, {}, body).outcome not in ("succeeded", "requires_action")


@given(
    kind=st.sampled_from(_KINDS),
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 402, 409, 500]),
    changed=st.dictionaries(
        st.sampled_from([*INTENT, *REFUND]), _JSON | _WORDS | st.integers(1_230, 1_240), max_size=3
    ),
    dropped=st.sets(st.sampled_from([*INTENT, *REFUND]), max_size=1),
)
@example(kind="payment", status=200, changed={"amount": True}, dropped=set())
def test_an_answer_of_something_else_is_never_a_success(
    kind: Kind, status: int, changed: dict[str, Any], dropped: set[str]
) -> None:
    """A success has all that names the call: recomputed here from the body as plain JSON."""
    to = call(kind)
    right = REFUND if kind == "refund" else INTENT | (CAPTURED if kind == "capture" else {})
    right = right | ({"capture_method": "manual"} if kind == "authorize" else {})
    body = {name: value for name, value in (right | changed).items() if name not in dropped}
    if answer(to, status, body).outcome != "succeeded":
        return
    metadata = body.get("metadata") or {}
    attempt = metadata.get("capture_attempt_id" if kind == "capture" else "attempt_id")
    assert status == 200 and body["currency"] == "eur"
    assert body["object"] == ("refund" if kind == "refund" else "payment_intent")
    assert body["status"] in {"void": ("canceled",), "authorize": ("requires_capture", "succeeded")}.get(
        kind, ("succeeded",)
    )
    assert kind == "void" or attempt == "acme|p-1|1"
    if kind in ("payment", "authorize", "refund"):
        assert type(body["amount"]) in (int, float) and body["amount"] == 1_234
    if kind == "capture":
        assert body.get("amount_received") in (None, 1_234)
    if kind in ("capture", "void"):
        assert body["id"] == "pi_1"
    if kind == "refund":
        assert body["payment_intent"] == "pi_1"


def test_a_refund_is_read_as_one() -> None:
    """The struct and the example agree."""
    assert msgspec.convert(REFUND, Refund).attempt_id == "acme|p-1|1"


# -- settings -------------------------------------------------------------------------------------------------------


def options(**settings: str) -> PicOptions:
    return PicOptions(name="stripe-2", settings=settings)


def test_settings_that_are_wrong_are_named_and_not_shown() -> None:
    """A missing key, one that cannot be sent, an address that is not encrypted."""
    with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_API_KEY_FILE is missing"):
        make("stripe-2", options())
    for wrong in ("sk_live_1\nsk_live_2", "sk_lïve"):
        with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_API_KEY is no key") as failed:
            make("stripe-2", options(api_key=wrong))
        assert "sk_l" not in str(failed.value)
    for url in ("http://api.stripe.com", "ftp://127.0.0.1", "api.stripe.com"):
        with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_BASE_URL has to begin with https://"):
            make("stripe-2", options(api_key="sk_1", base_url=url))


def test_what_is_not_configured_is_not_offered() -> None:
    """Challenges need an address to come back to, notifications a secret. No secret is in a repr."""
    plain = make("stripe-2", options(api_key="sk_secret"))
    assert (plain.abilities.challenges, plain.abilities.notifications) == (False, "none")
    full = make("stripe-2", options(api_key="sk_secret", webhook_secret="whsec_1", return_url="https://shop.example"))
    assert (full.abilities.challenges, full.abilities.notifications) == (True, "signed")
    assert "secret" not in repr(plain) and "whsec" not in repr(full)
