"""``ptr bench``: measure the pipeline on this machine."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connectors.broker.local import LocalKafka, LocalKafkaError
from pipeline.rig import RigError

RATES = (200.0, 1000.0, 3000.0)
#: The control is slow; its rate does not depend on how many it is given.
CONTROL_PAYMENTS_MAX = 3000


@contextmanager
def _fresh(folder: Path, name: str) -> Iterator[tuple[LocalKafka, Path]]:
    """A new broker for each measurement: nothing of one is read by the next."""
    place = folder / name
    with LocalKafka(place / "kafka") as kafka:
        yield kafka, place
    shutil.rmtree(place, ignore_errors=True)


@click.group(invoke_without_command=True)
@click.option("--payments", type=click.IntRange(1000, 5_000_000), default=200_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=1, show_default=True, help="Of the throughput part.")
@click.option("--rates", default=",".join(f"{rate:g}" for rate in RATES), show_default=True, help="PTR/s for latency.")
@click.option("--database", default="", help="Audit database; by default SQLite in a temporary folder.")
@click.option("--control/--no-control", default=True, help="Plain Faust agents beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON, units in the keys.")
@click.pass_context
def bench(
    ctx: click.Context, payments: int, rounds: int, rates: str, database: str, control: bool, as_json: bool
) -> None:
    """Measure throughput, latency, CPU and memory on a real Kafka that is started here.

    Figures are of this machine in this hour: compare only what one run printed.

    \b
    Examples:
      ptr bench
      ptr bench --payments 50000 --rates 200 --json
      ptr bench engine --rounds 3          five stages with trivial decisions: the engine alone
    """
    if ctx.invoked_subcommand is not None:
        return
    try:
        wanted = [float(rate) for rate in rates.split(",") if rate]
    except ValueError:
        raise click.UsageError(f"--rates takes numbers separated by commas, not {rates!r}") from None
    from pipeline.bench import measure

    say = _teller()

    def run(folder: Path) -> dict[str, Any]:
        figures: dict[str, Any] = {"payments": payments}
        completed, audited = [], []
        for number in range(rounds):
            with _fresh(folder, f"throughput-{number}") as (kafka, place):
                plain = measure.throughput(kafka, place, payments, sink=False, database="", say=say)
            with _fresh(folder, f"audit-{number}") as (kafka, place):
                with_sink = measure.throughput(kafka, place, payments, sink=True, database=database, say=say)
            completed.append(plain["completed_ptr_per_s"])
            audited.append(with_sink["audited_ptr_per_s"])
            figures["without_sink"], figures["with_sink"] = plain, with_sink
        figures |= _spread("completed_ptr_per_s", completed) | _spread("audited_ptr_per_s", audited)
        if control:
            with _fresh(folder, "control") as (kafka, place):
                control_rate = measure.plain_faust(
                    kafka, place, min(max(payments // 20, 1000), CONTROL_PAYMENTS_MAX), say
                )
            figures["plain_faust_ptr_per_s"] = control_rate
            if control_rate:
                figures["ratio_to_plain_faust"] = round(figures["completed_ptr_per_s"] / control_rate, 1)
        figures["latency"] = {}
        for rate in wanted:
            with _fresh(folder, f"latency-{rate:g}") as (kafka, place):
                figures["latency"][f"at_{rate:g}_ptr_per_s"] = measure.latency(kafka, place, rate, say)
        with _fresh(folder, "idle") as (kafka, place):
            figures["idle_percent_of_core"] = measure.idle(kafka, place, say)
        return figures

    _report(_in_folder(run), as_json)


@bench.command()
@click.option("--payments", type=click.IntRange(1000, 5_000_000), default=200_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print figures as JSON, units in the keys.")
def engine(payments: int, rounds: int, as_json: bool) -> None:
    """The engine alone: five stages with trivial decisions, four tables, two workers.

    \b
    Examples:
      ptr bench engine
      ptr bench engine --rounds 3 --json
    """
    from pipeline.bench import measure

    say = _teller()

    def run(folder: Path) -> dict[str, Any]:
        rates, figures = [], {}
        for number in range(rounds):
            with _fresh(folder, f"engine-{number}") as (kafka, place):
                figures = measure.engine(kafka, place, payments, say)
            rates.append(figures["engine_ptr_per_s"])
        return {"payments": payments} | figures | _spread("engine_ptr_per_s", rates)

    _report(_in_folder(run), as_json)


def _spread(name: str, values: list[int]) -> dict[str, Any]:
    """The median, and with several rounds the minimum beside it."""
    spread: dict[str, Any] = {name: round(statistics.median(values))}
    if len(values) > 1:
        spread[f"{name}_min"] = min(values)
        spread[f"{name}_rounds"] = values
    return spread


def _teller() -> Callable[[str], None]:
    return lambda line: click.echo(line, err=True)


def _in_folder(run: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="ptr-bench-"))
    try:
        return run(folder)
    except (LocalKafkaError, RigError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _report(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
        return
    table = Table(title="measured on this machine")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in _flat(figures):
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value
