"""Exceptions: a tenant's word that one of its parties is not the listed entry that it is like.  Pure.

An exception holds for one tenant, one entry with the content it had, and one party under the name it had: when any of these
changes it is void, without anybody having to remember it. It holds hashes, no names.
"""

from __future__ import annotations

from dataclasses import astuple
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from pipeline.stages.watchlist import ListEntry, Match
from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, SEPARATOR, TENANT_PATTERN
from schemas.limits import BY_CHARS_MAX, TEXT_CHARS_MAX
from schemas.reasons import Error
from schemas.records import ExceptionGranted

#: Three years; who is no terrorist today is asked again after that.
DAYS_MAX: Final = 3 * 366
DAY_MS: Final = 24 * 60 * 60 * 1000
_DIGEST_BYTES: Final = 16
_HASH_CHARS: Final = 2 * _DIGEST_BYTES


class Exceptions(Protocol):
    """What screening asks (connectors/exceptions/book.py)."""

    def in_force(self, tenant: str, list_id: str, entry_id: str, party_id: str, at_ms: int) -> ExceptionGranted | None:
        """The exception that is in force for payments received at ``at_ms``, if any; hashes are not looked at."""


class NoExceptions:
    """Nobody granted any."""

    def in_force(self, tenant: str, list_id: str, entry_id: str, party_id: str, at_ms: int) -> ExceptionGranted | None:
        return None


def entry_hash(entry: ListEntry) -> str:
    """BLAKE2b-128 of all that the list says of the entry, hex."""
    return blake2b(msgspec.msgpack.encode(astuple(entry)), digest_size=_DIGEST_BYTES).hexdigest()


def name_hash(tenant: str, party_id: str, compared_name: str) -> str:
    """BLAKE2b-128 of a party's name as it is compared, hex; with tenant and party, so that equal names are not seen to be."""
    text = SEPARATOR.join((tenant, party_id, compared_name))
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def exception_key(granted: ExceptionGranted) -> bytes:
    """What it is about: the newest one of a key counts."""
    return SEPARATOR.join((granted.tenant, granted.list, granted.entry_id, granted.party_id)).encode()


def exception_id(granted: ExceptionGranted) -> str:
    """Names one exception within its tenant."""
    return SEPARATOR.join((granted.list, granted.entry_id, granted.party_id, str(granted.granted_at_ms)))


def covers(granted: ExceptionGranted, *, entry: str, name: str, at_ms: int) -> bool:
    """Whether it holds for this content of the entry and this name of the party (hashes), at ``at_ms``."""
    same = granted.entry_hash == entry and granted.name_hash == name
    return same and not granted.revoked and at_ms < granted.until_ms


def applying(
    exceptions: Exceptions, tenant: str, party_id: str, match: Match, content: str, at_ms: int
) -> ExceptionGranted | None:
    """The exception by which a party's match with an entry of this ``content`` (its hash) does not count at ``at_ms``."""
    found = exceptions.in_force(tenant, match.list, match.entry_id, party_id, at_ms)
    if found is None:
        return None
    name = name_hash(tenant, party_id, match.party_name)
    return found if covers(found, entry=content, name=name, at_ms=at_ms) else None


def mistake_in(granted: ExceptionGranted) -> tuple[Error, str] | None:
    """Why an exception cannot be one; None when it can. Exceptions come from outside."""
    if not TENANT_PATTERN.match(granted.tenant):
        return Error.INVALID_EXCEPTION, "tenant is not a valid id"
    for field in ("list", "entry_id", "party_id"):
        if not ID_PATTERN.match(getattr(granted, field)):
            return Error.INVALID_EXCEPTION, f"{field} is not a valid id"
    for field in ("entry_hash", "name_hash"):
        if len(getattr(granted, field)) != _HASH_CHARS:
            return Error.INVALID_EXCEPTION, f"{field} is not a hash of {_HASH_CHARS} hex digits"
    if granted.until_ms > granted.granted_at_ms + DAYS_MAX * DAY_MS:
        return Error.INVALID_EXCEPTION, f"until_ms is more than {DAYS_MAX} days after granted_at_ms"
    for field, chars_max in (("by", BY_CHARS_MAX), ("reason", TEXT_CHARS_MAX)):
        text: str = getattr(granted, field)
        if len(text) > chars_max:
            return Error.INVALID_EXCEPTION, f"{field} has {len(text)} characters, at most {chars_max}"
        if not text.strip() or not text.isprintable():
            return Error.INVALID_EXCEPTION, f"{field} is empty or not printable"
        if holds_card_number(text):
            return Error.CARD_NUMBER_IN_TEXT, field
    if holds_card_number(granted.party_id):
        return Error.CARD_NUMBER_IN_ID, "party_id"
    return None
