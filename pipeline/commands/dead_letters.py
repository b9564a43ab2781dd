"""``ptr dead-letters``: list what no stage could handle, and post it back after its cause is gone."""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connectors.broker.letters import Letter, LetterLog, LetterPoster, LettersError, refusal
from connectors.registry import RegistryError
from pipeline.commands.shared import Since, broker_option, codec_of, json_option, settings_with
from pipeline.topics import all_topics
from schemas.reasons import Error

LIMIT = 50
_ERRORS = click.Choice([error.value for error in Error])


class _Name(click.ParamType):
    """A letter's ``PARTITION:OFFSET``."""

    name = "PARTITION:OFFSET"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,5}):(\d{1,18})", str(value))
        if found is None:
            self.fail(f"{value!r} is not PARTITION:OFFSET, as `ptr dead-letters list` shows it", param, ctx)
        return int(found[1]), int(found[2])


@click.group("dead-letters")
def dead_letters() -> None:
    """List what no stage could handle, and post it back when the cause is gone.

    \b
    Examples:
      ptr dead-letters list --since 2h
      ptr dead-letters retry 0:17
    """


@dead_letters.command("list")
@broker_option
@click.option("--error", type=_ERRORS, help="Only letters with this error.")
@click.option("--since", type=Since(), metavar="TIME", help="Only letters since then: 30m, 2h, 7d, or ISO 8601 (UTC).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=LIMIT, show_default=True, help="The newest so many.")
@json_option
def list_letters(broker: str | None, error: str | None, since: int | None, limit: int, as_json: bool) -> None:
    """Show the newest letters, oldest first: when, where the record was, which stage gave up, and why.

    What was in the record is not shown. LETTER names one for `ptr dead-letters retry`.

    \b
    Examples:
      ptr dead-letters list
      ptr dead-letters list --error stage_failed --since 2h
      ptr dead-letters list --json --limit 1000
    """
    chosen = settings_with(broker=broker)
    codec = codec_of(chosen)
    newest: list[tuple[int, int, int, Letter]] = []
    found = 0
    try:
        with LetterLog(chosen.access, codec) as log:
            for letter in log.read(since_ms=since):
                if error is not None and letter.letter.error != error:
                    continue
                found += 1
                item = (letter.written_at_ms, letter.partition, letter.offset, _without_content(letter))
                if len(newest) < limit:
                    heapq.heappush(newest, item)
                else:
                    heapq.heappushpop(newest, item)
            unreadable = log.unreadable
    except (LettersError, RegistryError) as problem:
        raise click.ClickException(str(problem)) from None
    rows = [letter for *_, letter in sorted(newest, key=lambda item: item[:3])]
    if as_json:
        click.echo(json.dumps([_data(letter) for letter in rows]))
    else:
        _print(rows, found)
    if unreadable:
        click.echo(f"{unreadable} records of the topic are no letters and were left out.", err=True)


def _without_content(letter: Letter) -> Letter:
    bare = msgspec.structs.replace(letter.letter, key=None, value=None)
    return Letter(letter.partition, letter.offset, letter.written_at_ms, bare)


def _data(letter: Letter) -> dict[str, object]:
    of = letter.letter
    return {
        "letter": letter.name,
        "written_at_ms": letter.written_at_ms,
        "topic": of.topic,
        "partition": of.partition,
        "offset": of.offset,
        "stage": of.stage,
        "error": of.error,
        "detail": of.detail,
        "value_bytes": of.value_length,
    }


def _print(rows: list[Letter], found: int) -> None:
    if not rows:
        click.echo("There are no such dead letters.")
        return
    table = Table(box=None, pad_edge=False)
    headings = ("letter", "when (UTC)", "topic/partition/offset", "stage", "error", "detail", "bytes")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading == "bytes" else "left")
    for letter in rows:
        of = letter.letter
        when = datetime.fromtimestamp(letter.written_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        at = f"{of.topic}/{of.partition}/{of.offset}"
        table.add_row(letter.name, when, at, of.stage, of.error, of.detail, f"{of.value_length:,}")
    Console(markup=False, highlight=False).print(table)
    if found > len(rows):
        click.echo(f"The newest {len(rows)} of {found}: more with --limit.", err=True)


@dead_letters.command("retry")
@click.argument("letters", nargs=-1, type=_Name(), metavar="[PARTITION:OFFSET]...")
@broker_option
@click.option("--all", "every", is_flag=True, help="Every letter, or with --error every letter with that error.")
@click.option("--error", type=_ERRORS, help="Only letters with this error.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def retry(
    letters: tuple[tuple[int, int], ...], broker: str | None, every: bool, error: str | None, yes: bool, as_json: bool
) -> None:
    """Post letters back to the topic they came from, under their key.

    A letter whose card number was masked, or whose value was cut, cannot go back as it came and is refused. Posting one
    twice does no harm: a payment that has its outcome keeps it. Ends with code 1 when a letter was refused or failed.

    \b
    Examples:
      ptr dead-letters retry 0:17 3:4
      ptr dead-letters retry --all --error stage_failed
      ptr dead-letters retry --all --error unknown_schema --yes --json
    """
    if bool(letters) == every:
        raise click.UsageError("name letters (PARTITION:OFFSET, see `ptr dead-letters list`), or give --all")
    chosen = settings_with(broker=broker)
    codec = codec_of(chosen)
    wanted = None if every else set(letters)
    known = {topic.name for topic in all_topics(chosen.pics)}
    refused: Counter[str] = Counter()
    good = posted = 0
    poster = None
    try:
        with LetterLog(chosen.access, codec) as log:
            seen: set[tuple[int, int]] = set()
            for letter in _chosen(log, wanted, error):
                if wanted is not None:
                    seen.add((letter.partition, letter.offset))
                why = refusal(letter.letter, known)
                if why:
                    refused[why] += 1
                    if wanted is not None:
                        click.echo(f"{letter.name} is refused: {why}.", err=True)
                good += not why
            for partition, offset in sorted((wanted or set()) - seen):
                refused["there is no such letter"] += 1
                click.echo(
                    f"{partition}:{offset} is refused: there is no such letter, or not with that error.", err=True
                )
            if good and (yes or click.confirm(f"Post {good} letters back?", err=True)):
                poster = LetterPoster(chosen.access, codec)
                for letter in _chosen(log, wanted, error):
                    if not refusal(letter.letter, known):
                        poster.post(letter.letter)
                posted = poster.finish()
    except (LettersError, RegistryError) as problem:
        raise click.ClickException(str(problem)) from None
    failed = poster.failed if poster is not None else 0
    if as_json:
        counts = {"found": good + refused.total(), "posted": posted, "failed": failed, "refused": dict(refused)}
        click.echo(json.dumps(counts))
    else:
        click.echo(f"{posted} posted back, {refused.total()} refused, {failed} failed")
        for why, number in refused.items():
            click.echo(f"  refused {number}: {why}")
    if poster is not None and poster.failure:
        click.echo(f"The broker did not take all of them: {poster.failure}. Retry when it answers.", err=True)
    if refused or failed:
        raise click.exceptions.Exit(1)


def _chosen(log: LetterLog, wanted: set[tuple[int, int]] | None, error: str | None) -> Iterator[Letter]:
    return (letter for letter in log.read(only=wanted) if error is None or letter.letter.error == error)
