"""Trains a model on recorded facts and labels, and says how good it is. Needs the ``train`` extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from connectors.models.onnx_model import OnnxModel
from pipeline.stages.features import FEATURE_SET, MODEL_FEATURES
from pipeline.training.figures import CARDS_A_DAY, Labels, average_precision, card_precision, roc_auc
from pipeline.training.onnx_file import onnx_of
from pipeline.training.recorded import Table

#: Of XGBoost. ``exact`` and 0.5 are what it did before version 2: ``hist`` and a base score from the data lose 0.07 average
#: precision where frauds are rare. Chosen on weeks before the handbook's test (docs/decisions/0026-fraud-models.md).
SETTINGS: Final[Mapping[str, Any]] = {
    "objective": "binary:logistic",
    "tree_method": "exact",
    "base_score": 0.5,
    "max_depth": 3,
    "eta": 0.1,
    "seed": 0,
    "nthread": 1,
}
ROUNDS: Final = 100
#: Fewer frauds teach nothing.
FRAUDS_MIN: Final = 20
#: Parts of each feature's histogram, by quantiles of the training rows.
BINS: Final = 10


class TrainingError(ValueError):
    """There is nothing to learn from; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model's file, and the model as workers will run it."""

    content: bytes
    model: OnnxModel


def train(
    matrix: NDArray[np.float32],
    fraud: Labels,
    *,
    features: Sequence[str] = MODEL_FEATURES,
    window: Mapping[str, Any],
    figures: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    rounds: int = ROUNDS,
) -> Trained:
    """Train on rows of all features (pipeline.stages.features) and their labels; ``window`` and ``figures`` go into the file.

    The same rows in the same order give the same file. Raises :class:`TrainingError`.
    """
    try:
        import xgboost
    except ImportError as error:
        raise TrainingError(
            "training needs the packages of the extra 'train': pip install payment-pipeline[train]"
        ) from error
    frauds = int(fraud.sum())
    if frauds < FRAUDS_MIN or frauds == len(fraud):
        raise TrainingError(
            f"{len(fraud)} payments with {frauds} frauds: at least {FRAUDS_MIN} and some others are needed"
        )
    names = tuple(features)
    rows = np.ascontiguousarray(matrix[:, [MODEL_FEATURES.index(name) for name in names]])
    chosen = dict(SETTINGS) | dict(settings or {})
    booster = xgboost.train(chosen, xgboost.DMatrix(rows, label=fraud.astype(np.float32)), num_boost_round=rounds)
    histograms = [_histogram(rows[:, at]) for at in range(len(names))]
    metadata = {
        "features": names,
        "medians": [float(np.median(rows[:, at])) for at in range(len(names))],
        "feature_set": FEATURE_SET,
        "description": {
            "window": dict(window),
            "payments": len(fraud),
            "frauds": frauds,
            "figures": dict(figures or {}),
            "settings": chosen | {"rounds": rounds},
            "histograms": {name: found for name, found in zip(names, histograms, strict=True)},
        },
    }
    content = onnx_of(booster, features=names, metadata=metadata)
    return Trained(content, OnnxModel(content))


def figures_of(table: Table, check_ms: int, *, features: Sequence[str] = MODEL_FEATURES) -> dict[str, Any]:
    """How good a model of the payments before ``check_ms`` is on those after it, without cards known to be defrauded.

    Raises :class:`TrainingError` as :func:`train`. Without a fraud on either side there are no figures.
    """
    before, fraud = table.times < check_ms, table.fraud
    known = np.unique(table.cards[before & fraud])
    after = ~before & ~np.isin(table.cards, known)
    if int(fraud[before].sum()) < FRAUDS_MIN or not fraud[after].any() or fraud[after].all():
        return {}
    trained = train(table.matrix[before], fraud[before], features=features, window={})
    scores = trained.model.score(trained.model.rows(table.matrix[after]))
    day = table.times[after] // (24 * 60 * 60 * 1000)
    return {
        "checked_payments": int(after.sum()),
        "checked_frauds": int(fraud[after].sum()),
        "auc": round(roc_auc(fraud[after], scores), 4),
        "average_precision": round(average_precision(fraud[after], scores), 4),
        f"card_precision_{CARDS_A_DAY}": round(card_precision(day, table.cards[after], fraud[after], scores), 4),
    }


def _histogram(values: NDArray[np.float32]) -> dict[str, list[float]]:
    """Counts between the quantiles of ``values``: bin i holds what is above edge i-1 and at most edge i."""
    edges = np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
