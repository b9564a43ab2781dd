"""``ptr fraud``: train models on what was recorded, publish them, give them roles."""

from __future__ import annotations

import time
from collections.abc import Mapping
from getpass import getuser
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from connectors.broker.follow import TopicReadError
from connectors.broker.transaction import PublishError
from connectors.models.book import CHALLENGER, CHAMPION, EFFECTIVE_DELAY_MS, ROLES
from connectors.models.topic import Contents, promote, publish, read_all
from connectors.sinks.database import DatabaseError, open_database
from pipeline.commands.fraud_report import report
from pipeline.commands.fraud_rules import rules
from pipeline.commands.fraud_snooze import snooze
from pipeline.commands.shared import (
    DAY_MS,
    broker_option,
    codec_of,
    day_ms,
    day_of,
    json_option,
    print_json,
    reader_of,
    settings_with,
)

#: When most labels of a payment are known.
LABEL_DELAY_DAYS: Final = 7
#: What a model is trained on when nobody says otherwise.
WINDOW_DAYS: Final = 28
#: The last days of the window, on which the figures are measured with a model of the days before.
CHECK_SHARE: Final = 0.25


@click.group()
def fraud() -> None:
    """Fraud models, snoozed rules, and reports of what both were worth.

    The champion's score counts; a challenger runs beside it without effect, and both are recorded. Rules are tuned in tenants'
    configurations and snoozed for single payers here.

    \b
    Examples:
      ptr fraud train --output model.onnx
      ptr fraud models list
      ptr fraud rules --tenant aurora
      ptr fraud snooze list
      ptr fraud report --format html --output fraud.html
    """


@fraud.command()
@click.option("--database", metavar="URL", help="Audit database (default: PTR_DATABASE).")
@click.option("--topics", "from_topics_", is_flag=True, help="Read Kafka's topics instead: what they still hold.")
@click.option("--from", "from_", metavar="YYYY-MM-DD", help=f"First day (default: {WINDOW_DAYS} days before --until).")
@click.option(
    "--until",
    metavar="YYYY-MM-DD",
    help=f"The day after the last (default: {LABEL_DELAY_DAYS} days ago, when most labels are known).",
)
@click.option("--tenant", "tenants", multiple=True, metavar="TENANT", help="Only this tenant; may be given again.")
@click.option("--features", metavar="NAME[,NAME]", help="What the model reads (default: everything).")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the ONNX file here.")
@click.option("--publish", "publish_", is_flag=True, help="Publish it to models.updated.v1, without a role.")
@broker_option
@json_option
def train(
    database: str | None,
    from_topics_: bool,
    from_: str | None,
    until: str | None,
    tenants: tuple[str, ...],
    features: str | None,
    output: Path | None,
    publish_: bool,
    broker: str | None,
    as_json: bool,
) -> None:
    """Learn from recorded payments and what became known of them: chargebacks, refunds for fraud, reviews.

    The audit tables keep everything, topics a week: so the tables are read, but for --topics. The figures are of the last
    quarter of the window, by a model that was trained on the days before it; the model that is written is trained on all.

    \b
    Examples:
      ptr fraud train --output model.onnx
      ptr fraud train --from 2026-10-01 --until 2026-11-01 --publish
      ptr fraud train --tenant aurora --topics --output model.onnx --json
    """
    from pipeline.stages.features import MODEL_FEATURES
    from pipeline.training.fit import TrainingError, figures_of
    from pipeline.training.fit import train as train_on
    from pipeline.training.recorded import Recorded, from_database, from_topics

    if output is None and not publish_:
        raise click.UsageError("say what to do with the model: --output FILE, --publish, or both")
    loaded = settings_with(broker=broker, database=database)
    codec = codec_of(loaded)
    names = tuple(features.split(",")) if features else MODEL_FEATURES
    if unknown := [name for name in names if name not in MODEL_FEATURES]:
        raise click.UsageError(f"no feature is called {unknown[0]!r}; there are {', '.join(MODEL_FEATURES)}")
    until_ms = day_ms(until) if until else _today_ms() - LABEL_DELAY_DAYS * DAY_MS
    from_ms = day_ms(from_) if from_ else until_ms - WINDOW_DAYS * DAY_MS
    if from_ms >= until_ms:
        raise click.UsageError("--from must be before --until")
    recorded = Recorded(from_ms, until_ms, frozenset(tenants), known_at_ms=int(time.time() * 1000))
    try:
        if from_topics_:
            from_topics(recorded, loaded.access, codec)
        else:
            tables = open_database(loaded.database)
            try:
                from_database(recorded, tables, reader_of(tables, loaded))
            finally:
                tables.close()
        table = recorded.table()
        window = {"from": day_of(from_ms), "until": day_of(until_ms), "tenants": sorted(tenants) or "all"}
        check_ms = until_ms - int((until_ms - from_ms) * CHECK_SHARE)
        figures = figures_of(table, check_ms, features=names)
        trained = train_on(table.matrix, table.fraud, features=names, window=window, figures=figures)
    except (TrainingError, DatabaseError, TopicReadError) as error:
        raise click.ClickException(str(error)) from None
    if output is not None:
        output.write_bytes(trained.content)
    if publish_:
        _or_fail(lambda: publish(loaded.access, codec, trained.content))
    report = {
        "version": trained.model.version,
        "sha256": trained.model.sha256,
        "bytes": len(trained.content),
        "window": window,
        "payments": len(table.fraud),
        "frauds": int(table.fraud.sum()),
        "figures": figures,
        "output": str(output or ""),
        "published": publish_,
    }
    if as_json:
        print_json(report)
        return
    click.echo(f"model {trained.model.version}: {report['payments']:,} payments, {report['frauds']:,} frauds")
    for name, value in figures.items():
        click.echo(f"  {name}: {value}")
    if output is not None:
        click.echo(f"written to {output}")
    if publish_:
        click.echo(f"published: 'ptr fraud models shadow {trained.model.version}' runs it beside the champion")


@fraud.group()
def models() -> None:
    """Fraud models in models.updated.v1 and their roles.

    A model of a role is taken up by all workers without a restart, for payments that are received from some seconds later.

    \b
    Examples:
      ptr fraud models list
      ptr fraud models shadow 3f2a --by anna --reason "trained on October"
      ptr fraud models promote 3f2a --by anna --reason "better for two weeks"
    """


@models.command("list")
@broker_option
@json_option
def list_(broker: str | None, as_json: bool) -> None:
    """List models: version, role, training, figures.

    \b
    Examples:
      ptr fraud models list
      ptr fraud models list --json
    """
    loaded = settings_with(broker=broker)
    contents: Contents = _or_fail(lambda: read_all(loaded.access, codec_of(loaded)))
    roles = {contents.version(role): role for role in reversed(ROLES)}
    found: list[dict[str, Any]] = []
    for version, head in contents.heads.items():
        described: Mapping[str, Any] = _described(head.description)
        try:
            contents.model(version)
            fault = ""
        except PublishError as error:
            fault = str(error)
        role = roles.get(version, "")
        promoted = contents.promoted[role][version][0] if role else None
        found.append(
            {
                "version": version,
                "role": role,
                "by": promoted.by if promoted else "",
                "reason": promoted.reason if promoted else "",
                "trained_at_ms": head.trained_at_ms,
                "feature_set": head.feature_set,
                "fault": fault,
                "description": described,
            }
        )
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no models: the rules alone score; 'ptr fraud train --publish' makes one")
        return
    for each in found:
        described = dict(each["description"])
        window = described.get("window", {})
        click.echo(
            f"{each['version']}  {each['role'] or '-':<10}  {window.get('from', '?')} to {window.get('until', '?')}"
            f"  {described.get('payments', 0):,} payments, {described.get('frauds', 0):,} frauds"
            + (f"  UNUSABLE: {each['fault']}" if each["fault"] else "")
        )
        for name, value in described.get("figures", {}).items():
            click.echo(f"    {name}: {value}")
        if each["role"]:
            click.echo(f"    {each['role']} by {each['by']}: {each['reason'] or 'no reason given'}")


def _role_options(command: Any) -> Any:
    for option in (
        click.option("--by", metavar="WHO", help="Who decides (default: your user name)."),
        click.option("--reason", metavar="WHY", default="", help="Why; it is kept with the role."),
        click.option("--none", "nothing", is_flag=True, help="Take the role away from whatever has it."),
        broker_option,
        json_option,
    ):
        command = option(command)
    return command


@models.command("promote")
@click.argument("version", required=False)
@_role_options
def promote_(
    version: str | None, by: str | None, reason: str, nothing: bool, broker: str | None, as_json: bool
) -> None:
    """Make VERSION the champion: its score counts. Its first characters are enough; FILE.onnx is published first.

    \b
    Examples:
      ptr fraud models promote 3f2a --by anna --reason "better for two weeks"
      ptr fraud models promote model.onnx --by anna
      ptr fraud models promote --none --by anna --reason "the rules alone"
    """
    _give(CHAMPION, version, by, reason, nothing, broker, as_json)


@models.command("shadow")
@click.argument("version", required=False)
@_role_options
def shadow(version: str | None, by: str | None, reason: str, nothing: bool, broker: str | None, as_json: bool) -> None:
    """Make VERSION the challenger: it runs beside the champion without effect, and its score is recorded.

    \b
    Examples:
      ptr fraud models shadow 3f2a --by anna --reason "trained on October"
      ptr fraud models shadow --none --by anna
    """
    _give(CHALLENGER, version, by, reason, nothing, broker, as_json)


def _give(
    role: str, version: str | None, by: str | None, reason: str, nothing: bool, broker: str | None, as_json: bool
) -> None:
    if bool(version) == nothing:
        raise click.UsageError("give a VERSION, or --none")
    loaded = settings_with(broker=broker)
    codec, who = codec_of(loaded), by or getuser()
    file = Path(version or "")
    if version and file.suffix == ".onnx":
        try:
            content = file.read_bytes()
        except OSError as error:
            raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
        chosen = _or_fail(lambda: publish(loaded.access, codec, content, promote_to=role, by=who, reason=reason))
    else:
        chosen = _or_fail(lambda: promote(loaded.access, codec, role, version or "", by=who, reason=reason))
    if as_json:
        print_json({"role": role, "version": chosen, "by": who, "reason": reason})
        return
    what = f"{chosen} is {role}" if chosen else f"no model is {role}"
    click.echo(f"{what}, for payments received from {EFFECTIVE_DELAY_MS // 1000} s from now")


def _or_fail(what: Any) -> Any:
    try:
        return what()
    except PublishError as error:
        raise click.ClickException(str(error)) from None


def _described(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _today_ms() -> int:
    return int(time.time() * 1000) // DAY_MS * DAY_MS


fraud.add_command(rules)
fraud.add_command(report)
fraud.add_command(snooze)
