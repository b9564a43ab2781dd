"""What changed between two versions of a list. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.stages.watchlist import ListEntry

#: Fields of an entry that may change; list and entry id say which entry it is.
FIELDS: Final = ("kind", "names", "weak_names", "birth_dates", "countries")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a field of an entry lost and gained; both empty when only the order of its values changed."""

    field: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry that is in both versions, and differs."""

    before: ListEntry
    after: ListEntry
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Entries by their ids, in the order of the version that has them."""

    added: tuple[ListEntry, ...]
    removed: tuple[ListEntry, ...]
    changed: tuple[EntryChange, ...]
    #: How many entries the version before has.
    before_count: int

    @property
    def lost_share(self) -> float:
        """Which share of the entries was removed; 0 when there were none."""
        return len(self.removed) / self.before_count if self.before_count else 0.0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(before: Sequence[ListEntry], after: Sequence[ListEntry]) -> Difference:
    """What makes ``after`` of ``before``: two versions of one list."""
    old = {entry.entry_id: entry for entry in before}
    new = {entry.entry_id: entry for entry in after}
    changed = tuple(
        EntryChange(old[entry_id], entry, tuple(_changes(old[entry_id], entry)))
        for entry_id, entry in new.items()
        if entry_id in old and old[entry_id] != entry
    )
    return Difference(
        added=tuple(entry for entry_id, entry in new.items() if entry_id not in old),
        removed=tuple(entry for entry_id, entry in old.items() if entry_id not in new),
        changed=changed,
        before_count=len(old),
    )


def _changes(before: ListEntry, after: ListEntry) -> list[FieldChange]:
    changes = []
    for field in FIELDS:
        old, new = _values(getattr(before, field)), _values(getattr(after, field))
        if old != new:
            lost = tuple(value for value in old if value not in new)
            gained = tuple(value for value in new if value not in old)
            changes.append(FieldChange(field, lost, gained))
    return changes


def _values(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
