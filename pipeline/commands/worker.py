"""``ptr worker``: runs stages of the pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipeline.commands.shared import broker_option, settings_with
from pipeline.settings import LOG_LEVELS, STAGES


@click.command()
@click.option("--stages", help=f"Stages to run, of {','.join(STAGES)}; all when not given.")
@broker_option
@click.option("--datadir", type=click.Path(path_type=Path), help="Local state; each worker its own.")
@click.option("--group", help="Worker group; workers of one group share its stages.")
@click.option("--web-port", type=click.IntRange(-1, 65535), help="Health pages and views; 0 a free port, -1 off.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS))
def worker(
    stages: str | None,
    broker: str | None,
    datadir: Path | None,
    group: str | None,
    web_port: int | None,
    log_level: str | None,
) -> None:
    """Run stages of the pipeline until SIGTERM or Ctrl-C.

    Settings come from PTR_* variables (docs/operations.md); options win. Workers with the same stages form a group and
    share its partitions; a stage runs in one group at a time and keeps its state when it moves to another.

    \b
    Examples:
      ptr worker
      ptr worker --stages screening,localization,reviews,dispatch,plugin,parties --datadir var/front
      ptr worker --stages payer,payee --datadir var/fraud
    """
    given = {
        "PTR_STAGES": stages,
        "PTR_BROKER": broker,
        "PTR_DATADIR": str(datadir) if datadir else None,
        "PTR_GROUP": group,
        "PTR_WEB_PORT": str(web_port) if web_port is not None else None,
        "PTR_LOG_LEVEL": log_level,
    }
    os.environ.update({name: value for name, value in given.items() if value is not None})
    settings = settings_with()
    try:
        from pipeline.app import app
    except ValueError as error:  # lists or plugins that cannot be loaded say why
        raise click.ClickException(str(error)) from error
    from pipeline.engine.worker import run_worker

    click.echo(
        f"worker group {settings.worker_group}: {', '.join(settings.stages)} on {settings.broker}, "
        f"state in {settings.datadir}",
        err=True,
    )
    run_worker(app)
