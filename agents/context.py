"""What shells share: the codec and what is known beside the topics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.pic.base import Pic
from connectors.tenants.book import TenantBook
from pipeline.stages.screening import Watchlists
from schemas.codec import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Given to every shell by the composition root."""

    codec: Codec
    tenants: TenantBook
    watchlists: Watchlists
    #: The plugins, by the name of their PIC.
    pics: Mapping[str, Pic]
