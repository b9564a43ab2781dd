"""What was recorded becomes rows and labels: each payment once, in any order, of the window and tenants asked for."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connectors.models.onnx_model import OnnxModel
from connectors.sinks.database import Batch, open_database
from connectors.sinks.rows import Mapper, payment_state
from pipeline.commands.fraud import fraud
from pipeline.stages.features import FEATURE_SET, MODEL_FEATURES, PAYEE_FEATURES, PAYER_FEATURES
from pipeline.topics import CHARGEBACKS, COMPLETED, SCORED
from pipeline.training.fit import figures_of
from pipeline.training.recorded import Heard, Recorded, from_database, number_of
from schemas.codec import Codec
from schemas.records import ChargebackReceived, PaymentCompleted, PaymentScored

CODEC = Codec()
DAY_MS = 24 * 60 * 60 * 1000
#: 2026-01-01.
START_MS = 20_454 * DAY_MS


def a_scored(number: int, **named: Any) -> PaymentScored:
    """A scored payment; every tenth is a large one at night, of which a chargeback comes."""
    bad = number % 10 == 0
    facts = dict.fromkeys(PAYER_FEATURES, 0) | {"count_1d": number % 7 + 1}
    fields: dict[str, Any] = {
        "sender_partition": 0,
        "sender_offset": number,
        "rule_version": 1,
        "outcome": "approved",
        "payee_features": [0] * len(PAYEE_FEATURES),
        "score": 0.0,
        "score_reasons": [],
        "feature_set": FEATURE_SET,
        "payer_features": list(facts.values()),
        "fee_minor": 0,
        "pic": "simulator",
        "requested_at_ms": START_MS + number * 3_600_000 // 10 // 24 * 24 + (0 if bad else 12 * 3_600_000),
        "amount_minor": 90_000 + number if bad else 1_000 + number % 500,
        "tenant": "t1",
        "payment_id": f"p{number}",
        "creditor_id": "c1",
        "currency": "EUR",
        "debtor_id": f"d{number}",
        "country": "DE",
        "method": "card",
        "token": f"tok_{number}",
        "received_at_ms": START_MS,
        "request": b"",
    }
    return PaymentScored(**(fields | named))


def a_chargeback(number: int, **named: Any) -> ChargebackReceived:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "payment_id": f"p{number}",
        "creditor_id": "c1",
        "amount_minor": 1,
        "currency": "EUR",
        "paid_at_ms": START_MS,
        "charged_back_at_ms": START_MS + 7 * DAY_MS,
    }
    return ChargebackReceived(**(fields | named))


def an_outcome(of: PaymentScored, outcome: str = "paid") -> PaymentCompleted:
    return PaymentCompleted(
        event_id=f"{of.tenant}|{of.payment_id}|completed",
        tenant=of.tenant,
        payment_id=of.payment_id,
        outcome=outcome,
        stage="settlement",
        rule_version=1,
        requested_at_ms=of.requested_at_ms,
        received_at_ms=of.received_at_ms,
        amount_minor=of.amount_minor,
        currency=of.currency,
    )


def everything(count: int = 1_000) -> list[PaymentScored | ChargebackReceived]:
    return [a_scored(n) for n in range(count)] + [a_chargeback(n) for n in range(0, count, 10)]


def recorded_of(events: list[Any], **options: Any) -> Recorded:
    recorded, heard = Recorded(START_MS, START_MS + 30 * DAY_MS, **options), Heard(all_paid=True)
    for event in events:
        heard.take(event)
    for event in events:
        if isinstance(event, PaymentScored):
            recorded.take(event.tenant, event.payment_id, event, heard.label(event, recorded.as_of_ms))
    return recorded


def test_the_order_and_repeats_of_events_do_not_matter() -> None:
    """The same table, bit for bit, and each payment once."""
    events = everything(200)
    one = recorded_of(events).table()
    shuffled = events + events[:50]
    Random(1).shuffle(shuffled)
    other = recorded_of(shuffled).table()
    assert one.matrix.tobytes() == other.matrix.tobytes()
    assert (one.times.tolist(), one.fraud.tolist()) == (other.times.tolist(), other.fraud.tolist())
    assert (len(one.times), int(one.fraud.sum())) == (200, 20)
    assert bool(np.all(np.diff(one.times) >= 0))


def test_what_was_not_asked_for_is_left_out() -> None:
    """Another tenant's payments and labels, payments outside the window, other chargebacks than fraud, late labels."""
    events: list[Any] = [
        a_scored(1),
        a_scored(2, tenant="t2"),
        a_scored(3, requested_at_ms=START_MS - 1),
        a_scored(4, requested_at_ms=START_MS + 30 * DAY_MS),
        a_scored(5),
        a_scored(6),
        a_chargeback(1),
        a_chargeback(5, reason="not_received"),
        a_chargeback(6, charged_back_at_ms=START_MS + 9 * DAY_MS),
        a_chargeback(6, tenant="t2"),
    ]
    table = recorded_of(events, tenants=frozenset({"t1"}), known_at_ms=START_MS + 8 * DAY_MS).table()
    known = {int(number): bool(bad) for number, bad in zip(table.ids, table.fraud, strict=True)}
    assert known == {number_of("t1", "p1"): True, number_of("t1", "p5"): False, number_of("t1", "p6"): False}


def test_an_earlier_programs_events_are_completed() -> None:
    """Nine and ten facts are enough."""
    event = a_scored(1, payer_features=[3] * 9, payee_features=[4] * 10, feature_set=1)
    table = recorded_of([event]).table()
    row = dict(zip(MODEL_FEATURES, table.matrix[0].tolist(), strict=True))
    assert (row["payer_count_1d"], row["payee_count_1h"], row["since_last_s"]) == (3, 4, -1)


def test_nothing_recorded_is_an_empty_table() -> None:
    """And no error."""
    table = recorded_of([]).table()
    assert table.matrix.shape == (0, len(MODEL_FEATURES))


def test_figures_are_of_later_payments_of_cards_that_are_not_known() -> None:
    """A model of the first part, asked of the rest; without frauds on one side there are none."""
    table = recorded_of(everything(2_000)).table()
    middle = int(np.median(table.times))
    found = figures_of(table, middle, features=("amount", "night"))
    assert found["auc"] > 0.99
    assert found["checked_payments"] == int((table.times >= middle).sum())
    assert figures_of(table, int(table.times[-1]) + 1) == {}


@pytest.fixture
def database(tmp_path: Path) -> str:
    """An audit database with a thousand payments and their chargebacks, written as the sink writes them."""
    url = f"sqlite:///{tmp_path}/audit.db"
    events = everything()
    write(url, [*events, *[an_outcome(event) for event in events if isinstance(event, PaymentScored)]])
    return url


def write(url: str, events: list[Any]) -> None:
    """As the audit sink does."""
    tables, mapper = open_database(url, create=True), Mapper(CODEC)
    tables.lock()
    tables.migrate()
    batch = Batch()
    topics = {PaymentScored: SCORED.name, ChargebackReceived: CHARGEBACKS.name, PaymentCompleted: COMPLETED.name}
    for offset, event in enumerate(events):
        row = mapper.row(topics[type(event)], 0, offset, START_MS, CODEC.encode(event))
        batch.events.append(row)
        if state := payment_state(row, event):
            batch.states.append(state)
    tables.write(batch)
    tables.close()


@pytest.mark.parametrize("went_through", ["paid", "authorized"])
def test_what_nobody_heard_of_is_not_learnt(tmp_path: Path, went_through: str) -> None:
    """Refunds are labels as chargebacks are; a payment that was stopped and of which nothing is known is left out."""
    url = f"sqlite:///{tmp_path}/audit.db"
    paid, refunded, stopped, stopped_and_known = (a_scored(number) for number in range(1, 5))
    events: list[Any] = [paid, refunded, stopped, stopped_and_known]
    events += [an_outcome(paid, went_through), an_outcome(refunded, went_through)]
    events += [an_outcome(stopped, "declined"), an_outcome(stopped_and_known, "declined")]
    events += [a_chargeback(2, kind="refund"), a_chargeback(4, reason="10.4")]
    write(url, events)
    tables = open_database(url)
    recorded = Recorded(START_MS, START_MS + 30 * DAY_MS)
    from_database(recorded, tables)
    tables.close()
    assert set(recorded.ids) == {number_of("t1", f"p{number}") for number in (1, 2, 4)}
    assert recorded.frauds == {number_of("t1", "p2"), number_of("t1", "p4")}


def test_a_user_trains_on_the_audit_tables(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page; the file is a model that says what it was trained on."""
    monkeypatch.setattr("connectors.sinks.judged.PAGE_PAYMENTS", 300)
    tables = open_database(database)
    recorded = Recorded(START_MS, START_MS + 30 * DAY_MS)
    from_database(recorded, tables)
    tables.close()
    assert (len(recorded), len(recorded.frauds)) == (1_000, 100)
    file = tmp_path / "model.onnx"
    result = CliRunner().invoke(
        fraud,
        [
            "train",
            "--database",
            database,
            "--from",
            "2026-01-01",
            "--until",
            "2026-01-31",
            "--output",
            str(file),
            "--json",
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    model = OnnxModel(file.read_bytes())
    assert model.version in result.output
    said = model.facts.description
    assert (said["payments"], said["frauds"]) == (1_000, 100)
    assert said["window"] == {"from": "2026-01-01", "until": "2026-01-31", "tenants": "all"}


def test_silence_of_less_than_a_week_is_not_learnt(tmp_path: Path) -> None:
    """Whatever days are asked for: of the last seven only what was charged back already is known."""
    url = f"sqlite:///{tmp_path}/audit.db"
    yesterday_ms = int(time.time() * 1000) - DAY_MS
    paid = [a_scored(number, requested_at_ms=yesterday_ms) for number in range(60)]
    back = [a_chargeback(number, charged_back_at_ms=yesterday_ms + 1) for number in range(25)]
    write(url, [*paid, *back, *[an_outcome(each) for each in paid]])
    tomorrow = datetime.fromtimestamp(yesterday_ms / 1000 + 2 * 86_400, UTC).date().isoformat()
    arguments = ["train", "--database", url, "--until", tomorrow, "--output", str(tmp_path / "model.onnx")]
    result = CliRunner().invoke(fraud, arguments)
    assert result.exit_code == 1
    assert "25 payments with 25 frauds" in result.output
