"""Contents larger than a Kafka record may be: in parts, then a head that names them. For sanctions lists and models.

Parts and head are one transaction, the head last (:mod:`connectors.broker.transaction`). Readers do not lean on that: a
content without its head, or with a part missing or damaged, counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Protocol

#: Half of what a broker takes in one record by default (``message.max.bytes``, 1 MB).
PART_BYTES_MAX: Final = 512 * 1024
#: 128 MB: some thirty times the largest list that is known. A head that names more is a mistake.
PARTS_MAX: Final = 256
#: Of the hash; as many as a version of all lists together has.
VERSION_CHARS: Final = 12


class IncompleteError(ValueError):
    """Parts that are not the content their head names; the text says how."""


class Head(Protocol):
    """What names a content."""

    @property
    def version(self) -> str: ...
    @property
    def parts(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def whole(head: Head, parts: Mapping[int, bytes]) -> bytes:
    """The content that ``head`` names. Raises :class:`IncompleteError` when ``parts`` are not all of it."""
    if not 1 <= head.parts <= PARTS_MAX:
        raise IncompleteError(f"its head names {head.parts} parts; there are 1 to {PARTS_MAX}")
    missing = [part for part in range(head.parts) if part not in parts]
    if missing:
        raise IncompleteError(f"{len(missing)} of its {head.parts} parts are missing, the first is {missing[0]}")
    content = b"".join(parts[part] for part in range(head.parts))
    digest = sha256(content).hexdigest()
    if digest != head.sha256 or not digest.startswith(head.version) or len(head.version) != VERSION_CHARS:
        raise IncompleteError("its content has another hash than its head says")
    return content
