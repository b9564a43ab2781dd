"""Ctrl-C and SIGTERM for commands that start processes: heard once, never lost, not in the way of the tidying up."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: What a shell reports for a command that Ctrl-C ended (128 + SIGINT).
INTERRUPTED = 130
#: The same for SIGTERM.
TERMINATED = 143
_AGAIN_S = 0.05


def forget_interrupt() -> None:
    """Let the exit code that follows be the process's own, after a Ctrl-C that was answered.

    CPython 3.11 notes a KeyboardInterrupt that leaves an ``exec`` of text (as every import of a dataclass runs), keeps the
    note when it is caught further out, and with ``python -m`` ends the process by SIGINT whatever its exit code. The note
    is erased when text is executed again (``run_eval_code_obj`` in Python/pythonrun.c).
    """
    exec("")  # noqa: S102 - a constant


def ended_by(error: BaseException) -> int | None:
    """The exit code of a command that ``error`` ended, if a Ctrl-C or a SIGTERM is behind it; None otherwise.

    Compiled modules that are interrupted while they are imported raise an ImportError because of it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(seen, SystemExit) and seen.code == TERMINATED:
            return TERMINATED
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


@contextmanager
def one_interrupt() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt in the block, the first SIGTERM SystemExit; further ones are not heard, so
    that processes end in peace.

    Python drops an exception that is raised where nobody can catch it (a destructor, a hook around fork). When that
    happens to this one it is raised again a moment later.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)
        if number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        else:
            hook(unraisable)

    hook = sys.unraisablehook
    handlers = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
