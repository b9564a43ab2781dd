"""The demo's fraud model: made by pipeline/training/demo.py of generated traffic."""

from __future__ import annotations

from importlib import resources


def demo_model() -> bytes:
    """Its ONNX file."""
    return resources.files("connectors.demo").joinpath("fraud_model.onnx").read_bytes()
