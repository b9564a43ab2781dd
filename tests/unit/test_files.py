"""Files to PTRs: rules are read strictly, amounts are exact, times are UTC, bad rows are named and never shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from connectors.files import readers, source
from connectors.files.mapping import Mapping, MappingError, Refused, Why
from connectors.files.presets import PRESETS
from connectors.files.readers import FileError
from schemas.records import PaymentRequested

CONSTANTS = {
    "tenant": "acme",
    "payment_id": "p1",
    "amount_minor": "100",
    "currency": "EUR",
    "debtor.id": "d",
    "debtor.name": "D",
    "debtor.country": "DE",
    "creditor.id": "c",
    "creditor.name": "C",
    "creditor.country": "DE",
    "instrument.kind": "card",
    "instrument.token": "tok",
    "locality.country": "DE",
    "requested_at_ms": "1522540831000",
}
OPTIONAL = (
    "kind",
    "debtor.birth_date",
    "debtor.registration",
    "creditor.birth_date",
    "creditor.registration",
    "terminal_id",
    "channel",
    "locality.region",
    "locality.postcode",
    "locality.locale",
    "order_reference",
    "metadata.key",
)
RULES = [f"{name}:={text}" for name, text in CONSTANTS.items()]


def _map(rule: str, *values: object) -> list[PaymentRequested | Refused]:
    """What one rule on column C makes of values, all else constant."""
    mapping = Mapping.parse([*RULES, rule])
    return list(mapping.requests(range(1, len(values) + 1), {"C": list(values)}))


def _one(rule: str, value: object) -> PaymentRequested | Why:
    """The PTR, or why there is none; the refusal must name row 1 and the rule's field."""
    result = _map(rule, value)[0]
    if isinstance(result, PaymentRequested):
        return result
    assert (result.row, result.field) == (1, rule.split("=")[0].removesuffix(":"))
    return result.why


# -- rules


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("payment_id", "is no rule"),
        ("=C", "is no rule"),
        ("paymentid=C", "a PTR has no field paymentid"),
        ("debtor=C", "a PTR has no field debtor"),
        ("metadata.=C", "a PTR has no field metadata."),
        ("payment_id=", "name a column"),
        ("amount_minor=C*0", "factor must be from 1"),
        ("payment_id:=a{", "write {COLUMN}"),
        ("payment_id:=a{}b", "write {COLUMN}"),
        ("amount_minor:=12.5", "amount_minor: the constant is wrong (not_whole)"),
        ("tenant:=", "tenant: the constant is wrong (missing)"),
    ],
)
def test_a_wrong_rule_is_named(rule: str, said: str) -> None:
    """Every mistake in a rule is an error before any row is read, and says what is wrong."""
    with pytest.raises(MappingError) as raised:
        Mapping.parse([*RULES, rule])
    assert said in str(raised.value)


def test_every_field_without_a_default_needs_a_rule() -> None:
    """Nothing is made up: a name that was not given would be screened as nobody."""
    with pytest.raises(MappingError, match=r"no rule for debtor\.name, creditor\.country:"):
        Mapping.parse([rule for rule in RULES if not rule.startswith(("debtor.name", "creditor.country"))])


def test_the_later_rule_counts_and_columns_are_listed_once() -> None:
    """A preset is changed by adding a rule; only columns that are still used are read."""
    mapping = Mapping.parse([*RULES, "payment_id=X", "debtor.name:={A} {B} {A}", "payment_id=A"])
    assert sorted(mapping.columns) == ["A", "B"]


def test_templates_join_columns_and_keep_braces() -> None:
    """{COLUMN} stands for a value, whole numbers too; doubled braces are braces."""
    mapping = Mapping.parse([*RULES, "debtor.name:={{x}} {A}-{B}."])
    (request,) = mapping.requests([1], {"A": ["a"], "B": [7]})
    assert isinstance(request, PaymentRequested)
    assert request.debtor.name == "{x} a-7."
    assert list(mapping.requests([9], {"A": ["a"], "B": [None]})) == [Refused(9, "debtor.name", Why.MISSING)]


def test_optional_fields_keep_the_schema_s_defaults() -> None:
    """What is missing and may be missing is as if it had no rule; an optional note is left out."""
    missing: list[tuple[str, Any]] = [("terminal_id", ""), ("kind", "payment"), ("debtor.birth_date", None)]
    for field, default in missing:
        for value in (None, ""):
            request = _one(f"{field}=C", value)
            assert isinstance(request, PaymentRequested)
            found = request.debtor.birth_date if "." in field else getattr(request, field)
            assert found == default
    results = _map("metadata.shop=C", "x", None)
    assert [r.metadata for r in results if isinstance(r, PaymentRequested)] == [{"shop": "x"}, {}]


@pytest.mark.parametrize("value", [True, 1.0, 596.0, Decimal(5), {"a": 1}, [1], b"x", "caf\udce9"])
def test_text_fields_take_text_and_whole_numbers_only(value: object) -> None:
    """596.0 is no id, and bytes that are not UTF-8 are no text: refused, not bent."""
    assert _one("payment_id=C", value) is Why.NOT_TEXT


# -- amounts


@pytest.mark.parametrize(
    ("value", "minor"),
    [
        (57.16, 5716),
        (1108.8500000000001, 110885),
        (0.0, 0),
        (1.1, 110),
        (4.35, 435),
        (-3.3, -330),
        (12, 1200),
        ("57.16", 5716),
        ("1e2", 10000),
        (" 5", Why.NOT_A_NUMBER),
        ("1_000", Why.NOT_A_NUMBER),
        ("٣", Why.NOT_A_NUMBER),
        ("1,5", Why.NOT_A_NUMBER),
        ("NaN", Why.NOT_A_NUMBER),
        (float("nan"), Why.NOT_A_NUMBER),
        (float("inf"), Why.NOT_A_NUMBER),
        (True, Why.NOT_A_NUMBER),
        (Decimal("57.16"), 5716),
        (Decimal("NaN"), Why.NOT_A_NUMBER),
        ("1.005", Why.NOT_WHOLE),
        (1.005, Why.NOT_WHOLE),
        ("0.00999999", 1),
        ("0.0099999", Why.NOT_WHOLE),
        (2**63, Why.OUT_OF_RANGE),
        ("92233720368547758.07", 2**63 - 1),
        ("92233720368547758.08", Why.OUT_OF_RANGE),
        ("1e99", Why.OUT_OF_RANGE),
        (1e300, Why.OUT_OF_RANGE),
        ("9" * 41, Why.NOT_A_NUMBER),
        (None, Why.MISSING),
        ("", Why.MISSING),
    ],
)
def test_amounts_become_minor_units_exactly(value: object, minor: int | Why) -> None:
    """Times 100 in decimals; what is not whole within a millionth of a minor unit is refused, never rounded away."""
    result = _one("amount_minor=C*100", value)
    assert (result.amount_minor if isinstance(result, PaymentRequested) else result) == minor


def test_without_a_factor_an_amount_must_be_whole() -> None:
    """5.5 minor units do not exist."""
    assert _one("amount_minor=C", 5.5) is Why.NOT_WHOLE
    assert [r.amount_minor for r in _map("amount_minor=C", 5, 5.0, "5") if isinstance(r, PaymentRequested)] == [5, 5, 5]


@given(st.integers(-(10**9), 10**9))
def test_every_amount_with_two_decimals_survives_a_float(minor: int) -> None:
    """Cents written as a binary fraction come back as the same cents."""
    result = _one("amount_minor=C*100", minor / 100)
    assert isinstance(result, PaymentRequested)
    assert result.amount_minor == minor


@given(st.floats(-1e9, 1e9), st.sampled_from([1, 100, 1000]))
def test_floats_agree_with_exact_fractions(value: float, factor: int) -> None:
    """The fast way gives what exact arithmetic on the shortest decimal gives."""
    product = Fraction(repr(value)) * factor
    near = round(product)  # half to even
    expected = near if abs(product - near) <= Fraction(1, 10**6) else Why.NOT_WHOLE
    result = _one(f"amount_minor=C*{factor}", value)
    assert (result.amount_minor if isinstance(result, PaymentRequested) else result) == expected


# -- times


@pytest.mark.parametrize(
    ("value", "at_ms"),
    [
        ("2018-04-01T00:00:31", 1522540831000),
        ("2018-04-01 00:00:31Z", 1522540831000),
        ("2018-04-01T02:00:31+02:00", 1522540831000),
        ("2018-04-01T00:00:31.9999", 1522540831999),
        ("2018-04-01", 1522540800000),
        ("1522540831000", 1522540831000),
        (1522540831000, 1522540831000),
        (datetime(2018, 4, 1, 0, 0, 31), 1522540831000),
        (datetime(2018, 4, 1, 2, 0, 31, tzinfo=timezone(timedelta(hours=2))), 1522540831000),
        (date(2018, 4, 1), 1522540800000),
        (1522540831, Why.NOT_A_TIME),
        ("20180401", Why.NOT_A_TIME),
        ("01.04.2018", Why.NOT_A_TIME),
        ("soon", Why.NOT_A_TIME),
        (True, Why.NOT_A_TIME),
        (None, Why.MISSING),
        ("", Why.MISSING),
    ],
)
def test_times_become_epoch_milliseconds(value: object, at_ms: int | Why) -> None:
    """ISO 8601, a date and time, or epoch milliseconds; UTC unless it says otherwise. (`date -u -d @1522540831`.)"""
    result = _one("requested_at_ms=C", value)
    assert (result.requested_at_ms if isinstance(result, PaymentRequested) else result) == at_ms


def test_epoch_seconds_take_a_factor() -> None:
    """Seconds are milliseconds times 1000, fractions too."""
    results = _map("requested_at_ms=C*1000", 1522540831, "1522540831.25", 1522540831.25)
    assert [r.requested_at_ms for r in results if isinstance(r, PaymentRequested)] == [
        1522540831000,
        1522540831250,
        1522540831250,
    ]


# -- files


def _read(path: Path, rules: Sequence[str] | None, **part: Any) -> list[tuple[int, PaymentRequested | Refused]]:
    mapping = None if rules is None else Mapping.parse(rules)
    pages = source.read(path, source.format_of(path), mapping, **part)
    return [pair for page in pages for pair in zip(page.rows, page.items, strict=True)]


def _amounts(found: list[tuple[int, PaymentRequested | Refused]]) -> list[tuple[int, int | str]]:
    return [
        (row, item.amount_minor if isinstance(item, PaymentRequested) else f"{item.field}:{item.why}")
        for row, item in found
    ]


def test_csv_rows_are_found_by_line(tmp_path: Path) -> None:
    """Quoted cells may hold commas and line ends; a row is named by the line where it begins; blank lines are none."""
    file = tmp_path / "f.csv"
    file.write_bytes(
        b'\xef\xbb\xbfA,N\r\n1,"x, ""y"""\r\n\r\n2,"two\nlines"\r\n3\r\n4,\xff\r\nx,z\r\n5,caf\xc3\xa9\r\n'
    )
    found = _read(file, [*RULES, "amount_minor=A", "debtor.name=N"])
    assert _amounts(found) == [
        (2, 1),
        (4, 2),
        (6, ":wrong_columns"),
        (7, "debtor.name:not_text"),
        (8, "amount_minor:not_a_number"),
        (9, 5),
    ]
    names = [item.debtor.name for _, item in found if isinstance(item, PaymentRequested)]
    assert names == ['x, "y"', "two\nlines", "café"]


def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    """A misspelt column is a mistake in the rules, not a file of bad rows."""
    (tmp_path / "f.csv").write_text("A,B\n1,2\n")
    parquet.write_table(pa.table({"A": [1], "B": [2]}), tmp_path / "f.parquet")
    for name in ("f.csv", "f.parquet"):
        with pytest.raises(FileError, match="has no column C; it has A, B"):
            _read(tmp_path / name, [*RULES, "amount_minor=C"])
    (tmp_path / "g.csv").write_text("A,A\n1,2\n")
    with pytest.raises(FileError, match="more than one column A"):
        _read(tmp_path / "g.csv", [*RULES, "amount_minor=A"])


def test_json_numbers_keep_every_digit(tmp_path: Path) -> None:
    """JSON numbers are read as decimals: no digit of a large amount is lost; names with dots reach inside."""
    file = tmp_path / "f.jsonl"
    file.write_text(
        '{"o": {"total": 90071992547409.93}}\n\n[1]\n{"o": {"total": 1e999999999999999999999}}\n'
        '{"o": 3}\n{"o.total": 2}\n'
    )
    assert _amounts(_read(file, [*RULES, "amount_minor=o.total*100"])) == [
        (1, 9007199254740993),
        (3, ":not_json"),
        (4, ":not_json"),
        (5, "amount_minor:missing"),
        (6, 200),
    ]


def _ptr(**changes: object) -> dict[str, Any]:
    party = {"id": "a", "name": "A", "country": "DE"}
    return {
        "tenant": "acme",
        "payment_id": "p1",
        "amount_minor": 7,
        "currency": "EUR",
        "debtor": party,
        "creditor": party,
        "instrument": {"kind": "card", "token": "t"},
        "locality": {"country": "DE"},
        "requested_at_ms": 1522540831000,
        **changes,
    }


def test_json_lines_of_ptrs_are_read_strictly(tmp_path: Path) -> None:
    """The PTR's shape exactly: nothing coerced, nothing unknown (a misspelt field would be lost), nothing shown."""
    file = tmp_path / "f.jsonl"
    lines = [
        json.dumps(_ptr()),
        json.dumps(_ptr(amount_minor="7")),
        json.dumps(_ptr(amount_minor=7.0)),
        json.dumps(_ptr(terminalid="x")),
        json.dumps(_ptr(debtor={"id": "a", "name": "A", "country": "DE", "birthdate": "x"})),
        json.dumps(_ptr(debtor={"id": "a", "country": "DE"})),
        json.dumps(_ptr(metadata={"k": 1})),
        '{"tenant": ',
        json.dumps({k: v for k, v in _ptr().items() if k != "payment_id"}),
    ]
    file.write_text("\n".join(lines))
    assert _amounts(_read(file, None)) == [
        (1, 7),
        (2, "amount_minor:wrong_type"),
        (3, "amount_minor:wrong_type"),
        (4, ":unknown_field"),
        (5, "debtor:unknown_field"),
        (6, "debtor.name:missing"),
        (7, "metadata[...]:wrong_type"),
        (8, ":not_json"),
        (9, "payment_id:missing"),
    ]


def test_a_line_without_an_end_is_refused_and_not_kept(tmp_path: Path) -> None:
    """A line of three megabytes is one bad row; the next line is read as usual."""
    file = tmp_path / "f.jsonl"
    with file.open("w") as out:
        out.write("x" * (3 * readers.LINE_BYTES_MAX) + "\n" + json.dumps(_ptr()) + "\n")
    assert _amounts(_read(file, None)) == [(1, ":line_too_long"), (2, 7)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, None, range(12_000)),
        (0, 3, range(3)),
        (4_998, 5, range(4_998, 5_003)),
        (11_999, 10, range(11_999, 12_000)),
        (12_000, 10, range(0)),
        (50_000, None, range(0)),
    ],
)
def test_offset_and_limit_cut_the_same_rows_from_every_format(
    tmp_path: Path, suffix: str, offset: int, limit: int | None, expected: range
) -> None:
    """Over the borders of batches and row groups alike, and past the end."""
    file = tmp_path / f"f.{suffix}"
    if suffix == "csv":
        file.write_text("A\n" + "".join(f"{n}\n" for n in range(12_000)))
    elif suffix == "jsonl":
        file.write_text("".join(f'{{"A": {n}}}\n' for n in range(12_000)))
    else:
        parquet.write_table(pa.table({"A": list(range(12_000))}), file, row_group_size=5_000)
    found = _amounts(_read(file, [*RULES, "amount_minor=A"], offset=offset, limit=limit))
    first_row = 2 if suffix == "csv" else 1
    assert found == [(n + first_row, n) for n in expected]


def test_parquet_types_are_read_as_what_they_are(tmp_path: Path) -> None:
    """Times of any unit and zone, decimals, dictionaries and nulls."""
    at = datetime(2018, 4, 1, 0, 0, 31, 250_000, tzinfo=UTC)
    table = pa.table(
        {
            "NS": pa.array([at.replace(tzinfo=None)] * 2, pa.timestamp("ns")),
            "ZONE": pa.array([at] * 2, pa.timestamp("us", tz="Europe/Berlin")),
            "S": pa.array([at.replace(tzinfo=None)] * 2, pa.timestamp("s")),
            "DAY": pa.array([at.date()] * 2, pa.date32()),
            "DEC": pa.array([Decimal("12.34"), None], pa.decimal128(38, 2)),
            "CAT": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    file = tmp_path / "f.parquet"
    parquet.write_table(table, file)
    for column, at_ms in (("NS", 1522540831250), ("ZONE", 1522540831250), ("S", 1522540831000), ("DAY", 1522540800000)):
        items = [item for _, item in _read(file, [*RULES, f"requested_at_ms={column}", "payment_id=CAT"])]
        assert [i.requested_at_ms for i in items if isinstance(i, PaymentRequested)] == [at_ms, at_ms]
        assert [i.payment_id for i in items if isinstance(i, PaymentRequested)] == ["a", "b"]
    assert _amounts(_read(file, [*RULES, "amount_minor=DEC*100"])) == [(1, 1234), (2, "amount_minor:missing")]


def test_what_is_no_file_of_its_kind_is_an_error(tmp_path: Path) -> None:
    """An unknown suffix, a Parquet file that is none, and a table without a mapping each say so."""
    (tmp_path / "f.parquet").write_text("no")
    with pytest.raises(FileError, match="is not a Parquet file"):
        _read(tmp_path / "f.parquet", [*RULES, "amount_minor=A"])
    with pytest.raises(FileError, match=r"does not end in \.jsonl"):
        source.format_of(tmp_path / "f.xlsx")
    with pytest.raises(FileError, match="needs a mapping"):
        list(source.read(tmp_path / "f.csv", "csv", None))
    with pytest.raises(FileError, match="cannot be read"):
        _read(tmp_path / "absent.jsonl", None)


def test_presets_are_complete() -> None:
    """Every preset is a mapping that parses."""
    for rules in PRESETS.values():
        assert Mapping.parse(rules).columns


def test_a_constant_mapping_gives_the_ptr_as_written() -> None:
    """The whole PTR, field by field: each rule sets its own field."""
    texts = {
        field: f"<{field}>" for field in (*CONSTANTS, *OPTIONAL) if field not in ("amount_minor", "requested_at_ms")
    }
    (request,) = Mapping.parse([*RULES, *(f"{field}:={text}" for field, text in texts.items())]).requests([1], {})
    data = msgspec.to_builtins(request)
    for field, text in texts.items():
        outer, _, inner = field.partition(".")
        assert (data[outer][inner] if inner else data[outer]) == text
    assert (data["amount_minor"], data["requested_at_ms"]) == (100, 1522540831000)
    assert sum(len(v) if isinstance(v, dict) else 1 for v in data.values()) == len(texts) + 2
