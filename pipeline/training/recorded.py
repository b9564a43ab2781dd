"""What was recorded of payments and their labels, as numbers: out of the audit tables or out of the topics.

The audit tables keep everything; topics keep a week, and most labels come later. So ``ptr fraud train`` reads the tables,
and topics where there is no audit sink (``ptr bench fraud``).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from connectors.broker.follow import read_to_end
from connectors.sinks.database import Database
from connectors.sinks.judged import Judged, Scored, judged_payments
from pipeline.settings import BrokerAccess
from pipeline.stages.features import PAYEE, PAYER, complete_payee, complete_payer, matrix
from pipeline.stages.labels import Truth, is_fraud
from pipeline.topics import CHARGEBACKS, SCORED
from schemas.codec import Codec, UndecodableError
from schemas.records import ChargebackReceived, PaymentScored

#: Longest time that reading a topic may take.
READ_TIMEOUT_S: Final = 3600.0
#: Later than any label.
_EVER_MS: Final = 2**62


@dataclass(slots=True)
class Recorded:
    """Scored payments that were requested in [from_ms, until_ms), of some tenants or of all, and what was charged back.

    Some 400 bytes a payment. Give it events with :meth:`take`; each payment counts once, whatever is repeated.
    """

    from_ms: int
    until_ms: int
    tenants: frozenset[str] = frozenset()
    #: Labels that came later than this are not known yet.
    known_at_ms: int | None = None
    payer: array[int] = field(default_factory=lambda: array("q"))
    payee: array[int] = field(default_factory=lambda: array("q"))
    amounts: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    ids: array[int] = field(default_factory=lambda: array("q"))
    cards: array[int] = field(default_factory=lambda: array("q"))
    model_scores: array[float] = field(default_factory=lambda: array("d"))
    models: list[str] = field(default_factory=list)
    frauds: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)

    def take(self, event: PaymentScored | ChargebackReceived) -> None:
        """Take in an event; what is outside the window or of another tenant is left out."""
        if self.tenants and event.tenant not in self.tenants:
            return
        if isinstance(event, ChargebackReceived):
            in_time = self.known_at_ms is None or event.charged_back_at_ms <= self.known_at_ms
            if is_fraud(event.reason) and in_time:
                self.frauds.add(number_of(event.tenant, event.payment_id))
            return
        self._add(event.tenant, event.payment_id, event)

    def _add(self, tenant: str, payment_id: str, event: PaymentScored | Scored) -> None:
        number = number_of(tenant, payment_id)
        if not self.from_ms <= event.requested_at_ms < self.until_ms or number in self._seen:
            return
        self._seen.add(number)
        self.payer.extend(complete_payer(event.payer_features))
        self.payee.extend(complete_payee(event.payee_features))
        self.amounts.append(event.amount_minor)
        self.times.append(event.requested_at_ms)
        self.ids.append(number)
        self.cards.append(number_of(tenant, event.token))
        self.model_scores.append(event.model_score)
        self.models.append(event.model)

    def take_judged(self, judged: Judged) -> None:
        """Take in a payment with its label, whatever it is known from; one of which nothing is known is left out."""
        if judged.label.truth is Truth.UNKNOWN:
            return
        if judged.label.truth is Truth.FRAUD:
            self.frauds.add(number_of(judged.tenant, judged.payment_id))
        self._add(judged.tenant, judged.payment_id, judged.scored)

    def __len__(self) -> int:
        return len(self.amounts)

    def table(self) -> Table:
        """All of it, in the order of time; the same events in any order give the same table."""
        times, ids = _column(self.times), _column(self.ids)
        order = np.lexsort((ids, times))
        payer = _column(self.payer).reshape(len(self), len(PAYER))[order]
        payee = _column(self.payee).reshape(len(self), len(PAYEE))[order]
        amounts = _column(self.amounts)[order]
        frauds = np.fromiter(self.frauds, dtype=np.int64, count=len(self.frauds))
        return Table(
            matrix=matrix(payer, payee, amounts, times[order]),
            times=times[order],
            ids=ids[order],
            cards=_column(self.cards)[order],
            fraud=np.isin(ids[order], frauds),
            model_scores=np.frombuffer(self.model_scores, dtype=np.float64)[order] if len(self) else np.empty(0),
            models=[self.models[at] for at in order],
        )


@dataclass(frozen=True, slots=True)
class Table:
    """n payments: their features (pipeline.stages.features), and what is known of each."""

    matrix: NDArray[np.float32]
    #: When they were requested, epoch milliseconds.
    times: NDArray[np.int64]
    #: :func:`number_of` payments and of cards.
    ids: NDArray[np.int64]
    cards: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    #: What the champion said when they were paid, and its version.
    model_scores: NDArray[np.float64]
    models: list[str]


def number_of(tenant: str, name: str) -> int:
    """A payment or card as 63 bits: what is learnt from needs no names."""
    return int.from_bytes(blake2b(f"{tenant}|{name}".encode(), digest_size=8).digest(), "big") >> 1


def from_topics(recorded: Recorded, broker: BrokerAccess | str, codec: Codec) -> None:
    """Read ``payments.scored.v1`` and ``payments.chargebacks.v1`` to their ends. Raises ``TopicReadError``."""
    for topic, kind in ((SCORED.name, PaymentScored), (CHARGEBACKS.name, ChargebackReceived)):
        decode = codec.decoder(kind)

        def take(message: Any, decode: Any = decode) -> None:
            try:
                recorded.take(decode(message.value() or b""))
            except UndecodableError:
                return  # A dead letter of the stage that reads it.

        read_to_end(broker, topic, take, READ_TIMEOUT_S)


def from_database(recorded: Recorded, database: Database) -> None:
    """Read the audit tables, page by page, with every kind of label. Raises ``DatabaseError``."""
    known_at_ms = _EVER_MS if recorded.known_at_ms is None else recorded.known_at_ms
    for tenant in sorted(recorded.tenants) or ("",):
        for judged in judged_payments(
            database, tenant=tenant, from_ms=recorded.from_ms, until_ms=recorded.until_ms, as_of_ms=known_at_ms
        ):
            recorded.take_judged(judged)


def _column(values: array[int]) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)
