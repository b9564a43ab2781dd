"""A sheet as a file for programs: CSV and Parquet. Amounts are whole minor units, times milliseconds, shares 0 to 1.

Totals are not in them: whoever adds the rows gets them.
"""

from __future__ import annotations

import csv
import io
from typing import BinaryIO, Final

from pipeline.reports.sheet import Sheet

#: A spreadsheet takes a cell that begins so for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_of(sheet: Sheet) -> str:
    """RFC 4180, with a line of names; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([column.name for column in sheet.columns])
    for row in sheet.rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row])
    return file.getvalue()


def write_parquet(sheet: Sheet, file: BinaryIO) -> None:
    """One row group: a report is small, whatever it was made of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "count": pa.int64(), "minor": pa.int64(), "share": pa.float64(), "ms": pa.int64()}
    schema = pa.schema([(column.name, types[column.kind]) for column in sheet.columns])
    pq.write_table(pa.Table.from_pylist(sheet.records(sheet.rows), schema=schema), file)
