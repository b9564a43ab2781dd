"""`ptr audit`: heads, bundles and checks, as an auditor uses them; kills in the middle; rows of before there were trees."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from connectors.proofs import verifier
from connectors.proofs.appending import leaf_of
from connectors.proofs.heads import HeadsFile, HeadsFileError, read_heads
from connectors.proofs.keys import KeyFileError, Signer, make_key, read_public, read_signer
from connectors.proofs.leaf_log import LeafLog, LeafLogError, Stretch, kept_leaves
from connectors.proofs.trees import Tree
from connectors.proofs.verifier import Head, ProofError, PublicKey, split_notes, tree_of
from connectors.sinks import leaves, signing
from connectors.sinks.database import Batch, Database, DatabaseBusyError, StoredHead, open_database
from connectors.sinks.rows import Columns
from connectors.sinks.signing import HeadSigner
from connectors.sinks.sqlite import SqliteDatabase
from connectors.sinks.verifying import verify_database
from pipeline.cli import main
from pipeline.commands import audit_proofs
from tests.benchmark.bench_sink import records_of
from tests.integration import postgres as pg
from tests.integration.test_sqlite_audit import CODEC, MAPPER, ids, states

LOG = "audit.example.com"
#: More statements than one transaction and its heads take.
KILLS = 30


def rows_of(number: int, first_offset: int) -> list[Columns]:
    """The seven rows of a payment, in two shards."""
    return [
        MAPPER.columns(topic, place % 2, first_offset + place, 1000 + first_offset + place, CODEC.encode(record))
        for place, (topic, record) in enumerate(records_of(number, random.Random(number)))
    ]


def write(database: Database, number: int) -> int:
    rows = rows_of(number, 7 * number)
    return database.write(Batch(rows, states(rows), {("t", 0): (7 * number or None, 7 * number + 7)}))


class Log:
    """A database with signed heads, and what somebody keeps elsewhere."""

    def __init__(self, folder: Path, name: str = LOG) -> None:
        self.folder = folder
        self.file = folder / "audit.db"
        self.url = f"sqlite:///{self.file}"
        self.key, self.heads, self.leaves = folder / "audit.key", folder / "heads.txt", folder / "heads.txt.leaves"
        folder.mkdir(exist_ok=True)
        make_key(self.key, name)
        self.written = 0

    def grow(self, payments: int) -> None:
        with closing(open_database(self.url, create=True)) as database:
            database.migrate()
            signer = HeadSigner(read_signer(self.key), 0, HeadsFile(self.heads), None, LeafLog(self.leaves))
            for _ in range(payments):
                assert write(database, self.written) == 7
                assert signer.sign(database) == 2
                self.written += 1
            signer.close()

    def change(self, sql: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("DROP TRIGGER IF EXISTS payment_events_no_update")
            connection.execute("DROP TRIGGER IF EXISTS payment_events_no_delete")
            connection.execute(sql)
            connection.commit()

    def ptr(self, *arguments: str) -> Result:
        environment = {
            "PTR_DATABASE": self.url,
            "PTR_AUDIT_KEY_FILE": str(self.key),
            "PTR_AUDIT_HEADS_FILE": str(self.heads),
        }
        return CliRunner().invoke(main, ["audit", *arguments], env=environment)

    def bundle(self, number: int) -> Path:
        proven = self.ptr("prove", *ids(number))
        assert proven.exit_code == 0, proven.output
        path = self.folder / f"bundle-{number}.json"
        path.write_text(proven.stdout)
        return path


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log(tmp_path)
    made.grow(10)
    return made


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    for word in words:
        assert word in result.output


def test_a_payment_is_proven_to_whoever_has_the_public_key(log: Log, tmp_path: Path) -> None:
    """By the command, and by the copied file in a Python that has nothing else."""
    path = log.bundle(3)
    assert path.stat().st_size < 30_000
    found = log.ptr("verify", str(path))
    assert found.exit_code == 0
    assert "7 rows of payment " in found.output
    told = json.loads(log.ptr("verify", str(path), "--heads", str(log.heads), "--json").stdout)
    assert (told["proven"], told["rows"], len(told["heads"])) == (True, 7, 2)
    alone = tmp_path / "elsewhere" / "verifier.py"
    alone.parent.mkdir()
    shutil.copy(verifier.__file__, alone)
    command = [sys.executable, "-I", "-S", str(alone), str(path), f"{log.key}.pub"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone.parent)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "are in the log" in ran.stdout
    path.write_text(path.read_text().replace('"paid"', '"declined"'))
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone.parent)
    assert ran.returncode == 1
    assert "NOT PROVEN: row 6 (event 'plugin/1.0') is wrong" in ran.stderr


@pytest.mark.parametrize("seed", range(3))
def test_a_bundle_with_anything_changed_is_refused(log: Log, seed: int) -> None:
    """One character of the file, at random places: it is refused with a word, or says exactly what it said."""
    content, key, rng = log.bundle(2).read_text(), read_public(Path(f"{log.key}.pub")), random.Random(seed)
    right = verifier.verify_bundle(content, key)
    for _ in range(100):
        at = rng.randrange(len(content))
        changed = content[:at] + chr(rng.randrange(32, 127)) + content[at + 1 :]
        with suppress(ProofError):
            assert verifier.verify_bundle(changed, key) == right


def test_what_cannot_be_proven_is_said_and_ends_with_an_error(log: Log, tmp_path: Path) -> None:
    refused(log.ptr("prove", "shop-1", "nobody"), "holds no event of payment nobody of shop-1")
    path = log.bundle(3)
    other = Log(tmp_path / "other", "another.example.com")
    other.grow(1)
    refused(log.ptr("verify", str(other.bundle(0))), "another log: another.example.com/shop-0/0")
    same_name = tmp_path / "same.key"
    make_key(same_name, LOG)
    refused(log.ptr("verify", str(path), "--key", f"{same_name}.pub"), "was not signed by this key")
    cut = tmp_path / "cut.json"
    cut.write_text(path.read_text()[:-40])
    refused(log.ptr("verify", str(cut)), "the file is cut")
    kept = tmp_path / "kept.txt"
    shutil.copy(log.heads, kept)
    log.grow(10)
    # The bundle of a later head than anybody kept.
    refused(log.ptr("verify", str(log.bundle(13)), "--heads", str(kept)), "from the future", "the newest in")
    refused(log.ptr("consistency", str(log.heads), str(kept)), "from the future")
    kept.write_text(kept.read_text()[:-30])
    refused(log.ptr("verify", "--database", log.url, "--heads", str(kept)), "the file is cut")
    refused(log.ptr("verify", "--database", log.url, "--heads", str(tmp_path / "none.txt")), "cannot read")
    refused(log.ptr("verify", "--database", log.url, "--heads", str(other.heads)), "another log")
    assert log.ptr("verify").exit_code == 2
    assert log.ptr("verify", str(path), "--database", log.url).exit_code == 2


def test_every_command_says_what_is_wrong_with_its_files(log: Log, tmp_path: Path) -> None:
    """Heads from the future of the database, of another log, by another key, empty; a cut key; leaves of another log."""
    with closing(sqlite3.connect(log.file)) as connection, closing(sqlite3.connect(tmp_path / "old.db")) as copy:
        connection.backup(copy)
    kept = tmp_path / "kept.txt"
    shutil.copy(log.heads, kept)
    log.grow(5)
    old = ("--database", f"sqlite:///{tmp_path}/old.db")
    refused(
        log.ptr("consistency", str(kept), str(log.heads), *old), "at 12 is from the future", "old.db holds 8 rows of it"
    )
    other = Log(tmp_path / "other", "another.example.com")
    other.grow(2)
    other_key = ("--key", f"{other.key}.pub")
    refused(log.ptr("consistency", str(kept), str(other.heads)), "this is a head of another log: another.example.com/")
    refused(log.ptr("verify", "--database", log.url, "--heads", str(kept), *other_key), "this is a head of another log")
    same_name = tmp_path / "same.key"
    make_key(same_name, LOG)
    wrong_key = ("--key", f"{same_name}.pub")
    refused(log.ptr("verify", "--database", log.url, *wrong_key), "was not signed by this key: it is the wrong one")
    refused(log.ptr("consistency", str(kept), str(log.heads), *wrong_key), "was not signed by this key")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{note}\n" for note in split_notes(kept.read_text())[:2]))
    refused(log.ptr("consistency", str(kept), str(few)), "few.txt holds no head of ")
    few.write_text("")
    refused(log.ptr("verify", "--database", log.url, "--heads", str(few)), "few.txt holds no head")
    few.write_text((log.folder / "audit.key.pub").read_text()[:-9])
    refused(log.ptr("verify", str(log.bundle(3)), "--key", str(few)), "few.txt", "public key")
    few.write_bytes(b"\xff\xfe")
    refused(log.ptr("verify", "--database", log.url, "--heads", str(few)), "it is no text")
    refused(log.ptr("verify", str(few)), "this is no whole bundle")
    refused(log.ptr("verify", "--database", f"sqlite:///{tmp_path}/none.db"), "none.db")
    refused(log.ptr("prove", "nobody", ids(3)[1]), "holds no event of payment")
    rewrite(log, 60)
    arguments = ("verify", "--database", log.url, "--heads", str(kept), "--leaves", str(other.leaves))
    refused(
        log.ptr(*arguments), "WRONG ROW shop-3, shard 0, ", "Of the leaves that were kept those from 4 on are missing"
    )


def test_rows_that_no_head_covers_are_not_proven_yet(log: Log) -> None:
    with closing(open_database(log.url, create=True)) as database:
        write(database, 10)
    refused(log.ptr("prove", *ids(10)), "newer than the last signed head")
    told = log.ptr("verify", "--database", log.url)
    assert told.exit_code == 0
    assert "7 are under no signed head yet" in told.output


def test_a_database_is_checked_against_heads_that_were_kept(log: Log, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(log.ptr("head").stdout)
    log.grow(5)
    told = json.loads(log.ptr("verify", "--database", log.url, "--heads", str(kept), "--json").stdout)
    assert (told["proven"], told["rows"], told["rows_under_kept_heads"], told["rows_unsigned"]) == (True, 105, 70, 0)
    same = log.ptr("consistency", str(kept), str(log.heads), "--json")
    assert [proof["size"] for proof in json.loads(same.stdout)] == [4 * 3, 3 * 3] * 5
    log.change("UPDATE payment_events SET reason = 'x' WHERE event_id = 'payee' AND \"offset\" = 24")
    refused(
        log.ptr("verify", "--database", log.url, "--heads", str(kept)),
        f"WRONG ROW shop-3, shard 1, leaf 1 (payment {ids(3)[1]}, event payee, from payments.scored.v1/1 at 24)",
    )


def test_a_database_that_is_older_than_a_head_is_told(log: Log, tmp_path: Path) -> None:
    """A head from the future: what it covers is not there."""
    with closing(sqlite3.connect(log.file)) as connection, closing(sqlite3.connect(tmp_path / "old.db")) as copy:
        connection.backup(copy)
    log.grow(5)
    refused(
        log.ptr("verify", "--database", f"sqlite:///{tmp_path}/old.db"), "there are 8 of 12 that a signed head covers"
    )


def test_a_check_is_gone_on_with(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after every page, within a tree and between trees, it ends with the same words; a wrong row too is kept."""
    rows = [
        MAPPER.columns(topic, 0, 70 + 7 * number + place, 1000, CODEC.encode(record))
        for number in range(600)
        for place, (topic, record) in enumerate(records_of(5 * number, random.Random(1000 + number)))
    ]
    with closing(open_database(log.url, create=True)) as database:
        database.write(Batch(rows, states(rows), {("t", 0): (70, 70 + len(rows))}))
    log.grow(0)
    log.change("UPDATE payment_events SET reason = 'x' WHERE \"offset\" IN (24, 4200)")
    monkeypatch.setattr(audit_proofs, "PROGRESS_S", 0)
    resume = tmp_path / "resume.json"
    arguments = ("verify", "--database", log.url, "--resume", str(resume))
    whole = log.ptr(*arguments)
    assert "shop-0, shard 0, leaf 4138 (" in whole.stdout
    assert "shop-3, shard 1, leaf 1 (" in whole.stdout
    assert not resume.exists()
    kept_on = audit_proofs._Progress.__call__

    def interrupted(self: Any, state: Any) -> None:
        kept_on(self, state)
        raise KeyboardInterrupt

    ends = 0
    while True:
        monkeypatch.setattr(audit_proofs._Progress, "__call__", interrupted)
        if (found := log.ptr(*arguments)).exit_code == 1 and not resume.exists():
            break
        assert resume.exists(), found.output
        ends += 1
        assert ends < 30
    assert ends == 10 + 1  # a page of each tree, and of the large one another
    assert found.stdout == whole.stdout
    assert "going on after" in found.stderr
    resume.write_text("{")
    refused(log.ptr(*arguments), "remove it")


def rewrite(log: Log, offset: int) -> None:
    """Change a row, and make its tree anew as its owner could: leaf, open tile and all."""
    log.change(f"UPDATE payment_events SET reason = 'x' WHERE \"offset\" = {offset}")
    with closing(sqlite3.connect(log.file)) as connection:
        connection.execute("DROP TRIGGER audit_trees_only_grow")
        columns = ", ".join(f'"{name}"' for name in verifier.COLUMNS)
        rows = connection.execute(
            f'SELECT {columns} FROM payment_events e WHERE (tenant, "partition") ='
            ' (SELECT tenant, "partition" FROM payment_events WHERE "offset" = ?) ORDER BY leaf_index',
            (offset,),
        ).fetchall()
        tree = Tree()
        tree.append([leaf_of(row) for row in rows])
        connection.execute(
            "UPDATE audit_trees SET open_tiles = ? WHERE tenant = ? AND shard = ?",
            (tree.stored(), rows[0][0], rows[0][verifier.SHARD]),
        )
        connection.commit()


def test_with_the_leaves_that_were_kept_the_row_is_named_where_the_tree_was_made_anew(log: Log, tmp_path: Path) -> None:
    """One head was kept, of all rows, and the leaves beside it: the command names the one row; without them, all it knows is
    that one of them is wrong. Where leaves are missing it says so.
    """
    with closing(open_database(log.url)) as database:
        notes = [note for (note,) in database.query("SELECT note FROM audit_heads")]
    kept = tmp_path / "kept.txt"
    kept.write_text("".join(f"{note}\n" for note in notes))
    rewrite(log, 60)  # of payment 8: the second of its rows in shard 0
    arguments = ("verify", "--database", log.url, "--heads", str(kept))
    named = f"(payment {ids(8)[1]}, event dispatch/1.0, from payments.queue.simulator.v1/0 at 60)"
    refused(log.ptr(*arguments), "WRONG ROW shop-3, shard 0, leaves 0 to 7 (", "were rewritten together")
    refused(
        log.ptr(*arguments, "--leaves", str(log.leaves)),
        f"WRONG ROW shop-3, shard 0, leaf 6 {named}: the row is not the one that was signed on this leaf",
    )
    # Beside the heads they are found.
    shutil.copytree(log.leaves, tmp_path / "kept.txt.leaves")
    told = json.loads(log.ptr(*arguments, "--json").stdout)
    assert [(each["first"], each["last"]) for each in told["findings"]] == [(6, 6)]
    (file,) = log.leaves.iterdir()
    file.write_bytes(file.read_bytes()[:2000])
    refused(log.ptr(*arguments, "--leaves", str(log.leaves)), "leaves 0 to 7 (", "from 4 on are missing")
    (tmp_path / "none").mkdir()
    refused(log.ptr(*arguments, "--leaves", str(tmp_path / "none")), "from 0 on are missing")
    assert log.ptr(*arguments, "--leaves", str(tmp_path / "nowhere")).exit_code == 2


def test_leaves_that_are_missing_are_written_from_the_database(log: Log) -> None:
    """After a loss, or when they were not kept before: all of them, more than a part holds; not those of another database."""
    shutil.rmtree(log.leaves)
    rows = [
        MAPPER.columns(topic, 0, 70 + 7 * number + place, 1000, CODEC.encode(record))
        for number in range(40)
        for place, (topic, record) in enumerate(records_of(5 * number, random.Random(1000 + number)))
    ]
    with closing(open_database(log.url, create=True)) as database, pytest.MonkeyPatch.context() as patched:
        patched.setattr(signing, "TILES_MAX", 2)
        patched.setattr(signing, "WAITING_BYTES_MAX", 3000)
        database.write(Batch(rows, states(rows), {("t", 0): (70, 70 + len(rows))}))
        signer = HeadSigner(read_signer(log.key), 0, HeadsFile(log.heads), None, LeafLog(log.leaves))
        assert signer.sign(database) == 1
        assert_leaves_are_kept(database, log.leaves, read_heads(log.heads, signer._signer.public))
        signer.close()
    another = Log(log.folder / "another")
    another.grow(1)
    forged = LeafLog(log.folder / "forged")
    forged.append([Stretch(("shop-0", 0), 0, bytes(32))])
    forged.close()
    for folder in (log.leaves, log.folder / "forged"):  # more leaves than it has, and another one than it has
        signer = HeadSigner(read_signer(another.key), 0, None, None, LeafLog(folder))
        with closing(open_database(another.url, create=True)) as database:
            with pytest.raises(LeafLogError, match="of another database"):
                signer.sign(database)
        signer.close()


def test_heads_are_signed_after_each_batch_while_that_is_cheap(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing takes a quarter of the time at most; what it puts off comes when that allows it, or is due, or now."""
    now = 100.0
    costs = iter([0.01, 0.01, 2.0, 0.01, 0.01])
    write_heads = SqliteDatabase.write_heads

    def takes_time(self: SqliteDatabase, heads: Sequence[StoredHead]) -> None:
        nonlocal now
        now += next(costs)
        write_heads(self, heads)

    monkeypatch.setattr(SqliteDatabase, "write_heads", takes_time)
    signer = HeadSigner(read_signer(log.key), 5, None, None, clock=lambda: now)
    with closing(open_database(log.url, create=True)) as database:

        def after(seconds: float) -> int | None:
            nonlocal now
            now += seconds
            write(database, log.written)
            log.written += 1
            return signer.sign(database)

        assert after(0) == 2
        assert after(0.02) is None  # 10 ms were signed for: 30 ms must pass
        assert after(0.02) == 4
        assert after(0.5) == 2  # takes 2 s
        assert after(2.9) is None
        assert after(0.2) == 4  # not after 6 s: 5 s after the last began
        assert after(0.01) is None
        assert signer.sign(database, now=True) == 2
        assert next(costs, None) is None


def test_keys_are_never_overwritten_and_for_their_owner_only(tmp_path: Path) -> None:
    made = CliRunner().invoke(main, ["audit", "keygen", str(tmp_path / "a.key"), "--name", LOG])
    assert made.exit_code == 0
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert read_signer(tmp_path / "a.key").public == read_public(tmp_path / "a.key.pub")
    assert (tmp_path / "a.key").read_text().split("+")[4] not in made.output
    again = CliRunner().invoke(main, ["audit", "keygen", str(tmp_path / "a.key"), "--name", LOG])
    refused(again, "is there already")
    refused(CliRunner().invoke(main, ["audit", "keygen", str(tmp_path / "b.key"), "--name", "no name"]), "is no name")
    text = (tmp_path / "a.key").read_text()
    for damaged in (text[:-9], text.replace(LOG, "other.example.com"), "", text.replace("PRIVATE", "PUBLIC")):
        (tmp_path / "c.key").write_text(damaged)
        with pytest.raises(KeyFileError) as error:
            read_signer(tmp_path / "c.key")
        assert text.split("+")[4].strip()[:20] not in str(error.value)


def test_after_a_new_key_every_tree_is_signed_anew_and_old_heads_hold(log: Log) -> None:
    """Also a tree that does not grow any more; the old public key still checks what was kept."""
    old_key, old_heads = log.key, log.heads
    log.key, log.heads = log.folder / "new.key", log.folder / "new-heads.txt"
    make_key(log.key, "audit-2.example.com")
    log.grow(0)
    assert len(log.ptr("head").stdout.split("\n\n")) == 2 * 10 + 1
    with closing(open_database(log.url, create=True)) as database:
        signer = HeadSigner(read_signer(log.key), 0, HeadsFile(log.heads), None)
        assert signer.sign(database) == 10
        assert signer.sign(database) == 0
        signer.close()
    assert log.ptr("verify", str(log.bundle(3))).exit_code == 0
    assert log.ptr("verify", "--database", log.url).exit_code == 0
    arguments = ("--heads", str(old_heads), "--key", f"{old_key}.pub")
    assert log.ptr("verify", "--database", log.url, *arguments).exit_code == 0


def test_a_torn_head_is_cut_off_and_the_next_is_whole(tmp_path: Path) -> None:
    """A loss of power leaves any part of the last head."""
    signer, path = Signer(LOG, bytes(32)), tmp_path / "heads.txt"
    heads = [Head(f"{LOG}/shop/0", size, bytes([size]) * 32) for size in range(1, 4)]
    for file in (HeadsFile(path), HeadsFile(path)):
        file.append([signer.sign(head) for head in heads[:2]])
        file.close()
    whole = path.read_text()
    for left in range(1, len(signer.sign(heads[2])) + 1):
        path.write_text(whole + signer.sign(heads[2])[:left])
        said: list[str] = []
        file = HeadsFile(path, said.append)
        file.append([signer.sign(heads[2])])
        file.close()
        assert read_heads(path, signer.public) == heads
        assert len(said) == 1


def test_two_roots_for_one_size_are_an_error(tmp_path: Path) -> None:
    signer, path = Signer(LOG, bytes(32)), tmp_path / "heads.txt"
    path.write_text("".join(signer.sign(Head(f"{LOG}/shop/0", 5, root * 32)) + "\n" for root in (b"a", b"b")))
    with pytest.raises(HeadsFileError, match="told twice"):
        read_heads(path, signer.public)


def test_of_many_heads_a_selection_is_checked(tmp_path: Path) -> None:
    """The newest, the first and some between; of the others only that none contradicts another."""
    signer, path = Signer(LOG, bytes(32)), tmp_path / "heads.txt"
    notes = {
        (shop, size): signer.sign(Head(f"{LOG}/{shop}/0", size, bytes([size]) * 32))
        for shop, sizes in (("a", 101), ("b", 3))
        for size in range(1, sizes)
    }

    def read(**changed: str) -> list[tuple[str, int]]:
        several = [*notes.values(), *changed.values()]
        random.Random(1).shuffle(several)
        path.write_text("".join(f"{note}\n" for note in several))
        return [(head.origin[-3], head.size) for head in read_heads(path, signer.public, of_tree_max=4)]

    assert read() == [("a", 1), ("a", 34), ("a", 67), ("a", 100), ("b", 1), ("b", 2)]
    other = Signer(LOG, bytes([1] * 32))
    notes["a", 50] = other.sign(Head(f"{LOG}/a/0", 50, bytes(32)))
    assert len(read()) == 6  # not looked at
    with pytest.raises(HeadsFileError, match="not signed by this key"):
        read(newest=other.sign(Head(f"{LOG}/a/0", 101, bytes(32))))
    with pytest.raises(HeadsFileError, match="at 60 differ: the log was told twice"):
        read(twice=signer.sign(Head(f"{LOG}/a/0", 60, bytes(32))))
    path.write_text("no head\n\nat all\n\n")
    with pytest.raises(HeadsFileError, match="damaged"):
        read_heads(path, signer.public, of_tree_max=4)


def test_an_unknown_witness_beside_the_logs_signature_is_no_trouble() -> None:
    signer = Signer(LOG, bytes(32))
    head = Head(f"{LOG}/shop/0", 5, b"a" * 32)
    note = signer.sign(head) + "\N{EM DASH} witness.example.org " + "A" * 100 + "\n"
    assert signer.public.open(note) == head
    with pytest.raises(ProofError, match="wrong: the head was changed"):
        signer.public.open(note.replace("\n5\n", "\n6\n"))
    with pytest.raises(ProofError, match="not signed by this key"):
        PublicKey(LOG, Signer(LOG, bytes([1] * 32)).public.key).open(note)


# Both databases


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    if why_not := pg.available():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)
    with pg.postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    return a_postgres_database(request.getfixturevalue("server"))


def a_postgres_database(server: pg.Postgres) -> str:
    name = f"d{random.randrange(1 << 60)}"
    with closing(psycopg.connect(server.url, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.url.rsplit('/', 1)[0]}/{name}"


def test_repeats_leave_no_gap_in_the_tree(url: str) -> None:
    """Batches with events that are there, in any mixture: rows and trees are those of the new ones."""
    signer, heads, rng = Signer(LOG, bytes(32)), list[Head](), random.Random(5)
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        new = 0
        for number in range(12):
            rows = rows_of(number, 7 * number) + rows_of(rng.randrange(12), 7 * number) * rng.randrange(3)
            rng.shuffle(rows)
            new += database.write(Batch(rows, states(rows), {("t", 0): (7 * number or None, 7 * number + 7)}))
        HeadSigner(signer, 0, None, None).sign(database)
        heads = sorted(signer.public.open(note) for (note,) in database.query("SELECT note FROM audit_heads"))
        state = verify_database(database, heads)
        assert (state.findings, state.rows, state.unsigned) == ([], new, 0)
        assert new == 7 * 12


@pytest.mark.postgres
def test_the_writing_role_may_only_insert_and_read(server: pg.Postgres) -> None:
    """It is not the owner: a sink runs with it, and no event and no tile can be changed or removed with it."""
    owner = a_postgres_database(server)
    made = CliRunner().invoke(main, ["audit", "migrate", "--database", owner])
    assert made.exit_code == 0, made.output
    with closing(psycopg.connect(owner, autocommit=True)) as connection:
        connection.execute("CREATE ROLE sink_writer LOGIN PASSWORD 'w'")
        connection.execute("GRANT ALL ON payment_events TO sink_writer")
    made = CliRunner().invoke(main, ["audit", "migrate", "--writer", "sink_writer", "--database", owner])
    assert made.exit_code == 0, made.output
    writer = owner.replace(f"postgres:{server.password}@", "sink_writer:w@")
    with closing(open_database(writer, create=True)) as database:
        database.lock()
        database.migrate()
        for number in range(20):
            assert write(database, number) == 7
        assert write_again(database, 3, 140) == 0
        HeadSigner(Signer(LOG, bytes(32)), 0, None, None).sign(database)
    statements = [
        f"{verb} {table}{rest}"
        for table in ("payment_events", "audit_tiles")
        for verb, rest in (("DELETE FROM", ""), ("TRUNCATE", ""), ("DROP TABLE", ""), ("UPDATE", " SET tenant = 'x'"))
    ]
    with closing(psycopg.connect(writer, autocommit=True)) as connection:
        for statement in [*statements, "DELETE FROM payments", "ALTER TABLE payment_events DISABLE TRIGGER USER"]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    refused(
        CliRunner().invoke(main, ["audit", "migrate", "--writer", "nobody_such", "--database", owner]), "does not exist"
    )


def write_again(database: Database, number: int, offset: int) -> int:
    rows = rows_of(number, offset)
    return database.write(Batch(rows, states(rows), {("t", 0): (offset, offset + 7)}))


def append_until_killed(url: str, key: Path, heads: Path, statement: int) -> None:
    """What the sink does, without Kafka: killed just before it executes its ``statement``-th statement."""
    left = statement

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    database = open_database(url, create=True)
    for _ in range(500):
        try:
            database.lock()
            break
        except DatabaseBusyError:  # the server has not noticed yet that the one before is gone
            time.sleep(0.02)
    signer = HeadSigner(read_signer(key), 0, HeadsFile(heads), None, LeafLog(heads.with_name("leaves")))
    number = database.offsets().get(("t", 0), 0) // 7
    if url.startswith("sqlite"):
        database._connection.set_trace_callback(count)  # type: ignore[attr-defined]
    else:
        for name in ("execute", "executemany", "copy"):
            setattr(psycopg.Cursor, name, counted(getattr(psycopg.Cursor, name), count))
    while True:
        write(database, number)
        signer.sign(database)
        number += 1


def counted(method: Any, count: Any) -> Any:
    def counting(*arguments: Any, **named: Any) -> Any:
        count()
        return method(*arguments, **named)

    return counting


def test_killed_before_any_statement_rows_and_trees_agree(url: str, tmp_path: Path) -> None:
    """Before each of the statements of a transaction and of a head, in a seeded order: every row once, every head holds."""
    key, heads = tmp_path / "audit.key", tmp_path / "heads.txt"
    make_key(key, LOG)
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        write(database, 0)
    statements = list(range(1, KILLS + 1))
    random.Random(11).shuffle(statements)
    for statement in statements:
        process = multiprocessing.get_context("fork").Process(
            target=append_until_killed, args=(url, key, heads, statement)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        with closing(open_database(url)) as database:
            written = database.offsets()["t", 0]
            kept = read_heads(heads, read_public(Path(f"{key}.pub"))) if heads.read_text() else []
            state = verify_database(database, kept)
            assert (state.findings, state.rows) == ([], written), statement
            assert_leaves_are_kept(database, heads.with_name("leaves"), kept)
    assert written > 7


def assert_leaves_are_kept(database: Database, folder: Path, heads: list[Head]) -> None:
    """The leaves under every head that was handed out: heads leave after them."""
    for head in {one.origin: one for one in heads}.values():
        tree = Tree()
        for part in kept_leaves(folder, tree_of(head.origin), 0, head.size):
            tree.append(part)
        assert (tree.size, tree.root()) == (head.size, head.root)


def test_rows_of_before_there_were_trees_are_in_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are brought in when the database is brought up to date, whole or not at all, and are guarded as before."""
    monkeypatch.setattr(leaves, "EARLIER_ROWS", 10)
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        for number in range(12):
            write(database, number)
        connection: Any = database._connection  # type: ignore[attr-defined]
        if url.startswith("sqlite"):
            (guard,) = connection.execute(
                "SELECT sql FROM sqlite_schema WHERE name = 'payment_events_no_update'"
            ).fetchone()
            undo = ["DROP TRIGGER audit_trees_no_delete", "DROP TRIGGER payment_events_no_update"]
            redo = [guard]
        else:
            undo = ["ALTER TABLE audit_trees DISABLE TRIGGER USER", "ALTER TABLE payment_events DISABLE TRIGGER USER"]
            redo = [statement.replace("DISABLE", "ENABLE") for statement in undo]
        forget = ["UPDATE payment_events SET leaf_index = NULL", "DELETE FROM audit_trees"]
        for statement in [*undo, *forget, *redo]:
            connection.execute(statement)
    with closing(open_database(url, create=True)) as database:
        monkeypatch.setattr(leaves, "NEXT_TREE", "nonsense ? ? ? ? ?")
        with pytest.raises(Exception, match="nonsense"):
            database.migrate()
        monkeypatch.undo()
        assert database.query("SELECT COUNT(*) FROM payment_events WHERE leaf_index IS NOT NULL") == [(0,)]
    with closing(open_database(url, create=True)) as database:
        database.migrate()
        state = verify_database(database, [])
        assert (state.findings, state.rows) == ([], 7 * 12)
        write(database, 12)
        connection = database._connection  # type: ignore[attr-defined]
        with pytest.raises(Exception, match="append-only"):
            connection.execute("UPDATE payment_events SET reason = 'x'")


def test_a_sink_whose_heads_cannot_be_signed_or_kept_does_not_start(tmp_path: Path) -> None:
    """Nobody is left believing that heads are kept."""
    key = tmp_path / "audit.key"
    make_key(key, LOG)
    for settings, words in (
        ({"PTR_AUDIT_HEADS_FILE": "heads.txt"}, "without PTR_AUDIT_KEY_FILE no head is signed"),
        ({"PTR_AUDIT_KEY_FILE": f"{key}.pub"}, "holds no private key"),
        ({"PTR_AUDIT_KEY_FILE": str(key), "PTR_AUDIT_HEADS_FILE": str(tmp_path)}, "cannot write"),
    ):
        refused(CliRunner().invoke(main, ["audit-sink", "--once"], env=settings), words)
