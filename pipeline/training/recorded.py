"""What was recorded of payments and their labels, as numbers: out of the audit tables or out of the topics.

The audit tables keep everything; topics keep a week, and most labels come later. So ``ptr fraud train`` reads the tables,
and topics where there is no audit sink (``ptr bench fraud``). A payment of which nothing is known is left out of both.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from connectors.broker.follow import read_to_end
from connectors.privacy.reading import RowReader
from connectors.sinks.database import Database
from connectors.sinks.judged import Scored, judged_payments
from pipeline.settings import BrokerAccess
from pipeline.stages.features import PAYEE, PAYER, complete_payee, complete_payer, matrix
from pipeline.stages.labels import Evidence, Label, Truth, label_of, of_dispute, of_review
from pipeline.topics import CHARGEBACKS, COMPLETED, REVIEWS_ANSWERED, SCORED
from schemas.codec import Codec, UndecodableError
from schemas.reasons import WENT_THROUGH
from schemas.records import ChargebackReceived, PaymentCompleted, PaymentScored, Record, ReviewAnswered

#: Longest time that reading a topic may take.
READ_TIMEOUT_S: Final = 3600.0
#: Later than any label.
_EVER_MS: Final = 2**62


@dataclass(slots=True)
class Recorded:
    """Scored payments that were requested in [from_ms, until_ms), of some tenants or of all, and which of them were fraud.

    Some 400 bytes a payment. Each payment counts once, whatever is repeated.
    """

    from_ms: int
    until_ms: int
    tenants: frozenset[str] = frozenset()
    #: What came later than this is not known yet; None: all of it is.
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

    def take(self, tenant: str, payment_id: str, scored: PaymentScored | Scored, label: Label) -> None:
        """Take in a payment with its label, whatever that is known from.

        What is outside the window or of another tenant is left out, and a payment of which nothing is known.
        """
        number = number_of(tenant, payment_id)
        wanted = self.from_ms <= scored.requested_at_ms < self.until_ms and (not self.tenants or tenant in self.tenants)
        if label.truth is Truth.UNKNOWN or not wanted or number in self._seen:
            return
        self._seen.add(number)
        if label.truth is Truth.FRAUD:
            self.frauds.add(number)
        self.payer.extend(complete_payer(scored.payer_features))
        self.payee.extend(complete_payee(scored.payee_features))
        self.amounts.append(scored.amount_minor)
        self.times.append(scored.requested_at_ms)
        self.ids.append(number)
        self.cards.append(number_of(tenant, scored.token))
        self.model_scores.append(scored.model_score)
        self.models.append(scored.model)

    @property
    def as_of_ms(self) -> int:
        """When the labels are looked at."""
        return _EVER_MS if self.known_at_ms is None else self.known_at_ms

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


@dataclass(slots=True)
class Heard:
    """What became known of payments, out of the topics; some 100 bytes a payment."""

    #: Where no stage after fraud runs, nobody says that a payment went through: all of them count as paid.
    all_paid: bool = False
    _evidence: dict[int, list[Evidence]] = field(default_factory=dict)
    _paid: set[int] = field(default_factory=set)

    def take(self, event: Record) -> None:
        """Take in a chargeback, a refund, what became of a review, or an outcome."""
        match event:
            case ChargebackReceived():
                self._add(event, of_dispute(event.kind, event.reason, event.charged_back_at_ms))
            case ReviewAnswered():
                found = of_review(event.stage, event.decision, event.result, event.ignored, event.decided_at_ms)
                self._add(event, found)
            case PaymentCompleted() if event.outcome in WENT_THROUGH:
                self._paid.add(number_of(event.tenant, event.payment_id))

    def label(self, scored: PaymentScored, as_of_ms: int) -> Label:
        """What was known of a scored payment at ``as_of_ms``."""
        number = number_of(scored.tenant, scored.payment_id)
        return label_of(
            self._evidence.get(number, ()),
            paid_at_ms=scored.requested_at_ms,
            went_through=self.all_paid or number in self._paid,
            as_of_ms=as_of_ms,
        )

    def _add(self, event: ChargebackReceived | ReviewAnswered, evidence: Evidence | None) -> None:
        if evidence is not None:
            self._evidence.setdefault(number_of(event.tenant, event.payment_id), []).append(evidence)


def from_topics(recorded: Recorded, broker: BrokerAccess | str, codec: Codec, *, all_paid: bool = False) -> None:
    """Read the topics of labels and outcomes, then ``payments.scored.v1``, to their ends. Raises ``TopicReadError``.

    ``all_paid`` as :class:`Heard` has it.
    """
    heard = Heard(all_paid)

    def judge(scored: PaymentScored) -> None:
        recorded.take(scored.tenant, scored.payment_id, scored, heard.label(scored, recorded.as_of_ms))

    sources: tuple[tuple[str, type[Record], Callable[[Any], None]], ...] = (
        (CHARGEBACKS.name, ChargebackReceived, heard.take),
        (REVIEWS_ANSWERED.name, ReviewAnswered, heard.take),
        (COMPLETED.name, PaymentCompleted, heard.take),
        (SCORED.name, PaymentScored, judge),
    )
    for topic, kind, take in sources:
        decode = codec.decoder(kind)

        def read(message: Any, decode: Any = decode, take: Callable[[Any], None] = take) -> None:
            try:
                event = decode(message.value() or b"")
            except UndecodableError:
                return  # A dead letter of the stage that reads it.
            take(event)

        read_to_end(broker, topic, read, READ_TIMEOUT_S)


def from_database(recorded: Recorded, database: Database, reader: RowReader | None = None) -> None:
    """Read the audit tables, page by page; ``reader`` opens what is sealed. Raises ``DatabaseError``."""
    for tenant in sorted(recorded.tenants) or ("",):
        for judged in judged_payments(
            database,
            tenant=tenant,
            from_ms=recorded.from_ms,
            until_ms=recorded.until_ms,
            as_of_ms=recorded.as_of_ms,
            reader=reader,
        ):
            recorded.take(judged.tenant, judged.payment_id, judged.scored, judged.label)


def _column(values: array[int]) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)
