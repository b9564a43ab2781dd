"""Boosted trees as an ONNX file. Needs the ``train`` extra."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from connectors.models.onnx_model import INPUT, METADATA_KEY, OUTPUT

#: Of the ONNX file: TreeEnsembleRegressor is of ai.onnx.ml 3, Sigmoid of opset 13; any newer runtime takes them.
_OPSET: Final = 13
_ML_OPSET: Final = 3
_IR: Final = 8


def onnx_of(booster: Any, *, features: tuple[str, ...], metadata: Mapping[str, Any]) -> bytes:
    """The file of an XGBoost ``binary:logistic`` booster over ``features``; the same booster gives the same bytes.

    XGBoost splits float32 values with ``<``; so does ``BRANCH_LT``: both give the same leaf for every row.
    """
    from onnx import TensorProto, helper

    model = json.loads(bytes(booster.save_raw("json")))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    base = model["learner"]["learner_model_param"]["base_score"].strip("[]")
    margin = math.log(float(base) / (1.0 - float(base)))
    nodes: dict[str, list[Any]] = {name: [] for name in _NODE_FIELDS}
    targets: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree_id, tree in enumerate(trees):
        for node, left in enumerate(tree["left_children"]):
            leaf = left < 0
            nodes["treeids"].append(tree_id)
            nodes["nodeids"].append(node)
            nodes["featureids"].append(0 if leaf else tree["split_indices"][node])
            nodes["values"].append(0.0 if leaf else tree["split_conditions"][node])
            nodes["modes"].append("LEAF" if leaf else "BRANCH_LT")
            nodes["truenodeids"].append(0 if leaf else left)
            nodes["falsenodeids"].append(0 if leaf else tree["right_children"][node])
            nodes["missing_value_tracks_true"].append(0 if leaf else int(tree["default_left"][node]))
            if leaf:
                targets["treeids"].append(tree_id)
                targets["nodeids"].append(node)
                targets["ids"].append(0)
                targets["weights"].append(tree["split_conditions"][node])
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[margin],
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in targets.items()},
    )
    graph = helper.make_graph(
        [ensemble, helper.make_node("Sigmoid", ["margin"], [OUTPUT])],
        "fraud",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(features)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
    )
    file = helper.make_model(
        graph,
        producer_name="payment-pipeline",
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        ir_version=_IR,
    )
    helper.set_model_props(file, {METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))})
    return bytes(file.SerializeToString(deterministic=True))


_NODE_FIELDS: Final = (
    "treeids",
    "nodeids",
    "featureids",
    "values",
    "modes",
    "truenodeids",
    "falsenodeids",
    "missing_value_tracks_true",
)
