"""One PIC answers nothing: what that does to the payments of another, and to those that may go elsewhere.

Twice the payments at a PIC and the silence of another are two things. So what may leave the silent PIC goes in turn, a window
each, to a PIC of its own (``elsewhere``: the other PIC has its own payments only, before and during the silence) and to the
other PIC (``onto``). Windows are as long as each other and have the same payments, whether PICs answer or not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from connectors.pic.ledger import SqliteLedger
from pipeline import topics
from pipeline.bench.recount import asked_later, read_all
from pipeline.bench.traffic import CALM, Traffic
from pipeline.rig import CLOCK_TICKS_PER_S, FRAUD, FRONT, Rig, RigError
from pipeline.settings import BrokerAccess
from schemas.business_rules import RouteTerms, Rule
from schemas.codec import Codec
from schemas.records import PaymentAnswered, PaymentCompleted, PaymentQueued
from schemas.tenant_rules import TenantRules

SILENT: Final = "simulator-1"
OTHER: Final = "simulator-2"
APART: Final = "simulator-3"
PICS: Final = (SILENT, OTHER, APART)
TAKES_S: Final = 0.05
#: Payments a second. Small batches cost most: at 30 a second two cores that serve all of the pipeline, and the broker, have a
#: fifth of their time left, at 90 none. Without half of it (``cpu_left_before_percent``) every record waits for the one before,
#: and whatever else runs is seen in the times of all, whichever PIC they are for.
RATE: Final = 15.0
SETTLE_TIMEOUT_S: Final = 300.0
#: Silence that waits for payments to move lasts no longer.
SILENT_S_MAX: Final = 180.0

_FIRST = TenantRules(tenant="first", pic=SILENT, currencies=["EUR"], fraud=CALM)
_SECOND = TenantRules(tenant="second", pic=OTHER, currencies=["EUR"], fraud=CALM)


def _leaving(tenant: str, to: str) -> TenantRules:
    """A tenant of the silent PIC whose payments may go ``to`` another one."""
    rule = Rule(id="leaves", route=RouteTerms(pics=[SILENT, to]))
    return TenantRules(tenant=tenant, pic=SILENT, currencies=["EUR"], fraud=CALM, rules=[rule])


#: Who pays in the windows of each arrangement, in turn; the tenant that may leave the silent PIC is called as the arrangement.
ARRANGEMENTS: Final = {
    "elsewhere": (_FIRST, _SECOND, _leaving("elsewhere", APART)),
    "onto": (_FIRST, _SECOND, _leaving("onto", OTHER)),
}
_GOES_TO: Final = {"elsewhere": APART, "onto": OTHER}
TENANTS: Final = (_FIRST, *(tenants[-1] for tenants in ARRANGEMENTS.values()), _SECOND)
_Outcomes = list[tuple[PaymentCompleted, int]]


@dataclass(frozen=True, slots=True)
class _Window:
    arrangement: str
    silent: bool
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds up to a moment: of a clock, in which cores of this machine did nothing, and of the workers' CPU."""

    at_s: float
    idle_s: float
    workers_s: float

    def cores_s(self, earlier: _Spent) -> float:
        """What all cores had since then."""
        return (self.at_s - earlier.at_s) * (os.cpu_count() or 1)


def measure(
    broker: BrokerAccess | str,
    folder: Path,
    *,
    silent_s: float,
    before_s: float = 120.0,
    window_s: float = 30.0,
    warm_up_s: float = 30.0,
    rate: float = RATE,
    until_moved: int = 0,
    patience_s: float = 420.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Steady payments, ``rate`` a second; ``simulator-1`` is silent for ``silent_s`` after ``warm_up_s`` and ``before_s``.

    Both phases are cut into windows of about ``window_s``, of both arrangements in turn. The silence goes on, however long
    ``silent_s`` is, until ``until_moved`` payments were paid elsewhere meanwhile. A payment whose next ask has a delay of
    more than ``patience_s`` is counted (``asked_later``), and not waited for.

    Times are the broker's, from a request to its outcome, of payments of ``simulator-2`` itself: for each arrangement the 99th
    percentile of each window, of them the least and the median, and the median during the silence to that before
    (``ratio``); ``waits_p99_ms`` says where they wait: before they are queued, at the PIC, and after its answer. Payments that
    may leave ``simulator-1`` do so only where it was surely not called; those that were are counted apart (``maybe_called``).
    ``workers_cpu_*_percent`` is the workers' part of the machine's CPU; if less was left during the silence than that explains,
    something else ran on the machine, and the times say nothing of the PICs.
    """
    silent, trace = folder / "silent", folder / "trace"
    environment = {
        "PTR_PICS": ",".join(PICS),
        "PTR_PIC_SIMULATOR_1_SILENT_WHILE": str(silent),
        "PTR_PIC_SIMULATOR_1_TRACE": str(trace),
    }
    for number, _ in enumerate(PICS, 1):
        environment[f"PTR_PIC_SIMULATOR_{number}_TAKES_S"] = str(TAKES_S)
        environment[f"PTR_PIC_SIMULATOR_{number}_LEDGER"] = str(folder / f"{number}.db")
    with Rig(broker, folder, environment) as rig:
        rig.prepare(TENANTS)
        rig.worker("front", FRONT)
        rig.worker("fraud", FRAUD)
        rig.wait_ready()
        with Traffic(broker, ARRANGEMENTS["elsewhere"], rate) as traffic:
            say("warming up")
            time.sleep(warm_up_s)
            say(f"all PICs answer, for {before_s:g} s")
            spent = [_spent(rig)]
            windows = list(_windows(traffic, before_s, window_s, silent=False))
            spent.append(_spent(rig))
            silent.touch()
            called_before = _called(trace)
            say(f"{SILENT} answers nothing, for {silent_s:g} s")
            windows += _windows(traffic, silent_s, window_s, silent=True)
            spent.append(_spent(rig))
            from_s = next(window.from_s for window in windows if window.silent)
            deadline = time.monotonic() + SILENT_S_MAX
            while until_moved and time.monotonic() < deadline and _moved(rig, from_s) < until_moved:
                rig.check()
                time.sleep(1.0)
            to_s, called = time.time(), _called(trace) - called_before
            silent.unlink()
        say("it answers again; waiting for the outcomes")
        outcomes, later = _settled(rig, traffic, patience_s)
        waits = _waits(rig, outcomes)
        rig.stop()
    charges = _charges(folder)
    figures: dict[str, Any] = {"payments": traffic.payments, "rate": rate, "silent_s": round(to_s - from_s)}
    for when, earlier, later_on in zip(("before", "during"), spent, spent[1:], strict=False):
        figures[f"cpu_left_{when}_percent"] = round(
            100 * (later_on.idle_s - earlier.idle_s) / later_on.cores_s(earlier)
        )
        figures[f"workers_cpu_{when}_percent"] = round(
            100 * (later_on.workers_s - earlier.workers_s) / later_on.cores_s(earlier)
        )
    ratios, may_count, moved_count = {}, 0, 0
    for arrangement in ARRANGEMENTS:
        mine = [window for window in windows if window.arrangement == arrangement]
        found: dict[str, Any] = {}
        for when, phase in (("before", False), ("during", True)):
            found[when] = _times(outcomes, waits, [window for window in mine if window.silent is phase])
        ratios[arrangement] = round(found["during"]["p99_ms_median"] / found["before"]["p99_ms_median"], 2)
        events = [event for event, _ in outcomes if event.tenant == arrangement and _in(event, from_s, to_s)]
        may = [event for event in events if f"{arrangement}|{event.payment_id}" not in called]
        moved = sum(_has_moved(event) for event in may)
        found |= {"maybe_called": len(events) - len(may), "may_fail_over": len(may), "failed_over": moved}
        may_count, moved_count = may_count + len(may), moved_count + moved
        figures[arrangement] = found
    figures["pic_2_p99_ratio_elsewhere"] = ratios["elsewhere"]
    figures["pic_2_p99_ratio_onto"] = ratios["onto"]
    figures["failed_over"] = moved_count
    figures["failed_over_percent"] = round(100 * moved_count / max(may_count, 1), 2)
    figures["not_paid"] = sum(event.outcome != "paid" for event, _ in outcomes)
    ended = {f"{event.tenant}|{event.payment_id}" for event, _ in outcomes}
    later -= ended
    figures["asked_later"] = len(later)
    figures["without_outcome"] = traffic.payments - len(ended | later)
    figures["charged_more_than_once"] = sum(count > 1 for count in charges.values())
    figures["charged_not_at_all"] = sum(not charges.get(payment) for payment in ended)
    return figures


def _windows(traffic: Traffic, phase_s: float, window_s: float, *, silent: bool) -> Iterator[_Window]:
    """An even number of windows that fill the phase, as the traffic of each comes to its end."""
    count = 2 * max(round(phase_s / window_s / 2), 1)
    for number in range(count):
        arrangement = tuple(ARRANGEMENTS)[number % 2]
        traffic.turn_to(ARRANGEMENTS[arrangement])
        from_s = time.time()
        time.sleep(phase_s / count)
        yield _Window(arrangement, silent, from_s, time.time())


def _spent(rig: Rig) -> _Spent:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    idle_s = (int(fields[4]) + int(fields[5])) / CLOCK_TICKS_PER_S
    return _Spent(time.monotonic(), idle_s, sum(child.cpu_s() for child in rig.children))


def _in(event: PaymentCompleted, from_s: float, to_s: float) -> bool:
    return from_s <= event.received_at_ms / 1000 < to_s


def _times(outcomes: _Outcomes, waits: dict[str, dict[str, int]], windows: Sequence[_Window]) -> dict[str, Any]:
    """Times of the other PIC's own payments in ``windows``, and where they waited."""
    p99s_ms: list[int] = []
    counted: list[str] = []
    for window in windows:
        mine = [
            pair for pair in outcomes if pair[0].tenant == _SECOND.tenant and _in(pair[0], window.from_s, window.to_s)
        ]
        p99s_ms.append(_p99([wait_ms for _, wait_ms in mine]))
        counted += [event.payment_id for event, _ in mine]
    return {
        "p99_ms_median": round(median(p99s_ms)),
        "p99_ms_least": min(p99s_ms),
        "p99_ms_windows": p99s_ms,
        "waits_p99_ms": {
            step: _p99([at[payment] for payment in counted if payment in at]) for step, at in waits.items()
        },
        "counted": len(counted),
    }


def _waits(rig: Rig, outcomes: _Outcomes) -> dict[str, dict[str, int]]:
    """Milliseconds of the other PIC's own payments until each was queued, until it was answered, and until its outcome."""
    completed = {
        event.payment_id: (event.received_at_ms, event.received_at_ms + wait_ms)
        for event, wait_ms in outcomes
        if event.tenant == _SECOND.tenant
    }
    queued = _written_at(rig, topics.queue(OTHER).name, PaymentQueued)
    answered = _written_at(rig, topics.ANSWERED.name, PaymentAnswered)
    steps: dict[str, dict[str, int]] = {"until_queued": {}, "at_pic": {}, "until_outcome": {}}
    for payment, (received_ms, completed_ms) in completed.items():
        if payment in queued and payment in answered:
            steps["until_queued"][payment] = queued[payment] - received_ms
            steps["at_pic"][payment] = answered[payment] - queued[payment]
            steps["until_outcome"][payment] = completed_ms - answered[payment]
    return steps


def _written_at(rig: Rig, topic: str, record: type[PaymentQueued] | type[PaymentAnswered]) -> dict[str, int]:
    """When the first record of each of the other PIC's own payments was written."""
    decode, found = Codec().decoder(record), dict[str, int]()
    for message in read_all(rig.access, topic):
        event = decode(message.value())
        if event.tenant == _SECOND.tenant:
            found.setdefault(event.payment_id, message.timestamp()[1])
    return found


def _has_moved(event: PaymentCompleted) -> bool:
    return event.outcome == "paid" and event.pic == _GOES_TO.get(event.tenant)


def _moved(rig: Rig, from_s: float) -> int:
    """Payments that came since ``from_s``, could leave the silent PIC and were paid by the one that they may go to."""
    return sum(_has_moved(event) for event, _ in _outcomes(rig) if event.received_at_ms / 1000 >= from_s)


def _settled(rig: Rig, traffic: Traffic, patience_s: float) -> tuple[_Outcomes, set[str]]:
    """Outcomes, with the milliseconds that each took, when all are there but for those that are asked about later."""
    deadline = time.monotonic() + patience_s + SETTLE_TIMEOUT_S
    later: set[str] = set()
    while (left := traffic.payments - rig.count(topics.COMPLETED.name)) > 0:
        rig.check()
        later = asked_later(rig.access, PICS, patience_s)
        if len(later) >= left or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    return _outcomes(rig), later


def _outcomes(rig: Rig) -> _Outcomes:
    decode = Codec().decoder(PaymentCompleted)
    found: _Outcomes = []
    for message in read_all(rig.access, topics.COMPLETED.name):
        event = decode(message.value())
        found.append((event, message.timestamp()[1] - event.received_at_ms))
    return found


def _called(trace: Path) -> set[str]:
    """Payments that set out for the silent PIC so far."""
    return {line.split(" ", 1)[1].rsplit("|", 1)[0] for line in trace.read_text().splitlines()}


def _charges(folder: Path) -> dict[str, int]:
    """How often each payment was charged, at all PICs together."""
    found: dict[str, int] = {}
    for number, _ in enumerate(PICS, 1):
        ledger = SqliteLedger(folder / f"{number}.db")
        try:
            for attempt, entry in ledger.entries().items():
                payment = attempt.rsplit("|", 1)[0]
                found[payment] = found.get(payment, 0) + entry.charges
        finally:
            ledger.close()
    return found


def _p99(times_ms: Sequence[int]) -> int:
    if not times_ms:
        raise RigError("no payment came to its outcome in one of the windows: they are too short")
    return sorted(times_ms)[int(len(times_ms) * 0.99)]
