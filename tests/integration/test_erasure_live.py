"""A person is erased while the pipeline runs: audit tables, the table of known parties, its changelog, the web view."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from connectors.privacy.masters import make_master
from connectors.sinks.database import DatabaseError, open_database
from pipeline import topics
from pipeline.bench.recount import read_all
from pipeline.rig import Rig, Worker
from pipeline.stages.parties import ERASURE_DELAY_MS
from schemas.codec import Codec
from schemas.identity import partition_of, payment_key
from tests.builders import a_request
from tests.integration.live import TIMEOUT_S, TOKEN, a_load, until, working

pytestmark = pytest.mark.kafka

CODEC = Codec()
TENANT = "bench0"
KEY = f"{TENANT}|customer-17".encode()
NAME = "Zebulon Quillfeather"


class Live:
    """A running pipeline whose audit tables are sealed."""

    def __init__(self, rig: Rig, worker: Worker, master: Path) -> None:
        self.rig, self.worker, self.master = rig, worker, master
        self.posted = 0

    def pay(self, party: str = "customer-17", name: str = NAME) -> None:
        """One more payment, to its outcome in the audit tables."""
        self.posted += 1
        request = a_request(
            tenant=TENANT,
            payment_id=f"pay-{self.posted}",
            debtor_id=party,
            debtor_name=name,
            requested_at_ms=int(time.time() * 1000),
        )
        producer = Producer({"bootstrap.servers": self.rig.broker, "linger.ms": 0})
        producer.produce(topics.REQUESTED.name, CODEC.encode(request), payment_key(TENANT, request.payment_id))
        assert producer.flush(30) == 0
        until("it has its outcome", lambda: self.outcomes() >= self.posted, pause_s=0.1)

    def outcomes(self) -> int:
        try:
            return int(self.query("SELECT COUNT(*) FROM payments WHERE outcome IS NOT NULL")[0][0])
        except DatabaseError:
            return 0

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(open_database(self.rig.database)) as database:
            return database.query(sql)

    def erase(self, *arguments: str, code: int = 0, broker: str = "") -> tuple[dict[str, Any], str]:
        """``ptr privacy erase`` as a user runs it: its JSON, and what it says."""
        command = [sys.executable, "-m", "pipeline.cli", "privacy", "erase", TENANT, "customer-17", "--yes", "--json"]
        done = subprocess.run(
            [*command, "--database", self.rig.database, "--broker", broker or self.rig.broker, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=os.environ | {"PTR_PRIVACY_MASTER_KEY_FILE": str(self.master)},
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout), done.stderr

    def view(self) -> int:
        """What the web says of the party."""
        return self.worker.get(f"/tables/parties/{TENANT}/customer-17", TOKEN)[0]

    def changelog(self) -> list[tuple[bytes | None, bytes | None]]:
        return [(message.key(), message.value()) for message in read_all(self.rig.broker, topics.TABLE_PARTIES.name)]


@pytest.fixture
def live(kafka: LocalKafka, tmp_path: Path) -> Any:
    master = tmp_path / "master.key"
    make_master(master)
    with working(kafka.address, tmp_path, a_load(1), "all", PTR_PRIVACY_MASTER_KEY_FILE=str(master)) as (
        rig,
        (worker,),
    ):
        yield Live(rig, worker, master)


def compact_at_once(broker: str) -> None:
    """The broker looks every 15 s; let it find something."""
    resource = ConfigResource(ResourceType.TOPIC, topics.TABLE_PARTIES.name)
    for name, value in (
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "1000"),
    ):
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
    client = admin.client(broker)  # Kept until the answer is there: without its client a future never ends.
    client.incremental_alter_configs([resource])[resource].result(30)


def test_an_erased_person_is_gone_everywhere_and_comes_back_by_paying(live: Live) -> None:
    """From the view at once, from the changelog with its compaction; told in the audit tables without a word of who it was."""
    live.pay()
    until("the party is known", lambda: live.view() == 200)
    until("the changelog has it", lambda: any(NAME.encode() in (value or b"") for _, value in live.changelog()))
    erased, _ = live.erase("--by", "dpo@example.com")
    assert (erased["keys"], erased["payments"], erased["known_parties"]) == (1, 1, "erased")
    assert live.view() == 404
    until("there is a tombstone", lambda: (KEY, None) in live.changelog())
    again, said = live.erase(code=1)
    assert (again["keys"], again["known_parties"]) == (0, "not_known")
    assert "nothing was erased: nothing is sealed for party customer-17" in said

    def told() -> list[tuple[Any, ...]]:
        return live.query(
            "SELECT outcome, event_id, CAST(payload AS TEXT), avro FROM payment_events WHERE stage = 'parties' ORDER BY 1"
        )

    until("both erasures are audited", lambda: len(told()) == 2)
    assert [outcome for outcome, *_ in told()] == ["erased", "not_known"]
    assert json.loads(told()[0][2])["by"] == "dpo@example.com"
    assert "customer-17" not in repr(told())
    assert NAME not in repr(told())

    compact_at_once(live.rig.broker)
    others = [f"other-{n}" for n in range(300) if _meets(f"other-{n}")]

    def cleaned() -> bool:
        live.pay(others.pop(), "Somebody Else")  # A segment is closed when something comes.
        return not any(NAME.encode() in (value or b"") for _, value in live.changelog())

    until("the name is compacted away", cleaned, pause_s=1.0)
    assert live.view() == 404

    time.sleep(ERASURE_DELAY_MS / 1000)
    live.pay()
    until("the party is known again", lambda: live.view() == 200)
    assert any(NAME.encode() in (value or b"") for _, value in live.changelog())


def _meets(party: str) -> bool:
    """Whether it is in the partition of the one that is erased."""
    return partition_of(f"{TENANT}|{party}".encode(), 4) == partition_of(KEY, 4)


def test_what_is_not_done_is_said_and_the_same_command_does_it(live: Live) -> None:
    """Without a broker, and without a worker: each with its own code; nobody takes it for complete."""
    live.pay()
    until("the party is known", lambda: live.view() == 200)
    half, said = live.erase(broker="127.0.0.1:1", code=1)
    assert (half["keys"], half["known_parties"]) == (1, "failed")
    assert "NOT complete: the table of known parties and its changelog still hold the name" in said
    assert live.view() == 200
    live.worker.kill()
    waiting, _ = live.erase(code=3)
    assert (waiting["keys"], waiting["known_parties"]) == (0, "waiting")
    live.worker.start()
    live.rig.wait_ready()
    until("what was asked for is done", lambda: live.view() == 404)
    time.sleep(ERASURE_DELAY_MS / 1000)
    live.pay()
    until("the party is known again", lambda: live.view() == 200)
    only, _ = live.erase("--only", "known")
    assert (only["keys"], only["known_parties"]) == (0, "erased")
    rest, _ = live.erase()
    assert (rest["keys"], rest["known_parties"]) == (1, "not_known")
