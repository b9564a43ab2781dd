"""What shells share: the codec and what is known beside the topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from connectors.controls.book import ControlBook
from connectors.erasures.book import ErasureBook
from connectors.exceptions.book import ExceptionBook
from connectors.lists.book import ListBook
from connectors.models.book import ModelBook
from connectors.models.scorer import Scorer
from connectors.pic.calls import Pic
from connectors.snoozes.book import SnoozeBook
from connectors.tenants.book import TenantBook
from schemas.codec import Codec

#: As PTR_FRAUD_MODEL_TIMEOUT_S, where nobody sets it.
MODEL_TIMEOUT_S = 1.0


class RescreeningWatch(Protocol):
    """Who wants to know how rescreening goes: metrics."""

    def stepped(self, partition: int, parties: int, seconds: float, *, finished: bool) -> None:
        """A step looked at so many parties of a partition, and was the last one or not."""

    def flagged(self, list_id: str) -> None:
        """A known party is like somebody on this list."""

    def failed(self, error: str) -> None:
        """A party could not be screened."""


class Nobody:
    """Wants to know nothing."""

    def stepped(self, partition: int, parties: int, seconds: float, *, finished: bool) -> None: ...

    def flagged(self, list_id: str) -> None: ...

    def failed(self, error: str) -> None: ...


def _now_ms() -> int:
    return int(time.time() * 1000)


class RulesWatch(Protocol):
    """Is told of business rules by localization (:class:`pipeline.engine.metrics.RuleMetrics`)."""

    def failed(self, tenant: str) -> None:
        """A condition could not be evaluated."""

    def shadowed(self, tenant: str, *, differs: bool) -> None:
        """Shadow rules decided a payment too."""


class _NobodyWatches:
    """Does not listen."""

    def failed(self, tenant: str) -> None:
        """See :class:`RulesWatch`."""

    def shadowed(self, tenant: str, *, differs: bool) -> None:
        """See :class:`RulesWatch`."""


_NOBODY = _NobodyWatches()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Given to every shell by the composition root."""

    codec: Codec
    tenants: TenantBook
    lists: ListBook
    #: Told what becomes of business rules.
    rules_watch: RulesWatch = _NOBODY
    #: The plugins, by the name of their PIC.
    pics: Mapping[str, Pic]
    rescreening: RescreeningWatch = field(default_factory=Nobody)
    #: The time for work that no record brings a time for, epoch milliseconds.
    now_ms: Callable[[], int] = _now_ms
    snoozes: SnoozeBook = field(default_factory=SnoozeBook)
    models: ModelBook = field(default_factory=ModelBook)
    scorer: Scorer = field(default_factory=lambda: Scorer(MODEL_TIMEOUT_S))
    exceptions: ExceptionBook = field(default_factory=ExceptionBook)
    erasures: ErasureBook = field(default_factory=ErasureBook)
    #: Which PICs are paused.
    controls: ControlBook = field(default_factory=ControlBook)
