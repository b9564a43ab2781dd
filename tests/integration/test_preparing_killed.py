"""The sink's process that makes rows is killed at any moment, also in the middle of an answer: the sink ends and says so,
nothing is half written, and started again it writes each row once, sealed with keys that are whole."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from connectors.privacy.envelope import is_sealed, parsed
from connectors.privacy.masters import MasterKeys
from connectors.privacy.reading import READ_COLUMNS, RowReader
from connectors.proofs.heads import HeadsFile, read_heads
from connectors.proofs.keys import Signer
from connectors.sinks.database import open_database
from connectors.sinks.preparing import Apart
from connectors.sinks.rows import Mapper
from connectors.sinks.signing import HeadSigner
from connectors.sinks.sink import AuditSink, SinkError
from connectors.sinks.verifying import verify_database
from pipeline import topics
from pipeline.bench.recount import read_all
from schemas.codec import Codec
from tests.integration.kafka import unique
from tests.integration.test_audit_sink import (
    DEADLINE_S,
    a_stream,
    broker,
    make_topics,
    post,
    ptr,
    server,
    topics_of,
    url,
    wait_until,
)
from tests.integration.test_preparing import PIPE_FULL_BYTES, waits_in_pipe

__all__ = ["broker", "server", "url"]

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.chaos]

CODEC = Codec()
MASTERS = MasterKeys([bytes(32)])
SIGNER = Signer("audit.example.com", bytes(32))
#: That come before each run, so that each has something to do.
PAYMENTS = 600
#: Of one batch: its answer is larger than the pipe, so that a process that answers can be killed with the answer in hand.
BATCH_ROWS = 1_500
ENDED = (
    r"the sink's process that makes rows ended with -9; what it said is above\. Nothing is lost: start the sink again"
)


#: Whether the process is to be killed now, of a sink that runs.
Moment = Callable[[AuditSink], bool]


def when_written(rng: random.Random) -> Moment:
    """After some batches, and up to 20 ms later: wherever it then is."""
    rows, later_s = BATCH_ROWS * rng.randrange(2), rng.random() * 0.02

    def is_now(sink: AuditSink) -> bool:
        if sink.status.events < rows:
            return False
        time.sleep(later_s)
        return True

    return is_now


def when_answering(rng: random.Random) -> Moment:
    """With a part of an answer in the pipe: any of it, some, or as much as the pipe holds."""
    some_bytes = rng.choice((0, 0, rng.randrange(PIPE_FULL_BYTES), PIPE_FULL_BYTES))
    return lambda sink: isinstance(sink._maker, Apart) and waits_in_pipe(sink._maker) > some_bytes


def when_starting(rng: random.Random) -> Moment:
    """Before the first row: it loads its modules, or opens the database."""
    later_s = rng.random() * 0.7

    def is_now(sink: AuditSink) -> bool:
        time.sleep(later_s)
        return True

    return is_now


def killed_run(url: str, address: str, names: list[str], heads: Path, moment: Moment | None) -> bool:
    """Run the sink to its end, and kill its process at ``moment``; whether it was killed, and the sink ended by that."""
    signer = HeadSigner(SIGNER, 0, HeadsFile(heads), None)
    sink = AuditSink(
        url, address, names, CODEC, once=True, apart=True, masters=MASTERS, batch_rows_max=BATCH_ROWS, signer=signer
    )
    over, killed = threading.Event(), threading.Event()

    def kill() -> None:
        while moment is not None and not over.is_set():
            maker = sink._maker
            try:
                if isinstance(maker, Apart) and moment(sink) and not over.is_set():
                    os.kill(maker.process_id, signal.SIGKILL)
                    killed.set()
                    return
            except (OSError, ValueError):  # It has just ended by itself, and its pipe is closed.
                return
            time.sleep(0)

    thread = threading.Thread(target=kill)
    thread.start()
    said = ""
    try:
        sink.run(threading.Event())
    except SinkError as error:
        said = str(error)
    finally:
        over.set()
        thread.join(DEADLINE_S)
        signer.close()
    assert not said or (killed.is_set() and re.match(ENDED, said)), said
    return said != ""


def check_whole(url: str, address: str, names: list[str], heads: Path) -> int:
    """What is stored are the records before the stored offsets, all of them and each once, under signed trees; and exactly the
    keys that they are sealed with, each of which opens. Gives how many rows there are."""
    came = {
        (topic, message.partition(), message.offset()): message.value()
        for topic in names
        for message in read_all(address, topic)
    }
    plain = Mapper(CODEC)
    with closing(open_database(url)) as database:
        stored = database.offsets()
        expected = {
            plain.columns(topic, partition, offset, 1, value)[:3]
            for (topic, partition, offset), value in came.items()
            if offset < stored.get((topic, partition), 0)
        }
        rows = database.query(f"SELECT event_id, {READ_COLUMNS.format('e')}, payment_id FROM payment_events e")
        assert len(rows) == len(expected)
        assert {(row[1], row[7], row[0]) for row in rows} == expected
        reader, used = RowReader(database, MASTERS, CODEC), set()
        for row in rows:
            read = reader.read(row[1:7])
            assert (read.value, read.erased, read.sealed) == (came[row[2], row[3], row[4]], [], [])
            if is_sealed(bytes(row[5])):
                used |= {key_id for seal in parsed(bytes(row[5])).seals for key_id in seal.key_ids}
        keys = database.query("SELECT key_id FROM privacy_keys WHERE kind <> 'index'")
        assert {int.from_bytes(key_id, "big") for key_id in used} == {key_id for (key_id,) in keys}
        kept = read_heads(heads, SIGNER.public) if heads.exists() and heads.stat().st_size else []
        checked = verify_database(database, kept)
        assert checked.findings == []
        assert checked.rows == len(rows)
        unsigned = checked.unsigned
    # Heads are signed after each batch: of at most the last one there are none, when the sink ended before that.
    assert unsigned <= BATCH_ROWS
    return len(rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sink_whose_process_is_killed_writes_each_row_once(url: str, broker: str, tmp_path: Path, seed: int) -> None:
    """Kills while it starts, anywhere, and in the middle of an answer, each followed by a look at all that is stored; then a
    run to the end."""
    rng, heads = random.Random(seed), tmp_path / "heads.txt"
    kinds = [when_starting, *[when_answering] * 4, when_written, when_written]
    rng.shuffle(kinds)
    stream = a_stream(unique() + "-", PAYMENTS * len(kinds))
    names, part = topics_of(stream), len(stream) // len(kinds)
    make_topics(broker, names)
    kills: Counter[str] = Counter()
    written, posted = [], 0
    for number, kind in enumerate(kinds):
        until = len(stream) if number == len(kinds) - 1 else part * (number + 1)
        post(broker, stream[posted:until])
        posted = until
        kills[kind.__name__] += killed_run(url, broker, names, heads, kind(rng))
        written.append(check_whole(url, broker, names, heads))
    print(f"seed {seed}: {dict(kills)} kills, rows after each: {written}")
    assert kills["when_answering"] >= 1, "no kill came in the middle of an answer"
    assert sum(kills.values()) >= 3
    assert not killed_run(url, broker, names, heads, None)
    assert check_whole(url, broker, names, heads) == 7 * PAYMENTS * len(kinds)
    assert written == sorted(written)


def test_the_command_ends_with_a_message_and_goes_on_when_started_again(tmp_path: Path, broker: str) -> None:
    """``ptr audit-sink`` with its process killed: code 1, the message, no traceback; the same command then reads to the end."""
    name = topics.SCREENED.name
    if name not in AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).topics:
        make_topics(broker, [topic.name for topic in topics.audited(["simulator"])])
    database = f"sqlite:///{tmp_path}/audit.db"
    stream = a_stream("", 20)
    process = ptr("--database", database, "--broker", broker)
    try:
        wait_until(lambda: _children(process.pid), "for the process that makes rows")
        wait_until(lambda: (tmp_path / "audit.db").exists())
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        post(broker, stream)
        _, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 1, err
    assert re.search(ENDED, err), err
    assert "Traceback" not in err
    again = ptr("--once", "--json", "--database", database, "--broker", broker)
    out, err = again.communicate(timeout=DEADLINE_S)
    assert again.returncode == 0, err
    assert json.loads(out)["events"] == 140


def _children(process_id: int) -> list[int]:
    """Processes that it started."""
    return [
        int(each)
        for thread in Path(f"/proc/{process_id}/task").iterdir()
        for each in (thread / "children").read_text().split()
    ]
