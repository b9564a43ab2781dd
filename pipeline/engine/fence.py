"""The fence: what makes at-least-once exact.

Each event carries the coordinates of the record its sender was handling, and each row keeps, per sender partition, the last
offset applied. A record at or below it is a repeat and changes nothing. It holds because a producer's sequence to a partition
has no holes and every restart begins at or before what is committed.
"""

from __future__ import annotations


def repeated(seen: dict[int, int], partition: int, offset: int) -> bool:
    """Whether the row that keeps ``seen`` was given this sender's record already; if not, note it as given."""
    if seen.get(partition, -1) >= offset:
        return True
    seen[partition] = offset
    return False
