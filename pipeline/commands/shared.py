"""What commands share: options of one name and meaning, and settings whose mistakes are errors in words."""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import click
import msgspec

from connectors.pic.options import PicSettingError
from connectors.pic.registry import UnknownPicError, abilities_of
from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.privacy.reading import RowReader
from connectors.registry import open_registry
from connectors.sinks.database import Database
from connectors.tenants.document import FILE_CHARS_MAX, parse_tenants
from pipeline.settings import Settings, SettingsError, load
from schemas.codec import Codec
from schemas.money import UnknownCurrencyError, format_amount
from schemas.tenant_rules import TenantRules

#: A character takes at most four bytes in UTF-8.
FILE_BYTES_MAX = 4 * FILE_CHARS_MAX

DAY_MS: Final = 24 * 60 * 60 * 1000
#: What a report is of when nobody says otherwise.
REPORT_DAYS: Final = 28
#: A report keeps a row a day, or a week, in memory: ten years of them are some thousand.
REPORT_DAYS_MAX: Final = 3_660

_AGO_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

broker_option = click.option(
    "--broker",
    metavar="HOST:PORT[,HOST:PORT]",
    help="Kafka bootstrap servers (default: PTR_BROKER, or 127.0.0.1:9092).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
archive_option = click.option(
    "--archive",
    "archive_folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the files of `ptr audit archive` are.",
)


class Since(click.ParamType):
    """``30m``, ``2h``, ``7d`` before now, or a time in ISO 8601; UTC where it names no zone. Epoch milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
            return int((time.time() - int(ago[1]) * _AGO_S[ago[2]]) * 1000)
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither 30m, 2h or 7d (before now) nor a time such as 2026-01-31T12:00", param, ctx)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def settings_with(**options: object) -> Settings:
    """Settings from the environment with ``options`` (None: not given) on top."""
    try:
        return load(**options)  # type: ignore[arg-type]
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def codec_of(settings: Settings) -> Codec:
    """The codec that workers with these settings use: Confluent framing with a schema registry, else single objects."""
    try:
        return Codec(open_registry(settings.schema_registry_url))
    except ValueError as error:  # its address
        raise click.ClickException(str(error)) from None


def masters_of(settings: Settings) -> MasterKeys | None:
    """The master keys that are given; None when there are none. Raises ``click.ClickException``."""
    if not settings.privacy_master_key:
        return None
    try:
        return MasterKeys.parse(settings.privacy_master_key)
    except MasterKeyError as error:
        raise click.ClickException(f"PTR_PRIVACY_MASTER_KEY: {error}") from None


def reader_of(database: Database, settings: Settings) -> RowReader:
    """What reads events of ``database``, and opens what is sealed where a master key is given. Raises ``DatabaseError``."""
    masters = masters_of(settings)
    return RowReader(database, masters, codec_of(settings) if masters else None)


def user_name() -> str:
    """Who runs this command, where nobody said so. Raises ``click.UsageError`` for a user without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have one
        raise click.UsageError("this user has no name here: say who decides with --by") from None


def tenants_in(text: str, name: str, settings: Settings) -> list[TenantRules]:
    """The tenants in the file ``name``, routed to the PICs of ``settings`` by what these can do.

    What a PIC can do is not known where its plugin misses a setting, as on a host without its secrets: then its routes are
    not checked by it, and that is told. Raises :class:`TenantFileError`.
    """
    abilities, unknown = {}, {}
    for pic in settings.pics:
        if pic in text:  # Others are not made: that may open files.
            try:
                abilities[pic] = abilities_of(pic)
            except (UnknownPicError, PicSettingError) as error:
                unknown[pic] = str(error)
    tenants = parse_tenants(text, name, pics=settings.pics, abilities=abilities)
    for pic, why in unknown.items():
        click.echo(f"routes to {pic} are not checked by what it can do: {why}", err=True)
    return tenants


def print_json(data: Any) -> None:
    """One indented document on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())


def day_ms(text: str) -> int:
    """The beginning of a day, UTC, written YYYY-MM-DD. Raises ``click.UsageError``."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise click.UsageError(f"{text!r} is no day: write YYYY-MM-DD") from None


_Command = TypeVar("_Command", bound=Callable[..., Any])


def report_days_options(command: _Command) -> _Command:
    """``--from`` and ``--to`` of a report, as ``from_`` and ``to``: read with :func:`report_range`."""
    first = f"First day (default: {REPORT_DAYS} days before --to)."
    command = click.option("--to", metavar="YYYY-MM-DD", help="The day after the last (default: tomorrow).")(command)
    return click.option("--from", "from_", metavar="YYYY-MM-DD", help=first)(command)


def report_range(
    from_: str | None, to: str | None, *, tomorrow_ms: int, begin_ms: Callable[[str], int]
) -> tuple[int, int]:
    """The times [from, until) of :func:`report_days_options`, in ms; ``begin_ms`` gives a day's beginning in its zone.

    Raises ``click.UsageError`` for days out of order or more than :data:`REPORT_DAYS_MAX` apart, and what ``begin_ms`` raises.
    """
    until_ms = begin_ms(to) if to else tomorrow_ms
    from_ms = begin_ms(from_) if from_ else until_ms - REPORT_DAYS * DAY_MS
    if not from_ms < until_ms <= from_ms + REPORT_DAYS_MAX * DAY_MS:
        raise click.UsageError(f"--from must be before --to, and at most {REPORT_DAYS_MAX} days before it")
    return from_ms, until_ms


def duration_of(seconds: int) -> str:
    """``45s``, ``12m``, ``3h``, ``2d``: rounded down to the largest unit; what clocks make negative is ``0s``."""
    for unit, size in (("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def day_of(at_ms: int) -> str:
    """The day of a time, UTC, as YYYY-MM-DD."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def read_text(file: BinaryIO) -> tuple[str, str]:
    """A configuration's text and the file's name. What is too large or no UTF-8 is an error in words."""
    name = str(getattr(file, "name", "<stdin>"))
    content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise click.ClickException(
            f"{name} is larger than {FILE_BYTES_MAX} bytes: apply several files one after the other."
        )
    try:
        return content.decode(), name
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise click.ClickException(f"{name}:{line}: the file is not UTF-8 text") from None


def shown_amount(amount_minor: int, currency: str) -> str:
    """An amount for people, also in a currency that is none."""
    try:
        return format_amount(amount_minor, currency)
    except UnknownCurrencyError:
        return f"{amount_minor} minor units of an unknown currency"
