"""Kills and stops processes at drawn moments while payments flow, and recounts afterwards from the input alone."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from connectors.reviews.scripted import ScriptedReviewer
from pipeline import topics
from pipeline.bench.load import Load, post
from pipeline.bench.recount import mistakes
from pipeline.rig import FRAUD, FRONT, Child, Rig, RigError
from pipeline.settings import BrokerAccess

SESSION_TIMEOUT_S = 10.0
#: A stopped process stays stopped for longer than its session.
STOP_S = SESSION_TIMEOUT_S + 4.0
RESTART_AFTER_S = (0.0, 1.5)
SETTLE_TIMEOUT_S = 240.0
#: Payments that are referred, and how long they wait: about as long as a killed worker is away, so that some decisions come
#: in time, some too late, and some reviews end while nobody owns them.
REFERRED_EVERY = 20
REVIEW_S = 12.0
#: What a reviewer posts for a review; nothing leaves it to its time limit, two words contradict each other.
REVIEWER_DOES: tuple[tuple[str, ...], ...] = (
    ("approve",),
    ("approve",),
    ("reject",),
    ("approve", "reject"),
    ("reject", "approve"),
    (),
    (),
)


@dataclass
class Report:
    """What happened, and what was found wrong."""

    seed: int
    payments: int
    posted: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    ended_themselves: dict[str, int] = field(default_factory=dict)
    #: Reviews for which the reviewer posted something, and those left to their time limit.
    reviews_decided: int = 0
    reviews_left: int = 0
    seconds: float = 0.0
    mistakes: list[str] = field(default_factory=list)

    #: What is said without mistakes.
    EXACT: ClassVar[str] = "exact: outcomes, buckets, audit rows and PIC calls are as recounted"

    def words(self) -> list[str]:
        """What happened, a line each."""
        return [
            f"seed {self.seed}: {self.payments} payments, {self.posted} posts, "
            f"{sum(self.kills.values())} kills {self.kills}, {sum(self.stops.values())} stops {self.stops}, "
            f"{self.reviews_decided} reviews decided and {self.reviews_left} left to their time limit, "
            f"ended by themselves {self.ended_themselves or 'none'}, {self.seconds:.0f} s"
        ]


class _Monkey:
    """Draws victims and moments from the seed, and restarts what died."""

    def __init__(self, rig: Rig, report: Report, say: Callable[[str], None]) -> None:
        self._rig = rig
        self._report = report
        self._say = say
        self._restarts: list[tuple[float, Child]] = []
        self._frozen: list[tuple[float, Child]] = []
        self._by_us: set[str] = set()

    def kill(self, child: Child, restart_after_s: float) -> None:
        self._report.kills[child.name] = self._report.kills.get(child.name, 0) + 1
        self._say(f"kill -9 {child.name}")
        child.kill(signal.SIGKILL)
        self._by_us.add(child.name)
        self._restarts.append((time.monotonic() + restart_after_s, child))

    def stop(self, child: Child) -> None:
        assert child.process is not None
        self._report.stops[child.name] = self._report.stops.get(child.name, 0) + 1
        self._say(f"SIGSTOP {child.name} for {STOP_S:g} s")
        child.process.send_signal(signal.SIGSTOP)
        self._frozen.append((time.monotonic() + STOP_S, child))

    def free(self) -> list[Child]:
        """Children that run and are neither stopped nor about to be restarted."""
        frozen = {child.name for _, child in self._frozen}
        return [child for child in self._rig.children if child.running() and child.name not in frozen]

    def tend(self) -> None:
        """Restart and continue what is due; whoever ended by itself is restarted as a supervisor would."""
        now = time.monotonic()
        for at, child in list(self._frozen):
            if now >= at:
                self._frozen.remove((at, child))
                self._say(f"SIGCONT {child.name}")
                assert child.process is not None
                child.process.send_signal(signal.SIGCONT)
        waiting = {child.name for _, child in self._restarts}
        for child in self._rig.children:
            if not child.running() and child.name not in waiting:
                name = child.name
                self._report.ended_themselves[name] = self._report.ended_themselves.get(name, 0) + 1
                reason = (child.log_tail(1).splitlines() or ["?"])[-1]
                self._say(f"{name} ended by itself: {reason}")
                self._restarts.append((now + 0.5, child))
        for at, child in list(self._restarts):
            if now >= at:
                self._restarts.remove((at, child))
                child.start()

    def end(self) -> None:
        """Let everything run."""
        for at, _ in list(self._frozen):
            while time.monotonic() < at:
                time.sleep(0.1)
                self.tend()
        while self._restarts:
            time.sleep(0.1)
            self.tend()


def run(
    broker: BrokerAccess | str,
    folder: Path,
    *,
    payments: int,
    kills: int,
    stops: int,
    seed: int,
    rate: float,
    database: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Post ``payments`` (5 % twice) to two groups of two workers each and an audit sink, with ``kills`` and ``stops``."""
    draw = random.Random(seed)
    report = Report(seed, payments)
    load = Load(
        payments,
        seed=seed,
        repeat_share=0.05,
        now_ms=int(time.time() * 1000),
        referred_every=REFERRED_EVERY,
        review_s=REVIEW_S,
    )
    ledger = folder / "pic.db"
    environment = {"PTR_SIMULATOR_LEDGER": str(ledger), "PTR_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S)}
    started = time.monotonic()
    with Rig(broker, folder, environment, database=database) as rig, ExitStack() as stack:
        rig.prepare(load.tenants())
        for name in ("front-1", "front-2"):
            rig.worker(name, FRONT)
        for name in ("fraud-1", "fraud-2"):
            rig.worker(name, FRAUD)
        rig.audit_sink()
        rig.wait_ready()
        monkey = _Monkey(rig, report, say)
        drawn = random.Random(seed)
        reviewer = stack.enter_context(ScriptedReviewer(rig.access, lambda review: drawn.choice(REVIEWER_DOES)))
        posting = threading.Thread(target=_post, args=(broker, load, rate, report), daemon=True)
        posting.start()
        acts = ["kill"] * kills + ["stop"] * stops
        draw.shuffle(acts)
        pause_s = payments * 1.05 / rate / max(len(acts), 1)
        for act in acts:
            _tend_for(monkey, draw.uniform(0.3, 1.7) * pause_s)
            free = monkey.free()
            while not free:
                _tend_for(monkey, 0.2)
                free = monkey.free()
            victim = draw.choice(free)
            if act == "kill":
                monkey.kill(victim, draw.uniform(*RESTART_AFTER_S))
            else:
                monkey.stop(victim)
        while posting.is_alive():
            _tend_for(monkey, 0.2)
        monkey.end()
        _settle(rig, monkey, load, say)
        report.reviews_decided, report.reviews_left = len(reviewer.decided), len(reviewer.left)
        rig.stop()
        say("recounting from the input")
        report.mistakes = mistakes(broker, rig.database, str(ledger), load)
    report.seconds = time.monotonic() - started
    return report


def _post(broker: BrokerAccess | str, load: Load, rate: float, report: Report) -> None:
    report.posted = post(broker, load, rate=rate)


def _tend_for(monkey: _Monkey, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        monkey.tend()
        time.sleep(min(left, 0.1))


def _settle(rig: Rig, monkey: _Monkey, load: Load, say: Callable[[str], None]) -> None:
    """Return when the outcome topic and the audit tables have stopped growing and hold enough."""
    from connectors.sinks.database import open_database

    deadline, last, since = time.monotonic() + SETTLE_TIMEOUT_S, (-1, -1), time.monotonic()
    while time.monotonic() < deadline:
        _tend_for(monkey, 0.5)
        completed = rig.count(topics.COMPLETED.name)
        database = open_database(rig.database)
        try:
            audited = int(database.query("SELECT count(*) FROM payments WHERE outcome <> ''")[0][0])
        finally:
            database.close()
        now = (completed, audited)
        if now != last:
            last, since = now, time.monotonic()
        if audited >= load.payments and time.monotonic() - since > 5.0:
            return
        if time.monotonic() - since > 90.0:
            say(f"nothing moves: {completed} completed, {audited} audited of {load.payments}")
            return  # The recount tells what is missing.
    raise RigError("the pipeline does not come to rest")
