"""Reconciliation is the same from PostgreSQL as from SQLite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.records import Record
from tests.integration import postgres as pg
from tests.unit.test_audit_rows import answered, queued
from tests.unit.test_reconcile import OPTIONS, Desk, _fields, attempt, paid, row, table, write

pytestmark = pytest.mark.postgres


def test_what_is_found_does_not_depend_on_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, operations by their own index, and the order of both."""
    if reason := pg.available():
        pytest.skip(reason)
    monkeypatch.setattr("connectors.sinks.attempts.PAGE_PAYMENTS", 7)
    events: list[Record] = [event for number in range(40) for event in paid(f"p{number:03d}")]
    events += [*attempt("q1", "declined"), *attempt("q2", "pending"), *attempt("q3", "")]
    asked = queued(payment_id="p001", kind="refund", operation_id="r1", amount_minor=200)
    events += [
        type(asked)(**(_fields(asked) | {"pic": "acme"})),
        answered(payment_id="p001", operation_id="r1", outcome="paid", pic="acme", pic_reference="re-1"),
    ]
    lines = table(
        *(row(f"p{number:03d}", "12.49" if number == 9 else "12.50") for number in range(5, 45)),
        *(row(f"q{number}") for number in (1, 2, 3)),
        row("", "-2.00", "refund", Ref="", Own="re-1"),
    )
    desk, found = Desk(tmp_path), []
    with pg.postgres() as running:
        for url in (desk.url, running.url):
            write(url, events)
            result = desk.run(lines, *OPTIONS, "--json", url=url)
            data = json.loads(result.stdout)
            assert result.exit_code == 1 and running.password not in result.output
            del data["database"]
            found.append(data)
    assert found[0] == found[1]
    assert found[0]["found"] == {
        "amount_differs": 1,
        "matched": 35,
        "missing_here": 5,
        "missing_there": 5,
        "status_differs": 3,
    }
