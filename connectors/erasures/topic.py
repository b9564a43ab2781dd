"""``erasures.requested.v1``: followed by workers that screen, written by ``ptr privacy erase``."""

from __future__ import annotations

import logging
from typing import Any

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.broker.desk import ANSWER_TIMEOUT_S, Desk
from connectors.erasures.book import ErasureBook
from pipeline.settings import BrokerAccess
from pipeline.stages.parties import mistake_in
from pipeline.topics import ERASURES, PARTIES_ERASED
from schemas.codec import Codec, UndecodableError
from schemas.identity import erasure_key, party_key
from schemas.records import ErasureRequested, PartyErased

log = logging.getLogger(__name__)


class ErasureReader(BookReader[ErasureBook]):
    """Keeps a book of erased parties up to date."""

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what is no erasure is logged here, and a dead letter of the stage."""
        timestamp_ms = timestamp_ms_of(message)
        try:
            requested = self.codec.decode(message.value() or b"", ErasureRequested)
        except UndecodableError as error:
            log.error("an erasure is ignored (%s): %s", place_of(message), error)
            return
        if timestamp_ms is None or mistake_in(requested):
            log.error("an erasure is ignored (%s): it cannot be one", place_of(message))
            return
        self.book.take(requested.tenant, requested.party_id, timestamp_ms)


def hand_in(
    broker: BrokerAccess | str, codec: Codec, requested: ErasureRequested, timeout_s: float = ANSWER_TIMEOUT_S
) -> PartyErased | None:
    """Have a party erased from the table of known parties, and give the answer; None when none came in time: what was posted
    counts all the same, when the stage ``parties`` runs.

    Raises :class:`~connectors.broker.desk.DeskError` when nobody answers, :class:`~connectors.broker.one.PostError` when it
    could not be posted.
    """
    key = party_key(requested.tenant, requested.party_id)
    answer_key = erasure_key(requested.tenant, requested.erasure_id)
    with Desk(broker, codec, PARTIES_ERASED.name, PartyErased) as desk:
        return desk.hand_in(
            ERASURES.name,
            codec.encode(requested),
            key,
            lambda answer: answer.erasure_id == requested.erasure_id,
            timeout_s,
            answer_key=answer_key,
        )
