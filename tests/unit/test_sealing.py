"""Rows sealed and read again, for every kind of record."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from connectors.privacy.cuts import row_cutter
from connectors.privacy.envelope import MAGIC, Nonces, SealError, SubjectKey, is_sealed, opened, parsed, sealed
from connectors.privacy.masters import MasterKeys
from connectors.privacy.reading import RowReader
from connectors.privacy.sealing import COMPILED, Sealer, seal
from connectors.privacy.vault import Vault
from connectors.sinks.database import Database, DatabaseError, open_database
from connectors.sinks.rows import Columns, EventRow, Mapper, record_of_topic
from pipeline.topics import audited
from schemas.codec import Codec, encode_request, schema_of
from schemas.cutting import Cut
from schemas.records import ListEvidence, PaymentScreened, Record
from tests.builders import a_request
from tests.contract.samples import SAMPLES
from tests.unit.test_native_codec import values

CODEC = Codec()
PLAIN, CUTTING = Mapper(CODEC), Mapper(CODEC, cutting=True)
MASTERS = MasterKeys([bytes(range(32))])
TOPICS = {record_of_topic(topic.name) or Record: topic.name for topic in audited(("simulator",))}
SAMPLED = [sample for sample in SAMPLES if type(sample) in TOPICS]
PERSONAL = [
    sample
    for sample in SAMPLED
    if type(CUTTING.columns(TOPICS[type(sample)], 1, 7, 1000, CODEC.encode(sample))[13]) is Cut
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Any:
    url = f"sqlite:///{tmp_path_factory.mktemp('sealing') / 'audit.db'}"
    with closing(open_database(url, create=True)) as made:
        made.migrate()
        yield made


def both(database: Database, topic: str, value: bytes) -> tuple[Columns, Columns]:
    """The row as it comes, and as it is stored."""
    sealer = Sealer(Vault(database, MASTERS, create=True))
    return PLAIN.columns(topic, 1, 7, 1000, value), sealer.sealed([CUTTING.columns(topic, 1, 7, 1000, value)])[0]


def read(database: Database, row: Columns, masters: MasterKeys | None = MASTERS) -> Any:
    return RowReader(database, masters).read((row[0], *row[9:12], row[13], row[14]))


@pytest.mark.parametrize("sample", SAMPLED, ids=lambda sample: type(sample).__name__)
def test_what_is_sealed_is_read_as_it_came(database: Database, sample: Record) -> None:
    """Bytes and JSON; without the key a record is left, and the rest of the row is the same."""
    topic = TOPICS[type(sample)]
    came, stored = both(database, topic, CODEC.encode(sample))
    found = read(database, stored)
    assert (found.value, found.payload, found.erased, found.sealed) == (came[13], came[14], [], [])
    assert stored[:2] + stored[3:13] == came[:2] + came[3:13]
    if stored[4] not in ("parties", "fraud", "exceptions"):
        assert stored[2] == came[2]
    closed = read(database, stored, None)
    assert bool(closed.sealed) == is_sealed(stored[13])
    assert closed.payload == stored[14] != ""


@pytest.mark.parametrize("who", ["debtor", "creditor"])
def test_the_name_that_was_compared_is_whose_it_was(who: str) -> None:
    """Of the party that looked like somebody on a list."""
    evidence = ListEvidence(party=who, list="ofac", entry_id="7", score=0.9, algorithm="1", party_name="GRACE HOPPER")
    sample = next(each for each in SAMPLES if type(each) is PaymentScreened)
    cut = row_cutter(CODEC, PaymentScreened)(CODEC.encode(replace(sample, evidence=evidence)))
    assert cut is not None
    assert cut.evidence == b""
    assert [b"GRACE HOPPER" in each for each in (cut.debtor, cut.creditor)] == [who == "debtor", who == "creditor"]


class Registry:
    """One that has the schema of PaymentScreened under 1."""

    def id_of(self, subject: str, schema: str) -> int:
        return 1

    def schema_of(self, schema_id: int) -> str:
        return json.dumps(schema_of(PaymentScreened))


def test_records_of_a_schema_registry_are_sealed_and_read(database: Database) -> None:
    """In Confluent framing, which only a registry reads."""
    codec, topic = Codec(Registry()), TOPICS[PaymentScreened]
    sample = next(each for each in SAMPLES if type(each) is PaymentScreened)
    value = codec.encode(replace(sample, request=encode_request(a_request())))
    assert value[0] == 0
    row = Mapper(codec, cutting=True).columns(topic, 1, 7, 1000, value)
    stored = Sealer(Vault(database, MASTERS, create=True)).sealed([row])[0]
    found = RowReader(database, MASTERS, codec).read((stored[0], *stored[9:12], stored[13], stored[14]))
    assert (found.value, found.payload) == (value, Mapper(codec).payload(topic, value))
    with pytest.raises(DatabaseError, match="no schema registry is set"):
        read(database, stored)


def test_bytes_that_are_no_record_are_sealed_too(database: Database) -> None:
    """Nobody can say whose they are."""
    came, stored = both(database, TOPICS[PaymentScreened], b"\xff Grace Hopper")
    assert came[5] == stored[5] == "unreadable"
    assert b"Hopper" not in stored[13]
    assert read(database, stored).value == came[13]
    assert read(database, stored, None).value is None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_record_and_any_bytes_are_read_as_they_came(database: Database, data: st.DataObject) -> None:
    """Also under ids that are none, with a PTR that is damaged, and what is no record at all."""
    record = data.draw(st.sampled_from(sorted(TOPICS, key=lambda each: each.__name__)))
    value = CODEC.dict_encoder(record)(data.draw(values(schema_of(record))))
    value = data.draw(st.sampled_from([value, value, value[: len(value) // 2], value[10:]]))
    came, stored = both(database, TOPICS[record], value)
    found = read(database, stored)
    assert ((found.value or b""), found.payload) == ((came[13] or b""), came[14])


@given(data=st.binary(max_size=200), place=st.binary(max_size=40), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_changed_bit_does_not_open(data: bytes, place: bytes, at: int, bit: int) -> None:
    """Nor does another place, or another key; two keys open what was sealed with both."""
    one, other, third = (SubjectKey(name * 8, name * 32) for name in (b"1", b"2", b"3"))
    nonce = Nonces().next
    for keys in ([one], [one, other]):
        (seal,) = parsed(sealed(b"rest", 3, [(0, keys, data)], place, nonce)).seals
        assert opened(seal, keys, place) == data
        changed = bytearray(seal.sealed)
        changed[at % len(changed)] ^= 1 << bit
        for wrong in (
            (seal._replace(sealed=bytes(changed)), keys, place),
            (seal, keys, place + b"x"),
            (seal, [third] * len(keys), place),
        ):
            with pytest.raises(SealError):
                opened(*wrong)


def test_nonces_are_never_the_same() -> None:
    """Nor after all counts are used, nor in blocks."""
    nonces = Nonces()
    drawn = [nonces.next() for _ in range(1000)]
    for count in (0, (1 << 32) - 2, (1 << 32) - 7):
        nonces._count = max(count, nonces._count if count == 0 else 0)
        for size in (1, 7, 3, 1, 5):
            random, first = nonces.block(size)
            assert first + size <= 1 << 32
            drawn += [random + (first + at).to_bytes(4, "big") for at in range(size)]
            drawn.append(nonces.next())
    assert len(set(drawn)) == len(drawn) == 1000 + 3 * 22


def test_no_two_seals_have_the_same_nonce(database: Database) -> None:
    """Of one sealer, whatever it seals, batch after batch."""
    sealer = Sealer(Vault(database, MASTERS, create=True))
    rows = [CUTTING.columns(TOPICS[type(sample)], 1, 7, 1000, CODEC.encode(sample)) for sample in PERSONAL]
    found = [sealed for _ in range(5) for row in sealer.sealed(rows) for sealed in parsed(row[13]).seals]
    assert len({seal.nonce for seal in found}) == len(found) >= 5 * len(rows)


@pytest.mark.skipif(not COMPILED, reason="connectors.privacy.native_sealing is not compiled here")
@pytest.mark.parametrize("sample", PERSONAL, ids=lambda sample: type(sample).__name__)
def test_compiled_code_seals_as_the_reference_does(sample: Record) -> None:
    """To the byte, with the same nonces; also with one owner alone, none, or no payment, and what is not cut."""
    from connectors.privacy import native_sealing

    row = CUTTING.columns(TOPICS[type(sample)], 1, 7, 1000, CODEC.encode(sample))
    cut = row[13]
    cuts = [cut, cut._replace(debtor=b""), cut._replace(creditor=b""), cut._replace(debtor=b"", creditor=b"")]
    named = [cut._replace(debtor=b"one", creditor=b"other", debtor_id="a", creditor_id="b", carried_at=1 << 20)]
    rows = [(*row[:13], each, row[14]) for each in (*cuts, *named)]
    rows += [(row[0], "", *row[2:]), (*row[:13], b"as it came", row[14]), EventRow._make(row)]
    names = {name for each in rows if type(each[13]) is Cut for name in each[13][2:5]}
    subjects = [*((row[0], "party", name) for name in names), (row[0], "payment", row[1]), (row[0], "nobody", "")]
    keys = {subject: SubjectKey(bytes([at]) * 8, bytes([at]) * 32) for at, subject in enumerate(subjects)}
    nonces = Nonces()
    random, first = nonces.block(1)
    drawn = (random + (first + at).to_bytes(4, "big") for at in range(100))
    found = native_sealing.seal(rows, Cut, keys, "party", MAGIC, random, first, lambda row, cut: ("others",))
    for before, after in zip(rows, found, strict=True):
        if type(before[13]) is not Cut:
            assert after == before
        elif is_usual(before):
            assert after == seal(before, before[13], keys, lambda: next(drawn))
        else:
            assert after == ("others",)


def is_usual(row: Columns) -> bool:
    """Whether debtor and creditor alone own what was cut out of a payment's event."""
    return bool(row[1]) and not (row[13].party or row[13].payment or row[13].all)
