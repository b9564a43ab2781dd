"""The Faust app that drives the runners: partitions come and go, the process starts, stalls and stops."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import gc
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import faust
import faust.streams
import faust.transport.conductor
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.exceptions import AlreadyConfiguredWarning
from faust.types import TP
from yarl import URL

from pipeline.engine import store as _store  # registers payrocks://
from pipeline.engine.assignor import Assignor
from pipeline.engine.lease import Lease
from pipeline.engine.metrics import GroupMetrics, Metrics
from pipeline.engine.offsets import StageRunsElsewhereError, adopt_offsets
from pipeline.engine.output import KafkaOutput, asker
from pipeline.engine.runner import Runner
from pipeline.engine.stage import Group, RawRecord
from pipeline.engine.transport import RawBatches
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTERS
from schemas.codec import Codec

log = logging.getLogger("ptr.engine")

#: Exit codes, sysexits.h: 70 internal error or stall, 75 try again (lease lost, broker away).
EXIT_FAILED = 70
EXIT_TRY_AGAIN = 75
WATCHDOG_INTERVAL_S = 2.0
#: Recovery of large tables takes its time; this many watchdog periods without becoming ready is a stall.
RECOVERY_PERIODS = 20


class SideInput(Protocol):
    """Something a worker reads beside its topics (tenants' configurations): started before the first record."""

    def start(self) -> None:
        """Begin to read, in the background."""

    def wait_caught_up(self, timeout_s: float) -> None:
        """Return when everything that was there is read; raises OSError or RuntimeError when that takes longer."""

    def stop(self) -> None:
        """End."""


class EventBatch:
    """A Faust event that holds a batch of records of one partition."""

    __slots__ = ("event", "partition", "previous", "records", "topic")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.topic: str = event.message.topic
        self.partition: int = event.message.partition
        self.records: Sequence[RawRecord] = event.message.value
        self.previous: int | None = event.message.checksum

    def ack(self) -> None:
        self.event.ack()


def end_process(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """End at once: nothing that was not acknowledged may be, so there is nothing to tidy up."""
    print(f"ptr worker ends: {message}", file=sys.stderr, flush=True)
    os._exit(code)


class PipelineApp(faust.App):
    """A Faust app whose agents are runners."""

    lease: Lease
    batched_topics: frozenset[str]
    end_process = staticmethod(end_process)

    def prepare(
        self,
        settings: Settings,
        groups: Sequence[Group],
        codec: Codec,
        metrics: Metrics,
        side_inputs: Sequence[SideInput],
    ) -> None:
        """Declare topics, tables and agents for ``groups``."""
        self.settings = settings
        self.groups = tuple(groups)
        self.lease = Lease(settings.session_timeout_s)
        self.metrics = metrics
        self.side_inputs = tuple(side_inputs)
        self.runners: dict[str, Runner] = {}
        self.services: list[Any] = []
        self.started_at = time.monotonic()
        self._shared_output: KafkaOutput | None = None
        self._asker: AdminClient | None = None
        self.ready_at: float | None = None
        self._committed: dict[TP, tuple[int, float]] = {}
        sources = {stage.source for group in groups for stage in group.stages}
        changelogs = {group.table.changelog for group in groups if group.table is not None}
        self.sources = frozenset(sources)
        self.batched_topics = frozenset(sources | changelogs)
        for group in groups:
            self._declare(group, codec)
        self.on_partitions_revoked.connect(self._give_partitions_away)
        self.on_rebalance_complete.connect(self._partitions_recovered)
        self.task(self._watchdog)

    def _declare(self, group: Group, codec: Codec) -> None:
        settings, table = self.settings, None
        if group.table is not None:
            # Given at construction: a changelog topic set afterwards is unknown to recovery, which then reads it for ever.
            changelog = self.topic(
                group.table.changelog,
                schema=RawBatches(),
                key_type=bytes,
                value_type=bytes,
                key_serializer="raw",
                value_serializer="raw",
                partitions=settings.partitions,
                compacting=True,
                deleting=False,
                internal=True,
            )
            table = self.Table(
                group.table.name,
                partitions=settings.partitions,
                key_type=bytes,
                value_type=bytes,
                changelog_topic=changelog,
                options=dict(_store.ROCKSDB_OPTIONS),
                # In batches of a thousand records, so that recovery holds a few thousand rows and not a million.
                recovery_buffer_size=4,
            )
            table.key_serializer = table.value_serializer = "raw"

        def store_of(partition: int) -> _store.PartitionStore:
            assert table is not None
            store: _store.Store = table.data
            return store.partition(partition)

        async def run(stream: Any) -> None:
            runner = self.runners.get(group.name)
            if runner is None:
                runner = self.runners[group.name] = Runner(
                    group,
                    output=self._output_of(group),
                    store_of=store_of,
                    lease=self.lease,
                    codec=codec,
                    metrics=GroupMetrics(
                        self.metrics,
                        tuple(stage.name for stage in group.stages),
                        group.table.name if group.table is not None else "",
                    ),
                    partitions=settings.partitions,
                    dead_letter_topic=DEAD_LETTERS.name,
                    fail=end_process,
                    handed_over=lambda topic, partition: self.consumer.handed_over(topic, partition),
                    read_on=self._read_on,
                )
                runner.start()
            async for event in stream.noack().events():
                runner.add(EventBatch(event))
                await runner.room()

        topic = self.topic(*[stage.source for stage in group.stages], schema=RawBatches())
        # Stock topics of several names have none, and `faust agents` ends with a traceback.
        topic.get_topic_name = lambda: ", ".join(topic.topics)
        self.agent(topic, name=group.name)(run)

    def _output_of(self, group: Group) -> KafkaOutput:
        """A producer of its own, but for groups that wait and have no table: theirs is shared. Its threads and connections cost
        more than the little that they publish, and waiting for a bit of somebody else's does no harm."""
        shares = group.waits and group.table is None
        if shares and self._shared_output is not None:
            return self._shared_output
        access = self.settings.access
        self._asker = self._asker or asker(access)
        output = KafkaOutput(access, self.settings.session_timeout_s, end_process, self._asker)
        if shares:
            self._shared_output = output
        return output

    def _read_on(self, topic: str, partition: int, on: bool) -> None:
        tp = TP(topic, partition)
        (self.consumer.on_buffer_drop if on else self.consumer.on_buffer_full)(tp)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Before the first record: side inputs are read to their end, offsets of other groups are taken over."""
        if faust.streams._CStreamIterator is None or faust.transport.conductor.ConductorHandler is None:
            end_process("Faust's compiled parts are missing: reinstall faust-streaming from its wheel")
        try:
            await self._catch_up()
        except (OSError, RuntimeError, KafkaException) as error:
            end_process(f"{error}", EXIT_TRY_AGAIN)
        for service in self.services:
            await service.start(self)
        await super().on_start()

    async def on_first_start(self) -> None:
        """Before anything is written."""
        self._heed_faust_datadir()
        self._lock_datadir()
        await super().on_first_start()

    def _heed_faust_datadir(self) -> None:
        """``faust --datadir`` is told to the environment only after the app was made."""
        if given := os.environ.get("F_DATADIR"):
            self.settings = dataclasses.replace(self.settings, datadir=Path(given))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AlreadyConfiguredWarning)
                self.conf.datadir = self.settings.datadir
                self.conf.consumer_group_instance_id = self.settings.worker_instance

    def _lock_datadir(self) -> None:
        """Held until the process ends, however it ends."""
        datadir = self.settings.datadir
        try:
            datadir.mkdir(parents=True, exist_ok=True)
            self._datadir_lock = (datadir / "worker.lock").open("w")
            fcntl.flock(self._datadir_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            end_process(f"another worker runs in {datadir}: give each its own PTR_DATADIR", EXIT_TRY_AGAIN)
        except OSError as error:
            end_process(f"PTR_DATADIR: {datadir} cannot be used: {error.strerror}")

    async def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        for side_input in self.side_inputs:
            side_input.start()
        for side_input in self.side_inputs:
            await loop.run_in_executor(None, side_input.wait_caught_up, 30.0)
        # A worker that has just ended counts as running until its session is over.
        deadline = time.monotonic() + self.settings.session_timeout_s + 2.0
        while True:
            try:
                await loop.run_in_executor(None, adopt_offsets, self.settings, sorted(self.sources))
                return
            except StageRunsElsewhereError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1.0)

    async def on_stop(self) -> None:
        """Finish the cycles, commit, and leave within seconds."""
        try:
            await self._drain()
        except TimeoutError:
            log.warning("a cycle did not end in time; what it held is repeated after the restart")
        await super().on_stop()
        for service in self.services:
            await service.stop()
        for side_input in self.side_inputs:
            side_input.stop()

    async def _drain(self) -> None:
        self.metrics.ready.set(0)
        self.ready_at = None
        await asyncio.gather(*(runner.drain() for runner in self.runners.values()))
        if self._consumer is not None:
            await self._consumer.commit()

    async def _give_partitions_away(self, app: Any, revoked: set[TP], **_: Any) -> None:
        try:
            await self._drain()
            self.consumer.forget_buffered()
        except TimeoutError:
            end_process("partitions are taken away and a cycle did not end in time")

    async def _partitions_recovered(self, app: Any, **_: Any) -> None:
        self.consumer.forget_acknowledgements()
        assigned = [(tp.topic, tp.partition) for tp in self.consumer.assignment() if tp.topic in self.sources]
        self.lease.begin()
        for runner in self.runners.values():
            mine = [stage.source for stage in runner.group.stages if stage.handle_batch is not None]
            ends = await runner.output.ends(tp for tp in assigned if tp[0] in mine)
            sources = {stage.source for stage in runner.group.stages}
            partitions = {partition for topic, partition in assigned if topic in sources}
            # In a thread: heartbeats go on however many rows there are.
            await asyncio.get_running_loop().run_in_executor(None, runner.recover_alarms, partitions)
            runner.resume(ends, await self._ends_of_first(runner, assigned), partitions)
        self._committed.clear()
        if self.ready_at is None:
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
        self.ready_at = time.monotonic()
        self.metrics.ready.set(1)

    async def _ends_of_first(self, runner: Runner, assigned: list[tuple[str, int]]) -> dict[int, int]:
        first = [tp for tp in assigned if tp[0] == runner.group.first]
        begins, ends = await runner.output.begins(first), await runner.output.ends(first)
        return {tp[1]: ends[tp] for tp in first if begins[tp] < ends[tp]}  # Where there is nothing, nothing comes.

    @property
    def is_ready(self) -> bool:
        """Assigned, recovered, and not in a rebalance."""
        return self.ready_at is not None and not self.rebalancing

    # -- watchdog -----------------------------------------------------------------------------------------------------

    async def _watchdog(self) -> None:
        """Lag and no commit for ``watchdog_s`` ends the process: a consumer that silently stopped is a known disease."""
        limit_s = self.settings.watchdog_s
        while not self.should_stop:
            await self.sleep(WATCHDOG_INTERVAL_S)
            if not self.is_ready:
                since = time.monotonic() - (self.ready_at or self.started_at)
                if self.ready_at is None and since > RECOVERY_PERIODS * limit_s:
                    end_process(f"not ready for {since:.0f} s (rebalancing or recovering)")
                continue
            await self._look_for_stall(limit_s)

    async def _look_for_stall(self, limit_s: float) -> None:
        consumer = self.consumer
        # Of groups that may wait on purpose, when they last did, or went on.
        progress = {
            stage.source: runner.progress_at
            for runner in self.runners.values()
            if runner.group.waits
            for stage in runner.group.stages
        }
        tps = [tp for tp in consumer.assignment() if tp.topic in self.sources]
        if not tps or not self.runners:
            return
        output = next(iter(self.runners.values())).output
        try:
            ends = await output.ends((tp.topic, tp.partition) for tp in tps)
        except Exception as error:  # the broker is away: delivery and heartbeat time-outs decide, not the watchdog
            log.warning("the broker does not tell its offsets: %s", type(error).__name__)
            return
        now, lag_of = time.monotonic(), dict.fromkeys(self.sources, 0)
        for tp in tps:
            committed = consumer._committed_offset.get(tp) or 0
            end = ends[tp.topic, tp.partition]
            lag = 0 if consumer.is_read(tp, end) else max(end - committed, 0)
            lag_of[tp.topic] += lag
            before, since = self._committed.get(tp, (committed, now))
            if lag == 0 or committed != before:
                since = now
            since = max(since, progress.get(tp.topic, 0.0))
            self._committed[tp] = (committed, since)
            if now - since > limit_s:
                end_process(
                    f"{tp.topic} partition {tp.partition}: {lag} records wait and nothing was committed "
                    f"for {now - since:.0f} s (PTR_WATCHDOG_S={limit_s:g})"
                )
        for topic, lag in lag_of.items():
            self.metrics.lag.labels(topic).set(lag)


def make_app(
    settings: Settings,
    groups: Sequence[Group],
    *,
    codec: Codec,
    metrics: Metrics | None = None,
    side_inputs: Sequence[SideInput] = (),
) -> PipelineApp:
    """The app for one worker of ``settings.worker_group``. Nothing is contacted before it starts."""
    brokers = [URL(f"payk://{address}") for address in settings.broker.split(",")]
    app = PipelineApp(
        settings.worker_group,
        broker=brokers,
        broker_credentials=settings.access.faust_credentials(),
        store="payrocks://",
        datadir=settings.datadir,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        key_serializer="raw",
        value_serializer="raw",
        cython_optimizations=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.worker_instance,
        consumer_max_fetch_size=2 << 20,
        broker_max_poll_records=4000,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=settings.session_timeout_s,
        broker_commit_interval=1.0,
        stream_buffer_maxsize=64,
        stream_wait_empty=False,
        PartitionAssignor=Assignor,
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
    )
    app.prepare(settings, groups, codec, metrics or Metrics(), side_inputs)
    return app
