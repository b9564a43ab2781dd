"""A paused PIC: nothing is called, what waits is given away and lost by nobody; the topic, and the commands of a user."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

from connectors.controls.book import ControlBook
from connectors.controls.topic import ControlReader, control_key
from pipeline.cli import main
from pipeline.topics import ANSWERED, CONTROLS, NOTIFIED, PARKED, queue, retries
from schemas.identity import payment_key
from schemas.records import PaymentAnswered, PaymentNotified, PaymentParked, PaymentQueued, PicControlled
from tests.stream.broker import following, put, wait_until
from tests.stream.events import KEY, a_fact
from tests.stream.shell import CODEC, Shell

PIC = "simulator"
QUEUE = queue(PIC).name
RETRIES = [topic.name for topic in retries(PIC)]
TOPICS = [QUEUE, *RETRIES, queue("other").name, CONTROLS.name, PARKED.name, NOTIFIED.name]


def a_word(paused: bool, pic: str = PIC) -> PicControlled:
    """Of mo."""
    return PicControlled(pic=pic, paused=paused, who="mo", why="a test", decided_at_ms=1)


# -- the stage --------------------------------------------------------------------------------------------------------


def called(shell: Shell) -> dict[str, int]:
    """How often the PIC was called, by payment."""
    return {attempt.split("|")[1]: entry.calls for attempt, entry in shell.ledger.entries().items()}


def an_intent(number: int) -> PaymentQueued:
    queued: PaymentQueued = a_fact(PaymentQueued, sender_offset=number, payment_id=f"p{number}")
    return queued


async def waits(step: Awaitable[None]) -> asyncio.Task[None]:
    """``step``, which has begun and does not end."""
    task = asyncio.ensure_future(step)
    await asyncio.sleep(0.3)
    assert not task.done()
    return task


def test_a_paused_pic_is_not_called_and_goes_on_when_it_is_resumed() -> None:
    """Another word ends the wait within a second; each is called once."""
    book = ControlBook()
    shell = Shell("plugin", controls=book)
    book.take(a_word(True))
    shell.give(QUEUE, an_intent(1), KEY)

    async def run() -> None:
        task = await waits(shell.world.step("plugin-simulator"))
        assert called(shell) == {}
        book.take(a_word(False))
        await asyncio.wait_for(task, 1.0)

    asyncio.run(run())
    assert called(shell) == {"p1": 1}


def test_what_waits_is_given_away_and_answered_by_the_next_owner() -> None:
    """A partition is taken away while a second cycle waits: the fence has the first one's intents only. The rest are not taken
    for repeats: the next owner finds out that they were never called, so that they come again."""
    book = ControlBook()
    shell = Shell("plugin", controls=book)
    shell.give(QUEUE, an_intent(1), KEY)

    async def run() -> None:
        # The first cycle's rows are not recorded yet when the second one waits.
        await shell.world.step("plugin-simulator", record=False)
        assert called(shell) == {"p1": 1}
        book.take(a_word(True))
        shell.give(QUEUE, an_intent(2), KEY)
        process = shell.world.processes["plugin-simulator"]
        task = await waits(process.step(1000, None, False, False))
        process.runner.draining = True
        await asyncio.wait_for(task, 1.0)
        await process.runner.step([], record=True)  # A drain records what was done.
        shell.world.kill("plugin-simulator")
        book.take(a_word(False))
        await shell.world.settle()

    asyncio.run(run())
    assert called(shell) == {"p1": 1}
    answers = [(event.payment_id, event.outcome) for _, event in shell.out(ANSWERED.name, PaymentAnswered)]
    assert answers == [("p1", "paid"), ("p2", "unsent")]


def test_a_batch_is_paused_between_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause need not wait for a thousand calls; what was called is answered, the rest is called once later."""
    monkeypatch.setattr("agents.plugin.SERVED_BATCH_MAX", 2)
    book = ControlBook()
    shell = Shell("plugin", controls=book)
    for number in range(5):
        shell.give(QUEUE, an_intent(number), KEY)

    async def run() -> None:
        perform = shell.pic.perform

        async def and_pause(calls: Any) -> Any:
            book.take(a_word(True))
            return await perform(calls)

        shell.pic.perform = and_pause  # type: ignore[method-assign]
        task = await waits(shell.world.step("plugin-simulator"))
        assert called(shell) == {"p0": 1, "p1": 1}
        shell.pic.perform = perform  # type: ignore[method-assign]
        book.take(a_word(False))
        await asyncio.wait_for(task, 1.0)

    asyncio.run(run())
    assert called(shell) == {f"p{number}": 1 for number in range(5)}


def test_look_ups_of_what_was_called_go_on_while_a_pic_is_paused() -> None:
    """A look-up does nothing: what became of a payment is still found out."""
    book = ControlBook()
    shell = Shell("plugin", controls=book)
    shell.give(QUEUE, an_intent(1), KEY)
    shell.run()
    book.take(a_word(True))
    asked = a_fact(PaymentQueued, payment_id="p1", ask=1, not_before_ms=int(time.time() * 1000))
    shell.give(RETRIES[0], asked, KEY)
    shell.run()
    assert len(shell.world.broker.all(ANSWERED.name)) == 2
    assert called(shell) == {"p1": 1}


# -- the topic --------------------------------------------------------------------------------------------------------


@pytest.fixture
def book(broker: str) -> Iterator[ControlBook]:
    """A book that follows the topic."""
    followed = ControlBook()
    with following(ControlReader(broker, CONTROLS.name, CODEC, followed)):
        yield followed


def run(broker: str, *arguments: str) -> Result:
    """`ptr queues ARGUMENTS`."""
    return CliRunner().invoke(main, ["queues", *arguments, "--broker", broker])


def test_a_user_pauses_looks_and_resumes(broker: str, book: ControlBook) -> None:
    """From the command to a running worker's answer and back, with who and why; depth and age are Kafka's."""
    put(broker, QUEUE, *[(KEY, CODEC.encode(an_intent(number))) for number in range(5)], partition=1)
    worker = Consumer({"bootstrap.servers": broker, "group.id": "ptr"})
    worker.commit(offsets=[TopicPartition(QUEUE, 1, 2)], asynchronous=False)
    worker.close()
    put(broker, RETRIES[3], (KEY, CODEC.encode(an_intent(4))))
    paused = run(broker, "pause", PIC, "--why", "they asked us", "--by", "mo")
    assert paused.exit_code == 0, paused.output
    wait_until(lambda: book.paused(PIC))
    found = json.loads(run(broker, "--json").stdout)
    other, mine = found["pics"]
    assert (other["pic"], other["depth"], other["oldest_age_s"], other["paused"]) == ("other", 0, None, None)
    assert (mine["pic"], mine["depth"], mine["in_flight"], mine["breaker"]) == (PIC, 3, None, None)
    assert 0 <= mine["oldest_age_s"] < 60
    assert [(each["delay_s"], each["depth"]) for each in mine["retries"]] == [
        (1, 0),
        (5, 0),
        (30, 0),
        (300, 1),
        (1800, 0),
        (10800, 0),
    ]
    assert (mine["paused"]["who"], mine["paused"]["why"]) == ("mo", "they asked us")
    shown = run(broker)
    assert "5m: 1" in shown.stdout and "they asked us" in " ".join(shown.stdout.split())
    assert "--worker" in shown.stderr

    resumed = run(broker, "resume", PIC, "--why", "they are back", "--by", "mo")
    assert resumed.exit_code == 0, resumed.output
    wait_until(lambda: not book.paused(PIC))
    again = run(broker, "resume", PIC)
    assert again.exit_code == 1 and "simulator is not paused" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pause", "simulatr", "--why", "x"), "did you mean simulator?"),
        (("pause", "zzz", "--why", "x"), "there are other, simulator"),
        (("pause", PIC, "--why", "card 4111 1111 1111 1111"), "looks like a card number"),
        (("pause", PIC), "Missing option '--why'"),
        (("resume", PIC, "--why", "x"), "simulator is not paused"),
    ],
)
def test_a_users_mistakes_are_told(broker: str, arguments: tuple[str, ...], told: str) -> None:
    """What is wrong and what to do, and nothing is written."""
    result = run(broker, *arguments)
    assert result.exit_code in (1, 2)
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert json.loads(run(broker, "--json").stdout)["pics"][1]["paused"] is None


def test_options_before_a_subcommand_are_not_lost_silently(broker: str) -> None:
    """They would name another broker than the one that is changed."""
    result = CliRunner().invoke(main, ["queues", "--broker", broker, "pause", PIC, "--why", "x"])
    assert result.exit_code == 2 and "stand after its name" in result.stderr


def test_what_is_no_word_on_a_pic_is_refused_and_a_removed_one_forgotten(broker: str, book: ControlBook) -> None:
    """Garbage, another PIC's key and a tombstone, between words that count."""
    word = CODEC.encode(a_word(True, "other"))
    misplaced = (b"other", CODEC.encode(a_word(True, "third")))
    put(broker, CONTROLS.name, (b"other", b"garbage"), misplaced, (control_key("other"), word), partition=0)
    wait_until(lambda: book.paused("other"))
    assert not book.paused("third")
    put(broker, CONTROLS.name, (control_key("other"), None), partition=0)
    wait_until(lambda: not book.paused("other"))


# -- what needs a person ----------------------------------------------------------------------------------------------


def a_parked(payment_id: str = "p1", operation_id: str = "", tenant: str = "t1") -> PaymentParked:
    return PaymentParked(
        event_id=f"{tenant}|{payment_id}|{operation_id}|1|unknowable",
        tenant=tenant,
        payment_id=payment_id,
        operation_id=operation_id,
        kind="refund" if operation_id else "payment",
        attempt=1,
        pic="bank",
        reason="unknowable",
        amount_minor=1250,
        currency="EUR",
        parked_at_ms=1,
    )


def test_a_person_decides_what_is_parked(broker: str) -> None:
    """What is parked is listed until somebody says what became of it; news of before it was parked are no answer."""
    early = PaymentNotified(
        event_id="e",
        source="pic",
        pic="bank",
        tenant="t1",
        payment_id="p1",
        attempt=1,
        outcome="paid",
        occurred_at_ms=1,
    )
    put(broker, NOTIFIED.name, (payment_key("t1", "p1"), CODEC.encode(early)))
    time.sleep(0.05)
    for parked in (a_parked(), a_parked("p1", "r1"), a_parked("p2", tenant="t2")):
        key = payment_key(parked.tenant, parked.payment_id)
        put(broker, PARKED.name, (key, CODEC.encode(parked)), (key, CODEC.encode(parked)))
    listed = json.loads(run(broker, "parked", "--tenant", "t1", "--json").stdout)
    assert [(each["payment"], each["operation"], each["answer"]) for each in listed] == [
        ("p1", "", None),
        ("p1", "r1", None),
    ]
    said = run(
        broker,
        "decide",
        "t1",
        "p1",
        "succeeded",
        "--operation",
        "r1",
        "--reference",
        "A-1",
        "--why",
        "seen",
        "--by",
        "mo",
    )
    assert said.exit_code == 0, said.output
    assert said.stdout == "t1: refund r1 of p1 succeeded, says mo\n"
    listed = json.loads(run(broker, "parked", "--tenant", "t1", "--json").stdout)
    assert [(each["payment"], each["operation"]) for each in listed] == [("p1", "")]
    everything = json.loads(run(broker, "parked", "--all", "--json").stdout)
    assert {each["operation"]: each["answer"] for each in everything if each["tenant"] == "t1"} == {
        "": None,
        "r1": {"outcome": "succeeded", "source": "person", "who": "mo", "why": "seen"},
    }
    again = run(broker, "decide", "t1", "p1", "failed", "--operation", "r1", "--why", "w")
    assert again.exit_code == 1 and "of that payment there is: the payment itself" in again.stderr
    assert "unknowable" in run(broker, "parked").stdout


def test_nothing_parked_is_said(broker: str) -> None:
    """An empty list is no table."""
    assert "Nothing waits for a person" in run(broker, "parked").stderr
    nobody = run(broker, "decide", "t1", "p9", "failed", "--why", "w")
    assert nobody.exit_code == 1 and "nothing of payment p9 of t1 is parked" in nobody.stderr
