"""Two servers in Stripe's API that others wrote, each started on loopback for the tests that ask for it and ended by its id.

localstripe (GPL-3) keeps what it is told, and runs in an interpreter of its own: nothing here imports it. It does not know that
a capture takes metadata (an optional parameter of the API), so that is put where it keeps those of the payment.

stripe-mock keeps nothing, but has Stripe's own OpenAPI description: it refuses a request that the API does not have.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

STRIPE_MOCK = "v0.203.0"
LOCALSTRIPE = "1.15.9"
LOCALSTRIPE_SHA256 = "fcf5e008d898e9f6f68c99d6cfccc5cd12c86f4ec7c4af3ccf6f783ee2d5dcf3"
START_S = 20.0
#: Both are fetched once and kept.
BUILD_S = 600.0

_LOCALSTRIPE = """
import sys
from aiohttp import web
from localstripe import resources

def capture(id, metadata=None, **fields):
    if metadata:
        resources.PaymentIntent._api_update(id, metadata=metadata)
    return resources.PaymentIntent._api_capture(id, **fields)

path = "/v1/payment_intents/{id}/capture"
resources.extra_apis[:] = [(m, p, capture if p == path else f) for m, p, f in resources.extra_apis]
resources.store.dump_to_disk = lambda: None
from localstripe.server import app
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""


def _cache(tool: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "payment-pipeline" / tool


def localstripe_missing() -> str:
    """Why it cannot run; empty when it can. It is fetched once, into a folder of its own in the user's cache."""
    folder = _cache(f"localstripe-{LOCALSTRIPE}")
    if folder.exists():
        return ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as new:
        wanted = Path(new) / "requirements.txt"
        wanted.write_text(f"localstripe=={LOCALSTRIPE} --hash=sha256:{LOCALSTRIPE_SHA256}\n")
        # What it needs is what we need: aiohttp and dateutil.
        options = ["--no-deps", "--no-build-isolation", "--require-hashes", "--target", f"{new}/packages"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_S)
        if done.returncode:
            return f"localstripe cannot be installed: {done.stderr.strip()[-300:]}"
        Path(new, "packages").rename(folder)
    return ""


def stripe_mock_program() -> Path:
    """Where stripe-mock is kept in the user's cache."""
    return _cache(f"stripe-mock-{STRIPE_MOCK}") / "stripe-mock"


def stripe_mock_missing() -> str:
    """The same. It is built when there is Go."""
    program = stripe_mock_program()
    if program.exists():
        return ""
    if shutil.which("go") is None:
        return f"stripe-mock is not in {program.parent}, and there is no Go to build it"
    environment = os.environ | {"GOBIN": str(program.parent)}
    command = ["go", "install", f"github.com/stripe/stripe-mock@{STRIPE_MOCK}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_S)
    return "" if done.returncode == 0 else f"stripe-mock cannot be built: {done.stderr.strip()[-300:]}"


def needs(missing: str) -> None:
    """Skip with the reason; in CI that is a failure."""
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@contextmanager
def localstripe() -> Iterator[str]:
    """Its address."""
    needs(localstripe_missing())
    port = _free_port()
    packages = str(_cache(f"localstripe-{LOCALSTRIPE}"))
    with _running([sys.executable, "-c", _LOCALSTRIPE, str(port)], port, {"PYTHONPATH": packages}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def stripe_mock() -> Iterator[str]:
    """Its address."""
    needs(stripe_mock_missing())
    port, other = _free_port(), _free_port()
    command = [str(stripe_mock_program()), "-http-addr", f"127.0.0.1:{port}", "-https-addr", f"127.0.0.1:{other}"]
    with _running(command, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], port: int, more: Mapping[str, str] | None = None) -> Iterator[None]:
    environment = {**os.environ, **(more or {})}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait(process: subprocess.Popen[str], port: int) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"it ended at once: {process.communicate()[1][-300:]}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens after {START_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
