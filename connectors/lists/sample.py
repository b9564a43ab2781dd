"""A tiny built-in list for the demo and for tests. Everybody and everything on it is invented."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Final

from pipeline.stages.watchlist import ListEntry

LIST: Final = "sample"
VERSION: Final = "sample"


def load() -> list[ListEntry]:
    """The dozen entries of ``sample.csv``."""
    text = resources.files("connectors.lists").joinpath("sample.csv").read_text(encoding="utf-8")
    return [
        ListEntry(list=LIST, entry_id=row["entry_id"], kind=row["kind"], names=tuple(row["names"].split("|")))
        for row in csv.DictReader(text.splitlines())
    ]
