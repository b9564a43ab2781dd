"""``ptr demo`` as a user starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from connectors.broker.local import LocalKafka
from tests.e2e.command import finish, left_running, start_command
from tests.integration.live import empty, until

PAYMENTS = 600


def start(*options: str, folder: Path) -> subprocess.Popen[str]:
    """Start the demo."""
    return start_command("demo", *options, folder=folder)


def check(report: dict[str, object]) -> None:
    """What must be true of every demo of 600 posts."""
    assert report["exactly_one_outcome"] is True
    assert report["problems"] == []
    assert report["posts"] == PAYMENTS
    outcomes = report["outcomes"]
    assert isinstance(outcomes, list)
    reviews = report["reviews"]
    assert isinstance(reviews, dict)
    ended = sum(row["count"] for row in outcomes if row["outcome"])
    assert ended + reviews["waiting"] == report["payments"]
    assert not {row["outcome"] for row in outcomes} & {"referred", ""}
    assert sum(reviews.values()) >= 3, "nothing was referred"
    assert {row["tenant"] for row in outcomes if row["outcome"] == "paid"} >= {"aurora"}


def test_the_demo_ends_well_and_leaves_nothing_running(tmp_path: Path) -> None:
    """Exit 0, JSON alone on standard output, each payment one outcome, no process left."""
    started = time.monotonic()
    process = start("--payments", str(PAYMENTS), "--json", folder=tmp_path)
    out, err = finish(process)
    print(f"ptr demo --payments {PAYMENTS}: {time.monotonic() - started:.1f} s")
    assert process.returncode == 0, err
    check(json.loads(out))
    assert "Traceback" not in err
    assert left_running(tmp_path) == []


def test_the_demo_on_a_real_kafka(kafka: LocalKafka, tmp_path: Path) -> None:
    """``--broker`` gives the same there."""
    empty(kafka.address)
    process = start("--payments", str(PAYMENTS), "--json", "--broker", kafka.address, folder=tmp_path)
    out, err = finish(process)
    assert process.returncode == 0, err
    check(json.loads(out))
    assert left_running(tmp_path) == []


def until_mapped(process: subprocess.Popen[str], library: str) -> None:
    """Return when the process has begun to import a compiled module."""
    until(f"{library} is loaded", lambda: library in Path(f"/proc/{process.pid}/maps").read_text(), pause_s=0.002)


def until_at_work(process: subprocess.Popen[str], folder: Path) -> None:
    """Return when its broker, workers and sink run, and have for a while."""
    until("its processes run", lambda: len(left_running(folder)) >= 4)
    time.sleep(3)


@pytest.mark.parametrize("when", ["cimpl", "onnxruntime_pybind11_state", "at work"])
def test_ctrl_c_leaves_nothing_running(tmp_path: Path, when: str) -> None:
    """Interrupted while it starts, in the import of a compiled module, or in the middle: exit 130, a word, and no child."""
    process = start("--payments", "20000", folder=tmp_path)
    try:
        if when == "at work":
            until_at_work(process, tmp_path)
        else:
            until_mapped(process, when)
        process.send_signal(signal.SIGINT)
    finally:
        out, err = finish(process)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--paymets", "5"], 2, "--payments"),
        (["--payments", "5"], 2, "100"),
        (["--file", "no-such-file.jsonl"], 2, "no-such-file.jsonl"),
        (["--file", "bad.jsonl"], 1, "bad.jsonl"),
        (["--broker", "127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["--broker", "nonsense"], None, "nonsense"),
        (["--tenants", "bad.jsonl"], 1, "bad.jsonl"),
    ],
)
def test_a_mistake_is_answered_in_a_line(tmp_path: Path, options: list[str], code: int | None, named: str) -> None:
    """A wrong flag, a file that is none, a broker that is away: an exit code, what is wrong, no traceback, nothing left."""
    (tmp_path / "bad.jsonl").write_text("{this is no JSON\n")
    options = [str(tmp_path / word) if word.endswith(".jsonl") else word for word in options]
    process = start(*options, folder=tmp_path)
    out, err = finish(process)
    assert process.returncode not in (0, None) and (code is None or process.returncode == code), (out, err)
    assert named in out + err
    assert "Traceback" not in out + err
    assert left_running(tmp_path) == []
