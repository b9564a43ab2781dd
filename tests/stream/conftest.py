"""Fixtures of tests over topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.broker.embedded import EmbeddedBroker, touch_topics


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an embedded broker of its own, with the topics that the module calls ``TOPICS``."""
    with EmbeddedBroker() as running:
        touch_topics(running.address, list(getattr(request.module, "TOPICS", ())))
        yield running.address
