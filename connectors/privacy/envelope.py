"""A sealed value: a record without what is personal, and beside it, for each owner, what is, under that owner's keys. Pure.

``E5 01``, where the carried PTR's length stands (four bytes), the number of seals; of each seal its owner's place (one byte),
the number of keys, the length of what is sealed (four bytes), the keys' ids (eight bytes each), the nonce (twelve) and what is
sealed; then the record, to the end. All numbers are big endian. No Avro header begins with ``E5``.

What several persons own is sealed with one key after the other, so whoever is erased takes it along.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"\xe5\x01"
_HEAD: Final = struct.Struct(">2sIB")
_SEAL: Final = struct.Struct(">BBI")
KEY_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
#: Of a nonce, the part that counts; the rest is random, drawn by each sink, and anew when all counts are used.
_COUNT_BYTES: Final = 4
_NONCE: Final = struct.Struct(">8sI")
_COUNTS: Final = 1 << (8 * _COUNT_BYTES)


class SealError(Exception):
    """A sealed value is not as it was sealed; the text names no content."""


class SubjectKey:
    """The key of one person."""

    __slots__ = ("decrypt", "encrypt", "encrypt_into", "key_id", "secret")

    def __init__(self, key_id: bytes, secret: bytes) -> None:
        cipher = AESGCM(secret)
        self.key_id, self.secret = key_id, secret
        self.encrypt, self.encrypt_into, self.decrypt = cipher.encrypt, cipher.encrypt_into, cipher.decrypt


class Seal(NamedTuple):
    """One owner's part."""

    owner: int
    key_ids: tuple[bytes, ...]
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed value, taken apart."""

    rest: bytes
    carried_at: int
    seals: list[Seal]


class Nonces:
    """Numbers that are used once: eight random bytes and a count, as NIST SP 800-38D (8.2.1) makes them.

    Two nonces are the same only where two sinks' random bytes are: of a million of them, one chance in forty million.
    So a key may be used for as many events as there are; random nonces (2**32 uses of a key) would not do for a large shop.
    """

    def __init__(self) -> None:
        self._count = _COUNTS

    def next(self) -> bytes:
        """A nonce."""
        return _NONCE.pack(*self.block(1))

    def block(self, nonces: int) -> tuple[bytes, int]:
        """Random part and first count of so many, which nobody else is given."""
        if self._count > _COUNTS - nonces:
            self._random, self._count = os.urandom(NONCE_BYTES - _COUNT_BYTES), 0
        first = self._count
        self._count += nonces
        return self._random, first


def sealed(
    rest: bytes,
    carried_at: int,
    parts: Sequence[tuple[int, Sequence[SubjectKey], bytes]],
    place: bytes,
    nonces: Callable[[], bytes],
) -> bytes:
    """A sealed value of ``parts``: each owner's place, keys, and what is personal. It opens at ``place`` only."""
    found = [_HEAD.pack(MAGIC, carried_at, len(parts))]
    for owner, keys, data in parts:
        nonce = nonces()
        if len(keys) == 1:  # Nearly always: half the time.
            text = keys[0].encrypt(nonce, data, place)
            found += (_SEAL.pack(owner, 1, len(text)), keys[0].key_id, nonce, text)
            continue
        text = data
        for key in keys:
            text = key.encrypt(nonce, text, place)
        found += (_SEAL.pack(owner, len(keys), len(text)), *[key.key_id for key in keys], nonce, text)
    found.append(rest)
    return b"".join(found)


def is_sealed(value: bytes | None) -> bool:
    """Whether it is a sealed value, and not the record itself."""
    return value is not None and value[:2] == MAGIC


def parsed(value: bytes) -> Envelope:
    """``value`` taken apart. Raises :class:`SealError`."""
    try:
        _, carried_at, count = _HEAD.unpack_from(value)
        at, seals = _HEAD.size, []
        for _ in range(count):
            owner, keys, size = _SEAL.unpack_from(value, at)
            at += _SEAL.size
            ids = tuple(value[at + KEY_ID_BYTES * i : at + KEY_ID_BYTES * (i + 1)] for i in range(keys))
            at += KEY_ID_BYTES * keys
            nonce, text = value[at : at + NONCE_BYTES], value[at + NONCE_BYTES : at + NONCE_BYTES + size]
            at += NONCE_BYTES + size
            seals.append(Seal(owner, ids, nonce, text))
    except struct.error:
        raise SealError("a sealed value ends early") from None
    if at > len(value):
        raise SealError("a sealed value ends early")
    return Envelope(value[at:], carried_at, seals)


def opened(seal: Seal, keys: Sequence[SubjectKey], place: bytes) -> bytes:
    """What is personal in ``seal``, whose ``keys`` are in the order of its ids. Raises :class:`SealError`."""
    text = seal.sealed
    try:
        for key in reversed(keys):
            text = key.decrypt(seal.nonce, text, place)
    except (InvalidTag, ValueError):
        raise SealError("what is sealed was changed, or belongs to another row") from None
    return text


def place_of(tenant: str, topic: str, partition: int, offset: int) -> bytes:
    """What a seal is bound to, beside its keys: a row's tenant and coordinates."""
    return f"{tenant}\x00{topic}\x00{partition}\x00{offset}".encode()
