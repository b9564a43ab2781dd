"""Runs an app as a process: uvloop, logging, signals."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Final, NoReturn

import faust
import mode.loop

from pipeline.engine.app import PipelineApp

#: ``M_ARENA_MAX`` of glibc's mallopt(3), and how many: by default each thread of a client library keeps freed memory of its
#: own, 35 MB in all of a busy worker. Two cost no measurable time.
_M_ARENA_MAX: Final = -8
_ARENAS_MAX: Final = 2


def prepare_process() -> None:
    """Make uvloop the event loop of this process and keep its memory together; before any loop or thread exists."""
    mode.loop.use("uvloop")
    with suppress(OSError, AttributeError):  # Another C library has no such thing.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS_MAX)


def run_worker(app: PipelineApp) -> NoReturn:
    """Run until SIGTERM or SIGINT, then finish the cycle, commit and exit 0."""
    prepare_process()
    app.finalize()
    worker = faust.Worker(
        app,
        loglevel=app.settings.log_level,
        logfile=sys.stderr,
        redirect_stdouts=False,
        daemon=True,
        quiet=True,
    )
    worker.spinner = None  # Output may be a log file.
    worker.execute_from_commandline()
    sys.exit(0)
