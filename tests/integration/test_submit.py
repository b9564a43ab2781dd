"""``ptr submit`` on a real broker: what is in the file is in the topic, once, under the right key and partition."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Message

from connectors.broker import admin
from connectors.broker.local import LocalKafka
from connectors.registry import open_registry
from pipeline.commands.submit import submit
from pipeline.topics import REQUESTED, Topic
from schemas.codec import Codec
from schemas.identity import partition_of, payment_key
from schemas.records import Instrument, Locality, Party, PaymentRequested
from tests.builders import a_request
from tests.integration.kafka import a_kafka_of_its_own, ends, records, unique
from tests.integration.schema_registry import Server, registry

__all__ = ["registry"]

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]
FDH = ROOT.parent / "shared" / "data" / "fdh" / "transactions.parquet"
WAIT_S = 60.0

RULES = """
# the shop's export
payment_id=ORDER
amount_minor=TOTAL*100
currency:=EUR
debtor.id=CUSTOMER
debtor.name=NAME
debtor.country=COUNTRY
creditor.id:=shop
creditor.name:=A Shop
creditor.country:=NL
instrument.kind:=card
instrument.token:=tok_{CUSTOMER}
locality.country:=NL
requested_at_ms=AT
"""


@pytest.fixture
def broker(kafka: LocalKafka) -> str:
    """The shared broker's address, with the topic of the PTRs."""
    _make_topic(kafka.address)
    return kafka.address


def _make_topic(address: str) -> None:
    admin.apply(admin.client(address), [Topic(REQUESTED.name, "", config=REQUESTED.config)], 4, 1)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(submit, [str(argument) for argument in arguments])


def _posted(address: str, tenant: str, start: dict[int, int] | None = None) -> list[tuple[Message, PaymentRequested]]:
    """This tenant's PTRs; their keys and partitions are checked on the way."""
    decode = Codec().decoder(PaymentRequested)
    partitions = len(ends(address, REQUESTED.name))
    found = []
    for message in records(address, REQUESTED.name, start):
        request = decode(message.value())
        if request.tenant == tenant:
            assert message.key() == payment_key(tenant, request.payment_id)
            assert message.partition() == partition_of(message.key(), partitions)
            found.append((message, request))
    return found


def _shop_file(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["ORDER", "TOTAL", "CUSTOMER", "NAME", "COUNTRY", "AT"], *rows])
    path.with_suffix(".rules").write_text(RULES)


def _ptr(tenant: str, payment_id: str) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "payment_id": payment_id,
        "amount_minor": 1999,
        "currency": "EUR",
        "debtor": {"id": "d1", "name": "Jörg Müller", "country": "DE", "birth_date": "1970-01-02"},
        "creditor": {"id": "c1", "name": "A Shop", "country": "NL"},
        "instrument": {"kind": "card", "token": "tok_1"},
        "locality": {"country": "NL", "postcode": "1012 AB"},
        "metadata": {"basket": "7"},
        "requested_at_ms": 1764000000000,
    }


def test_json_lines_of_ptrs_arrive_as_they_are(broker: str, tmp_path: Path) -> None:
    """Each PTR of a JSON Lines file is one record with the same content, keyed and placed as the pipeline expects."""
    tenant, file = unique("acme"), tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(_ptr(tenant, f"p{n}")) + "\n" for n in range(50)))
    result = _run(file, "--broker", broker, "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["read"], counts["posted"], counts["delivered"], counts["failed"]) == (50, 50, 50, 0)
    posted = {request.payment_id: request for _, request in _posted(broker, tenant)}
    assert len(posted) == 50
    assert posted["p7"] == PaymentRequested(
        tenant=tenant,
        payment_id="p7",
        amount_minor=1999,
        currency="EUR",
        debtor=Party(id="d1", name="Jörg Müller", country="DE", birth_date="1970-01-02"),
        creditor=Party(id="c1", name="A Shop", country="NL"),
        instrument=Instrument(kind="card", token="tok_1"),
        locality=Locality(country="NL", postcode="1012 AB"),
        metadata={"basket": "7"},
        requested_at_ms=1764000000000,
    )


def test_rows_that_cannot_be_mapped_are_named_and_the_rest_goes_on(broker: str, tmp_path: Path) -> None:
    """A bad row is reported by line and field, never by content; the others are posted; the exit code is 1."""
    tenant, file = unique("acme"), tmp_path / "shop.csv"
    secret = "4111111111111111"
    rows = [
        ["o1", "12.34", "c1", "Ann", "DE", "2026-11-23T10:00:00Z"],
        ["o2", f"{secret}x", "c1", "Ann", "DE", "2026-11-23T10:00:00Z"],
        ["o3", "1.005", "c1", "Ann", "DE", "2026-11-23T10:00:00Z"],
        ["", "5", "c1", "Ann", "DE", "2026-11-23T10:00:00Z"],
        ["o5", "5", "c1", "Ann", "DE", "2026-11-23T12:00:00+02:00"],
        ["o6", "5", "c1", "Ann"],
    ]
    _shop_file(file, rows)
    options = (file, "--map-file", file.with_suffix(".rules"), "--tenant", tenant, "--broker", broker)
    result = _run(*options, "--json")
    assert result.exit_code == 1, result.output
    counts = json.loads(result.stdout)
    assert (counts["read"], counts["delivered"], counts["refused"], counts["failed"]) == (6, 2, 4, 0)
    assert counts["refused_rows"] == [
        {"row": 3, "field": "amount_minor", "why": "not_a_number"},
        {"row": 4, "field": "amount_minor", "why": "not_whole"},
        {"row": 5, "field": "payment_id", "why": "missing"},
        {"row": 7, "field": "", "why": "wrong_columns"},
    ]
    assert "row 3: not_a_number (amount_minor)" in result.stderr
    assert secret not in result.output
    posted = {r.payment_id: (r.amount_minor, r.requested_at_ms) for _, r in _posted(broker, tenant)}
    # 2026-11-23T10:00:00Z, from the calendar: 20 780 days after the epoch and 10 hours.
    assert posted == {"o1": (1234, 20_780 * 86_400_000 + 36_000_000), "o5": (500, 20_780 * 86_400_000 + 36_000_000)}


def test_strict_stops_at_the_first_bad_row(broker: str, tmp_path: Path) -> None:
    """With --strict what comes before a bad row is posted and nothing after it."""
    tenant, file = unique("acme"), tmp_path / "shop.csv"
    good = ["12.34", "c1", "Ann", "DE", "2026-11-23T10:00:00Z"]
    _shop_file(file, [["o1", *good], ["o2", *good], ["o3"], ["o4", *good]])
    result = _run(file, "--map-file", file.with_suffix(".rules"), "--tenant", tenant, "--broker", broker, "--strict")
    assert result.exit_code == 1, result.output
    assert sorted(r.payment_id for _, r in _posted(broker, tenant)) == ["o1", "o2"]


def test_a_dry_run_posts_nothing_and_needs_no_broker(tmp_path: Path) -> None:
    """--dry-run prints the first PTR as JSON; the broker is not even asked."""
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(_ptr("acme", "p1")))
    result = _run(file, "--dry-run", "--tenant", "other", "--broker", "127.0.0.1:1")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["tenant"], shown["payment_id"], shown["kind"]) == ("other", "p1", "payment")


def test_the_handbook_s_transactions_arrive(broker: str) -> None:
    """The preset maps the Fraud Detection Handbook's file row for row, between --offset and --limit."""
    if not FDH.exists():
        pytest.skip(f"reference data missing: {FDH.relative_to(ROOT.parent)}")
    from pyarrow import parquet

    tenant, offset, limit = unique("fdh"), 733_000, 3_000
    # Across the border of the file's two row groups.
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
    table = parquet.read_table(FDH, columns=columns).slice(offset, limit)
    result = _run(FDH, "--preset", "fdh", "--tenant", tenant, "--offset", offset, "--limit", limit, "--broker", broker)
    assert result.exit_code == 0, result.output
    posted = {r.payment_id: r for _, r in _posted(broker, tenant)}
    assert len(posted) == limit
    for number, at, customer, terminal, amount in zip(*[table[name].to_pylist() for name in columns], strict=True):
        request = posted[str(number)]
        assert Decimal(request.amount_minor) == (Decimal(amount) * 100).quantize(Decimal(1))
        assert (request.debtor.id, request.debtor.name) == (str(customer), f"customer {customer}")
        assert (request.creditor.id, request.terminal_id) == (str(terminal), str(terminal))
        assert request.instrument.token == f"tok_{customer}"
        assert request.requested_at_ms == int((at - type(at)(1970, 1, 1)).total_seconds()) * 1000


def _wait_for_first(address: str, tenant: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not _posted(address, tenant):
        assert time.monotonic() < deadline, "nothing was posted"
        time.sleep(0.1)


def _start(*arguments: object) -> subprocess.Popen[str]:
    program = "from pipeline.commands.submit import submit; submit()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PTR_BROKER": ""},
    )


def test_ctrl_c_stops_cleanly_and_the_counts_are_true(broker: str, tmp_path: Path) -> None:
    """After Ctrl-C the topic holds exactly what the counts say was delivered, and the exit code is 130."""
    tenant, file = unique("acme"), tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(_ptr(tenant, f"p{n}")) + "\n" for n in range(100_000)))
    process = _start(file, "--broker", broker, "--rate", "300", "--json")
    try:
        _wait_for_first(broker, tenant)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    counts = json.loads(out)
    assert counts["interrupted"] is True
    assert counts["read"] == counts["posted"] == counts["delivered"] < 100_000
    posted = [r.payment_id for _, r in _posted(broker, tenant)]
    assert sorted(posted) == sorted(f"p{n}" for n in range(counts["delivered"]))


def test_a_broker_that_goes_away_is_counted(tmp_path: Path) -> None:
    """What the broker did not confirm is failed, exit code 1; what was confirmed is there when it is back."""
    tenant, file = unique("acme"), tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(_ptr(tenant, f"p{n}")) + "\n" for n in range(100_000)))
    with a_kafka_of_its_own(tmp_path / "kafka") as kafka:
        kafka.start()
        missing = _run(file, "--broker", kafka.address)
        assert missing.exit_code == 1
        assert "has no topic payments.requested.v1: make the topics with `ptr topics apply`" in missing.stderr
        _make_topic(kafka.address)
        process = _start(file, "--broker", kafka.address, "--rate", "1000", "--timeout", "2", "--json")
        try:
            _wait_for_first(kafka.address, tenant)
            kafka.kill()
            out, err = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 1, err
        counts = json.loads(out)
        assert counts["failed"] > 0
        assert counts["delivered"] + counts["failed"] == counts["posted"] < 100_000
        assert "the broker did not confirm" in err
        kafka.start()
        assert len(_posted(kafka.address, tenant)) >= counts["delivered"]


def test_no_broker_is_a_message_and_not_a_hang(tmp_path: Path) -> None:
    """Where nothing listens the command says so within seconds, and what to do."""
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(_ptr("acme", "p1")))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        result = _run(file, "--broker", f"127.0.0.1:{nobody.getsockname()[1]}")
    assert result.exit_code == 1
    assert "no Kafka broker answers at 127.0.0.1:" in result.stderr
    assert "ptr kafka up" in result.stderr


def test_with_a_schema_registry_ptrs_are_written_in_confluent_framing(
    broker: str, registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers do: 00, the id that the registry gave for the schema, the body; and what is read back is the file's."""
    monkeypatch.setenv("PTR_SCHEMA_REGISTRY_URL", registry.url)
    request = a_request(tenant=unique("r"), payment_id="p-1")
    file = tmp_path / "one.jsonl"
    file.write_bytes(msgspec.json.encode(request) + b"\n")
    start = ends(broker, REQUESTED.name)
    result = _run(file, "--broker", broker)
    assert result.exit_code == 0, result.output
    (message,) = records(broker, REQUESTED.name, start)
    assert list(registry.subjects) == ["payments.v1.PaymentRequested"]
    assert message.value()[:5] == b"\x00" + (100_000).to_bytes(4, "big")
    assert Codec(open_registry(registry.url)).decode(message.value(), PaymentRequested) == request


def test_a_schema_registry_that_is_away_is_a_sentence(
    broker: str, registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 1 and its answer, and nothing is posted; nor with an address that is none."""
    file = tmp_path / "one.jsonl"
    file.write_bytes(msgspec.json.encode(a_request()) + b"\n")
    start = ends(broker, REQUESTED.name)
    registry.failing = 503
    for url, says in ((registry.url, "answers 503"), ("registry:8081", "PTR_SCHEMA_REGISTRY_URL takes http")):
        monkeypatch.setenv("PTR_SCHEMA_REGISTRY_URL", url)
        result = _run(file, "--broker", broker)
        assert result.exit_code == 1
        assert says in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert ends(broker, REQUESTED.name) == start
