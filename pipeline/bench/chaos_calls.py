"""Kills the worker around its calls to three simulated PICs, and counts at the PICs what was charged.

One PIC deduplicates, one can only be asked what became of a call, one can do neither. Each tells in a trace how far a call
is (:mod:`connectors.pic.distant`), and the killer waits there for the step that it has drawn.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from connectors.pic.distant import STEPS
from connectors.pic.ledger import Entry, SqliteLedger
from pipeline import topics
from pipeline.bench.recount import asked_later, few, read_all
from pipeline.bench.traffic import CALM, Traffic
from pipeline.rig import FRAUD, FRONT, Rig, Worker
from pipeline.settings import BrokerAccess
from schemas.codec import Codec
from schemas.identity import attempt_id
from schemas.records import PaymentAnswered, PaymentCompleted
from schemas.tenant_rules import TenantRules

#: PICs by their names, with what each can do (``PTR_PIC_<NAME>_CAN``).
CAN: Final = {
    "simulator-deduplicates": "deduplicates",
    "simulator-looks-up": "looks_up",
    "simulator-neither": "none",
}
NEITHER: Final = "simulator-neither"
#: A call is long against the killer's reaction, and short against the pauses between kills.
TAKES_S: Final = 0.06
LOSES: Final = 0.02
RATE: Final = 40.0
DECLINED_EVERY: Final = 13
REPEAT_EVERY: Final = 20
#: Between two kills the worker works undisturbed for this long.
PAUSE_S: Final = (0.2, 1.2)
#: A step that does not come within this is not waited for.
STEP_TIMEOUT_S: Final = 15.0
#: Whoever is asked about with a longer delay is not waited for.
PATIENCE_S: Final = 420.0
#: Beyond patience, for the asks themselves.
SETTLE_TIMEOUT_S: Final = 120.0
TRACE_PAUSE_S: Final = 0.0005


@dataclass
class AtPic:
    """What happened at one PIC."""

    payments: int = 0
    #: Calls that a kill interrupted, by the step where they were; ``answered``: and the answer was not published.
    interrupted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STEPS, 0))
    calls: int = 0
    lookups: int = 0
    #: Attempts that were called more than once.
    called_again: int = 0
    paid: int = 0
    declined: int = 0
    #: Payments without an outcome, that a person has to look at; those of them that were charged, and never called.
    waiting: int = 0
    waiting_charged: int = 0
    waiting_never_called: int = 0
    #: Payments without an outcome that will be asked about, later than there is patience here.
    asked_later: int = 0


@dataclass
class Report:
    """What happened, and what was found wrong."""

    seed: int
    #: By the step that the kill waited for; ``none``: nothing was called in time.
    kills: dict[str, int] = field(default_factory=dict)
    payments: int = 0
    pics: dict[str, AtPic] = field(default_factory=dict)
    seconds: float = 0.0
    mistakes: list[str] = field(default_factory=list)

    #: What is said without mistakes.
    EXACT: ClassVar[str] = "exact: nothing was charged twice, nothing was lost"

    def words(self) -> list[str]:
        """What happened, a line each."""
        first = f"seed {self.seed}: {self.payments} payments, kills by step {self.kills}, {self.seconds:.0f} s"
        counts = [
            f"{pic}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(at).items())
            for pic, at in self.pics.items()
        ]
        return [first, *counts]


def tenants() -> list[TenantRules]:
    """One for each PIC."""
    return [TenantRules(tenant=can, pic=pic, currencies=["EUR"], fraud=CALM) for pic, can in CAN.items()]


def run(
    broker: BrokerAccess | str,
    folder: Path,
    *,
    kills: int,
    seed: int,
    partitions: int = 4,
    patience_s: float = PATIENCE_S,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Kill the worker ``kills`` times while payments of all three PICs flow, wait until all came to rest, and recount.

    A payment that waits for an ask with a delay of more than ``patience_s`` is counted, and not waited for.
    """
    report = Report(seed)
    started = time.monotonic()
    with Rig(broker, folder, _environment(folder, seed), partitions=partitions) as rig:
        rig.prepare(tenants())
        worker = rig.worker("front", FRONT)
        rig.worker("fraud", FRAUD)
        rig.wait_ready()
        with (
            Traffic(broker, tenants(), RATE, seed=seed, token_of=_token, repeat_every=REPEAT_EVERY) as traffic,
            _Killer(worker, folder, seed, report) as killer,
        ):
            for number in range(1, kills + 1):
                say(f"kill -9 number {number}: {killer.kill()}")
                # Another draw of lost answers: the same ones would be lost again after each start.
                worker.environment |= _seeds(f"{seed}.{number}")
                worker.start()
                rig.wait_ready()
        report.payments = traffic.payments
        say(f"{traffic.payments} payments are posted; waiting until they come to rest")
        later = _settle(rig, traffic, patience_s)
        rig.stop()
        _recount(rig, traffic, killer.interrupted, report, later)
    report.seconds = time.monotonic() - started
    return report


def _environment(folder: Path, seed: int) -> dict[str, str]:
    found = {"PTR_PICS": ",".join(CAN)}
    for pic, can in CAN.items():
        prefix = f"PTR_PIC_{pic.upper().replace('-', '_')}_"
        found |= {
            f"{prefix}CAN": can,
            f"{prefix}LEDGER": str(folder / f"{pic}.db"),
            f"{prefix}TAKES_S": str(TAKES_S),
            f"{prefix}LOSES": str(LOSES),
            f"{prefix}TRACE": str(folder / f"{pic}.trace"),
        }
    return found | _seeds(str(seed))


def _seeds(seed: str) -> dict[str, str]:
    return {f"PTR_PIC_{pic.upper().replace('-', '_')}_SEED": seed for pic in CAN}


def _token(number: int) -> str:
    return f"tok_decline_{number}" if number % DECLINED_EVERY == 0 else f"tok_{number}"


class _Trace:
    """The end of a PIC's trace."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open()
        #: A line whose end was not there yet.
        self._begun = ""
        #: The last step of each call since :meth:`forget`.
        self.steps: dict[str, str] = {}

    def read(self) -> list[str]:
        """The steps that came since the last time."""
        steps = []
        *lines, self._begun = (self._begun + self._file.read()).split("\n")
        for line in lines:
            step, attempt = line.split(" ", 1)
            self.steps[attempt] = step
            steps.append(step)
        return steps

    def forget(self) -> None:
        """What was before belongs to a process that is dead."""
        self.steps.clear()

    def close(self) -> None:
        self._file.close()


class _Killer:
    """Draws steps and PICs from the seed, waits for them, and keeps what each kill interrupted."""

    def __init__(self, worker: Worker, folder: Path, seed: int, report: Report) -> None:
        self._worker = worker
        self._draw = random.Random(seed)
        self._report = report
        self._traces = {pic: _Trace(folder / f"{pic}.trace") for pic in CAN}
        self._turns: list[tuple[str, str]] = []
        #: PIC, attempt, step and time (epoch milliseconds) of the kill.
        self.interrupted: list[tuple[str, str, str, int]] = []

    def __enter__(self) -> _Killer:
        return self

    def __exit__(self, *_: object) -> None:
        for trace in self._traces.values():
            trace.close()

    def kill(self) -> str:
        """One kill, at the next step that is due; says where it hit."""
        if not self._turns:
            self._turns = [(pic, step) for pic in CAN for step in STEPS]
            self._draw.shuffle(self._turns)
        pic, step = self._turns.pop()
        time.sleep(self._draw.uniform(*PAUSE_S))
        came = self._wait_for(self._traces[pic], step)
        # Anywhere in the step: all of them but the last take half of the call.
        time.sleep(self._draw.uniform(0.0, 0.8 * TAKES_S / 2 if step != "answered" else 0.01))
        self._worker.kill(signal.SIGKILL)
        killed_ms = int(time.time() * 1000)
        hit: Counter[str] = Counter()
        for name, trace in self._traces.items():
            trace.read()
            for attempt, last in trace.steps.items():
                self.interrupted.append((name, attempt, last, killed_ms))
                hit[last] += last != "answered"
            trace.forget()
        self._report.kills[step if came else "none"] = self._report.kills.get(step if came else "none", 0) + 1
        return f"{pic}, {step if came else 'no call came'}; under way were {dict(+hit) or 'none'}"

    def _wait_for(self, trace: _Trace, step: str) -> bool:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        trace.read()
        while step not in trace.read():
            if time.monotonic() > deadline:
                return False
            time.sleep(TRACE_PAUSE_S)
        return True


@dataclass(frozen=True, slots=True)
class _Posted:
    pic: str
    tenant: str
    payment_id: str
    declined: bool

    @property
    def name(self) -> str:
        return f"{self.tenant}|{self.payment_id}"


def _posted(traffic: Traffic) -> Iterator[_Posted]:
    pic_of = {can: pic for pic, can in CAN.items()}
    for number in range(traffic.payments):
        payment = traffic.payment(number)
        yield _Posted(pic_of[payment.tenant], payment.tenant, payment.payment_id, number % DECLINED_EVERY == 0)


def _outcomes(rig: Rig) -> dict[str, set[str]]:
    decode, found = Codec().decoder(PaymentCompleted), dict[str, set[str]]()
    for message in read_all(rig.access, topics.COMPLETED.name):
        event = decode(message.value())
        found.setdefault(f"{event.tenant}|{event.payment_id}", set()).add(event.outcome)
    return found


def _waiting(rig: Rig) -> set[str]:
    """Payments that a person was told of."""
    return {message.key().decode() for message in read_all(rig.access, topics.PARKED.name)}


def _settle(rig: Rig, traffic: Traffic, patience_s: float) -> set[str]:
    """Wait until every payment has its outcome, or waits for a person at the PIC that can do neither, or is asked about later
    than there is patience: gives those."""
    posted = list(_posted(traffic))
    deadline = time.monotonic() + patience_s + SETTLE_TIMEOUT_S
    while True:
        rig.check()
        ended = _outcomes(rig)
        left = [payment for payment in posted if payment.name not in ended]
        later = asked_later(rig.access, CAN, patience_s) if left else set()
        waiting = _waiting(rig) if left else set()
        missing = [each for each in left if each.name not in (waiting if each.pic == NEITHER else later)]
        if not missing or time.monotonic() > deadline:  # The recount tells what is missing.
            return later & {payment.name for payment in left}
        time.sleep(2.0)


def _recount(
    rig: Rig, traffic: Traffic, interrupted: list[tuple[str, str, str, int]], report: Report, later: set[str]
) -> None:
    posted = list(_posted(traffic))
    ended, waiting = _outcomes(rig), _waiting(rig)
    known = _entries(rig.folder)
    called = set().union(*(_called(rig.folder / f"{pic}.trace") for pic in CAN))
    report.pics = {pic: AtPic() for pic in CAN}
    _count_interrupted(rig, interrupted, report)
    mistakes: dict[str, list[str]] = {}
    for payment in posted:
        at = report.pics[payment.pic]
        mine = known.get(payment.name, [])
        waits = payment.name in (waiting if payment.pic == NEITHER else later)
        for mistake in _judged(payment, mine, ended.get(payment.name, set()), waits):
            mistakes.setdefault(f"{payment.pic}: {mistake}", []).append(payment.name)
        charges = sum(entry.charges for entry in mine)
        outcome = ended.get(payment.name)
        at.payments += 1
        at.paid += outcome == {"paid"}
        at.declined += outcome == {"declined"}
        at.asked_later += outcome is None and payment.pic != NEITHER and waits
        at.waiting += outcome is None
        at.waiting_charged += outcome is None and charges > 0
        at.waiting_never_called += outcome is None and payment.name not in called
        at.calls += sum(entry.calls for entry in mine)
        at.lookups += sum(entry.lookups for entry in mine)
        at.called_again += sum(entry.calls > 1 for entry in mine)
    report.mistakes = [f"{what}: {len(names)} payments, {few(names)}" for what, names in mistakes.items()]
    strange = ended.keys() - {payment.name for payment in posted}
    if strange:
        report.mistakes.append(f"outcomes of payments that nobody posted: {few(strange)}")


def _judged(payment: _Posted, entries: list[Entry], outcome: set[str], waits: bool) -> Iterator[str]:
    """What must not be, from what the PIC's ledger has of a payment and what was said of it."""
    charges = sum(entry.charges for entry in entries)
    if charges > 1:
        yield "charged more than once"
    if charges and payment.declined:
        yield "charged, though its card is declined"
    if len(outcome) > 1:
        yield "several outcomes"
    if outcome == {"paid"} and not charges:
        yield "paid, and the PIC knows nothing of it"
    if outcome and outcome != {"paid"} and (charges or not payment.declined):
        yield f"ended as {', '.join(sorted(outcome))}"
    if not outcome and not waits:
        yield f"neither an outcome nor {'waiting for a person' if payment.pic == NEITHER else 'asked about later'}"


def _entries(folder: Path) -> dict[str, list[Entry]]:
    """What the PICs have of each payment, all its attempts."""
    found: dict[str, list[Entry]] = {}
    for pic in CAN:
        ledger = SqliteLedger(folder / f"{pic}.db")
        try:
            for attempt, entry in ledger.entries().items():
                found.setdefault(_payment_of(attempt), []).append(entry)
        finally:
            ledger.close()
    return found


def _called(trace: Path) -> set[str]:
    """Payments for which the PIC was ever called."""
    return {_payment_of(line.split(" ", 1)[1]) for line in trace.read_text().splitlines()}


def _payment_of(attempt: str) -> str:
    return "|".join(attempt.split("|")[:2])


def _count_interrupted(rig: Rig, interrupted: list[tuple[str, str, str, int]], report: Report) -> None:
    """Of what was answered before a kill, only what was not published then."""
    decode = Codec().decoder(PaymentAnswered)
    published_ms: dict[str, int] = {}
    for message in read_all(rig.access, topics.ANSWERED.name):
        answer = decode(message.value())
        key = attempt_id(answer.tenant, answer.payment_id, answer.attempt)
        published_ms[key] = min(answer.answered_at_ms, published_ms.get(key, answer.answered_at_ms))
    for pic, attempt, step, killed_ms in interrupted:
        if step != "answered" or published_ms.get(attempt, killed_ms + 1) > killed_ms:
            report.pics[pic].interrupted[step] += 1
