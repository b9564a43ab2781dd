"""The ISO 8583 plugin on a switch over TCP: conformance, reversals, late answers, connections, hostile input."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.pic.base import UNKNOWN, Answer, Call, NotSentError, UnsupportedError
from connectors.pic.conformance.iso8583_stand import Iso8583Stand
from connectors.pic.conformance.kit import check, installed
from connectors.pic.iso8583.codec import Message
from connectors.pic.iso8583.framing import frame
from connectors.pic.iso8583.link import utc_now
from connectors.pic.iso8583.plugin import OPEN_MAX, Iso8583
from connectors.pic.iso8583.requests import ECHO, SIGN_OFF, SIGN_ON, Original, management
from tests.integration.switch import ANSWER_S, Line, Switch, a_call, connected, told, until

REVERSED = Answer("declined", "issuer_unavailable", retry="here")


def run(test: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own, and never for long."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


# -- conformance --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agreed", [True, False])
def test_the_plugin_does_what_it_says(agreed: bool) -> None:
    """On a switch with which repeats and inquiries are agreed, and on one that has neither, where time-outs are reversed."""

    async def test() -> None:
        results = await check(installed("iso8583"), Iso8583Stand(agreed=agreed))
        assert [(result.scenario.name, result.why) for result in results if result.verdict == "fail"] == []
        assert sum(result.verdict == "pass" for result in results) >= (55 if agreed else 35)

    asyncio.run(test())


# -- time-outs and reversals ----------------------------------------------------------------------------------------


def test_what_is_not_answered_is_reversed() -> None:
    """0200, then 0400 that names it, then 0401 until it is answered: unknown before, declined then."""

    async def test() -> None:
        reversals = 0

        async def script(asked: Message, line: Line) -> None:
            nonlocal reversals
            if asked.mti[1] == "4":
                reversals += 1
                if reversals == 3:
                    line.send(told(asked))

        switch = Switch(script)
        async with connected(switch) as plugin:
            assert await plugin.authorize(a_call()) == REVERSED
            assert switch.types() == ["0200", "0400", "0401", "0401"]
            request, *undoing = switch.money
            for message in undoing:
                assert message.fields[90] == Original.of(request).data("12345")
                assert message.fields[37] == request.fields[37]
            assert len({message.fields[11] for message in undoing}) == 1

    run(test)


def test_a_late_approval_is_no_success() -> None:
    """It comes after the reversal went out: counted, and dropped; the reversal's answer counts."""

    async def test() -> None:
        requests: list[Message] = []

        async def script(asked: Message, line: Line) -> None:
            if asked.mti == "0200":
                requests.append(asked)
            else:
                line.send(told(requests[0]))
                await asyncio.sleep(0.02)
                line.send(told(asked))

        switch = Switch(script)
        async with connected(switch) as plugin:
            assert await plugin.authorize(a_call()) == REVERSED
            assert plugin.link.counts["unmatched"] == 1

    run(test)


def test_an_exchange_goes_on_when_nobody_waits() -> None:
    """The caller gave up: the reversal is sent all the same, and until it is answered a second call is unknown."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            if asked.mti == "0401":
                line.send(told(asked))

        switch = Switch(script)
        async with connected(switch) as plugin:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(ANSWER_S / 3):
                    await plugin.authorize(a_call())
            assert await plugin.authorize(a_call()) == UNKNOWN
            await until(lambda: "0401" in switch.types())
            assert switch.types() == ["0200", "0400", "0401"]

    run(test)


def test_a_lost_connection_is_reversed_on_another() -> None:
    """The request may have been read. 25 is not believed at once: the request may still be on its way."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            if asked.mti == "0200":
                line.reset()
            else:
                line.send(told(asked, "25"))

        switch = Switch(script)
        async with connected(switch, answer_s=60.0) as plugin:
            assert await plugin.authorize(a_call()) == REVERSED
            assert switch.types() == ["0200", "0400", "0401"]

    run(test)


@pytest.mark.parametrize("code", ["10", "08", "ZZ", "96"])
def test_an_answer_that_cannot_be_used_is_reversed(code: str) -> None:
    """Approved in part, on a condition, or a code that nobody knows."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            line.send(told(asked, code if asked.mti == "0200" else "00", f4=asked.fields[4]))

        switch = Switch(script)
        async with connected(switch) as plugin:
            assert await plugin.authorize(a_call()) == REVERSED
            assert switch.types() == ["0200", "0400"]

    run(test)


def test_a_duplicate_is_not_reversed() -> None:
    """94: what the switch has may be a payment that stands."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            line.send(told(asked, "94"))

        switch = Switch(script)
        async with connected(switch) as plugin:
            assert await plugin.authorize(a_call()) == UNKNOWN
            assert switch.types() == ["0200"]

    run(test)


def test_a_switch_that_can_be_asked_is_asked() -> None:
    """Nothing is reversed or repeated; but for what can be used in no case: an approval of a part."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            if asked.get(63) == "tok_part":
                line.send(told(asked, "10" if asked.mti == "0200" else "00"))

        switch = Switch(script)
        async with connected(switch, inquiries=True) as plugin:
            assert await plugin.authorize(a_call("p1")) == UNKNOWN
            paid = "0200.123456.1127140506.CN0M9H0824NP."
            assert await plugin.capture(a_call("p2", kind="capture", original_reference=paid)) == UNKNOWN
            assert switch.types() == ["0200", "0220"]
            assert await plugin.authorize(a_call("p3", token="tok_part")) == REVERSED
            assert switch.types()[2:] == ["0200", "0400"]

    run(test)


def test_what_is_being_reversed_is_not_looked_up() -> None:
    """The switch would say that it stands."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            if asked.mti == "0200":
                line.send(told(asked, "10"))

        switch = Switch(script)
        async with connected(switch, inquiries=True) as plugin:
            exchange = asyncio.create_task(plugin.authorize(a_call()))
            await until(lambda: "0400" in switch.types())
            assert await plugin.look_up(a_call()) == UNKNOWN
            exchange.cancel()
            assert "0600" not in switch.types()

    run(test)


def test_without_inquiries_there_is_no_look_up() -> None:
    """And the plugin says so."""

    async def test() -> None:
        async with connected(Switch()) as plugin:
            assert not plugin.abilities.looks_up and not plugin.abilities.deduplicates
            with pytest.raises(UnsupportedError):
                await plugin.look_up(a_call())

    run(test)


@pytest.mark.parametrize(("kind", "types"), [("capture", ["0220", "0221", "0221"]), ("void", ["0400", "0401", "0401"])])
def test_an_advice_and_a_void_are_repeated_and_never_reversed(kind: str, types: list[str]) -> None:
    """An answer to a repeat counts; without one it is not known."""

    async def test() -> None:
        answers = False

        async def script(asked: Message, line: Line) -> None:
            if answers and asked.mti[3] == "1":
                line.send(told(asked))

        switch = Switch(script)
        paid = "0100.123456.1127140506.CN0M9H0824NP."
        async with connected(switch) as plugin:
            ask = plugin.capture if kind == "capture" else plugin.void
            assert await ask(a_call("p1", kind=kind, original_reference=paid)) == UNKNOWN
            assert switch.types() == types
            answers = True
            answer = await ask(a_call("p2", kind=kind, original_reference=paid))
            assert (answer.outcome, answer.pic_reference) == ("succeeded", paid)

    run(test)


def test_a_switch_that_answers_no_reversal_is_asked_for_nothing_more() -> None:
    """Up to a limit of exchanges that are not over; then nothing is sent."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            pass

        switch = Switch(script)
        async with connected(switch, answer_s=0.01) as plugin:
            calls = [asyncio.create_task(plugin.authorize(a_call(f"p{n}"))) for n in range(OPEN_MAX)]
            await until(lambda: switch.types().count("0200") == OPEN_MAX, 20)
            with pytest.raises(NotSentError):
                await plugin.authorize(a_call("another"))
            assert switch.types().count("0200") == OPEN_MAX
            for call in calls:
                call.cancel()

    run(test)


def test_refused_calls_send_nothing() -> None:
    """What cannot be a message is declined here."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch) as plugin:
            refused = [a_call(amount_minor=0), a_call(token="tök"), a_call(currency="XXX")]
            answers = [await plugin.authorize(call) for call in refused]
            assert [answer.reason for answer in answers] == [
                "invalid_amount",
                "invalid_request",
                "currency_not_supported",
            ]
            assert switch.heard == []

    run(test)


# -- connections --------------------------------------------------------------------------------------------------


def test_a_connection_signs_on_first_and_off_in_the_end() -> None:
    """Before anything else, on each; 0800 with 001, and 002."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch, connections=3) as plugin:
            assert (await plugin.authorize(a_call())).outcome == "succeeded"
            await until(lambda: len(switch.lines) == 3)
            await until(lambda: sum(message.get(70) == SIGN_ON for message in switch.heard) == 3)
            assert switch.heard[0].get(70) == SIGN_ON
        assert sum(message.get(70) == SIGN_OFF for message in switch.heard) == 3

    run(test)


def test_a_switch_that_refuses_the_sign_on_is_sent_nothing() -> None:
    """Unsent, for as long as it does; then the connection is made again by itself."""

    async def test() -> None:
        code = "58"

        async def script(asked: Message, line: Line) -> None:
            line.send(told(asked, code if asked.mti == "0800" else "00"))

        switch = Switch(script, manage=False)
        async with connected(switch, connect_s=0.2) as plugin:
            with pytest.raises(NotSentError):
                await plugin.authorize(a_call())
            assert switch.money == []
            code = "00"
            await asyncio.sleep(0.5)
            assert (await plugin.authorize(a_call())).outcome == "succeeded"

    run(test)


def test_a_connection_is_made_again() -> None:
    """The switch went away and came back on the same port."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch, connect_s=0.3) as plugin:
            assert (await plugin.authorize(a_call("p1"))).outcome == "succeeded"
            await switch.stop()
            await until(lambda: plugin.link.counts["lost"] >= 1)
            with pytest.raises(NotSentError):
                await plugin.authorize(a_call("p2"))
            await switch.start()
            async with asyncio.timeout(5):
                while True:
                    try:
                        answer = await plugin.authorize(a_call("p2"))
                        break
                    except NotSentError:
                        continue
            assert answer.outcome == "succeeded"
            assert switch.types() == ["0200", "0200"]

    run(test)


def test_a_switch_that_hangs_up_is_called_less_and_less() -> None:
    """Signed on and closed at once, over and over: the waits double."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            line.send(told(asked))
            await line.writer.drain()
            line.writer.close()

        switch = Switch(script, manage=False)
        async with connected(switch) as plugin:
            asking = asyncio.create_task(plugin.authorize(a_call()))
            await asyncio.sleep(1.5)
            asking.cancel()
            # After half to all of 0.1, 0.2, 0.4, 0.8 s ...; at the first wait alone it would be 15 at least.
            assert 4 <= len(switch.lines) <= 8

    run(test)


def test_a_flood_of_rubbish_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred messages that cannot be read are counted, and told of seven times."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch) as plugin:
            await plugin.authorize(a_call())
            switch.lines[0].raw(frame(b"rubbish", "binary2") * 100)
            await until(lambda: plugin.link.counts["malformed"] == 100)
            assert sum("is not taken" in record.message for record in caplog.records) == 7
            assert "rubbish" not in caplog.text

    run(test)


def test_an_idle_connection_is_asked_and_a_dead_one_left() -> None:
    """0800 with 301 while nothing is said; when that is not answered, a new connection is made."""

    async def test() -> None:
        dead = False

        async def script(asked: Message, line: Line) -> None:
            if not (dead and asked.get(70) == ECHO):
                line.send(told(asked))

        switch = Switch(script, manage=False)
        async with connected(switch, echo_s=0.05) as plugin:
            assert (await plugin.authorize(a_call())).outcome == "succeeded"
            await until(lambda: sum(message.get(70) == ECHO for message in switch.heard) >= 3)
            assert plugin.link.counts["lost"] == 0
            dead = True
            await until(lambda: len(switch.lines) >= 2)
            assert plugin.link.counts["lost"] >= 1

    run(test)


def test_the_switchs_own_echo_is_answered() -> None:
    """0810 with 00; other requests of the switch are counted and dropped."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch) as plugin:
            await plugin.authorize(a_call())
            asked = management(ECHO, 7, utc_now())
            switch.lines[0].send(asked)
            await until(lambda: switch.heard[-1].mti == "0810")
            assert switch.heard[-1].fields == {**asked.fields, 39: "00"}
            switch.lines[0].send(Message("0420", switch.money[0].fields))
            await until(lambda: plugin.link.counts["requests"] == 1)
            assert (await plugin.authorize(a_call("p2"))).outcome == "succeeded"

    run(test)


@pytest.mark.parametrize("header", ["binary2", "ascii4"])
def test_many_answers_in_any_order_find_their_calls(header: str) -> None:
    """200 at once on three connections, each with its own amount, answered in another order, some twice."""

    async def test() -> None:
        waiting: list[tuple[Message, Line]] = []

        async def script(asked: Message, line: Line) -> None:
            waiting.append((asked, line))
            if len(waiting) == 200:
                random.Random(7).shuffle(waiting)
                for n, (each, of) in enumerate(waiting):
                    declined = int(each.fields[4]) % 3 == 0
                    for _ in range(1 + (n % 10 == 0)):
                        of.send(told(each, "51" if declined else "00"))

        switch = Switch(script, header=header)  # type: ignore[arg-type]
        async with connected(switch, connections=3, answer_s=10.0) as plugin:
            calls = [a_call(f"p{n}", amount_minor=1_000 + n) for n in range(200)]
            answers = await asyncio.gather(*map(plugin.authorize, calls))
            outcomes = ["declined" if call.amount_minor % 3 == 0 else "succeeded" for call in calls]
            assert [answer.outcome for answer in answers] == outcomes
            references = {answer.pic_reference for answer in answers if answer.pic_reference}
            assert len(references) == outcomes.count("succeeded")
            await until(lambda: plugin.link.counts["unmatched"] == 20)

    run(test)


# -- hostile input ------------------------------------------------------------------------------------------------

Hostile = Callable[[Line, Message], None]
HOSTILE: dict[str, Hostile] = {
    "no message": lambda line, asked: line.raw(frame(b"\xff\x00rubbish", "binary2")),
    "too long": lambda line, asked: line.raw(b"\xff\xff" + b"0" * 70_000),
    "cut short": lambda line, asked: line.raw(frame(line.switch.format.write(told(asked)), "binary2")[:-3]),
    "another protocol": lambda line, asked: line.raw(b"HTTP/1.1 200 OK\r\n\r\n"),
    "empty messages": lambda line, asked: line.raw(b"\x00\x00" * 5_000),
    "another trace number": lambda line, asked: line.send(told(asked, f11="999999")),
    "another time": lambda line, asked: line.send(told(asked, f7="0101000000")),
    "another terminal": lambda line, asked: line.send(told(asked, f41="TERM0009")),
    "another reference": lambda line, asked: line.send(told(asked, f37="AAAAAAAAAAAA")),
    "an authorization's answer": lambda line, asked: line.send(Message("0110", told(asked).fields)),
    "the request itself": lambda line, asked: line.send(asked),
    "no code": lambda line, asked: line.send(
        Message("0210", {at: v for at, v in told(asked).fields.items() if at != 39})
    ),
    "no amount": lambda line, asked: line.send(
        Message("0210", {at: v for at, v in told(asked).fields.items() if at != 4})
    ),
    "a wrong date": lambda line, asked: line.raw(
        frame(
            line.switch.format.write(told(asked)).replace(asked.fields[13].encode() + b"5999", b"99995999", 1),
            "binary2",
        )
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_answers_are_no_success(how: str) -> None:
    """The request is reversed, and the next one is served."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            if asked.get(63) == "tok_hostile" and asked.mti == "0200":
                HOSTILE[how](line, asked)
            else:
                line.send(told(asked))

        switch = Switch(script)
        async with connected(switch) as plugin:
            assert await plugin.authorize(a_call(token="tok_hostile")) == REVERSED
            assert (await plugin.authorize(a_call("p2"))).outcome == "succeeded"

    run(test)


def test_an_answer_that_comes_byte_by_byte_is_an_answer() -> None:
    """Slow, but in time."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            for byte in frame(line.switch.format.write(told(asked)), "binary2"):
                line.raw(bytes([byte]))
                await asyncio.sleep(0.001)

        async with connected(Switch(script), answer_s=5.0) as plugin:
            assert (await plugin.authorize(a_call())).outcome == "succeeded"

    run(test)


def test_a_switch_that_floods_and_does_not_read_fills_no_memory() -> None:
    """6,000 echo requests whose answers are not read: reading stops, and what is kept is less than half of the answers."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch) as plugin:
            await plugin.authorize(a_call())
            (line,), (connection,) = switch.lines, plugin.link._up
            for writer, option in ((line.writer, socket.SO_RCVBUF), (connection.writer, socket.SO_SNDBUF)):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4_096)
            line.writer.transport.pause_reading()  # type: ignore[attr-defined]
            line.raw(frame(switch.format.write(management(ECHO, 1, utc_now())), "binary2") * 6_000)
            kept, before = 1, 0
            async with asyncio.timeout(15):
                while kept != before:
                    await asyncio.sleep(0.5)
                    before, kept = kept, connection.writer.transport.get_write_buffer_size()
            assert 0 < kept < 150_000

    run(test)


KEY = b"made up for this test"


@pytest.mark.parametrize("switch_key", [b"", b"another key"])
def test_an_answer_without_its_code_is_not_believed(switch_key: bytes) -> None:
    """Neither one that is not signed nor one that is with another key; with the right one everything goes."""

    async def test() -> None:
        async def script(asked: Message, line: Line) -> None:
            line.switch.format.check_signature(asked, KEY)
            line.switch.mac_key = switch_key if asked.mti == "0200" and asked.get(63) == "tok_bad" else KEY
            line.send(told(asked))

        switch = Switch(script, manage=False)
        async with connected(switch, mac_key=KEY) as plugin:
            assert (await plugin.authorize(a_call("p1"))).outcome == "succeeded"
            assert await plugin.authorize(a_call("p2", token="tok_bad")) == REVERSED
            assert plugin.link.counts["unsigned"] == 1

    run(test)


CHANGES = st.lists(
    st.tuples(st.integers(2, 220), st.sampled_from(["replace", "insert", "cut"]), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)


@given(st.lists(st.one_of(CHANGES, st.binary(max_size=200)), min_size=1, max_size=8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_success_by_accident_over_the_wire(
    answers: list[list[tuple[int, str, bytes]] | bytes], inquiries: bool
) -> None:
    """Fuzzed answers, from anything at all to one that is nearly right: a success only where all that makes it one is whole."""

    async def test() -> None:
        outcome: dict[str, bytes] = {}

        async def script(asked: Message, line: Line) -> None:
            if asked.mti[1] != "2":
                line.send(told(asked))
                return
            how = answers[int(asked.fields[63])]
            right = line.switch.format.write(told(asked))
            payload = bytearray(right)
            if isinstance(how, bytes):
                payload = bytearray(how)
            else:
                for at, what, data in how:
                    if what == "replace":
                        payload[at : at + len(data)] = data
                    elif what == "insert":
                        payload[at:at] = data
                    else:
                        del payload[at:]
            outcome[asked.fields[37]] = bytes(payload)
            line.raw(frame(bytes(payload), "binary2"))

        switch = Switch(script)
        async with connected(switch, answer_s=0.03, reversal_s=0.02, inquiries=inquiries) as plugin:
            calls = [a_call(f"p{n}", token=str(n)) for n in range(len(answers))]
            found = await asyncio.gather(*map(plugin.authorize, calls))
            for answer, asked in zip(
                found, sorted(switch.money, key=lambda m: (m.mti, int(m.fields[63]))), strict=False
            ):
                if answer.outcome == "succeeded":
                    said = switch.format.read(outcome[asked.fields[37]])
                    assert said.mti[:3] == "021"
                    whole = told(asked).fields
                    assert all(said.fields[at] == whole[at] for at in (4, 7, 11, 37, 41, 49))
                    assert said.fields[39] in ("00", "11", "16")

    run(test)


def test_the_plugin_is_found_and_needs_its_settings() -> None:
    """By its entry point, as `iso8583` and as `iso8583-2`."""
    from connectors.pic.calls import OneByOne
    from connectors.pic.options import PicSettingError
    from connectors.pic.registry import make_pic

    given_settings = {"host": "127.0.0.1", "port": "1", "terminal": "T", "merchant": "M", "acquirer": "1"}
    for name in ("iso8583", "iso8583-2"):
        made = make_pic(name, settings=given_settings)
        assert isinstance(made, OneByOne) and isinstance(made.plugin, Iso8583)
    with pytest.raises(PicSettingError, match="PTR_PIC_ISO8583_2_HOST"):
        make_pic("iso8583-2", settings={})


def test_calls_that_cannot_be_sent_are_unsent() -> None:
    """Nothing listens there: quickly, and nothing is waited for afterwards."""

    async def test() -> None:
        switch = Switch()
        async with connected(switch, connect_s=0.1) as plugin:
            await switch.stop()
            call: Call = a_call()
            with pytest.raises(NotSentError):
                await plugin.authorize(call)
            await switch.start()
            await asyncio.sleep(0.6)
            assert switch.money == []
            assert (await plugin.authorize(call)).outcome == "succeeded"

    run(test)
