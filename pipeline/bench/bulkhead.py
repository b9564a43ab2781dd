"""One PIC answers nothing: what that does to the payments of another, and to those that may go to either."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from connectors.pic.ledger import SqliteLedger
from pipeline import topics
from pipeline.bench.recount import asked_later, read_all
from pipeline.bench.traffic import CALM, Traffic
from pipeline.rig import FRAUD, FRONT, Rig, RigError
from pipeline.settings import BrokerAccess
from schemas.business_rules import RouteTerms, Rule
from schemas.codec import Codec
from schemas.records import PaymentCompleted
from schemas.tenant_rules import TenantRules

SILENT: Final = "simulator-1"
OTHER: Final = "simulator-2"
TAKES_S: Final = 0.05
RATE: Final = 90.0
SETTLE_TIMEOUT_S: Final = 300.0
#: Silence that waits for payments to move lasts no longer.
SILENT_S_MAX: Final = 180.0

TENANTS: Final = (
    TenantRules(tenant="first", pic=SILENT, currencies=["EUR"], fraud=CALM),
    TenantRules(tenant="second", pic=OTHER, currencies=["EUR"], fraud=CALM),
    TenantRules(
        tenant="either",
        pic=SILENT,
        currencies=["EUR"],
        fraud=CALM,
        rules=[Rule(id="either", route=RouteTerms(pics=[SILENT, OTHER]))],
    ),
)


def measure(
    broker: BrokerAccess | str,
    folder: Path,
    *,
    silent_s: float,
    before_s: float = 60.0,
    warm_up_s: float = 30.0,
    until_moved: int = 0,
    patience_s: float = 420.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Steady payments of three tenants; ``simulator-1`` is silent for ``silent_s`` after ``warm_up_s`` and ``before_s``.

    The silence goes on, however long ``silent_s`` is, until ``until_moved`` payments were paid elsewhere meanwhile. A payment
    whose next ask comes with a delay of more than ``patience_s`` is counted (``asked_later``), and not waited for.

    Times are the broker's, from a request to its outcome. ``either`` may go to ``simulator-2`` too; only where
    ``simulator-1`` was surely not called, so those that were are counted apart (``either_maybe_called``).
    """
    silent, trace = folder / "silent", folder / "trace"
    environment = {
        "PTR_PICS": f"{SILENT},{OTHER}",
        "PTR_PIC_SIMULATOR_1_SILENT_WHILE": str(silent),
        "PTR_PIC_SIMULATOR_1_TRACE": str(trace),
    }
    for number in (1, 2):
        environment[f"PTR_PIC_SIMULATOR_{number}_TAKES_S"] = str(TAKES_S)
        environment[f"PTR_PIC_SIMULATOR_{number}_LEDGER"] = str(folder / f"{number}.db")
    with Rig(broker, folder, environment) as rig:
        rig.prepare(TENANTS)
        rig.worker("front", FRONT)
        rig.worker("fraud", FRAUD)
        rig.wait_ready()
        with Traffic(broker, TENANTS, RATE) as traffic:
            say("warming up")
            time.sleep(warm_up_s)
            began = time.time()
            say(f"both PICs answer, for {before_s:g} s")
            time.sleep(before_s)
            silent.touch()
            from_s, called_before = time.time(), _called(trace)
            say(f"{SILENT} answers nothing, for {silent_s:g} s")
            time.sleep(silent_s)
            deadline = time.monotonic() + SILENT_S_MAX
            while until_moved and time.monotonic() < deadline and _moved(rig, from_s) < until_moved:
                rig.check()
                time.sleep(1.0)
            to_s, called = time.time(), _called(trace)
            silent.unlink()
        say("it answers again; waiting for the outcomes")
        outcomes, later = _settled(rig, traffic, patience_s)
        rig.stop()
    charges = _charges(folder)
    figures: dict[str, Any] = {"payments": traffic.payments, "silent_s": round(to_s - from_s)}
    during = [event for event in outcomes if from_s <= event[0].received_at_ms / 1000 < to_s]
    before = [event for event in outcomes if began <= event[0].received_at_ms / 1000 < from_s]
    for tenant in ("second", "either"):
        for when, events in (("before", before), ("during", during)):
            figures[f"{tenant}_{when}"] = _spread([wait_ms for event, wait_ms in events if event.tenant == tenant])
    ratio = figures["second_during"]["p99_ms"] / figures["second_before"]["p99_ms"]
    figures["second_p99_during_to_before"] = round(ratio, 2)
    either = [event for event, _ in during if event.tenant == "either"]
    may = [event for event in either if f"either|{event.payment_id}" not in called - called_before]
    moved = [event for event in may if _has_moved(event)]
    figures["either_maybe_called"] = len(either) - len(may)
    figures["either_may_fail_over"] = len(may)
    figures["either_failed_over"] = len(moved)
    figures["either_failed_over_percent"] = round(100 * len(moved) / max(len(may), 1), 2)
    figures["not_paid"] = sum(event.outcome != "paid" for event, _ in outcomes)
    ended = {f"{event.tenant}|{event.payment_id}" for event, _ in outcomes}
    later -= ended
    figures["asked_later"] = len(later)
    figures["without_outcome"] = traffic.payments - len(ended | later)
    figures["charged_more_than_once"] = sum(count > 1 for count in charges.values())
    figures["charged_not_at_all"] = sum(not charges.get(payment) for payment in ended)
    return figures


def _has_moved(event: PaymentCompleted) -> bool:
    return event.outcome == "paid" and event.pic == OTHER


def _moved(rig: Rig, from_s: float) -> int:
    """Payments that came since ``from_s``, could go to either PIC and were paid by the other one."""
    outcomes = [
        event for event, _ in _outcomes(rig) if event.tenant == "either" and event.received_at_ms / 1000 >= from_s
    ]
    return sum(_has_moved(event) for event in outcomes)


def _settled(rig: Rig, traffic: Traffic, patience_s: float) -> tuple[list[tuple[PaymentCompleted, int]], set[str]]:
    """Outcomes, with the milliseconds that each took, when all are there but for those that are asked about later."""
    deadline = time.monotonic() + patience_s + SETTLE_TIMEOUT_S
    later: set[str] = set()
    while (left := traffic.payments - rig.count(topics.COMPLETED.name)) > 0:
        rig.check()
        later = asked_later(rig.access, (SILENT, OTHER), patience_s)
        if len(later) >= left or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    return _outcomes(rig), later


def _outcomes(rig: Rig) -> list[tuple[PaymentCompleted, int]]:
    decode = Codec().decoder(PaymentCompleted)
    found = []
    for message in read_all(rig.access, topics.COMPLETED.name):
        event = decode(message.value())
        found.append((event, message.timestamp()[1] - event.received_at_ms))
    return found


def _called(trace: Path) -> set[str]:
    """Payments that set out for the silent PIC so far."""
    return {line.split(" ", 1)[1].rsplit("|", 1)[0] for line in trace.read_text().splitlines()}


def _charges(folder: Path) -> dict[str, int]:
    """How often each payment was charged, at both PICs together."""
    found: dict[str, int] = {}
    for number in (1, 2):
        ledger = SqliteLedger(folder / f"{number}.db")
        try:
            for attempt, entry in ledger.entries().items():
                payment = attempt.rsplit("|", 1)[0]
                found[payment] = found.get(payment, 0) + entry.charges
        finally:
            ledger.close()
    return found


def _spread(waits_ms: Sequence[int]) -> dict[str, int]:
    if not waits_ms:
        raise RigError("no payment came to its outcome in one of the phases: they are too short")
    waits_ms = sorted(waits_ms)
    return {
        "p50_ms": waits_ms[len(waits_ms) // 2],
        "p99_ms": waits_ms[int(len(waits_ms) * 0.99)],
        "counted": len(waits_ms),
    }
