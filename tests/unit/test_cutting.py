"""Personal data cut out of records and put back: the compiled way beside its reference."""

from __future__ import annotations

from itertools import combinations

import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.sinks.rows import record_of_topic
from pipeline.topics import audited
from schemas import cutting
from schemas.codec import COMPILED, SINGLE_OBJECT, Codec, UndecodableError, earlier_schemas, fingerprint_of, schema_of
from schemas.cutting import OWNERS, Cut, cutter, join
from schemas.personal import Personal, owners, personal_fields
from schemas.records import (
    ListEvidence,
    PaymentAnswered,
    PaymentCompleted,
    PaymentRequested,
    PaymentScreened,
    Record,
    RuleSnoozed,
)
from tests.builders import a_request
from tests.contract.samples import SAMPLES
from tests.unit.test_native_codec import values

CODEC = Codec()
RUNS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
AUDITED = sorted({record_of_topic(topic.name) or Record for topic in audited(("simulator",))}, key=lambda r: r.__name__)
CUTTERS = {record: cutter(CODEC, record) for record in (*AUDITED, PaymentRequested)}


def pieces(cut: Cut) -> tuple[bytes, ...]:
    return cut[-len(OWNERS) :]


def reference(record: type[Record], value: bytes) -> Cut | None:
    return cutting._Reference(record).cut(value, 10, schema_of(record))


def a_screened(request: bytes, **named: object) -> PaymentScreened:
    sample = next(each for each in SAMPLES if type(each) is PaymentScreened)
    return msgspec.structs.replace(sample, request=request, **named)


@pytest.mark.parametrize("record", [*AUDITED, PaymentRequested], ids=lambda record: record.__name__)
@RUNS
@given(data=st.data())
def test_all_pieces_together_are_the_very_bytes(record: type[Record], data: st.DataObject) -> None:
    """Of every record, with a PTR, with a damaged one, with more behind it: nothing is lost, and both ways say the same."""
    drawn = data.draw(values(schema_of(record)))
    if "request" in drawn:
        body = CODEC.dict_encoder(PaymentRequested)(data.draw(values(schema_of(PaymentRequested))))[10:]
        cut_at = data.draw(st.integers(0, len(body)))
        drawn["request"] = data.draw(st.sampled_from([body, body, body[:cut_at], body + b"more", drawn["request"]]))
    value = CODEC.dict_encoder(record)(drawn) + data.draw(st.sampled_from([b"", b"", b"behind"]))
    cut = CUTTERS[record](value)
    assert cut == reference(record, value)
    if cut is None:
        return
    assert join(cut.rest, cut.carried_at, pieces(cut)) == value
    for some in combinations(pieces(cut), data.draw(st.integers(0, len(OWNERS)))):
        CODEC.decode(join(cut.rest, cut.carried_at, some), record)  # Whoever is missing: still the record.


def test_what_is_left_says_nothing_of_anybody() -> None:
    """Amounts, stages and reasons stay; no byte of what is marked does, in the event or in the PTR that it carries."""
    request = a_request(debtor_name="Grace Hopper", debtor_id="payer-77", metadata={"note": "ring twice"})
    body = CODEC.encode(request)[10:]
    evidence = ListEvidence(
        party="debtor", list="ofac", entry_id="7", score=0.9, algorithm="1", party_name="GRACE HOPPER"
    )
    value = CODEC.encode(a_screened(body, debtor_id="payer-77", creditor_id="c1", token="tok_9", evidence=evidence))
    cut = CUTTERS[PaymentScreened](value)
    assert cut is not None
    for secret in (b"Hopper", b"HOPPER", b"payer-77", b"ring", b"tok_", b"10115", b"Corner", b"order-1"):
        assert secret not in cut.rest, secret
    assert b"term-1" in cut.rest
    assert (cut.debtor_id, cut.creditor_id, cut.party_id) == ("payer-77", "c1", "")
    assert b"Hopper" in cut.debtor
    assert b"Corner" in cut.creditor
    assert b"HOPPER" in cut.evidence
    left = CODEC.decode(cut.rest, PaymentScreened)
    assert (left.debtor_id, left.token, left.amount_minor) == (
        "",
        "",
        CODEC.decode(value, PaymentScreened).amount_minor,
    )
    half = CODEC.decode(join(cut.rest, cut.carried_at, [cut.creditor]), PaymentScreened)
    assert (half.creditor_id, half.debtor_id) == ("c1", "")


def test_nothing_personal_is_nothing_to_cut() -> None:
    """An outcome, and an answer without an address for the payer."""
    for record in (PaymentCompleted, PaymentAnswered):
        sample = next(each for each in SAMPLES if type(each) is record)
        if record is PaymentAnswered:
            sample = msgspec.structs.replace(sample, action_url="")
        assert CUTTERS[record](CODEC.encode(sample)) is None


@pytest.mark.parametrize("record", [PaymentScreened, RuleSnoozed], ids=lambda record: record.__name__)
def test_records_of_every_earlier_schema_are_cut(record: type[Record]) -> None:
    """By the marks of today."""
    sample = msgspec.to_builtins(next(each for each in SAMPLES if type(each) is record), builtin_types=(bytes,))
    for schema in earlier_schemas(record):
        from io import BytesIO

        out = BytesIO()
        known = {field["name"] for field in schema["fields"]}
        data = {name: each for name, each in sample.items() if name in known} | {"debtor_id": "payer-77"}
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), data)
        value = SINGLE_OBJECT + fingerprint_of(schema) + out.getvalue()
        cut = CUTTERS[record](value)
        assert cut is not None
        assert cut.debtor_id == "payer-77"
        assert b"payer-77" not in cut.rest
        assert join(cut.rest, cut.carried_at, pieces(cut)) == value
        assert CODEC.decode(cut.rest, record).tenant == sample["tenant"]


@RUNS
@given(value=st.binary(max_size=60))
@example(b"")
@example(b"\x00\x00\x00\x00\x01")
def test_bytes_that_are_no_record_are_refused(value: bytes) -> None:
    for cut in CUTTERS.values():
        with pytest.raises(UndecodableError):
            cut(value)


@pytest.mark.parametrize("record", AUDITED, ids=lambda record: record.__name__)
def test_every_personal_field_has_an_owner(record: type[Record]) -> None:
    """But those of staff, and codes; so a new field that is marked is sealed."""
    marked = {path for path, word in personal_fields(schema_of(record)).items() if word is not Personal.NO}
    kept = {"by", "who", "request"} | {"ChargebackReceived": {"reason"}, "PicControlled": {"why"}}.get(
        record.__name__, set()
    )
    assert owners(schema_of(record)).keys() == marked - kept
    assert not COMPILED or cutting._compiled(record) is not None
