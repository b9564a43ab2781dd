"""Reports, `ptr show` and `ptr trace` are the same when months were archived, with the files; in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result

from connectors.sinks import archive_files, asks, judged
from connectors.sinks.archives import ArchiveFileError, archives_of
from connectors.sinks.archiving import Archiving
from connectors.sinks.asks import Asks
from connectors.sinks.database import Batch, open_database
from connectors.sinks.judged import Judged, judged_payments
from connectors.sinks.months import DAY_MS, first_ms, name_of_month, next_month
from pipeline.commands.report_making import REPORTS, sheet_of
from pipeline.reports.events import Asked, Days
from pipeline.stages.labels import Evidence, Source
from schemas.records import DeadLetter, PaymentAnswered, PaymentQueued, PaymentUpdated, Record
from tests.audited import topic_of
from tests.integration import postgres as pg
from tests.integration.test_audit_archive import Log, new_database, refused
from tests.integration.test_privacy import Tables, of
from tests.integration.test_sqlite_audit import CODEC, MAPPER, states
from tests.stream.events import a_fact
from tests.unit.test_fraud_report import a_chargeback, a_review, a_scored, an_outcome
from tests.unit.test_report import some_goods_and_invoices

HOUR_MS = 3_600_000
JANUARY, FEBRUARY, MARCH, APRIL, MAY = (date(2024, month, 1) for month in range(1, 6))
TENANTS = ("acme", "other", "third")
NAMES = (*REPORTS, "fraud")
#: All that the world holds, chargebacks too.
ALL_DAYS = ("--from", "2024-01-01", "--to", "2024-08-01")


@pytest.fixture(scope="module")
def server() -> Iterator[pg.Postgres]:
    if why_not := pg.available():
        pytest.fail(f"{why_not}; or leave these tests out with -m 'not postgres'")
    with pg.postgres() as running:
        yield running


def a_log(request: pytest.FixtureRequest, folder: Path) -> Log:
    is_sqlite = request.param == "sqlite"
    return Log(f"sqlite:///{folder}/audit.db" if is_sqlite else new_database(request.getfixturevalue("server")), folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """An empty database of each kind, read in small pieces."""
    monkeypatch.setattr(archive_files, "GROUP_ROWS", 7)
    monkeypatch.setattr(asks, "INTENTS_KEPT", 4)
    monkeypatch.setattr(asks, "ANSWERS_WAITING", 3)
    monkeypatch.setattr(judged, "PAGE_PAYMENTS", 5)
    monkeypatch.setattr("connectors.sinks.sqlite.REMOVE_ROWS", 9)
    return a_log(request, tmp_path)


def a_payment(number: int, rng: random.Random, at_ms: int) -> list[tuple[Record, int]]:
    """Events of one payment and when they were recorded: asks that take from milliseconds to weeks, captures, disputes."""
    scored = a_scored(
        number,
        tenant=rng.choice(TENANTS),
        requested_at_ms=at_ms - rng.choice([-60_000, 5, 5, 900_000]),
        received_at_ms=at_ms,
        amount_minor=rng.randrange(100, 90_000),
        currency=rng.choice(["EUR", "JPY"]),
        score=round(rng.random(), 4),
        outcome=rng.choice(["approved", "approved", "challenged", "referred"]),
    )
    about: dict[str, Any] = {
        "tenant": scored.tenant,
        "payment_id": scored.payment_id,
        "pic": rng.choice(["one", "two"]),
        "currency": scored.currency,
        "requested_at_ms": scored.requested_at_ms,
        "received_at_ms": at_ms,
    }
    events: list[tuple[Record, int]] = [(scored, at_ms + 10)]
    now_ms = at_ms + 20

    def ask(number: int, **more: Any) -> None:
        nonlocal now_ms
        events.append((a_fact(PaymentQueued, ask=number, **about, **more), now_ms))
        now_ms += rng.choice([5, 300, 4 * HOUR_MS, rng.randrange(DAY_MS, 40 * DAY_MS)])
        said = rng.choice(["paid", "declined", "pending", "unsent"])
        answer = a_fact(PaymentAnswered, ask=number, outcome=said, called=True, answered_at_ms=now_ms, **about, **more)
        # A clock of another broker may be behind.
        events.append((answer, now_ms - rng.choice([0, 0, 50])))
        now_ms += 10

    for place in range(rng.randrange(3)):
        ask(place)
    if rng.random() < 0.9:
        outcome = an_outcome(scored, rng.choice(["paid", "authorized", "declined"]))
        events.append((outcome, now_ms))
    if rng.random() < 0.3:
        now_ms += rng.randrange(30 * DAY_MS)
        ask(0, operation_id="cap-1", kind="capture")
        amounts: dict[str, Any] = {
            "operation_id": "cap-1",
            "kind": "capture",
            "amount_minor": 70,
            "occurred_at_ms": now_ms,
        }
        done = PaymentUpdated(
            event_id=f"{scored.tenant}|{scored.payment_id}|cap-1",
            outcome="succeeded",
            status="captured",
            **{name: value for name, value in about.items() if not name.endswith("_at_ms")},
            **amounts,
        )
        events.append((done, now_ms))
    if rng.random() < 0.4:
        days = rng.uniform(1, 50)
        reason = rng.choice(["fraud", "10.4", "not_received"])
        events.append((a_chargeback(scored, days, reason), at_ms + round(days * DAY_MS) + 99))
    if rng.random() < 0.3:
        key = f"{scored.tenant}|{scored.payment_id}".encode()
        stage = rng.choice(["settlement", "payee", "plugin"])
        failed = DeadLetter(topic="t", partition=0, offset=number, stage=stage, error="x", key=key, value_length=0)
        events.append((failed, at_ms + 30))
    if scored.outcome == "referred" and rng.random() < 0.7:
        events.append((a_review(scored, rng.choice(["approved", "rejected"])), at_ms + HOUR_MS))
    events += [(told, at_ms + 2 * HOUR_MS) for told in some_goods_and_invoices(rng, about, number)]
    return events


def fill(log: Log, seed: int, payments: int) -> None:
    """Payments of January to April, many of them near a month's border; they are written in the order of their events."""
    rng = random.Random(seed)
    events: list[tuple[Record, int]] = []
    for number in range(payments):
        border = first_ms(rng.choice([FEBRUARY, MARCH, APRIL]))
        near_ms = border - rng.randrange(-HOUR_MS, HOUR_MS)
        any_ms = first_ms(JANUARY) + rng.randrange(120 * DAY_MS)
        events += a_payment(number, rng, rng.choice([near_ms, any_ms]))
    events.sort(key=lambda each: each[1])
    write(log, events, rng)


def write(log: Log, events: list[tuple[Record, int]], rng: random.Random | None = None) -> None:
    """``events`` and when they were recorded, in one shard or (``rng``) in two."""
    rows = [
        MAPPER.columns(topic_of(event), rng.randrange(2) if rng else 0, offset, at_ms, CODEC.encode(event))
        for offset, (event, at_ms) in enumerate(events)
    ]
    log.write(rows)


def report(log: Log, name: str, *words: str, shape: str = "json") -> Result:
    more = ["--no-drift", "--as-of", "2024-09-01"] if name == "fraud" else []
    return log.ptr(name, *words, "--format", shape, *more, group="report")


def figures(log: Log, *words: str) -> dict[str, str]:
    """Every report."""
    made = {name: report(log, name, *words) for name in NAMES}
    for name, done in made.items():
        assert done.exit_code == 0, (name, done.output)
    return {name: done.stdout for name, done in made.items()}


def with_files(log: Log, *words: str) -> dict[str, str]:
    return figures(log, *words, "--archive", str(log.to))


def counted(figures: str) -> int:
    """How many rows a report has, and how many payments."""
    data = json.loads(figures)
    return len(data["rows"]) if "rows" in data else int(data["total"]["payments"])


@pytest.mark.parametrize("seed", range(3))
def test_every_report_is_the_same_whatever_was_archived(log: Log, seed: int) -> None:
    """Any months of any tenants, one run after the other; of all days and of some, of all tenants and of one."""
    fill(log, seed, 60)
    rng = random.Random(seed)

    def days() -> tuple[str, ...]:
        first = date(2024, 1, 1) + timedelta(days=rng.randrange(130))
        return ("--from", f"{first}", "--to", f"{first + timedelta(days=rng.randrange(1, 60))}")

    asked = [ALL_DAYS, days(), (*days(), "--tenant", "acme")]
    before = [figures(log, *words) for words in asked]
    assert all(counted(before[0][name]) for name in NAMES)
    for _ in range(3):
        until = rng.choice([FEBRUARY, MARCH, APRIL, MAY])
        log.archive(f"{until}", *rng.choice([(), ("--tenant", rng.choice(TENANTS))]))
        assert [with_files(log, *words) for words in asked] == before
    log.archive(f"{MAY}")
    assert log.query("SELECT COUNT(*) FROM payment_events WHERE recorded_at_ms < ?", first_ms(FEBRUARY))[0][0] < 20
    assert [with_files(log, *words) for words in asked] == before


def test_without_the_folder_the_reports_say_what_is_missing(log: Log) -> None:
    """How many events, in which files, and which option gives them; in every format that has room for it."""
    fill(log, 3, 40)
    log.archive(f"{MARCH}")
    files = sorted(log.to.rglob("*.parquet"), key=lambda path: (path.stem, path))
    events = sum(pq.read_table(path).num_rows for path in files)
    first = files[0].relative_to(log.to)
    sentence = f"{events:,} events of 2024-01 to 2024-02 are archived and not counted: they are in {first}"
    for name in NAMES:
        made = report(log, name, *ALL_DAYS, shape="table")
        assert sentence in made.output, name
        assert "--archive DIR" in made.output
        assert sentence in report(log, name, *ALL_DAYS, shape="html").output
        assert json.loads(report(log, name, *ALL_DAYS).stdout)["about"]["missing"].startswith(sentence)
        complete = report(log, name, *ALL_DAYS, "--archive", str(log.to), shape="table")
        assert "archived" not in complete.output
        march = report(log, name, "--from", "2024-05-01", "--to", "2024-06-01", shape="table")
        assert "not counted: they are" not in march.output


def test_an_ask_whose_intent_alone_is_archived_is_told(log: Log) -> None:
    """It was queued in January and answered in February: without January's file how long it waited is not known."""
    rng = random.Random(1)
    about = {"tenant": "acme", "payment_id": "p1", "pic": "one", "ask": 2}
    at_ms = first_ms(FEBRUARY)
    events: list[tuple[Record, int]] = [
        (a_fact(PaymentQueued, **about), at_ms - 5_000),
        (a_fact(PaymentAnswered, outcome="paid", called=True, answered_at_ms=at_ms, **about), at_ms + 1),
        (an_outcome(a_scored(1, payment_id="p1"), "paid"), at_ms + 2),
    ]
    write(log, events, rng)
    february = ("--from", "2024-02-01", "--to", "2024-03-01")
    before = json.loads(report(log, "queues", *february).stdout)
    assert [(row["asks"], row["further_asks"], row["max_ms"]) for row in before["rows"]] == [(1, 1, 5_001)]
    log.archive(f"{FEBRUARY}")
    without = json.loads(report(log, "queues", *february).stdout)
    assert without["rows"] == []
    assert without["about"]["missing"] == (
        "1 ask is not counted: the intents are archived, in acme/2024-01.parquet; name the folder with --archive DIR."
    )
    assert json.loads(report(log, "queues", *february, "--archive", str(log.to)).stdout) == before


def test_asks_about_captures_are_counted_as_those_about_payments(log: Log) -> None:
    """In both databases: an operation's events change no payment's row."""
    about = {"tenant": "acme", "payment_id": "p1", "pic": "one", "ask": 0}
    capture = about | {"operation_id": "cap-1", "kind": "capture"}
    at_ms = first_ms(JANUARY)
    events: list[tuple[Record, int]] = [
        (a_fact(PaymentQueued, **about), at_ms),
        (a_fact(PaymentAnswered, outcome="paid", called=True, answered_at_ms=at_ms, **about), at_ms + 100),
        (a_fact(PaymentQueued, **capture), at_ms + 200),
        (a_fact(PaymentAnswered, outcome="declined", called=True, answered_at_ms=at_ms, **capture), at_ms + 1_200),
    ]
    write(log, events)
    (row,) = json.loads(report(log, "queues", *ALL_DAYS).stdout)["rows"]
    assert (row["asks"], row["paid"], row["declined"], row["max_ms"]) == (2, 1, 1, 1_000)


@pytest.mark.parametrize(
    ("requested", "received", "until"),
    [("02-01T00:00:30", "01-31T23:59:50", "02-01"), ("01-10T12:00:00", "03-05T12:00:00", "04-01")],
)
def test_a_payment_is_judged_in_the_days_of_its_request_wherever_its_score_is(
    log: Log, requested: str, received: str, until: str
) -> None:
    """The payer's clock is ahead of the month's border, or the request waited for weeks."""
    requested_ms, received_ms = (
        int(datetime.fromisoformat(f"2024-{each}+00:00").timestamp() * 1000) for each in (requested, received)
    )
    scored = a_scored(1, requested_at_ms=requested_ms, received_at_ms=received_ms)
    told = (scored, an_outcome(scored, "paid"), a_chargeback(scored, 80))
    write(log, [(event, received_ms + place) for place, event in enumerate(told)])
    day = date(2024, int(requested[:2]), int(requested[3:5]))
    days = ("--from", f"{day}", "--to", f"{day + timedelta(days=1)}")
    before = report(log, "fraud", *days).stdout
    assert json.loads(before)["total"]["frauds"] == 1
    assert log.archive(f"2024-{until}")["removed"] == 3
    assert report(log, "fraud", *days, "--archive", str(log.to)).stdout == before


def test_rows_that_an_archiving_left_in_the_database_are_counted_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before, and amid, removing: they are in both, and the sentence counts those that are gone."""
    fill(log, 5, 40)
    before, here = figures(log, *ALL_DAYS), log.events()
    monkeypatch.setattr(Archiving, "_remove", lambda self, archives: None)
    log.archive(f"{MARCH}")
    monkeypatch.undo()
    assert (figures(log, *ALL_DAYS), with_files(log, *ALL_DAYS)) == (before, before)
    if not log.url.startswith("sqlite"):
        return  # There a month goes in one transaction.
    monkeypatch.setattr("connectors.sinks.sqlite.REMOVE_ROWS", 9)

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with closing(open_database(log.url, create=True)) as database, pytest.raises(KeyboardInterrupt):
        database.remove_archived(archives_of(database), stop)
    gone = here - log.events()
    assert 0 < gone <= 9
    assert with_files(log, *ALL_DAYS) == before
    missing = json.loads(report(log, "fees", *ALL_DAYS).stdout)["about"]["missing"]
    assert missing.startswith(
        f"{gone} events of 2024-01 are archived and not counted: they are in acme/2024-01.parquet;"
    )
    assert log.archive(f"{MARCH}")["removed"] > 0
    assert with_files(log, *ALL_DAYS) == before


def test_a_month_that_is_archived_meanwhile_is_read_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report reads the database and the files as of its beginning; SQLite lets the rows go, PostgreSQL's archiving waits."""
    monkeypatch.setattr("connectors.sinks.postgres.REMOVE_LOCK_S", 0.1)
    fill(log, 6, 60)
    before = figures(log, *ALL_DAYS)
    log.archive(f"{FEBRUARY}")
    is_sqlite = log.url.startswith("sqlite")

    def then_archive(through: date) -> Callable[[Any], Iterator[Any]]:
        def passed(items: Any) -> Iterator[Any]:
            for number, item in enumerate(items):
                if number == 1:
                    done = log.ptr("archive", "--to", str(log.to), "--before", f"{through}")
                    assert (done.exit_code == 0) is is_sqlite, done.output
                yield item

        return passed

    span = {"from_ms": first_ms(JANUARY), "until_ms": first_ms(date(2024, 8, 1))}
    sheet = sheet_of(
        "queues",
        log.url,
        tenant="",
        days=Days(),
        archive=log.to,
        told=then_archive(MARCH),
        **span,  # type: ignore[arg-type]
    )
    assert sheet.records(sheet.rows) == json.loads(before["queues"])["rows"]
    through = then_archive(APRIL)
    monkeypatch.setattr(
        "pipeline.commands.fraud_report.judged_payments",
        lambda *given, **named: through(judged_payments(*given, **named)),
    )
    assert report(log, "fraud", *ALL_DAYS, "--archive", str(log.to)).stdout == before["fraud"]
    monkeypatch.undo()
    log.archive(f"{APRIL}")
    assert with_files(log, *ALL_DAYS) == before


def test_files_that_are_missing_cut_or_changed_are_told_and_nothing_is_printed(log: Log) -> None:
    """By every command that reads them; nothing is written either."""
    fill(log, 5, 40)
    log.archive(f"{MARCH}")
    name = "acme/2024-01.parquet"
    path, whole = log.to / name, (log.to / name).read_bytes()
    payment = str(pq.read_table(path).column("payment_id")[0])
    output = log.to / "report.json"
    schedule = log.to / "reports.yaml"
    month = {"name": "x", "report": "fees", "every": "month", "at": "00:00"}
    schedule.write_text(yaml.safe_dump({"folder": str(log.to / "out"), "archive": str(log.to), "reports": [month]}))

    def all_refuse(*words: str) -> None:
        for report_name in NAMES:
            for more in ((), ("--output", str(output))):
                told = report(log, report_name, *ALL_DAYS, "--archive", str(log.to), *more)
                refused(told, *words)
                assert told.stdout == ""
                assert not output.exists()
        for command in ("show", "trace"):
            for more in ((), ("--json",)):
                told = log.ptr("acme", payment, "--archive", str(log.to), *more, group=command)
                refused(told, *words)
                assert told.stdout == ""
        # Of another month: the file is not needed.
        assert (
            report(log, "fees", "--from", "2024-03-05", "--to", "2024-04-01", "--archive", str(log.to)).exit_code == 0
        )

    path.unlink()
    all_refuse(name, "is not there: bring it back")
    path.write_bytes(whole[:-20])
    all_refuse(name, "cut")
    path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    all_refuse(name, "is not as it was archived: its SHA-256")
    shutil.copy(log.to / "other/2024-01.parquet", path)
    all_refuse(name, "is not the file that was archived")
    # One amount, written properly, under the same words about itself.
    path.write_bytes(whole)
    table = pq.read_table(path)
    forged = [text and text.replace('"fee_minor":0', '"fee_minor":9') for text in table.column("payload").to_pylist()]
    at = table.schema.get_field_index("payload")
    changed = table.set_column(at, table.schema.field("payload"), [forged]).replace_schema_metadata(
        table.schema.metadata
    )
    pq.write_table(changed, path)
    all_refuse(name, "is not as it was archived: its SHA-256")
    path.write_bytes(whole)
    assert report(log, "fees", *ALL_DAYS, "--archive", str(log.to), "--output", str(output)).exit_code == 0


def test_show_and_trace_tell_the_whole_story(log: Log) -> None:
    """As before it was archived, all of it or a part; without the folder they say what is not there."""
    fill(log, 8, 14)
    payments = log.query("SELECT tenant, payment_id FROM payments ORDER BY tenant, payment_id")

    def told(*more: str) -> dict[tuple[str, str, str], str]:
        ran = {
            (tenant, payment, command): log.ptr(tenant, payment, *more, group=command)
            for tenant, payment in payments
            for command in ("show", "trace")
        }
        assert all(each.exit_code == 0 for each in ran.values()), [each.output for each in ran.values()]
        return {key: each.stdout for key, each in ran.items()}

    before = told(), told("--json")
    for until in (MARCH, APRIL):
        log.archive(f"{until}")
        assert (told("--archive", str(log.to)), told("--json", "--archive", str(log.to))) == before
        without, data = told(), told("--json")
        parts = 0
        for (tenant, payment, command), text in without.items():
            archived = json.loads(data[tenant, payment, command])["archived"]
            assert (text == before[0][tenant, payment, command]) is not archived if archived else not archived
            if archived:
                file, events = next(iter(archived.items()))
                assert f"archived: {events} event" in text
                assert f"in {file}" in text
                assert "name the folder with --archive DIR" in text
                left = json.loads(data[tenant, payment, "show"])["events"]
                whole = json.loads(before[1][tenant, payment, "show"])["events"]
                assert len(left) == len(whole) - sum(archived.values())
                parts += bool(left)
        assert parts


def test_sealed_rows_are_read_from_files_as_from_the_database(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """With the master key and without it, before and after a person is erased; tokens have the same stand-ins."""
    url = f"sqlite:///{tmp_path}/audit.db" if kind == "sqlite" else new_database(request.getfixturevalue("server"))
    tables = Tables(tmp_path, url)
    tables.payments(1, 11, 12, 21)
    tenant, payment = of(tables, 1)
    days, to = ("--from", "2025-11-24", "--to", "2025-11-25"), tmp_path / "archive"

    def all_told(*archive: str) -> list[str]:
        ran = [
            *(tables.ptr("report", name, *days, "--format", "json", *archive) for name in REPORTS),
            tables.ptr("report", "fraud", *days, "--format", "json", "--no-drift", "--as-of", "2026-01-01", *archive),
            *(
                tables.ptr(command, *of(tables, number), "--json", *archive, keyed=keyed)
                for command in ("show", "trace")
                for number in (1, 12)
                for keyed in (True, False)
            ),
        ]
        assert all(each.exit_code == 0 for each in ran), [each.output for each in ran]
        return [each.stdout for each in ran]

    def tokens(archive: Path | None) -> list[Judged]:
        with closing(open_database(url)) as database, database.snapshot():
            span = {"from_ms": 0, "until_ms": 1 << 60, "as_of_ms": 1 << 60}
            return sorted(judged_payments(database, archive=archive, **span), key=lambda each: each.payment_id)  # type: ignore[arg-type]

    before, tokens_before = all_told(), tokens(None)
    assert len({each.scored.token for each in tokens_before}) > 1
    done = tables.ptr("audit", "archive", "--to", str(to), "--before", "2025-12-01")
    assert done.exit_code == 0, done.output
    assert tables.query("SELECT COUNT(*) FROM payment_events") == [(0,)]
    assert all_told("--archive", str(to)) == before
    assert tokens(to) == tokens_before
    assert "Somebody of Somewhere" in tables.ptr("show", tenant, payment, "--json", "--archive", str(to)).stdout
    tables.json("privacy", "erase", tenant, "payer-1", "--yes", "--only", "audit", "--by", "dpo", "--archive", str(to))
    shown = tables.ptr("show", tenant, payment, "--json", "--archive", str(to)).stdout
    assert "Somebody of Somewhere" not in shown
    assert json.loads(shown)["events"][0]["erased"] == ["debtor"]
    assert all_told("--archive", str(to))[: len(NAMES)] == before[: len(NAMES)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_scheduled_reports_read_the_folder_that_the_schedule_names(log: Log) -> None:
    """Of last month, which was archived; without the folder the report says what to do, with a wrong one it is tried again."""
    this = datetime.now(UTC).date().replace(day=1)
    last = next_month(this, -1)
    rng = random.Random(2)
    events = [each for number in range(20) for each in a_payment(number, rng, first_ms(last) + number * HOUR_MS)]
    events = [(event, min(at_ms, first_ms(this) - 1)) for event, at_ms in events]
    write(log, events)
    schedule = log.to.with_name("reports.yaml")

    def delivered(name: str, **more: str) -> tuple[Result, str | None]:
        month = {"name": name, "report": "queues", "every": "month", "at": "00:00", "format": "json"}
        schedule.write_text(yaml.safe_dump({"folder": str(schedule.parent / "out"), "reports": [month], **more}))
        done = log.ptr("deliver", str(schedule), "--once", group="report")
        file = schedule.parent / "out" / f"{name}-{last}.json"
        return done, file.read_text() if file.exists() else None

    _, before = delivered("before")
    assert before is not None
    assert json.loads(before)["rows"]
    log.archive(f"{this}")
    done, without = delivered("without")
    assert without is not None
    assert f"events of {name_of_month(last)} are archived and not counted" in json.loads(without)["about"]["missing"]
    assert "as archive: DIR" in done.output
    done, wrong = delivered("wrong", archive=str(schedule.parent / "nowhere"))
    assert (done.exit_code, wrong) == (1, None)
    assert "is not there, nor are" in done.output
    assert delivered("with", archive=str(log.to))[1] == before


def test_asks_are_found_in_any_order(tmp_path: Path) -> None:
    """Answers before intents, thousands waiting for theirs, intents of long ago: what is remembered decides nothing."""
    events = []
    rng = random.Random(9)
    for number in range(300):
        about = {"tenant": "acme", "payment_id": f"p{number}", "pic": "one"}
        at_ms = first_ms(JANUARY) + rng.randrange(60 * DAY_MS)
        events.append((a_fact(PaymentQueued, **about), at_ms - rng.randrange(20 * DAY_MS)))
        events.append((a_fact(PaymentAnswered, outcome="paid", called=True, answered_at_ms=0, **about), at_ms))
    queued = {event.payment_id: at_ms for event, at_ms in events if isinstance(event, PaymentQueued)}
    span = {"from_ms": first_ms(FEBRUARY), "until_ms": first_ms(MARCH)}
    expected = sorted(
        Asked(queued[event.payment_id], at_ms, "paid", "one", 0)
        for event, at_ms in events
        if isinstance(event, PaymentAnswered) and span["from_ms"] <= at_ms < span["until_ms"]
    )
    assert len(expected) > 50
    with closing(open_database(f"sqlite:///{tmp_path}/audit.db", create=True)) as database:
        database.migrate()
        rng.shuffle(events)
        rows = [
            MAPPER.columns(topic_of(event), 0, offset, at_ms, CODEC.encode(event))
            for offset, (event, at_ms) in enumerate(events)
        ]
        database.write(Batch(rows, states(rows), {}))
        for kept, waiting in ((100_000, 10_000), (2, 1), (7, 50), (300, 2)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asks, "INTENTS_KEPT", kept)
                patch.setattr(asks, "ANSWERS_WAITING", waiting)
                assert sorted(Asks(database, tenant="", **span)) == expected


def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the events, the same peak: of money, of asks, and of fraud's payments."""
    monkeypatch.setattr(archive_files, "GROUP_ROWS", 64)
    monkeypatch.setattr(asks, "INTENTS_KEPT", 64)
    monkeypatch.setattr(asks, "ANSWERS_WAITING", 64)
    monkeypatch.setattr(judged, "PAGE_PAYMENTS", 64)
    peaks: dict[str, list[int]] = {name: [] for name in ("settlement", "queues", "fraud")}
    for payments in (150, 600):
        folder = tmp_path / f"{payments}"
        folder.mkdir()
        log = Log(f"sqlite:///{folder}/audit.db", folder)
        log.grow(payments, first_ms(date(2025, 12, 1)))
        log.archive("2026-01-01")
        assert log.events() == 0
        for name, made in peaks.items():
            tracemalloc.start()
            done = report(log, name, "--from", "2025-11-24", "--to", "2026-01-01", "--archive", str(log.to))
            made.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert counted(done.stdout) in (payments, *range(1, 20)), done.output
    for name, (peak, peak_of_more) in peaks.items():
        assert peak_of_more < 1.5 * peak, name


def test_a_full_temporary_folder_is_said() -> None:
    """Of the fraud report, which keeps there what files tell."""
    with closing(judged._Heard()) as heard:
        heard._database.execute("PRAGMA max_page_count = 8")
        many = (("acme", f"p{number}", Evidence(Source.CHARGEBACK, number, "fraud")) for number in range(10_000))
        with pytest.raises(ArchiveFileError, match=r"does not fit into the temporary folder .*SQLITE_TMPDIR"):
            heard.take(many)
