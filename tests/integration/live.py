"""A whole pipeline for one test on the session's Kafka: topics emptied before, counts and waits with bounds."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.broker import admin
from connectors.pic.ledger import SqliteLedger
from connectors.sinks.database import DatabaseError, open_database
from pipeline import topics
from pipeline.bench.load import Load, post
from pipeline.bench.recount import mistakes, read_all
from pipeline.rig import Rig, RigError, Worker
from schemas.codec import Codec
from schemas.records import PaymentAnswered, PaymentQueued

#: Upper bound of any wait: far above what is expected, so that it is reached only by what will never come.
TIMEOUT_S = 120.0
#: Generous: a stop that hangs is found, a slow machine is not punished.
STOP_TIMEOUT_S = 60.0
TOKEN = "token-of-the-tests"
#: Topics that hold one event per payment when nothing was repeated.
_ONCE = (
    topics.REQUESTED.name,
    topics.SCREENED.name,
    topics.LOCALIZED.name,
    topics.PROFILED.name,
    topics.SCORED.name,
    topics.COMPLETED.name,
)


def until(what: str, done: Callable[[], bool], timeout_s: float = TIMEOUT_S, pause_s: float = 0.05) -> float:
    """Wait until ``done``; gives the seconds that it took. Fails naming ``what`` when it never comes."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(pause_s)
    return time.monotonic() - started


def empty(address: str) -> None:
    """Remove the pipeline's topics and worker groups, so that a test counts only what is its own."""
    client = admin.client(address)

    # Also queues of other PICs: whatever begins as one of the pipeline's topics does.
    ours_begin = tuple({f"{topic.name.split('.')[0]}." for topic in topics.all_topics(["simulator"])})

    def ours() -> list[str]:
        return [name for name in client.list_topics(timeout=10).topics if name.startswith(ours_begin)]

    def groups() -> list[str]:
        listed = client.list_consumer_groups(request_timeout=10).result()
        return [group.group_id for group in listed.valid if group.group_id.startswith("ptr")]

    if found := ours():
        for future in client.delete_topics(found, request_timeout=30).values():
            future.result()
    until("topics of an earlier test are gone", lambda: not ours())
    for group in groups():
        until(f"group {group} of an earlier test is gone", lambda group=group: _deleted(client, group), pause_s=0.5)  # type: ignore[misc]


def _deleted(client: AdminClient, group: str) -> bool:
    try:
        client.delete_consumer_groups([group])[group].result()
    except KafkaException as error:
        return str(error.args[0].name()) == "GROUP_ID_NOT_FOUND"  # else members of it still count as alive
    return True


def a_load(payments: int, **named: object) -> Load:
    """A load whose newest payment is now."""
    return Load(payments, now_ms=int(time.time() * 1000), **named)  # type: ignore[arg-type]


@contextmanager
def pipeline(address: str, folder: Path, load: Load, **environment: str) -> Iterator[Rig]:
    """A prepared pipeline without workers; its PIC keeps its ledger in a file."""
    empty(address)
    with Rig(address, folder, PTR_SIMULATOR_LEDGER=str(folder / "pic.db"), PTR_WEB_TOKEN=TOKEN, **environment) as rig:
        rig.prepare(load.tenants())
        yield rig


@contextmanager
def working(
    address: str, folder: Path, load: Load, *names: str, **environment: str
) -> Iterator[tuple[Rig, list[Worker]]]:
    """A pipeline with an audit sink and a worker of each name, of all stages, ready."""
    with pipeline(address, folder, load, **environment) as rig:
        workers = [rig.worker(name) for name in names]
        rig.audit_sink()
        rig.wait_ready()
        yield rig, workers


@contextmanager
def posting(
    address: str, load: Load, rate: float, gates: dict[int, threading.Event] | None = None
) -> Iterator[threading.Thread]:
    """Posts ``load`` beside the test; has ended when the block is left.

    ``gates`` (how many are posted: an event) hold it back until the event is set, so that the load is there when the
    test needs it, however slow the machine is.
    """
    held = dict(gates or {})

    def tick(posted: int) -> None:
        for at in [at for at in held if posted >= at]:
            held.pop(at).wait(TIMEOUT_S)

    failed: list[BaseException] = []

    def run() -> None:
        try:
            post(address, load, rate=rate, tick=tick)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        for gate in (gates or {}).values():
            gate.set()
        thread.join(TIMEOUT_S)
    assert not thread.is_alive() and not failed, failed


def completed(rig: Rig) -> int:
    """Records in the outcome topic."""
    return rig.count(topics.COMPLETED.name)


def owners(rig: Rig) -> int:
    """Members of the worker group that own partitions."""
    client = admin.client(rig.access)  # Kept until the answer is there: without its client a future never ends.
    described = client.describe_consumer_groups(["ptr"], request_timeout=10)["ptr"].result()
    return sum(bool(member.assignment.topic_partitions) for member in described.members)


def end(worker: Worker, how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
    """Send a signal and wait: exit code and seconds."""
    assert worker.process is not None
    started = time.monotonic()
    worker.process.send_signal(how)
    code = worker.process.wait(STOP_TIMEOUT_S)
    return code, time.monotonic() - started


def refused(rig: Rig, worker: Worker) -> str:
    """Wait until a worker that must not run has ended by itself, with a code and no traceback: its last words."""
    rig.children.remove(worker)
    try:
        assert worker.process is not None
        code = worker.process.wait(TIMEOUT_S)
    finally:
        worker.kill()
    assert code not in (0, None)
    assert no_traceback(worker.log.read_text()), worker.log_tail(40)
    return worker.log_tail(3)


def audited(rig: Rig) -> int:
    """Payments with an outcome in the audit tables."""
    try:
        database = open_database(rig.database)
    except DatabaseError:
        return 0
    try:
        return int(database.query("SELECT count(*) FROM payments WHERE outcome <> ''")[0][0])
    except DatabaseError:
        return 0
    finally:
        database.close()


def settle(rig: Rig, load: Load, tend: Callable[[], None] | None = None) -> None:
    """Return when every payment has its outcome in the audit tables and nothing moves any more.

    ``tend`` stands in for a supervisor; without it a process that ended fails the test.
    """
    last, since, deadline = (-1, -1), time.monotonic(), time.monotonic() + TIMEOUT_S
    while True:
        (tend or rig.check)()
        now = (completed(rig), audited(rig))
        if now != last:
            last, since = now, time.monotonic()
        if now[1] >= load.payments and time.monotonic() - since > 1.5:
            return
        if time.monotonic() > deadline:
            raise RigError(
                f"{now[0]} completed and {now[1]} audited of {load.payments}:\n"
                + "\n".join(f"--- {child.name}\n{child.log_tail()}" for child in rig.children)
            )
        time.sleep(0.1)


def told_once(rig: Rig, load: Load) -> None:
    """Each event of each payment is in its topic once. Of what waited in the PIC's queue when its partition was given away the
    next owner cannot know that it was not called: it is asked for once more (docs/decisions/0039-asks.md), and called once."""
    assert {topic: rig.count(topic) for topic in _ONCE} == dict.fromkeys(_ONCE, load.payments)
    codec = Codec()
    for topic, record in ((topics.queue("simulator").name, PaymentQueued), (topics.ANSWERED.name, PaymentAnswered)):
        asks = Counter(
            (event.tenant, event.payment_id, event.ask)
            for event in (codec.decode(message.value(), record) for message in read_all(rig.broker, topic))
        )
        assert set(asks.values()) == {1}, topic
        assert sum(ask == 0 for _, _, ask in asks) == load.payments, topic
    assert set(calls(rig).values()) == {1}


def exact(rig: Rig, load: Load) -> list[str]:
    """What is not as the input alone says, after everything has ended."""
    rig.stop()
    return mistakes(rig.broker, rig.database, str(rig.folder / "pic.db"), load)


def supervisor(rig: Rig) -> Callable[[], None]:
    """Restarts what ended, a second later, as systemd or a container engine would."""
    ended: dict[str, float] = {}

    def tend() -> None:
        for child in rig.children:
            if child.running():
                ended.pop(child.name, None)
            elif time.monotonic() - ended.setdefault(child.name, time.monotonic()) > 1.0:
                child.start()

    return tend


def calls(rig: Rig) -> dict[str, int]:
    """How often the PIC was called, by attempt id."""
    ledger = SqliteLedger(rig.folder / "pic.db")
    try:
        return {attempt: entry.calls for attempt, entry in ledger.entries().items()}
    finally:
        ledger.close()


def no_traceback(log: str) -> bool:
    """Whether a log speaks to an operator and not to a programmer."""
    return "Traceback (most recent call last)" not in log
