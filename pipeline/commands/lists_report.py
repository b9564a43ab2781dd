"""What ``ptr lists`` says: versions, their age, and what changed, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from connectors.lists.book import EFFECTIVE_DELAY_MS
from connectors.lists.content import ListContent
from connectors.lists.difference import Difference
from connectors.lists.hits import Hit
from connectors.lists.load import age_limit_s
from connectors.lists.version import is_retired
from schemas.records import ListUpdated

#: Of the changed entries that an import shows; ``ptr lists diff`` shows all.
LINES_SHOWN_MAX: Final = 20


def summary_of(head: ListUpdated, now_ms: int) -> dict[str, Any]:
    """A version and its age, for JSON and tables."""
    age_s, limit_s = (now_ms - head.source_at_ms) // 1000, age_limit_s(head.list)
    return {
        "list": head.list,
        "version": head.version,
        "entries": head.entries,
        "source_at_ms": head.source_at_ms,
        "imported_at_ms": head.imported_at_ms,
        "age_s": age_s,
        "age_limit_s": limit_s,
        "retired": is_retired(head),
        "stale": age_s > limit_s and not is_retired(head),
    }


def say(
    report: dict[str, Any], content: ListContent, head: ListUpdated, difference: Difference, before: ListUpdated | None
) -> None:
    """Tell what an import did, or would do."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in report["kinds"].items())
    click.echo(f"{head.list}: {head.entries} entries ({kinds}) of {time_of(head.source_at_ms)}")
    if content.unknown_countries:
        names = ", ".join(f"{name} ({count})" for name, count in content.unknown_countries.items())
        click.echo(f"countries that are not known, kept out: {names}")
    if content.unread_dates:
        click.echo(f"birth dates that cannot be read, kept out: {content.unread_dates}")
    if before is not None and difference:
        lines = lines_of(difference)
        for line in lines[:LINES_SHOWN_MAX]:
            click.echo(line)
        if len(lines) > LINES_SHOWN_MAX:
            click.echo(f"... and {len(lines) - LINES_SHOWN_MAX} more")
    against = f"against version {before.version}: {words_of(difference)}" if before else "the first version"
    click.echo(f"{head.list}: {against}")
    delay_s = timedelta(milliseconds=EFFECTIVE_DELAY_MS).total_seconds()
    match report["change"]:
        case "unchanged":
            click.echo(f"{head.list}: unchanged, version {head.version} stays")
        case "published":
            click.echo(f"{head.list}: version {head.version} written, in force {delay_s:g} s later on all workers")
        case _:
            click.echo(f"{head.list}: would get version {head.version}; nothing was written")
    if report["stale"]:
        click.echo(f"{head.list}: STALE, {report['age_s'] / 86_400:.0f} days old: download a newer one", err=True)


def counts_of(difference: Difference) -> dict[str, int]:
    """How many entries were added, removed and changed."""
    return {
        "added": len(difference.added),
        "removed": len(difference.removed),
        "changed": len(difference.changed),
    }


def words_of(difference: Difference) -> str:
    """The same in words."""
    return ", ".join(f"{count} {what}" for what, count in counts_of(difference).items())


def data_of(difference: Difference) -> dict[str, Any]:
    """The whole difference, for JSON."""
    return {
        "added": difference.added,
        "removed": difference.removed,
        "changed": [
            {"entry_id": change.after.entry_id, "kind": change.after.kind, "fields": change.fields}
            for change in difference.changed
        ],
    }


def lines_of(difference: Difference) -> list[str]:
    """The whole difference, for people: a line for each entry, and one for each field of a changed one."""
    lines = [f"+ {entry.entry_id}  {entry.kind}  {entry.names[0]}" for entry in difference.added]
    lines += [f"- {entry.entry_id}  {entry.kind}  {entry.names[0]}" for entry in difference.removed]
    for change in difference.changed:
        lines.append(f"~ {change.after.entry_id}  {change.after.kind}  {change.after.names[0]}")
        for field in change.fields:
            values = [f"-{value}" for value in field.removed] + [f"+{value}" for value in field.added]
            lines.append(f"    {field.field}: {'; '.join(values) or 'in another order'}")
    return lines


def hit_lines(hits: Sequence[Hit]) -> list[str]:
    """Hits as a table for people; none without any."""
    if not hits:
        return []
    rows = [("FLAGGED", "TENANT", "PARTY", "LIST", "VERSION", "ENTRY", "SCORE", "EVIDENCE")]
    for hit in hits:
        event = hit.event
        said = ", ".join(event.evidence) or "the same name"
        place = (event.list, event.version, event.entry_id)
        rows.append((time_of(hit.flagged_at_ms), event.tenant, event.party_id, *place, f"{event.score:.2f}", said))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def time_of(at_ms: int) -> str:
    """A time in UTC, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
