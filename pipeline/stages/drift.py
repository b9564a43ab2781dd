"""Drift: how far a number's distribution has moved from the one that a model was trained on. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

#: What the population stability index is usually taken to say: below the first nothing moved, above the second enough did
#: to look at the model (Siddiqi, Credit Risk Scorecards, 2006).
PSI_NOTABLE: Final = 0.1
PSI_LARGE: Final = 0.25
#: Added to each bin: an empty bin says that there were few payments, not that the value cannot occur.
_PSEUDO_COUNT: Final = 0.5


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Population stability index of two histograms with the same bins: the sum of (a - e) * ln(a / e) over their shares.

    0 when they are alike, and the same whichever is ``expected``; NaN when one is empty. Raises ValueError when they differ
    in length.
    """
    if len(expected) != len(actual):
        raise ValueError(f"{len(expected)} bins against {len(actual)}")
    if not sum(expected) or not sum(actual):
        return math.nan
    total = 0.0
    for e, a in zip(_shares(expected), _shares(actual), strict=True):
        total += (a - e) * math.log(a / e)
    return total


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) + _PSEUDO_COUNT * len(counts)
    return [(count + _PSEUDO_COUNT) / whole for count in counts]
