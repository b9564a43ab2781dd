"""Fixtures for every test: real servers, started once per session and ended by their ids."""

from __future__ import annotations

from tests.integration.kafka import kafka

__all__ = ["kafka"]
