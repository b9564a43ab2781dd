"""Snoozes over a broker: written once, followed, and the commands of a user."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

from connectors.broker.transaction import PublishError
from connectors.snoozes import topic as topic_module
from connectors.snoozes.book import EFFECTIVE_DELAY_MS, SnoozeBook
from connectors.snoozes.topic import SnoozeReader, publish, read_all, snooze_key
from connectors.tenants import publish as tenants
from pipeline.commands.fraud import fraud
from pipeline.engine.metrics import Metrics, SnoozeMetrics
from pipeline.stages.fraud_library import LIBRARY
from pipeline.topics import SNOOZES
from schemas.codec import Codec
from schemas.records import RuleSnoozed
from schemas.tenant_rules import FraudRules, RuleTuning, TenantRules
from tests.stream.broker import following, put, wait_until

CODEC = Codec()
HOUR_MS = 3_600_000


@pytest.fixture
def metrics() -> Metrics:
    """Those of the worker that has the book."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def book(broker: str, metrics: Metrics) -> Iterator[SnoozeBook]:
    """A book that follows the topic."""
    followed = SnoozeBook(SnoozeMetrics(metrics))
    with following(SnoozeReader(broker, SNOOZES.name, CODEC, followed)):
        yield followed


def now_ms() -> int:
    """Of this machine, as the embedded broker."""
    return int(time.time() * 1000)


def a_snooze(debtor_id: str = "d1", hours: float = 1, rule: str = "amount_high") -> RuleSnoozed:
    """A record of now."""
    return RuleSnoozed(
        tenant="acme",
        debtor_id=debtor_id,
        rule=rule,
        until_ms=now_ms() + round(hours * HOUR_MS),
        by="mo",
        reason="known to us",
        decided_at_ms=now_ms(),
    )


def run(broker: str, *arguments: str) -> Result:
    """`ptr fraud snooze ARGUMENTS`."""
    return CliRunner().invoke(fraud, ["snooze", *arguments, "--broker", broker])


WHOM = ("--tenant", "acme", "--payer", "d1", "--rule", "payer_velocity_1d", "--by", "mo", "--reason", "a team")


def test_a_user_snoozes_lists_and_ends(broker: str, book: SnoozeBook) -> None:
    """From the command to a running worker's answer and back; every step names who and why."""
    publish(broker, CODEC, a_snooze("other"))
    added = run(broker, "add", *WHOM, "--until", "7d")
    assert added.exit_code == 0, added.output
    assert added.stdout.startswith("payer_velocity_1d for d1 of acme is snoozed until 20")
    wait_until(lambda: len(book) == 2)
    later_ms = now_ms() + EFFECTIVE_DELAY_MS
    assert list(book.snoozed("acme", "d1", later_ms)) == ["payer_velocity_1d"]
    assert list(book.snoozed("acme", "d1", later_ms - 3 * EFFECTIVE_DELAY_MS)) == []

    (first, second) = json.loads(run(broker, "list", "--json").stdout)
    assert (first["payer"], second["payer"]) == ("other", "d1")
    assert (second["rule"], second["by"], second["reason"]) == ("payer_velocity_1d", "mo", "a team")
    table = run(broker, "list", "--tenant", "acme").stdout.splitlines()
    assert table[0].split() == ["TENANT", "PAYER", "RULE", "UNTIL", "BY", "REASON"]
    assert "Nothing is snoozed" in run(broker, "list", "--tenant", "nobody").stderr

    ended = run(broker, "remove", *WHOM)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith("payer_velocity_1d for d1 of acme is no longer snoozed")
    wait_until(lambda: not list(book.snoozed("acme", "d1", now_ms() + 2 * EFFECTIVE_DELAY_MS)))
    assert [each["payer"] for each in json.loads(run(broker, "list", "--json").stdout)] == ["other"]
    everything = json.loads(run(broker, "list", "--all", "--json").stdout)
    assert {each["payer"]: each["in_force"] for each in everything} == {"other": True, "d1": False}
    again = run(broker, "remove", *WHOM)
    assert again.exit_code == 1
    assert "that rule is not snoozed for that payer" in again.stderr


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"--rule": "payer_velocty_1d"}, "did you mean payer_velocity_1d?"),
        ({"--until": "0d"}, "neither 7d or 12h"),
        ({"--until": "yesterday"}, "neither 7d or 12h"),
        ({"--until": "2020-01-01"}, "must be after now"),
        ({"--until": "367d"}, "within 366 days"),
        ({"--tenant": "Not|one"}, "not a valid id"),
        ({"--reason": "card 4111 1111 1111 1111"}, "looks like a card number"),
    ],
)
def test_a_users_mistakes_are_told(broker: str, changed: dict[str, str], told: str) -> None:
    """What is wrong and what to do, and nothing is written."""
    given = dict(zip(WHOM[::2], WHOM[1::2], strict=True)) | {"--until": "7d"} | changed
    result = run(broker, "add", *[part for pair in given.items() for part in pair])
    assert result.exit_code in (1, 2)
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert "4111" not in result.stderr.replace("card 4111 1111 1111 1111", "")
    assert not read_all(broker, CODEC).latest


def test_a_tenant_has_only_so_many_in_force(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others can still be changed, and one that is over makes room."""
    monkeypatch.setattr(topic_module, "PER_TENANT_MAX", 1)
    publish(broker, CODEC, a_snooze("d1"))
    with pytest.raises(PublishError, match="acme has 1 snoozes in force"):
        publish(broker, CODEC, a_snooze("d2"))
    publish(broker, CODEC, a_snooze("d1", hours=2))
    publish(broker, CODEC, a_snooze("d1", hours=0))
    publish(broker, CODEC, a_snooze("d2"))
    assert [record.debtor_id for record, _ in read_all(broker, CODEC).in_force(now_ms())] == ["d2"]


def ignored(metrics: Metrics) -> dict[str, float]:
    """What the metric says, by why."""
    (family,) = metrics.snoozes_ignored.collect()
    return {each.labels["why"]: each.value for each in family.samples if each.name.endswith("_total")}


def test_what_somebody_else_wrote_stops_nobody(broker: str, book: SnoozeBook, metrics: Metrics) -> None:
    """No Avro, a key of another, a rule that is no more, one that comes too late, a tombstone: what has no effect is counted,
    by its kind, and skipped, by readers and by the next who writes."""
    publish(broker, CODEC, a_snooze("d1"))
    gone = msgspec.structs.replace(a_snooze("d2"), rule="payer_velocity_2d")
    late = msgspec.structs.replace(a_snooze("d4"), decided_at_ms=now_ms() - 2 * HOUR_MS, until_ms=now_ms() - HOUR_MS)
    records = [
        (b"acme|d1|amount_high|x", b"no Avro"),
        (snooze_key("acme", "d1", "amount_high"), CODEC.encode(a_snooze("d2"))),
        (snooze_key("acme", "d2", gone.rule), CODEC.encode(gone)),
        (snooze_key("acme", "d4", "amount_high"), CODEC.encode(late)),
        (b"acme|nobody|amount_high", None),
    ]
    put(broker, SNOOZES.name, *records)
    publish(broker, CODEC, a_snooze("d3"))
    wait_until(lambda: len(book) == 3)
    assert ignored(metrics) == {"unreadable": 2, "unknown_rule": 1, "expired": 1}
    assert list(book.snoozed("acme", "d3", now_ms() + EFFECTIVE_DELAY_MS)) == ["amount_high"]
    assert {name: list(book.snoozed("acme", name, now_ms() + EFFECTIVE_DELAY_MS)) for name in ("d2", "d4")} == {
        "d2": [],
        "d4": [],
    }


def test_what_was_over_long_ago_is_let_go_of(broker: str, book: SnoozeBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a reader to which nothing comes, so that memory does not grow with all that ever was."""
    publish(broker, CODEC, a_snooze("d2"))
    put(broker, SNOOZES.name, (snooze_key("acme", "d1", "amount_high"), CODEC.encode(a_snooze("d1", hours=-1))))
    wait_until(lambda: len(book) == 2)
    monkeypatch.setattr("connectors.broker.follow.TIDY_S", 0.0)
    wait_until(lambda: len(book) == 1)
    assert list(book.snoozed("acme", "d2", now_ms() + EFFECTIVE_DELAY_MS)) == ["amount_high"]


def test_a_user_lists_rules_as_a_tenant_has_them(broker: str) -> None:
    """Defaults without a tenant; tuned ones are marked, and one that is switched off is off."""
    tuned = FraudRules(
        rules={
            "amount_high": RuleTuning(weight=0.5, thresholds={"amount_minor_max": 77}),
            "country_mismatch": RuleTuning(enabled=False),
        }
    )
    tenants.publish(broker, CODEC, [TenantRules(tenant="acme", pic="simulator", currencies=["EUR"], fraud=tuned)])
    plain = CliRunner().invoke(fraud, ["rules", "--json"])
    assert plain.exit_code == 0, plain.output
    assert [each["rule"] for each in json.loads(plain.stdout)] == list(LIBRARY)
    assert not any(each["tuned"] for each in json.loads(plain.stdout))
    listed = CliRunner().invoke(fraud, ["rules", "--tenant", "acme", "--broker", broker])
    assert listed.exit_code == 0, listed.output
    rows = {line.split()[0]: line.split()[1:] for line in listed.stdout.splitlines()[1:]}
    assert rows["amount_high"] == ["0.5", "amount_minor_max=77", "tuned"]
    assert rows["country_mismatch"] == ["off", "tuned"]
    assert rows["payer_velocity_1h"] == ["0.4", "count_max=6"]
    unknown = CliRunner().invoke(fraud, ["rules", "--tenant", "nobody", "--broker", broker])
    assert unknown.exit_code == 1
    assert "There is no tenant nobody" in unknown.stderr
