"""What shells share: the codec and what is known beside the topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from connectors.exceptions.book import ExceptionBook
from connectors.lists.book import ListBook
from connectors.pic.base import Pic
from connectors.tenants.book import TenantBook
from schemas.codec import Codec


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
    exceptions: ExceptionBook = field(default_factory=ExceptionBook)
