"""``ptr audit``: heads, proofs and checks of the audit tables."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from connectors.proofs.heads import read_heads
from connectors.proofs.keys import make_key, public_path
from connectors.proofs.leaf_log import folder_of, kept_leaves
from connectors.proofs.verifier import Head, ProofError, PublicKey, parse_note, tree_of, verify_file
from connectors.sinks.archives import archives_of, must_be_named
from connectors.sinks.database import Database, open_database
from connectors.sinks.exporting import Exported, NothingToExportError
from connectors.sinks.exporting import export as write_archive
from connectors.sinks.proving import bundle_of, growth_of, signed_heads
from connectors.sinks.verifying import Finding, KeptLeaves, State, kept_in, verify_database
from pipeline.commands.audit_archive import archive
from pipeline.commands.audit_shared import (
    PROGRESS_S,
    archived_rows,
    database_option,
    errors_in_words,
    key_of,
    key_option,
    opened_with,
)
from pipeline.commands.shared import archive_option, day_ms, json_option, print_json, settings_with

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: Heads of one tree that a whole database is checked against: any selection binds all rows before its last one.
HEADS_MAX = 500


@click.group()
def audit() -> None:
    """Prove what the audit tables hold, and check it.

    Every row is a leaf of a Merkle tree of its tenant and shard. `ptr audit-sink` signs the trees' heads (PTR_AUDIT_KEY_FILE).
    Who kept a head elsewhere can check that a row is in the log and that no row before it was changed, without trusting
    whoever runs the database.

    \b
    Examples:
      ptr audit keygen secrets/audit.key --name audit.example.com
      ptr audit head --tenant acme
      ptr audit prove acme order-1001 > order-1001.json
      ptr audit export acme november.zip --from 2026-11-01 --to 2026-12-01
      ptr audit verify order-1001.json --key audit.key.pub
      ptr audit verify --database sqlite:///var/audit.db --heads kept/heads.txt --key audit.key.pub
      ptr audit consistency kept/january.txt kept/heads.txt
      ptr audit archive --to /mnt/archive
    """


audit.add_command(archive)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The log's name, a URL without scheme: audit.example.com.")
@json_option
def keygen(file: Path, name: str, as_json: bool) -> None:
    """Make the key that signs heads in FILE, and its public half in FILE.pub.

    Give FILE.pub to whoever is to check, and FILE to nobody: name it in PTR_AUDIT_KEY_FILE. No file is overwritten.

    \b
    Examples:
      ptr audit keygen secrets/audit.key --name audit.example.com
    """
    with errors_in_words():
        public = make_key(file, name)
    if as_json:
        print_json({"file": str(file), "public_file": str(public_path(file)), "public_key": str(public)})
    else:
        click.echo(f"{public}\nis the public key, in {public_path(file)}; the private one is in {file}")


@audit.command()
@click.option("--writer", metavar="ROLE", help="Let this role of PostgreSQL write as a sink does, and no more.")
@database_option
def migrate(writer: str | None, database: str | None) -> None:
    """Bring the audit tables up to date, as their owner; `ptr audit-sink` then needs to be nobody else than the writer.

    ROLE may insert events and tiles of trees, and read them; it may neither change nor remove one.

    \b
    Examples:
      ptr audit migrate
      ptr audit migrate --writer ptr_sink --database postgresql://owner@db.internal/audit
    """
    settings = settings_with(database=database)
    with errors_in_words(), closing(open_database(settings.database, create=True)) as opened:
        opened.lock()
        opened.migrate()
        if writer is not None:
            opened.grant_writer(writer)
        click.echo(f"{opened.shown} is up to date" + (f", and {writer} may write" if writer else ""))


@audit.command()
@click.option("--tenant", help="Of one tenant (default: all).")
@database_option
@json_option
def head(tenant: str | None, database: str | None, as_json: bool) -> None:
    """Print the last signed heads: keep them elsewhere, and check later with `ptr audit verify --heads`.

    \b
    Examples:
      ptr audit head > kept/heads.txt
      ptr audit head --tenant acme --json
    """
    with errors_in_words(), opened_with(settings_with(database=database)) as opened:
        notes = signed_heads(opened, tenant)
        if not notes:
            of_tenant = f" of {tenant}" if tenant is not None else ""
            raise click.ClickException(
                f"{opened.shown} holds no signed head{of_tenant}: run `ptr audit-sink` with PTR_AUDIT_KEY_FILE"
            )
        if as_json:
            print_json([_shown(parse_note(note)[0]) | {"note": note} for note in notes])
        else:
            click.echo("\n".join(notes))


@audit.command()
@click.argument("tenant")
@click.argument("payment")
@database_option
@archive_option
@json_option
def prove(tenant: str, payment: str, database: str | None, archive_folder: Path | None, as_json: bool) -> None:
    """Print a bundle: the rows of PAYMENT of TENANT, each with the proof that it is under a signed head.

    It is checked with `ptr audit verify`, or without this program: connectors/proofs/verifier.py needs Python alone. It holds
    the rows as they are stored; personal data is sealed in them. (It is always JSON; --json indents it.)

    \b
    Examples:
      ptr audit prove acme order-1001 > order-1001.json
      ptr audit prove acme order-1001 --archive /mnt/archive > order-1001.json
    """
    with (
        errors_in_words(),
        opened_with(settings_with(database=database)) as opened,
        archived_rows(opened, archive_folder, tenant) as archived,
    ):
        bundle = bundle_of(opened, tenant, payment, archived)
    if as_json:
        print_json(bundle)
    else:
        click.echo(msgspec.json.encode(bundle))


@audit.command()
@click.argument("tenant")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "from_", required=True, metavar="YYYY-MM-DD", help="First day of requests, UTC.")
@click.option("--to", required=True, metavar="YYYY-MM-DD", help="The day after the last.")
@database_option
@archive_option
@key_option
@json_option
def export(
    tenant: str,
    file: Path,
    from_: str,
    to: str,
    database: str | None,
    archive_folder: Path | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Write an auditor's archive of the payments of TENANT to FILE (.zip).

    In it: all rows with their proofs, signed heads, the public key, every version of the tenant's rules, which models scored,
    the file that checks it with Python alone, and a page that says how. It holds the rows as they are stored, sealed or not.
    FILE must not be there yet; a file that could not be finished is removed. Where no payment was requested in these days,
    nothing is written. Ends with 1 then.

    \b
    Examples:
      ptr audit export acme november.zip --from 2026-11-01 --to 2026-12-01
    """
    from_ms, until_ms = day_ms(from_), day_ms(to)
    if from_ms >= until_ms:
        raise click.UsageError("--from must be before --to")
    settings = settings_with(database=database)
    with errors_in_words():
        key = key_of(key_file, settings)
        with opened_with(settings) as opened, archived_rows(opened, archive_folder, tenant) as archived:
            exported = _written(
                file,
                lambda: write_archive(
                    opened,
                    tenant,
                    from_ms=from_ms,
                    until_ms=until_ms,
                    key=key,
                    file=file,
                    archived=archived,
                    said=_ExportProgress(),
                ),
            )
    if as_json:
        counts = {"payments": exported.payments, "rows": exported.rows, "rules": exported.rules}
        print_json({"file": str(file), **counts, "models": sorted(exported.models), "heads": exported.heads})
    else:
        click.echo(
            f"{file} holds {exported.payments:,} payments, {exported.rows:,} rows, {exported.rules} versions of rules"
        )


def _written(file: Path, write: Callable[[], Exported]) -> Exported:
    """What ``write`` gives; what it left behind when it fails is removed."""
    try:
        return write()
    except FileExistsError:
        raise click.ClickException(f"{file} is there already: name another, or remove it") from None
    except NothingToExportError as error:
        # No file was made: what may be at this path is somebody else's.
        raise click.ClickException(str(error)) from None
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
        raise


class _ExportProgress:
    """Says now and then how far it is."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self, exported: Exported) -> None:
        if time.monotonic() - self._at >= PROGRESS_S:
            self._at = time.monotonic()
            click.echo(f"{exported.payments:,} payments, {exported.rows:,} rows", err=True)


@audit.command()
@click.argument("bundle", required=False, type=click.File("rb"))
@click.option("--database", metavar="URL", help="Check a whole database: sqlite:///FILE or postgresql://USER@HOST/DB.")
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path),
    help="Signed heads that were kept (for a database; default: PTR_AUDIT_HEADS_FILE).",
)
@click.option(
    "--leaves",
    "leaves_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of leaves that was kept with them (default: PTR_AUDIT_LEAVES_DIR, or the one beside the heads).",
)
@archive_option
@key_option
@click.option(
    "--resume",
    "resume_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep in this file how far the check is, and go on from there.",
)
@json_option
def verify(
    bundle: Any,
    database: str | None,
    heads_file: Path | None,
    leaves_dir: Path | None,
    archive_folder: Path | None,
    key_file: Path | None,
    resume_file: Path | None,
    as_json: bool,
) -> None:
    """Check a BUNDLE (or bundles.jsonl of an archive, a bundle a line), or with --database every row of a database.

    A database is checked against heads that were kept elsewhere. What was changed, removed, inserted or moved since they were
    signed is found, and the first wrong row of each tree is named: with the leaves that were kept beside the heads also where
    everything in the database was made anew. They are believed as far as they give the signed roots. Rows that were moved
    to files are checked with the others: name the folder with --archive. Ends with 1 when something is wrong.

    \b
    Examples:
      ptr audit verify order-1001.json --key audit.key.pub
      ptr audit verify --database sqlite:///var/audit.db --heads kept/heads.txt --key audit.key.pub
      ptr audit verify --database sqlite:///var/audit.db --heads kept/heads.txt --leaves kept/leaves --key audit.key.pub
      ptr audit verify --database sqlite:///var/audit.db --heads kept/heads.txt --resume var/check.json
      ptr audit verify --database sqlite:///var/audit.db --heads kept/heads.txt --archive /mnt/archive
    """
    if (bundle is None) == (database is None):
        raise click.UsageError("give either a bundle or --database")
    settings = settings_with(database=database)
    with errors_in_words():
        key = key_of(key_file, settings)
        if bundle is not None:
            _verify_bundles(bundle, key, heads_file, as_json)
            return
        chosen = heads_file or (Path(settings.audit_heads_file) if settings.audit_heads_file else None)
        if chosen is None:
            raise click.UsageError("name the heads that were kept with --heads: a database proves nothing by itself")
        heads = read_heads(chosen, key, of_tree_max=HEADS_MAX)
        folder = leaves_dir or folder_of(settings.audit_leaves_dir, chosen)
        leaves = partial(kept_leaves, folder) if folder is not None and folder.is_dir() else None
        with opened_with(settings) as opened, archived_rows(opened, archive_folder) as archived:
            if archived is None:
                must_be_named(opened)
            _verify_database(opened, heads, leaves, archived, key, resume_file, as_json)


def _verify_bundles(file: BinaryIO, key: PublicKey, heads_file: Path | None, as_json: bool) -> None:
    kept = {} if heads_file is None else {(one.origin, one.size): one.root for one in read_heads(heads_file, key)}
    heads: set[Head] = set()
    payments: list[tuple[str, str]] = []
    bundles = rows = 0
    for found in verify_file(str(getattr(file, "name", "")), file, key):
        bundles, rows = bundles + 1, rows + len(found.rows)
        payments = [(found.tenant, found.payment_id)] if bundles == 1 else []
        heads.update(found.heads)
    for one in sorted(heads) if heads_file is not None else []:
        newest = max((size for origin, size in kept if origin == one.origin), default=0)
        if one.size > newest:
            raise ProofError(
                f"the head of {one.origin} at {one.size} is from the future: the newest in {heads_file} is at {newest}"
            )
        if kept.get((one.origin, one.size)) != one.root:
            raise ProofError(f"the head of {one.origin} at {one.size} is not among those in {heads_file}")
    if as_json:
        of_one = [{"tenant": tenant, "payment_id": payment} for tenant, payment in payments]
        print_json(
            {"proven": True, "bundles": bundles, "rows": rows, "heads": [_shown(one) for one in sorted(heads)]}
            | (of_one[0] if of_one else {})
        )
        return
    of = f"payment {payments[0][1]} of {payments[0][0]}" if payments else f"{bundles:,} bundles"
    click.echo(f"{rows:,} rows of {of} are in the log:")
    for one in sorted(heads):
        click.echo(f"  {one.origin} at {one.size}")


def _verify_database(
    database: Database,
    heads: list[Head],
    leaves: KeptLeaves | None,
    archived: ArchivedRows | None,
    key: PublicKey,
    resume_file: Path | None,
    as_json: bool,
) -> None:
    # Heads in the database are signed too: they cover what is newer than those that were kept.
    both = sorted({*heads, *kept_in(database, key)})
    archives = archives_of(database)
    progress = _Progress(database, both, resume_file)
    state = verify_database(database, both, progress.state, archived=archived, kept_leaves=leaves, said=progress)
    progress.end()
    if state.findings and archives_of(database) != archives:
        raise click.ClickException("months were archived while this check ran: run it again, with --archive DIR")
    newest = {one.origin: one.size for one in heads}
    covered = sum(newest.values())
    if as_json:
        print_json(
            {
                "proven": not state.findings,
                "rows": state.rows,
                "rows_under_kept_heads": covered,
                "rows_unsigned": state.unsigned,
                "trees": state.trees,
                "findings": [asdict(finding) for finding in state.findings],
            }
        )
    else:
        for finding in state.findings:
            click.echo(_words(finding))
        click.echo(
            f"{state.rows:,} rows in {state.trees} trees; the heads that were kept cover {covered:,}"
            + (f"; {state.unsigned:,} are under no signed head yet" if state.unsigned else "")
        )
        if not state.findings:
            click.echo("nothing was changed, removed, inserted or moved")
    if state.findings:
        raise click.exceptions.Exit(1)


def _words(finding: Finding) -> str:
    leaves = f"leaf {finding.first}" if finding.first == finding.last else f"leaves {finding.first} to {finding.last}"
    row = f" ({finding.row})" if finding.row else ""
    kind = "WRONG ROW" if finding.is_row else "WRONG TREE"
    return f"{kind} {finding.tenant or 'no tenant'}, shard {finding.shard}, {leaves}{row}: {finding.what}"


class _Progress:
    """Says how far a check is, and keeps it in a file."""

    def __init__(self, database: Database, heads: list[Head], file: Path | None) -> None:
        self._file = file
        self._total = sum(size for (size,) in database.query("SELECT size FROM audit_trees"))
        told = json.dumps([database.shown, [[one.origin, one.size, one.root.hex()] for one in heads]])
        self._of = hashlib.sha256(told.encode()).hexdigest()
        self._at = time.monotonic()
        self.state: State | None = None
        if file is not None and file.exists():
            self.state = self._stored(file)

    def _stored(self, file: Path) -> State | None:
        try:
            found = msgspec.json.decode(file.read_bytes())
            if found["of"] == self._of:
                state = msgspec.convert(found["state"], State)
                click.echo(f"going on after {state.rows:,} rows, from {file}", err=True)
                return state
            click.echo(f"{file} is of another database or other heads: starting anew", err=True)
        except (OSError, msgspec.MsgspecError, LookupError, TypeError):
            raise click.ClickException(f"{file} does not tell how far a check was: remove it") from None
        return None

    def __call__(self, state: State) -> None:
        now = time.monotonic()
        if now - self._at < PROGRESS_S:
            return
        self._at = now
        click.echo(f"{state.rows:,} of {self._total:,} rows", err=True)
        if self._file is not None:
            part = self._file.with_name(self._file.name + ".part")
            part.write_bytes(msgspec.json.encode({"of": self._of, "state": state}))
            part.replace(self._file)

    def end(self) -> None:
        """The check is done: there is nothing to go on with."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@audit.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@database_option
@key_option
@json_option
def consistency(old: Path, new: Path, database: str | None, key_file: Path | None, as_json: bool) -> None:
    """Prove from the database that the trees of the heads in OLD became those in NEW by appending only.

    Both are files of signed heads; of several of one tree the largest counts. --json prints the proofs of RFC 6962.

    \b
    Examples:
      ptr audit consistency kept/january.txt kept/heads.txt
    """
    settings = settings_with(database=database)
    with errors_in_words():
        key = key_of(key_file, settings)
        before, after = ({one.origin: one for one in read_heads(file, key)} for file in (old, new))
        if missing := sorted(before.keys() - after.keys()):
            raise click.ClickException(f"{new} holds no head of {', '.join(missing)}")
        with opened_with(settings) as opened:
            proofs = [growth_of(opened, head, after[origin]) for origin, head in before.items()]
    if as_json:
        print_json([asdict(proof) for proof in proofs])
        return
    for proof in proofs:
        click.echo(f"{proof.origin}: the first {proof.old_size:,} of {proof.size:,} rows are the same")


def _shown(found: Head) -> dict[str, Any]:
    tenant, shard = tree_of(found.origin)
    return {"origin": found.origin, "tenant": tenant, "shard": shard, "size": found.size, "root": found.root.hex()}
