"""Runs an app as a process: uvloop, logging, signals."""

from __future__ import annotations

import sys
from typing import NoReturn

import faust
import mode.loop

from pipeline.engine.app import PipelineApp


def use_uvloop() -> None:
    """Make uvloop the event loop of this process; before any loop exists."""
    mode.loop.use("uvloop")


def run_worker(app: PipelineApp) -> NoReturn:
    """Run until SIGTERM or SIGINT, then finish the cycle, commit and exit 0."""
    use_uvloop()
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
