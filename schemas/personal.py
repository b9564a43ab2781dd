"""Which fields of records are about a person: the attribute ``personal`` of each text field in the ``.avsc`` files. Pure.

It says nothing of how records are written: Avro's canonical form and fingerprints leave it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any


class Personal(StrEnum):
    """What a text or bytes field says of a person (GDPR, article 4: any information about an identified one)."""

    #: Nothing: words of ours, ids of payments, currencies, countries of shops.
    NO = "no"
    #: The tenant's own id of a payer or payee: whose the rest of the record is.
    SUBJECT = "subject"
    NAME = "name"
    BIRTH = "birth"
    #: Where the person lives or comes from.
    PLACE = "place"
    #: A token that stands for their card or account.
    INSTRUMENT = "instrument"
    #: Words from outside that may say anything.
    TEXT = "text"
    #: Another record, whose fields are marked themselves.
    CARRIES = "carries"
    #: Somebody of the operator's, who decided.
    STAFF = "staff"


def personal_fields(schema: dict[str, Any]) -> dict[str, Personal]:
    """What each text field of ``schema`` says of a person, by its path (``debtor.name``). Raises ValueError for one that
    does not say, or uses a word that is not in :class:`Personal`."""
    found: dict[str, Personal] = {}
    for path, field in _texts(schema, "", {}):
        word = field.get("personal")
        if word is None:
            raise ValueError(f"{schema['name']}.{path} does not say whether it is personal")
        try:
            found[path] = Personal(word)
        except ValueError:
            raise ValueError(f"{schema['name']}.{path}: personal is one of {', '.join(Personal)}") from None
    return found


def _texts(record: dict[str, Any], before: str, named: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Text fields by their paths; ``named`` are the records that were met, which later fields may call by name."""
    named[record["name"]] = record
    for field in record["fields"]:
        path = f"{before}{field['name']}"
        if _is_text(field["type"]):
            yield path, field
        for inner in _records(field["type"], named):
            yield from _texts(inner, f"{path}.", named)


def _is_text(avro: Any) -> bool:
    if isinstance(avro, list):
        return any(_is_text(branch) for branch in avro)
    if isinstance(avro, dict):
        return avro["type"] in ("array", "map") and _is_text(avro.get("items", avro.get("values")))
    return avro in ("string", "bytes")


def _records(avro: Any, named: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(avro, list):
        for branch in avro:
            yield from _records(branch, named)
    elif isinstance(avro, dict):
        if avro["type"] == "record":
            yield avro
        elif avro["type"] in ("array", "map"):
            yield from _records(avro.get("items", avro.get("values")), named)
    elif (record := named.get(avro.rsplit(".", 1)[-1])) is not None:
        yield record
