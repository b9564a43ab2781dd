"""Runs models for a stage: in a thread, within a time limit; what fails is counted and left alone for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from connectors.models.onnx_model import OnnxModel
from connectors.pic.breaker import Breaker

log = logging.getLogger(__name__)

#: Why there is no score: it took too long, or the runtime failed.
Failure = Literal["slow", "failed"]
#: Failures in a row after which a model is left alone; each holds its partition up for the time limit.
FAILURES_MAX: Final = 3
LEFT_ALONE_S: Final = 10.0


class ScoreWatch(Protocol):
    """Who counts: metrics."""

    def scored(self, rows: int, seconds: float) -> None:
        """So many rows took so long."""

    def failed(self, why: str, rows: int) -> None:
        """So many rows got no score."""


class _Nobody:
    def scored(self, rows: int, seconds: float) -> None:
        pass

    def failed(self, why: str, rows: int) -> None:
        pass


class Scorer:
    """``await scorer.score(model, rows)`` gives scores, or why there are none; it raises nothing."""

    def __init__(
        self, timeout_s: float, watch: ScoreWatch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout_s = timeout_s
        self._watch = watch or _Nobody()
        self._clock = clock
        # One thread: the stage asks for one batch at a time. A call that goes on after its time holds the next one up, which
        # then fails too; told to end, the runtime ends it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fraud-model")
        self._breakers: dict[str, Breaker] = {}

    async def score(self, model: OnnxModel, rows: NDArray[np.float32]) -> NDArray[np.float32] | Failure:
        """One score for each of the model's ``rows``, or why there is none."""
        breaker = self._breaker(model.version)
        if not breaker.allows(self._clock()):
            self._watch.failed("slow", len(rows))
            return "slow"
        started_s = self._clock()
        options = onnxruntime.RunOptions()
        call = self._thread.submit(model.score, rows, options)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await asyncio.wait([asyncio.wrap_future(call)])
        # A process that was stopped meanwhile wakes to a time that is over and a score that is there.
        failure: Failure = "slow"
        if call.done():
            error = call.exception()
            if error is None:
                breaker.record(self._clock(), known=True)
                self._watch.scored(len(rows), self._clock() - started_s)
                return call.result()
            # The runtime's own, whatever it is; or a score that is no number.
            log.error("fraud model %s failed: %s", model.version, type(error).__name__)
            failure = "failed"
        # The runtime looks at this between two nodes of the graph; whatever it gives then is nobody's.
        options.terminate = True
        breaker.record(self._clock(), known=False)
        self._watch.failed(failure, len(rows))
        return failure

    def unusable(self, rows: int) -> None:
        """So many payments met a champion that cannot be loaded."""
        self._watch.failed("unusable", rows)

    def _breaker(self, version: str) -> Breaker:
        if version not in self._breakers:
            if len(self._breakers) >= 8:
                self._breakers.clear()
            self._breakers[version] = Breaker(FAILURES_MAX, LEFT_ALONE_S)
        return self._breakers[version]
