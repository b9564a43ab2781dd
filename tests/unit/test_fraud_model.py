"""Models: trained, written, loaded, run; what moved a score; what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from connectors.models.onnx_model import METADATA_KEY, MODEL_BYTES_MAX, OnnxModel
from pipeline.stages.features import FEATURE_SET, MODEL_FEATURES
from pipeline.stages.fraud_model import EFFECT_MIN, ModelFacts, UnusableModelError, copies_with_usual, effects_of
from pipeline.training.fit import ROUNDS, SETTINGS, TrainingError, train
from pipeline.training.onnx_file import onnx_of
from tests.models import FEATURES, a_model, rows

AMOUNT, NIGHT, COUNT = (MODEL_FEATURES.index(name) for name in FEATURES)


def a_row(amount: float, night: float, count: float = 3) -> np.ndarray:
    """All features of one payment."""
    made = np.zeros((1, len(MODEL_FEATURES)), dtype=np.float32)
    made[0, [AMOUNT, NIGHT, COUNT]] = amount, night, count
    return made


def changed(**changes: object) -> bytes:
    """A good model's file with other metadata; None takes a key away."""
    file = onnx.load_from_string(a_model().content)
    data = json.loads(next(each.value for each in file.metadata_props if each.key == METADATA_KEY)) | changes
    data = {name: value for name, value in data.items() if value is not None}
    helper.set_model_props(file, {METADATA_KEY: json.dumps(data)})
    return bytes(file.SerializeToString())


def test_a_model_learns_what_makes_a_fraud() -> None:
    """A large amount at night is one, a large amount by day or a small one at night is none."""
    model = a_model().model
    scores = [float(model.score(model.rows(a_row(*values)))[0]) for values in ((900, 1), (900, 0), (100, 1))]
    assert scores[0] > 0.6
    assert max(scores[1:]) < 0.3


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 50), st.integers(1, 200))
def test_the_file_gives_what_the_trees_give(seed: int, count: int) -> None:
    """onnxruntime and XGBoost agree on any rows, values at the splits among them; a row's score is its own."""
    matrix, fraud = rows(count=400, seed=seed % 3)
    names = FEATURES
    columns = [MODEL_FEATURES.index(name) for name in names]
    booster = xgboost.train(dict(SETTINGS), xgboost.DMatrix(matrix[:, columns], label=fraud), num_boost_round=8)
    metadata = {"features": names, "medians": [0, 0, 0], "feature_set": FEATURE_SET, "description": {}}
    model = OnnxModel(onnx_of(booster, features=names, metadata=metadata))
    splits = [s for t in booster.get_dump() for s in map(float, _splits(t))]
    asked = np.random.default_rng(seed).choice(np.array([*splits, *range(1000)], dtype=np.float32), (count, 3))
    scores = model.score(asked)
    np.testing.assert_allclose(scores, booster.predict(xgboost.DMatrix(asked)), atol=1e-6)
    alone = np.concatenate([model.score(asked[at : at + 1]) for at in range(count)])
    assert scores.tobytes() == alone.tobytes()


def _splits(tree: str) -> list[str]:
    return [part.split("]")[0] for part in tree.split("<")[1:]]


def test_the_same_rows_give_the_same_file() -> None:
    """Byte for byte, so the same version."""
    matrix, fraud = rows()
    one, other = (train(matrix, fraud, features=FEATURES, window={"from": "x"}, rounds=5) for _ in range(2))
    assert one.content == other.content
    assert len(one.model.version) == 12
    assert one.model.sha256.startswith(one.model.version)
    assert a_model(1).model.version != a_model(0).model.version


def test_a_file_says_what_it_is() -> None:
    """Features, medians, feature set, window, numbers, settings, and a histogram that counts every row."""
    matrix, fraud = rows()
    facts = a_model().model.facts
    assert facts.features == FEATURES
    assert facts.medians[0] == float(np.median(matrix[:, AMOUNT]))
    said = facts.description
    assert (said["payments"], said["frauds"], said["window"]) == (600, int(fraud.sum()), {"from": "2026-01-01"})
    assert (said["settings"]["tree_method"], said["settings"]["base_score"], ROUNDS >= 1) == ("exact", 0.5, True)
    for name in FEATURES:
        histogram = said["histograms"][name]
        assert sum(histogram["counts"]) == 600
        assert len(histogram["counts"]) == len(histogram["edges"]) + 1
    night = said["histograms"]["night"]
    assert night["counts"][0] == int((matrix[:, NIGHT] <= night["edges"][0]).sum())


def test_nothing_to_learn_from_is_said() -> None:
    """No fraud, hardly any, or nothing else."""
    matrix, _ = rows()
    for labels in (np.zeros(600, dtype=bool), np.arange(600) < 5, np.ones(600, dtype=bool)):
        with pytest.raises(TrainingError, match="600 payments"):
            train(matrix, labels, features=FEATURES, window={})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"garbage", "cannot be loaded"),
        (b"", "cannot be loaded"),
        (b"x" * (MODEL_BYTES_MAX + 1), "bytes"),
        (a_model().content[:-200], "cannot be loaded|does not say"),
        (changed(features=["amount", "night", "height_of_payer"]), "height_of_payer"),
        (changed(features=["amount", "night"], medians=[1, 1]), "3 features"),
        (changed(features=["amount", "amount", "night"]), "twice"),
        (changed(medians=[1, 2]), "medians"),
        (changed(medians=[1, 2, math.inf]), "medians"),
        (changed(feature_set=FEATURE_SET + 1), f"feature set {FEATURE_SET + 1}"),
        (changed(feature_set="x"), "does not say"),
        (changed(description=None), "does not say"),
    ],
)
def test_what_is_no_model_of_ours_is_refused(content: bytes, why: str) -> None:
    """Whatever the bytes are, one error that says why."""
    with pytest.raises(UnusableModelError, match=why):
        OnnxModel(content)


def test_a_model_whose_score_is_no_probability_is_refused() -> None:
    """Without the sigmoid its output is a margin: it is asked once when it is loaded."""
    file = onnx.load_from_string(a_model().content)
    del file.graph.node[1:]
    file.graph.node[0].output[0] = "score"
    with pytest.raises(UnusableModelError, match=r"0\.\.1"):
        OnnxModel(bytes(file.SerializeToString()))


def test_what_moved_the_score() -> None:
    """Amount and night did, each against its median; the number of payments, which means nothing, did not."""
    model = a_model().model
    row = model.rows(a_row(950, 1))
    score = float(model.score(row)[0])
    copies = copies_with_usual(model.facts, row)
    assert copies.tolist() == [
        [model.facts.medians[0], 1, 3],
        [950, model.facts.medians[1], 3],
        [950, 1, model.facts.medians[2]],
    ]
    (effects,) = effects_of(model.facts, row, [score], model.score(copies))
    by_name = {effect.feature: effect for effect in effects}
    assert effects[0].feature == "amount"
    assert (by_name["amount"].value, by_name["amount"].usual) == (950, model.facts.medians[0])
    without = float(model.score(model.rows(a_row(model.facts.medians[0], 1)))[0])
    assert by_name["amount"].effect == pytest.approx(score - without, abs=1e-6)
    assert all(abs(effect.effect) >= EFFECT_MIN for effect in effects)
    assert "payer_count_1d" not in by_name


def test_effects_of_many_are_those_of_each() -> None:
    """One call for a batch mixes up nobody."""
    model = a_model().model
    batch = np.concatenate([model.rows(a_row(950, 1)), model.rows(a_row(500, 0)), model.rows(a_row(990, 1, 8))])
    usual = model.facts.medians
    assert copies_with_usual(model.facts, batch)[3:6].tolist() == [
        [usual[0], 0, 3],
        [500, usual[1], 3],
        [500, 0, usual[2]],
    ]
    scores = model.score(batch).tolist()
    together = effects_of(model.facts, batch, scores, model.score(copies_with_usual(model.facts, batch)))
    for at in range(3):
        row = batch[at : at + 1]
        assert effects_of(model.facts, row, scores[at : at + 1], model.score(copies_with_usual(model.facts, row))) == [
            together[at]
        ]


def test_a_models_features_must_be_known() -> None:
    """Facts are checked when they are made, whoever makes them."""
    with pytest.raises(UnusableModelError, match="no feature"):
        ModelFacts((), (), 1, {})
