"""From the columns of any table to PTRs, by rules that a person can read. Pure: no files, no clock.

A rule is a line of text:

``FIELD=COLUMN``
    The value of a column. ``FIELD=COLUMN*100`` multiplies a number, exactly: amounts become minor units, epoch seconds
    become milliseconds with ``*1000``.
``FIELD:=TEXT``
    A constant; ``{COLUMN}`` in it stands for the value of a column, ``{{`` and ``}}`` for braces.

``FIELD`` is a field of the PTR, with dots for what is inside: ``debtor.id``, ``metadata.shop``. Every field without a
default in the schema must have a rule, names and countries too: screening looks at them, so nothing is made up.

Values are taken as they are, never bent: text fields take text and whole numbers; number fields take numbers, or text
that is one; ``requested_at_ms`` takes ISO 8601 text (without an offset it is UTC), a date and time, or a whole number
of epoch milliseconds, from 1973 on (a smaller number is seconds, or a date without dashes). A null or an empty text
counts as missing, and an optional field then keeps the schema's default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from itertools import repeat
from typing import Any

from schemas.records import Instrument, Locality, Party, PaymentRequested

#: A product this close to a whole number is that number: what is beyond it is noise of binary fractions.
WHOLE_WITHIN = Decimal("0.000001")
#: Avro's long.
LONG_MAX = 2**63 - 1
#: Digits of a number given as text; 2^63 has 19.
NUMBER_CHARS_MAX = 40
FACTOR_MAX = 10**9
#: 1973-03-03. Epoch seconds (until the year 5138) and dates such as 20180401 are below it and would be taken for 1970.
EPOCH_MS_MIN = 10**11

#: Enough digits to multiply any accepted number by any accepted factor without rounding.
_EXACT = Context(prec=80)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?\Z")
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_TIMES = re.compile(r"(.+)\*([0-9]+)\Z", re.DOTALL)
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Why(StrEnum):
    """Why a row cannot become a PTR; safe to show."""

    MISSING = "missing"
    NOT_A_NUMBER = "not_a_number"
    NOT_WHOLE = "not_whole"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_TIME = "not_a_time"
    NOT_TEXT = "not_text"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    WRONG_COLUMNS = "wrong_columns"
    NOT_JSON = "not_json"
    NOT_CSV = "not_csv"
    LINE_TOO_LONG = "line_too_long"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not a PTR: where it is and what is wrong, never what it holds."""

    #: Line of a text file, row of a Parquet file; both from 1.
    row: int
    #: The PTR's field, empty when the whole row is wrong.
    field: str
    why: Why


class MappingError(ValueError):
    """A rule is wrong, or one is lacking; the text names it."""


class _Bad:
    """Stands in a converted column for a value that is not what the field takes."""

    __slots__ = ("why",)

    def __init__(self, why: Why) -> None:
        self.why = why


_BAD = {why: _Bad(why) for why in Why}
_MISSING = _BAD[Why.MISSING]

Columns = dict[str, Sequence[object]]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Where one field's value comes from: a column (times a factor), or text with columns in it."""

    field: str
    #: Constant texts and columns in turn: text, column, text, ... ; a plain column is ("", column, "").
    parts: tuple[str, ...]
    factor: int
    is_text: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return self.parts[1::2]


class _Fields:
    """The fields of a PTR by name, as the schema has them."""

    PARTY = ("id", "name", "country", "birth_date", "registration")
    NUMBERS = ("amount_minor", "requested_at_ms")
    TIMES = ("requested_at_ms",)
    REQUIRED = (
        "tenant",
        "payment_id",
        "amount_minor",
        "currency",
        "debtor.id",
        "debtor.name",
        "debtor.country",
        "creditor.id",
        "creditor.name",
        "creditor.country",
        "instrument.kind",
        "instrument.token",
        "locality.country",
        "requested_at_ms",
    )
    #: With the schema's defaults.
    OPTIONAL: dict[str, str | None] = {
        "kind": "payment",
        "debtor.birth_date": None,
        "debtor.registration": None,
        "creditor.birth_date": None,
        "creditor.registration": None,
        "terminal_id": "",
        "channel": "",
        "locality.region": "",
        "locality.postcode": "",
        "locality.locale": "",
        "order_reference": "",
    }


METADATA = "metadata."


def _parse(text: str) -> _Rule:
    field, sign, source = text.partition("=")
    is_text = field.endswith(":")
    field = field.removesuffix(":").strip()
    if not sign or not field:
        raise MappingError(f"{text!r} is no rule: write FIELD=COLUMN, FIELD=COLUMN*100 or FIELD:=TEXT")
    known = field in _Fields.REQUIRED or field in _Fields.OPTIONAL
    if not known and not (field.startswith(METADATA) and field != METADATA):
        names = ", ".join([*_Fields.REQUIRED, *_Fields.OPTIONAL])
        raise MappingError(f"{text!r}: a PTR has no field {field}; it has {names}, metadata.KEY")
    if is_text:
        return _Rule(field, _template(text, source), 1, is_text=True)
    column, factor = source, 1
    if field in _Fields.NUMBERS and (times := _TIMES.match(source)):
        column, factor = times[1], int(times[2])
        if not 1 <= factor <= FACTOR_MAX:
            raise MappingError(f"{text!r}: the factor must be from 1 to {FACTOR_MAX}")
    if not column:
        raise MappingError(f"{text!r}: name a column after the equals sign, or use := for a constant")
    return _Rule(field, ("", column, ""), factor, is_text=False)


def _template(rule: str, text: str) -> tuple[str, ...]:
    """Texts and columns in turn, beginning and ending with a text."""
    parts, at = [""], 0
    for found in _BRACES.finditer(text):
        parts[-1] += text[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            parts[-1] += found[0][0]
        elif found[1]:
            parts += [found[1], ""]
        else:
            raise MappingError(f"{rule!r}: write {{COLUMN}} for a column, {{{{ and }}}} for braces")
    parts[-1] += text[at:]
    return tuple(parts)


class Mapping:
    """Rules that make a PTR of a row; made by :meth:`parse`."""

    def __init__(self, rules: dict[str, _Rule]) -> None:
        self._rules = rules
        #: The columns that it reads, in the order of the rules.
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(c for rule in rules.values() for c in rule.columns))
        self._metadata = [rule for field, rule in rules.items() if field.startswith(METADATA)]

    @classmethod
    def parse(cls, rules: Iterable[str]) -> Mapping:
        """Read rules; of two for the same field the later one counts. Raises :class:`MappingError`."""
        parsed = {rule.field: rule for rule in map(_parse, rules)}
        if lacking := [field for field in _Fields.REQUIRED if field not in parsed]:
            raise MappingError(f"no rule for {', '.join(lacking)}: a PTR must have them")
        for rule in parsed.values():
            if rule.is_text and not rule.columns and isinstance(bad := _convert(rule, rule.parts[0]), _Bad):
                raise MappingError(f"{rule.field}: the constant is wrong ({bad.why})")
        return cls(parsed)

    def requests(self, rows: Sequence[int], columns: Columns) -> Iterator[PaymentRequested | Refused]:
        """A PTR or a refusal per row, in order.

        ``rows`` says where each row is in its file; ``columns`` holds the :attr:`columns`, each as long as ``rows``.
        """
        number = len(rows)
        bad_rows: dict[int, Refused] = {}

        def take(field: str) -> Iterable[Any]:
            rule = self._rules.get(field)
            if rule is None:
                return repeat(_Fields.OPTIONAL[field], number)
            values = _values(rule, columns, number)
            if isinstance(values, repeat):
                return values
            return self._checked(rule, values, rows, bad_rows)

        tenants, payment_ids, kinds = take("tenant"), take("payment_id"), take("kind")
        amounts, currencies = take("amount_minor"), take("currency")
        debtors = [take(f"debtor.{name}") for name in _Fields.PARTY]
        creditors = [take(f"creditor.{name}") for name in _Fields.PARTY]
        terminals, channels = take("terminal_id"), take("channel")
        instruments = [take("instrument.kind"), take("instrument.token")]
        localities = [take(f"locality.{name}") for name in ("country", "region", "postcode", "locale")]
        references, times = take("order_reference"), take("requested_at_ms")
        notes = [(rule.field.removeprefix(METADATA), take(rule.field)) for rule in self._metadata]
        metadata: Iterable[dict[str, str]] = repeat({}, number)
        if notes:
            keys = [key for key, _ in notes]
            # A missing note is no note.
            metadata = (
                {key: text for key, text in zip(keys, texts, strict=True) if text is not None}
                for texts in zip(*[values for _, values in notes], strict=True)
            )
        for at, (
            (tenant, payment_id, kind, amount_minor, currency),
            debtor,
            creditor,
            (terminal_id, channel, order_reference, requested_at_ms),
            instrument,
            locality,
            data,
        ) in enumerate(
            zip(
                zip(tenants, payment_ids, kinds, amounts, currencies, strict=True),
                zip(*debtors, strict=True),
                zip(*creditors, strict=True),
                zip(terminals, channels, references, times, strict=True),
                zip(*instruments, strict=True),
                zip(*localities, strict=True),
                metadata,
                strict=True,
            )
        ):
            if bad_rows and at in bad_rows:
                yield bad_rows[at]
                continue
            yield PaymentRequested(
                tenant=tenant,
                payment_id=payment_id,
                kind=kind,
                amount_minor=amount_minor,
                currency=currency,
                debtor=_party(debtor),
                creditor=_party(creditor),
                terminal_id=terminal_id,
                channel=channel,
                instrument=Instrument(kind=instrument[0], token=instrument[1]),
                locality=Locality(country=locality[0], region=locality[1], postcode=locality[2], locale=locality[3]),
                order_reference=order_reference,
                metadata=data,
                requested_at_ms=requested_at_ms,
            )

    def _checked(self, rule: _Rule, values: list[Any], rows: Sequence[int], bad_rows: dict[int, Refused]) -> list[Any]:
        """Defaults for what is missing and optional; rows with anything else bad are noted in ``bad_rows``."""
        if _Bad not in set(map(type, values)):
            return values
        is_required = rule.field in _Fields.REQUIRED
        default = _Fields.OPTIONAL.get(rule.field)
        for at, value in enumerate(values):
            if type(value) is not _Bad:
                continue
            if value is _MISSING and not is_required:
                values[at] = default
            else:
                bad_rows.setdefault(at, Refused(rows[at], rule.field, value.why))
        return values


def _party(values: tuple[Any, ...]) -> Party:
    return Party(id=values[0], name=values[1], country=values[2], birth_date=values[3], registration=values[4])


def _values(rule: _Rule, columns: Columns, number: int) -> list[Any] | repeat[Any]:
    """The field's values, converted; a constant is repeated."""
    if not rule.columns:
        return repeat(_convert(rule, rule.parts[0]), number)
    if not rule.is_text:
        return _converter(rule)(columns[rule.columns[0]])
    texts = [[_text(value) for value in columns[column]] for column in rule.columns]
    joined: list[Any]
    if len(texts) == 1:
        before, after = rule.parts[0], rule.parts[2]
        joined = [before + t + after if type(t) is str else t for t in texts[0]]
    else:
        joined = [_join(rule.parts, row) for row in zip(*texts, strict=True)]
    if rule.field not in _Fields.NUMBERS:
        return joined
    return [value if type(value) is _Bad else _convert(rule, value) for value in joined]


def _join(parts: tuple[str, ...], texts: tuple[str | _Bad, ...]) -> str | _Bad:
    out = [parts[0]]
    for text, after in zip(texts, parts[2::2], strict=True):
        if isinstance(text, _Bad):
            return text
        out += (text, after)
    return "".join(out)


def _convert(rule: _Rule, value: object) -> Any:
    return _converter(rule)([value])[0]


def _converter(rule: _Rule) -> Callable[[Sequence[object]], list[Any]]:
    if rule.field in _Fields.TIMES:
        return lambda values: [_epoch_ms(value, rule.factor) for value in values]
    if rule.field in _Fields.NUMBERS:
        return lambda values: [_whole(value, rule.factor) for value in values]
    return lambda values: [_text(value) for value in values]


def _text(value: object) -> str | _Bad:
    kind = type(value)
    if kind is str:
        text: str = value  # type: ignore[assignment]
        if not text:
            return _MISSING
        return text if text.isascii() or _is_unicode(text) else _BAD[Why.NOT_TEXT]
    if kind is int:
        return str(value)
    return _MISSING if value is None else _BAD[Why.NOT_TEXT]


def _is_unicode(text: str) -> bool:
    """Without the stand-ins for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(value: object, factor: int) -> int | _Bad:
    """``value * factor`` as a whole number: exact, of the shortest decimal that a float stands for."""
    kind = type(value)
    if kind is float:
        product: float = value * factor  # type: ignore[operator]
        # Both roundings that happened are far smaller than the difference to WHOLE_WITHIN, so that this agrees with the
        # decimal calculation below.
        if -1e9 < product < 1e9 and abs(product - (near := round(product))) < 5e-7:
            return near
        return _whole_decimal(Decimal(repr(value)), factor)
    if kind is int:
        result: int = value * factor  # type: ignore[operator]
        return result if abs(result) <= LONG_MAX else _BAD[Why.OUT_OF_RANGE]
    if kind is str:
        text: str = value  # type: ignore[assignment]
        if not text:
            return _MISSING
        if len(text) > NUMBER_CHARS_MAX or not _NUMBER.match(text):
            return _BAD[Why.NOT_A_NUMBER]
        return _whole_decimal(Decimal(text), factor)
    if isinstance(value, Decimal):
        return _whole_decimal(value, factor)
    return _MISSING if value is None else _BAD[Why.NOT_A_NUMBER]


def _whole_decimal(value: Decimal, factor: int) -> int | _Bad:
    if not value.is_finite():
        return _BAD[Why.NOT_A_NUMBER]
    if value.adjusted() > NUMBER_CHARS_MAX:
        return _BAD[Why.OUT_OF_RANGE]
    product = _EXACT.multiply(value, factor)
    if abs(product) > LONG_MAX:
        return _BAD[Why.OUT_OF_RANGE]
    near = product.to_integral_value(ROUND_HALF_EVEN)
    if abs(_EXACT.subtract(product, near)) > WHOLE_WITHIN:
        return _BAD[Why.NOT_WHOLE]
    return int(near)


def _epoch_ms(value: object, factor: int) -> int | _Bad:
    """Epoch milliseconds, rounded down; a time without an offset is UTC."""
    if type(value) is str and value:
        if _INTEGER.match(value) or factor != 1:
            return _epoch_number(value, factor)
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return _BAD[Why.NOT_A_TIME]
    if isinstance(value, date):
        if factor != 1:
            return _BAD[Why.NOT_A_NUMBER]
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return (value - _EPOCH) // _MILLISECOND
    if value is None or value == "":
        return _MISSING
    return _epoch_number(value, factor)


def _epoch_number(value: object, factor: int) -> int | _Bad:
    result = _whole(value, factor)
    if isinstance(result, int):
        return result if result >= EPOCH_MS_MIN else _BAD[Why.NOT_A_TIME]
    return _BAD[Why.NOT_A_TIME] if result.why is Why.NOT_A_NUMBER else result
