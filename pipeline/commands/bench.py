"""``ptr bench``: measure the pipeline on this machine, part by part."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.table import Table

from connectors.broker.local import LocalKafka, LocalKafkaError
from pipeline.commands.interrupts import INTERRUPTED, one_interrupt
from pipeline.commands.shared import print_json
from pipeline.rig import RigError

PARTS = ("machine", "throughput", "audit", "control", "latency", "idle")
PARTITIONS = 4
RATES = (200.0, 1000.0, 3000.0)
#: The control is slow; its rate does not depend on how many it is given.
CONTROL_PAYMENTS_MAX = 3000

Figures = dict[str, Any]
Say = Callable[[str], None]


class Measures(Protocol):
    """The measurements, each on a broker of its own under a new folder."""

    def machine(self, say: Say) -> Figures:
        """How fast Python runs and what the smallest publication costs here: what the other figures stand beside."""

    def throughput(self, payments: int, say: Say) -> Figures:
        """PTR/s to the outcomes, without the audit sink: ``completed_ptr_per_s`` and what it cost."""

    def audit(self, payments: int, database: str, say: Say) -> Figures:
        """The same with the audit sink: ``audited_ptr_per_s`` too."""

    def control(self, payments: int, say: Say) -> int | None:
        """PTR/s of plain Faust agents; None where they are not at hand."""

    def latencies(self, rates: Sequence[float], say: Say) -> Generator[Figures]:
        """For each rate, when it is asked for: ``p50_ms``, ``p99_ms``, ``max_ms``, ``counted``. Closed after the last."""

    def idle(self, say: Say) -> Figures:
        """Percent of a core of each worker that has nothing to do."""

    def engine(self, payments: int, say: Say) -> Figures:
        """The engine alone: ``engine_ptr_per_s`` and what it cost."""


class RealMeasures:
    """On a real Kafka that is started and ended here."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self._folder, self._partitions, self._made = folder, partitions, 0

    @contextmanager
    def _fresh(self) -> Iterator[tuple[LocalKafka, Path]]:
        """A new broker for each measurement: nothing of one is read by the next."""
        self._made += 1
        place = self._folder / str(self._made)
        with LocalKafka(place / "kafka") as kafka:
            yield kafka, place
        shutil.rmtree(place, ignore_errors=True)

    def machine(self, say: Say) -> Figures:
        from pipeline.bench import machine

        with self._fresh() as (kafka, _):
            say("publishing one record after the other")
            return machine.measure(kafka)

    def throughput(self, payments: int, say: Say) -> Figures:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            return measure.throughput(
                kafka, place, payments, sink=False, database="", partitions=self._partitions, say=say
            )

    def audit(self, payments: int, database: str, say: Say) -> Figures:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            return measure.throughput(
                kafka, place, payments, sink=True, database=database, partitions=self._partitions, say=say
            )

    def control(self, payments: int, say: Say) -> int | None:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            return measure.plain_faust(kafka, place, payments, self._partitions, say)

    def latencies(self, rates: Sequence[float], say: Say) -> Generator[Figures]:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            yield from measure.latencies(kafka, place, rates, self._partitions, say)

    def idle(self, say: Say) -> Figures:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            return measure.idle(kafka, place, self._partitions, say)

    def engine(self, payments: int, say: Say) -> Figures:
        from pipeline.bench import measure

        with self._fresh() as (kafka, place):
            return measure.engine(kafka, place, payments, say)


@dataclass(frozen=True, slots=True)
class _Part:
    """One measurement: ``run`` puts its figures into the report and gives them in words."""

    name: str
    run: Callable[[], str]


class _Teller:
    """Lines on standard error with the time since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, line: str) -> None:
        click.echo(f"[{self.stamp()}] {line}", err=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def stamp(self) -> str:
        """``minutes:seconds``."""
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"{minutes}:{seconds:02}"


@dataclass
class _Run:
    """Measures part after part; whatever ends it, what was measured is reported."""

    figures: Figures
    say: _Teller
    missing: list[str] = field(default_factory=list)
    #: What ends with the last part, or with the one that was interrupted.
    ends: ExitStack = field(default_factory=ExitStack)
    #: Why a part failed; empty when none did.
    failure: str = ""
    interrupted: bool = False

    def go(self, parts: Sequence[_Part]) -> None:
        """Run ``parts`` in order, telling each one's figures as soon as they are known."""
        self.missing = [part.name for part in parts]
        try:
            with one_interrupt(), self.ends:
                for number, part in enumerate(parts, 1):
                    self.say(f"part {number} of {len(parts)}: {part.name}")
                    words = part.run()
                    self.missing.remove(part.name)
                    after = f"next: {parts[number].name}" if number < len(parts) else "that was the last part"
                    self.say(f"part {number} of {len(parts)}, {part.name}: {words}; {after}")
        except KeyboardInterrupt:
            self.interrupted = True
        except (LocalKafkaError, RigError) as error:
            self.failure = f"{self.missing[0]}: {error}"
        self.figures |= {"missing": self.missing, "elapsed_s": round(self.say.seconds)}

    def report(self, as_json: bool) -> None:
        """Print what was measured, and end with the code that says how complete it is."""
        _print(self.figures, as_json)
        if self.missing:
            click.echo(f"not measured: {', '.join(self.missing)}", err=True)
        if self.failure:
            raise click.ClickException(self.failure)
        if self.interrupted:
            raise click.exceptions.Exit(INTERRUPTED)


def _numbers(ctx: click.Context, param: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter(f"takes numbers separated by commas, not {text!r}") from None
    if not all(0 < rate <= 1_000_000 for rate in rates) or len(set(rates)) < len(rates):
        raise click.BadParameter("takes different rates above 0 and at most 1,000,000")
    return rates


def _parts_named(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    wanted = {word.strip() for word in text.split(",")}
    if unknown := wanted - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown)) or 'nothing'}: choose from {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


@contextmanager
def _measures(ctx: click.Context, partitions: int = PARTITIONS) -> Iterator[Measures]:
    """The measurements to use: those that the caller gave, or the real ones in a temporary folder."""
    if ctx.obj is not None:
        yield ctx.obj
        return
    folder = Path(tempfile.mkdtemp(prefix="ptr-bench-"))
    try:
        yield RealMeasures(folder, partitions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_payments = click.option(
    "--payments",
    type=click.IntRange(1000, 5_000_000),
    default=200_000,
    show_default=True,
    help="PTRs of the throughput, audit and engine parts.",
)
_rounds = click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Of throughput, audit and engine; the median counts.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print figures as JSON, units in the keys.")


@click.group(invoke_without_command=True)
@_payments
@_rounds
@click.option(
    "--rates",
    default=",".join(f"{rate:g}" for rate in RATES),
    show_default=True,
    callback=_numbers,
    help="PTR/s for latency.",
)
@click.option(
    "--only",
    "wanted",
    default=",".join(PARTS),
    show_default=True,
    callback=_parts_named,
    metavar="PART[,PART]",
    help="Parts to measure.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 64),
    default=PARTITIONS,
    show_default=True,
    help="Of every topic: fewer cost the broker fewer requests, so small loads are answered sooner.",
)
@click.option("--database", default="", help="Audit database; by default SQLite in a temporary folder.")
@click.option("--control/--no-control", default=True, help="Plain Faust agents beside it.")
@_as_json
@click.pass_context
def bench(
    ctx: click.Context,
    payments: int,
    rounds: int,
    rates: tuple[float, ...],
    wanted: tuple[str, ...],
    partitions: int,
    database: str,
    control: bool,
    as_json: bool,
) -> None:
    """Measure throughput, latency, CPU and memory on a real Kafka that is started here.

    Each part's figures are told on standard error as soon as they are known, and all of them at the end in one table, or
    as JSON, also after Ctrl-C (code 130), with what is missing. Figures are of this machine in this hour, and the first part
    says what machine that is: a payment takes seven publications one after the other, whatever the pipeline does.

    \b
    Examples:
      ptr bench
      ptr bench --only throughput,latency --payments 50000 --rates 200 --json
      ptr bench --only latency --partitions 1
      ptr bench engine --rounds 3          five stages with trivial decisions: the engine alone
    """
    if ctx.invoked_subcommand is not None:
        return
    if not control:
        wanted = tuple(part for part in wanted if part != "control")
    if not wanted:
        raise click.UsageError("--only control and --no-control leave nothing to measure")
    run = _Run({"payments": payments, "partitions": partitions}, _Teller())
    with _measures(ctx, partitions) as measures:
        run.go(list(_parts(measures, run, wanted, payments, rounds, rates, database)))
    run.report(as_json)


def _parts(
    measures: Measures,
    run: _Run,
    wanted: Sequence[str],
    payments: int,
    rounds: int,
    rates: Sequence[float],
    database: str,
) -> Iterator[_Part]:
    figures, say = run.figures, run.say
    completed: list[int] = []
    audited: list[int] = []
    latencies = measures.latencies(rates, say)
    run.ends.callback(latencies.close)

    def machine() -> str:
        figures["machine"] = found = measures.machine(say)
        return (
            f"{found['python_step_ns']} ns a step of Python, {found['publish_ms']} ms to publish a record, "
            f"{found['broker_cpu_ms_per_publish']} ms of the broker's processor"
        )

    def throughput() -> str:
        figures["without_sink"] = found = measures.throughput(payments, say)
        completed.append(found["completed_ptr_per_s"])
        figures.update(_spread("completed_ptr_per_s", completed))
        return f"{completed[-1]:,} PTR/s to their outcomes"

    def audit() -> str:
        figures["with_sink"] = found = measures.audit(payments, database, say)
        audited.append(found["audited_ptr_per_s"])
        figures.update(_spread("audited_ptr_per_s", audited))
        return f"{audited[-1]:,} PTR/s to the audit tables"

    def control() -> str:
        found = measures.control(min(max(payments // 20, 1000), CONTROL_PAYMENTS_MAX), say)
        figures["plain_faust_ptr_per_s"] = found
        if not found:
            return "the control is not part of an installed package"
        if completed:
            figures["ratio_to_plain_faust"] = round(figures["completed_ptr_per_s"] / found, 1)
        return f"{found:,} PTR/s by plain Faust agents"

    def latency(rate: float) -> str:
        found = next(latencies)
        if rate == rates[-1]:
            latencies.close()
        figures.setdefault("latency", {})[f"at_{rate:g}_ptr_per_s"] = found
        return f"p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms"

    def idle() -> str:
        figures["idle_percent_of_core"] = found = measures.idle(say)
        return ", ".join(f"{name} {percent} % of a core" for name, percent in found.items())

    if "machine" in wanted:
        yield _Part("machine", machine)
    # Throughput and audit in turns: what the machine does meanwhile hits both.
    for number in range(1, rounds + 1):
        suffix = f", round {number}" if rounds > 1 else ""
        for name, part in (("throughput", throughput), ("audit", audit)):
            if name in wanted:
                yield _Part(name + suffix, part)
    if "control" in wanted:
        yield _Part("control", control)
    if "latency" in wanted:
        for rate in rates:
            yield _Part(f"latency at {rate:g} PTR/s", lambda rate=rate: latency(rate))  # type: ignore[misc]
    if "idle" in wanted:
        yield _Part("idle", idle)


@bench.command()
@_payments
@_rounds
@_as_json
@click.pass_context
def engine(ctx: click.Context, payments: int, rounds: int, as_json: bool) -> None:
    """The engine alone: five stages with trivial decisions, four tables, two workers.

    \b
    Examples:
      ptr bench engine
      ptr bench engine --rounds 3 --json
    """
    run = _Run({"payments": payments}, _Teller())
    rates: list[int] = []
    with _measures(ctx) as measures:

        def one() -> str:
            run.figures |= measures.engine(payments, run.say)
            rates.append(run.figures["engine_ptr_per_s"])
            run.figures |= _spread("engine_ptr_per_s", rates)
            return f"{rates[-1]:,} PTR/s"

        run.go([_Part(f"engine, round {n}" if rounds > 1 else "engine", one) for n in range(1, rounds + 1)])
    run.report(as_json)


#: What issue 4 asks of each figure of ``bench screening``, in words.
_TO_REACH = {
    "pairs f1_cross_validated": ">= 0.83",
    "un recall": ">= 0.995",
    "un false_alarms_per_1000": "<= 1",
    "portal share_within_5_points": ">= 0.9",
    "speed load_s": "< 2",
    "speed names_per_s": ">= 2,000",
    "speed p99_us": "< 5,000",
    "speed seen_before_us": "a few",
}


@bench.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
    help="Folder of the public reference data.",
)
@_as_json
def screening(data: Path, as_json: bool) -> None:
    """How good and how fast name matching is, on public lists and labelled names; no Kafka.

    Quality is the same on every machine; times are of this one, on one core.

    \b
    Examples:
      ptr bench screening
      ptr bench screening --data ../shared/data --json
    """
    from pipeline.bench.screening import DataError, measure

    try:
        figures = measure(data)
    except DataError as error:
        raise click.ClickException(str(error)) from None
    _print(figures, as_json, _TO_REACH)


#: What issue 4 asks of each figure of ``bench fraud``, in words.
_FRAUD_TO_REACH = {
    "test auc": ">= 0.87",
    "test average_precision": ">= 0.67",
    "test card_precision_100": ">= 0.29",
    "features_and_model_us per_payment": "< 60",
    "peak_memory_mb fraud": "< 400",
}


@bench.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
    help="Folder of the public reference data.",
)
@_as_json
@click.pass_context
def fraud(ctx: click.Context, data: Path, as_json: bool) -> None:
    """How well fraud is found: the Fraud Detection Handbook's transactions through the pipeline, on a real Kafka.

    58 days are replayed, labels arrive a week later as chargebacks, a model is trained on 25 to 31 July 2018, promoted,
    and tested on 8 to 14 August by the scores in payments.scored.v1, with the handbook's protocol. Takes some minutes.

    \b
    Examples:
      ptr bench fraud
      ptr bench fraud --data ../shared/data --json
    """
    from pipeline.bench.fraud import DataError, measure
    from pipeline.training.fit import TrainingError

    with one_interrupt(), tempfile.TemporaryDirectory(prefix="ptr-bench-") as folder:
        try:
            with LocalKafka(Path(folder) / "kafka") as kafka:
                figures = measure(kafka, Path(folder) / "rig", data, _Teller())
        except (DataError, TrainingError, RigError, LocalKafkaError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
    _print(figures, as_json, _FRAUD_TO_REACH)


@bench.command()
@_as_json
def rules(as_json: bool) -> None:
    """What business rules cost a payment, in microseconds; no Kafka.

    Ten rules of ten conditions, the base rule sets, and the worst rules that the checks let pass. Times are of this machine,
    on one core.

    \b
    Examples:
      ptr bench rules
      ptr bench rules --json
    """
    from pipeline.bench.rules import measure

    _print(measure(), as_json, {"ten_of_ten_whole_us": "< 60"})


@contextmanager
def _a_kafka() -> Iterator[tuple[str, Path]]:
    """A broker's address and a folder, for as long as the context is open; what ends it ends the command with its code."""
    with one_interrupt(), tempfile.TemporaryDirectory(prefix="ptr-bench-") as folder:
        try:
            with LocalKafka(Path(folder) / "kafka") as kafka:
                yield kafka.address, Path(folder) / "rig"
        except (RigError, LocalKafkaError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


_BULKHEAD_TO_REACH = {
    "pic_2_p99_ratio_elsewhere": "<= 1.2",
    "pic_2_p99_ratio_onto": "<= 1.2",
    "failed_over_percent": ">= 99",
    "without_outcome": "0",
    "charged_more_than_once": "0",
    "charged_not_at_all": "0",
}


@bench.command()
@click.option(
    "--minutes", type=click.FloatRange(0.1, 60), default=10.0, show_default=True, help="How long the PIC is silent."
)
@click.option(
    "--rate",
    type=click.FloatRange(3, 1000),
    default=15.0,
    show_default=True,
    help="Payments a second, of all tenants. Half of the CPU is to be left before the silence.",
)
@click.option(
    "--window-s",
    type=click.FloatRange(2, 600),
    default=30.0,
    show_default=True,
    help="Length of a window; what may fail over goes elsewhere, and onto the other PIC, in turn.",
)
@click.option(
    "--before-s",
    type=click.FloatRange(4, 3600),
    default=120.0,
    show_default=True,
    help="How long all PICs answer first.",
)
@_as_json
def bulkhead(minutes: float, rate: float, window_s: float, before_s: float, as_json: bool) -> None:
    """One PIC answers nothing: how fast another's payments are meanwhile, and what becomes of those that may fail over.

    \b
    Examples:
      ptr bench bulkhead
      ptr bench bulkhead --minutes 1 --rate 60 --json
    """
    from pipeline.bench.bulkhead import measure

    with _a_kafka() as (broker, folder):
        figures = measure(
            broker, folder, silent_s=60 * minutes, before_s=before_s, window_s=window_s, rate=rate, say=_Teller()
        )
    _print(figures, as_json, _BULKHEAD_TO_REACH)


@bench.command()
@click.option(
    "--payments", type=click.IntRange(1000, 1_000_000), default=100_000, show_default=True, help="Waiting in the queue."
)
@click.option(
    "--takes-ms",
    type=click.FloatRange(0, 10_000),
    default=50.0,
    show_default=True,
    help="How long the PIC takes for a call.",
)
@_as_json
def plugin(payments: int, takes_ms: float, as_json: bool) -> None:
    """How many calls a second one plugin process makes at a PIC that takes its time, and its memory with a long queue.

    \b
    Examples:
      ptr bench plugin
      ptr bench plugin --payments 20000 --takes-ms 200 --json
    """
    from pipeline.bench.plugin import measure

    with _a_kafka() as (broker, folder):
        figures = measure(broker, folder, payments=payments, takes_s=takes_ms / 1000, say=_Teller())
    _print(figures, as_json, {"calls_per_s": ">= 1,000", "called_more_than_once": "0"})


def _spread(name: str, values: list[int]) -> Figures:
    """The median, and with several rounds the minimum and all of them beside it."""
    spread: Figures = {name: round(statistics.median(values))}
    if len(values) > 1:
        spread[f"{name}_min"] = min(values)
        spread[f"{name}_rounds"] = list(values)
    return spread


def _print(figures: Figures, as_json: bool, to_reach: Mapping[str, str] | None = None) -> None:
    if as_json:
        print_json(figures)
        return
    table = Table(title="measured on this machine")
    table.add_column("figure")
    table.add_column("value", justify="right")
    if to_reach:
        table.add_column("to reach", justify="right")
    for name, value in _flat(figures):
        cells = [name, f"{value:,}" if isinstance(value, int) else _words(value)]
        table.add_row(*cells, *([to_reach.get(name, "")] if to_reach else []))
    Console().print(table)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _flat(figures: Figures, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif value != []:
            yield prefix + name, value
