"""The key that signs heads, in files as signed notes write keys: ``PRIVATE+KEY+NAME+HASH+SEED``; its public half beside it."""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from connectors.key_files import write_new
from connectors.proofs.verifier import Head, ProofError, PublicKey

#: A log's name, as a URL without scheme: what no other log is called.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}(?<!/)\Z")
_PREFIX = "PRIVATE+KEY+"
_ED25519 = b"\x01"
_SEED_BYTES = 32
PUBLIC_SUFFIX = ".pub"


class KeyFileError(Exception):
    """A file of keys cannot be used; the text names it and repeats nothing of a private key."""


class Signer:
    """Signs heads of the log called ``name``."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(name, self._private.public_key().public_bytes_raw())

    def sign(self, head: Head) -> str:
        """``head`` as a signed note."""
        text = head.text()
        data = self.public.hash_under(head.origin) + self._private.sign(text.encode())
        return f"{text}\n\N{EM DASH} {head.origin} {base64.b64encode(data).decode()}\n"


def make_key(path: Path, name: str) -> PublicKey:
    """Make a new key in ``path``, readable by its owner only, and its public half in ``path`` + ``.pub``.

    Raises :class:`KeyFileError`; a file that is there is never overwritten.
    """
    if not NAME_PATTERN.match(name):
        raise KeyFileError(
            f"{name!r} is no name for a log: take a-z, 0-9, '.', '_', '-' and '/', as in audit.example.com"
        )
    seed = os.urandom(_SEED_BYTES)
    public = Signer(name, seed).public
    key_hash = public.hash_under(name).hex()
    private = f"{_PREFIX}{name}+{key_hash}+{base64.b64encode(_ED25519 + seed).decode()}\n"
    for file, text, mode in ((path, private, 0o600), (public_path(path), f"{public}\n", 0o644)):
        try:
            write_new(file, text, mode)
        except FileExistsError:
            raise KeyFileError(
                f"{file} is there already: heads that it signed need it, so it is not overwritten"
            ) from None
        except OSError as error:
            raise KeyFileError(f"cannot write {file}: {error.strerror}") from None
    return public


def read_signer(path: Path) -> Signer:
    """The key in ``path``. Raises :class:`KeyFileError`."""
    text = _read(path)
    parts = text.removeprefix(_PREFIX).split("+", 2)
    try:
        data = base64.b64decode(parts[-1], validate=True)
    except binascii.Error:
        data = b""
    if not text.startswith(_PREFIX) or len(parts) != 3 or data[:1] != _ED25519 or len(data) != 1 + _SEED_BYTES:
        raise KeyFileError(f"{path} holds no private key of signed notes (Ed25519): make one with `ptr audit keygen`")
    signer = Signer(parts[0], data[1:])
    if not NAME_PATTERN.match(parts[0]) or signer.public.hash_under(parts[0]).hex() != parts[1]:
        raise KeyFileError(f"{path} is damaged: the key's hash is wrong")
    return signer


def read_public(path: Path) -> PublicKey:
    """The public key in ``path``. Raises :class:`KeyFileError`."""
    try:
        return PublicKey.parse(_read(path))
    except ProofError as error:
        raise KeyFileError(f"{path}: {error}") from None


def is_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    """The verifier's ``ed25519_verify``, in a fortieth of the time: for files of many heads."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_path(path: Path) -> Path:
    """Where the public half of the key in ``path`` is."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
