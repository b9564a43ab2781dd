"""Who gets which partition: Faust's assignor, for workers that come back under another address.

A static member that returns within its session gets its former assignment back without a rebalance, with the address that
it had then. Faust takes that for an error and its consumer is dead from then on. Here the worker takes the assignment under
its new address, and asks for a rebalance so that the others hear of it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

#: The first join must be over before the next one is asked for.
REJOIN_DELAY_S = 1.0


class Assignor(PartitionAssignor):
    """Faust's, except that a former address of this worker is replaced by its present one."""

    #: Asks for a rebalance; set by the consumer.
    rejoin: Callable[[], None] | None = None

    def on_assignment(self, assignment: Any) -> None:
        metadata: Any = ClientMetadata.loads(zlib.decompress(assignment.user_data))
        former, present = metadata.url, str(self._url)
        if former != present:
            for held in (metadata.changelog_distribution, metadata.external_topic_distribution):
                if former in held:
                    held[present] = held.pop(former)
            metadata.url = present
            assignment.user_data = zlib.compress(metadata.dumps())
            if self.rejoin is not None:
                asyncio.get_running_loop().call_later(REJOIN_DELAY_S, self.rejoin)
        super().on_assignment(assignment)
