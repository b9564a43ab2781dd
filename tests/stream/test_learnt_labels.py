"""What became known of payments is what ``ptr fraud train`` learns and ``ptr fraud report`` counts, from record to figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.sinks.database import open_database
from pipeline import topics
from pipeline.commands.fraud import fraud
from pipeline.stages.labels import Source
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.records import PaymentScored, Record, ReviewAnswered, ReviewDecided
from tests.audited import TOPICS as TOPIC_OF
from tests.simulation.world import NOW_MS
from tests.stream.broker import put
from tests.stream.shell import Shell
from tests.unit.test_fraud_report import a_chargeback, a_scored, an_outcome, write

CODEC = Codec()
TOPICS = tuple(TOPIC_OF.values())
DAY_MS = 86_400_000
#: The first day of what is looked at; all of it is long enough ago for silence to be heard.
START_MS = (NOW_MS // DAY_MS - 20) * DAY_MS
GOOD, BAD, JUDGED, UNKNOWN = 100, 40, 30, 10


def payments(first: int, count: int, **named: Any) -> list[PaymentScored]:
    """So many scored payments, one an hour."""
    return [
        a_scored(number, tenant="t1", requested_at_ms=START_MS + number * DAY_MS // 24, **named)
        for number in range(first, first + count)
    ]


def reviewed(made: Sequence[PaymentScored], decision: str) -> list[ReviewAnswered]:
    """What the reviews' stage says when a person decides so about each payment."""
    shell = Shell("reviews")
    for each in made:
        shell.give(topics.REFERRED.name, each, payment_key(each.tenant, each.payment_id))
    shell.run()
    for each in made:
        word = ReviewDecided(
            tenant=each.tenant,
            payment_id=each.payment_id,
            stage="payee",
            decision=decision,
            by="rita",
            reason="called them",
            decided_at_ms=NOW_MS,
        )
        shell.give(topics.REVIEWS_DECIDED.name, word, payment_key(each.tenant, each.payment_id))
    shell.run()
    return [event for _, event in shell.out(topics.REVIEWS_ANSWERED.name, ReviewAnswered)]


#: By what is heard: the events that say it of each payment.
LABELS: dict[Source, Callable[[Sequence[PaymentScored]], Sequence[Record]]] = {
    Source.CHARGEBACK: lambda made: [a_chargeback(each, 3, "10.4") for each in made],
    Source.REFUND: lambda made: [a_chargeback(each, 3, "fraud", "refund") for each in made],
    Source.REVIEW_REJECTED: lambda made: reviewed(made, "reject"),
    Source.REVIEW_APPROVED: lambda made: reviewed(made, "approve"),
}


def run(*arguments: str) -> dict[str, Any]:
    """``ptr fraud ARGUMENTS``, of the days that the payments are of: what it says as JSON."""
    result = CliRunner().invoke(fraud, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("source", LABELS)
def test_each_kind_of_evidence_is_learnt_and_reported(source: Source, broker: str, tmp_path: Path) -> None:
    """From the audit tables and from the topics alike: payments that were stopped are known by this evidence alone, and those
    of which nothing was heard are no example of anything."""
    good, bad = payments(0, GOOD), payments(GOOD, BAD)
    judged = payments(GOOD + BAD, JUDGED, outcome="referred", reason="fraud_score_raised", score=0.7)
    unknown = payments(GOOD + BAD + JUDGED, UNKNOWN, outcome="declined", score=0.9)
    events: list[Record] = [*good, *bad, *judged, *unknown]
    events += [an_outcome(each, "paid") for each in (*good[1:], *bad)]
    events.append(an_outcome(good[0], "authorized"))
    events += [an_outcome(each, "declined") for each in (*judged, *unknown)]
    events += [a_chargeback(each, 9) for each in bad]
    evidence = LABELS[source](judged)
    assert len(evidence) == JUDGED
    events += evidence
    database = f"sqlite:///{tmp_path}/audit.db"
    with closing(open_database(database, create=True)) as tables:
        tables.lock()
        tables.migrate()
        write(tables, events)
    for topic in TOPICS:
        of_topic = [(b"t1", CODEC.encode(event)) for event in events if TOPIC_OF[type(event)] == topic]
        put(broker, topic, *of_topic)

    frauds = BAD + (0 if source is Source.REVIEW_APPROVED else JUDGED)
    days = ("--from", "2025-09-01", "--tenant", "t1")
    for where in (("--database", database), ("--topics", "--broker", broker)):
        model = str(tmp_path / "model.onnx")
        trained = run("train", *days, "--until", "2025-11-01", *where, "--output", model, "--json")
        assert (trained["payments"], trained["frauds"]) == (GOOD + BAD + JUDGED, frauds), where
    told = run("report", *days, "--to", "2025-11-01", "--database", database, "--no-drift", "--format", "json")
    heard = {Source.SILENCE: GOOD, Source.CHARGEBACK: BAD, Source.NOTHING: UNKNOWN}
    heard[source] = heard.get(source, 0) + JUDGED
    assert told["labels"] == {str(each): count for each, count in heard.items()}
    total = told["total"]
    assert (total["frauds"], total["caught"], total["unknown"]) == (frauds, frauds - BAD, UNKNOWN)
    assert total["false_alarms"] == JUDGED - total["caught"]
