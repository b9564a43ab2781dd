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


def text_paths(schema: dict[str, Any]) -> Iterator[str]:
    """Paths of all text fields, those that do not say whether they are personal too, as in earlier schemas."""
    return (path for path, _ in _texts(schema, "", {}))


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


class Owner(StrEnum):
    """Whose a field is: with whose key it is sealed in the audit tables (docs/decisions/0044-erasable-rows.md)."""

    DEBTOR = "debtor"
    CREDITOR = "creditor"
    #: The one party that a record is about.
    PARTY = "party"
    #: Debtor or creditor, as the record's ``evidence.party`` says.
    EVIDENCE = "evidence"
    #: Of a payment, by a record that does not name its parties.
    PAYMENT = "payment"
    #: All whom a record names: what cannot be taken apart.
    ALL = "all"


#: Kept: who decided is what an audit trail is for.
_KEPT = frozenset({Personal.NO, Personal.STAFF, Personal.CARRIES})
#: Their marked texts are codes that reports count by, or words about the operator's own PICs.
_CODES = frozenset({("ChargebackReceived", "reason"), ("PicControlled", "why")})
_OF_PARTY = {"creditor": Owner.CREDITOR, "party": Owner.PARTY, "evidence": Owner.EVIDENCE}


def owners(schema: dict[str, Any]) -> dict[str, Owner]:
    """Whose each sealed field of ``schema`` is, by its path. Raises as :func:`personal_fields`, which see."""
    name = schema["name"].rpartition(".")[2]
    marked = personal_fields(schema)
    if name == "DeadLetter":  # Another's bytes, as they came.
        return {"key": Owner.ALL, "value": Owner.ALL}
    subjects = {path for path, word in marked.items() if word is Personal.SUBJECT}
    return {
        path: _owner(path, subjects)
        for path, word in marked.items()
        if word not in _KEPT and (name, path) not in _CODES
    }


def _owner(path: str, subjects: set[str]) -> Owner:
    named = _OF_PARTY.get(path.split(".")[0].partition("_")[0])
    if named is not None:
        return named
    # Instrument, place, order and words of a record with a payer are the payer's; of one about a party, that party's.
    if "debtor_id" in subjects or "debtor.id" in subjects:
        return Owner.DEBTOR
    return Owner.PARTY if "party_id" in subjects else Owner.PAYMENT
