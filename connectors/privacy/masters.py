"""The master key, which wraps the keys of persons: in a file or the environment, one line a key, the one in use first."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from connectors.key_files import write_new

_PREFIX: Final = "PTR-PRIVACY-KEY"
KEY_BYTES: Final = 32
_HEX: Final = re.compile("[0-9a-f]{64}")
NONCE_BYTES: Final = 12


class MasterKeyError(Exception):
    """A master key cannot be used, or is missing; the text says which, and repeats nothing of one."""


class MasterKeys:
    """The first wraps, all of them unwrap."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._ciphers = {master_id(key): AESGCM(key) for key in keys}
        #: Names the one in use.
        self.current = master_id(keys[0])

    def __reduce__(self) -> tuple[type[MasterKeys], tuple[tuple[bytes, ...]]]:
        """Only a pipe to another process of the sink takes them."""
        return MasterKeys, (self._keys,)

    @classmethod
    def parse(cls, text: str) -> MasterKeys:
        """Of lines as ``ptr privacy keygen`` writes them, or of 64 hex digits. Raises :class:`MasterKeyError`."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise MasterKeyError("there is no master key: make one with `ptr privacy keygen`")
        return cls([_key_in(line, number) for number, line in enumerate(lines, 1)])

    @property
    def ids(self) -> list[str]:
        """Names of all of them."""
        return list(self._ciphers)

    def wrap(self, key: bytes, about: bytes) -> bytes:
        """``key`` under the master key in use; ``about`` is needed to unwrap it.

        Nonces are random, which holds for 2**32 keys (NIST SP 800-38D, 8.3).
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[self.current].encrypt(nonce, key, about)

    def unwrap(self, wrapped: bytes, master: str, about: bytes) -> bytes:
        """What :meth:`wrap` was given under the master key named ``master``. Raises :class:`MasterKeyError`."""
        cipher = self._ciphers.get(master)
        if cipher is None:
            raise MasterKeyError(
                f"keys are wrapped by master key {master}, and PTR_PRIVACY_MASTER_KEY holds {', '.join(self.ids)}:"
                " wrong file, or an old key was taken out before `ptr privacy rotate` had ended"
            )
        try:
            return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise MasterKeyError(f"a key that master key {master} wrapped was changed") from None


def master_id(key: bytes) -> str:
    """Names a master key and tells nothing of it: eight hex digits of its hash."""
    return hashlib.sha256(b"ptr privacy master key\x00" + key).hexdigest()[:8]


def make_master(path: Path) -> str:
    """Make a new master key in ``path``, readable by its owner only, and give its name.

    Raises :class:`MasterKeyError`; a file that is there is never overwritten.
    """
    key = os.urandom(KEY_BYTES)
    line = f"{_PREFIX}+{master_id(key)}+{base64.b64encode(key).decode()}\n"
    try:
        write_new(path, line)
    except FileExistsError:
        raise MasterKeyError(
            f"{path} is there already: keys that it wrapped need it, so it is not overwritten"
        ) from None
    except OSError as error:
        raise MasterKeyError(f"cannot write {path}: {error.strerror}") from None
    return master_id(key)


def _key_in(line: str, number: int) -> bytes:
    if _HEX.fullmatch(line):
        return bytes.fromhex(line)
    parts = line.split("+", 2)
    try:
        key = base64.b64decode(parts[-1], validate=True)
    except binascii.Error:
        key = b""
    if parts[0] != _PREFIX or len(parts) != 3 or len(key) != KEY_BYTES:
        raise MasterKeyError(f"line {number} is no master key: make one with `ptr privacy keygen`")
    if master_id(key) != parts[1]:
        raise MasterKeyError(f"line {number}: the master key {parts[1]} is damaged")
    return key
