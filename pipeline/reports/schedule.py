"""Which reports are due when, and where they go: a file as people write it. Pure.

A report of a day is due at its time on the day after, one of a week on Monday, one of a month on the first; what was not
delivered then is delivered later, the last period only.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml

from pipeline.reports.events import Days, UnknownZoneError
from pipeline.reports.sheet_page import UnknownLanguageError, Writing
from schemas.identity import TENANT_PATTERN

#: It bounds the time that reading takes; some hundred reports.
FILE_CHARS_MAX: Final = 256 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}\Z")
_AT: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z")
_ADDRESS: Final = re.compile(r"[^\s@<>,;\"]{1,64}@[A-Za-z0-9.-]{1,253}\Z")


class ScheduleError(ValueError):
    """The file is refused; the text says where and why."""


class _Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing that is not known is passed over."""


class MailServer(_Words, frozen=True, kw_only=True):
    """Who takes mail. The password is in a file, never here."""

    host: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str
    user: str = ""
    password_file: str = ""


class Scheduled(_Words, frozen=True, kw_only=True):
    """One report, again and again."""

    #: Of the files, and in the subject.
    name: str
    report: Literal["settlement", "fees", "declines", "queues", "inventory", "invoices", "latency"]
    every: Literal["day", "week", "month"]
    at: str = "06:00"
    tenant: str = ""
    timezone: str = "UTC"
    locale: str = ""
    format: Literal["html", "csv", "parquet", "json", "table"] = "html"
    mail_to: list[str] = []


class Schedule(_Words, frozen=True, kw_only=True):
    """A whole file."""

    #: Where the files go; what is there was delivered.
    folder: str
    #: Where `ptr audit archive` moved events that are to be counted too.
    archive: str | None = None
    mail: MailServer | None = None
    reports: list[Scheduled]


class Period(msgspec.Struct, frozen=True):
    """Days [first, until), and when their report is due."""

    first: date
    until: date
    due: datetime


def parse(text: str, source: str) -> Schedule:
    """The schedule in ``text``. Raises :class:`ScheduleError`, which names ``source``."""
    if len(text) > FILE_CHARS_MAX:
        raise ScheduleError(f"{source}: longer than {FILE_CHARS_MAX} characters")
    try:
        read: Any = yaml.safe_load(text)
        schedule = msgspec.convert(read, Schedule)
    except yaml.YAMLError as error:
        raise ScheduleError(f"{source}: {error}") from None
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise ScheduleError(f"{source}: {error}") from None
    mistakes = [f"{source}: {mistake}" for mistake in _mistakes(schedule)]
    if mistakes:
        raise ScheduleError("\n".join(mistakes))
    return schedule


def _mistakes(schedule: Schedule) -> list[str]:
    found = []
    names = [scheduled.name for scheduled in schedule.reports]
    if not schedule.reports:
        found.append("reports: there is none")
    for place, scheduled in enumerate(schedule.reports):
        where = f"reports[{place}]"
        if not _NAME.match(scheduled.name):
            found.append(f"{where}.name: small letters, digits, - and _, at most 80")
        elif names.index(scheduled.name) != place:
            found.append(f"{where}.name: {scheduled.name} is taken")
        if not _AT.match(scheduled.at):
            found.append(f"{where}.at: write HH:MM, in quotes")
        if scheduled.tenant and not TENANT_PATTERN.match(scheduled.tenant):
            found.append(f"{where}.tenant: not a tenant's id")
        try:
            Days(scheduled.timezone)
            Writing(scheduled.locale)
        except (UnknownZoneError, UnknownLanguageError) as error:
            found.append(f"{where}: {error}")
        if scheduled.mail_to and schedule.mail is None:
            found.append(f"{where}.mail_to: there is no mail server under mail")
        if not all(_ADDRESS.match(address) for address in scheduled.mail_to):
            found.append(f"{where}.mail_to: plain addresses, as name@example.org")
    if schedule.archive is not None and not schedule.archive.strip():
        found.append("archive: name a folder, or leave it out")
    mail = schedule.mail
    if mail is not None:
        if not _ADDRESS.match(mail.sender):
            found.append("mail.sender: a plain address, as reports@example.org")
        if bool(mail.user) != bool(mail.password_file):
            found.append("mail: user and password_file go together")
        if mail.user and mail.security == "none":
            found.append("mail: a password is not sent without encryption")
        if not 0 < mail.port < 65536:
            found.append("mail.port: 1 to 65535")
    return found


def last_due(scheduled: Scheduled, now: datetime) -> Period:
    """The newest period whose report is due at ``now`` (with a time zone)."""
    zone = ZoneInfo(scheduled.timezone)
    begin = _begin(scheduled.every, now.astimezone(zone).date())
    while True:
        due = datetime.combine(begin, time.fromisoformat(scheduled.at), zone)
        before = _begin(scheduled.every, begin - timedelta(days=1))
        if due.astimezone(UTC) <= now:
            return Period(before, begin, due)
        begin = before


def next_due(scheduled: Scheduled, now: datetime) -> datetime:
    """When the next report is due after ``now``."""
    zone = ZoneInfo(scheduled.timezone)
    begin = last_due(scheduled, now).until
    while True:
        begin = _following(scheduled.every, begin)
        due = datetime.combine(begin, time.fromisoformat(scheduled.at), zone)
        if due.astimezone(UTC) > now:
            return due


def _begin(every: str, day: date) -> date:
    match every:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
    return day


def _following(every: str, begin: date) -> date:
    match every:
        case "week":
            return begin + timedelta(days=7)
        case "month":
            return (begin + timedelta(days=32)).replace(day=1)
    return begin + timedelta(days=1)
