"""How long a worker with a large table takes to come back: on its own disk, and from the changelog alone.

``python -m tests.benchmark.bench_recovery [--rows 1000000] [--json]`` on a Kafka that it starts itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import tempfile
import time
from pathlib import Path

import msgspec

from connectors.broker.local import LocalKafka
from pipeline.rig import Rig, peak_memory_mb
from tests.integration.live import TOKEN, a_load
from tests.integration.test_recovery import a_profile, key_of, shown, start, write_changelog


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<32} {value:,.1f}")


def measure(rows: int) -> dict[str, float]:
    """The figures, with their units in the names."""
    encode = msgspec.msgpack.encode
    folder = Path(tempfile.mkdtemp(prefix="ptr-recovery-"))
    try:
        with LocalKafka(folder / "kafka") as kafka, Rig(kafka.address, folder / "rig", PTR_WEB_TOKEN=TOKEN) as rig:
            rig.prepare(a_load(1).tenants())
            # What a start takes without any rows is not recovery.
            worker = rig.worker("payer", ("payer",))
            started = time.monotonic()
            rig.wait_ready()
            empty_s = time.monotonic() - started
            worker.kill(signal.SIGTERM)
            shutil.rmtree(worker.datadir)
            write_changelog(kafka.address, ((key_of(n), encode(a_profile(n))) for n in range(rows)))
            rebuild_s = start(rig, worker)
            assert shown(worker, rows - 1)["version"] == 3
            rebuild_mb = peak_memory_mb(worker.pid)
            worker.kill(signal.SIGTERM)
            restart_s = start(rig, worker)
            assert shown(worker, rows - 1)["version"] == 3
            worker.kill(signal.SIGKILL)
            killed_s = start(rig, worker)
            assert shown(worker, rows - 1)["version"] == 3
            return {
                "rows": rows,
                "start_without_rows_s": empty_s,
                "rebuild_from_changelog_s": rebuild_s,
                "rebuild_rows_per_s": rows / rebuild_s,
                "rebuild_less_start_rows_per_s": rows / max(rebuild_s - empty_s, 0.001),
                "rebuild_peak_memory_mb": rebuild_mb,
                "restart_on_own_disk_s": restart_s,
                "restart_after_kill_9_s": killed_s,
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
