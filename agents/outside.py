"""Values that outsiders post, before they are read."""

from __future__ import annotations

from schemas.codec import UndecodableError
from schemas.limits import VALUE_BYTES_MAX
from schemas.reasons import Error


def bounded(value: bytes | None, expected: str) -> bytes:
    """``value``, which is neither empty nor too large; ``expected`` names what it should be, as "a PTR".

    Raises :class:`~schemas.codec.UndecodableError`.
    """
    if not value:
        raise UndecodableError(Error.EMPTY_VALUE, f"{expected} is expected")
    if len(value) > VALUE_BYTES_MAX:
        raise UndecodableError(Error.VALUE_TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    return value
