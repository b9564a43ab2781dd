"""Who and what an event is about: keys of topics and rows, and derived event ids. The only place that builds them."""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

#: Separates the parts of a key; no id may contain it.
SEPARATOR = "|"

TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
#: Ids of payments, parties and terminals: printable, no separator, bounded.
ID_PATTERN = re.compile(r"[^|\s\x00-\x1f\x7f]{1,80}\Z")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,3}\Z")
PIC_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")


def payment_key(tenant: str, payment_id: str) -> bytes:
    """Key of a payment in every topic and table that is about payments."""
    return f"{tenant}|{payment_id}".encode()


def payer_key(tenant: str, debtor_id: str) -> bytes:
    """Key of a payer's profile."""
    return f"{tenant}|{debtor_id}".encode()


def party_key(tenant: str, party_id: str) -> bytes:
    """Key of a party, whether it pays or is paid."""
    return f"{tenant}|{party_id}".encode()


def erasure_key(tenant: str, erasure_id: str) -> bytes:
    """Key of what became of an erasure: it does not name the party."""
    return f"{tenant}|{erasure_id}".encode()


def payee_key(tenant: str, creditor_id: str, terminal_id: str) -> bytes:
    """Key of a payee's profile: the creditor's terminal, or the creditor where there is no terminal."""
    return f"{tenant}|{creditor_id}|{terminal_id}".encode() if terminal_id else f"{tenant}|{creditor_id}".encode()


def stock_key(tenant: str, sku: str) -> bytes:
    """Key of what is told of an article's stock, at all locations."""
    return f"{tenant}|{sku}".encode()


def invoice_key(tenant: str, invoice_id: str) -> bytes:
    """Key of what is told of an invoice."""
    return f"{tenant}|{invoice_id}".encode()


def attempt_id(tenant: str, payment_id: str, attempt: int, operation_id: str = "") -> str:
    """Idempotency key of a call to a PIC: of a payment's attempt, or of one of its operations' attempt."""
    if operation_id:
        return f"{tenant}|{payment_id}|{operation_id}|{attempt}"
    return f"{tenant}|{payment_id}|{attempt}"


class AttemptName(NamedTuple):
    """What an idempotency key names; ``operation_id`` is empty for the payment itself."""

    tenant: str
    payment_id: str
    operation_id: str
    attempt: int


def parse_attempt_id(text: str) -> AttemptName:
    """What :func:`attempt_id` was made of. Raises :class:`ValueError` for anything else."""
    parts = text.split(SEPARATOR)
    tenant, payment_id, operation_id, attempt = (*parts[:2], "", parts[2]) if len(parts) == 3 else parts
    ids_fit = ID_PATTERN.match(payment_id) and (ID_PATTERN.match(operation_id) or len(parts) == 3)
    if not (TENANT_PATTERN.match(tenant) and ids_fit and _ATTEMPT.match(attempt)):
        raise ValueError("no attempt id")
    return AttemptName(tenant, payment_id, operation_id, int(attempt))


#: Sender numbers of what reviews let go on. It comes into a topic that another stage writes too, from a record of another
#: topic: numbered apart, its offsets are not compared with that stage's (docs/decisions/0017-reviews.md).
REVIEW_SENDERS = 1_000_000


def review_sender(partition: int) -> int:
    """``sender_partition`` of an event that reviews send for a record in this partition of ``reviews.decided.v1``."""
    return REVIEW_SENDERS + partition


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of ``key``: CRC-32, librdkafka's default (``consistent_random``), so that plain clients agree."""
    return zlib.crc32(key) % partitions
