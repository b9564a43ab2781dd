"""A report as a sheet: typed columns, rows, totals, and charts beside them. Pure; the writers of files and pages read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["text", "count", "minor", "share", "ms"]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """``minor``: an amount in minor units of the row's currency; ``share``: 0 to 1; ``ms``: milliseconds. None is empty."""

    name: str
    kind: Kind = "text"
    #: Over the column, for people; by default the name.
    heading: str = ""

    @property
    def title(self) -> str:
        """What stands over the column."""
        return self.heading or self.name.removesuffix("_minor").removesuffix("_ms").replace("_", " ")


@dataclass(frozen=True, slots=True)
class Chart:
    """``stacked``: columns ``values`` over the days. ``bars``: the first column of ``values``, a bar a row, the first rows."""

    title: str
    values: tuple[str, ...]
    #: Draw one chart for each value of this column, such as the currency; amounts of two currencies are not added.
    each: str = ""
    #: Of stacked: draw the first of ``values`` alone, stacked by the values of this column.
    by: str = ""
    kind: Literal["stacked", "bars"] = "stacked"
    #: What several rows of one day are together: their sum, or the largest.
    together: Literal["sum", "max"] = "sum"
    #: Of bars: what each one is named by.
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows in the order in which they are read. ``totals`` have the columns of rows, with None where nothing can be added."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    totals: Sequence[Row] = ()
    charts: Sequence[Chart] = field(default_factory=tuple)
    #: What the words mean, a sentence or two.
    notes: str = ""
    #: Which events are not in the figures though they are of the time, a sentence; empty: all are.
    missing: str = ""

    def at(self, name: str) -> int:
        """The place of a column."""
        return next(place for place, column in enumerate(self.columns) if column.name == name)

    def records(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """``rows`` with the names of columns."""
        return [{column.name: value for column, value in zip(self.columns, row, strict=True)} for row in rows]
