"""Where a payment's time went: steps of its events, and how they are drawn."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.sinks.journey import Part, journey, totals, waited_ms
from connectors.sinks.story import story
from pipeline.commands.trace import trace
from schemas.records import (
    DeadLetter,
    PaymentAnswered,
    PaymentCompleted,
    PaymentLocalized,
    PaymentProfiled,
    PaymentQueued,
    PaymentScored,
    PaymentScreened,
    PaymentUpdated,
    ReviewAnswered,
    ReviewOpened,
)
from tests.timed import RECEIVED_MS, TRACE, Timed, called, new_database, paid_after_a_retry, said


def parts_of(folder: Path, *events: Timed) -> list[Part]:
    with closing(new_database(folder, *events)) as database:
        return journey(story(database, "aurora", "pay_1"))


def steps_of(part: Part) -> list[tuple[str, str, int, int]]:
    return [(step.kind, step.name, step.began_ms - RECEIVED_MS, step.took_ms) for step in part.steps]


def test_every_millisecond_is_in_one_step(tmp_path: Path) -> None:
    """Stages, the queue, the call, the wait to ask again, in order and without a gap: worked out by hand."""
    [part] = parts_of(tmp_path, *paid_after_a_retry())
    assert steps_of(part) == [
        ("stage", "screening", 0, 10),
        ("stage", "localization", 10, 10),
        ("stage", "payer", 20, 10),
        ("stage", "payee", 30, 10),
        ("stage", "dispatch", 40, 10),
        ("queue", "simulator", 50, 20),
        ("call", "simulator", 70, 500),
        ("stage", "plugin", 570, 5),
        ("stage", "settlement", 575, 10),
        ("delay", "simulator", 585, 1000),
        ("queue", "simulator", 1585, 5),
        ("call", "simulator", 1590, 30),
        ("stage", "plugin", 1620, 5),
        ("stage", "settlement", 1625, 15),
    ]
    assert (part.began_ms, part.ended_ms, part.outcome) == (RECEIVED_MS, RECEIVED_MS + 1640, "paid")
    assert (part.trace_id, part.trace_context) == (TRACE, "b7ad6b7169203331-01;rojo=1")
    assert [step.step_id for step in part.steps if step.failed] == ["call/1.0"]
    assert totals(part.steps)[:2] == [("delay", "simulator", 1000, 1), ("call", "simulator", 530, 2)]
    assert sum(took_ms for _, _, took_ms, _ in totals(part.steps)) == 1640


def test_waiting_in_a_topic_and_working_are_told_apart(tmp_path: Path) -> None:
    """Each stage says when it took its batch: worked out by hand. One whose clock is ahead waited until its event; one that
    took it before the one before had written, as clocks that disagree have it, did not wait.
    """

    def taken(at_ms: int) -> dict[str, int]:
        return {"taken_at_ms": RECEIVED_MS + at_ms}

    [part] = parts_of(
        tmp_path,
        (10, said(PaymentScreened, **taken(7))),
        (60, said(PaymentLocalized, **taken(55))),
        (70, said(PaymentProfiled, **taken(58))),
        (80, said(PaymentScored, **taken(85))),
        (90, said(PaymentQueued, **taken(90))),
        (150, called(100, 45)),
        (1000, said(PaymentCompleted, **taken(990))),
    )
    assert steps_of(part) == [
        ("wait", "screening", 0, 7),
        ("stage", "screening", 7, 3),
        ("wait", "localization", 10, 45),
        ("stage", "localization", 55, 5),
        ("stage", "payer", 60, 10),
        ("wait", "payee", 70, 10),
        ("stage", "payee", 80, 0),
        ("wait", "dispatch", 80, 10),
        ("stage", "dispatch", 90, 0),
        ("queue", "simulator", 90, 10),
        ("call", "simulator", 100, 45),
        ("stage", "plugin", 145, 5),
        ("wait", "settlement", 150, 840),
        ("stage", "settlement", 990, 10),
    ]
    ids = [step.step_id for step in part.steps]
    assert [step.parent_id for step in part.steps] == ["payment", *ids[:-1]]
    assert len(set(ids)) == len(ids)
    assert [step.outcome for step in part.steps if step.kind == "wait"] == [""] * 5
    assert waited_ms(part.steps) == 7 + 45 + 10 + 10 + 10 + 840


def test_each_step_follows_from_the_one_before(tmp_path: Path) -> None:
    """A chain from the payment to its outcome: that is how spans link."""
    [part] = parts_of(tmp_path, *paid_after_a_retry())
    ids = [step.step_id for step in part.steps]
    assert [step.parent_id for step in part.steps] == ["payment", *ids[:-1]]
    assert len(set(ids)) == len(ids)


def test_a_review_is_a_persons_time(tmp_path: Path) -> None:
    """Referred by screening, approved an hour later, and on its way from there."""
    hour = 3_600_000
    review = {"stage": "screening", "event_id": "r1", "opened_at_ms": 0, "due_at_ms": 9, "at_expiry": "reject"}
    answer = {"stage": "screening", "event_id": "r2", "decision": "approve", "result": "approved", "decided_at_ms": 1}
    [part] = parts_of(
        tmp_path,
        (10, said(PaymentScreened, outcome="referred", reason="party_resembles_listed")),
        (15, said(ReviewOpened, reason="party_resembles_listed", **review)),
        (hour, said(ReviewAnswered, **answer)),
        (hour, said(PaymentScreened, outcome="clear", reason="review_approved")),
        (hour + 10, said(PaymentLocalized)),
    )
    assert steps_of(part) == [
        ("stage", "screening", 0, 10),
        ("stage", "reviews", 10, 5),
        ("review", "a person", 15, hour - 15),
        ("stage", "reviews", hour, 0),
        ("stage", "localization", hour, 10),
    ]
    assert part.outcome == ""


def test_an_operation_is_a_part_of_its_own(tmp_path: Path) -> None:
    """A refund: asked for, queued, called, told; its time is not the payment's, its trace its own caller's."""
    ids: dict[str, Any] = {"operation_id": "ref-1", "kind": "refund", "trace_id": "1" * 32, "trace_context": ""}
    told = {"event_id": "u1", "status": "refunded", "occurred_at_ms": 1, "outcome": "done"}
    payment, refund = parts_of(
        tmp_path,
        (10, said(PaymentScreened)),
        (20, said(PaymentCompleted)),
        (1010, said(PaymentQueued, received_at_ms=RECEIVED_MS + 1000, **ids)),
        (1100, called(1020, 75, **ids)),
        (1104, said(PaymentUpdated, **told, **ids)),
    )
    assert (payment.outcome, payment.ended_ms - RECEIVED_MS) == ("paid", 20)
    assert (refund.part_id, refund.name, refund.trace_id, refund.outcome) == (
        "operation/ref-1",
        "refund",
        "1" * 32,
        "done",
    )
    assert steps_of(refund) == [
        ("stage", "operations", 1000, 10),
        ("queue", "simulator", 1010, 10),
        ("call", "simulator", 1020, 75),
        ("stage", "plugin", 1095, 5),
        ("stage", "settlement", 1100, 4),
    ]


def test_clocks_that_disagree_make_no_step_run_backwards(tmp_path: Path) -> None:
    """A worker whose clock is behind: its step has no length, the next one the rest; an answer of an older program has no
    call."""
    [part] = parts_of(
        tmp_path,
        (10, said(PaymentScreened)),
        (4, said(PaymentLocalized)),
        (20, said(PaymentQueued)),
        (30, said(PaymentAnswered)),
    )
    assert steps_of(part) == [
        ("stage", "screening", 0, 10),
        ("stage", "localization", 10, 0),
        ("stage", "dispatch", 10, 10),
        ("stage", "plugin", 20, 10),
    ]


def test_what_is_told_beside_the_way_is_a_mark(tmp_path: Path) -> None:
    """A dead letter: after the step that had ended by then, failed, and in no sum."""
    letter = DeadLetter(
        topic="t", partition=0, offset=1, stage="payee", error="stage_failed", key=b"aurora|pay_1", value_length=0
    )
    [part] = parts_of(tmp_path, (10, said(PaymentScreened)), (20, said(PaymentLocalized)), (15, letter))
    mark = part.steps[-1]
    assert (mark.kind, mark.name, mark.parent_id, mark.failed) == ("mark", "payee", "screening", True)
    assert [name for _, name, _, _ in totals(part.steps)] == ["screening", "localization"]


def drawn(folder: Path, *options: str, **environment: str) -> Any:
    environment = {"COLUMNS": "100", "NO_COLOR": "1"} | environment
    where = ["--database", f"sqlite:///{folder}/audit.db"]
    return CliRunner().invoke(trace, ["aurora", *(options or ("pay_1",)), *where], env=environment)


def test_the_drawing_is_to_scale_and_fits_the_terminal(tmp_path: Path) -> None:
    """The wait of 1,000 of 1,640 ms has that share of the bars; no line is wider than the terminal; each kind its own sign."""
    new_database(tmp_path, *paid_after_a_retry()).close()
    shown = drawn(tmp_path)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == "aurora pay_1  paid"
    assert lines[1] == f"began 2025-10-09T08:53:20Z, took 1,640 ms, trace {TRACE}"
    assert max(map(len, lines)) <= 100
    wait = next(line for line in lines if "wait to ask" in line)
    width = 100 - len("+1,625") - len("call to simulator  pending: pic_answer_unknown") - len("1,000 ms") - 6
    assert abs(wait.count("┄") - round(1000 / 1640 * width)) <= 1
    assert "1,000 ms" in wait
    assert "\x1b[" not in shown.output
    sums = lines[lines.index("where the time went: 1,025 of 1,640 ms waiting") + 1 :]
    assert sums[0].split() == ["┄", "wait", "to", "ask", "simulator", "1,000", "ms", "61.0", "%"]
    assert sums[1].split() == ["▓", "call", "to", "simulator", "530", "ms", "32.3", "%", "2", "times"]


def test_waits_are_drawn_apart_from_work(tmp_path: Path) -> None:
    """A sign and a line of their own, and a sum of their own."""
    taken = {"taken_at_ms": RECEIVED_MS + 900}
    new_database(tmp_path, (10, said(PaymentScreened)), (1000, said(PaymentLocalized, **taken))).close()
    lines = drawn(tmp_path).output.splitlines()
    assert any("wait for localization" in line and "·" in line and "890 ms" in line for line in lines)
    sums = lines[lines.index("where the time went: 890 of 1,000 ms waiting") + 1 :]
    assert sums[0].split() == ["·", "wait", "for", "localization", "890", "ms", "89.0", "%"]
    assert sums[1].split() == ["█", "localization", "100", "ms", "10.0", "%"]


@pytest.mark.parametrize("columns", ["20", "60", "300"])
def test_every_width_is_drawn(tmp_path: Path, columns: str) -> None:
    """A narrow terminal gets short bars, a wide one no more than a hundred cells."""
    new_database(tmp_path, *paid_after_a_retry()).close()
    shown = drawn(tmp_path, COLUMNS=columns)
    wait = next(line for line in shown.output.splitlines() if "wait to ask" in line)
    assert 9 <= wait.count("┄") <= 62


def test_json_has_every_step_and_every_sum(tmp_path: Path) -> None:
    """The same as data: ids, kinds, times, totals."""
    new_database(tmp_path, *paid_after_a_retry()).close()
    data = json.loads(drawn(tmp_path, "pay_1", "--json").output)
    [part] = data["parts"]
    assert (data["payment_id"], part["trace_id"], part["took_ms"], len(part["steps"])) == ("pay_1", TRACE, 1640, 14)
    assert part["steps"][6] == {
        "step": "call/1.0",
        "after": "queue/1.0",
        "kind": "call",
        "name": "simulator",
        "began_ms": RECEIVED_MS + 70,
        "took_ms": 500,
        "outcome": "pending",
        "reason": "pic_answer_unknown",
        "attempt": 1,
        "ask": 0,
        "failed": True,
        "event_id": "plugin/1.0",
    }
    assert part["totals"][0] == {"kind": "delay", "name": "simulator", "took_ms": 1000, "steps": 1}


def test_an_unknown_payment_is_an_error(tmp_path: Path) -> None:
    """Code 1, and the words say what may be wrong."""
    new_database(tmp_path, (10, said(PaymentScreened))).close()
    shown = drawn(tmp_path, "pay_2")
    assert shown.exit_code == 1
    assert "has no payment pay_2 of aurora" in shown.output
