"""Scheduled reports: due when they should be, delivered once as a file and by mail, whatever fails in between."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.report import report
from pipeline.reports.schedule import Scheduled, ScheduleError, last_due, next_due, parse
from tests import audited
from tests.integration.secure import make_certificates
from tests.unit.test_report import a_completed, write

#: Due at midnight: whatever the time of day, yesterday's is the last one.
SETTLEMENT: dict[str, Any] = {
    "name": "acme-day",
    "report": "settlement",
    "every": "day",
    "at": "00:00",
    "tenant": "acme",
    "format": "csv",
}


class Mailbox(MessageHandler):
    """Keeps what it is given; refuses while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self.refuses = ""

    def handle_message(self, message: Message) -> None:
        self.messages.append(message)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return self.refuses or await super().handle_DATA(server, session, envelope)


class OnAFreePort(Controller):
    """Knows its port once the server has one."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(**options: Any) -> Iterator[tuple[Mailbox, int]]:
    """On a free port of loopback."""
    mailbox = Mailbox()
    controller = OnAFreePort(mailbox, hostname="127.0.0.1", port=0, ready_timeout=60.0, **options)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop(no_assert=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an audit database that has one payment, paid yesterday."""
    yesterday_ms = int((time.time() // 86_400 * 86_400 - 3_600) * 1000)
    with audited.a_database(f"sqlite:///{tmp_path}/audit.db") as database:
        write(database, [(a_completed(1, yesterday_ms, amount_minor=1_234, currency="EUR"), yesterday_ms)])
    return tmp_path


def deliver(folder: Path, *reports: dict[str, Any], **more: Any) -> Result:
    """``ptr report deliver --once``."""
    file = folder / "reports.yaml"
    file.write_text(yaml.safe_dump({"folder": str(folder / "out"), "reports": list(reports)} | more))
    return CliRunner().invoke(report, ["deliver", str(file), "--once", "--database", f"sqlite:///{folder}/audit.db"])


def a_server(port: int, **named: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", "sender": "reports@example.org"} | named


def delivered(folder: Path) -> list[str]:
    """Names of what is in the folder."""
    return sorted(path.name for path in (folder / "out").iterdir()) if (folder / "out").exists() else []


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


# -- when ---------------------------------------------------------------------------------------------------------------


def at(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("every", "now", "first", "until", "following"),
    [
        ("day", "2026-11-27 06:00", "2026-11-26", "2026-11-27", "2026-11-28 06:00"),
        ("day", "2026-11-27 05:59", "2026-11-25", "2026-11-26", "2026-11-27 06:00"),
        ("day", "2026-03-30 06:00", "2026-03-29", "2026-03-30", "2026-03-31 06:00"),  # the 29th has 23 hours
        ("week", "2026-11-27 12:00", "2026-11-16", "2026-11-23", "2026-11-30 06:00"),
        ("week", "2026-11-30 05:00", "2026-11-16", "2026-11-23", "2026-11-30 06:00"),
        ("month", "2026-03-01 06:00", "2026-02-01", "2026-03-01", "2026-04-01 06:00"),
        ("month", "2026-01-01 05:00", "2025-11-01", "2025-12-01", "2026-01-01 06:00"),
    ],
)
def test_when_reports_are_due(every: Any, now: str, first: str, until: str, following: str) -> None:
    """By hand, in Vienna."""
    zone = "Europe/Vienna"
    scheduled = Scheduled(name="x", report="fees", every=every, timezone=zone)
    period = last_due(scheduled, at(now, zone))
    assert (str(period.first), str(period.until)) == (first, until)
    assert next_due(scheduled, at(now, zone)) == at(following, zone)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["day", "week", "month"]),
    st.sampled_from(["UTC", "Europe/Vienna", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland"]),
    st.sampled_from(["00:00", "02:30", "23:59"]),
)
def test_no_period_is_left_out(now: datetime, every: Any, zone: str, at_time: str) -> None:
    """What is due next is the period right after the last one; now lies between."""
    scheduled = Scheduled(name="x", report="fees", every=every, timezone=zone, at=at_time)
    last, following = last_due(scheduled, now), next_due(scheduled, now)
    assert last.due.astimezone(UTC) <= now < following.astimezone(UTC)
    after = last_due(scheduled, following.astimezone(UTC))
    assert after.first == last.until


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reports": []}, "there is none"),
        ({"reports": [SETTLEMENT | {"report": "taxes"}]}, "report"),
        ({"reports": [SETTLEMENT | {"every": "hour"}]}, "every"),
        ({"reports": [SETTLEMENT | {"at": 600}]}, "at"),
        ({"reports": [SETTLEMENT | {"at": "25:00"}]}, "HH:MM"),
        ({"reports": [SETTLEMENT | {"name": "../../etc/cron.d/x"}]}, "name"),
        ({"reports": [SETTLEMENT, SETTLEMENT]}, "is taken"),
        ({"reports": [SETTLEMENT | {"tenant": "A B"}]}, "tenant"),
        ({"reports": [SETTLEMENT | {"timezone": "Mars"}]}, "time zone"),
        ({"reports": [SETTLEMENT | {"locale": "klingon"}]}, "locale"),
        ({"reports": [SETTLEMENT | {"mail_to": ["a@example.org"]}]}, "no mail server"),
        ({"reports": [SETTLEMENT | {"mail_to": ["a@example.org\nBcc: b@example.org"]}], "mail": a_server(25)}, "plain"),
        ({"reports": [SETTLEMENT | {"colour": "red"}]}, "colour"),
        ({"reports": [SETTLEMENT], "archive": " "}, "archive: name a folder"),
        ({"reports": [SETTLEMENT | {"archive": "/mnt/archive"}]}, "archive"),
        ({"reports": [SETTLEMENT], "mail": a_server(25, user="u", password_file="f")}, "without encryption"),
        ({"reports": [SETTLEMENT], "mail": a_server(25, user="u", security="tls")}, "go together"),
    ],
)
def test_a_wrong_file_is_refused(folder: Path, change: dict[str, Any], named: str) -> None:
    """Whole, in a line that names the field; nothing is written."""
    with pytest.raises(ScheduleError, match=named):
        parse(yaml.safe_dump({"folder": "x"} | change), "reports.yaml")
    done = deliver(folder, *change["reports"], **{name: value for name, value in change.items() if name != "reports"})
    assert done.exit_code == 1
    assert "reports.yaml" in done.output
    assert "Traceback" not in done.output
    assert delivered(folder) == []


# -- files and mail -----------------------------------------------------------------------------------------------------


def test_a_report_is_delivered_once(folder: Path) -> None:
    """As a file and by mail with the same content; the second run does nothing."""
    with mail_server() as (mailbox, port):
        to = SETTLEMENT | {"mail_to": ["finance@example.org", "cfo@example.org"]}
        first = deliver(folder, to, mail=a_server(port))
        assert first.exit_code == 0, first.output
        name = f"acme-day-{yesterday()}.csv"
        assert delivered(folder) == [name, f"{name}.mailed"]
        content = (folder / "out" / name).read_bytes()
        assert b",1234," in content
        assert deliver(folder, to, mail=a_server(port)).exit_code == 0
    [message] = mailbox.messages
    assert message["X-RcptTo"] == "finance@example.org, cfo@example.org"
    assert message["Message-ID"] == f"<{name}@example.org>"
    [part] = [part for part in message.walk() if part.get_filename() == name]
    assert part.get_payload(decode=True) == content


def test_what_was_not_mailed_is_mailed_later(folder: Path) -> None:
    """The server is away, then refuses, then takes it: the file is written once, and the mail is the same."""
    to = SETTLEMENT | {"mail_to": ["finance@example.org"]}
    with mail_server() as (mailbox, port):
        mailbox.refuses = "550 5.7.1 secret-of-the-server"
        refused = deliver(folder, to, mail=a_server(port))
        assert (refused.exit_code, mailbox.messages) == (1, [])
        assert "acme-day" in refused.output
        assert "secret-of-the-server" not in refused.output
    written = (folder / "out" / delivered(folder)[0]).stat().st_mtime_ns
    away = deliver(folder, to, mail=a_server(port))
    assert away.exit_code == 1
    assert "Traceback" not in away.output
    with mail_server() as (mailbox, port):
        assert deliver(folder, to, mail=a_server(port)).exit_code == 0
        assert len(mailbox.messages) == 1
    assert (folder / "out" / delivered(folder)[0]).stat().st_mtime_ns == written


def test_one_that_fails_holds_up_no_other(folder: Path) -> None:
    """No mail server for one, and the other one is there."""
    other = SETTLEMENT | {"name": "other", "format": "html", "locale": "de-AT"}
    done = deliver(folder, SETTLEMENT | {"mail_to": ["a@example.org"]}, other, mail=a_server(1))
    assert done.exit_code == 1
    assert f"other-{yesterday()}.html" in delivered(folder)
    page = (folder / "out" / f"other-{yesterday()}.html").read_text()
    assert "12,34" in page
    assert '<html lang="de-AT">' in page or "<html lang=de-AT>" in page


def test_mail_goes_only_to_a_server_with_a_good_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STARTTLS and a password from a file; with an unknown certificate nothing is sent, not even the password."""
    make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    given: list[tuple[bytes, bytes]] = []

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        given.append((data.login, data.password))
        return AuthResult(success=True)

    (folder / "password").write_text("correct horse\n")
    options = {"tls_context": context, "require_starttls": True, "authenticator": authenticate, "auth_required": True}
    server = {"security": "starttls", "user": "reports", "password_file": str(folder / "password")}
    to = SETTLEMENT | {"mail_to": ["finance@example.org"]}
    with mail_server(**options) as (mailbox, port):
        refused = deliver(folder, to, mail=a_server(port, **server))
        assert (refused.exit_code, given, mailbox.messages) == (1, [], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        done = deliver(folder, to, mail=a_server(port, **server))
        assert done.exit_code == 0, done.output
        assert (given, len(mailbox.messages)) == ([(b"reports", b"correct horse")], 1)


def test_it_goes_on_until_it_is_ended(folder: Path) -> None:
    """It delivers what is due at its start, says when the next one is, and ends at SIGTERM with exit code 0."""
    file = folder / "reports.yaml"
    file.write_text(yaml.safe_dump({"folder": str(folder / "out"), "reports": [SETTLEMENT]}))
    words = [sys.executable, "-m", "pipeline.cli", "report", "deliver", str(file)]
    environment = os.environ | {"PTR_DATABASE": f"sqlite:///{folder}/audit.db", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as child:
        try:
            assert child.stdout is not None
            said = [child.stdout.readline(), child.stdout.readline()]
            assert "the next report is due on" in said[1], said
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == 0
        finally:
            child.kill()
    assert delivered(folder) == [f"acme-day-{yesterday()}.csv"]
