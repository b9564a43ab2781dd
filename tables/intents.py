"""Table of a PIC's queue: which intents were handled. One row per partition.

The queue has one sender per partition (dispatch, co-partitioned with it), so a single fence per partition tells the second
of two equal intents; the PIC is then not asked twice.
"""

from __future__ import annotations

import msgspec

from pipeline import topics

KEY = b"intents"


class IntentsRow(msgspec.Struct, array_like=True):
    """The fence of one queue partition."""

    version: int = 0
    seen: dict[int, int] = {}


def name(pic: str) -> str:
    """Table name for one PIC."""
    return f"intents_{pic.replace('-', '_')}"


def changelog(pic: str) -> str:
    """Changelog topic for one PIC."""
    return topics.table_intents(pic).name
