"""Personal data in both audit databases: sealed, given out, erased, its keys wrapped anew."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from connectors.privacy.envelope import SealError, is_sealed, opened, parsed, place_of
from connectors.privacy.masters import MasterKeyError, MasterKeys, make_master
from connectors.privacy.reading import RowReader
from connectors.privacy.sealing import Sealer
from connectors.privacy.vault import PAGE_KEYS, PARTY, Vault
from connectors.proofs.heads import HeadsFile
from connectors.proofs.keys import make_key, read_signer
from connectors.rules.recorded import recorded_decision
from connectors.sinks.database import Batch, DatabaseError, open_database
from connectors.sinks.judged import judged_payments
from connectors.sinks.rows import Columns, Mapper
from connectors.sinks.signing import HeadSigner
from connectors.sinks.sink import AuditSink, SinkError
from connectors.sinks.story import count_check
from pipeline import topics
from pipeline.cli import main
from schemas.codec import Codec
from schemas.records import DeadLetter, PartyFlagged, PaymentAnswered, Record, RuleSnoozed
from tests.benchmark.bench_sink import records_of
from tests.builders import a_request
from tests.integration import postgres as pg
from tests.integration.test_audit_proofs import LOG, a_postgres_database
from tests.integration.test_sqlite_audit import states

CODEC = Codec()
MAPPER = Mapper(CODEC, cutting=True)
PLAIN = Mapper(CODEC)
TENANT = "shop-1"
#: What payments 1, 11, 21 of the benchmark's say of their parties; 11 and 21 are of other payers of this shop.
SECRETS = (b"payer-1", b"Somebody", b"A Shop in", b"tok_", b"80331", b"12 items", b"order-", b"shop-1\x00shop-1")


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    if why_not := pg.available():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)
    with pg.postgres() as running:
        yield running


class Tables:
    """An audit database with sealed rows, its master key, and signed heads."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.master, self.key, self.heads = folder / "master.key", folder / "audit.key", folder / "heads.txt"
        make_master(self.master)
        make_key(self.key, LOG)
        self._offset = count()
        self._batch = 0
        with closing(open_database(url, create=True)) as database:
            database.migrate()

    @property
    def masters(self) -> MasterKeys:
        return MasterKeys.parse(self.master.read_text())

    def write(self, records: list[tuple[str, Record]], *, mapper: Mapper = MAPPER) -> list[Columns]:
        """As the sink does; gives the rows as they are stored."""
        rows = []
        for topic, record in records:
            offset = next(self._offset)
            rows.append(mapper.columns(topic, 0, offset, 1_764_000_000_000 + offset, CODEC.encode(record)))
        with closing(open_database(self.url, create=True)) as database:
            told = states(rows)
            if mapper is MAPPER:
                rows = Sealer(Vault(database, self.masters, create=True)).sealed(rows)
            self._batch += 1
            database.write(Batch(rows, told, {("t", 0): (self._batch - 1 or None, self._batch)}))
            signing = HeadSigner(read_signer(self.key), 0, HeadsFile(self.heads), None)
            signing.sign(database)
            signing.close()
        return rows

    def payments(self, *numbers: int) -> None:
        self.write([each for number in numbers for each in records_of(number, random.Random(number))])

    def ptr(self, *arguments: str, master: Path | None = None, keyed: bool = True) -> Result:
        environment = {
            "PTR_DATABASE": self.url,
            "PTR_AUDIT_KEY_FILE": str(self.key),
            "PTR_PRIVACY_MASTER_KEY_FILE": str(master or self.master) if keyed else "",
        }
        return CliRunner().invoke(main, list(arguments), env=environment)

    def json(self, *arguments: str, **options: Any) -> Any:
        ran = self.ptr(*arguments, "--json", **options)
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(open_database(self.url)) as database:
            return database.query(sql)

    def stored(self) -> bytes:
        """All that is stored of events, keys and payments."""
        events = self.query("SELECT tenant, payment_id, event_id, avro, CAST(payload AS TEXT) FROM payment_events")
        keys = self.query("SELECT tenant, kind, subject, wrapped FROM privacy_keys")
        return b"\n".join(bytes(x) if not isinstance(x, str) else x.encode() for row in events + keys for x in row if x)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Tables:
    if request.param == "sqlite":
        return Tables(tmp_path, f"sqlite:///{tmp_path}/audit.db")
    return Tables(tmp_path, a_postgres_database(request.getfixturevalue("server")))


def of(tables: Tables, number: int) -> tuple[str, str]:
    """Tenant and id of the payment of this number."""
    record: Any = records_of(number, random.Random(number))[0][1]
    return record.tenant, record.payment_id


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    for word in words:
        assert word in result.output


def test_names_are_never_in_the_database(tables: Tables) -> None:
    """Not in its rows; of SQLite, not in a byte of its files."""
    tables.payments(1, 11)
    stored = tables.stored()
    if tables.url.startswith("sqlite"):
        stored += b"".join(path.read_bytes() for path in tables.folder.glob("audit.db*"))
    for secret in SECRETS:
        assert secret not in stored, secret
    assert b'"amount_minor"' in stored
    assert b"till-1" in stored


def test_whoever_has_the_master_key_reads_all_and_others_all_but_persons(tables: Tables) -> None:
    """Every reader; the bytes are those that came."""
    tables.payments(1)
    tenant, payment = of(tables, 1)
    came = dict(records_of(1, random.Random(1)))
    shown = tables.json("show", tenant, payment)
    first = shown["events"][0]
    assert first["payload"]["debtor_id"] == "payer-1"
    assert first["payload"]["request"]["debtor"]["name"] == "Somebody of Somewhere"
    assert (first["erased"], first["sealed"]) == ([], [])
    closed = tables.json("show", tenant, payment, keyed=False)["events"][0]
    assert closed["payload"]["debtor_id"] == closed["payload"]["request"]["debtor"]["name"] == ""
    assert closed["payload"]["amount_minor"] == first["payload"]["amount_minor"]
    assert closed["sealed"] == ["debtor", "creditor"]
    assert "sealed: what is said of creditor, debtor (" in tables.ptr("show", tenant, payment, keyed=False).output
    with closing(open_database(tables.url)) as database:
        reader = RowReader(database, tables.masters)
        recorded = recorded_decision(database, tenant, payment, reader)
        assert recorded.request.debtor.name == "Somebody of Somewhere"
        assert recorded.avro == CODEC.encode(came[topics.LOCALIZED.name])
        span = {"from_ms": 0, "until_ms": 1 << 60, "as_of_ms": 1 << 60}
        assert [each.scored.token for each in judged_payments(database, reader=reader, **span)] == ["tok_1"]
        (stand_in,) = [each.scored.token for each in judged_payments(database, **span)]
        assert len(stand_in) == 16
    wrong = tables.folder / "wrong.key"
    make_master(wrong)
    refused(tables.ptr("show", tenant, payment, master=wrong), "wrapped by master key", "wrong file")


def test_an_erased_person_is_gone_and_everything_else_stays(tables: Tables) -> None:
    """Proofs of before hold, reports count the same, others are read; nothing tells whose the payments were."""
    tables.payments(1, 11, 21)
    tenant, payment = of(tables, 1)
    bundle = tables.folder / "bundle.json"
    bundle.write_text(tables.ptr("audit", "prove", tenant, payment).stdout)
    report = ("report", "settlement", "--tenant", tenant, "--from", "2025-11-24", "--to", "2025-11-25")
    counted = [
        tables.ptr(*report[:1], name, *report[2:], "--format", "csv").stdout for name in ("settlement", "latency")
    ]
    assert counted[0].count("simulator") == 1
    erased = tables.json("privacy", "erase", tenant, "payer-1", "--yes", "--only", "audit", "--by", "dpo")
    assert erased == {"tenant": tenant, "payments": 1, "events": 5, "keys": 1, "known_parties": "left"}
    again_erased = tables.ptr("privacy", "erase", tenant, "payer-1", "--yes", "--only", "audit")
    refused(again_erased, "nothing is sealed for party payer-1")
    refused(tables.ptr("privacy", "export", tenant, "payer-1"), "nothing is sealed for party payer-1")
    events = tables.json("show", tenant, payment)["events"]
    assert events[0]["erased"] == ["debtor"]
    assert events[0]["payload"]["debtor_id"] == events[0]["payload"]["token"] == ""
    assert events[0]["payload"]["creditor_id"] == "shop-1"
    assert events[0]["payload"]["request"]["creditor"]["name"] == "A Shop in a Street"
    assert "erased: what was said of debtor\n" in tables.ptr("show", tenant, payment).output
    assert tables.json("show", *of(tables, 11))["events"][0]["payload"]["debtor_id"] == "payer-11"
    again = [tables.ptr(*report[:1], name, *report[2:], "--format", "csv").stdout for name in ("settlement", "latency")]
    assert again == counted
    assert tables.ptr("audit", "verify", str(bundle)).exit_code == 0
    checked = tables.ptr("audit", "verify", "--database", tables.url, "--heads", str(tables.heads))
    assert checked.exit_code == 0, checked.output
    assert tables.query(
        "SELECT kind, subject, wrapped, master, erased_by FROM privacy_keys WHERE erased_at_ms > 0"
    ) == [(PARTY, None, None, None, "dpo")]
    # Later events of the same party get a new key; the erasure itself is told, once, in a row that is proven as others are.
    tables.payments(9001)
    tables.payments(2)
    told = "SELECT tenant, outcome, CAST(payload AS TEXT) FROM payment_events WHERE stage = 'privacy'"
    ((whose, outcome, payload),) = tables.query(told)
    ((key_id,),) = tables.query("SELECT key_id FROM privacy_keys WHERE erased_at_ms IS NOT NULL")
    assert (whose, outcome) == (tenant, "erased")
    assert (json.loads(payload)["key_id"], json.loads(payload)["by"]) == (key_id, "dpo")
    checked = tables.ptr("audit", "verify", "--database", tables.url, "--heads", str(tables.heads))
    assert checked.exit_code == 0, checked.output
    with closing(open_database(tables.url)) as database:
        assert count_check(database).anomalies == []
    assert of(tables, 9001)[0] == tenant
    assert tables.json("privacy", "export", tenant, "payer-1")["events"][0]["payment_id"] == of(tables, 9001)[1]
    assert tables.json("show", tenant, payment)["events"][0]["erased"] == ["debtor"]


def test_the_key_is_gone_from_the_files_of_sqlite(tmp_path: Path) -> None:
    """Its wrapped bytes are in no page and no log after the erasure, while a sink has the database open."""
    tables = Tables(tmp_path, f"sqlite:///{tmp_path}/audit.db")
    tables.payments(1, 11)
    wrapped = {bytes(each) for (each,) in tables.query("SELECT wrapped FROM privacy_keys")}
    with closing(open_database(tables.url, create=True)) as sink:
        tables.payments(21)
        assert all(each in b"".join(path.read_bytes() for path in tmp_path.glob("audit.db*")) for each in wrapped)
        tables.json("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit")
        files = b"".join(path.read_bytes() for path in tmp_path.glob("audit.db*"))
        left = {bytes(each) for (each,) in sink.query("SELECT wrapped FROM privacy_keys WHERE wrapped IS NOT NULL")}
    (gone,) = wrapped - left
    assert gone not in files
    assert wrapped & left
    assert all(each in files for each in left)


def test_export_gives_all_that_is_a_persons(tables: Tables) -> None:
    """Fields by payment and event; of the debtor nothing of the creditor's, and the other way round."""
    tables.payments(1, 11)
    found = tables.json("privacy", "export", TENANT, "payer-1")["events"]
    assert {event["payment_id"] for event in found} == {of(tables, 1)[1]}
    assert {event["stage"] for event in found} == {"screening", "localization", "payer", "payee", "dispatch"}
    assert found[0]["fields"] == {
        "debtor_id": "payer-1",
        "token": "tok_1",
        "request.debtor.id": "payer-1",
        "request.debtor.name": "Somebody of Somewhere",
        "request.debtor.country": "DE",
        "request.instrument.token": f"tok_{1:024x}",
        "request.locality.region": "BY",
        "request.locality.postcode": "80331",
        "request.order_reference": "order-1",
        "request.metadata": {"basket": "12 items"},
    }
    shop = tables.json("privacy", "export", TENANT, "shop-1")["events"]
    assert shop[0]["fields"].keys() == {
        "creditor_id",
        *(f"request.creditor.{name}" for name in ("id", "name", "country")),
    }
    assert "request.debtor.name: Somebody of Somewhere" in tables.ptr("privacy", "export", TENANT, "payer-1").stdout
    refused(tables.ptr("privacy", "export", TENANT, "nobody"), "nothing is sealed for party nobody of shop-1")
    refused(tables.ptr("privacy", "export", "shop-2", "payer-1"), "nothing is sealed")
    refused(tables.ptr("privacy", "export", TENANT, "payer-1", keyed=False), "no master key")


def test_a_person_is_found_by_what_was_read_for_another(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is found as by reading all; of whole stretches only those are read that the key may be in, and what is new."""
    monkeypatch.setattr("connectors.privacy.marks.STRETCH_LEAVES", 4)
    tables.payments(1, 11, 21, 31, 41)
    marks = "SELECT COUNT(*) FROM privacy_marks"
    wanted = {party: tables.json("privacy", "export", TENANT, party) for party in ("payer-11", "payer-41", "shop-1")}
    assert tables.query(marks) == [(0,)]
    erase = "privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit"
    assert tables.json(*erase)["events"] == 5
    assert tables.query(marks) == [(35 // 4,)]
    for party, exported in wanted.items():
        assert tables.json("privacy", "export", TENANT, party) == exported
        assert len(exported["events"]) == 5
    tables.payments(51)
    assert len(tables.json("privacy", "export", TENANT, "payer-51")["events"]) == 5
    assert tables.json("privacy", "erase", TENANT, "payer-11", "--yes", "--only", "audit")["events"] == 5
    assert tables.query(marks)[0][0] > 35 // 4
    # A stretch is not read when its marks do not have the key.
    with closing(open_database(tables.url, create=True)) as database:
        database.change_keys("UPDATE privacy_marks SET marks = ? WHERE tenant = ?", [(b"", TENANT)])
    assert tables.json("privacy", "export", TENANT, "payer-21")["events"] == []


def test_what_is_archived_of_a_person_is_found_and_erased(tables: Tables) -> None:
    """The same is given out and erased as before; without the files nothing is, so that nothing is forgotten."""
    tables.payments(1, 11)
    exported = tables.json("privacy", "export", TENANT, "payer-1")
    folder = tables.folder / "archive"
    archived = tables.json("audit", "archive", "--to", str(folder), "--before", "2025-12-01")
    assert archived["removed"] == 14
    erase = "privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit"
    for command in (("privacy", "export", TENANT, "payer-1"), erase):
        refused(tables.ptr(*command), "14 events", f"in {TENANT}/2025-11.parquet", "--archive DIR")
    assert tables.json("privacy", "export", TENANT, "payer-1", "--archive", str(folder)) == exported
    assert b"Somebody" not in b"".join(path.read_bytes() for path in folder.rglob("*.parquet"))
    erased = tables.json(*erase, "--archive", str(folder))
    assert (erased["payments"], erased["events"]) == (1, 5)
    refused(tables.ptr("privacy", "export", TENANT, "payer-1", "--archive", str(folder)), "nothing is sealed")
    checked = tables.ptr(
        "audit", "verify", "--database", tables.url, "--heads", str(tables.heads), "--archive", str(folder)
    )
    assert checked.exit_code == 0, checked.output


def test_events_that_are_named_by_a_party_or_name_none(tables: Tables) -> None:
    """A flag's and a snooze's event ids hold a pseudonym that goes with the key; texts about a payment, dead letters."""
    tables.payments(1)
    flagged = PartyFlagged(
        tenant=TENANT, party_id="payer-1", list="ofac", version="v", entry_id="7", score=0.9, evidence=[], algorithm="1",
        rule_version=1,
    )  # fmt: skip
    snoozed = RuleSnoozed(
        tenant=TENANT, debtor_id="payer-1", rule="r", until_ms=9, by="rita", reason="knows payer-1", decided_at_ms=1
    )
    answered: Any = dict(records_of(1, random.Random(1)))[topics.ANSWERED.name]
    redirected = PaymentAnswered(
        **{name: getattr(answered, name) for name in answered.__struct_fields__}
        | {"action_url": "https://pay.example/payer-1", "attempt": 2}
    )
    request = a_request(tenant=TENANT, payment_id="p-dead", debtor_id="payer-1", debtor_name="Somebody of Somewhere")
    dead = [
        DeadLetter(
            topic="t", partition=0, offset=offset, stage="screening", error="stage_failed", detail="",
            key=f"{TENANT}|p-dead".encode(), value=value, value_length=len(value),
        )
        for offset, value in enumerate([CODEC.encode(request), b"\xff Somebody payer-1", b"\xfe payer-1"])
    ]  # fmt: skip
    records: list[tuple[str, Record]] = [
        (topics.PARTIES_FLAGGED.name, flagged),
        (topics.PARTIES_FLAGGED.name, replace(flagged, party_id="payer-11")),
        (topics.SNOOZES.name, snoozed),
        (topics.ANSWERED.name, redirected),
        *((topics.DEAD_LETTERS.name, each) for each in dead),
    ]
    rows = tables.write(records)
    tables.write(records)  # Repeats are known by the same pseudonyms.
    assert tables.query("SELECT COUNT(*) FROM payment_events WHERE stage IN ('parties', 'fraud')") == [(3,)]
    assert all(is_sealed(row[13]) for row in rows)
    stored = tables.stored()
    for secret in (b"payer-1", b"Somebody", b"pay.example"):
        assert secret not in stored, secret
    assert b"rita" in stored  # who decided
    found = tables.json("privacy", "export", TENANT, "payer-1")["events"]
    texts = [value for event in found for value in event["fields"].values()]
    assert "https://pay.example/payer-1" in texts
    assert "knows payer-1" in texts
    tables.json("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit")
    with closing(open_database(tables.url)) as database:
        reader = RowReader(database, tables.masters)
        read = [reader.read((row[0], *row[9:12], row[13], row[14])) for row in rows]
    assert [each.erased for each in read[:5]] == [["party"], [], ["debtor"], ["payment"], ["all"]]
    assert read[5].erased == []  # Whose bytes that are no record are, nobody can say.


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_a_rotation_may_be_ended_at_any_time(
    tables: Tables, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on where it was; meanwhile both keys read, and afterwards the old one is needed no more."""
    monkeypatch.setattr("connectors.privacy.vault.PAGE_KEYS", 3)
    assert PAGE_KEYS > 3
    tables.payments(1, 11, 21, 31, 41)
    keys = tables.query("SELECT COUNT(*) FROM privacy_keys")[0][0]
    new, both = tables.folder / "new.key", tables.folder / "both.key"
    assert tables.ptr("privacy", "keygen", str(new)).exit_code == 0
    refused(tables.ptr("privacy", "keygen", str(new)), "is there already")
    both.write_text(new.read_text() + tables.master.read_text())
    refused(tables.ptr("privacy", "rotate", master=new), "taken out before `ptr privacy rotate` had ended")

    class Killed(Exception):
        pass

    def kill(done: int) -> None:
        if done >= 3 * killed_after:
            raise Killed

    with closing(open_database(tables.url, create=True)) as database:
        if killed_after:
            with pytest.raises(Killed):
                Vault(database, MasterKeys.parse(both.read_text())).rotate(kill)
    shown = tables.json("show", *of(tables, 1), master=both)["events"][0]
    assert shown["payload"]["debtor_id"] == "payer-1"
    assert tables.json("privacy", "rotate", master=both)["rewrapped"] == keys - 3 * killed_after
    assert tables.json("privacy", "rotate", master=both)["rewrapped"] == 0
    assert tables.json("show", *of(tables, 41), master=new)["events"][0]["payload"]["debtor_id"] == "payer-41"
    refused(tables.ptr("show", *of(tables, 1)), "wrapped by master key")
    told = tables.json("privacy", "status", keyed=False)
    assert told == {"sealed": True, "keys": {MasterKeys.parse(new.read_text()).current: keys - 1}, "erased": 0}


def test_a_sink_notices_an_erasure(tables: Tables) -> None:
    """It does not go on with a key that it has in memory."""
    tables.payments(1)
    rows = [
        MAPPER.columns(topic, 1, 0, 1, CODEC.encode(each)) for topic, each in records_of(9001, random.Random(9001))[:1]
    ]
    with closing(open_database(tables.url, create=True)) as database:
        sealer = Sealer(Vault(database, tables.masters))
        before = parsed(sealer.sealed(rows)[0][13]).seals
        again = parsed(sealer.sealed(rows)[0][13]).seals
        assert [seal.key_ids for seal in before] == [seal.key_ids for seal in again]
        assert {seal.nonce for seal in before}.isdisjoint(seal.nonce for seal in again)
        tables.json("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit")
        after = parsed(sealer.sealed(rows)[0][13]).seals
        assert before[0].key_ids != after[0].key_ids
        assert before[1].key_ids == after[1].key_ids


def test_two_vaults_make_one_key(tables: Tables) -> None:
    """The second takes what the first stored, whoever looked first."""
    subjects = [(TENANT, PARTY, f"p{number}") for number in range(5)]
    with (
        closing(open_database(tables.url, create=True)) as one,
        closing(open_database(tables.url, create=True)) as other,
    ):
        first, second = Vault(one, tables.masters, create=True), Vault(other, tables.masters, create=True)
        second._look_up({second.hash_of(subject): subject for subject in subjects})
        keys = dict(first.keys_of(subjects[:3]))
        found = second.keys_of(subjects)
        assert all(found[each].secret == keys[each].secret for each in subjects[:3])
        assert first.keys_of(subjects)[subjects[4]].secret == found[subjects[4]].secret


def test_what_was_changed_is_refused(tables: Tables) -> None:
    """A byte of a seal, a seal of another row, a key's row under another id."""
    tables.payments(1)
    with closing(open_database(tables.url)) as database:
        reader = RowReader(database, tables.masters)
        sql = 'SELECT tenant, topic, "partition", "offset", avro, NULL FROM payment_events ORDER BY "offset" LIMIT 1'
        (row,) = database.query(sql)
        row = (*row[:4], bytes(row[4]), None)
        rng = random.Random(7)
        seal = parsed(row[4]).seals[0]
        for _ in range(20):
            at = rng.randrange(row[4].index(seal.nonce), row[4].index(seal.sealed) + len(seal.sealed))
            changed = bytearray(row[4])
            changed[at] ^= 1 << rng.randrange(8)
            with pytest.raises(DatabaseError, match="was changed"):
                reader.read((*row[:4], bytes(changed), None))
        for other in (("shop-2", *row[1:]), (*row[:3], row[3] + 1, *row[4:])):
            with pytest.raises(DatabaseError, match="belongs to another row"):
                reader.read(other)
        for at in range(row[4].index(parsed(row[4]).rest), len(row[4]), 9):
            with suppress(
                DatabaseError
            ):  # What is left is proven by its leaf, and never makes a reader fail otherwise.
                reader.read((*row[:4], row[4][:at], "{}"))
        keys = [reader._vault.key(key_id) for key_id in seal.key_ids] if reader._vault else []
        with pytest.raises(SealError):
            opened(seal, [key for key in keys if key], place_of("shop-2", *row[1:4]))
        for cut in range(2, len(row[4]) - len(parsed(row[4]).rest), 7):
            with pytest.raises(DatabaseError):
                reader.read((*row[:4], row[4][:cut], None))


def test_rows_of_before_stay_and_are_read(tables: Tables) -> None:
    """A database that was written without a master key, then with one; then a sink without one is refused."""
    tables.write(records_of(1, random.Random(1)), mapper=PLAIN)
    refused(tables.ptr("privacy", "export", TENANT, "payer-1"), "none of its rows are sealed")
    assert tables.json("privacy", "status") == {"sealed": False, "keys": {}, "erased": 0}
    tables.payments(11)
    for keyed in (True, False):
        old = tables.json("show", *of(tables, 1), keyed=keyed)["events"][0]
        assert (old["payload"]["debtor_id"], old["sealed"]) == ("payer-1", [])
    sink = AuditSink(tables.url, "127.0.0.1:1", ["t"], CODEC)
    with pytest.raises(SinkError, match="its rows are sealed, and there is no master key"):
        sink.run(Event())
    sink = AuditSink(tables.url, "127.0.0.1:1", ["t"], CODEC, masters=MasterKeys([bytes(32)]))
    with pytest.raises(SinkError, match="wrapped by master key"):
        sink.run(Event())


@pytest.mark.postgres
def test_the_writing_role_cannot_destroy_a_key(server: pg.Postgres, tmp_path: Path) -> None:
    """It may add keys and read them; erasing is the owner's."""
    tables = Tables(tmp_path, a_postgres_database(server))
    with closing(psycopg.connect(tables.url, autocommit=True)) as connection:
        connection.execute("CREATE ROLE sealing_writer LOGIN PASSWORD 'w'")
    assert tables.ptr("audit", "migrate", "--writer", "sealing_writer").exit_code == 0
    owner, tables.url = tables.url, tables.url.replace(f"postgres:{server.password}@", "sealing_writer:w@")
    tables.payments(1)
    refused(tables.ptr("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit"), "permission denied")
    tables.url = owner
    tables.json("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit")
    with closing(psycopg.connect(owner, autocommit=True)) as connection:
        for statement in (
            "DELETE FROM privacy_keys",
            "UPDATE privacy_keys SET erased_at_ms = NULL",
            "TRUNCATE privacy_keys",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                connection.execute(statement.encode())


def test_an_erased_key_stays_erased_in_sqlite(tmp_path: Path) -> None:
    tables = Tables(tmp_path, f"sqlite:///{tmp_path}/audit.db")
    tables.payments(1)
    tables.json("privacy", "erase", TENANT, "payer-1", "--yes", "--only", "audit")
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection:
        for statement in ("DELETE FROM privacy_keys", "UPDATE privacy_keys SET wrapped = x'00' WHERE wrapped IS NULL"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


def test_master_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    """Each with a word, and without a word of the key."""
    make_master(tmp_path / "a.key")
    text = (tmp_path / "a.key").read_text()
    for damaged in ("", "nonsense", text[:-9], text.replace("KEY", "LOCK"), text + "more", text.replace("A", "B", 30)):
        with pytest.raises(MasterKeyError) as error:
            MasterKeys.parse(damaged)
        assert text.split("+", 2)[2].strip()[:20] not in str(error.value)
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
