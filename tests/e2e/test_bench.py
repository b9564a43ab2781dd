"""``ptr bench`` on a real Kafka: its parts run, and nothing is left of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.e2e.command import finish, left_running, start_command
from tests.integration.kafka import require_kafka

#: Plain Faust agents stall now and then, and do 60 PTR/s on a busy machine.
TIMEOUT_S = 600.0


def test_the_machine_and_the_control_are_measured(tmp_path: Path) -> None:
    """The same decisions as plain Faust agents: they go with the stages, whatever becomes of those."""
    require_kafka()
    process = start_command("bench", "--only", "machine,control", "--payments", "1000", "--json", folder=tmp_path)
    out, err = finish(process, TIMEOUT_S)
    assert process.returncode == 0, err
    figures = json.loads(out)
    assert figures["missing"] == []
    assert figures["plain_faust_ptr_per_s"] > 0
    assert set(figures["machine"]) == {"python_step_ns", "publish_ms", "broker_cpu_ms_per_publish"}
    assert all(figure > 0 for figure in figures["machine"].values())
    assert left_running(tmp_path) == []


def test_sigterm_leaves_nothing_running(tmp_path: Path) -> None:
    """In the middle of a part: the code for SIGTERM, and neither Kafka nor workers stay behind."""
    require_kafka()
    process = start_command("bench", "--only", "throughput", "--payments", "100000", folder=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if "posting" in line:
            process.send_signal(signal.SIGTERM)
            break
    out, err = finish(process)
    assert process.returncode == 143, (out, err)
    assert left_running(tmp_path) == []
