"""Which plugin a PIC's name stands for. A new plugin is one function here and one module beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connectors.pic.base import Pic
from connectors.pic.ledger import MemoryLedger, SqliteLedger
from connectors.pic.simulator import Simulator
from schemas.identity import PIC_PATTERN


class UnknownPicError(ValueError):
    """No plugin has this name; the message says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PicOptions:
    """What plugins may need; each takes what it knows."""

    #: ``PTR_PIC_TIMEOUT_S``: after this an answer is unknown.
    timeout_s: float = 5.0
    #: ``PTR_SIMULATOR_LEDGER``: SQLite file of simulated PICs; empty keeps it in memory.
    simulator_ledger: str = ""
    #: The engine's lease: False forbids calls.
    allowed: Callable[[], bool] | None = None


def _simulator(name: str, options: PicOptions) -> Pic:
    if not options.simulator_ledger:
        return Simulator(name, MemoryLedger(), allowed=options.allowed)
    path = Path(options.simulator_ledger)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Simulator(name, SqliteLedger(path), allowed=options.allowed)


#: By the name's first part: ``simulator`` serves ``simulator``, ``simulator-2``, ``simulator-cards`` ...
PLUGINS: dict[str, Callable[[str, PicOptions], Pic]] = {"simulator": _simulator}


def make_pic(
    name: str,
    *,
    timeout_s: float = 5.0,
    simulator_ledger: str = "",
    allowed: Callable[[], bool] | None = None,
) -> Pic:
    """The plugin called ``name``. Raises :class:`UnknownPicError`."""
    plugin = next((make for prefix, make in PLUGINS.items() if name.startswith(prefix)), None)
    if plugin is None or not PIC_PATTERN.match(name):
        raise UnknownPicError(
            f"no plugin for PIC {name!r}: names begin with one of {', '.join(sorted(PLUGINS))} and hold lower-case"
            " letters, digits and hyphens only; correct PTR_PICS or add a plugin in connectors/pic/registry.py"
        )
    return plugin(name, PicOptions(timeout_s=timeout_s, simulator_ledger=simulator_ledger, allowed=allowed))
