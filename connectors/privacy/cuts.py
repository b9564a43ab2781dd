"""What is personal in an audited record, cut out, and whose it is where that takes more than the field's place."""

from __future__ import annotations

from schemas.codec import Codec, UndecodableError
from schemas.cutting import Cut, Cutter, cutter
from schemas.records import DeadLetter, PaymentScreened, Record


def row_cutter(codec: Codec, record: type[Record]) -> Cutter:
    """A function that cuts values of ``record`` for the audit tables. It raises what :func:`schemas.cutting.cutter`'s does."""
    if record is PaymentScreened:
        return _screened(codec)
    return _dead_letter(codec) if record is DeadLetter else cutter(codec, record)


def _screened(codec: Codec) -> Cutter:
    cut_event, decode = cutter(codec, PaymentScreened), codec.decoder(PaymentScreened)

    def cut(value: bytes) -> Cut | None:
        found = cut_event(value)
        if found is None or not found.evidence:
            return found
        evidence = decode(found.rest).evidence
        assert evidence is not None
        if evidence.party == "creditor":
            return found._replace(creditor=found.creditor + found.evidence, evidence=b"")
        return found._replace(debtor=found.debtor + found.evidence, evidence=b"")

    return cut


def _dead_letter(codec: Codec) -> Cutter:
    """Key and value as a whole, of all whom the value names; of its payment where it names nobody."""
    cut_letter, decode = cutter(codec, DeadLetter), codec.decoder(DeadLetter)
    inner: dict[type[Record], Cutter] = {}

    def cut(value: bytes) -> Cut | None:
        found = cut_letter(value)
        content = decode(value).value
        if found is None or not content:
            return found
        try:
            record = codec.record_of(content)
            if record not in inner:
                inner[record] = cutter(codec, record)
            named = inner[record](content)
        except UndecodableError:  # As most dead letters are.
            return found
        if named is None:
            return found
        return found._replace(debtor_id=named.debtor_id, creditor_id=named.creditor_id, party_id=named.party_id)

    return cut
