"""Sanctions lists by their names: how each is read, and how old it may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from connectors.lists import ofac, sample, un
from connectors.lists.content import ListContent
from connectors.lists.errors import ListError
from pipeline.stages.watchlist import ListEntry, Watchlists

__all__ = ["AGE_LIMITS_S", "READERS", "ListError", "age_limit_s", "load_watchlists", "sample_watchlists"]

READERS: Final[dict[str, Callable[[str | Path], ListContent]]] = {ofac.LIST: ofac.read, un.LIST: un.read}

_DAY_S: Final = 24 * 60 * 60
#: How long after its source made it a list may be in force. OFAC publishes on working days and what it publishes binds
#: at once: a weekend, a holiday and a missed download. The UN makes its file anew every day.
AGE_LIMITS_S: Final = {ofac.LIST: 4 * _DAY_S, un.LIST: 2 * _DAY_S}


def age_limit_s(list_id: str) -> int:
    """How old ``list_id`` may be; a list that is not known here, as old as the strictest."""
    return AGE_LIMITS_S.get(list_id, min(AGE_LIMITS_S.values()))


def sample_watchlists() -> Watchlists:
    """The built-in sample, for where there is no list."""
    return Watchlists(sample.load(), version=sample.VERSION)


def load_watchlists(lists: tuple[tuple[str, str], ...]) -> Watchlists:
    """The lists of ``Settings.lists``: pairs of ``ofac`` and a folder, or ``un`` and a file. None: the built-in sample.

    All or nothing: raises :class:`ListError`, naming file and line, when one of them cannot be read whole.
    """
    if not lists:
        return sample_watchlists()
    entries: list[ListEntry] = []
    for name, path in lists:
        reader = READERS.get(name)
        if reader is None:
            raise ListError(Path(path), 0, f"no list is called {name!r}; choose from {', '.join(READERS)}")
        entries += reader(path).entries
    return Watchlists(entries)
