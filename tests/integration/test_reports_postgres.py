"""Reports are the same from PostgreSQL as from SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.commands.report_making import REPORTS
from tests import audited
from tests.integration import postgres as pg
from tests.unit import test_report
from tests.unit.test_fraud_report import report_of, some_events, write

pytestmark = pytest.mark.postgres


def test_the_report_does_not_depend_on_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, the order of keys and JSON are read alike; tenants' and payments' names sort by bytes in both."""
    if reason := pg.available():
        pytest.skip(reason)
    monkeypatch.setattr("connectors.sinks.judged.PAGE_PAYMENTS", 100)
    events = some_events(11, 600)
    others = test_report.some_events(12, 200)
    reports, sheets = [], []
    with pg.postgres() as running:
        for url in (f"sqlite:///{tmp_path}/audit.db", running.url):
            with audited.a_database(url) as database:
                write(database, events)
                reports.append((report_of(database, tenant=""), report_of(database)))
                test_report.write(database, others)
                sheets.append([test_report.sheet_of(database, name, "other") for name in REPORTS])
    assert reports[0] == reports[1]
    assert sheets[0] == sheets[1]
    assert all(sheet.rows for sheet in sheets[0])
    assert reports[0][0]["total"]["payments"] == 600
