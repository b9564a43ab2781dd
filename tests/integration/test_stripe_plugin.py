"""The Stripe plugin over HTTP: the conformance kit, and servers that do not do what they should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from connectors.pic.base import UNKNOWN, Answer, NotSentError
from connectors.pic.calls import OneByOne
from connectors.pic.conformance.kit import check, of
from connectors.pic.conformance.scenario import new_call, perform
from connectors.pic.conformance.stand import Behaviour, Effect
from connectors.pic.conformance.stripe_stand import StripeStand
from connectors.pic.options import PicOptions
from connectors.pic.registry import made_by
from connectors.pic.stripe import plugin as module
from connectors.pic.stripe.mapping import API_VERSION
from connectors.pic.stripe.plugin import Stripe, make
from tests.stripe_objects import CALL, INTENT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[Stripe]:
    """A plugin whose every request ``handler`` answers."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    plugin = Stripe(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}", "sk_test_1", timeout_s=2.0)  # type: ignore[union-attr]
    try:
        yield plugin
    finally:
        await plugin.close()
        await runner.cleanup()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


@pytest.mark.parametrize("searchable", [False, True])
def test_the_plugin_does_what_it_says(searchable: bool) -> None:
    """All of the kit but captures that follow each other; while search is behind, and when it is not."""
    results = asyncio.run(check(of("stripe", make), StripeStand(searchable=searchable)))
    assert {each.scenario.name: each.why for each in results if each.verdict == "fail"} == {}
    assert {each.scenario.name for each in results if each.verdict == "not_offered"} == {
        "a_currency_that_is_not_taken",
        "declined_closed_account",
        "captures_follow_each_other",
        "never_more_in_all_than_was_authorized",
    }


def test_every_request_has_the_version_and_every_post_its_key() -> None:
    """The API version is pinned, the key is the attempt's. A currency that Stripe counts otherwise arrives right."""

    async def test() -> None:
        async with StripeStand() as stand:
            pic = made_by(make, PicOptions(name="stripe", settings=stand.settings))
            call = new_call(pic, stand, currency="ISK", amount_minor=5)
            assert (await perform(pic, call)).outcome == "succeeded"
            assert list(stand.effects(call.attempt_id)) == [Effect("payment", 5, "ISK")]
            await pic.look_up([call])
            assert {each["Stripe-Version"] for each in stand.heard} == {API_VERSION}
            assert [each.get("Idempotency-Key") for each in stand.heard] == [call.attempt_id, None, None]
            assert [each.get("traceparent") for each in stand.heard] == [
                call.trace_headers()["traceparent"],
                None,
                None,
            ]
            await pic.close()

    run(test)


def test_a_wrong_key_is_declined_and_not_shown() -> None:
    """401 of Stripe: nothing was done, another PIC may be asked. The key is in no text."""

    async def test() -> None:
        async with StripeStand() as stand:
            settings = {**stand.settings, "api_key": "sk_live_secret"}
            pic = made_by(make, PicOptions(name="stripe", settings=settings))
            answer = await perform(pic, new_call(pic, stand, Behaviour.APPROVE))
            assert (answer.outcome, answer.retry) == ("declined", "elsewhere")
            assert "secret" not in repr(answer) and "secret" not in repr(vars(pic))
            await pic.close()

    run(test)


def test_a_body_without_end_is_not_read() -> None:
    """Though it begins like a success: after four megabytes it is unknown."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(64):
                await response.write(b" " * (1 << 20))
                sent += 1
        except OSError:
            pass
        return response

    async def test() -> None:
        async with served(endless) as plugin:
            with pytest.raises(module.AnswerTooLongError):
                await plugin.authorize(CALL)
            assert await OneByOne("stripe", plugin, timeout_s=2.0).perform([CALL]) == [UNKNOWN]
            assert sent < 64

    run(test)


def test_redirects_are_not_followed() -> None:
    """The key goes where it is meant to go."""
    paths = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        raise web.HTTPTemporaryRedirect("/another")

    async def test() -> None:
        async with served(elsewhere) as plugin:
            assert await plugin.authorize(CALL) == UNKNOWN
            assert paths == ["/v1/payment_intents"]

    run(test)


def test_a_compressed_answer_is_not_unpacked() -> None:
    """None was asked for, so it is rubbish, and no bomb."""

    asked = []

    async def packed(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Accept-Encoding"])
        response = web.json_response(INTENT)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async def test() -> None:
        async with served(packed) as plugin:
            assert await plugin.authorize(CALL) == UNKNOWN
        assert asked == ["identity"]

    run(test)


def test_no_connection_is_not_sent() -> None:
    """Nobody listens."""

    async def test() -> None:
        plugin = Stripe("http://127.0.0.1:9", "sk_test_1")
        with pytest.raises(NotSentError):
            await plugin.authorize(CALL)
        await plugin.close()

    run(test)


@pytest.mark.parametrize(
    ("search", "pages", "found"),
    [
        (404, 0, UNKNOWN),
        (500, 0, UNKNOWN),
        (200, 1, None),
        (200, 3, None),
        (200, module.PAGES_MAX + 1, UNKNOWN),
    ],
)
def test_none_is_said_only_when_all_was_read(search: int, pages: int, found: Answer | None) -> None:
    """A search that fails finds nothing out; nor does a list that is too long to be read."""
    read = []

    async def other_payments(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/search"):
            return web.json_response({"data": [], "has_more": False}, status=search)
        read.append(request.query.get("starting_after"))
        other = INTENT | {"id": f"pi_{len(read)}", "metadata": {"attempt_id": "acme|p-2|1"}}
        return web.json_response({"data": [other], "has_more": len(read) < pages})

    async def test() -> None:
        async with served(other_payments) as plugin:
            assert await plugin.look_up(CALL) == found
            assert read == [None, *(f"pi_{n}" for n in range(1, pages))][: min(pages, module.PAGES_MAX)]

    run(test)


def test_what_search_finds_is_asked_for_again() -> None:
    """For search may be behind: it says processing, the payment itself succeeded. An id that is none is asked for nowhere."""
    ids = ["pi_1", "pi_1/../../balance"]

    async def behind(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/search"):
            old = INTENT | {"id": ids[0], "status": "processing"}
            return web.json_response({"data": [old], "has_more": False})
        assert request.path == "/v1/payment_intents/pi_1"
        return web.json_response(INTENT)

    async def test() -> None:
        async with served(behind) as plugin:
            assert await plugin.look_up(CALL) == Answer("succeeded", "", "pi_1")
            ids.reverse()
            assert await OneByOne("stripe", plugin, timeout_s=2.0).look_up([CALL]) == [UNKNOWN]

    run(test)
