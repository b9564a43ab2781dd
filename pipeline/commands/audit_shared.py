"""What the commands of ``ptr audit`` share: options, the public key, and errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connectors.proofs.heads import HeadsFileError
from connectors.proofs.keys import KeyFileError, public_path, read_public
from connectors.proofs.leaf_log import LeafLogError
from connectors.proofs.verifier import ProofError, PublicKey
from connectors.sinks.archives import ArchiveFileError
from connectors.sinks.database import Database, DatabaseError, open_database
from connectors.sinks.proving import UnprovenError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: How often progress is told and stored.
PROGRESS_S = 2.0

database_option = click.option(
    "--database",
    metavar="URL",
    help="sqlite:///FILE or postgresql://USER@HOST/DB (default: PTR_DATABASE, or sqlite:///var/audit.db).",
)
key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The log's public key (default: that beside PTR_AUDIT_KEY_FILE).",
)


def key_of(file: Path | None, settings: Settings) -> PublicKey:
    if file is None:
        if not settings.audit_key_file:
            raise click.UsageError("name the log's public key with --key FILE")
        file = public_path(Path(settings.audit_key_file))
    return read_public(file)


@contextmanager
def opened_with(settings: Settings) -> Iterator[Database]:
    with closing(open_database(settings.database)) as opened:
        yield opened


@contextmanager
def errors_in_words() -> Iterator[None]:
    try:
        yield
    except (ProofError, UnprovenError) as error:
        raise click.ClickException(f"NOT PROVEN: {error}") from None
    except (DatabaseError, HeadsFileError, LeafLogError, KeyFileError, ArchiveFileError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def archived_rows(database: Database, folder: Path | None, tenant: str | None = None) -> Iterator[ArchivedRows | None]:
    """The archived rows of ``database``, of one tenant or of all, in ``folder``; None where it is not named."""
    if folder is None:
        yield None
        return
    # Imported only here: reading Parquet takes a moment to load.
    from connectors.sinks.archive_files import ArchivedRows

    with closing(ArchivedRows(database, folder, tenant)) as archived:
        yield archived
