"""Which partitions are asked for together: those that bring something now, and apart from them those that are quiet.

A worker reads some seventy partitions, more with each PIC, and a dozen of them bring nearly everything. aiokafka asks for all
of them in every fetch, so that each fetch costs the worker and the broker the sum of them. Here the quiet ones are asked for in
a fetch of their own, over a connection of its own, which the broker holds until one of them has something
(docs/decisions/0049-quiet-partitions.md).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiokafka import errors
from aiokafka.consumer import consumer, fetcher
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

#: A partition that brought nothing for this long is quiet.
QUIET_AFTER_S: Final = 5.0
#: How long the broker may hold a fetch of quiet partitions.
QUIET_WAIT_MS: Final = 500


class Lane(IntEnum):
    """A connection to a broker, beside those that aiokafka has (``aiokafka.client.ConnectionGroup``)."""

    BUSY = 0
    QUIET = 2


class LaneOf(NamedTuple):
    """The lane to one broker; at most one fetch is under way in it."""

    node: int
    lane: Lane


class Fetcher(fetcher.Fetcher):
    """aiokafka's, with two lanes to each broker, looking only at the partitions that may be asked for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sorted: Any = None
        #: Monotonic time of the last records, or of what else made it worth looking often.
        self._busy: dict[TopicPartition, float] = {}
        self._quiet: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        #: Asked for and not answered.
        self._asked: set[TopicPartition] = set()
        super().__init__(*arguments, **options)

    def seek_to(self, tp: TopicPartition, offset: int) -> None:
        super().seek_to(tp, offset)
        self._look_often([tp])

    def request_offset_reset(self, tps: Iterable[TopicPartition], strategy: int) -> Any:
        waiting = super().request_offset_reset(tps, strategy)
        self._look_often(tps)
        return waiting

    def _look_often(self, tps: Iterable[TopicPartition]) -> None:
        now = time.monotonic()
        for tp in tps:
            self._quiet.discard(tp)
            self._paused.discard(tp)
            self._busy[tp] = now

    def _get_actions_per_node(self, assignment: Any) -> tuple[Any, ...]:
        """Fetches to send, positions to ask for, how long to wait, whether a leader is missing, and no futures: partitions
        that are read on are found at the next look."""
        state_of, tps = assignment.state_value, assignment.tps
        if assignment is not self._sorted:
            self._sorted = assignment
            self._busy, self._quiet, self._paused, self._asked = {}, set(), set(), set()
            self._look_often(tps)
        now = time.monotonic()
        if resumed := [tp for tp in self._paused if not state_of(tp).paused]:
            self._look_often(resumed)

        wanted: defaultdict[LaneOf, list[tuple[TopicPartition, int]]] = defaultdict(list)
        unpositioned: defaultdict[int, list[TopicPartition]] = defaultdict(list)
        unread: defaultdict[LaneOf, list[float]] = defaultdict(list)
        leaderless = False

        def look_at(tp: TopicPartition, lane: Lane) -> None:
            nonlocal leaderless
            if tp in self._asked:
                return
            node = self._select_read_replica(tp)
            if held := self._records.get(tp):
                # Its records are not taken yet. What is asked for meanwhile leaves it out.
                if backoff := held.calculate_backoff():
                    unread[LaneOf(node, lane)].append(backoff)
                return
            state = state_of(tp)
            if node is None or node == -1:
                leaderless = True
            elif not state.has_valid_position:
                leader = self._client.cluster.leader_for_partition(tp)
                if leader is None or leader == -1:
                    leaderless = True
                elif leader not in self._in_flight:
                    unpositioned[leader].append(tp)
            elif state.paused:
                self._busy.pop(tp, None)
                self._quiet.discard(tp)
                self._paused.add(tp)
            elif (to := LaneOf(node, lane)) not in self._in_flight:
                wanted[to].append((tp, state.position))

        for tp, seen_at in list(self._busy.items()):
            if now - seen_at > QUIET_AFTER_S and tp not in self._asked:
                del self._busy[tp]
                self._quiet.add(tp)
            else:
                look_at(tp, Lane.BUSY)
        for tp in self._quiet - self._asked:
            look_at(tp, Lane.QUIET)

        requests = []
        for to, partitions in wanted.items():
            # Those that have records which nobody took are waited for a little, so that they are asked for too.
            if to not in unread and to.node not in unpositioned:
                self._asked.update(tp for tp, _ in partitions)
                requests.append((to, self._request(partitions, to.lane)))
        backoff = min(map(max, unread.values())) if unread else self._fetcher_timeout
        return requests, unpositioned, backoff, leaderless, ()

    def _request(self, partitions: list[tuple[TopicPartition, int]], lane: Lane) -> FetchRequest:
        random.shuffle(partitions)  # The first ones fill the response.
        by_topic: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, partition), position in partitions:
            by_topic[topic].append((partition, position, self._max_partition_fetch_bytes))
        return FetchRequest(
            QUIET_WAIT_MS if lane is Lane.QUIET else self._fetch_max_wait_ms,
            self._fetch_min_bytes,
            self._fetch_max_bytes,
            self._isolation_level,
            list(by_topic.items()),
            rack_id="",
        )

    async def _proc_fetch_request(self, assignment: Any, to: LaneOf, request: FetchRequest) -> bool:
        """Send one fetch and keep what it brings; whether it brought anything."""
        positions = {TopicPartition(topic, asked[0]): asked[1] for topic, many in request.topics for asked in many}
        try:
            response = await self._client.send(to.node, request, group=to.lane)
        except errors.KafkaError as error:
            fetcher.log.error("Failed fetch messages from %s: %s", to.node, error)
            await asyncio.sleep(self._retry_backoff)
            return False
        except asyncio.CancelledError:
            return False
        finally:
            self._asked.difference_update(positions)
        if not assignment.active:
            return False
        now, now_ms, brought = time.monotonic(), int(time.time() * 1000), False
        # Before the records stands, of brokers older than 2.3 not, the replica to read from.
        aborted_at = -3 if response.API_VERSION >= 11 else -2
        for topic, partitions in response.topics:
            for partition, failed, highwater, stable, *rest in partitions:
                tp = TopicPartition(topic, partition)
                state = assignment.state_value(tp)
                if state._position != positions[tp]:
                    continue  # It was set elsewhere meanwhile.
                if failed:
                    brought |= self._failed(tp, state, failed)
                    continue
                state.highwater, state.lso, state.timestamp = highwater, stable, now_ms
                if not (raw := rest[-1]):
                    continue
                brought = True
                self._quiet.discard(tp)
                self._busy[tp] = now
                self._keep(assignment, tp, state, raw, rest[aborted_at])
        return brought

    def _keep(self, assignment: Any, tp: TopicPartition, state: Any, raw: bytes, aborted: Any) -> None:
        records = MemoryRecords(raw)
        if records.has_next():
            found = fetcher.PartitionRecords(
                tp, records, aborted, state.position, None, None, self._check_crcs, self._isolation_level
            )
            self._records[tp] = fetcher.FetchResult(
                tp, partition_records=found, assignment=assignment, backoff=self._prefetch_backoff
            )
        else:
            self._set_error(
                tp, errors.RecordTooLargeError(f"{tp}: a record at {state.position} is larger than a fetch")
            )
            state.consumed_to(state.position + 1)

    def _failed(self, tp: TopicPartition, state: Any, code: int) -> bool:
        """Whether whoever reads is to be told at once."""
        error = errors.for_code(code)
        self._look_often([tp])
        if error in (errors.NotLeaderForPartitionError, errors.UnknownTopicOrPartitionError):
            self._client.force_metadata_update()
        elif error is errors.OffsetOutOfRangeError:
            fetcher.log.info("%s: offset %s is out of range", tp, state.position)
            state.await_reset(self._default_reset_strategy)
        elif error is errors.TopicAuthorizationFailedError:
            self._set_error(tp, error(tp.topic))
            return True
        else:
            fetcher.log.warning("%s: a fetch failed: %s", tp, error.__name__)
        return False


consumer.Fetcher = Fetcher
