"""Request check: may this request enter the pipeline?  And what exactly was asked, so that a repeat is recognised.

Pure: the time of receipt is an argument. What is refused is named by field, never by value.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from string import ascii_uppercase
from typing import Final

import msgspec

from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, TENANT_PATTERN
from schemas.limits import (
    AMOUNT_MINOR_MAX,
    METADATA_ENTRIES_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_VALUE_CHARS_MAX,
    NAME_CHARS_MAX,
    REQUESTED_AHEAD_MS_MAX,
    TEXT_CHARS_MAX,
)
from schemas.money import is_currency
from schemas.reasons import Reason
from schemas.records import Party, PaymentRequested


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request may go on."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request ends here. ``reason`` and ``detail`` are safe to show: they hold no value of the request."""

    reason: Reason
    detail: str


_ACCEPTED: Final = Accepted()
_KINDS: Final = ("payment", "authorize")
#: Two capital letters; whether there is such a country is for localization.
_COUNTRY_CODES: Final = frozenset(first + second for first, second in product(ascii_uppercase, repeat=2))
#: Unicode's control characters, line and paragraph separators: no name has them, and they forge lines in reports.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CURRENCY_SHAPE: Final = re.compile(r"[A-Za-z]{3}")


def check_request(
    request: PaymentRequested, *, received_at_ms: int, suspect_card_number: bool = True
) -> Accepted | Refused:
    """Decide whether ``request`` may enter. The first check that fails gives the reason.

    ``suspect_card_number`` may be False when :func:`schemas.card_numbers.may_hold_card_number` is, of the request's
    bytes: then fields are not searched for card numbers.
    """
    refused = (
        _check_kind(request)
        or _check_ids(request)
        or _check_lengths(request)
        or (_check_metadata(request.metadata) if request.metadata else None)
        or (_check_card_numbers(request) if suspect_card_number else None)
        or _check_currency(request.currency)
        or _check_amount(request.amount_minor)
        or _check_time(request.requested_at_ms, received_at_ms)
        or _check_countries(request)
        or _check_names(request)
    )
    return refused or _ACCEPTED


def _check_kind(request: PaymentRequested) -> Refused | None:
    return None if request.kind in _KINDS else Refused(Reason.UNSUPPORTED_KIND, "kind")


def _check_ids(request: PaymentRequested, is_id: Callable[[str], object] = ID_PATTERN.match) -> Refused | None:
    if not is_id(request.payment_id):
        return Refused(Reason.INVALID_FIELD, "payment_id")
    if not TENANT_PATTERN.match(request.tenant):
        return Refused(Reason.INVALID_FIELD, "tenant")
    if not is_id(request.debtor.id):
        return Refused(Reason.INVALID_FIELD, "debtor.id")
    if not is_id(request.creditor.id):
        return Refused(Reason.INVALID_FIELD, "creditor.id")
    if request.terminal_id and not is_id(request.terminal_id):
        return Refused(Reason.INVALID_FIELD, "terminal_id")
    return None


def _check_lengths(request: PaymentRequested) -> Refused | None:
    debtor, creditor = request.debtor, request.creditor
    if len(debtor.name) > NAME_CHARS_MAX:
        return Refused(Reason.FIELD_TOO_LONG, "debtor.name")
    if len(creditor.name) > NAME_CHARS_MAX:
        return Refused(Reason.FIELD_TOO_LONG, "creditor.name")
    instrument, locality = request.instrument, request.locality
    # Short together is short each: one comparison for a usual request.
    total = (
        len(request.channel)
        + len(instrument.kind)
        + len(instrument.token)
        + len(locality.region)
        + len(locality.postcode)
        + len(locality.locale)
        + len(request.order_reference)
        + (len(debtor.birth_date) if debtor.birth_date else 0)
        + (len(debtor.registration) if debtor.registration else 0)
        + (len(creditor.birth_date) if creditor.birth_date else 0)
        + (len(creditor.registration) if creditor.registration else 0)
    )
    if total <= TEXT_CHARS_MAX:
        return None
    for field, text in _free_texts(request):
        if len(text) > TEXT_CHARS_MAX:
            return Refused(Reason.FIELD_TOO_LONG, field)
    return None


def _check_metadata(metadata: dict[str, str]) -> Refused | None:
    if len(metadata) > METADATA_ENTRIES_MAX:
        return Refused(Reason.TOO_MANY_METADATA, f"more than {METADATA_ENTRIES_MAX} entries")
    for key, value in metadata.items():
        if len(key) > METADATA_KEY_CHARS_MAX:
            return Refused(Reason.FIELD_TOO_LONG, "metadata key")
        if len(value) > METADATA_VALUE_CHARS_MAX:
            return Refused(Reason.FIELD_TOO_LONG, "metadata value")
    return None


def _check_card_numbers(request: PaymentRequested) -> Refused | None:
    for field, text in _all_texts(request):
        if holds_card_number(text):
            return Refused(Reason.CARD_NUMBER, field)
    return None


def _check_currency(currency: str) -> Refused | None:
    if is_currency(currency):
        return None
    shown = f": {currency}" if _CURRENCY_SHAPE.fullmatch(currency) else ""
    return Refused(Reason.UNKNOWN_CURRENCY, f"currency{shown}")


def _check_amount(amount_minor: int) -> Refused | None:
    if amount_minor <= 0:
        return Refused(Reason.AMOUNT_NOT_POSITIVE, "amount_minor")
    if amount_minor > AMOUNT_MINOR_MAX:
        return Refused(Reason.AMOUNT_ABOVE_LIMIT, f"amount_minor above {AMOUNT_MINOR_MAX}")
    return None


def _check_time(requested_at_ms: int, received_at_ms: int) -> Refused | None:
    if requested_at_ms - received_at_ms > REQUESTED_AHEAD_MS_MAX:
        return Refused(Reason.REQUESTED_IN_FUTURE, f"requested_at_ms more than {REQUESTED_AHEAD_MS_MAX} ms ahead")
    if requested_at_ms < 0:
        return Refused(Reason.INVALID_FIELD, "requested_at_ms")
    return None


def _check_countries(request: PaymentRequested) -> Refused | None:
    if request.debtor.country not in _COUNTRY_CODES:
        return Refused(Reason.INVALID_FIELD, "debtor.country")
    if request.creditor.country not in _COUNTRY_CODES:
        return Refused(Reason.INVALID_FIELD, "creditor.country")
    if request.locality.country not in _COUNTRY_CODES:
        return Refused(Reason.INVALID_FIELD, "locality.country")
    return None


def _check_names(request: PaymentRequested) -> Refused | None:
    if not _is_name(request.debtor.name):
        return Refused(Reason.INVALID_FIELD, "debtor.name")
    if not _is_name(request.creditor.name):
        return Refused(Reason.INVALID_FIELD, "creditor.name")
    return None


def _is_name(text: str) -> bool:
    """Whether there is something that can be screened, and no control character."""
    return bool(text) and not text.isspace() and (text.isprintable() or _CONTROL.search(text) is None)


def _free_texts(request: PaymentRequested) -> Iterator[tuple[str, str]]:
    yield "channel", request.channel
    yield "instrument.kind", request.instrument.kind
    yield "instrument.token", request.instrument.token
    yield "locality.region", request.locality.region
    yield "locality.postcode", request.locality.postcode
    yield "locality.locale", request.locality.locale
    yield "order_reference", request.order_reference
    yield "debtor.birth_date", request.debtor.birth_date or ""
    yield "debtor.registration", request.debtor.registration or ""
    yield "creditor.birth_date", request.creditor.birth_date or ""
    yield "creditor.registration", request.creditor.registration or ""


def _all_texts(request: PaymentRequested) -> Iterator[tuple[str, str]]:
    """Every text in the request with the name of its field; keys and values of metadata are not named further."""
    yield "payment_id", request.payment_id
    yield "tenant", request.tenant
    yield "currency", request.currency
    for field, party in (("debtor", request.debtor), ("creditor", request.creditor)):
        yield f"{field}.id", party.id
        yield f"{field}.name", party.name
        yield f"{field}.country", party.country
    yield "terminal_id", request.terminal_id
    yield "locality.country", request.locality.country
    yield from _free_texts(request)
    for key, value in request.metadata.items():
        yield "metadata key", key
        yield "metadata value", value


#: What a client may have changed under the same id, in the order of their checksums in :func:`content_of`.
CONTENT_GROUPS: Final = (
    "kind",
    "amount",
    "debtor",
    "creditor",
    "terminal",
    "instrument",
    "locality",
    "order_reference",
    "metadata",
    "requested_at",
)
_CHECKSUM_BYTES: Final = 4
_pack_checksums: Final = struct.Struct(f">{len(CONTENT_GROUPS)}I").pack
_encode: Final = msgspec.msgpack.Encoder().encode
_NO_METADATA: Final = _encode(())


def content_of(request: PaymentRequested) -> tuple[bytes, bytes]:
    """What is asked, but for tenant and payment id: its BLAKE2b (16 bytes), and a CRC-32 per group (4 bytes each).

    Equal hashes mean equal requests; the checksums only serve to name what differs. Both are kept in rows for as long
    as rows are, so a field that is added later must leave them as they are while it has its default.
    """
    instrument, locality, metadata = request.instrument, request.locality, request.metadata
    groups = (
        _encode(request.kind),
        _encode((request.amount_minor, request.currency)),
        _party(request.debtor),
        _party(request.creditor),
        _encode((request.terminal_id, request.channel)),
        _encode((instrument.kind, instrument.token)),
        _encode((locality.country, locality.region, locality.postcode, locality.locale)),
        _encode(request.order_reference),
        _encode(sorted(metadata.items())) if metadata else _NO_METADATA,
        _encode(request.requested_at_ms),
    )
    # MessagePack says where each value ends, so the groups put together are as unambiguous as each of them.
    return blake2b(b"".join(groups), digest_size=16).digest(), _pack_checksums(*map(zlib.crc32, groups))


def _party(party: Party) -> bytes:
    return _encode((party.id, party.name, party.country, party.birth_date, party.registration))


def differing_fields(ours: bytes, theirs: bytes) -> list[str]:
    """The groups whose checksums, from :func:`content_of`, differ; both must have been made by the same version."""
    if len(ours) != len(theirs):
        raise ValueError(f"checksums of {len(ours)} and {len(theirs)} bytes cannot be compared")
    size = _CHECKSUM_BYTES
    return [
        name
        for at, name in enumerate(CONTENT_GROUPS)
        if ours[at * size : (at + 1) * size] != theirs[at * size : (at + 1) * size]
    ]
