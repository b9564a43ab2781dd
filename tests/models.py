"""Small fraud models for tests: real ones, trained in a moment."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.models.onnx_model import OnnxModel
from pipeline.stages.features import MODEL_FEATURES
from pipeline.training.fit import Trained, train

#: Features of the models below; a fraud is what has a large amount at night.
FEATURES = ("amount", "night", "payer_count_1d")


def rows(count: int = 600, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A matrix of all features, of chance but for ``FEATURES``, and its labels: an amount above 800 at night."""
    chance = np.random.default_rng(seed)
    made = np.zeros((count, len(MODEL_FEATURES)), dtype=np.float32)
    for name, values in (
        ("amount", chance.integers(1, 1000, count)),
        ("night", chance.integers(0, 2, count)),
        ("payer_count_1d", chance.integers(1, 9, count)),
    ):
        made[:, MODEL_FEATURES.index(name)] = values
    fraud = (made[:, MODEL_FEATURES.index("amount")] > 800) & (made[:, MODEL_FEATURES.index("night")] == 1)
    return made, fraud


@cache
def a_model(seed: int = 0, **settings: Any) -> Trained:
    """A model of these rows; another seed, another model."""
    matrix, fraud = rows(seed=seed)
    return train(matrix, fraud, features=FEATURES, window={"from": "2026-01-01"}, rounds=10, settings=settings)


class SlowModel(OnnxModel):
    """A real model that, once it is loaded, waits until it is let go."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.go = threading.Event()

    def score(self, rows: Any, options: Any = None) -> Any:
        if hasattr(self, "go"):
            self.go.wait(10)
        return super().score(rows, options)
