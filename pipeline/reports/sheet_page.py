"""A sheet for people: as a page with charts, in a locale's numbers and dates, or as cells of a terminal's table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from html import escape
from typing import Any, Final

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_decimal, format_percent

from pipeline.reports import charts
from pipeline.reports.charts import Series
from pipeline.reports.page import DARK, LIGHT, MIDDLE, RED, document, table
from pipeline.reports.sheet import Chart, Column, Row, Sheet
from schemas.money import MINOR_UNITS

#: Bars of a chart; the table has all rows.
_BARS: Final = 15
#: Currencies that get a chart of their own, those with most in them.
_CHARTS: Final = 4
_COLOURS: Final = (DARK, MIDDLE, LIGHT, RED, "#009e73", "#1a1a1a", "#999999")
_EMPTY: Final = {None, ""}


class UnknownLanguageError(ValueError):
    """No locale of the CLDR."""


class Writing:
    """How values are written: plainly for a terminal, or as a locale writes them."""

    def __init__(self, locale: str = "") -> None:
        """``locale`` as de-AT or de_AT; empty is plain. Raises :class:`UnknownLanguageError`."""
        self._locale: Locale | None = None
        if locale:
            try:
                self._locale = Locale.parse(locale.replace("-", "_"))
            except (UnknownLocaleError, ValueError, TypeError):
                raise UnknownLanguageError(f"{locale!r} is no locale: write one as de-AT") from None

    @property
    def language(self) -> str:
        """For HTML."""
        return str(self._locale).replace("_", "-") if self._locale else "en"

    def cell(self, column: Column, value: Any, currency: str | None) -> str:
        """One value, of a row in ``currency``."""
        if value in _EMPTY and value != 0:
            return ""
        if column.name == "day":
            return self.day(value)
        match column.kind:
            case "minor":
                return self._number(major(value, currency or ""), MINOR_UNITS.get(currency or "", 0))
            case "share":
                return format_percent(value, "#,##0.00%", locale=self._locale) if self._locale else f"{value:.2%}"
            case "count" | "ms":
                return self._number(Decimal(value), 0)
        return str(value)

    def row(self, sheet: Sheet, row: Row) -> list[str]:
        """All cells of a row."""
        currency = currency_of(sheet, row)
        return [self.cell(column, value, currency) for column, value in zip(sheet.columns, row, strict=True)]

    def day(self, day: str) -> str:
        """A day, YYYY-MM-DD or a word."""
        if self._locale is None or not day[:1].isdigit():
            return day
        return format_date(date.fromisoformat(day), "short", self._locale)

    def _number(self, value: Decimal, decimals: int) -> str:
        if self._locale is None:
            return f"{value:,.{decimals}f}"
        return format_decimal(value, f"#,##0.{'0' * decimals}" if decimals else "#,##0", self._locale)


def major(amount_minor: int, currency: str) -> Decimal:
    """An amount in the currency's unit; of a currency that is not known, in its smallest one."""
    return Decimal(amount_minor).scaleb(-MINOR_UNITS.get(currency, 0))


def currency_of(sheet: Sheet, row: Row) -> str | None:
    """The currency of a row's amounts."""
    names = [column.name for column in sheet.columns]
    return row[names.index("currency")] if "currency" in names else None


def left_columns(sheet: Sheet) -> int:
    """How many columns of words there are before the first number."""
    return next((at for at, column in enumerate(sheet.columns) if column.kind != "text"), len(sheet.columns))


def html_of(sheet: Sheet, about: str, writing: Writing) -> str:
    """The whole page; ``about`` says what it is of."""
    parts = [_charts(sheet, chart, writing) for chart in sheet.charts if sheet.rows]
    headings = [column.title for column in sheet.columns]
    rows, totals = ([writing.row(sheet, row) for row in each] for each in (sheet.rows, sheet.totals))
    parts.append(table(headings, rows, totals=totals, left=left_columns(sheet)))
    parts += [f'<p class="note">{escape(note)}</p>' for note in (sheet.missing, sheet.notes) if note]
    return document(sheet.title, about, parts, writing.language)


def _charts(sheet: Sheet, chart: Chart, writing: Writing) -> str:
    if chart.kind == "bars":
        return _bars(sheet, chart)
    if not chart.each:
        return _stacked(sheet, chart, sheet.rows, chart.title, writing, float)
    at, places = sheet.at(chart.each), [sheet.at(name) for name in chart.values]
    sizes: dict[str, int] = {}
    for row in sheet.rows:
        sizes[row[at]] = sizes.get(row[at], 0) + sum(row[place] for place in places)
    made = []
    for value in sorted(sizes, key=lambda value: (-sizes[value], value))[:_CHARTS]:
        rows = [row for row in sheet.rows if row[at] == value]

        def scaled(amount: int, currency: str = value) -> float:
            return float(major(amount, currency))

        made.append(_stacked(sheet, chart, rows, f"{chart.title}, {value}", writing, scaled))
    return "".join(made)


def _stacked(
    sheet: Sheet, chart: Chart, rows: Any, title: str, writing: Writing, number: Callable[[int], float]
) -> str:
    day, days = sheet.at("day"), dict[str, list[Row]]()
    for row in rows:
        days.setdefault(row[day], []).append(row)
    together: Mapping[str, Callable[[list[int]], int]] = {"sum": sum, "max": max}
    series = [
        Series(
            name,
            colour,
            [
                number(together[chart.together]([row[place] or 0 for row in days[each] if wanted(row)] or [0]))
                for each in sorted(days)
            ],
        )
        for (name, place, wanted), colour in zip(_stacks(sheet, chart, rows), _COLOURS, strict=False)
    ]
    return charts.stacked_bars(title, [writing.day(each) for each in sorted(days)], series)


def _stacks(sheet: Sheet, chart: Chart, rows: Any) -> list[tuple[str, int, Callable[[Row], bool]]]:
    """What is stacked: the name, the column, and of which rows."""
    if not chart.by:
        return [(sheet.columns[place].title, place, lambda row: True) for place in map(sheet.at, chart.values)]
    at, place = sheet.at(chart.by), sheet.at(chart.values[0])

    def of(name: str) -> Callable[[Row], bool]:
        return lambda row: bool(row[at] == name)

    return [(name, place, of(name)) for name in sorted({row[at] for row in rows})]


def _bars(sheet: Sheet, chart: Chart) -> str:
    places, value = [sheet.at(name) for name in chart.names], sheet.at(chart.values[0])
    sizes: dict[str, float] = {}
    for row in sheet.rows:
        name = ": ".join(str(row[place]) for place in places if row[place])
        sizes[name] = sizes.get(name, 0) + row[value]
    names = sorted(sizes, key=lambda name: (-sizes[name], name))[:_BARS]
    return charts.rows(chart.title, names, [sizes[name] for name in names], DARK, max(sizes.values()) or 1.0)
