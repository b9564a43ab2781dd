"""``ptr topics``: make the topics that the pipeline needs, and show them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from connectors.broker import admin
from connectors.broker.embedded import is_embedded
from pipeline.commands.shared import broker_option, json_option, settings_with
from pipeline.topics import Topic, all_topics


@click.group()
def topics() -> None:
    """Make the topics that the pipeline needs, and show them.

    \b
    Examples:
      ptr topics apply
      ptr topics list
    """


def _shown(difference: admin.Difference) -> dict[str, Any]:
    return {**asdict(difference), "changeable": difference.changeable}


_partitions = click.option(
    "--partitions", type=click.IntRange(1, 1024), help="Partitions of every topic (default: PTR_PARTITIONS, or 4)."
)
_replication = click.option(
    "--replication", type=click.IntRange(1, 9), help="Copies of every partition (default: PTR_REPLICATION, or 1)."
)


@topics.command("apply")
@broker_option
@_partitions
@_replication
@click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")
@json_option
def apply_topics(
    broker: str | None, partitions: int | None, replication: int | None, dry_run: bool, as_json: bool
) -> None:
    """Create missing topics and correct their settings.

    Safe to repeat, and to run twice at once. The number of partitions and the replication of a topic that exists are
    never changed: keys would map to other partitions, away from their state. When they differ, the command says so and
    ends with code 1.

    \b
    Examples:
      ptr topics apply
      ptr topics apply --broker kafka-1:9092 --partitions 12 --replication 3
      ptr topics apply --dry-run
    """
    chosen = settings_with(broker=broker, partitions=partitions, replication=replication)
    wanted = all_topics(chosen.pics)
    client = admin.client(chosen.access)
    try:
        if dry_run:
            found = admin.plan(client, wanted, chosen.partitions, chosen.replication)
            result = admin.Applied(
                [difference for difference in found if difference.changeable],
                [difference for difference in found if not difference.changeable],
                is_embedded(admin.metadata(client).cluster_id),
            )
        else:
            result = admin.apply(client, wanted, chosen.partitions, chosen.replication)
    except admin.AdminError as error:
        raise click.ClickException(f"{error}.") from None
    if as_json:
        click.echo(
            json.dumps(
                {
                    "broker": chosen.broker,
                    "embedded": result.embedded,
                    "dry_run": dry_run,
                    "topics": len(wanted),
                    "done": [_shown(difference) for difference in result.done],
                    "left": [_shown(difference) for difference in result.left],
                }
            )
        )
    else:
        _print(result, len(wanted), dry_run)
    if result.left:
        raise click.exceptions.Exit(1)


def _print(result: admin.Applied, number: int, dry_run: bool) -> None:
    created, corrected = ("would create", "would correct") if dry_run else ("created", "corrected")
    for done in result.done:
        if done.kind is admin.Kind.MISSING:
            click.echo(f"{created} {done.topic}" + ("" if result.embedded else f" with {done.wanted}"))
        else:
            click.echo(f"{corrected} {done}")
    if result.embedded:
        click.echo(
            "This is the embedded broker: it makes topics when they are first asked for, with 4 partitions and no "
            "settings, and forgets records after about 5 MB a partition."
        )
    for difference in result.left:
        click.echo(f"NOT CHANGED  {difference}", err=True)
    if result.left:
        click.echo(
            "These cannot be changed while there is data. Use the number that is there (PTR_PARTITIONS, "
            "PTR_REPLICATION), or start with new topics.",
            err=True,
        )
    if not result.done and not result.left:
        click.echo(f"All {number} topics are as they should be.")


@topics.command("list")
@broker_option
@_partitions
@_replication
@json_option
def list_topics(broker: str | None, partitions: int | None, replication: int | None, as_json: bool) -> None:
    """Show every topic of the pipeline, and how the broker's differs.

    \b
    Examples:
      ptr topics list
      ptr topics list --json
    """
    chosen = settings_with(broker=broker, partitions=partitions, replication=replication)
    wanted = all_topics(chosen.pics)
    client = admin.client(chosen.access)
    try:
        differences = admin.plan(client, wanted, chosen.partitions, chosen.replication)
        there = admin.metadata(client).topics
    except admin.AdminError as error:
        raise click.ClickException(f"{error}.") from None
    rows = [
        _row(topic, len(there[topic.name].partitions) if topic.name in there else 0, differences) for topic in wanted
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("topic", "partitions", "holds", "state"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "partitions" else "left")
    for row in rows:
        state = "; ".join(text.split(": ", 1)[1] for text in row["differences"]) or "ok"
        table.add_row(row["topic"], str(row["partitions"]), row["about"], state)
    Console(markup=False, highlight=False).print(table)


def _row(topic: Topic, partitions: int, differences: list[admin.Difference]) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "about": topic.about,
        "partitions": partitions,
        "differences": [str(difference) for difference in differences if difference.topic == topic.name],
    }
