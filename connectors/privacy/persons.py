"""All that the audit tables hold of one person: found, given out, erased.

Rows name a person's key and nothing else of the person. They are found by the stretches of trees that the key may be in
(:mod:`connectors.privacy.marks`); what nobody read before is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from connectors.privacy.envelope import Envelope, SubjectKey, opened, parsed, place_of
from connectors.privacy.marks import rows_sealed_by
from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.privacy.reading import data_of, joined
from connectors.privacy.vault import PARTY, PAYMENT, Vault, is_in_use
from connectors.proofs.verifier import AVRO, COLUMNS, TENANT
from connectors.sinks.database import Database
from connectors.sinks.rows import Mapper
from schemas.codec import Codec
from schemas.cutting import OWNERS
from schemas.personal import Owner

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: What is read of a row of a file, as of one in the database.
_PICKED: Final = [
    COLUMNS.index(name)
    for name in (
        "payment_id",
        "event_id",
        "stage",
        "recorded_at_ms",
        "tenant",
        "topic",
        "partition",
        "offset",
        "avro",
        "payload",
    )
]
#: Keys that one reading of a tenant's rows looks for.
KEYS_AT_ONCE: Final = 200
_DEBTOR: Final = OWNERS.index(Owner.DEBTOR)
_TEXTS: Final = (
    "SELECT EXISTS (SELECT * FROM privacy_keys WHERE tenant = ? AND kind = 'payment' AND erased_at_ms IS NULL)"
)


class UnknownPartyError(LookupError):
    """Nothing is sealed for this party; the text says what that may mean."""


@dataclass(frozen=True, slots=True)
class Event:
    """What one event holds of a person."""

    payment_id: str
    event_id: str
    stage: str
    recorded_at_ms: int
    #: Values by the path of their field, as in ``request.debtor.name``.
    fields: dict[str, Any]


@dataclass(slots=True)
class Person:
    """A person's key, and those of the texts about payments that were the person's to pay."""

    key: SubjectKey
    texts: list[SubjectKey] = field(default_factory=list)
    payments: int = 0
    events: int = 0


class Persons:
    """The persons in ``database``, and in the rows that were ``archived`` from it. Raises what the database, the vault and
    files of the archive raise. With ``keep`` it is kept what was read, for the next one: ``database`` is open for writing.
    """

    def __init__(
        self,
        database: Database,
        masters: MasterKeys,
        codec: Codec,
        archived: ArchivedRows | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self._database, self._mapper, self._archived, self._keep = database, Mapper(codec), archived, keep
        if not is_in_use(database):
            raise MasterKeyError(
                "none of its rows are sealed: it was written without a master key, and holds what it holds in the open"
            )
        self._vault = Vault(database, masters)

    def find(self, tenant: str, party_id: str) -> Person:
        """The keys of a person, and in how many rows they are. Raises :class:`UnknownPartyError`."""
        key = self._vault.key_of((tenant, PARTY, party_id))
        if key is None:
            raise UnknownPartyError(
                f"nothing is sealed for party {party_id} of {tenant}: no event named it, or it was erased before"
            )
        person, payments, paid = Person(key), set[str](), set[str]()
        for payment_id, _, _, _, *stored in self._rows(tenant, [key]):
            payments.add(payment_id)
            person.events += 1
            if any(seal.owner == _DEBTOR and key.key_id in seal.key_ids for seal in parsed(bytes(stored[4])).seals):
                paid.add(payment_id)
        person.payments = len(payments - {""})
        if self._database.query(_TEXTS, (tenant,))[0][0]:
            found = (self._vault.key_of((tenant, PAYMENT, payment_id)) for payment_id in sorted(paid - {""}))
            person.texts = [each for each in found if each is not None]
        return person

    def erase(self, person: Person, by: str) -> int:
        """Destroy the person's keys: from now on nobody can open what they sealed. Gives how many there were."""
        return self._vault.erase([person.key.key_id, *(key.key_id for key in person.texts)], by)

    def events(self, tenant: str, person: Person) -> Iterator[Event]:
        """What each event holds of the person, by payment and in the order of its story."""
        keys = [person.key, *person.texts]
        rows = self._rows(tenant, keys)
        for payment_id, event_id, stage, at_ms, *stored in sorted(rows, key=lambda row: (row[0], row[3], row[1])):
            fields = self._fields(tuple(stored), keys)
            if fields:
                yield Event(payment_id, event_id, stage, at_ms, fields)

    def _rows(self, tenant: str, keys: list[SubjectKey]) -> Iterator[tuple[Any, ...]]:
        """Rows that one of ``keys`` sealed something of, each once; some hundred keys are looked for in one reading."""
        ids = [key.key_id for key in keys]
        here = set()
        for start in range(0, len(ids), KEYS_AT_ONCE):
            part = ids[start : start + KEYS_AT_ONCE]
            for row in rows_sealed_by(self._database, tenant, part, keep=self._keep):
                if row[:2] not in here:
                    here.add(row[:2])
                    yield row
        for row in self._archived.all() if self._archived else ():
            if row[AVRO] and row[TENANT] == tenant and any(key_id in row[AVRO] for key_id in ids):
                picked = tuple(row[at] for at in _PICKED)
                if picked[:2] not in here:  # An archiving that did not end leaves rows in both.
                    yield picked

    def _fields(self, stored: tuple[Any, ...], keys: list[SubjectKey]) -> dict[str, Any]:
        tenant, topic, partition, offset, avro, _ = stored
        envelope, place = parsed(bytes(avro)), place_of(tenant, topic, partition, offset)
        pieces = list(self._pieces(envelope, place, {key.key_id for key in keys}))
        if not envelope.rest:  # bytes that are no record
            return {"value": joined(envelope, pieces).decode(errors="replace")} if pieces else {}
        with_person, without = (data_of(self._mapper, topic, joined(envelope, each)) for each in (pieces, []))
        return dict(_differing("", with_person, without))

    def _pieces(self, envelope: Envelope, place: bytes, ours: set[bytes]) -> Iterator[bytes]:
        for seal in envelope.seals:
            if not ours & set(seal.key_ids):
                continue
            found = [self._vault.key(key_id) for key_id in seal.key_ids]
            if all(found):
                yield opened(seal, [key for key in found if key], place)


def _differing(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(one, dict) and isinstance(other, dict) and (other or not path):
        for name, value in one.items():
            yield from _differing(f"{path}.{name}" if path else name, value, other.get(name))
    elif one != other:
        yield path, one
