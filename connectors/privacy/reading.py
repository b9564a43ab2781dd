"""Stored events read: the one way from a row's value and payload to the record, whatever of it is sealed or erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec

from connectors.privacy.envelope import Envelope, SealError, SubjectKey, is_sealed, opened, parsed, place_of
from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.privacy.vault import Vault
from connectors.sinks.database import Database, DatabaseError
from connectors.sinks.rows import Mapper
from schemas.codec import Codec, UndecodableError, decode_request
from schemas.cutting import OWNERS, join

#: The columns, in a SELECT from ``{0}``, that :meth:`RowReader.read` takes, in their order.
READ_COLUMNS: Final = '{0}.tenant, {0}.topic, {0}."partition", {0}."offset", {0}.avro, CAST({0}.payload AS TEXT)'


@dataclass(frozen=True, slots=True)
class Read:
    """An event as it can be read now."""

    #: The record's bytes, as they came where nothing is hidden; what is hidden is empty in them. None when there are none.
    value: bytes | None
    #: The same as JSON; None when there is none.
    payload: str | None
    #: Whose data was erased: debtor, creditor, party ...
    erased: list[str] = field(default_factory=list)
    #: Whose data is sealed, and no master key is here to open it.
    sealed: list[str] = field(default_factory=list)
    #: Of the first that is hidden: stands for the person, the same in all of this person's events.
    stand_in: str = ""

    @property
    def data(self) -> dict[str, Any] | None:
        """The payload as data."""
        return json.loads(self.payload) if self.payload else None


class RowReader:
    """Reads rows of ``database``; without ``masters`` what is sealed stays so, and nothing is made up. ``codec`` is needed
    where records were written with a schema registry.

    Raises :class:`~connectors.sinks.database.DatabaseError`, for a wrong master key and a sealed value that was changed too.
    """

    def __init__(self, database: Database, masters: MasterKeys | None = None, codec: Codec | None = None) -> None:
        self._shown = database.shown
        self._mapper = _mapper() if codec is None else Mapper(codec)
        with self._errors():
            self._vault = None if masters is None else Vault(database, masters)

    def read(self, columns: tuple[Any, ...]) -> Read:
        """What :data:`READ_COLUMNS` of a row tell."""
        with self._errors():
            return self._read(columns)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (MasterKeyError, SealError, UndecodableError) as error:
            raise DatabaseError(f"{self._shown}: {error}") from None

    def _read(self, columns: tuple[Any, ...]) -> Read:
        tenant, topic, partition, offset, avro, payload = columns
        if avro is None or not is_sealed(value := bytes(avro)):
            return Read(avro if avro is None else bytes(avro), payload)
        envelope = parsed(value)
        place, pieces = place_of(tenant, topic, partition, offset), []
        erased: list[str] = []
        hidden: list[str] = []
        stand_in = ""
        for seal in envelope.seals:
            keys = self._keys(seal.key_ids)
            if keys is not None and all(keys):
                pieces.append(opened(seal, [key for key in keys if key], place))
                continue
            (hidden if keys is None else erased).append(OWNERS[seal.owner].value)
            stand_in = stand_in or seal.key_ids[0].hex()
        found = joined(envelope, pieces)
        if payload is not None and pieces:
            payload = self._mapper.payload(topic, found)
        # Of bytes that are no record nothing is left when they are hidden.
        return Read(found or None, payload, erased, hidden, stand_in)

    def _keys(self, key_ids: tuple[bytes, ...]) -> list[SubjectKey | None] | None:
        return None if self._vault is None else [self._vault.key(key_id) for key_id in key_ids]


def joined(envelope: Envelope, pieces: list[bytes]) -> bytes:
    """The record with ``pieces`` in their places. Raises :class:`~connectors.privacy.envelope.SealError`."""
    try:
        return join(envelope.rest, envelope.carried_at, pieces)
    except (ValueError, IndexError):
        raise SealError("what is sealed does not fit what is left: that was changed") from None


def data_of(mapper: Mapper, topic: str, value: bytes) -> dict[str, Any]:
    """A record as data, the PTR that it carries too. Raises :class:`~schemas.codec.UndecodableError`."""
    data: dict[str, Any] = json.loads(mapper.payload(topic, value))
    record = mapper.record_of_value(topic, value)
    if (carried := getattr(record, "request", None)) is not None:
        data["request"] = msgspec.to_builtins(decode_request(carried))
    return data


@lru_cache(maxsize=1)
def _mapper() -> Mapper:
    return Mapper(Codec())
