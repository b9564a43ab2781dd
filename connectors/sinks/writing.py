"""Batches on their way into an audit database, one at a time: where a server does the work, in a thread, so that the next batch
is made meanwhile (docs/decisions/0047-one-batch-ahead.md)."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from connectors.sinks.database import Batch, Database

#: How long one thread of a sink keeps the interpreter from another that wants it. Python's 5 ms are longer than what the
#: server is handed at a time takes it: it would wait for its rows while the next batch is made.
SWITCH_S: Final = 0.0005


@dataclass(slots=True)
class Written:
    """What became of a batch."""

    #: When writing it began, by the monotonic clock.
    began_s: float
    #: How many of its events were new; None: not known to be in the database.
    inserted: int | None = None
    #: Seconds that writing it took.
    took_s: float = 0.0
    #: Heads that were signed after it; None: that was put off.
    signed: int | None = None
    #: Why it was not written, or why nothing was signed after it.
    error: Exception | None = None


class Writer:
    """Writes batches to ``database``, each whole, in the order in which they are begun, and calls ``sign`` after each.

    Between :meth:`begin` and the end of :meth:`ended` the database is the writer's alone.
    """

    def __init__(self, database: Database, sign: Callable[[], int | None]) -> None:
        self._database, self._sign = database, sign
        self._thread = ThreadPoolExecutor(1, "ptr-writer") if database.has_server else None
        self._under_way: Future[Written] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a batch was begun whose end was not asked for."""
        return self._under_way is not None

    def begin(self, batch: Batch) -> None:
        """Write ``batch``; where there is no server it is written, or failed, when this returns."""
        assert self._under_way is None, "a batch is under way"
        if self._thread is not None:
            self._under_way = self._thread.submit(self._write, batch)
        else:
            self._under_way = Future()
            self._under_way.set_result(self._write(batch))

    def ended(self) -> Written:
        """Wait for the batch that was begun."""
        assert self._under_way is not None, "no batch is under way"
        under_way, self._under_way = self._under_way, None
        return under_way.result()

    def close(self) -> None:
        """Wait for what is under way; nobody is told what became of it."""
        if self._thread is not None:
            self._thread.shutdown()

    def _write(self, batch: Batch) -> Written:
        written = Written(time.monotonic())
        try:
            written.inserted = self._database.write(batch)
            written.took_s = time.monotonic() - written.began_s
            written.signed = self._sign()
        except Exception as error:  # raised where the batch is asked for
            written.error = error
        return written


def tune_process() -> None:
    """Settings of a process that does nothing but audit."""
    # Rows live for one batch and form no cycles: looking for garbage every 700 objects costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    sys.setswitchinterval(SWITCH_S)
