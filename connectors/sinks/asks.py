"""Asks of PICs, out of the audit tables and the files that rows were moved to: an intent and the answer to it.

Both are read in one stream, in which an answer nearly always follows its intent soon: so only the last intents are remembered,
and memory does not grow with the asks. Of an answer that has not met its intent by then, because it came days later or before
the time that is read, the intent is looked up by its key, wherever it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from connectors.proofs.trees import TreeId
from connectors.sinks.archives import checked_rows, files_of, in_files
from connectors.sinks.database import Database
from connectors.sinks.report_events import rows_of_stages
from pipeline.reports.events import Asked

#: Intents that are remembered until their answers come, about 300 bytes each; of others the database is asked.
INTENTS_KEPT: Final = 100_000
#: Answers that wait for their intents before these are looked up.
ANSWERS_WAITING: Final = 10_000
_INTENT, _ANSWER = "dispatch", "plugin"
#: Of intents the payload is not needed.
_PAYLOAD: Final = f"CASE WHEN stage = '{_ANSWER}' THEN CAST(payload AS TEXT) END"

#: Tenant, payment id, and the rest of the event id: "1.0" of "dispatch/1.0" and of "plugin/1.0".
_Key = tuple[str, str, str]


class _Told(msgspec.Struct, frozen=True):
    pic: str
    ask: int = 0


class _Answer(NamedTuple):
    at_ms: int
    outcome: str
    told: _Told

    def to(self, queued_at_ms: int) -> Asked:
        """With the time of its intent."""
        return Asked(queued_at_ms, self.at_ms, self.outcome, self.told.pic, self.told.ask)


_told = msgspec.json.Decoder(_Told).decode


class Asks:
    """Asks whose answer was recorded in [from_ms, until_ms), of one tenant or (empty) of all, in no order.

    Iterate once, in a :meth:`~connectors.sinks.database.Database.snapshot`. An answer whose intent expired unread is left
    out. Raises as :func:`connectors.sinks.report_events.events`.
    """

    def __init__(
        self, database: Database, *, tenant: str, from_ms: int, until_ms: int, archive: Path | None = None
    ) -> None:
        self._database, self._archive = database, archive
        self._tenant, self._between = tenant, (from_ms, until_ms)
        self._intent = f"SELECT recorded_at_ms FROM payment_events e WHERE {database.events_of('e')} AND e.event_id = ?"  # noqa: S608
        #: Of answers that are in the database: how many of their intents are in which file, and were not read.
        self.elsewhere: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Asked]:
        intents: dict[_Key, int] = {}
        answers: dict[_Key, _Answer] = {}
        for tenant, payment_id, event_id, stage, outcome, _, at_ms, payload in rows_of_stages(
            self._database,
            (_INTENT, _ANSWER),
            tenant=self._tenant,
            between=self._between,
            archive=self._archive,
            payload=_PAYLOAD,
        ):
            key = tenant, payment_id, event_id.partition("/")[2]
            if stage == _INTENT:
                answer = answers.pop(key, None)
                if answer is not None:
                    yield answer.to(at_ms)
                    continue
                intents[key] = at_ms
                if len(intents) > INTENTS_KEPT:
                    for oldest in list(islice(intents, INTENTS_KEPT // 2)):
                        del intents[oldest]
            elif payload:
                answer = _Answer(at_ms, outcome, _told(payload))
                queued_at_ms = intents.pop(key, None)
                if queued_at_ms is not None:
                    yield answer.to(queued_at_ms)
                    continue
                answers[key] = answer
                if len(answers) >= ANSWERS_WAITING:
                    yield from self._looked_up(answers)
                    answers.clear()
        yield from self._looked_up(answers)

    def _looked_up(self, answers: dict[_Key, _Answer]) -> Iterator[Asked]:
        moved: list[tuple[TreeId, int, _Answer]] = []
        for (tenant, payment_id, name), answer in answers.items():
            intent = (tenant, payment_id, f"{_INTENT}/{name}")
            if found := self._database.query(self._intent, intent):
                yield answer.to(found[0][0])
            elif found := self._database.query(self._database.archived_event_of, intent):
                moved.append(((tenant, found[0][0]), found[0][1], answer))
        # By trees and leaves: no row group is read twice.
        moved.sort(key=lambda each: each[:2])
        for tenant, of_tenant in groupby(moved, key=lambda each: each[0][0]):
            asks = list(of_tenant)
            files = files_of(self._database, tenant, [(shard, leaf) for (_, shard), leaf, _ in asks])
            if self._archive is None:
                self.elsewhere.update(files)
                continue
            with checked_rows(self._database, self._archive, tenant, in_files(files)) as archived:
                for tree_id, of_tree in groupby(asks, key=lambda each: each[0]):
                    by_leaf = {leaf: answer for _, leaf, answer in of_tree}
                    for at_ms, leaf in archived.on_leaves(("recorded_at_ms",), tree_id, list(by_leaf)):
                        yield by_leaf[leaf].to(at_ms)
