"""Messages in a stream of bytes: each has its length before it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

#: Two bytes, high byte first, or four ASCII digits; the length counts what follows.
Header = Literal["binary2", "ascii4"]
HEADERS: Final[tuple[Header, ...]] = ("binary2", "ascii4")
#: No message of ours has 1,000 bytes; card switches stay below this, and a hostile length must not fill the memory.
MESSAGE_BYTES_MAX: Final = 8_192


class FramingError(ConnectionError):
    """Where the next message begins is not known any more: the connection is of no use. ``reason``: bad_length or too_long."""

    def __init__(self, reason: Literal["bad_length", "too_long"]) -> None:
        super().__init__(reason)
        self.reason = reason


def frame(payload: bytes, header: Header) -> bytes:
    """``payload`` with its length. Raises :class:`FramingError` ``too_long``."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise FramingError("too_long")
    return (len(payload).to_bytes(2, "big") if header == "binary2" else b"%04d" % len(payload)) + payload


class Deframer:
    """Cuts what comes into messages, however it was cut on its way. It keeps less than one message of the largest size."""

    def __init__(self, header: Header) -> None:
        self._header: Header = header
        self._width = 2 if header == "binary2" else 4
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. An empty one says only that the line is alive: it is left out.

        Raises :class:`FramingError` once the messages before the wrong length are taken.
        """
        self._rest += data
        while len(self._rest) >= self._width:
            length = self._length(bytes(self._rest[: self._width]))
            end = self._width + length
            if len(self._rest) < end:
                return
            payload = bytes(self._rest[self._width : end])
            del self._rest[:end]
            if payload:
                yield payload

    def _length(self, header: bytes) -> int:
        if self._header == "ascii4" and not header.isdigit():
            raise FramingError("bad_length")
        length = int.from_bytes(header, "big") if self._header == "binary2" else int(header)
        if length > MESSAGE_BYTES_MAX:
            raise FramingError("too_long")
        return length
