"""docker-compose.yml, without a Docker engine: what it promises is read, and each of our services' commands runs as a process.

Only addresses, paths and ports are replaced; commands, the other settings, secrets as files and health checks are the file's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import a_request
from tests.integration import postgres as pg
from tests.integration.kafka import a_kafka_of_its_own

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("payment-pipeline:")}
STATE = "/var/lib/ptr"
READY_TIMEOUT_S = 90.0
OUTCOME_TIMEOUT_S = 60.0


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    """No root, no writable root file system, no capabilities, no new privileges, a restart policy, bounded logs."""
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)
    assert service["restart"] in ("unless-stopped", "on-failure:5")
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """Each image names a full version (or a digest), never ``latest`` or a moving tag."""
    image = SERVICES[name]["image"]
    assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?\Z|@sha256:[0-9a-f]{64}\Z", image), image


def test_base_images_of_the_dockerfile_are_pinned_and_one() -> None:
    """Both stages start from the same full version; the process is not root; packages come from the lock file by hash."""
    text = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", bases[0])
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert "--require-hashes --only-binary :all: -r requirements.lock" in text
    assert "HEALTHCHECK" in text
    assert not re.search(r"^(ARG|ENV).*(TOKEN|PASSWORD|SECRET)", text, re.MULTILINE | re.IGNORECASE)


def test_the_image_gets_every_package() -> None:
    """The Dockerfile copies each package that setup.cfg ships, and .dockerignore lets it through."""
    dockerfile, ignored = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text().splitlines()
    included = re.search(r"\[options\.packages\.find\]\ninclude =\n((?:    \S+\n)+)", (ROOT / "setup.cfg").read_text())
    assert included is not None
    packages = [line.strip().rstrip("*") for line in included[1].splitlines()]
    assert len(packages) == 5
    for package in packages:
        assert f"COPY {package} {package}\n" in dockerfile
        assert f"!{package}" in ignored


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check(name: str) -> None:
    """A service that stays has one; the one that ends is waited for by its exit code."""
    check = SERVICES[name]["healthcheck"]
    if check.get("disable"):
        waiting = [s["depends_on"][name]["condition"] for s in SERVICES.values() if name in s.get("depends_on", {})]
        assert waiting
        assert set(waiting) == {"service_completed_successfully"}
    else:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert check["retries"] > 0


def test_dependencies_wait_for_health() -> None:
    """Nobody waits for a mere start: each dependency is healthy, or has ended well."""
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            ends = bool(SERVICES[needed]["healthcheck"].get("disable"))
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")


def test_ports_are_for_this_machine_only() -> None:
    """Whatever is published is bound to loopback, and the database is not published at all."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert "ports" not in SERVICES["postgres"]


def test_no_secret_is_in_the_file() -> None:
    """Secrets are files outside; no value has a password in a URL, or the looks of a random token."""
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    for service, declared in SERVICES.items():
        assert all(name in COMPOSE["secrets"] for name in declared.get("secrets", []))
        for variable, value in declared.get("environment", {}).items():
            if re.search(r"TOKEN|PASSWORD|SECRET|DATABASE", variable):
                assert variable.endswith("_FILE"), f"{service}: {variable}"
                assert value in [f"/run/secrets/{name}" for name in declared["secrets"]]
            assert not re.search(r"//[^/@]*:[^/@]*@", value), f"{service}: {variable}"
            assert not re.search(r"[A-Za-z0-9+/_-]{20,}={0,2}\Z", value.rsplit("/", 1)[-1]) or "_" in value
    assert "PTR_DATABASE" not in (ROOT / "docker-compose.yml").read_text().replace("PTR_DATABASE_FILE", "")


def test_the_groups_run_every_stage_once() -> None:
    """Together the worker groups run all stages, each in one group, and each asks the other for its tables."""
    from pipeline.settings import STAGES

    workers = {name: s for name, s in OURS.items() if s["command"] == ["worker"]}
    stages = [stage for s in workers.values() for stage in s["environment"]["PTR_STAGES"].split(",")]
    assert len(workers) == 2
    assert sorted(stages) == sorted(STAGES)
    for name, worker in workers.items():
        others = [f"http://{other}:8080" for other in workers if other != name]
        assert worker["environment"]["PTR_WEB_PEERS"].split(",") == others
        assert worker["hostname"] == worker["environment"]["PTR_WEB_HOST"] == name


class _Local:
    """The file's services of ours as processes of this machine, each under its own folder."""

    def __init__(self, folder: Path, kafka: str, database_url: str) -> None:
        self._folder = folder
        self._kafka = kafka
        self.ports = {name: _free_port() for name in OURS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._secrets = folder / "secrets"
        self._secrets.mkdir()
        made = {
            "web_token": secrets.token_hex(16),
            "privacy_master_key": secrets.token_hex(32),
            "database_url": database_url,
        }
        for name, value in made.items():
            (self._secrets / name).write_text(value + "\n")

    def environment(self, name: str) -> dict[str, str]:
        """What the file gives the service, with addresses, paths and ports of this machine, and nothing of ours else."""
        state = self._folder / name
        state.mkdir(exist_ok=True)
        given = {}
        for variable, value in OURS[name]["environment"].items():
            value = value.replace("kafka:9092", self._kafka).replace("/run/secrets", str(self._secrets))
            value = value.replace(STATE, str(state))
            for other, port in self.ports.items():
                value = value.replace(f"http://{other}:8080", f"http://127.0.0.1:{port}")
            given[variable] = {"PTR_WEB_HOST": "127.0.0.1", "PTR_WEB_PORT": str(self.ports[name])}.get(variable, value)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PTR_")}
        return inherited | {"PYTHONPATH": str(ROOT)} | given

    def popen(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", *command],
                cwd=self._folder / name,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self, name: str) -> Path:
        (self._folder / name).mkdir(exist_ok=True)
        return self._folder / f"{name}.log"

    def start(self) -> None:
        """In the order of ``depends_on``: first what ends, then what stays."""
        for name, service in OURS.items():
            if service["healthcheck"].get("disable"):
                process = self.popen(name, service["command"])
                self.processes[name] = process
                assert process.wait(READY_TIMEOUT_S) == 0, self.log(name).read_text()
        for name, service in OURS.items():
            if name not in self.processes:
                self.processes[name] = self.popen(name, service["command"])

    def health(self, name: str) -> subprocess.CompletedProcess[str]:
        """The service's health check, once."""
        _, program, script, *arguments = OURS[name]["healthcheck"]["test"]
        assert program == "python"
        assert script == "/opt/ptr/health.py"
        command = [sys.executable, str(ROOT / "docker/health.py"), *arguments]
        return subprocess.run(
            command, env=self.environment(name), capture_output=True, text=True, timeout=30, check=False
        )

    def wait_healthy(self, name: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (said := self.health(name)).returncode:
            assert self.processes[name].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, f"{name}: {said.stderr}\n{self.log(name).read_text()}"
            time.sleep(0.3)

    def ptr(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``docker compose exec NAME ptr ...``."""
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        environment = self.environment(name)
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def get(self, name: str, path: str, token: str | None = None) -> tuple[int, Any]:
        """A web view of a worker, as JSON, with the token of the secret file."""
        token = (self._secrets / "web_token").read_text().strip() if token is None else token
        url = f"http://127.0.0.1:{self.ports[name]}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def end(self) -> dict[str, int]:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(folder: Path) -> Iterator[_Local]:
    if reason := pg.available():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    (folder / "services").mkdir()
    # Of its own: the topics' names and the groups are the product's, other tests have theirs on the shared one.
    with a_kafka_of_its_own(folder / "kafka") as kafka, pg.postgres() as database:
        local = _Local(folder / "services", kafka.start().address, database.url)
        try:
            local.start()
            yield local
        finally:
            local.end()


@pytest.mark.kafka
@pytest.mark.postgres
def test_the_services_carry_a_payment_to_postgresql(tmp_path: Path) -> None:
    """Each service starts with the file's command and settings and becomes healthy; a payment is told by ``ptr show``; SIGTERM
    ends all of them with code 0, and the health checks then say so."""
    with _running(tmp_path) as local:
        staying = [name for name, service in OURS.items() if not service["healthcheck"].get("disable")]
        assert len(staying) == 3
        for name in staying:
            local.wait_healthy(name)

        applied = local.ptr("worker-front", "tenants", "apply", str(ROOT / "docs/tenants-example.yaml"))
        assert applied.returncode == 0, applied.stderr
        for worker in ("worker-front", "worker-fraud"):
            _wait_for(partial(_knows, local, worker))
        request = a_request(tenant="acme", payment_id="order-1", requested_at_ms=int(time.time() * 1000))
        _post(local.environment("topics")["PTR_BROKER"], request)

        payment = _told(local, "acme", "order-1")
        assert payment["payment"]["outcome"] == "paid"
        assert [event["stage"] for event in payment["events"]][:2] == ["screening", "localization"]
        status, profile = local.get("worker-front", "/tables/payer_profiles/acme/d1")
        assert status == 200, "the other group holds this table: PTR_WEB_PEERS leads there"
        assert [bucket["count"] for bucket in profile["buckets"]] == [1]
        assert local.get("worker-front", "/tables/tenant_rules/acme", token="wrong")[0] == 401

        codes = local.end()
        assert codes == dict.fromkeys(OURS, 0)
        for name in staying:
            assert local.health(name).returncode == 1


def _knows(local: _Local, worker: str) -> bool:
    return local.get(worker, "/tables/tenant_rules/acme")[0] == 200


def _wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _post(broker: str, request: Any) -> None:
    from confluent_kafka import Producer

    from schemas.codec import Codec
    from schemas.identity import payment_key

    producer = Producer({"bootstrap.servers": broker})
    producer.produce("payments.requested.v1", Codec().encode(request), payment_key(request.tenant, request.payment_id))
    assert producer.flush(30) == 0


def _told(local: _Local, tenant: str, payment_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + OUTCOME_TIMEOUT_S
    while True:
        shown = local.ptr("audit-sink", "show", tenant, payment_id, "--json")
        if shown.returncode == 0:
            story: dict[str, Any] = json.loads(shown.stdout)
            if story["payment"]["outcome"]:
                return story
        assert time.monotonic() < deadline, shown.stderr + local.log("audit-sink").read_text()
        time.sleep(0.3)
