"""Scored payments with what became known of them, out of the audit tables: the one reader of labels.

Read in pages of payments, in the order of their ids, so memory does not grow with the tables; what is in files is read in the
order of these.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.privacy.reading import READ_COLUMNS, Read, RowReader
from connectors.sinks.archives import ArchiveFileError, checked_rows, in_months
from connectors.sinks.database import Database, wanted
from pipeline.stages.labels import Evidence, Label, Source, is_fraud, label_of, of_dispute, of_review
from schemas.limits import REQUESTED_AHEAD_MS_MAX
from schemas.reasons import WENT_THROUGH

#: Payments whose events are asked for at once.
PAGE_PAYMENTS: Final = 500

#: The first decision of fraud has this event id; one that a review gave has another.
_SCORED_ID: Final = "payee"
#: Stages whose events tell later what a payment was.
_TOLD_LATER: Final = ("chargeback", "reviews")
_PAGE: Final = (
    "SELECT tenant, payment_id, outcome FROM payments WHERE (tenant, payment_id) > (?, ?) AND tenant <= ?"
    " AND requested_at_ms >= ? AND requested_at_ms < ? ORDER BY tenant, payment_id LIMIT ?"
)
#: Sorts after every tenant.
_LAST_TENANT: Final = "~"
#: When the last event came that tells the state of one of these payments.
_LAST_TOLD: Final = "SELECT MAX(updated_at_ms) FROM payments WHERE requested_at_ms >= ? AND requested_at_ms < ?"
#: A row: these columns of a file, and the same in a SELECT.
_ROW: Final = (
    *("tenant", "payment_id", "event_id", "stage", "outcome"),
    *("tenant", "topic", "partition", "offset", "avro", "payload"),
)
_COLUMNS: Final = f"e.tenant, e.payment_id, e.event_id, e.stage, e.outcome, {READ_COLUMNS.format('e')}"
#: After every time.
_EVER_MS: Final = 1 << 62
#: Pages of what files tell that are kept in memory.
_CACHE_KIB: Final = 8 * 1024

Row = tuple[Any, ...]
#: Tenant, payment id, outcome.
_Payment = tuple[str, str, str | None]
#: Tenant (empty: all), and from when to before when payments were requested.
_Span = tuple[str, int, int]
_ids_of = itemgetter(0, 1)


class Hit(msgspec.Struct, frozen=True):
    """A rule that fired, as the event has it."""

    rule: str
    value: float
    limit: float
    weight: float
    snoozed: bool = False


class Scored(msgspec.Struct, frozen=True):
    """What ``payments.scored.v1`` said of a payment."""

    requested_at_ms: int
    amount_minor: int
    currency: str
    score: float
    payer_features: list[int]
    payee_features: list[int]
    token: str
    rule_hits: list[Hit] = []
    rule_score: float = 0.0
    model: str = ""
    model_score: float = 0.0
    challenger: str = ""
    challenger_score: float = 0.0


class Judged(msgspec.Struct, frozen=True):
    """A scored payment and its label. ``outcome`` is fraud's own decision, before any review."""

    tenant: str
    payment_id: str
    outcome: str
    scored: Scored
    label: Label


class _Dispute(msgspec.Struct, frozen=True):
    charged_back_at_ms: int
    reason: str = "fraud"
    kind: str = Source.CHARGEBACK.value


class _Review(msgspec.Struct, frozen=True):
    stage: str
    decision: str
    result: str
    decided_at_ms: int
    ignored: str = ""


class _Requested(msgspec.Struct, frozen=True):
    requested_at_ms: int


_scored = msgspec.json.Decoder(Scored)
_dispute = msgspec.json.Decoder(_Dispute)
_review = msgspec.json.Decoder(_Review)
_requested = msgspec.json.Decoder(_Requested)


def judged_payments(
    database: Database,
    *,
    tenant: str = "",
    from_ms: int,
    until_ms: int,
    as_of_ms: int,
    reader: RowReader | None = None,
    archive: Path | None = None,
) -> Iterator[Judged]:
    """Scored payments that were requested in [from_ms, until_ms), of one tenant or of all, with what was known of them at
    ``as_of_ms``; in the order of their ids. A token that is sealed, for ``reader`` too, has a stand-in, the same for all
    payments of a payer.

    With ``archive``, a folder, what is in files and no longer in the database is read too; payments whose score is there come
    first, in the order of the files. Read it in one :meth:`~connectors.sinks.database.Database.snapshot`. Raises
    ``DatabaseError``, :class:`~connectors.sinks.archives.ArchiveFileError` and what ``reader`` raises.
    """
    judge = _Judge(as_of_ms, (reader or RowReader(database)).read)
    span = (tenant, from_ms, until_ms)
    with closing(_Heard()) as heard:
        if archive is not None:
            _hear_archived(heard, database, span, archive)
            for page in _archived_pages(database, span, archive):
                yield from judge.page(page, _payments_of(database, page), _events_of(database, page), heard)
        for payments in _pages(database, *span):
            yield from judge.page([], payments, _events_of(database, payments), heard)


class _Heard:
    """What files tell of payments, on disk: some files may tell of many. It holds ids and times, no names."""

    def __init__(self) -> None:
        # An empty name is SQLite's word for a file of its own, deleted when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute(
            "CREATE TABLE heard (tenant TEXT, payment_id TEXT, source TEXT, at_ms INTEGER, reason TEXT)"
        )
        self._is_empty = True

    def take(self, told: Iterable[tuple[str, str, Evidence]]) -> None:
        """Keep what is ``told``, once: tenant, payment id, evidence. Raises :class:`ArchiveFileError` when there is no room."""
        rows = ((tenant, payment_id, each.source.value, each.at_ms, each.reason) for tenant, payment_id, each in told)
        try:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO heard VALUES (?, ?, ?, ?, ?)", rows)
            self._database.execute("CREATE INDEX by_payment ON heard (tenant, payment_id)")
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise ArchiveFileError(
                f"what the files tell of payments does not fit into the temporary folder ({error}): make room, or name another"
                " folder in SQLITE_TMPDIR"
            ) from None
        self._is_empty = self._database.execute("SELECT 1 FROM heard LIMIT 1").fetchone() is None

    def of(self, payment: tuple[str, str]) -> Iterable[Evidence]:
        """What was heard of a payment."""
        if self._is_empty:
            return ()
        sql = "SELECT source, at_ms, reason FROM heard WHERE tenant = ? AND payment_id = ?"
        return [Evidence(Source(source), *more) for source, *more in self._database.execute(sql, payment)]

    def close(self) -> None:
        """Forget it."""
        self._database.close()


def _hear_archived(heard: _Heard, database: Database, span: _Span, archive: Path) -> None:
    """Disputes and reviews in files: of a payment they come at any time after it."""
    tenant, from_ms, _ = span
    between = (from_ms - REQUESTED_AHEAD_MS_MAX, _EVER_MS)
    columns = ("tenant", "payment_id", "stage", "outcome", "payload")
    with checked_rows(database, archive, tenant or None, in_months(*between)) as archived:
        rows = archived.chosen(columns, {"stage": _TOLD_LATER}, from_ms=between[0], until_ms=between[1])
        heard.take(
            (tenant, payment_id, found)
            for tenant, payment_id, stage, outcome, payload in rows
            if payload and outcome != "dead_letter" and (found := _evidence_of(stage, payload)) is not None
        )


def _archived_pages(database: Database, span: _Span, archive: Path) -> Iterator[list[Row]]:
    """First decisions about payments of ``span`` in files, some at a time."""
    tenant, from_ms, until_ms = span
    of_tenant = (" AND tenant = ?", (tenant,)) if tenant else ("", ())
    ((last_ms,),) = database.query(_LAST_TOLD + of_tenant[0], (from_ms, until_ms, *of_tenant[1]))
    if last_ms is None:
        return
    between = (from_ms - REQUESTED_AHEAD_MS_MAX, last_ms + REQUESTED_AHEAD_MS_MAX)
    with checked_rows(database, archive, tenant or None, in_months(*between)) as archived:
        rows = (
            row
            for row in archived.chosen(_ROW, {"event_id": (_SCORED_ID,)}, from_ms=between[0], until_ms=between[1])
            if row[-1] and from_ms <= _requested.decode(row[-1]).requested_at_ms < until_ms
        )
        while page := list(islice(rows, PAGE_PAYMENTS)):
            yield page


def _payments_of(database: Database, page: list[Row]) -> list[_Payment]:
    sql = (
        f"{wanted(len(page))} SELECT p.tenant, p.payment_id, p.outcome FROM wanted w"  # noqa: S608
        " JOIN payments p ON p.tenant = w.tenant AND p.payment_id = w.payment_id"
    )
    return database.query(sql, _ids(page))


def _pages(database: Database, tenant: str, from_ms: int, until_ms: int) -> Iterator[list[_Payment]]:
    """Payments, some at a time."""
    after = (tenant, "")
    while True:
        page = database.query(_PAGE, (*after, tenant or _LAST_TENANT, from_ms, until_ms, PAGE_PAYMENTS))
        if page:
            yield page
        if len(page) < PAGE_PAYMENTS:
            return
        after = page[-1][:2]


def _events_sql(database: Database, payments: int) -> str:
    """What is told of so many payments: their ids are the parameters."""
    return (
        f"{wanted(payments)} SELECT {_COLUMNS} FROM wanted w"  # noqa: S608
        " JOIN payments p ON p.tenant = w.tenant AND p.payment_id = w.payment_id"
        f" JOIN payment_events e ON {database.is_about('e', 'p')}"
        " AND e.stage IN ('payee', 'chargeback', 'reviews') AND e.outcome <> 'dead_letter'"
        " ORDER BY p.tenant, p.payment_id, e.event_id"
    )


def _events_of(database: Database, page: Sequence[Row]) -> Iterator[Row]:
    # Of one payment there may be any number of events.
    yield from database.stream(_events_sql(database, len(page)), _ids(page))


def _ids(page: Sequence[Row]) -> list[object]:
    return [name for row in page for name in row[:2]]


class _Judge:
    """Judges payments page by page."""

    def __init__(self, as_of_ms: int, read: Callable[[Row], Read]) -> None:
        self._as_of_ms, self._read = as_of_ms, read

    def page(
        self, scored: list[Row], payments: list[_Payment], events: Iterator[Row], heard: _Heard
    ) -> Iterator[Judged]:
        """Those of ``payments`` that were scored. ``events`` are in the order of their ids; ``scored`` are events too."""
        outcomes = {(tenant, payment_id): outcome for tenant, payment_id, outcome in payments}
        rows = merge(sorted(scored, key=_ids_of), events, key=_ids_of)
        for payment, of_payment in groupby(rows, key=_ids_of):
            if payment in outcomes:
                went_through = outcomes[payment] in WENT_THROUGH
                judged = self._judged(payment, of_payment, heard.of(payment), went_through)
                if judged is not None:
                    yield judged

    def _judged(
        self, payment: tuple[str, str], events: Iterator[Row], heard: Iterable[Evidence], went_through: bool
    ) -> Judged | None:
        scored: Scored | None = None
        decided = ""
        evidence: dict[tuple[Source, bool], Evidence] = {}

        def hear(found: Evidence) -> None:
            # The earliest of each kind is enough, and there may be any number of them.
            kind = found.source, is_fraud(found.reason)
            if kind not in evidence or found.at_ms < evidence[kind].at_ms:
                evidence[kind] = found

        for each in heard:
            hear(each)
        for _, _, event_id, stage, outcome, *stored in events:
            payload = stored[-1]
            if not payload:
                continue
            if event_id == _SCORED_ID:
                event = self._read(tuple(stored))
                scored, decided = _scored.decode(event.payload or payload), outcome
                if event.stand_in and not scored.token:
                    scored = msgspec.structs.replace(scored, token=event.stand_in)
            elif (found := _evidence_of(stage, payload)) is not None:
                hear(found)
        if scored is None:
            return None
        label = label_of(
            evidence.values(), paid_at_ms=scored.requested_at_ms, went_through=went_through, as_of_ms=self._as_of_ms
        )
        return Judged(*payment, decided, scored, label)


def _evidence_of(stage: str, payload: str) -> Evidence | None:
    return _disputed(payload) if stage == "chargeback" else _reviewed(payload)


def _disputed(payload: str) -> Evidence | None:
    read = _dispute.decode(payload)
    return of_dispute(read.kind, read.reason, read.charged_back_at_ms)


def _reviewed(payload: str) -> Evidence | None:
    try:
        read = _review.decode(payload)
    except msgspec.ValidationError:  # another event of reviews
        return None
    return of_review(read.stage, read.decision, read.result, read.ignored, read.decided_at_ms)
