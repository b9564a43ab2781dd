"""``ptr reconcile``: a statement against audit tables, as a user runs it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connectors.pic.iso20022.transfers import end_to_end_id
from connectors.sinks.attempts import _operations_sql, attempts_at
from connectors.sinks.database import Batch, open_database
from connectors.sinks.rows import Columns, EventRow, Mapper, state_of
from connectors.statements.scratch import Scratch
from pipeline import topics
from pipeline.commands import reconcile as command
from pipeline.commands.reconcile import reconcile
from schemas.codec import Codec
from schemas.records import PaymentAnswered, PaymentNotified, PaymentQueued, Record
from tests.unit.test_audit_rows import answered, completed, queued
from tests.unit.test_statements import heard, statement

CODEC = Codec()
#: 2026-11-27, 10:00.
AT_MS = 20_784 * 86_400_000 + 36_000_000
HEADER = "When,Ref,Own,Type,Gross,Cur"
MAP = ["When=at", "Ref=attempt_id", "Own=pic_reference", "Type=kind", "Gross=amount", "Cur=currency"]
OPTIONS = [option for each in MAP for option in ("--map", "=".join(reversed(each.split("="))))]


def topic_of(record: Record, pic: str) -> str:
    match record:
        case PaymentQueued(ask=0):
            return topics.queue(pic).name
        case PaymentQueued():
            return topics.retries(pic)[0].name
        case PaymentAnswered():
            return topics.ANSWERED.name
        case PaymentNotified():
            return topics.NOTIFIED.name
    return topics.COMPLETED.name


def paid(payment: str, pic: str = "acme", **named: Any) -> list[Record]:
    """All that is told of a payment that was asked for once and paid."""
    ended = completed(
        payment_id=payment,
        event_id=f"t1|{payment}|completed",
        pic=pic,
        pic_reference=f"ref-{payment}",
        requested_at_ms=AT_MS,
        **{key: value for key, value in named.items() if key in ("tenant", "amount_minor", "currency")},
    )
    return [*attempt(payment, "paid", pic, **named), ended]


def attempt(payment: str, outcome: str, pic: str = "acme", number: int = 1, **named: Any) -> list[Record]:
    """What is told of an attempt that is answered with ``outcome``; not at all with an empty one."""
    tenant = named.get("tenant", "t1")
    asked = queued(number, payment_id=payment, **(named | {"requested_at_ms": AT_MS}))
    told = answered(number, payment_id=payment, tenant=tenant, outcome=outcome, pic=pic, pic_reference=f"ref-{payment}")
    events: list[Record] = [type(asked)(**(_fields(asked) | {"pic": pic}))]
    return [*events, told] if outcome else events


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def write(url: str, events: Sequence[Record], at_ms: int = AT_MS) -> None:
    """As the audit sink does."""
    with closing(open_database(url, create=True)) as database:
        database.lock()
        database.migrate()
        batch, mapper, first = Batch(), Mapper(CODEC), database.query("SELECT COUNT(*) FROM payment_events")[0][0]
        by_payment: dict[tuple[str, str], list[Columns]] = defaultdict(list)
        for offset, event in enumerate(events, first):
            topic = topic_of(event, getattr(event, "pic", ""))
            row = EventRow(*mapper.columns(topic, 0, offset, at_ms + offset, CODEC.encode(event)))
            batch.events.append(row)
            by_payment[row[:2]].append(row)
        states = (state_of(told, mapper.record_of) for told in by_payment.values())
        batch.states = [state for state in states if state is not None]
        database.write(batch)


class Desk:
    """An audit database and a file, and the command over both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/audit.db"

    def run(self, content: str, *options: str, name: str = "statement.csv", url: str = "") -> Result:
        path = self.folder / name
        path.write_text(content)
        words = [str(path), "--pic", "acme", "--database", url or self.url, *options]
        return CliRunner().invoke(reconcile, words, env={"COLUMNS": "200"})

    def found(self, content: str, *options: str) -> tuple[int, dict[str, int], list[dict[str, Any]]]:
        """Exit code, counts, differences."""
        result = self.run(content, *OPTIONS, "--json", *options)
        data = json.loads(result.stdout)
        return result.exit_code, data["found"], data["differences"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def row(payment: str, amount: str = "12.50", kind: str = "payment", **named: str) -> str:
    cells = {
        "When": "2026-11-27T10:00:30",
        "Ref": f"t1|{payment}|1",
        "Own": "",
        "Type": kind,
        "Gross": amount,
        "Cur": "EUR",
    } | named
    return ",".join(cells.values())


def table(*rows: str) -> str:
    # A first and a last line that are about nobody and bound the statement's time.
    around = [f"2026-11-27T{time},,,fee,0,EUR" for time in ("00:00:00", "23:59:59")]
    return "\n".join([HEADER, *around, *rows]) + "\n"


def test_all_matched_is_0(desk: Desk) -> None:
    """Nothing to look at, whatever names the attempts: their ids, or the PIC's references."""
    write(desk.url, [*paid("p1"), *paid("p2"), *attempt("p3", "declined"), *attempt("p4", "pending")])
    code, found, differences = desk.found(table(row("p1"), row("p2", Ref="", Own="ref-p2")))
    assert (code, found, differences) == (0, {"matched": 2}, [])
    assert "matched 2" in desk.run(table(row("p1"), row("p2")), *OPTIONS).stdout


def test_every_difference_is_told_and_1(desk: Desk) -> None:
    """Each once, with ids, amounts and its line."""
    events = [event for number in range(1, 6) for event in paid(f"p{number}")]
    write(desk.url, [*events, *attempt("p6", "declined"), *attempt("p7", "pending"), *attempt("p8", "")])
    lines = [
        row("p1"),
        row("p2", "12.49"),
        row("p3", Cur="USD"),
        row("p4"),
        row("p4"),
        row("p6"),
        row("p7"),
        row("p8"),
        row("nobody"),
        row("", Ref="Max Mustermann DE89370400440532013000"),
    ]
    code, found, differences = desk.found(table(*lines))
    assert code == 1
    assert found == {
        "amount_differs": 2,
        "duplicate_there": 1,
        "matched": 2,
        "missing_here": 2,
        "missing_there": 1,
        "status_differs": 3,
    }
    told = {(each["what"], each["line"], (each["attempt"] or {}).get("payment_id")) for each in differences}
    assert told == {
        ("amount_differs", 5, "p2"),
        ("amount_differs", 6, "p3"),
        ("duplicate_there", 8, "p4"),
        ("missing_there", None, "p5"),
        ("status_differs", 9, "p6"),
        ("status_differs", 10, "p7"),
        ("status_differs", 11, "p8"),
        ("missing_here", 12, None),
        ("missing_here", 13, None),
    }
    (amount,) = [each for each in differences if each["line"] == 5]
    assert (amount["attempt"]["amount_minor"], amount["statement"]["amount_minor"]) == (1_250, 1_249)
    shown = desk.run(table(*lines), *OPTIONS)
    assert shown.exit_code == 1
    for text in (shown.stdout, json.dumps(differences)):
        assert "Mustermann" not in text and "DE89" not in text and "(withheld)" in text
        assert "Lovelace" not in text
    assert "declined 12.50 EUR" in shown.stdout and "t1|nobody|1" in shown.stdout


def test_a_table_shows_the_first_and_counts_all(desk: Desk) -> None:
    """Nobody reads a million."""
    write(desk.url, paid("p1"))
    result = desk.run(table(*(row(f"x{number}") for number in range(20))), *OPTIONS, "--limit", "3")
    assert result.exit_code == 1 and result.stdout.count("missing_here") == 4
    assert "and 18 more" in result.stdout and "missing_here 20" in result.stdout


def test_another_pics_attempts_are_none_of_its_business(desk: Desk) -> None:
    """After a failover the first attempt is the other PIC's, and this PIC's is the second."""
    events = [*attempt("p1", "unsent", "other"), *attempt("p1", "paid", "acme", number=2), *paid("p2", "other")]
    write(desk.url, [*events, completed(payment_id="p1", event_id="t1|p1|completed", pic="acme", attempts=2)])
    assert desk.found(table(row("p1", Ref="t1|p1|2")))[:2] == (0, {"matched": 1})
    assert desk.found(table())[1] == {"missing_there": 1}
    assert desk.found(table(row("p1")))[1] == {"missing_here": 1, "missing_there": 1}


def test_the_last_word_on_an_attempt_counts(desk: Desk) -> None:
    """A look-up's, a notification's, settlement's; a doubt after it changes nothing."""
    later = answered(1, 1, payment_id="p1", outcome="paid", pic="acme", pic_reference="ref-1")
    write(desk.url, [*attempt("p1", "pending"), later, *attempt("p2", "pending"), *attempt("p3", "declined")])
    with closing(open_database(desk.url)) as database:
        known = {each.payment_id: each for each in attempts_at(database, "acme", from_ms=0, until_ms=AT_MS * 2)}
    assert {payment: each.outcome for payment, each in known.items()} == {
        "p1": "paid",
        "p2": "pending",
        "p3": "declined",
    }
    assert (known["p1"].pic_reference, known["p1"].amount_minor, known["p1"].currency) == ("ref-1", 1_250, "EUR")
    assert known["p1"].first_ms == AT_MS and known["p1"].last_ms == AT_MS + 2


def test_what_was_notified_counts(desk: Desk) -> None:
    """News that no call brought are as good as an answer."""
    told = PaymentNotified(
        event_id="n1",
        source="pic",
        pic="acme",
        tenant="t1",
        payment_id="p1",
        attempt=1,
        outcome="paid",
        pic_reference="ref-n",
        occurred_at_ms=AT_MS,
    )
    # Another PIC's word about this attempt is none.
    theirs = PaymentNotified(**(_fields(told) | {"event_id": "n2", "pic": "other", "payment_id": "p2"}))
    write(desk.url, [*attempt("p1", "pending"), told, *attempt("p2", "pending"), theirs])
    assert desk.found(table(row("x", Ref="", Own="ref-n")))[:2] == (0, {"matched": 1})


def test_captures_and_refunds_are_attempts_of_their_own(desk: Desk) -> None:
    """An authorization moves no money, nor does a void; a refund long after its payment is known by its own time."""
    day_ms = 86_400_000
    write(desk.url, [*attempt("p1", "paid", kind="authorize"), *paid("p2")], AT_MS - 30 * day_ms)
    operations: list[Record] = []
    for payment, kind, operation_id, amount_minor in (
        ("p1", "capture", "c1", 1_000),
        ("p1", "void", "v1", 250),
        ("p2", "refund", "r1", 300),
        ("p2", "refund", "r2", 200),
    ):
        asked = queued(payment_id=payment, kind=kind, operation_id=operation_id, amount_minor=amount_minor)
        operations += [
            type(asked)(**(_fields(asked) | {"pic": "acme"})),
            answered(
                payment_id=payment, operation_id=operation_id, outcome="paid", pic="acme", pic_reference=operation_id
            ),
        ]
    write(desk.url, operations, AT_MS)
    lines = table(row("", "10.00", Ref="t1|p1|c1|1"), row("", "-3.00", "refund", Ref="t1|p2|r1|1"))
    code, found, differences = desk.found(lines)
    assert (code, found) == (1, {"matched": 2, "missing_there": 1})
    assert differences[0]["attempt"]["operation_id"] == "r2"
    assert desk.found(table(row("", "3.00", "payment", Ref="t1|p2|r1|1")))[1]["missing_here"] == 1


def test_operations_are_found_by_their_index(desk: Desk) -> None:
    """Which is for their place in the story, and no other."""
    write(desk.url, paid("p1"))
    with closing(open_database(desk.url)) as database:
        plan = database.query(f"EXPLAIN QUERY PLAN {_operations_sql(2)}", (0, "a", "b"))
    assert "payment_events_operations" in str(plan)


def test_only_one_tenant(desk: Desk) -> None:
    """Another tenant's differences are not told, nor its attempts."""
    write(desk.url, [*paid("p1"), *paid("p2", tenant="t2"), *attempt("p3", "declined", tenant="t2")])
    lines = table(row("p1"), row("p3", Ref="t2|p3|1"), row("p4", Ref="t2|p4|1"))
    assert desk.found(lines, "--tenant", "t1")[:2] == (0, {"matched": 1})
    assert desk.found(lines, "--tenant", "t2")[1] == {"missing_here": 1, "missing_there": 1, "status_differs": 1}


def test_a_statements_time_is_its_lines_or_what_is_said(desk: Desk) -> None:
    """What is paid on other days is not missed; at the edge it is told apart."""
    write(desk.url, [*paid("p1")])
    assert desk.found(table())[1] == {"missing_there": 1}
    assert desk.found(table(), "--from", "2026-11-28", "--to", "2026-11-30")[1] == {}
    edge = "\n".join([HEADER, row("x", When="2026-11-26T00:00:00"), "2026-11-27T10:00:00,,,fee,0,EUR", ""])
    assert desk.found(edge)[1] == {"missing_here": 1, "missing_there": 1}
    short = edge.replace("2026-11-27T10:00:00", "2026-11-27T09:59:59")
    write_late = Desk(desk.folder / "late")
    write_late.folder.mkdir()
    write(write_late.url, paid("p1"), AT_MS - 1)
    assert write_late.found(short)[:2] == (1, {"at_the_edge": 1, "missing_here": 1})


def test_a_bank_statement_names_attempts_by_their_end_to_end_ids(desk: Desk) -> None:
    """Which are hashes of attempt ids; one whose answer was never heard is known by it, too."""
    write(desk.url, [*attempt("p1", ""), *attempt("p2", "pending")])
    sent = [
        heard(amount="12.50").__class__(end_to_end_id(f"t1|p{n}|1"), "M", "P", "DE", "12.50", "EUR") for n in (1, 2, 3)
    ]
    result = desk.run(statement(sent), "--json", name="statement.xml")
    data = json.loads(result.stdout)
    assert data["found"] == {"missing_here": 1, "status_differs": 2}
    assert {each["attempt"]["payment_id"] for each in data["differences"] if each["attempt"]} == {"p1", "p2"}


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        (table(row("p1")), [], "--map"),
        (table(row("p1")) + "cut,off", OPTIONS, "line 5: 2 columns where the header has 6"),
        (HEADER + "\n", OPTIONS, "the file tells no time"),
        (table(), ["--map", "attempt_id=Ref"], "currency"),
        (table(), [*OPTIONS, "--format", "stripe"], "--format csv"),
        (table(), ["--format", "csv"], "--map"),
        (table(), [*OPTIONS, "--from", "2026-12-01"], "--from must be before --to"),
        (table(), [*OPTIONS, "--from", "yesterday"], "no day"),
        (table(), [*OPTIONS, "--tenant", "T!"], "--tenant"),
        (table(), [*OPTIONS, "--pic", "Acme|"], "--pic"),
        (table(), [*OPTIONS, "--database", "sqlite:////none/audit.db"], "no such file"),
    ],
)
def test_nothing_compared_is_2(content: str, options: list[str], why: str, desk: Desk) -> None:
    """A usage, a file or a database that will not do: with the reason, and no word of differences."""
    write(desk.url, paid("p1"))
    result = desk.run(content, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_news_of_what_is_pending_is_published(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the broker, and only with --publish: the plain cases."""
    posted: list[tuple[PaymentNotified, bytes]] = []

    class Poster:
        def __init__(self, broker: object, topic: str) -> None:
            assert topic == "payments.notified.v1"

        def post(self, value: bytes, key: bytes) -> None:
            posted.append((CODEC.decode(value, PaymentNotified), key))

        def finish(self) -> None:
            posted.append((posted[-1][0], b"finished"))

    monkeypatch.setattr(command, "RecordPoster", Poster)
    write(desk.url, [*attempt("p1", "pending"), *attempt("p2", "pending"), *attempt("p3", "declined")])
    lines = table(row("p1"), row("p2", "1.00"), row("p3"))
    assert desk.run(lines, *OPTIONS).exit_code == 1 and not posted
    result = desk.run(lines, *OPTIONS, "--publish")
    assert result.exit_code == 1 and "published 1 to payments.notified.v1" in result.stdout
    (told, key), (_, finished) = posted
    assert (told.payment_id, told.outcome, told.source, key, finished) == (
        "p1",
        "paid",
        "statement",
        b"t1|p1",
        b"finished",
    )


def test_memory_does_not_grow_with_either_side(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of payments, a database on disk: what is found is the same when little of it is held at a time."""
    monkeypatch.setattr("connectors.sinks.attempts.PAGE_PAYMENTS", 7)
    monkeypatch.setattr("connectors.statements.scratch.ROWS", 5)
    write(desk.url, [event for number in range(50) for event in paid(f"p{number:03d}")])
    lines = table(*(row(f"p{number:03d}") for number in range(10, 60)))
    assert desk.found(lines)[1] == {"matched": 40, "missing_here": 10, "missing_there": 10}


def test_a_scratch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file has no name."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with Scratch() as scratch:
        scratch.take_lines([])
    assert list(tmp_path.iterdir()) == []
