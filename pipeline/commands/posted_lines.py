"""Records of others from JSON Lines to a topic: every line is checked first, and a file with a bad one posts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, Final, Generic, TypeVar

import click
import msgspec

from connectors.broker.one import PostError, RecordPoster
from connectors.files.mapping import Refused, Why
from connectors.files.source import json_records
from connectors.registry import RegistryError
from pipeline.commands.shared import codec_of, print_json, settings_with
from pipeline.stages.outside import Mistake
from pipeline.topics import Topic
from schemas.records import Record

T = TypeVar("T", bound=Record)
#: Bad lines that are named one by one; the rest is only counted.
ERRORS_SHOWN: Final = 20
#: What waits for the last line to be checked is in memory up to here, then in a file without a name.
MEMORY_BYTES_MAX: Final = 16 << 20
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Posted(Generic[T]):
    """What a command posts."""

    #: In words, for people: "movements".
    called: str
    topic: Topic
    record: type[T]
    #: The same, but what it does not know is a mistake.
    strict: type[T]
    mistake_in: Callable[[T], Mistake | None]
    key: Callable[[T], bytes]


class BadLine(msgspec.Struct, frozen=True):
    """Where a mistake is and what is wrong, never what the line holds."""

    line: int
    #: Empty when the whole line is wrong.
    field: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {f'{self.field} {self.why}'.strip()}"


def post_lines(file: BinaryIO, posted: Posted[T], broker: str | None, *, as_json: bool) -> None:
    """Post each line of ``file``, or none; tell what was done. Raises ``click.ClickException``, and ends with code 1 for a
    file with a bad line."""
    settings = settings_with(broker=broker)
    bad: list[BadLine] = []
    read = 0
    try:
        encode = codec_of(settings).encoder(posted.record)
        with SpooledTemporaryFile(MEMORY_BYTES_MAX) as checked:
            for item in _checked(file, posted, encode):
                read += 1
                if isinstance(item, BadLine):
                    bad.append(item)
                else:
                    for part in item:
                        checked.write(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
            if not bad and read:
                checked.seek(0)
                poster = RecordPoster(settings.access, posted.topic.name)
                while key := _next(checked):
                    poster.post(_next(checked), key)
                poster.finish()
    except (PostError, RegistryError) as error:
        raise click.ClickException(f"{error}; what was posted is known by its ids, twice does no harm") from None
    except OSError as error:
        raise click.ClickException(f"{file.name} cannot be read: {error.strerror or error}") from None
    _tell(posted, read, bad, as_json=as_json)
    if bad:
        raise click.exceptions.Exit(1)


def _checked(
    file: BinaryIO, posted: Posted[T], encode: Callable[[T], bytes]
) -> Iterator[tuple[bytes, bytes] | BadLine]:
    """Key and value of each line, or what is wrong with it."""
    for number, item in json_records(file, posted.strict):
        if isinstance(item, Refused):
            yield BadLine(number, item.field, _WORDS[item.why])
        elif mistake := posted.mistake_in(item):
            yield BadLine(number, mistake.field, mistake.why)
        else:
            yield posted.key(item), encode(item)


#: What reading a line of JSON may say.
_WORDS: Final = {why: why.value.replace("_", " ") for why in Why} | {
    Why.MISSING: "is missing",
    Why.WRONG_TYPE: "is of another type",
    Why.UNKNOWN_FIELD: "has a field that is not known",
    Why.NOT_JSON: "is no JSON object",
    Why.LINE_TOO_LONG: "is too long",
}


def _next(file: IO[Any]) -> bytes:
    """The next part, empty at the end."""
    return bytes(file.read(int.from_bytes(file.read(_LENGTH_BYTES), "big")))


def _tell(posted: Posted[T], read: int, bad: list[BadLine], *, as_json: bool) -> None:
    sent = 0 if bad else read
    if as_json:
        shown = bad[:ERRORS_SHOWN]
        print_json({"topic": posted.topic.name, "read": read, "posted": sent, "refused": len(bad), "errors": shown})
        return
    for each in bad[:ERRORS_SHOWN]:
        click.echo(str(each), err=True)
    if len(bad) > ERRORS_SHOWN:
        click.echo(f"... and {len(bad) - ERRORS_SHOWN:,} more", err=True)
    if bad:
        click.echo(f"Nothing was posted: {len(bad):,} of {read:,} lines are wrong.", err=True)
    else:
        click.echo(f"{sent:,} {posted.called} posted to {posted.topic.name}")
