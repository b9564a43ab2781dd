"""``ptr chaos`` as CI runs it: three kills and one stop, and everything exact."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.broker.local import LocalKafka
from tests.integration.live import empty

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

TIMEOUT_S = 400.0


def test_kills_and_stops_change_nothing(kafka: LocalKafka, tmp_path: Path) -> None:
    """Outcomes, buckets, audit rows and PIC calls are those of the input. PTR_CHAOS_SEED repeats a run."""
    seed = os.environ.get("PTR_CHAOS_SEED") or str(random.SystemRandom().randrange(1_000_000))
    print(f"PTR_CHAOS_SEED={seed}")
    empty(kafka.address)
    command = [sys.executable, "-m", "pipeline.cli", "chaos", "--json", "--broker", kafka.address, "--seed", seed]
    command += ["--payments", "2500", "--kills", "3", "--stops", "1", "--rate", "150"]
    done = subprocess.run(
        command,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"PTR_CHAOS_SEED={seed}\n{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    assert report["mistakes"] == []
    assert (report["payments"], sum(report["kills"].values()), sum(report["stops"].values())) == (2500, 3, 1)
    assert str(report["seed"]) == seed
    print(done.stderr)
