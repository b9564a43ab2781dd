"""``ptr chaos``: kill processes while payments flow, and recount."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from connectors.broker.local import LocalKafka, LocalKafkaError
from pipeline.commands.interrupts import INTERRUPTED, one_interrupt
from pipeline.commands.shared import print_json, settings_with
from pipeline.rig import RigError


@click.command()
@click.option("--payments", type=click.IntRange(100, 1_000_000), default=20_000, show_default=True)
@click.option("--kills", type=click.IntRange(0, 1000), default=20, show_default=True, help="kill -9, any process.")
@click.option("--stops", type=click.IntRange(0, 100), default=3, show_default=True, help="SIGSTOP beyond the session.")
@click.option(
    "--pic-calls",
    type=click.IntRange(1, 10_000),
    help="Instead: so many kill -9 of the worker, each around its calls to a PIC.",
)
@click.option("--rate", type=click.FloatRange(1, 100_000), default=250.0, show_default=True, help="PTRs a second.")
@click.option("--seed", type=int, help="Draws victims and moments; printed, so that a run can be repeated.")
@click.option("--broker", help="A Kafka of your own, empty; by default one is started and ended here.")
@click.option("--database", default="", help="Audit database; by default SQLite in a temporary folder.")
@click.option("--keep", is_flag=True, help="Keep the folder with logs and state.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def chaos(
    payments: int,
    kills: int,
    stops: int,
    pic_calls: int | None,
    rate: float,
    seed: int | None,
    broker: str | None,
    database: str,
    keep: bool,
    as_json: bool,
) -> None:
    """Kill and stop workers and audit sink while payments flow, then recount everything from the input alone.

    Some payments are referred: a scripted reviewer approves or rejects them, contradicts itself, or lets their time pass.

    Exit code 1 when anything is not exact: an outcome missing or twice, a bucket off by one, an audit row too few or too
    many, a PIC called twice.

    With --pic-calls payments flow to three PICs: one deduplicates, one only looks up, one can do neither. The worker is killed
    before, during and right after calls; then what was charged is counted at the PICs: never twice, and no payment without an
    outcome, but for those that the third PIC leaves to a person.

    \b
    Examples:
      ptr chaos
      ptr chaos --payments 3000 --kills 3 --stops 1 --seed 7
      ptr chaos --pic-calls 200 --seed 7
    """
    from pipeline.bench import chaos as scenario
    from pipeline.bench import chaos_calls

    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    what = f"{pic_calls} kills around calls" if pic_calls else f"{payments} payments, {kills} kills, {stops} stops"
    click.echo(f"seed {seed}: {what}", err=True)
    folder = Path(tempfile.mkdtemp(prefix="ptr-chaos-"))
    try:
        with one_interrupt(), ExitStack() as stack:
            access = (
                settings_with(broker=broker).access
                if broker
                else stack.enter_context(LocalKafka(folder / "kafka")).address
            )
            report: scenario.Report | chaos_calls.Report
            if pic_calls:
                report = chaos_calls.run(access, folder, kills=pic_calls, seed=seed, say=_say)
            else:
                report = scenario.run(
                    access,
                    folder,
                    payments=payments,
                    kills=kills,
                    stops=stops,
                    seed=seed,
                    rate=rate,
                    database=database,
                    say=_say,
                )
    except (LocalKafkaError, RigError) as error:
        raise click.ClickException(f"{error}\nlogs are in {folder}") from error
    except KeyboardInterrupt:
        click.echo(f"ended by Ctrl-C; nothing is left running; logs are in {folder}", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        print_json(asdict(report))
    else:
        click.echo("\n".join([*report.words(), *(report.mistakes or [report.EXACT])]))
    if report.mistakes:
        click.echo(f"logs and state are in {folder}", err=True)
        sys.exit(1)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    click.echo(line, err=True)
