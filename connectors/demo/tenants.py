"""The demo's tenants, as a file to start from."""

from __future__ import annotations

from importlib import resources


def tenants_yaml() -> str:
    """The configuration of ``aurora`` and ``borealis``: two YAML documents for connectors/tenants/document.py."""
    return resources.files("connectors.demo").joinpath("tenants.yaml").read_text(encoding="utf-8")
