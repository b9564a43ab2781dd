"""``ptr lists``: import sanctions lists, see what is in force and what changed."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from connectors.broker.transaction import PublishError
from connectors.lists import ofac
from connectors.lists.difference import compare
from connectors.lists.hits import HitsError, read_hits
from connectors.lists.load import READERS, ListError
from connectors.lists.publish import Contents, publish, read_all
from connectors.lists.version import is_retired, pack, retired
from connectors.registry import RegistryError
from pipeline.commands.lists_report import counts_of, data_of, hit_lines, lines_of, say, summary_of, time_of, words_of
from pipeline.commands.shared import broker_option, codec_of, json_option, print_json, settings_with
from pipeline.settings import Settings
from pipeline.stages.watchlist import ListEntry
from pipeline.topics import LISTS
from schemas.records import ListUpdated

#: Sources remove people by the dozen; a list that lost more of its entries than this was probably cut off at the source.
LOST_SHARE_MAX: Final = 0.1
#: Clocks and time zones differ; a list from later than this was misdated.
SOURCE_AHEAD_S: Final = 24 * 60 * 60
#: Hits that are shown when no number is given.
HITS_SHOWN: Final = 50


@click.group()
def lists() -> None:
    """Import sanctions lists, and see what is in force.

    Lists come in versions. Each import is taken up whole by all workers, without a restart, or not at all; the version
    that decided is in every event.

    \b
    Examples:
      ptr lists import ofac downloads/ofac
      ptr lists list
    """


@lists.command("import")
@click.argument("name", metavar="ofac|un", type=click.Choice(list(READERS)))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--source-date", metavar="YYYY-MM-DD", help="Of which day the list is, where its files do not say.")
@click.option(
    "--force", is_flag=True, help="Import also a list that lost many entries, or is older than the present one."
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@broker_option
@json_option
def import_(
    name: str, path: Path, source_date: str | None, force: bool, dry_run: bool, broker: str | None, as_json: bool
) -> None:
    """Put a list in force: of OFAC a folder with sdn.csv, alt.csv and add.csv, of the UN its XML file.

    A list that is cut off or malformed is refused whole, and so is one that lost more than a tenth of its entries: then
    the one before stays in force. OFAC's files do not say of which day they are; without --source-date it is the day
    that the oldest of them was modified.

    \b
    Examples:
      ptr lists import ofac downloads/ofac --source-date 2026-11-27
      ptr lists import un downloads/consolidated.xml --dry-run
      ptr lists import un downloads/consolidated.xml --json
    """
    loaded = settings_with(broker=broker)
    now_ms = int(time.time() * 1000)
    given_ms = _day_ms(source_date)
    try:
        content = READERS[name](path)
        source_at_ms = given_ms or content.source_at_ms or _modified_ms(name, path)
        if source_at_ms > now_ms + SOURCE_AHEAD_S * 1000:
            raise ListError(
                path, 0, f"a list of {time_of(source_at_ms)}, which is not yet: check --source-date and clock"
            )
    except (ListError, OSError) as error:
        _refuse(name, str(error), _in_force_if_known(loaded, name))
    contents = _read(loaded, makes_topic=not dry_run)
    before, entries_before = _present(contents, name)
    difference = compare(entries_before, content.entries)
    if before is not None and not force:
        if difference.lost_share > LOST_SHARE_MAX:
            _refuse(
                name,
                f"{path} lacks {len(difference.removed)} of the {difference.before_count} entries that are in force "
                f"({difference.lost_share:.0%}, at most {LOST_SHARE_MAX:.0%}). If the source did remove them, import it "
                "with --force",
                before,
            )
        if source_at_ms < before.source_at_ms:
            _refuse(
                name,
                f"{path} is of {time_of(source_at_ms)}, older than what is in force. To go back, import it with --force",
                before,
            )
    version = pack(name, content.entries, source_at_ms=source_at_ms, imported_at_ms=now_ms)
    unchanged = before is not None and before.version == version.head.version
    if not dry_run:
        try:
            unchanged = not publish(loaded.access, codec_of(loaded), version)
        except (PublishError, RegistryError) as error:
            _refuse(name, str(error), before)
    change = "unchanged" if unchanged else "would_publish" if dry_run else "published"
    report: dict[str, Any] = {
        **summary_of(version.head, now_ms),
        "change": change,
        "before": before.version if before else None,
        "kinds": dict(sorted(Counter(entry.kind for entry in content.entries).items())),
        "unknown_countries": content.unknown_countries,
        "unread_dates": content.unread_dates,
        "counts": counts_of(difference),
    }
    if as_json:
        print_json(report | ({"difference": data_of(difference)} if dry_run else {}))
        return
    say(report, content, version.head, difference, before)


@lists.command("list")
@broker_option
@json_option
def list_(broker: str | None, as_json: bool) -> None:
    """List the lists: version, entries, age. Code 1 when one is older than its limit or unusable, or when there is none.

    \b
    Examples:
      ptr lists list
      ptr lists list --json
      ptr lists list || alert-somebody
    """
    contents = _read(settings_with(broker=broker))
    now_ms = int(time.time() * 1000)
    lacking = _tell_faults(contents)
    found = [summary_of(versions[-1], now_ms) for each in contents.lists() if (versions := contents.versions(each))]
    if as_json:
        print_json(found)
    elif found:
        rows = [("LIST", "VERSION", "ENTRIES", "OF", "IMPORTED", "AGE", "LIMIT", "STATE")]
        for each in found:
            days = [f"{each[key] / 86_400:.1f} d" for key in ("age_s", "age_limit_s")]
            dates = [time_of(each["source_at_ms"]), time_of(each["imported_at_ms"])]
            state = "STALE: import a new one" if each["stale"] else "RETIRED" if each["retired"] else "fresh"
            rows.append((each["list"], each["version"], str(each["entries"]), *dates, *days, state))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    in_use = [each for each in found if not each["retired"]]
    if found and not in_use:
        click.echo("Every list is out of use; payments are screened against nobody.", err=True)
    if not found:
        click.echo(
            "There is no list; workers screen against a made-up sample. Begin with 'ptr lists import'.", err=True
        )
    if not in_use or lacking or any(each["stale"] for each in found):
        raise click.exceptions.Exit(1)


@lists.command()
@click.argument("name", metavar="LIST")
@click.option("--force", is_flag=True, help="Also the last one: payments are then screened against nobody.")
@broker_option
@json_option
def retire(name: str, force: bool, broker: str | None, as_json: bool) -> None:
    """Take a list out of use: nobody is screened against it any more, 10 s from now on all workers.

    It is a version without entries, an event like others; to use the list again, import it. The last list is refused.

    \b
    Examples:
      ptr lists retire un
      ptr lists retire un --force --json
    """
    loaded = settings_with(broker=broker)
    contents = _read(loaded)
    in_use = {each: heads[-1] for each in contents.lists() if (heads := contents.versions(each))}
    in_use = {each: head for each, head in in_use.items() if not is_retired(head)}
    before = in_use.get(name)
    if before is None:
        _fail(f"{name} is not in use; in use are {', '.join(in_use) or 'none'}")
    if len(in_use) == 1 and not force:
        _fail(
            f"{name} is the last list: without it payments are screened against nobody. Nothing was changed; see --force."
        )
    version = retired(before, at_ms=int(time.time() * 1000))
    try:
        publish(loaded.access, codec_of(loaded), version)
    except (PublishError, RegistryError) as error:
        _refuse(name, str(error), before)
    if as_json:
        print_json({"list": name, "change": "retired", "before": before.version, "entries_before": before.entries})
        return
    click.echo(
        f"{name}: OUT OF USE, {before.entries} entries of version {before.version} screen nobody any more", err=True
    )


@lists.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@broker_option
@json_option
def diff(before: str, after: str, broker: str | None, as_json: bool) -> None:
    """Show which entries B adds to A, removes and changes, and which field.

    A and B are each a folder of OFAC's, a file of the UN's, or a version that the topic has: LIST (the one in force),
    LIST:before (the one before it) or LIST:VERSION.

    \b
    Examples:
      ptr lists diff ofac:before ofac
      ptr lists diff ofac downloads/ofac
      ptr lists diff un:1f0c5cbbd1a4 downloads/consolidated.xml --json
    """
    loaded = settings_with(broker=broker)
    (list_a, old), (list_b, new) = _side(loaded, before), _side(loaded, after)
    if list_a != list_b:
        _fail(f"{before} is a list of {list_a} and {after} one of {list_b}: compare versions of one list.")
    difference = compare(old, new)
    if as_json:
        print_json({"list": list_a, "counts": counts_of(difference), **data_of(difference)})
        return
    for line in lines_of(difference):
        click.echo(line)
    click.echo(f"{list_a}: {words_of(difference)}")


@lists.command()
@click.option("--tenant", default="", metavar="TENANT", help="Only parties of this tenant.")
@click.option("--list", "list_id", type=click.Choice(list(READERS)), help="Only entries of this list.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=HITS_SHOWN, show_default=True, help="The newest so many."
)
@broker_option
@json_option
def hits(tenant: str, list_id: str | None, limit: int, broker: str | None, as_json: bool) -> None:
    """Show known parties that a new version of a list names: each once for a version and entry, oldest first.

    When a list changes, all workers hold what is new in it against everybody who paid or was paid before. Who is flagged is
    not blocked by that: the next payment is screened by the new list. Names are not shown; the tenant knows its parties.

    \b
    Examples:
      ptr lists hits
      ptr lists hits --tenant aurora --list ofac
      ptr lists hits --json --limit 1000
    """
    loaded = settings_with(broker=broker)
    try:
        found = read_hits(loaded.access, codec_of(loaded), tenant=tenant, list_id=list_id or "")
    except (HitsError, RegistryError) as error:
        _fail(str(error))
    shown = found[-limit:]
    if as_json:
        print_json([{"flagged_at_ms": hit.flagged_at_ms} | msgspec.to_builtins(hit.event) for hit in shown])
        return
    for line in hit_lines(shown):
        click.echo(line)
    click.echo(f"{len(found)} hits" + (f", the newest {limit} are shown" if len(found) > limit else ""))


# -- what a command needs -------------------------------------------------------------------------------------------------


def _read(loaded: Settings, *, makes_topic: bool = False) -> Contents:
    try:
        contents = read_all(loaded.access, codec_of(loaded))
    except (PublishError, RegistryError) as error:
        _fail(str(error))
    if not contents.exists and not makes_topic:
        click.echo(f"{loaded.broker} has no topic {LISTS.name} yet: make it with 'ptr topics apply'", err=True)
    return contents


def _present(contents: Contents, name: str) -> tuple[ListUpdated | None, tuple[ListEntry, ...]]:
    """The version in force and its entries."""
    versions = contents.versions(name)
    return (versions[-1], contents.entries(versions[-1])) if versions else (None, ())


def _tell_faults(contents: Contents) -> bool:
    """Say which versions cannot be used; whether that leaves a list without any."""
    for head in contents.heads.values():
        if fault := contents.fault(head):
            click.echo(f"{head.list}: version {head.version} is not in force: {fault}; import the list again", err=True)
    return any(not contents.versions(list_id) for list_id in contents.lists())


def _side(loaded: Settings, text: str) -> tuple[str, tuple[ListEntry, ...]]:
    """The list's name and entries for one argument of ``diff``."""
    list_id, _, wanted = text.partition(":")
    path = Path(text)
    if list_id not in READERS or (not wanted and path.exists() and "/" in text):
        if not path.exists():
            _fail(
                f"{text} is neither a file nor a folder, nor LIST, LIST:before or LIST:VERSION of {', '.join(READERS)}"
            )
        name = ofac.LIST if path.is_dir() else next(each for each in READERS if each != ofac.LIST)
        try:
            return name, READERS[name](path).entries
        except ListError as error:
            _fail(str(error))
    contents = _read(loaded)
    versions = contents.versions(list_id)
    named = [head for head in versions if wanted in ("", head.version)]
    found = versions[-2:-1] if wanted == "before" else named[-1:]
    if not found:
        there = ", ".join(head.version for head in versions) or "none"
        _fail(f"{LISTS.name} has no {text}; of {list_id} it has {there}. The last two versions of a list are kept.")
    return list_id, contents.entries(found[0])


def _in_force_if_known(loaded: Settings, name: str) -> ListUpdated | None:
    try:
        return _present(read_all(loaded.access, codec_of(loaded), timeout_s=5.0), name)[0]
    except (PublishError, RegistryError):
        return None


def _refuse(name: str, why: str, before: ListUpdated | None) -> NoReturn:
    stays = (
        f"version {before.version} of {time_of(before.source_at_ms)} stays in force"
        if before
        else "whatever was in force stays in force"
    )
    _fail(f"REFUSED, nothing was imported: {why}.\n{name}: {stays}.")


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def _modified_ms(name: str, path: Path) -> int:
    files = [path / file for file in ofac.FILES] if name == ofac.LIST else [path]
    return int(min(file.stat().st_mtime for file in files) * 1000)


def _day_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise click.BadParameter(f"{text} is no day; take YYYY-MM-DD", param_hint="--source-date") from None
