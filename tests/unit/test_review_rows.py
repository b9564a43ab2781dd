"""Reviews in the audit tables, and what ``ptr reviews`` and ``ptr show`` say from them (SQLite; nothing else is needed)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.sinks.database import Batch, Database, open_database
from connectors.sinks.reviews import evidence_of, open_reviews
from connectors.sinks.rows import Columns, Mapper, state_of
from connectors.sinks.story import count_check, story
from pipeline.cli import main
from schemas.codec import Codec
from schemas.records import ListEvidence, Record, ReviewAnswered, ReviewOpened
from tests.unit.test_audit_rows import completed, localized, profiled, scored, screened

CODEC = Codec()
NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000
EVIDENCE = ListEvidence(
    party="debtor",
    list="ofac",
    entry_id="36",
    score=0.92,
    algorithm="mistakes-2",
    party_name="ada written",
    listed_name="ADA, Listed",
    support=["birth_date_differs"],
)


def referred(payment_id: str = "p1", tenant: str = "t1") -> Record:
    fields = {"payment_id": payment_id, "tenant": tenant, "evidence": EVIDENCE, "reason": "party_resembles_listed"}
    event = screened(**fields)
    return type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | {"outcome": "referred"})


def opened(payment_id: str = "p1", tenant: str = "t1", stage: str = "screening", **named: Any) -> ReviewOpened:
    fields: dict[str, Any] = {
        "event_id": f"{tenant}|{payment_id}|review|{stage}",
        "reason": "party_resembles_listed",
        "detail": "debtor resembles ofac 36 0.9200",
        "rule_version": 3,
        "requested_at_ms": NOW_MS,
        "received_at_ms": NOW_MS,
        "amount_minor": 1250,
        "currency": "EUR",
        "opened_at_ms": NOW_MS,
        "due_at_ms": NOW_MS + 72 * HOUR_MS,
        "at_expiry": "reject",
    }
    return ReviewOpened(tenant=tenant, payment_id=payment_id, stage=stage, **(fields | named))


def answered(payment_id: str = "p1", tenant: str = "t1", stage: str = "screening", **named: Any) -> ReviewAnswered:
    fields: dict[str, Any] = {
        "event_id": f"{tenant}|{payment_id}|review|{stage}|ended",
        "decision": "approve",
        "result": "approved",
        "by": "rita",
        "reason": "another birth date",
        "decided_at_ms": NOW_MS + 10,
    }
    return ReviewAnswered(tenant=tenant, payment_id=payment_id, stage=stage, **(fields | named))


def reviewed() -> Record:
    return screened(reason="review_approved", evidence=EVIDENCE)


#: A payment that was referred, approved after a word that came too early for another stage, and paid.
LIFE = (
    referred(),
    opened(),
    answered(event_id="t1|p1|review|ignored|0|7", result="ignored", ignored="no_review", stage="payee"),
    answered(),
    reviewed(),
    localized(),
    profiled(),
    scored(),
    completed(),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(f"sqlite:///{tmp_path}/audit.db", create=True)
    try:
        made.lock()
        made.migrate()
        yield made
    finally:
        made.close()


def write(database: Database, *records: Record, first: int = 0) -> None:
    mapper, batch = Mapper(CODEC), Batch()
    known: dict[tuple[str, str], list[Columns]] = {}
    for offset, record in enumerate(records, first):
        row = mapper.columns("t", 0, offset, NOW_MS + offset, CODEC.encode(record))
        batch.events.append(row)
        known.setdefault(row[:2], []).append(row)
    batch.states = [state for events in known.values() if (state := state_of(events, mapper.record_of)) is not None]
    database.write(batch)


def test_the_story_of_a_reviewed_payment_is_told_in_order(database: Database) -> None:
    """Screening's first word and its word after the review are two events; the ignored decision changes nothing."""
    write(database, *reversed(LIFE))
    told = [(event.stage, event.outcome, event.reason) for event in story(database, "t1", "p1").events]
    assert told == [
        ("screening", "referred", "party_resembles_listed"),
        ("reviews", "referred", "party_resembles_listed"),
        ("reviews", "approved", "review_approved"),
        ("screening", "clear", "review_approved"),
        ("localization", "accepted", ""),
        ("payer", "profiled", ""),
        ("payee", "approved", ""),
        ("reviews", "ignored", "no_review"),
        ("settlement", "paid", ""),
    ]
    assert count_check(database).in_review == 0


@pytest.mark.parametrize("together", [True, False])
def test_a_payment_that_waits_shows_that_it_waits(database: Database, together: bool) -> None:
    """Its row has the review's word, with amount and times, whether events came in one transaction or one by one."""
    if together:
        write(database, LIFE[1], LIFE[0])
    else:
        write(database, LIFE[1])
        write(database, LIFE[0], first=1)
    payment = story(database, "t1", "p1").payment
    assert payment is not None
    assert (payment.status, payment.stage, payment.outcome) == ("referred", "reviews", None)
    assert (payment.amount_minor, payment.currency, payment.rule_version) == (1250, "EUR", 3)
    check = count_check(database)
    assert (check.without_outcome, check.in_review, check.anomalies) == (1, 1, [])


def test_a_review_of_fraud_keeps_what_the_stages_before_knew(database: Database) -> None:
    """The fee and the score come from the scored event, which is earlier in the story."""
    score = scored(reason="fraud_score_raised")
    write(database, screened(), score, opened(stage="payee"))
    payment = story(database, "t1", "p1").payment
    assert payment is not None
    assert (payment.stage, payment.status, payment.fee_minor, payment.score) == ("reviews", "referred", 30, 0.25)


def test_open_reviews_are_those_without_an_end_the_next_due_first(database: Database) -> None:
    """Of one tenant or stage where it is asked for; another tenant's are not shown to it."""
    write(
        database,
        opened("late", due_at_ms=NOW_MS + 9 * HOUR_MS),
        opened("soon", due_at_ms=NOW_MS + 1 * HOUR_MS),
        opened("done"),
        answered("done"),
        opened("ignored"),
        answered("ignored", event_id="t1|ignored|review|ignored|0|1", result="ignored", ignored="too_late"),
        opened("fraud", stage="payee"),
        opened("theirs", tenant="t2"),
    )

    def found(**wanted: str) -> list[str]:
        return [review.payment_id for review in open_reviews(database, now_ms=NOW_MS, **wanted)]  # type: ignore[arg-type]

    assert found(tenant="t1") == ["soon", "late", "fraud", "ignored"]
    assert found(stage="payee") == ["fraud"]
    assert found(tenant="t2") == ["theirs"]
    assert found(tenant="t3") == []
    assert found(payment_id="late") == ["late"]
    assert evidence_of(database, "t1", "late") is None


def run(database: Database, *words: str) -> Any:
    return CliRunner().invoke(main, ["reviews", *words, "--database", database.shown])


def test_the_list_and_one_review_are_shown(database: Database) -> None:
    """A table and JSON; both names and what supports the match only where one review is asked for."""
    due_at_ms = int(time.time() * 1000) + 72 * HOUR_MS - HOUR_MS // 2  # Of now, not of when this module was read.
    write(database, LIFE[0], opened(due_at_ms=due_at_ms))
    listed = run(database, "list", "--json")
    (review,) = json.loads(listed.output)
    assert (review["tenant"], review["payment_id"], review["at_expiry"]) == ("t1", "p1", "reject")
    assert "written" not in listed.output
    table = run(database, "list")
    assert "71h" in table.output
    shown = run(database, "show", "t1", "p1")
    assert shown.exit_code == 0
    for words in ("ada written", "ADA, Listed", "birth_date_differs", "0.9200", "then reject"):
        assert words in shown.output
    data = json.loads(run(database, "show", "t1", "p1", "--json").output)
    assert data["evidence"]["listed_name"] == "ADA, Listed"
    assert run(database, "show", "t2", "p1").exit_code == 1
    told = CliRunner().invoke(main, ["show", "t1", "p1", "--database", database.shown])
    assert "waits for a person" in told.output
    assert "written" not in told.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve", "t1", "nobody", "--by", "rita", "--reason", "r"), "0 open reviews"),
        (("approve", "T 1", "p1", "--by", "rita", "--reason", "r", "--stage", "payee"), "not a valid id"),
        (("approve", "t1", "p1", "--by", " ", "--reason", "r"), "by is empty"),
        (("reject", "t1", "p1", "--by", "rita", "--reason", "pan 4111 1111 1111 1111"), "card_number_in_text"),
        (("reject", "t1", "p1", "--by", "rita"), "--reason"),
        (("approve", "t1", "p1", "--by", "rita", "--reason", "r", "--broker", "127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
def test_wrong_decisions_are_told_before_anything_is_posted(
    database: Database, words: tuple[str, ...], said: str
) -> None:
    """An exit code, what is wrong, no traceback, no content repeated."""
    write(database, LIFE[0], LIFE[1])
    result = run(database, *words)
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "4111" not in result.output
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
