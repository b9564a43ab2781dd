"""An auditor's archive: everything that is needed to check it is in it, and what is wrong in it is found."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.proofs.heads import HeadsFile
from connectors.proofs.keys import read_signer
from connectors.sinks.database import Batch, open_database
from connectors.sinks.exporting import BUNDLES, GUIDE, HEADS, KEY, MODELS, RULES, VERIFIER
from connectors.sinks.signing import HeadSigner
from pipeline import topics
from schemas.records import TenantConfigured
from tests.integration.test_audit_proofs import Log, refused
from tests.integration.test_sqlite_audit import CODEC, MAPPER

TENANT = "shop-1"
DAYS = ("--from", "2025-11-24", "--to", "2025-11-25")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Twenty payments, four of them of the tenant, and two versions of its rules."""
    made = Log(tmp_path)
    made.grow(20)
    with closing(open_database(made.url, create=True)) as database:
        signing = HeadSigner(read_signer(made.key), 0, HeadsFile(made.heads), None)
        for version in (1, 2):
            said = TenantConfigured(
                tenant=TENANT,
                version=version,
                document=json.dumps({"tenant": TENANT}),
                document_hash=f"h{version}",
            )
            row = MAPPER.columns(topics.TENANTS.name, 0, version, 1000 + version, CODEC.encode(said))
            offsets: Any = {(topics.TENANTS.name, 0): (version - 1 or None, version)}
            database.write(Batch([row], [], offsets))
            signing.sign(database)
        signing.close()
    return made


def unpacked(log: Log, *more: str) -> Path:
    """Where an archive was unpacked."""
    file, folder = log.folder / "november.zip", log.folder / "auditor"
    done = log.ptr("export", TENANT, str(file), *DAYS, *more)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """As the page says, in a Python that has nothing else."""
    words = [sys.executable, "-I", "-S", VERIFIER, BUNDLES, KEY]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_an_archive_is_checked_with_what_is_in_it(log: Log) -> None:
    """All rows of the tenant's payments and rules, under the heads that were signed; and the page says how."""
    folder = unpacked(log)
    done = checked(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("30 rows in 5 bundles are in the log:")
    assert {path.name for path in folder.iterdir()} == {BUNDLES, HEADS, KEY, RULES, MODELS, VERIFIER, GUIDE}
    bundles = [json.loads(line) for line in (folder / BUNDLES).read_text().splitlines()]
    assert {bundle["tenant"] for bundle in bundles} == {TENANT}
    assert [json.loads(line)["version"] for line in (folder / RULES).read_text().splitlines()] == [1, 2]
    assert json.loads((folder / MODELS).read_text()) == [{"rule_library": 0, "model": "", "challenger": ""}]
    guide = (folder / GUIDE).read_text()
    for words in (
        f"verifier.py {BUNDLES} {KEY}",
        "4 payments of shop-1",
        "30 rows",
        (folder / KEY).read_text().strip(),
    ):
        assert words in guide
    found = log.ptr("verify", str(folder / BUNDLES), "--key", str(folder / KEY), "--heads", str(log.heads), "--json")
    assert (json.loads(found.stdout)["proven"], json.loads(found.stdout)["rows"]) == (True, 30)
    heads = log.ptr("verify", str(folder / BUNDLES), "--key", str(folder / KEY), "--heads", str(folder / HEADS))
    assert heads.exit_code == 0, heads.output


@pytest.mark.parametrize(
    ("right", "wrong"), [('"paid"', '"declined"'), ("shop-1", "shop-2"), ('"proof":["', '"proof":["A')]
)
def test_what_was_changed_in_an_archive_is_found(log: Log, right: str, wrong: str) -> None:
    """And the line is named."""
    folder = unpacked(log)
    lines = (folder / BUNDLES).read_text().splitlines(keepends=True)
    assert right in lines[3]
    lines[3] = lines[3].replace(right, wrong)
    (folder / BUNDLES).write_text("".join(lines))
    done = checked(folder)
    assert done.returncode == 1
    assert "NOT PROVEN: line 4: " in done.stderr


def test_a_cut_archive_and_another_log_are_found(log: Log, tmp_path: Path) -> None:
    """Half a line, no line at all, and the key of somebody else."""
    folder = unpacked(log)
    content = (folder / BUNDLES).read_bytes()
    for cut in (content[:-300], b""):
        (folder / BUNDLES).write_bytes(cut)
        assert checked(folder).returncode == 1
    (folder / BUNDLES).write_bytes(content)
    (tmp_path / "other").mkdir()
    Log(tmp_path / "other", "other.example.com")
    (folder / KEY).write_bytes((tmp_path / "other" / "audit.key.pub").read_bytes())
    done = checked(folder)
    assert (done.returncode, "another log" in done.stderr) == (1, True)


def test_a_changed_database_gives_no_archive(log: Log) -> None:
    """The row that does not fit is told, and no half archive is left."""
    log.change("UPDATE payment_events SET reason = 'x' WHERE tenant = 'shop-1' AND stage = 'settlement'")
    file = log.folder / "november.zip"
    refused(log.ptr("export", TENANT, str(file), *DAYS), "NOT PROVEN", "do not agree")
    assert not file.exists()


def test_what_is_asked_for_wrongly_is_said(log: Log) -> None:
    """No file is overwritten; days in order; a folder that is not there."""
    file = log.folder / "november.zip"
    file.write_text("mine")
    refused(log.ptr("export", TENANT, str(file), *DAYS), "there already")
    assert file.read_text() == "mine"
    assert log.ptr("export", TENANT, "x.zip", "--from", "2025-11-25", "--to", "2025-11-25").exit_code == 2
    refused(log.ptr("export", TENANT, str(log.folder / "no" / "x.zip"), *DAYS), "cannot be written")


def test_nothing_to_export_is_said_and_nothing_is_written(log: Log) -> None:
    """A tenant that is unknown, and days without payments though the tenant has rules; a file that was there stays."""
    file = log.folder / "empty.zip"
    for _ in range(2):
        refused(log.ptr("export", "nobody", str(file), *DAYS), "holds no payment of tenant nobody")
        refused(
            log.ptr("export", TENANT, str(file), "--from", "2025-11-25", "--to", "2025-11-26"),
            "no payment of shop-1 was requested from 2025-11-25 00:00 to before 2025-11-26 00:00 (UTC)",
        )
        assert not file.exists() or file.read_text() == "mine"
        file.write_text("mine")
    assert file.read_text() == "mine"
