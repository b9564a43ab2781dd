"""A command as a user starts it: a process of its own whose children are found, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 180.0


def start_command(*words: str, folder: Path) -> subprocess.Popen[str]:
    """Start ``ptr`` in a session of its own, marked so that whatever it leaves behind is found."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *words],
        env=os.environ | {"TMPDIR": str(folder), "PTR_TEST_MARK": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A run in the background of a script ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left_running(folder: Path) -> list[str]:
    """Processes with this test's mark in their environment."""
    mark = f"PTR_TEST_MARK={folder}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(f"{process.name} {(process / 'cmdline').read_bytes()[:200]!r}")
            except OSError:
                continue
    return found


def finish(process: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
    """Its output, when it has ended."""
    try:
        return process.communicate(timeout=timeout_s)
    finally:
        process.kill()
        process.wait()
