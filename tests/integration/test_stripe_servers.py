"""The Stripe plugin against two servers that others wrote: one that keeps state, one that knows the API's description."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from connectors.pic.base import UNKNOWN, Answer, Call, Kind, Notice, NotificationError
from connectors.pic.stripe.plugin import Stripe
from tests.integration import stripe_servers

KEY, SECRET = "sk_test_12345", "whsec_1"
GOOD, DECLINED, CHALLENGED = "4242424242424242", "4000000000000341", "4000002500003155"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def stateful() -> Iterator[str]:
    with stripe_servers.localstripe() as url:
        yield url


@pytest.fixture(scope="module")
def described() -> Iterator[str]:
    with stripe_servers.stripe_mock() as url:
        yield url


def run(test: Callable[[Stripe], Awaitable[None]], url: str, return_url: str = "") -> None:
    async def bounded() -> None:
        plugin = Stripe(url, KEY, webhook_secrets=[SECRET], return_url=return_url, timeout_s=10.0)
        try:
            async with asyncio.timeout(60):
                await test(plugin)
        finally:
            await plugin.close()

    asyncio.run(bounded())


def call(kind: Kind = "payment", token: str = "pm_card_visa", original: str = "", **named: Any) -> Call:
    fields: dict[str, Any] = {
        "attempt_id": f"acme|p-{next(_numbers)}|1",
        "tenant": "acme",
        "payment_id": "p",
        "amount_minor": 1_234,
        "currency": "USD",
        "token": token,
        "method": "card",
        "kind": kind,
        "original_reference": original,
    }
    return Call(**(fields | named))


async def post(url: str, fields: dict[str, str]) -> dict[str, Any]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        async with session.post(url, data=fields) as got:
            made: dict[str, Any] = await got.json(content_type=None) if got.content_type == "application/json" else {}
            return made


async def card(url: str, number: str) -> str:
    """A payment method of the server's own test cards."""
    fields = {"card[number]": number, "card[exp_month]": "12", "card[exp_year]": "2040", "card[cvc]": "123"}
    return str((await post(f"{url}/v1/payment_methods", {"type": "card"} | fields))["id"])


# -- localstripe ----------------------------------------------------------------------------------------------------


def test_a_payment_is_made_and_refunded(stateful: str) -> None:
    """In two parts, each found again by its own attempt id."""

    async def test(plugin: Stripe) -> None:
        paid = await plugin.authorize(call(token=await card(stateful, GOOD)))
        assert (paid.outcome, paid.pic_reference[:3]) == ("succeeded", "pi_")
        parts = [call("refund", original=paid.pic_reference, amount_minor=each) for each in (234, 1_000)]
        for part in parts:
            assert await plugin.look_up(part) is None
            given = await plugin.refund(part)
            assert (given.outcome, given.pic_reference[:3]) == ("succeeded", "re_")
            assert await plugin.look_up(part) == given

    run(test, stateful)


def test_an_authorization_is_captured_in_part(stateful: str) -> None:
    """Once: the second capture is declined. By its own attempt id it is found, another's is not."""

    async def test(plugin: Stripe) -> None:
        held = await plugin.authorize(call("authorize", token=await card(stateful, GOOD)))
        assert held.outcome == "succeeded"
        capture = call("capture", original=held.pic_reference, amount_minor=1_000)
        assert await plugin.look_up(capture) is None
        assert (await plugin.capture(capture)).outcome == "succeeded"
        found = await plugin.look_up(capture)
        assert found is not None and found.outcome == "succeeded"

    run(test, stateful)


def test_an_authorization_is_voided(stateful: str) -> None:
    """And cannot be voided again under another key; what was paid can't either."""

    async def test(plugin: Stripe) -> None:
        held = await plugin.authorize(call("authorize", token=await card(stateful, GOOD)))
        void = call("void", original=held.pic_reference)
        assert await plugin.look_up(void) is None
        assert (await plugin.void(void)).outcome == "succeeded"
        assert ((await plugin.look_up(void)) or UNKNOWN).outcome == "succeeded"
        paid = await plugin.authorize(call(token=await card(stateful, GOOD)))
        refused = await plugin.void(call("void", original=paid.pic_reference))
        assert (refused.outcome, refused.reason) == ("declined", "invalid_request")

    run(test, stateful)


def test_declines_and_challenges(stateful: str) -> None:
    """A card that is declined (402), one whose holder has to prove who they are, an unknown one (404), an amount of nothing."""

    async def test(plugin: Stripe) -> None:
        declined = await plugin.authorize(call(token=await card(stateful, DECLINED)))
        assert (declined.outcome, declined.reason) == ("declined", "do_not_honor")
        # It gives no address to send the payer to, so this is no challenge that anybody could pass.
        challenged = await plugin.authorize(call(token=await card(stateful, CHALLENGED)))
        assert (challenged.outcome, challenged.reason) == ("pending", "authentication_required")
        for wrong in (call(token="pm_nobody"), call(amount_minor=0), call("refund", original="pi_nobody")):
            answer = await (plugin.refund if wrong.kind == "refund" else plugin.authorize)(wrong)
            assert (answer.outcome, answer.reason) == ("declined", "invalid_request")

    run(test, stateful)


def test_a_look_up_that_the_server_does_not_know_is_unknown(stateful: str) -> None:
    """It has no search: its 404 is not the PIC's word that there is no such payment."""

    async def test(plugin: Stripe) -> None:
        paid = call(token=await card(stateful, GOOD))
        assert (await plugin.authorize(paid)).outcome == "succeeded"
        assert await plugin.look_up(paid) == UNKNOWN

    run(test, stateful)


def test_its_webhooks_are_believed(stateful: str) -> None:
    """Signed by it, they tell of the payment and of the decline; under another secret they are not believed."""

    async def test(plugin: Stripe) -> None:
        notices: list[Notice] = []

        async def receive(request: web.Request) -> web.Response:
            headers = {name.lower(): value for name, value in request.headers.items()}
            signed_at_s = float(headers["stripe-signature"][2:12])
            notices.append(Notice(headers=headers, body=await request.read(), received_at_s=signed_at_s + 1))
            return web.Response()

        app = web.Application()
        app.router.add_post("/", receive)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            await post(f"{stateful}/_config/webhooks/here", {"url": f"http://127.0.0.1:{port}/", "secret": SECRET})
            paid, declined = [call(token=await card(stateful, each)) for each in (GOOD, DECLINED)]
            answers = [await plugin.authorize(each) for each in (paid, declined)]
            told: dict[str, Answer] = {}
            async with asyncio.timeout(10):
                while not {paid.attempt_id, declined.attempt_id} <= told.keys():
                    await asyncio.sleep(0.05)
                    told = {one.attempt_id: one.answer for each in notices for one in plugin.parse_notification(each)}
        finally:
            await runner.cleanup()
        assert told[paid.attempt_id] == answers[0]
        assert (told[declined.attempt_id].outcome, told[declined.attempt_id].reason) == ("declined", "do_not_honor")
        stranger = Stripe(stateful, KEY, webhook_secrets=["whsec_2"])
        with pytest.raises(NotificationError, match="bad_signature"):
            stranger.parse_notification(notices[0])

    run(test, stateful)


# -- stripe-mock ----------------------------------------------------------------------------------------------------


def test_the_api_has_every_request(described: str) -> None:
    """None is refused by Stripe's own description; its fixed answers are about something else, and never a success."""

    async def test(plugin: Stripe) -> None:
        calls = [
            call(),
            call(challenge=True),
            call("authorize"),
            call(currency="JPY"),
            call(currency="KWD", amount_minor=10),
        ]
        calls += [call(kind, original="pi_123") for kind in ("capture", "void", "refund")]
        methods = {"capture": plugin.capture, "void": plugin.void, "refund": plugin.refund}
        for each in calls:
            answer = await methods.get(each.kind, plugin.authorize)(each)
            assert answer.outcome == "pending", (each.kind, answer)
            found = await plugin.look_up(each)
            assert found is None or found.outcome == "pending", (each.kind, found)

    run(test, described, "https://shop.example/paid")


def test_what_the_api_does_not_have_is_refused(described: str) -> None:
    """So the test above can fail: a request without an amount is the server's 400, and declined."""

    async def test(plugin: Stripe) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
            async with session.post(f"{described}/v1/payment_intents/pi_1/cancel", data={"amount": "1"}) as got:
                assert got.status == 400

    run(test, described)
