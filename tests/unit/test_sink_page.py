"""agents/sink_page.py."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from agents.sink_page import SinkPage
from connectors.sinks.sink import Status


@contextmanager
def serving(status: Status, token: str = "secret") -> Iterator[str]:
    page = SinkPage(status, token)
    try:
        yield f"http://127.0.0.1:{page.start('127.0.0.1', 0)}"
    finally:
        page.stop()


def get(url: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(url, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_shows_what_the_sink_counts_now() -> None:
    """Looked up when it is asked, not when it was started; the lag is missing while it is not known."""
    status = Status()
    with serving(status) as url:
        code, first = get(f"{url}/metrics", "secret")
        assert code == 200
        assert "ptr_audit_unsealed_total 0.0\n" in first
        assert "\nptr_audit_lag_records " not in first
        status.unsealed, status.events, status.expired, status.lag = 1234, 5000, 7, 42
        _, then = get(f"{url}/metrics", "secret")
        for line in ("unsealed_total 1234.0", "events_total 5000.0", "expired_total 7.0", "lag_records 42.0"):
            assert f"\nptr_audit_{line}\n" in then


def test_the_page_is_closed_without_the_token() -> None:
    """Health is not; what is not there and what is not GET is said as that."""
    with serving(Status()) as url:
        assert get(f"{url}/live") == (200, '{"live": true}')
        assert get(f"{url}/metrics")[0] == get(f"{url}/metrics", "wrong")[0] == 401
        assert get(f"{url}/")[0] == 404
        assert get(f"{url}/metrics", "secret", "POST")[0] == 405
    with serving(Status(), token="") as url:
        assert get(f"{url}/metrics", "secret")[0] == 403


def test_nothing_of_the_page_is_left_when_it_has_stopped() -> None:
    """Neither its thread nor its port, also where it could not listen."""
    with serving(Status()) as url:
        port = int(url.rsplit(":", 1)[1])
        taken = SinkPage(Status(), "")
        try:
            taken.start("127.0.0.1", port)
        except OSError:
            pass
        else:
            raise AssertionError("two pages on one port")
        finally:
            taken.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "sink page"]
    with serving(Status()):
        pass
