"""Table ``parties``: who paid and was paid, so that they can be screened again when a list changes. Keyed by party.

Names, here and nowhere else in a table: an erasure removes the party's row, with a tombstone in the changelog. That there was
one is kept under a hash of the party's key (:func:`erased_key`).
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from pipeline import topics

NAME = "parties"
CHANGELOG = topics.TABLE_PARTIES.name
#: Key of the row that says how far rescreening is, one in each partition; no party's key begins like this.
PROGRESS = b"|"


def erased_key(key: bytes) -> bytes:
    """Key of the row that says when the party of ``key`` was erased; it begins as :data:`PROGRESS`."""
    return PROGRESS + blake2b(key, digest_size=16).digest()


class Progress(msgspec.Struct, array_like=True):
    """How far a partition's parties are screened again, by versions of all lists together."""

    #: All parties are screened by these.
    done: str = ""
    #: Being screened by these, up to and with the party of the key ``reached``; empty: nothing is under way.
    target: str = ""
    reached: bytes = b""


class Erased(msgspec.Struct, array_like=True):
    """When a party was erased last."""

    #: What was received before it is of before the erasure, epoch milliseconds.
    until_ms: int = 0
    #: Offset of the request, in the row's own partition: a repeat of it is known.
    offset: int = -1


class PartyRow(msgspec.Struct, array_like=True):
    """A party as its last payment has it."""

    version: int = 0
    name: str = ""
    country: str = ""
    birth_date: str = ""
    #: When that payment was received.
    seen_at_ms: int = 0
    #: ``list:version:entry`` that it was flagged for, of the versions that it was screened by last.
    flagged: list[str] = []
    #: In the row of the key :data:`PROGRESS` only.
    progress: Progress | None = None
    #: In rows of :func:`erased_key` only; ``version`` is then at least that of the row that was removed.
    erased: Erased | None = None


ROW = PartyRow
