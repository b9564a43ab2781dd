"""A fraud model as the decision sees it, and which of its features moved a score. Pure.

What a model is made of and how it is run is in connectors/models; here it is a function from rows of features to scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.features import FEATURE_SET, MODEL_FEATURES

#: Features that are named to a person at most.
EFFECTS_MAX: Final = 5
#: An effect below this moves no decision.
EFFECT_MIN: Final = 0.01


class UnusableModelError(ValueError):
    """A model that this program cannot run; the text says why."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's file says about it. ``description`` is for people: training window, rows, figures, settings."""

    #: Names out of MODEL_FEATURES, in the order of the model's input.
    features: tuple[str, ...]
    #: Their medians in training: what "usual" means.
    medians: tuple[float, ...]
    feature_set: int
    description: Mapping[str, Any]

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in _COLUMN_OF]
        if unknown:
            raise UnusableModelError(f"it reads {', '.join(unknown[:5])}, which this program does not make")
        if not self.features or len(set(self.features)) != len(self.features):
            raise UnusableModelError("it reads no feature, or one twice")
        if len(self.medians) != len(self.features) or not all(map(np.isfinite, self.medians)):
            raise UnusableModelError("its medians are not one number for each feature")
        if not 1 <= self.feature_set <= FEATURE_SET:
            raise UnusableModelError(f"it needs feature set {self.feature_set}; this program has {FEATURE_SET}")

    def columns(self) -> NDArray[np.intp]:
        """Where its features are in a matrix of all."""
        return np.array([_COLUMN_OF[name] for name in self.features], dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one feature did: the model's score as it is, less the score with the usual value in its place."""

    feature: str
    value: float
    usual: float
    effect: float


_COLUMN_OF: Final = {name: at for at, name in enumerate(MODEL_FEATURES)}


def copies_with_usual(facts: ModelFacts, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each of n rows of the model's k features, k copies, the j-th with the j-th feature at its median: n * k rows."""
    count = len(facts.features)
    copies = np.repeat(rows, count, axis=0)
    at = np.arange(len(copies))
    copies[at, at % count] = np.tile(np.array(facts.medians, dtype=np.float32), len(rows))
    return copies


def effects_of(
    facts: ModelFacts, rows: NDArray[np.float32], scores: Sequence[float], of_copies: NDArray[np.float32]
) -> list[tuple[Effect, ...]]:
    """The strongest effects of each row, from what the model says of its copies (:func:`copies_with_usual`)."""
    count = len(facts.features)
    found = []
    for row, score, others in zip(rows, scores, of_copies.reshape(len(rows), count), strict=True):
        moved = score - others.astype(np.float64)
        strongest = np.argsort(-np.abs(moved), kind="stable")[:EFFECTS_MAX]
        found.append(
            tuple(
                Effect(facts.features[at], float(row[at]), facts.medians[at], round(float(moved[at]), 6))
                for at in strongest
                if abs(moved[at]) >= EFFECT_MIN
            )
        )
    return found


#: Rows of the model's features in, one score in 0..1 for each out.
Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]
