"""Sanctions lists by the names that settings give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from connectors.lists import ofac, sample, un
from connectors.lists.errors import ListError
from pipeline.stages.screening import ListEntry, Watchlists

__all__ = ["ListError", "load_watchlists"]

_READERS: Final[dict[str, Callable[[str], list[ListEntry]]]] = {ofac.LIST: ofac.load, un.LIST: un.load}


def load_watchlists(lists: tuple[tuple[str, str], ...]) -> Watchlists:
    """The lists of ``Settings.lists``: pairs of ``ofac`` and a folder, or ``un`` and a file. None: the built-in sample.

    All or nothing: raises :class:`ListError`, naming file and line, when one of them cannot be read whole.
    """
    if not lists:
        return Watchlists(sample.load(), version=sample.VERSION)
    entries: list[ListEntry] = []
    for name, path in lists:
        reader = _READERS.get(name)
        if reader is None:
            raise ListError(Path(path), 0, f"no list is called {name!r}; choose from {', '.join(_READERS)}")
        entries += reader(path)
    return Watchlists(entries)
