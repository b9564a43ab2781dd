"""Sanctions lists change while the pipeline runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from connectors.lists import version
from connectors.lists.book import EFFECTIVE_DELAY_MS
from pipeline import topics
from pipeline.bench.recount import read_all
from pipeline.rig import Rig, Worker
from pipeline.stages.watchlist import ListEntry
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentScreened
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, TOKEN, a_load, pipeline, until

pytestmark = pytest.mark.kafka

CODEC = Codec()
#: Who pays in these tests; on no list but the test's own.
PAYER = "Zebulon Quillfeather"
EMPTY = "-0- "
ROW = '{},"{}","individual","X",' + ",".join([EMPTY] * 8) + "\r\n"
CLEAN = ROW.format(1, "BRAMBLE, Tobias") + "".join(ROW.format(n, f"SOMEBODY {n}, Else") for n in range(2, 12))
LISTING = CLEAN + ROW.format(12, "QUILLFEATHER, Zebulon")
END = "\x1a"


@dataclass
class Live:
    """A running pipeline with one worker."""

    rig: Rig
    folder: Path
    worker: Worker
    posted: int = 0
    names: list[str] = field(default_factory=list)

    def pay(self) -> PaymentScreened:
        """Post a payment by PAYER and wait until it is screened."""
        self.posted += 1
        name = f"pay-{self.posted}"
        request = a_request(tenant="bench0", payment_id=name, requested_at_ms=int(time.time() * 1000))
        request = msgspec.structs.replace(request, debtor=msgspec.structs.replace(request.debtor, name=PAYER))
        producer = Producer({"bootstrap.servers": self.rig.broker, "linger.ms": 0})
        producer.produce(topics.REQUESTED.name, CODEC.encode(request), payment_key("bench0", name))
        assert producer.flush(30) == 0
        until(f"{name} is screened", lambda: len(self.screened()) >= self.posted, pause_s=0.02)
        return next(event for event in self.screened() if event.payment_id == name)

    def screened(self) -> list[PaymentScreened]:
        """Every event of screening, oldest first: partitions are read in any order."""
        decode = CODEC.decoder(PaymentScreened)
        messages = sorted(read_all(self.rig.broker, topics.SCREENED.name), key=lambda message: message.timestamp()[1])
        return [decode(message.value()) for message in messages]

    def ptr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``ptr lists ...`` as a user runs it."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "lists", *arguments, "--broker", self.rig.broker],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=dict(os.environ),
        )

    def download(self, sdn: str) -> Path:
        """A folder as OFAC publishes it, with this ``sdn.csv``."""
        folder = self.folder / "ofac"
        folder.mkdir(exist_ok=True)
        (folder / "sdn.csv").write_text(sdn, newline="")
        (folder / "alt.csv").write_text(f'1,1,"aka","BRAMBLE, Toby",{EMPTY}\r\n{END}', newline="")
        (folder / "add.csv").write_text(f'1,1,{EMPTY},{EMPTY},"Cuba",{EMPTY}\r\n{END}', newline="")
        return folder

    def take(self, sdn: str) -> str:
        """Import, and the version."""
        done = self.ptr("import", "ofac", str(self.download(sdn)), "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["change"] == "published"
        return str(report["version"])

    def metric(self, name: str) -> list[str]:
        """Lines of the worker's metrics page."""
        status, body = self.worker.get("/metrics", TOKEN)
        assert status == 200
        return [line for line in body.decode().splitlines() if line.startswith(name)]


@pytest.fixture
def live(kafka: LocalKafka, tmp_path: Path) -> Iterator[Live]:
    """A pipeline without lists."""
    with pipeline(kafka.address, tmp_path, a_load(1)) as rig:
        worker = rig.worker("all")
        rig.wait_ready()
        yield Live(rig, tmp_path, worker)


def test_an_import_decides_soon_on_a_running_worker(live: Live) -> None:
    """The sample, then the first list at once, then a list that names the payer after ten seconds, without a restart; by
    the time of receipt every payment is decided by one version, which its event names, and nothing is in between."""
    before = live.pay()
    assert (before.outcome, before.list_version) == ("clear", "sample")
    assert [line for line in live.metric("ptr_list_info") if 'list="sample"' in line]
    clean = live.take(CLEAN + END)
    until("the first list is in force", lambda: live.pay().list_version == f"ofac:{clean}", pause_s=0.1)
    until("its head is that old", lambda: live.metric("ptr_list_entries") != [], pause_s=0.1)
    listing = live.take(LISTING + END)
    returned_s = time.monotonic()
    until("the second list is in force", lambda: live.pay().outcome == "blocked", pause_s=0.2)
    print(f"in force {time.monotonic() - returned_s:.1f} s after 'ptr lists import' returned")
    events = live.screened()
    assert {(event.list_version, event.outcome) for event in events} == {
        ("sample", "clear"),
        (f"ofac:{clean}", "clear"),
        (f"ofac:{listing}", "blocked"),
    }
    by_version = {
        each: [event.received_at_ms for event in events if event.list_version == f"ofac:{each}"]
        for each in (clean, listing)
    }
    assert max(by_version[clean]) < min(by_version[listing])
    (written_ms,) = [
        message.timestamp()[1]
        for message in read_all(live.rig.broker, topics.LISTS.name)
        if message.key() == version.head_key("ofac", listing)
    ]
    assert max(by_version[clean]) < written_ms + EFFECTIVE_DELAY_MS <= min(by_version[listing])
    evidence = events[-1].evidence
    assert evidence is not None
    assert (evidence.list, evidence.entry_id, evidence.party) == ("ofac", "12", "debtor")
    assert live.metric("ptr_list_info") == [f'ptr_list_info{{list="ofac",version="{listing}"}} 1.0']
    assert live.metric("ptr_list_entries") == ['ptr_list_entries{list="ofac"} 12.0']
    assert live.metric("ptr_list_stale") == ['ptr_list_stale{list="ofac"} 0.0']
    assert 0 <= float(live.metric("ptr_list_age_seconds")[0].split()[1]) < TIMEOUT_S


def test_a_list_that_is_retired_screens_nobody(live: Live) -> None:
    """The last one only by force, loudly; who was blocked is clear then, the state is told, and an import ends it."""
    listing = live.take(LISTING + END)
    until("the list is in force", lambda: live.pay().outcome == "blocked", pause_s=0.1)
    refused = live.ptr("retire", "ofac")
    assert refused.returncode == 1
    assert "the last list" in refused.stderr
    assert live.ptr("retire", "un").stderr == "Error: un is not in use; in use are ofac\n"
    done = live.ptr("retire", "ofac", "--force")
    assert done.returncode == 0
    assert f"ofac: OUT OF USE, 12 entries of version {listing}" in done.stderr
    until("nobody is screened against it", lambda: live.pay().outcome == "clear", pause_s=0.2)
    listed = live.ptr("list", "--json")
    assert listed.returncode == 1
    assert [(each["retired"], each["stale"]) for each in json.loads(listed.stdout)] == [(True, False)]
    assert "screened against nobody" in listed.stderr
    assert live.metric("ptr_list_entries") == ['ptr_list_entries{list="ofac"} 0.0']
    assert live.metric("ptr_list_stale{") == []
    again = live.take(LISTING + END)
    assert again == listing
    until("the list is in force again", lambda: live.pay().outcome == "blocked", pause_s=0.2)


def test_a_list_that_is_cut_off_leaves_the_old_one_in_force(live: Live) -> None:
    """The user is told what is wrong, where, and what stays; decisions stay."""
    listing = live.take(LISTING + END)
    until("the list is in force", lambda: live.pay().outcome == "blocked", pause_s=0.1)

    cut = live.ptr("import", "ofac", str(live.download(LISTING)))
    assert cut.returncode == 1
    assert "sdn.csv:12: the list is cut off" in cut.stderr
    assert "REFUSED, nothing was imported" in cut.stderr and f"version {listing}" in cut.stderr
    assert "stays in force" in cut.stderr and "QUILLFEATHER" not in cut.stderr
    lost = live.ptr("import", "ofac", str(live.download(ROW.format(12, "QUILLFEATHER, Zebulon") + END)))
    assert lost.returncode == 1, "an alias of an entity that is gone"
    assert "stays in force" in lost.stderr
    time.sleep(EFFECTIVE_DELAY_MS / 1000)
    after = live.pay()
    assert (after.outcome, after.list_version) == ("blocked", f"ofac:{listing}")


def test_an_import_that_is_killed_is_not_taken_up(live: Live) -> None:
    """Killed before its head; parts without a head and a head without parts, by somebody else: the list in force stays,
    by decisions and by what users are told; the next good import works, also for a worker that starts then."""
    listing = live.take(LISTING + END)
    until("the list is in force", lambda: live.pay().outcome == "blocked", pause_s=0.1)
    killed = live.folder / "killed.py"
    killed.write_text(KILLED)
    process = subprocess.run(
        [sys.executable, str(killed), live.rig.broker],
        check=False,
        timeout=TIMEOUT_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == -signal.SIGKILL
    # Whoever writes without a transaction leaves parts that can be seen; and heads of what is not there.
    other = version.pack("ofac", [ListEntry("ofac", "7", "person", ("A",))], source_at_ms=1, imported_at_ms=1)
    lonely = version.pack("ofac", [ListEntry("ofac", "8", "person", ("B",))], source_at_ms=1, imported_at_ms=1)
    producer = Producer({"bootstrap.servers": live.rig.broker})
    for part in other.parts():
        producer.produce(topics.LISTS.name, CODEC.encode(part), version.part_key("ofac", part.version, part.part))
    producer.produce(topics.LISTS.name, CODEC.encode(lonely.head), version.head_key("ofac", lonely.head.version))
    assert producer.flush(30) == 0
    refused = ['ptr_lists_refused_total{list="ofac"} 1.0']
    until("the head without parts is refused", lambda: live.metric("ptr_lists_refused_total") == refused)
    time.sleep(EFFECTIVE_DELAY_MS / 1000)
    after = live.pay()
    assert (after.outcome, after.list_version) == ("blocked", f"ofac:{listing}")
    listed = live.ptr("list", "--json")
    assert [each["version"] for each in json.loads(listed.stdout)] == [listing], listed.stderr

    clean = live.take(CLEAN + END)
    until("the next list is in force", lambda: live.pay().outcome == "clear", pause_s=0.2)
    assert live.screened()[-1].list_version == f"ofac:{clean}"
    shown = live.ptr("diff", "ofac:before", "ofac", "--json")
    assert json.loads(shown.stdout)["counts"] == {"added": 0, "removed": 1, "changed": 0}
    # A worker that starts now reads the same.
    live.worker.kill(signal.SIGTERM)
    live.worker.start()
    live.rig.wait_ready()
    assert live.pay().list_version == f"ofac:{clean}"


#: An import that is killed when the broker has all parts and before the head is written.
KILLED = """
import os, signal, sys
from connectors.broker import transaction
from connectors.lists import publish, version
from pipeline.stages.watchlist import ListEntry
from schemas.codec import Codec

def die(producer, timeout_s):
    assert producer.flush(30) == 0
    os.kill(os.getpid(), signal.SIGKILL)

transaction._flush = die
entries = [ListEntry("ofac", str(number), "person", (f"Nobody {number}",)) for number in range(1, 1000)]
publish.publish(sys.argv[1], Codec(), version.pack("ofac", entries, source_at_ms=1, imported_at_ms=1))
"""
