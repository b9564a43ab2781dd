"""Table ``parties``: who paid and was paid, so that they can be screened again when a list changes. Keyed by party.

Personal data, here and nowhere else in a table: it is removed by a tombstone for the party's key in the changelog.
"""

from __future__ import annotations

import msgspec

from pipeline import topics

NAME = "parties"
CHANGELOG = topics.TABLE_PARTIES.name
#: Key of the row that says how far rescreening is, one in each partition; no party's key begins like this.
PROGRESS = b"|"


class Progress(msgspec.Struct, array_like=True):
    """How far a partition's parties are screened again, by versions of all lists together."""

    #: All parties are screened by these.
    done: str = ""
    #: Being screened by these, up to and with the party of the key ``reached``; empty: nothing is under way.
    target: str = ""
    reached: bytes = b""


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


ROW = PartyRow
