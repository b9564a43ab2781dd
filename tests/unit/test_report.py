"""Reports from the audit tables: every figure is recounted from the events by another way."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from connectors.sinks import report_events
from connectors.sinks.asks import Asks
from connectors.sinks.database import Database
from pipeline.commands.report import report
from pipeline.commands.report_making import REPORTS
from pipeline.reports.events import Days, UnknownZoneError
from pipeline.reports.sheet import Sheet
from pipeline.reports.sheet_files import csv_of
from pipeline.reports.sheet_page import UnknownLanguageError, Writing
from pipeline.reports.spread import STEP, Spread
from pipeline.stages.inventory import KINDS
from pipeline.stages.invoices import STATUSES
from schemas.records import (
    ChargebackReceived,
    InvoiceChanged,
    PaymentAnswered,
    PaymentCompleted,
    PaymentQueued,
    PaymentUpdated,
    Record,
    StockMoved,
)
from tests import audited
from tests.stream.events import a_fact
from tests.unit.test_inventory import a_movement
from tests.unit.test_invoices import a_change

HOUR_MS = 3_600_000
BEGIN_MS = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
DAYS = 5
UNTIL_MS = BEGIN_MS + DAYS * 24 * HOUR_MS
TENANTS, CURRENCIES, PICS = ("acme", "other"), ("EUR", "JPY"), ("one", "two")


def some_events(seed: int, payments: int) -> list[tuple[Record, int]]:
    """Events and when they were recorded, of payments of all kinds, in no order; some before and after the days."""
    rng = random.Random(seed)
    events: list[tuple[Record, int]] = []
    for number in range(payments):
        at_ms = BEGIN_MS + rng.randrange(-24 * HOUR_MS, (DAYS + 1) * 24 * HOUR_MS)
        amount, pic = rng.randrange(1, 100_000), rng.choice(PICS)
        about: dict[str, Any] = {
            "tenant": rng.choice(TENANTS),
            "payment_id": f"p{number}",
            "currency": rng.choice(CURRENCIES),
            "pic": pic,
        }
        outcome = rng.choice(["paid", "paid", "authorized", "declined", "blocked", "refused"])
        asked = outcome in ("paid", "authorized", "declined")
        for ask in range(rng.randrange(1, 4) if asked else 0):
            waited_ms = rng.randrange(1, 5_000)
            events.append((a_fact(PaymentQueued, ask=ask, **about), at_ms - waited_ms))
            said = rng.choice(["paid", "pending", "declined", "unsent"])
            answer = a_fact(PaymentAnswered, ask=ask, outcome=said, called=True, answered_at_ms=at_ms, **about)
            events.append((answer, at_ms))
        ended = a_completed(
            number,
            at_ms,
            tenant=about["tenant"],
            outcome=outcome,
            reason="" if outcome in ("paid", "authorized") else rng.choice(["no_funds", "limit"]),
            stage="plugin" if asked else "screening",
            received_at_ms=at_ms - rng.randrange(1, 100_000),
            amount_minor=amount,
            currency=about["currency"],
            fee_minor=rng.randrange(300),
            pic=pic if asked else "",
        )
        events.append((ended, at_ms))
        for name, kind in (("a", "capture"), ("b", "refund"), ("c", "void")):
            if rng.random() < 0.4:
                done = rng.choice(["succeeded", "failed"])
                events.append((updated(about, name, kind, rng.randrange(1, amount + 1), done), at_ms + HOUR_MS))
        if rng.random() < 0.2:
            kind = rng.choice(["chargeback", "refund"])
            disputed = ChargebackReceived(
                tenant=about["tenant"],
                payment_id=about["payment_id"],
                creditor_id="c1",
                amount_minor=amount,
                currency=about["currency"],
                paid_at_ms=at_ms,
                charged_back_at_ms=at_ms + HOUR_MS,
                kind=kind,
            )
            events.append((disputed, at_ms + 20 * HOUR_MS))
        events += [(told, at_ms + HOUR_MS) for told in some_goods_and_invoices(rng, about, number)]
    rng.shuffle(events)
    return events


def some_goods_and_invoices(rng: random.Random, about: dict[str, Any], number: int) -> Iterator[Record]:
    """What else is told of a payment's day; one record in ten does not hold together."""
    tenant, payment_id = about["tenant"], rng.choice([about["payment_id"], ""])
    for part in range(rng.randrange(4)):
        kind, currency = rng.choice(list(KINDS)), rng.choice([*CURRENCIES, ""])
        quantity = rng.randrange(1, 100) * (rng.choice([1, -1]) if kind in ("adjusted", "transferred") else 1)
        yield a_movement(
            tenant=tenant,
            movement_id=f"m{number}.{part}",
            sku=rng.choice(["tea", "cup"]),
            location=rng.choice(["vienna", ""]),
            kind=kind if rng.random() < 0.95 else "stolen",
            quantity=quantity if rng.random() < 0.95 else 0,
            unit_cost_minor=rng.randrange(1_000) if currency else 0,
            currency=currency,
            payment_id=payment_id,
        )
    net, tax = rng.randrange(10_000), rng.randrange(2_000)
    for status in rng.sample(list(STATUSES), rng.randrange(4)):
        yield a_change(
            tenant=tenant,
            invoice_id=f"i{number}",
            event_id=status,
            kind=rng.choice(["order", "pre_order"]),
            status=status,
            currency=about["currency"] if rng.random() < 0.95 else "XXX",
            net_minor=net,
            tax_minor=tax,
            gross_minor=net + tax + (rng.random() < 0.05),
            amount_minor=net + tax if status == "issued" else rng.randrange(1, 5_000),
            due_date=rng.choice(["", "2026-06-01", "2026-06-05", "2026-06-06", "2026-06-07"]),
            payment_id=payment_id,
        )


def a_completed(number: int, at_ms: int, **named: Any) -> PaymentCompleted:
    """A payment's outcome: paid at the first PIC."""
    fields: dict[str, Any] = {"tenant": "acme", "outcome": "paid", "stage": "settlement", "pic": "one"} | named
    return PaymentCompleted(
        event_id=f"{fields['tenant']}|p{number}|completed",
        payment_id=f"p{number}",
        rule_version=1,
        requested_at_ms=at_ms,
        **({"received_at_ms": at_ms} | fields),
    )


def updated(about: dict[str, Any], name: str, kind: str, amount_minor: int, outcome: str) -> PaymentUpdated:
    """An operation came to its end."""
    return PaymentUpdated(
        event_id=f"{about['tenant']}|{about['payment_id']}|{name}",
        operation_id=name,
        kind=kind,
        outcome=outcome,
        amount_minor=amount_minor,
        status="succeeded",
        occurred_at_ms=0,
        **about,
    )


def write(database: Database, events: list[tuple[Record, int]]) -> None:
    """As the audit sink does."""
    at_ms = {id(event): recorded_at_ms for event, recorded_at_ms in events}
    audited.write(database, [event for event, _ in events], recorded_at_ms=lambda event: at_ms[id(event)])


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty audit database."""
    with audited.a_database(f"sqlite:///{tmp_path}/audit.db") as opened:
        yield opened


def sheet_of(database: Database, name: str, tenant: str = "", zone: str = "UTC") -> Sheet:
    """One report of the days."""
    make, stages, _ = REPORTS[name]
    tally = make(Days(zone).until(UNTIL_MS))
    between: dict[str, Any] = {"tenant": tenant, "from_ms": BEGIN_MS, "until_ms": UNTIL_MS}
    for event in Asks(database, **between) if stages is None else report_events.events(database, stages, **between):
        tally.add(event)
    return tally.sheet()


def within(events: list[tuple[Record, int]], kind: type[Any], tenant: str = "") -> list[tuple[Any, int]]:
    """Events of one kind in the days."""
    return [
        (event, at_ms)
        for event, at_ms in events
        if isinstance(event, kind)
        and BEGIN_MS <= at_ms < UNTIL_MS
        and event.tenant in ((tenant,) if tenant else TENANTS)
    ]


def day_of(at_ms: int, zone: str = "UTC") -> str:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).date().isoformat()


def money_of(events: list[tuple[Record, int]], tenant: str, zone: str) -> dict[tuple[str, ...], Counter[str]]:
    """Settlement by brute force."""
    found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for event, at_ms in within(events, PaymentCompleted, tenant):
        at = found[event.tenant, day_of(at_ms, zone), event.currency, event.pic]
        at["fees_minor"] += event.fee_minor * (event.outcome in ("paid", "authorized"))
        at["paid_minor"] += event.amount_minor * (event.outcome == "paid")
        at["payments"] += event.outcome == "paid"
    for event, at_ms in within(events, PaymentUpdated, tenant):
        done = event.outcome == "succeeded"
        at = found[event.tenant, day_of(at_ms, zone), event.currency, event.pic]
        for kind, name in (("capture", "captured_minor"), ("refund", "refunded_minor")):
            at[name] += event.amount_minor * (done and event.kind == kind)
    for event, at_ms in within(events, ChargebackReceived, tenant):
        at = found[event.tenant, day_of(at_ms, zone), event.currency, ""]
        at["charged_back_minor" if event.kind == "chargeback" else "refunded_minor"] += event.amount_minor
    return {key: counter for key, counter in found.items() if +counter}


SUMS = ("payments", "paid_minor", "captured_minor", "refunded_minor", "charged_back_minor", "fees_minor")


@pytest.mark.parametrize("seed", range(20))
def test_settlement_is_what_the_events_say(database: Database, seed: int) -> None:
    """Each row, each total, and net; of one tenant and of all, in two time zones."""
    events = some_events(seed, 60)
    write(database, events)
    tenant, zone = ("", "UTC") if seed % 2 else ("acme", "Asia/Tokyo")
    sheet = sheet_of(database, "settlement", tenant, zone)
    expected = money_of(events, tenant, zone)
    rows = {
        tuple(each[key] for key in ("tenant", "day", "currency", "pic")): each for each in sheet.records(sheet.rows)
    }
    busy = {key for key, row in rows.items() if any(row[name] for name in SUMS)}
    assert busy == expected.keys()
    for key, row in rows.items():
        assert {name: row[name] for name in SUMS} == {name: expected.get(key, Counter())[name] for name in SUMS}
        came = row["paid_minor"] + row["captured_minor"]
        assert row["net_minor"] == came - row["refunded_minor"] - row["charged_back_minor"] - row["fees_minor"]
    for total in sheet.records(sheet.totals):
        same = [row for key, row in rows.items() if key[2] == total["currency"]]
        for name in (*SUMS, "net_minor", "captures", "refunds", "chargebacks"):
            assert total[name] == sum(row[name] for row in same)


def test_totals_agree_with_the_state_of_payments(database: Database) -> None:
    """To the smallest unit, by the other table: what `payments` says of amounts and fees."""
    events = [each for each in some_events(7, 200) if BEGIN_MS <= each[1] < UNTIL_MS]
    write(database, events)
    stated = database.query(
        "SELECT currency, SUM(CASE WHEN outcome = 'paid' THEN amount_minor ELSE 0 END), SUM(fee_minor), COUNT(*)"
        " FROM payments WHERE outcome IN ('paid', 'authorized') GROUP BY currency ORDER BY currency"
    )
    settled = sheet_of(database, "settlement")
    told = {row["currency"]: row for row in settled.records(settled.totals)}
    fees = sheet_of(database, "fees")
    charged = {row["currency"]: row for row in fees.records(fees.totals)}
    assert [row[0] for row in stated] == sorted(told) == sorted(charged)
    for currency, paid_minor, fees_minor, payments in stated:
        assert told[currency]["paid_minor"] == paid_minor
        assert told[currency]["fees_minor"] == charged[currency]["fees_minor"] == fees_minor
        assert charged[currency]["payments"] == payments


@pytest.mark.parametrize("tenant", ["", "acme"])
def test_declines_latency_and_queues_are_what_the_events_say(database: Database, tenant: str) -> None:
    """Counts of each key, shares of a tenant's payments, and percentiles within a bucket."""
    events = some_events(3, 300)
    write(database, events)
    completed = within(events, PaymentCompleted, tenant)
    declines = sheet_of(database, "declines", tenant)
    expected = Counter(
        (e.tenant, e.outcome, e.stage, e.reason, e.pic, e.currency)
        for e, _ in completed
        if e.outcome not in ("paid", "authorized")
    )
    assert {row[:6]: row[6] for row in declines.rows} == expected
    payments = Counter(e.tenant for e, _ in completed)
    for row in declines.records(declines.rows):
        assert row["share"] == row["payments"] / payments[row["tenant"]]

    latency = sheet_of(database, "latency", tenant)
    waits = sorted(at_ms - e.received_at_ms for e, at_ms in completed)
    [total] = latency.records(latency.totals)
    assert (total["payments"], total["max_ms"]) == (len(waits), waits[-1])
    assert total["p50_ms"] == pytest.approx(waits[-(-len(waits) // 2) - 1], rel=STEP)

    queues = sheet_of(database, "queues", tenant)
    answered = within(events, PaymentAnswered, tenant)
    queued_ms = {(e.payment_id, e.ask): at_ms for e, at_ms in events if isinstance(e, PaymentQueued)}
    assert sum(row["asks"] for row in queues.records(queues.rows)) == len(answered)
    for row in queues.records(queues.rows):
        here = [e for e, at_ms in answered if (e.pic, day_of(at_ms)) == (row["pic"], row["day"])]
        assert (row["asks"], row["further_asks"]) == (len(here), sum(e.ask > 0 for e in here))
        assert row["pending"] == sum(e.outcome == "pending" for e in here)
        assert row["max_ms"] == max(at_ms - queued_ms[e.payment_id, e.ask] for e, at_ms in answered if e in here)
        assert 0 < row["p50_ms"] <= row["max_ms"]


def units_of(events: list[tuple[Record, int]], tenant: str) -> tuple[dict[tuple[str, ...], Counter[str]], int]:
    """Stock by brute force, values by currency in it; and how many records do not hold together."""
    found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    apart = 0
    for event, _ in within(events, StockMoved, tenant):
        if event.kind == "stolen" or event.quantity == 0:
            apart += 1
            continue
        at, units = found[event.tenant, event.sku, event.location], event.quantity
        at[event.kind] += units
        comes = event.kind in ("received", "restocked", "adjusted", "transferred")
        into = units if comes else -units if event.kind in ("sold", "written_off") else 0
        at["stock_change"] += into
        at["reserved_change"] += {"reserved": units, "released": -units}.get(event.kind, 0)
        at["without_cost"] += 0 if event.currency else abs(into)
        at[f"value {event.currency}"] += into * event.unit_cost_minor
    return found, apart


UNITS = (*KINDS, "stock_change", "reserved_change", "without_cost")


@pytest.mark.parametrize("seed", range(10))
def test_inventory_is_what_the_events_say(database: Database, seed: int) -> None:
    """Each article at each place, and the totals: units once, values by currency; the rest is counted apart."""
    events = some_events(seed, 80)
    write(database, events)
    tenant = "" if seed % 2 else "acme"
    sheet = sheet_of(database, "inventory", tenant)
    expected, apart = units_of(events, tenant)
    told: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in sheet.records(sheet.rows):
        at = told[row["tenant"], row["sku"], row["location"]]
        at.update({name: row[name] for name in UNITS})
        assert (row["value_minor"] is None) == (row["currency"] == "")
        at[f"value {row['currency']}"] += row["value_minor"] or 0
    assert {key: +at | -at for key, at in told.items()} == {key: +at | -at for key, at in expected.items()}
    together: Counter[str] = Counter()
    for at in expected.values():
        together.update(at)
    totals = sheet.records(sheet.totals)
    assert {name: sum(row[name] for row in totals) for name in UNITS} == {name: together[name] for name in UNITS}
    assert {row["currency"]: row["value_minor"] for row in totals} == {c: together[f"value {c}"] for c in CURRENCIES}
    assert apart > 0
    assert sheet.missing.startswith(f"{apart} record")


def invoiced(
    events: list[tuple[Record, int]], tenant: str, zone: str
) -> tuple[dict[tuple[str, ...], Counter[str]], int]:
    """Invoices by brute force; and how many records do not hold together."""
    found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    apart = 0
    for event, at_ms in within(events, InvoiceChanged, tenant):
        if event.currency == "XXX" or event.gross_minor != event.net_minor + event.tax_minor:
            apart += 1
            continue
        at = found[event.tenant, day_of(at_ms, zone), event.kind, event.currency]
        if event.status == "issued":
            at.update(issued=1, net_minor=event.net_minor, tax_minor=event.tax_minor, gross_minor=event.gross_minor)
        for name in ("paid", "refunded", "credited", "cancelled", "written_off"):
            if event.status == name or (event.status, name) == ("partly_paid", "paid"):
                at[f"{name}_minor"] += event.amount_minor
        at["overdue"] += 0
        if event.due_date and event.due_date < day_of(UNTIL_MS, zone):
            at["overdue_minor"] += event.amount_minor * (1 if event.status in ("issued", "refunded") else -1)
    return found, apart


PAID_OFF = ("paid_minor", "credited_minor", "cancelled_minor", "written_off_minor")
INVOICED = ("issued", "net_minor", "tax_minor", "gross_minor", *PAID_OFF, "refunded_minor", "overdue_minor")


@pytest.mark.parametrize("seed", range(10))
def test_invoices_are_what_the_events_say(database: Database, seed: int) -> None:
    """Each row, what it makes open, and the totals of each kind and currency, in two time zones; the rest is counted apart."""
    events = some_events(seed, 80)
    write(database, events)
    tenant, zone = ("", "UTC") if seed % 2 else ("acme", "Asia/Tokyo")
    sheet = sheet_of(database, "invoices", tenant, zone)
    expected, apart = invoiced(events, tenant, zone)
    rows = {(row["tenant"], row["day"], row["kind"], row["currency"]): row for row in sheet.records(sheet.rows)}
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        assert {name: row[name] for name in INVOICED} == {name: expected[key][name] for name in INVOICED}
        left = row["gross_minor"] + row["refunded_minor"] - sum(row[name] for name in PAID_OFF)
        assert row["open_minor"] == left
    totals = sheet.records(sheet.totals)
    assert {(row["kind"], row["currency"]) for row in totals} == {key[2:] for key in rows}
    for total in totals:
        same = [row for key, row in rows.items() if key[2:] == (total["kind"], total["currency"])]
        for name in (*INVOICED, "open_minor"):
            assert total[name] == sum(row[name] for row in same)
    assert apart > 0
    assert sheet.missing.startswith(f"{apart} record")


def test_from_the_first_invoice_on_change_is_what_is_open(database: Database) -> None:
    """By hand: two invoices, one overdue in part, one paid, credited and its money given back; a pro forma is not added."""
    first: dict[str, Any] = {"invoice_id": "1", "due_date": "2026-06-05"}
    second: dict[str, Any] = {"invoice_id": "2", "due_date": "2026-06-06"}
    told = [
        a_change(**first),
        a_change(**first, event_id="2", status="partly_paid", amount_minor=5_000),
        a_change(**second),
        a_change(**second, event_id="2", status="paid"),
        a_change(**second, event_id="3", status="credited"),
        a_change(**second, event_id="4", status="refunded"),
        a_change(invoice_id="3", kind="pre_order", due_date=""),
    ]
    write(database, [(each, BEGIN_MS) for each in told])
    write(database, [(each, BEGIN_MS + HOUR_MS) for each in told])  # a repeat changes nothing
    sheet = sheet_of(database, "invoices")
    order, pre_order = sheet.records(sheet.totals)
    assert (order["issued"], order["open_minor"], order["overdue_minor"]) == (2, 7_000, 7_000)
    assert (pre_order["issued"], pre_order["open_minor"], pre_order["overdue_minor"]) == (1, 12_000, 0)
    assert json.loads(ptr(database, "invoices", "--format", "json").stdout)["totals"] == [order, pre_order]
    assert sheet.missing == ""


def test_charts_stack_invoices_by_kind_and_write_whole_numbers(database: Database) -> None:
    """A pro forma is told from what is owed; units are written out, and nothing sold is a bar of no length."""
    told = [
        a_change(),
        a_change(invoice_id="2", kind="pre_order", net_minor=22_000, gross_minor=24_000, amount_minor=24_000),
    ]
    write(database, [(each, BEGIN_MS) for each in [*told, a_movement(quantity=12_345)]])
    page = ptr(database, "invoices", "--format", "html").stdout
    assert "<title>2026-06-01: order 120</title>" in page
    assert "<title>2026-06-01: pre_order 240</title>" in page
    goods = ptr(database, "inventory", "--format", "html").stdout
    assert ">tea-250: vienna</text>" in goods
    assert ">12,345</text>" in goods
    assert ">0</text>" in goods


def test_what_does_not_hold_together_is_said_in_every_format(database: Database) -> None:
    """With what is wrong and how often, also where nothing else was recorded, and without what the record holds."""
    bad = [a_movement(movement_id=f"m{n}", kind="Ada Lovelace") for n in range(2)] + [a_movement(movement_id="a b")]
    write(database, [(each, BEGIN_MS) for each in bad])
    said = "3 records that do not hold together are not in the figures: 2: kind is none of received, "
    made = ptr(database, "inventory")
    assert said in made.stdout
    assert "1: an id is not valid." in made.stdout
    assert said in ptr(database, "inventory", "--format", "html").stdout
    assert json.loads(ptr(database, "inventory", "--format", "json").stdout)["about"]["missing"].startswith(said)
    assert said in ptr(database, "inventory", "--format", "csv").stderr
    assert "Ada" not in made.output


def test_of_another_tenant_nothing_is_told(database: Database) -> None:
    """Not in any report."""
    write(database, [each for each in some_events(5, 100) if each[0].tenant == "other"])  # type: ignore[attr-defined]
    for name in REPORTS:
        assert sheet_of(database, name, "acme").rows == [], name
        assert sheet_of(database, name, "other").rows != [], name


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_percentiles_are_within_a_bucket(times_ms: list[int], share: float) -> None:
    """Of any times; merged from two halves it is the same."""
    whole, left, right = Spread(), Spread(), Spread()
    for number, ms in enumerate(times_ms):
        whole.add(ms)
        (left if number % 2 else right).add(ms)
    left.merge(right)
    exact = sorted(times_ms)[max(-(-share * len(times_ms) // 1) - 1, 0).__int__()]
    assert whole.at(share) == left.at(share) == pytest.approx(exact, rel=STEP, abs=1)
    assert (left.count, left.max_ms) == (len(times_ms), max(times_ms))


def test_days_of_a_zone_begin_when_they_do_there() -> None:
    """Also on the day that has 23 hours, and where a quarter of an hour matters."""
    for zone, day in (("Europe/Vienna", "2026-03-29"), ("Asia/Kathmandu", "2026-06-01"), ("UTC", "2026-06-01")):
        days = Days(zone)
        begin_ms = days.begin_ms(day)
        assert (days.of(begin_ms), days.of(begin_ms - 1)) == (day, day_of(begin_ms - 1, zone))
        assert days.of(begin_ms - 1) < day
    with pytest.raises(UnknownZoneError):
        Days("Europe/Nowhere")


def test_amounts_are_written_as_the_locale_does() -> None:
    """With the currency's decimals."""
    columns = {column.name: column for column in REPORTS["settlement"][0](Days()).sheet().columns}
    for locale, currency, written in (
        ("", "EUR", "1,234,567.89"),
        ("de-DE", "EUR", "1.234.567,89"),
        ("de-CH", "CHF", "1’234’567.89"),
        ("ja_JP", "JPY", "123,456,789"),
        ("en-GB", "KWD", "123,456.789"),
    ):
        assert Writing(locale).cell(columns["net_minor"], 123_456_789, currency) == written, locale
    assert Writing("de-DE").cell(columns["day"], "2026-11-27", None) == "27.11.26"
    assert Writing().cell(columns["net_minor"], 0, "EUR") == "0.00"
    with pytest.raises(UnknownLanguageError):
        Writing("xx-klingon")


def test_a_text_is_no_formula_for_a_spreadsheet() -> None:
    """Reasons and ids come from outside."""
    sheet = REPORTS["declines"][0](Days()).sheet()
    sheet = Sheet("x", "X", sheet.columns[:2], [("=cmd|' /C calc'!A0", "@SUM(1)")])
    assert list(csv.reader(io.StringIO(csv_of(sheet))))[1] == ["'=cmd|' /C calc'!A0", "'@SUM(1)"]


# -- the command ------------------------------------------------------------------------------------------------------


def ptr(database: Database, *words: str) -> Result:
    """``ptr report ...`` of the days."""
    given = ["--database", database.shown, "--from", "2026-06-01", "--to", "2026-06-06"]
    return CliRunner().invoke(report, [*words, *given])


def test_every_format_says_the_same(database: Database, tmp_path: Path) -> None:
    """Rows of JSON, CSV and Parquet are equal; the page is well formed, holds each day and every total, and no script."""
    events = some_events(9, 120)
    write(database, events)
    for name in REPORTS:
        sheet = sheet_of(database, name)
        made = ptr(database, name, "--format", "json")
        assert made.exit_code == 0, made.output
        data = json.loads(made.stdout)
        assert data["rows"] == json.loads(json.dumps(sheet.records(sheet.rows)))
        read = list(csv.DictReader(io.StringIO(ptr(database, name, "--format", "csv").stdout)))
        assert [[row[c.name] for c in sheet.columns] for row in read] == [
            ["" if value is None else str(value) for value in row] for row in sheet.rows
        ]
        file = tmp_path / f"{name}.parquet"
        assert ptr(database, name, "--format", "parquet", "--output", str(file)).exit_code == 0
        assert pq.read_table(file).to_pylist() == sheet.records(sheet.rows)
        page = ptr(database, name, "--format", "html", "--locale", "de-AT").stdout
        assert "<script" not in page
        assert page.count("<svg") >= 1
        body = page[page.index("<h1>") : page.index("</body>")]
        root = ET.fromstring(f"<body>{body}</body>")
        assert len(root.findall(".//tbody/tr")) == len(sheet.rows)
        assert len(root.findall(".//tfoot/tr")) == len(sheet.totals)
        assert sheet.notes[:30] in ptr(database, name).stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--tenant", "Not A Tenant"], "--tenant"),
        (["--from", "2026-13-01"], "no day"),
        (["--from", "2026-06-02", "--to", "2026-06-02"], "--from must be before"),
        (["--timezone", "../../etc/passwd"], "no time zone"),
        (["--locale", "klingon"], "no locale"),
    ],
)
def test_a_mistake_is_told_in_a_line(database: Database, words: list[str], named: str) -> None:
    """And nothing is read."""
    done = CliRunner().invoke(report, ["settlement", "--database", database.shown, *words])
    assert done.exit_code == 2
    assert named in done.output
    assert "Traceback" not in done.output


def test_no_database_and_no_place_to_write_are_told(database: Database, tmp_path: Path) -> None:
    """With what is missing, and exit code 1."""
    absent = CliRunner().invoke(report, ["fees", "--database", f"sqlite:///{tmp_path}/none.db"])
    assert (absent.exit_code, "Traceback" in absent.output) == (1, False)
    nowhere = ptr(database, "fees", "--output", str(tmp_path / "no" / "where.txt"))
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.output


def test_an_empty_time_is_said(database: Database) -> None:
    """In every format, without a failure."""
    for name in REPORTS:
        assert "Nothing was recorded then." in ptr(database, name).stdout
        assert "Nothing to show." in ptr(database, name, "--format", "html").stdout
        assert json.loads(ptr(database, name, "--format", "json").stdout)["rows"] == []
