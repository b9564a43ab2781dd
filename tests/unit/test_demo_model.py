"""The demo's model is the one that its script makes of the demo's traffic, and it knows what it was made of."""

from __future__ import annotations

from connectors.demo.model import demo_model
from connectors.models.onnx_model import OnnxModel
from pipeline.training import demo
from tests.models import rows


def test_the_shipped_model_is_what_the_script_makes() -> None:
    """Same features, same scores; bit for bit only where the processor is the same."""
    shipped, made = OnnxModel(demo_model()), demo.make().model
    assert shipped.facts.features == made.facts.features == demo.FEATURES
    matrix, _ = rows()
    assert abs(shipped.score(shipped.rows(matrix)) - made.score(made.rows(matrix))).max() < 1e-5


def test_it_reads_no_labels_and_says_what_it_learnt_from() -> None:
    """There are no chargebacks in the demo."""
    facts = OnnxModel(demo_model()).facts
    assert not [name for name in facts.features if "risk" in name or "delayed" in name]
    assert facts.description["frauds"] > 500
