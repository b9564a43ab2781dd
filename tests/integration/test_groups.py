"""A stage moves from one worker group to another, with its state and its position."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.broker.local import LocalKafka
from pipeline.bench.load import Load, post
from pipeline.rig import FRAUD, FRONT
from tests.integration.live import (
    a_load,
    completed,
    end,
    exact,
    posting,
    refused,
    settle,
    told_once,
    until,
    working,
)

pytestmark = pytest.mark.kafka


def test_stages_move_between_groups_and_keep_state_and_position(kafka: LocalKafka, tmp_path: Path) -> None:
    """All in one group, then in two, then in one again: nothing is repeated, no bucket begins anew, the PIC is called
    once for each payment."""
    load = a_load(900)
    with working(kafka.address, tmp_path, load, "whole") as (rig, [whole]):
        with posting(kafka.address, load, rate=150):
            until("150 outcomes", lambda: completed(rig) >= 150)
            assert end(whole)[0] == 0, whole.log_tail()
            rig.children.remove(whole)
            split = [rig.worker("front", FRONT), rig.worker("fraud", FRAUD)]
            rig.wait_ready()
            until("450 outcomes", lambda: completed(rig) >= 450)
            for worker in split:
                assert end(worker)[0] == 0, worker.log_tail()
                rig.children.remove(worker)
            rig.children.append(whole)
            whole.start()
            rig.wait_ready()
        settle(rig, load)
        told_once(rig, load)
        assert exact(rig, load) == []


def test_a_second_group_for_a_running_stage_is_refused(kafka: LocalKafka, tmp_path: Path) -> None:
    """Two groups on one stage would double its effects: the later one is told which group has it, and ends."""
    load = Load(50, now_ms=a_load(1).now_ms)
    with working(kafka.address, tmp_path, load, "whole") as (rig, _):
        said = refused(rig, rig.worker("second", FRAUD))
        assert "worker group ptr reads" in said and "PTR_GROUP=ptr" in said
        post(kafka.address, load)
        settle(rig, load)
        assert exact(rig, load) == []
