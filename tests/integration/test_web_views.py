"""The worker's web pages as a browser, a script and an attacker ask them, on workers of two groups."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from confluent_kafka import Producer

from connectors.broker.local import LocalKafka
from pipeline import topics
from pipeline.bench.load import Load, post
from pipeline.rig import FRAUD, FRONT, Rig, Worker
from schemas.codec import Codec
from schemas.identity import partition_of, payer_key, payment_key
from schemas.records import Instrument, Locality, Party, PaymentRequested
from tests.integration.live import TOKEN, a_load, completed, pipeline, until

pytestmark = pytest.mark.kafka

PAYMENTS = 60
#: Valid ids, however they look: printable, without spaces and "|".
HOSTILE = "<script>alert('x')</script>&amp;\"%41"
FOREIGN = "zahlung-ü-支付"


@dataclass(frozen=True)
class Live:
    """A running pipeline whose payments have ended."""

    rig: Rig
    load: Load
    front: tuple[Worker, Worker]
    fraud: Worker


@pytest.fixture(scope="module")
def live(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two front workers, one fraud worker in a group of its own, and a handful of payments that were paid."""
    load = a_load(PAYMENTS)
    with pipeline(kafka.address, tmp_path_factory.mktemp("web"), load) as rig:
        fraud = rig.worker("fraud", FRAUD)
        rig.wait_ready()
        front = tuple(rig.worker(f"front-{n}", FRONT, PTR_WEB_PEERS=fraud.url()) for n in (1, 2))
        rig.wait_ready()
        post(kafka.address, load)
        producer = Producer({"bootstrap.servers": kafka.address})
        for name in (HOSTILE, FOREIGN):
            request = a_payment(name, load.now_ms)
            value, key = Codec().encode(request), payment_key(request.tenant, request.payment_id)
            producer.produce(topics.REQUESTED.name, value, key)
        assert producer.flush(30) == 0
        until("every payment has its outcome", lambda: completed(rig) >= PAYMENTS + 2)
        # A row is stored one cycle after it is published, but shown at once; ready: nothing is being moved.
        rig.wait_ready()
        yield Live(rig, load, front, fraud)  # type: ignore[arg-type]


def a_payment(name: str, at_ms: int) -> PaymentRequested:
    """A payment whose ids are all ``name``."""
    return PaymentRequested(
        tenant="bench0",
        payment_id=name,
        amount_minor=4200,
        currency="EUR",
        debtor=Party(id=name, name="Ada Winter", country="DE"),
        creditor=Party(id=name, name="Laden GmbH", country="DE"),
        terminal_id="terminal-1",
        channel="pos",
        instrument=Instrument(kind="card", token="tok_1"),
        locality=Locality(country="DE", postcode="10115"),
        requested_at_ms=at_ms,
    )


def ask(worker: Worker, path: str, **headers: str | bytes) -> tuple[int, dict[str, str], bytes]:
    """GET ``path`` exactly as it stands; status, headers, body."""
    address = urlsplit(worker.url())
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def see(worker: Worker, path: str) -> Any:
    """The data at ``path``, with the token."""
    status, _, body = ask(worker, path, Authorization=f"Bearer {TOKEN}")
    assert status == 200, (path, status, body)
    return json.loads(body)


def page(worker: Worker, path: str) -> str:
    """The readable page at ``path``."""
    status, headers, body = ask(worker, path, Authorization=f"Bearer {TOKEN}", Accept="text/html")
    assert status == 200, (path, status, body)
    assert headers["content-type"].startswith("text/html")
    return body.decode()


def owners(live: Live, table: str, key: bytes) -> tuple[str, int]:
    """Path of a row and its partition."""
    return f"/tables/{table}/" + quote(key.decode().replace("|", "/")), partition_of(key, live.rig.partitions)


def test_health_pages_are_open_and_everything_else_is_closed(live: Live) -> None:
    """/live and /ready need no token; tables and metrics do, and a wrong one is no token."""
    for worker in (*live.front, live.fraud):
        assert ask(worker, "/live")[0] == 200
        status, _, body = ask(worker, "/ready")
        assert status == 200
        assert json.loads(body)["ready"] is True
        for path in (
            "/tables/",
            "/tables/payments/bench0/pay_000000000",
            "/tables/tenant_rules/bench0",
            "/metrics",
            "/x",
        ):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                status, answered, body = ask(worker, path, **headers)
                assert status == 401, (path, headers, status)
                assert answered["www-authenticate"] == "Bearer"
                assert TOKEN.encode() not in body
        assert ask(worker, "/tables/?token=wrong")[0] == 401
        assert ask(worker, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_browser_gets_a_cookie_and_a_clean_address(live: Live) -> None:
    """?token= is answered with a cookie and the address without it; the cookie opens the views."""
    status, headers, _ = ask(live.fraud, f"/tables/?token={TOKEN}&format=json")
    assert status == 302
    assert TOKEN not in headers["location"]
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, _, body = ask(live.fraud, headers["location"], Cookie=cookie.split(";")[0])
    assert status == 200
    assert json.loads(body)["tables"]


@pytest.mark.parametrize("number", range(4))
def test_a_payment_looks_the_same_from_whichever_worker_is_asked(live: Live, number: int) -> None:
    """Its state and its request, asked at the owner and at the other worker of the group."""
    wanted = live.load.payment(number)
    path = f"/tables/attempts/{wanted.tenant}/{wanted.payment_id}"
    first, second = (see(worker, path) for worker in live.front)
    assert first == second
    assert first["table"] == "attempts"
    assert (first["state"], first["outcome"], first["reason"]) == ("ended", "paid", "")
    assert (first["amount_minor"], first["currency"]) == (wanted.amount_minor, "EUR")
    assert first["pic"] == "simulator"
    assert first["attempt"] == 1
    assert first["rule_version"] == 1
    request = [see(worker, f"/tables/payments/{wanted.tenant}/{wanted.payment_id}") for worker in live.front]
    assert request[0] == request[1]
    assert request[0]["version"] == 1
    assert re.fullmatch("[0-9a-f]+", request[0]["content_hash"])


def test_the_keys_that_were_asked_for_have_both_owners(live: Live) -> None:
    """The four payments above lie on partitions of both workers, else the test before proves nothing."""
    described = live.rig._admin.describe_consumer_groups(["ptr-" + "-".join(FRONT)])
    members = next(iter(described.values())).result().members
    owned = [{tp.partition for tp in m.assignment.topic_partitions if tp.topic == topics.SCORED.name} for m in members]
    asked = {
        partition_of(payment_key(p.tenant, p.payment_id), live.rig.partitions) for p in map(live.load.payment, range(4))
    }
    assert len(owned) == 2 and all(mine & asked for mine in owned), (owned, asked)


def test_profiles_are_answered_by_another_group(live: Live) -> None:
    """A front worker asks its peer of the fraud group; counts and amounts are those of the input."""
    wanted = live.load.payment(5)
    payments = [live.load.payment(n) for n in range(PAYMENTS)]
    mine = [p for p in payments if payer_key(p.tenant, p.debtor.id) == payer_key(wanted.tenant, wanted.debtor.id)]
    for worker in (*live.front, live.fraud):
        view = see(worker, f"/tables/payer_profiles/{wanted.tenant}/{wanted.debtor.id}")
        assert sum(bucket["count"] for bucket in view["buckets"]) == len(mine)
        assert sum(bucket["amount_minor"] for bucket in view["buckets"]) == sum(p.amount_minor for p in mine)
        path = f"/tables/payee_profiles/{wanted.tenant}/{wanted.creditor.id}/{wanted.terminal_id}"
        assert see(worker, path)["buckets_total"] >= 1
    # The other way there is no peer: said, and not asked in circles.
    status, _, body = ask(live.fraud, "/tables/payments/bench0/pay_000000000", Authorization=f"Bearer {TOKEN}")
    assert status == 404
    assert "PTR_WEB_PEERS" in json.loads(body)["error"]


def test_a_tenants_rules_are_shown_by_every_worker(live: Live) -> None:
    """Version and rules in force, and 404 for a tenant that is not configured."""
    for worker in (*live.front, live.fraud):
        view = see(worker, "/tables/tenant_rules/bench3")
        assert view["version"] == 1
        assert (view["rules"]["tenant"], view["rules"]["pic"], view["rules"]["currencies"]) == (
            "bench3",
            "simulator",
            ["EUR"],
        )
        assert ask(worker, "/tables/tenant_rules/nobody", Authorization=f"Bearer {TOKEN}")[0] == 404


def test_pages_are_readable_and_escape_whatever_they_show(live: Live) -> None:
    """HTML of a payment with a hostile id, as any payer may choose one: nothing of it is markup, the style is allowed by
    the policy's hash and nothing else is."""
    key = payment_key("bench0", HOSTILE)
    for path in (
        f"/tables/attempts/bench0/{quote(HOSTILE, safe='')}",
        f"/tables/payments/bench0/{quote(HOSTILE, safe='')}",
    ):
        for worker in live.front:
            text = page(worker, path)
            assert "<script" not in text
            assert HOSTILE in unescape(text)
            style = text.split("<style>", 1)[1].split("</style>", 1)[0]
            digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
            _, headers, _ = ask(worker, path, Authorization=f"Bearer {TOKEN}", Accept="text/html")
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert f"'sha256-{digest}'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
    assert key.decode() in unescape(page(live.front[0], f"/tables/attempts/bench0/{quote(HOSTILE, safe='')}"))
    for worker in (*live.front, live.fraud):
        profile = page(worker, f"/tables/payer_profiles/bench0/{quote(HOSTILE, safe='')}")
        assert "<script" not in profile
        assert HOSTILE in unescape(profile)
        assert "4200" in profile
        assert "4200" in page(worker, f"/tables/payer_profiles/bench0/{quote(FOREIGN)}")


@pytest.mark.parametrize(
    "path",
    [
        "/tables/../../../../etc/passwd",
        "/tables/payments/../../etc/passwd",
        "/tables/payments/..%2f..%2fetc%2fpasswd",
        "/tables/payments/bench0/%00",
        "/tables/payments/bench0/a%7Cb",
        "/tables/payments/bench0/a%20b",
        "/tables/payments/bench0/" + "x" * 81,
        "/tables/payments/bench0/" + "x" * 4000,
        "/tables/payments/bench0/%ff%fe",
        "/tables/payments/bench0/%ED%A0%80",
        "/tables/payments/bench0/" + quote("ü" * 10),
        "/tables/payments/bench0/",
        "/tables/payments/bench0/a/b/c/d",
        "/tables/payments//",
        "/tables/payments/" + quote("BENCH ü") + "/x",
        "/tables/no_such_table/a/b",
        "/tables/__faust%00offset__/a",
        "/tables/tenant_rules/" + quote("<script>"),
        "/tables/tenant_rules/%ff",
        "/tables/payee_profiles/bench0",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/x",
    ],
)
def test_a_wrong_path_is_refused_and_never_an_error_of_ours(live: Live, path: str) -> None:
    """400 or 404 with a policy header and no markup of the asker's, from every worker."""
    for worker in (*live.front, live.fraud):
        status, headers, body = ask(worker, path, Authorization=f"Bearer {TOKEN}", Accept="text/html")
        assert status in (400, 404), (path, status, body)
        assert b"root:" not in body
        assert b"<script>" not in body
        assert "content-security-policy" in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": b"Bearer \xff\xfe"},
        {"Authorization": "Bearer ü".encode()},
        {"Cookie": b"ptr-token=\xff"},
        {"Cookie": b"ptr-token"},
        {"Authorization": "Bearer " + "x" * 6000},
    ],
)
def test_a_strange_token_is_a_wrong_token(live: Live, headers: dict[str, bytes | str]) -> None:
    """Bytes that are no text are compared like any other: 401."""
    assert ask(live.fraud, "/metrics", **headers)[0] == 401
    assert ask(live.fraud, "/metrics?token=%ff%fe")[0] == 401


@pytest.mark.parametrize("hops", [b"2", b"9", b"-1", b"x", "²".encode(), b"1" * 400])
def test_a_strange_forwarding_header_is_no_error_of_ours(live: Live, hops: bytes) -> None:
    """A row is asked for at most two workers further, whatever the asker claims."""
    for worker in live.front:
        given = {"X-Ptr-Forwarded": hops, "Authorization": f"Bearer {TOKEN}"}
        assert ask(worker, "/tables/payments/bench0/pay_000000000", **given)[0] in (200, 503)


def test_it_listens_on_loopback_only(live: Live) -> None:
    """Every socket on which a worker listens is bound to 127.0.0.1."""
    for worker in (*live.front, live.fraud):
        inodes = set()
        for link in Path(f"/proc/{worker.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # The worker has closed it meanwhile.
                if (name := str(link.readlink())).startswith("socket:["):
                    inodes.add(name[len("socket:[") : -1])
        listening = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{worker.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    listening.append(fields[1].split(":")[0])
        assert listening == ["0100007F"]


def test_without_a_token_there_is_nothing_but_health(live: Live) -> None:
    """A worker that was given no token shows no table and no metric to anybody, whatever token is claimed."""
    worker = live.rig.worker("front-3", FRONT, PTR_WEB_TOKEN="")
    try:
        until("the third is ready", worker.ready)
        assert ask(worker, "/live")[0] == 200
        for path in ("/tables/", "/tables/payments/bench0/pay_000000000", "/metrics", "/tables/?token="):
            for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
                status, _, body = ask(worker, path, **headers)
                assert status == 403 and "PTR_WEB_TOKEN" in json.loads(body)["error"], (path, status)
    finally:
        worker.kill(signal.SIGTERM)
        live.rig.children.remove(worker)
