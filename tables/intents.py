"""Table of a PIC's queue: which intents were handled.

First asks of payments come from one sender per partition (dispatch, co-partitioned with the queue), in the order of its
records: one fence, in one row of the partition, tells the second of two equal intents, and the PIC is not asked twice.

Any other intent (of a later attempt, of an operation, one that comes back from a retry topic) may be sent because of a record
of one topic before a crash and of another one after it. Such an attempt has a row of its own: the last ask that was handled.
"""

from __future__ import annotations

import msgspec

from pipeline import topics

KEY = b"intents"


class IntentsRow(msgspec.Struct, array_like=True):
    """The fence of one queue partition; or, under 0, the last ask of one attempt."""

    version: int = 0
    seen: dict[int, int] = {}


def key_of(attempt_id: str) -> bytes:
    """Key of an attempt's own row."""
    return attempt_id.encode()


def name(pic: str) -> str:
    """Table name for one PIC."""
    return f"intents_{pic.replace('-', '_')}"


def changelog(pic: str) -> str:
    """Changelog topic for one PIC."""
    return topics.table_intents(pic).name
