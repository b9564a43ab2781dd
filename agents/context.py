"""What shells share: the codec and what is known beside the topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.exceptions.book import ExceptionBook
from connectors.lists.book import ListBook
from connectors.pic.base import Pic
from connectors.tenants.book import TenantBook
from schemas.codec import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Given to every shell by the composition root."""

    codec: Codec
    tenants: TenantBook
    lists: ListBook
    #: The plugins, by the name of their PIC.
    pics: Mapping[str, Pic]
    exceptions: ExceptionBook = field(default_factory=ExceptionBook)
