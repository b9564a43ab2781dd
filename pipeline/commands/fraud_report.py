"""``ptr fraud report``: what fraud's decisions were worth, from the audit tables."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from connectors.broker.transaction import PublishError
from connectors.models.book import CHAMPION
from connectors.models.onnx_model import OnnxModel
from connectors.models.topic import read_all
from connectors.registry import RegistryError
from connectors.sinks.archives import ArchiveFileError, not_here
from connectors.sinks.database import DatabaseError, open_database
from connectors.sinks.judged import judged_payments
from pipeline.commands.shared import (
    DAY_MS,
    archive_option,
    broker_option,
    codec_of,
    day_ms,
    day_of,
    print_json,
    report_days_options,
    report_range,
    settings_with,
)
from pipeline.reports.fraud import FraudReport
from pipeline.reports.fraud_page import about_of, drift_rows, html_of, ranking_rows, rule_rows, week_rows
from pipeline.settings import Settings
from pipeline.stages.fraud_model import ModelFacts, UnusableModelError
from schemas.identity import TENANT_PATTERN

#: A report needs no broker: without one it has no drift.
BROKER_TIMEOUT_S: Final = 5.0


@click.command()
@click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE).")
@click.option("--tenant", default="", help="Only this tenant (default: all).")
@report_days_options
@archive_option
@click.option("--as-of", metavar="YYYY-MM-DD", help="With labels known at the beginning of this day (default: now).")
@click.option(
    "--model",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Drift against this model's training window (default: the champion in Kafka).",
)
@click.option("--no-drift", is_flag=True, help="Leave drift out, and Kafka alone.")
@click.option("--format", "shape", type=click.Choice(["table", "json", "html"]), default="table", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it here and not to the screen.")
@broker_option
def report(
    database: str | None,
    tenant: str,
    from_: str | None,
    to: str | None,
    archive_folder: Path | None,
    as_of: str | None,
    model: Path | None,
    no_drift: bool,
    shape: str,
    output: Path | None,
    broker: str | None,
) -> None:
    """Precision, recall, average precision, alerts and money by week and by rule, and drift of features.

    Labels are chargebacks and refunds with a reason of fraud, and reviews; a payment that went through and of which nothing
    was heard for seven days counts as genuine. The HTML page is one file without scripts; print it or send it.

    \b
    Examples:
      ptr fraud report
      ptr fraud report --tenant aurora --from 2026-10-01 --to 2026-11-01
      ptr fraud report --format html --output fraud.html
      ptr fraud report --format json --no-drift
      ptr fraud report --from 2025-01-01 --to 2026-01-01 --archive /mnt/archive
      ptr report fraud                              the same
    """
    if tenant and not TENANT_PATTERN.match(tenant):
        raise click.UsageError("--tenant is not a tenant's id")
    now_ms = int(time.time() * 1000)
    tomorrow_ms = (now_ms // DAY_MS + 1) * DAY_MS
    from_ms, until_ms = report_range(from_, to, tomorrow_ms=tomorrow_ms, begin_ms=day_ms)
    as_of_ms = day_ms(as_of) if as_of else now_ms
    loaded = settings_with(database=database, broker=broker)
    facts, drift = (None, "Drift was left out.") if no_drift else _model(loaded, model)
    made = FraudReport(facts.description.get("histograms", {}) if facts else None)
    try:
        with closing(open_database(loaded.database)) as opened, opened.snapshot():
            for judged in judged_payments(
                opened, tenant=tenant, from_ms=from_ms, until_ms=until_ms, as_of_ms=as_of_ms, archive=archive_folder
            ):
                made.add(judged)
            missing = not_here(opened, tenant, from_ms, until_ms) if archive_folder is None else ""
    except (DatabaseError, ArchiveFileError) as error:
        raise click.ClickException(str(error)) from None
    about = {
        "tenant": tenant,
        "from": day_of(from_ms),
        "until": day_of(until_ms),
        "as_of": day_of(as_of_ms),
        "drift": drift,
    } | ({"missing": missing} if missing else {})
    data: dict[str, Any] = {"about": about} | made.data()
    if output is None:
        _show(data, shape)
        return
    output.write_text(_written(data, shape), encoding="utf-8")
    click.echo(f"{output} holds the report of {data['total']['payments']:,} payments")


def _show(data: dict[str, Any], shape: str) -> None:
    if shape == "json":
        print_json(data)
    elif shape == "html":
        click.echo(html_of(data))
    else:
        _print_tables(data, Console(markup=False, highlight=False))


def _written(data: dict[str, Any], shape: str) -> str:
    if shape == "html":
        return html_of(data)
    if shape == "json":
        import msgspec

        return msgspec.json.format(msgspec.json.encode(data)).decode() + "\n"
    console = Console(markup=False, highlight=False, width=220, record=True, quiet=True)
    _print_tables(data, console)
    return console.export_text()


def _print_tables(data: dict[str, Any], console: Console) -> None:
    console.print(about_of(data), soft_wrap=True)
    for title, (headings, rows) in {
        "By week": week_rows(data),
        "Scores": ranking_rows(data),
        "By rule": rule_rows(data),
        f"Drift. {data['about']['drift']}": drift_rows(data),
    }.items():
        console.print(f"\n{title}")
        if not rows:
            continue
        table = Table(box=None, pad_edge=False)
        for heading in headings:
            table.add_column(heading, justify="left" if heading == headings[0] else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def _model(loaded: Settings, file: Path | None) -> tuple[ModelFacts | None, str]:
    """The model whose training window features are compared with, and what to say of it."""
    if file is not None:
        try:
            found = OnnxModel(file.read_bytes())
        except UnusableModelError as error:
            raise click.ClickException(f"{file}: {error}") from None
        return found.facts, f"Against the training window of {found.version}."
    try:
        contents = read_all(loaded.access, codec_of(loaded), timeout_s=BROKER_TIMEOUT_S)
        champion = contents.version(CHAMPION)
        if champion:
            return contents.model(champion).facts, f"Against the training window of the champion, {champion}."
    except (PublishError, RegistryError) as error:
        return None, f"No drift: the champion cannot be read ({error})"
    return None, "No drift: there is no champion; name a model with --model."
