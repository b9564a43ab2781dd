"""A version of a list as it travels: a list is larger than a Kafka record may be, so it goes in parts, then a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from connectors.broker.parts import PART_BYTES_MAX, VERSION_CHARS, IncompleteError, whole
from pipeline.stages.watchlist import KINDS, ListEntry
from schemas.records import ListPart, ListUpdated


class UnusableListError(ValueError):
    """A version that is incomplete or damaged; the text says how, and names nobody."""


@dataclass(frozen=True, slots=True)
class ListVersion:
    """A version ready to be written: its head, and the contents of its parts in their order."""

    head: ListUpdated
    contents: tuple[bytes, ...]

    def parts(self) -> list[ListPart]:
        """The records of the parts."""
        return [
            ListPart(list=self.head.list, version=self.head.version, part=part, content=content)
            for part, content in enumerate(self.contents)
        ]


def pack(list_id: str, entries: Sequence[ListEntry], *, source_at_ms: int, imported_at_ms: int) -> ListVersion:
    """The version that holds ``entries``. Same entries in the same order: same parts, same hash, same version."""
    contents: list[bytes] = []
    lines: list[bytes] = []
    size = 0
    for entry in entries:
        line = msgspec.json.encode(entry) + b"\n"
        if lines and size + len(line) > PART_BYTES_MAX:
            contents.append(b"".join(lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    contents.append(b"".join(lines))
    digest = sha256(b"".join(contents)).hexdigest()
    head = ListUpdated(
        list=list_id,
        version=digest[:VERSION_CHARS],
        parts=len(contents),
        sha256=digest,
        entries=len(entries),
        source_at_ms=source_at_ms,
        imported_at_ms=imported_at_ms,
    )
    return ListVersion(head, tuple(contents))


def retired(before: ListUpdated, *, at_ms: int) -> ListVersion:
    """The version that takes a list out of use: one without entries, of the same day as ``before``."""
    return pack(before.list, (), source_at_ms=before.source_at_ms, imported_at_ms=at_ms)


def is_retired(head: ListUpdated) -> bool:
    """Whether a version says that its list is out of use; no import makes one without entries."""
    return head.entries == 0


def content_of(head: ListUpdated, parts: Mapping[int, bytes]) -> bytes:
    """The content that ``head`` names, whole. Raises :class:`UnusableListError` when ``parts`` are not all of it."""
    try:
        return whole(head, parts)
    except IncompleteError as error:
        raise UnusableListError(str(error)) from error


def entries_of(head: ListUpdated, content: bytes) -> tuple[ListEntry, ...]:
    """The entries in ``content``. Raises :class:`UnusableListError` when they are not those of ``head``'s list."""
    try:
        # Line by line: decoding all of them at once would hold up every other thread meanwhile.
        decode = msgspec.json.Decoder(ListEntry).decode
        entries = [decode(line) for line in content.split(b"\n") if line]
    except msgspec.MsgspecError as error:
        raise UnusableListError(f"its content cannot be read: {error}") from error
    if len(entries) != head.entries:
        raise UnusableListError(f"it holds {len(entries)} entries, and its head says {head.entries}")
    if any(entry.list != head.list or entry.kind not in KINDS or not entry.names for entry in entries):
        raise UnusableListError("it holds an entry of another list, of an unknown kind or without a name")
    return tuple(entries)


def head_key(list_id: str, version: str) -> bytes:
    """Key of a head."""
    return f"{list_id}|{version}".encode()


def part_key(list_id: str, version: str, part: int) -> bytes:
    """Key of a part."""
    return f"{list_id}|{version}|{part}".encode()
