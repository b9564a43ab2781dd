"""Rows as a sink maps them to rows as they are stored: what is personal sealed with its owners' keys."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from connectors.privacy.envelope import MAGIC, Nonces, SubjectKey, place_of, sealed
from connectors.privacy.vault import NOBODY, PARTY, PAYMENT, Subject, Vault
from connectors.sinks.rows import Columns, EventRow, erased_row
from schemas.cutting import OWNERS, Cut
from schemas.identity import SEPARATOR

try:
    from connectors.privacy import native_sealing
except ImportError:  # Not compiled here.
    native_sealing = None  # type: ignore[assignment]

#: Whether rows are sealed by compiled code.
COMPILED: Final = native_sealing is not None

#: Events of no payment that are told apart by their party, and the characters between which its place is left empty.
_NAMED_BY_PARTY: Final = {"parties": "/", "fraud": "/", "exceptions": SEPARATOR}
_PSEUDONYM_BYTES: Final = 12
_DEBTOR, _CREDITOR, _PARTY, _, _PAYMENT, _ALL = range(len(OWNERS))
#: Of a row.
_VALUE: Final = EventRow._fields.index("avro")


class Sealer:
    """Seals rows with the keys of ``vault``."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._nonces = Nonces()

    def sealed(self, rows: Sequence[Columns]) -> list[Columns]:
        """``rows`` with sealed values in place of what was cut, and a row for each erasure that is not told yet.

        Keys that are new were added when this returns (:class:`Vault`). Raises what the vault does.
        """
        if self._vault.refresh():
            rows = [*rows, *(erased_row(*erasure) for erasure in self._vault.untold())]
        wanted: set[Subject] = set()
        for row in rows:
            if type(cut := row[_VALUE]) is Cut:
                if cut.debtor:
                    wanted.add((row[0], PARTY, cut.debtor_id))
                if cut.creditor:
                    wanted.add((row[0], PARTY, cut.creditor_id))
                if cut.party or cut.payment or cut.all:
                    wanted.update(subject for _, subjects, _ in _others(row, cut) for subject in subjects)
        keys, nonce = self._vault.keys_of(wanted), self._nonces.next
        if native_sealing is None:
            return [seal(row, cut, keys, nonce) if type(cut := row[_VALUE]) is Cut else row for row in rows]
        block = self._nonces.block(2 * len(rows))
        return native_sealing.seal(rows, Cut, keys, PARTY, MAGIC, *block, lambda row, cut: seal(row, cut, keys, nonce))


def _others(row: Columns, cut: Cut) -> Iterator[tuple[int, list[Subject], bytes]]:
    """What is neither the debtor's nor the creditor's: the owner's place, whose keys, and what it is."""
    tenant, payment_id = row[0], row[1]
    of_payment = (tenant, PAYMENT, payment_id) if payment_id else (tenant, NOBODY, "")
    if cut.party:
        yield _PARTY, [(tenant, PARTY, cut.party_id)], cut.party
    if cut.payment:
        yield _PAYMENT, [of_payment], cut.payment
    if cut.all:
        named = dict.fromkeys(name for name in (cut.debtor_id, cut.creditor_id, cut.party_id) if name)
        yield _ALL, [(tenant, PARTY, name) for name in named] or [of_payment], cut.all


def seal(row: Columns, cut: Cut, keys: Mapping[Subject, SubjectKey], nonce: Callable[[], bytes]) -> Columns:
    """``row`` with a sealed value in the place of ``cut``."""
    tenant, payment_id, event_id, a, stage, c, d, e, f, topic, partition, offset, at_ms, _, payload = row
    rest, carried_at, debtor_id, creditor_id, _, debtor, creditor, party, _, payment, everybody = cut
    parts: list[tuple[int, Sequence[SubjectKey], bytes]] = []
    if debtor:
        parts.append((_DEBTOR, (keys[tenant, PARTY, debtor_id],), debtor))
    if creditor:
        parts.append((_CREDITOR, (keys[tenant, PARTY, creditor_id],), creditor))
    if party or payment or everybody:
        parts += [(place, [keys[each] for each in subjects], data) for place, subjects, data in _others(row, cut)]
    if not payment_id and (mark := _NAMED_BY_PARTY.get(stage)):
        pseudonym = hmac.digest(parts[0][1][0].secret, b"event", "sha256")[:_PSEUDONYM_BYTES].hex()
        event_id = event_id.replace(mark + mark, mark + pseudonym + mark, 1)
    value = sealed(rest, carried_at, parts, place_of(tenant, topic, partition, offset), nonce)
    return (tenant, payment_id, event_id, a, stage, c, d, e, f, topic, partition, offset, at_ms, value, payload)
