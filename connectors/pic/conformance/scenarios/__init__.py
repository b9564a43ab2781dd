"""All scenarios, theme by theme."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from connectors.pic.conformance.scenario import Scenario
from connectors.pic.conformance.scenarios import payments

THEMES: Final[tuple[ModuleType, ...]] = (payments,)
ALL: Final[tuple[Scenario, ...]] = tuple(
    each for theme in THEMES for each in vars(theme).values() if isinstance(each, Scenario)
)
