"""Rows as a sink maps them to rows as they are stored: what is personal sealed with its owners' keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from connectors.privacy.envelope import Nonces, SubjectKey, place_of, sealed
from connectors.privacy.vault import NOBODY, PARTY, PAYMENT, Subject, Vault
from connectors.sinks.rows import Columns
from schemas.cutting import OWNERS, Cut
from schemas.identity import SEPARATOR

#: Events of no payment that are told apart by their party, and the characters between which its place is left empty.
_NAMED_BY_PARTY: Final = {"parties": "/", "fraud": "/", "exceptions": SEPARATOR}
_PSEUDONYM_BYTES: Final = 12
_PIECES: Final = len(Cut._fields) - len(OWNERS)
_PAYMENT, _ALL = len(OWNERS) - 2, len(OWNERS) - 1


class Sealer:
    """Seals rows with the keys of ``vault``."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._nonces = Nonces()

    def sealed(self, rows: Sequence[Columns]) -> list[Columns]:
        """``rows`` with sealed values in place of what was cut. Keys that are new are stored when this returns; rows that are
        not written after all leave keys of nobody's, which the next ones use. Raises what the vault does."""
        self._vault.refresh()
        keys = self._vault.keys_of(subject for row in rows if type(row[13]) is Cut for subject in _subjects(row, row[13]))
        return [_sealed(row, row[13], keys, self._nonces) if type(row[13]) is Cut else row for row in rows]


def _subjects(row: Columns, cut: Cut) -> Iterator[Subject]:
    tenant = row[0]
    if cut[_PIECES]:
        yield Subject(tenant, PARTY, cut[2])
    if cut[_PIECES + 1]:
        yield Subject(tenant, PARTY, cut[3])
    if cut[_PIECES + 2]:
        yield Subject(tenant, PARTY, cut[4])
    if cut[_PIECES + _PAYMENT]:
        yield _of_payment(row)
    if cut[_PIECES + _ALL]:
        yield from _everybody(row, cut)


def _of_payment(row: Columns) -> Subject:
    return Subject(row[0], PAYMENT, row[1]) if row[1] else Subject(row[0], NOBODY, "")


def _everybody(row: Columns, cut: Cut) -> list[Subject]:
    named = [Subject(row[0], PARTY, name) for name in dict.fromkeys(cut[2:_PIECES]) if name]
    return named or [_of_payment(row)]


def _sealed(row: Columns, cut: Cut, keys: Mapping[Subject, SubjectKey], nonces: Nonces) -> Columns:
    tenant, payment_id, event_id, a, b, c, d, e, f, topic, partition, offset, at_ms, _, payload = row
    parts: list[tuple[int, Sequence[SubjectKey], bytes]] = []
    # Spelled out for the owners of nearly all rows: a third of the time.
    if piece := cut[_PIECES]:
        parts.append((0, (keys[Subject(tenant, PARTY, cut[2])],), piece))
    if piece := cut[_PIECES + 1]:
        parts.append((1, (keys[Subject(tenant, PARTY, cut[3])],), piece))
    if piece := cut[_PIECES + 2]:
        parts.append((2, (keys[Subject(tenant, PARTY, cut[4])],), piece))
    if piece := cut[_PIECES + _PAYMENT]:
        parts.append((_PAYMENT, (keys[_of_payment(row)],), piece))
    if piece := cut[_PIECES + _ALL]:
        parts.append((_ALL, [keys[subject] for subject in _everybody(row, cut)], piece))
    if not payment_id and (mark := _NAMED_BY_PARTY.get(b)) and parts:
        pseudonym = hmac.digest(parts[0][1][0].secret, b"event", "sha256")[:_PSEUDONYM_BYTES].hex()
        event_id = event_id.replace(mark + mark, mark + pseudonym + mark, 1)
    place = place_of(tenant, topic, partition, offset)
    value = sealed(cut[0], cut[1], parts, place, nonces.next)
    return (tenant, payment_id, event_id, a, b, c, d, e, f, topic, partition, offset, at_ms, value, payload)

