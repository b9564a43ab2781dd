"""The base rule sets of this version, from the package's files."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from schemas.business_rules import Edition

_NAME = re.compile(r"[a-z]{2,10}-[0-9]{4}-[0-9]{2}[a-z]?\Z")
_FOLDER = resources.files("connectors").joinpath("rules", "editions")


@cache
def editions() -> tuple[str, ...]:
    """Names of all editions, sorted."""
    names = (entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(name for name in names if _NAME.match(name)))


def edition_text(name: str) -> str:
    """The file of an edition. Raises KeyError when there is none of this name."""
    if name not in editions():
        raise KeyError(name)
    return _FOLDER.joinpath(f"{name}.yaml").read_text("utf-8")


@cache
def edition(name: str) -> Edition:
    """An edition. Raises KeyError when there is none of this name."""
    # Imported late: reading a file needs the checks, which need to know the editions.
    from connectors.tenants.document import read_edition

    return read_edition(edition_text(name), f"{name}.yaml")
