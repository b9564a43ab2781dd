"""Makes spans of payments beside the audit sink: of those that the rule chooses, from the tables, a little after their outcome.

The sink tells of each batch that it has written. What follows from that is done in a thread of its own, over a connection of
its own that only reads: a payment that is not sampled costs the sink one look, and one that is costs no stage anything. What
waits is bounded; what finds no room, and what no collector took, is counted and lost, for the events stay where they are and
``ptr trace`` draws them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Final, Protocol

import msgspec

from connectors.sinks.database import Batch, Database, DatabaseError, open_database
from connectors.sinks.journey import OPERATION, PAYMENT, journey
from connectors.sinks.rows import COMPLETED, PARKED, REVIEWS, UPDATED, Columns
from connectors.sinks.story import story
from connectors.tracing.sampling import Sampling, Why
from connectors.tracing.spans import Span, is_whole, spans_of
from schemas.trace_context import span_id, trace_id_of

#: Payments that wait to be looked up (about 300 bytes each).
WAITING_MAX: Final = 10_000
#: Payments whose review opened, to be known when they end (about 200 bytes each), the latest.
REFERRED_MAX: Final = 100_000
#: Slow payments and those of the share, a second: in an overload every payment is slow, and a look-up takes a millisecond.
#: Errors and what was referred are not held back.
REMARKABLE_PER_S_MAX: Final = 20
#: The rest of a payment's events is read by the sink within seconds of its outcome, but in a backlog: then it is waited for,
#: twice as long each time.
SETTLE_S: Final = 2.0
LOOKS_MAX: Final = 8
#: Spans of one request: a hundred bytes of ids and a few attributes each.
SPANS_MAX: Final = 512
LINKS_MAX: Final = 32
#: An incomplete request is sent after this time.
PAUSE_S: Final = 0.5
#: How long the end may take.
CLOSE_S: Final = 10.0
#: The same trouble is said again after this time.
SAY_AGAIN_S: Final = 60.0

_BESIDE: Final = frozenset({PARKED, UPDATED, REVIEWS})


class Exporter(Protocol):
    """Takes spans: :class:`connectors.tracing.exporter.OtlpExporter`."""

    def export(self, spans: list[Span]) -> bool:
        """Whether they were taken. Never raises."""

    def close(self) -> None:
        """Nothing is exported afterwards."""


@dataclass(slots=True)
class Counts:
    """What became of payments and spans since the start."""

    sampled: int = 0
    spans: int = 0
    #: Sampled, and left out because too many were.
    skipped: int = 0
    #: Spans that no collector took.
    lost: int = 0


@dataclass(slots=True)
class _Waiting:
    why: Why
    due_s: float
    looks: int = 0


#: Tenant, payment, part.
_Key = tuple[str, str, str]


class _About(msgspec.Struct):
    """Of an event's payload: which operation it is about."""

    operation_id: str = ""


_read_about = msgspec.json.Decoder(_About).decode


class Tracer:
    """Call :meth:`written` from the sink's thread after each transaction, :meth:`close` at the end."""

    def __init__(
        self,
        database_url: str,
        exporter: Exporter,
        sampling: Sampling,
        *,
        say: Callable[[str], None] = lambda line: None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.counts = Counts()
        self._database_url = database_url
        self._exporter = exporter
        self._sampling = sampling
        self._say = say
        self._settle_s = settle_s
        self._lock = threading.Lock()
        #: What waits, in the order of its first due time; and spans that are made.
        self._waiting: dict[_Key, _Waiting] = {}
        self._batches: list[Span] = []
        self._referred: dict[tuple[str, str], None] = {}
        self._allowed = float(REMARKABLE_PER_S_MAX)
        self._allowed_at_s = time.monotonic()
        self._said_at_s = -SAY_AGAIN_S
        self._database: Database | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracer", daemon=True)
        self._thread.start()

    # In the sink's thread

    def written(self, batch: Batch, took_s: float) -> None:
        """``batch`` is in the tables; writing it took so long."""
        traces: dict[tuple[str, str], str] = {}
        chosen: list[tuple[_Key, Why]] = []
        for row in batch.events:
            if row[3] == COMPLETED:
                traces[row[0], row[1]] = row[8] or ""
            elif row[4] in _BESIDE or row[5] == "dead_letter":
                self._beside(row, chosen)
        for state in batch.states:
            if state.outcome is None:
                continue
            payment = (state.tenant, state.payment_id)
            trace_id = trace_id_of(*payment, traces.get(payment, ""))
            why = self._sampling.of_outcome(state, trace_id, was_referred=payment in self._referred)
            if why and self._is_allowed(why):
                chosen.append(((*payment, PAYMENT), why))
        self._wait_for(chosen)
        if chosen or took_s * 1000 >= self._sampling.slow_ms:
            self._note_batch(batch, took_s, [key for key, _ in chosen], traces)

    def _beside(self, row: Columns, chosen: list[tuple[_Key, Why]]) -> None:
        tenant, payment_id, stage = row[0], row[1], row[4]
        if not payment_id:
            return
        if stage == REVIEWS:
            self._referred[tenant, payment_id] = None
            for oldest in list(islice(self._referred, max(len(self._referred) - REFERRED_MAX, 0))):
                del self._referred[oldest]
            return
        operation_id = _read_about(row[14]).operation_id if row[14] else ""
        key = (tenant, payment_id, f"{OPERATION}/{operation_id}" if operation_id else PAYMENT)
        if stage != UPDATED:
            chosen.append((key, "error"))
        elif operation_id and self._is_allowed("share"):
            # Whether it was slow, or went wrong, its events tell.
            trace_id = trace_id_of(tenant, payment_id, row[8] or "")
            chosen.append((key, "share" if self._sampling.in_share(trace_id) else ""))

    def _is_allowed(self, why: Why) -> bool:
        if why in ("error", "referred"):
            return True
        now_s = time.monotonic()
        earned = (now_s - self._allowed_at_s) * REMARKABLE_PER_S_MAX
        self._allowed, self._allowed_at_s = min(self._allowed + earned, float(REMARKABLE_PER_S_MAX)), now_s
        if self._allowed < 1:
            self.counts.skipped += 1
            return False
        self._allowed -= 1
        return True

    def _wait_for(self, chosen: Iterable[tuple[_Key, Why]]) -> None:
        due_s = time.monotonic() + self._settle_s
        with self._lock:
            for key, why in chosen:
                if key in self._waiting:
                    if why == "error":
                        self._waiting[key].why = why
                    continue
                if len(self._waiting) >= WAITING_MAX:
                    self.counts.skipped += 1
                    continue
                self._waiting[key] = _Waiting(why, due_s)
                self.counts.sampled += 1

    def _note_batch(self, batch: Batch, took_s: float, chosen: list[_Key], traces: dict[tuple[str, str], str]) -> None:
        ended_ms = int(time.time() * 1000)
        places = sorted((topic, number, to) for (topic, number), (_, to) in batch.offsets.items())
        name = blake2b(repr(places).encode(), digest_size=24, person=b"batch").hexdigest()
        links = [
            (trace_id_of(tenant, payment, traces.get((tenant, payment), "")), span_id(tenant, payment, part))
            for tenant, payment, part in chosen[:LINKS_MAX]
            if part == PAYMENT
        ]
        span = Span(
            trace_id=name[:32],
            span_id=name[32:],
            parent_id="",
            name="audit sink batch",
            kind="internal",
            began_ms=ended_ms - int(took_s * 1000),
            ended_ms=ended_ms,
            attributes={"ptr.events": len(batch.events), "ptr.payments": len(batch.states)},
            links=links,
        )
        with self._lock:
            if len(self._batches) < SPANS_MAX:
                self._batches.append(span)

    # In the tracer's thread

    def close(self) -> None:
        """Send what waits, as far as it is known and for :data:`CLOSE_S` at most."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        self._exporter.close()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self._work(time.monotonic())
        self._work(float("inf"))
        if self._database is not None:
            self._database.close()

    def _work(self, now_s: float) -> None:
        """Look up what is due, and send its spans."""
        with self._lock:
            due = [(key, waiting) for key, waiting in self._waiting.items() if waiting.due_s <= now_s]
            spans, self._batches = self._batches, []
        for key, waiting in due:
            try:
                found = self._spans_of(key, waiting, last=now_s == float("inf"))
            except DatabaseError as error:
                self._trouble(f"{error}; payments wait to be traced")
                with suppress(Exception):
                    if self._database is not None:
                        self._database.close()
                self._database = None
                break
            except Exception as error:  # a payment whose story cannot be understood must not end the others' traces
                self._trouble(f"payment {key[1]} of {key[0]} cannot be traced: {type(error).__name__}")
                found = []
            if found is None:
                waiting.looks += 1
                waiting.due_s = now_s + self._settle_s * 2**waiting.looks
                continue
            with self._lock:
                del self._waiting[key]
            spans += found
            if len(spans) >= SPANS_MAX:
                self._send(spans)
                spans = []
        if spans:
            self._send(spans)

    def _spans_of(self, key: _Key, waiting: _Waiting, *, last: bool) -> list[Span] | None:
        """The payment's spans; None when some of its events are not there yet."""
        if self._database is None:
            self._database = open_database(self._database_url)
        tenant, payment_id, part_id = key
        told = story(self._database, tenant, payment_id)
        part = next((part for part in journey(told) if part.part_id == part_id), None)
        if part is None:
            return []
        whole = is_whole(told, part)
        if not whole and waiting.looks < LOOKS_MAX and not last:
            return None
        why = waiting.why if part_id == PAYMENT else self._sampling.of_operation(part, waiting.why)
        return spans_of(told, part, why=why, whole=whole) if why else []

    def _send(self, spans: list[Span]) -> None:
        for start in range(0, len(spans), SPANS_MAX):
            some = spans[start : start + SPANS_MAX]
            if self._exporter.export(some):
                self.counts.spans += len(some)
            else:
                self.counts.lost += len(some)
                self._trouble("the collector of spans did not take them: they are lost, the events are not")

    def _trouble(self, line: str) -> None:
        now_s = time.monotonic()
        if now_s - self._said_at_s >= SAY_AGAIN_S:
            self._said_at_s = now_s
            self._say(line)
