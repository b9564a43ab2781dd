"""A fraud model is promoted while the pipeline runs on a real Kafka, outlives a kill, and gives way to none."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.rig import Rig
from schemas.identity import payment_key
from schemas.records import PaymentScored
from tests.builders import a_request
from tests.integration.live import a_load, completed, until, working
from tests.integration.test_fraud_live import CODEC, TENANT, ptr, put, scored
from tests.models import a_model

pytestmark = pytest.mark.kafka

DAY_MS = 24 * 60 * 60 * 1000
THREE_OCLOCK_MS = 3 * 60 * 60 * 1000


def test_a_promoted_model_scores_on_running_workers(kafka: LocalKafka, tmp_path: Path) -> None:
    """Published with its role by one command, in force within seconds; a challenger is recorded; killed, the worker has
    both again; without a champion the rules score alone."""
    file = tmp_path / "model.onnx"
    file.write_bytes(a_model(0).content)
    with working(kafka.address, tmp_path, a_load(1), "all") as (rig, workers):
        posted = 0

        def paid() -> PaymentScored:
            """What fraud says of a large payment of last night."""
            nonlocal posted
            posted += 1
            name = f"night{posted}"
            at_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - DAY_MS + THREE_OCLOCK_MS
            request = a_request(
                tenant=TENANT, payment_id=name, debtor_id=f"d{posted}", amount_minor=950, requested_at_ms=at_ms
            )
            put(rig, topics.REQUESTED.name, CODEC.encode(request), payment_key(TENANT, name))
            until("it is scored", lambda: name in scored(rig))
            return scored(rig)[name]

        assert paid().model == ""
        said = json.loads(ptr(rig, "fraud", "models", "promote", str(file), "--by", "mo", "--json"))
        champion = said["version"]
        took_s = until("the champion scores", lambda: paid().model == champion, pause_s=0.3)
        print(f"in force {took_s:.1f} s after 'ptr fraud models promote' returned")
        event = paid()
        assert event.model_score > 0.5
        assert event.score >= event.model_score
        file.write_bytes(a_model(1).content)
        challenger = json.loads(ptr(rig, "fraud", "models", "shadow", str(file), "--by", "mo", "--json"))["version"]
        until("the challenger is recorded", lambda: paid().challenger == challenger, pause_s=0.3)
        workers[0].kill(signal.SIGKILL)
        workers[0].start()
        rig.wait_ready()
        event = paid()
        assert (event.model, event.challenger) == (champion, challenger)
        ptr(rig, "fraud", "models", "promote", "--none", "--by", "mo")
        until("the rules score alone", lambda: paid().model == "", pause_s=0.3)
        roles = {each["version"]: each["role"] for each in json.loads(ptr(rig, "fraud", "models", "list", "--json"))}
        assert roles == {champion: "", challenger: "challenger"}
        until("all have their outcome", lambda: completed(rig) >= posted - _referred(rig))


def _referred(rig: Rig) -> int:
    return sum(event.outcome == "referred" for event in scored(rig).values())
