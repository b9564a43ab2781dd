"""Which plugin a PIC's name stands for: plugins are found through entry points, so a tenant's own package can add one.

An entry point of the group ``payment_pipeline.pics`` is a function ``make(name, options)`` that gives a
:class:`~connectors.pic.base.Plugin` (or a :class:`~connectors.pic.calls.Pic`, for one that takes whole batches). Its name is
the first part of the names that it serves: ``stripe`` serves ``stripe``, ``stripe-2``, ``stripe-cards`` ... Only the module of
a PIC that is used is imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from connectors.pic.base import Abilities, Plugin
from connectors.pic.calls import OneByOne, Pic
from connectors.pic.declines import Meaning
from connectors.pic.options import PicOptions, settings_of
from connectors.pic.watched import CallsWatch, WatchedPic
from schemas.identity import PIC_PATTERN

GROUP: Final = "payment_pipeline.pics"

#: Entry points that name a plugin's table of codes, under the plugin's name: a mapping from the PIC's own codes to a
#: :class:`~connectors.pic.declines.Meaning`.
CODES_GROUP: Final = "payment_pipeline.pic_codes"

#: What an entry point of :data:`GROUP` names.
Maker = Callable[[str, PicOptions], Plugin | Pic]


class UnknownPicError(ValueError):
    """No plugin has this name, or it is none; the message says which there are."""


def make_pic(
    name: str,
    *,
    timeout_s: float = 5.0,
    simulator_ledger: str = "",
    allowed: Callable[[], bool] | None = None,
    settings: Mapping[str, str] | None = None,
    watch: CallsWatch | None = None,
) -> Pic:
    """The PIC called ``name``, with ``settings`` (None: those of the environment); ``watch`` is told how its calls go.

    Raises :class:`UnknownPicError`, and :class:`~connectors.pic.options.PicSettingError` for what its plugin misses.
    """
    options = PicOptions(
        name=name,
        settings=settings_of(name) if settings is None else settings,
        timeout_s=timeout_s,
        simulator_ledger=simulator_ledger,
        allowed=allowed,
    )
    found = find_plugin(name)
    if found is None or not PIC_PATTERN.match(name):
        raise UnknownPicError(
            f"no plugin for PIC {name!r}: names begin with one of {_names()} and hold lower-case"
            " letters, digits and hyphens only; correct PTR_PICS or install a package with that plugin (docs/plugins.md)"
        )
    return made_by(_load(found), options, watch)


def made_by(maker: Maker, options: PicOptions, watch: CallsWatch | None = None) -> Pic:
    """What ``maker`` makes, in batches. Raises :class:`UnknownPicError` when that is no plugin."""
    made = maker(options.name, options)
    if isinstance(made, Plugin):
        made = OneByOne(
            options.name, made, timeout_s=options.timeout_s, allowed=options.allowed, took=watch.took if watch else None
        )
    if not isinstance(made, Pic):
        raise UnknownPicError(f"PIC {options.name}: its plugin is a {type(made).__name__}, no Plugin")
    return made if watch is None else WatchedPic(made, watch)


def abilities_of(name: str) -> Abilities:
    """What the PIC called ``name`` can do, by its plugin with the settings of the environment; nobody is called.

    Not within an event loop. Raises what :func:`make_pic` raises.
    """

    async def asked() -> Abilities:
        made = await asyncio.to_thread(make_pic, name)
        try:
            return made.abilities
        finally:
            await made.close()

    return asyncio.run(asked())


def plugins() -> dict[str, EntryPoint]:
    """Every installed plugin by its name. Raises :class:`UnknownPicError` when two packages claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UnknownPicError(f"two plugins are called {point.name}: {other.value} and {point.value}")
    return found


def codes_of(plugin: str) -> Mapping[str, Meaning] | None:
    """What the codes of a plugin's PIC mean, by the plugin's own name, in the order of its table; None where it names no table.

    Raises :class:`UnknownPicError` for a table that cannot be loaded.
    """
    point = next((each for each in entry_points(group=CODES_GROUP) if each.name == plugin), None)
    if point is None:
        return None
    try:
        table: Mapping[str, Meaning] = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownPicError(f"the codes of {plugin} ({point.value}) cannot be loaded: {error}") from error
    return table


def find_plugin(name: str) -> EntryPoint | None:
    """The plugin that serves PIC ``name``: of ``a`` and ``a-b`` the longer one serves ``a-b-2``. None without one."""
    serve = [point for prefix, point in plugins().items() if name == prefix or name.startswith(f"{prefix}-")]
    return max(serve, key=lambda point: len(point.name), default=None)


def _load(found: EntryPoint) -> Maker:
    try:
        maker: Maker = found.load()
    except (ImportError, AttributeError) as error:
        raise UnknownPicError(f"the plugin {found.name} ({found.value}) cannot be loaded: {error}") from error
    return maker


def _names() -> str:
    return ", ".join(sorted(plugins())) or "(none is installed: install payment-pipeline itself again)"
