"""``ptr kafka``: a real Apache Kafka on this machine, for development."""

from __future__ import annotations

import json
from pathlib import Path

import click

from connectors.broker import local
from pipeline.commands.shared import json_option

DATADIR = Path("var/kafka")
PORT = 9092

_datadir = click.option(
    "--datadir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATADIR,
    show_default=True,
    help="Where it keeps its data, log and state.",
)


@click.group()
def kafka() -> None:
    """Run a real Apache Kafka on this machine, for development.

    It needs Java 17 and, for the first time, Maven (40 MB from Maven Central, kept in the user's cache). One broker, on
    loopback only, without replication: not for production.

    \b
    Examples:
      ptr kafka up
      ptr kafka down
    """


@kafka.command()
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Port to listen on.")
@_datadir
def up(port: int, datadir: Path) -> None:
    """Start it and wait until it answers. It runs on until `ptr kafka down`.

    \b
    Examples:
      ptr kafka up
      ptr kafka up --port 19092 --datadir var/other-kafka
    """
    broker = local.LocalKafka(datadir, port)
    try:
        if reason := local.available():
            raise local.LocalKafkaError(reason)
        if not local.is_fetched():
            click.echo(f"Fetching Apache Kafka {local.KAFKA_VERSION} with Maven (40 MB, once) ...", err=True)
            local.fetch()
        if broker.pid:
            broker.start()
            click.echo(f"Kafka runs already at {broker.address} (process {broker.pid}).")
            return
        click.echo(f"Starting Kafka {local.KAFKA_VERSION} ...", err=True)
        broker.start()
    except local.LocalKafkaError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Kafka runs at {broker.address} (process {broker.pid}, data in {datadir}).")


@kafka.command()
@_datadir
def down(datadir: Path) -> None:
    """Stop it. Its data stays; remove the folder to begin anew.

    \b
    Examples:
      ptr kafka down
    """
    broker = local.LocalKafka(datadir)
    try:
        pid = broker.pid
        broker.stop()
    except local.LocalKafkaError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Kafka stopped (process {pid})." if pid else f"No Kafka runs in {datadir}.")


@kafka.command()
@_datadir
@json_option
def status(datadir: Path, as_json: bool) -> None:
    """Say whether it runs: exit code 0 when it does, 1 when it does not.

    \b
    Examples:
      ptr kafka status
      ptr kafka status --json
    """
    broker = local.LocalKafka(datadir)
    try:
        pid = broker.pid
        address = broker.address if pid else ""
    except local.LocalKafkaError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"running": bool(pid), "pid": pid, "address": address, "datadir": str(datadir)}))
    else:
        click.echo(f"Kafka runs at {address} (process {pid})." if pid else f"No Kafka runs in {datadir}.")
    if not pid:
        raise click.exceptions.Exit(1)
