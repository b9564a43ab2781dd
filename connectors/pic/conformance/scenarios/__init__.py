"""All scenarios, theme by theme."""

from __future__ import annotations

from typing import Final

from connectors.pic.conformance.scenario import Scenario
from connectors.pic.conformance.scenarios import (
    authorizations,
    challenges,
    declines,
    notifications,
    payments,
    refunds,
    repeats,
    unknowns,
)

_THEMES: Final = (payments, declines, authorizations, refunds, repeats, unknowns, challenges, notifications)


def _of(theme: object) -> list[Scenario]:
    return [each for each in vars(theme).values() if isinstance(each, Scenario)]


ALL: Final[tuple[Scenario, ...]] = tuple(
    scenario for theme in _THEMES for scenario in (*getattr(theme, "EACH", ()), *_of(theme))
)
