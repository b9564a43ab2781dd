"""The audit sink: every audited record becomes a row, once.

Offsets are stored in the transaction of the rows, so a crash anywhere loses nothing and doubles nothing: what was not
committed is read again. Kafka's own consumer groups are not used.

Outcomes are read first: an outcome is a payment's whole state, so the events before it, read later, change no row of
``payments``. That matters under a backlog, when a payment's events are far apart and none would share a change.

While a backlog is read, rows of one batch are made while the one before is written: one ahead, and no more. Batches are
written in their order, each when the one before is in the database; when that fails, what was made after it is thrown away and
read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.privacy.masters import MasterKeyError, MasterKeys
from connectors.privacy.vault import is_in_use
from connectors.proofs.heads import HeadsFileError
from connectors.proofs.leaf_log import LeafLogError
from connectors.sinks.database import (
    Batch,
    Database,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseError,
    Partition,
    open_database,
)
from connectors.sinks.preparing import Apart, Here, Prepared, PreparingError, Raw
from connectors.sinks.rows import RegistryAwayError, expired_row
from connectors.sinks.signing import HeadSigner
from connectors.sinks.writing import Writer
from pipeline.settings import BrokerAccess, client_config
from pipeline.topics import COMPLETED
from schemas.codec import Codec

#: Rows and bytes of one transaction: large enough that a payment's events share one change of its row and pages of the
#: index are written once for several events, small enough for memory (about 4 KB a row).
BATCH_ROWS_MAX = 10_000
BATCH_BYTES_MAX = 16 << 20
#: What waits in a client's memory.
QUEUED_KIB_MAX = 16 * 1024
#: Of one partition at a time: little, so that a batch holds the same stretch of every topic and a payment's events meet
#: in it. (A larger record comes all the same.)
FETCH_BYTES = 64 * 1024
#: An incomplete batch is written after this time.
CONSUME_S = 0.5
#: How often topics that are missing, and new partitions, are looked for.
METADATA_MISSING_S = 3.0
METADATA_S = 30.0
BROKER_TIMEOUT_S = 5.0
#: A sink that was killed or replaced a moment ago may still hold the lock.
LOCK_WAIT_S = 15.0
FIRST_DELAY_S = 0.25
DELAY_MAX_S = 10.0
#: The same trouble with the broker is said again after this time.
SAY_AGAIN_S = 10.0


class SinkError(Exception):
    """The sink cannot go on; the text says why and what to do."""


@dataclass(slots=True)
class Status:
    """What a sink did since it started, and how far behind it is."""

    events: int = 0
    #: Events that were there already.
    repeated: int = 0
    unreadable: int = 0
    #: Events that were stored without a master key: what is personal in them is readable.
    unsealed: int = 0
    transactions: int = 0
    #: Heads that were signed.
    heads: int = 0
    #: Records that expired before they were read.
    expired: int = 0
    #: Records that wait, as far as the broker has told; None while nothing was read.
    lag: int | None = None


@dataclass(slots=True)
class _Work:
    """A batch while it is collected."""

    records: list[Raw] = field(default_factory=list)
    #: What became of the records.
    batch: Batch = field(default_factory=Batch)
    #: What comes after the batch, by partition.
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    size_bytes: int = 0
    unreadable: int = 0


class AuditSink:
    """Reads ``topics`` from ``brokers`` into the database at ``database_url``. Use from one thread.

    ``once`` ends at what was the end of every topic at the start. ``say`` takes lines for the operator. A database that
    is away is waited for, ``give_up_after_s`` at most; a broker that is away is waited for without limit (with
    ``once``: ``give_up_after_s``). ``signer`` signs the trees of the rows after each batch, unless it puts that
    off, and at the end. With ``masters`` what is personal is sealed; without, rows are stored as they come, and a
    database whose rows are sealed is refused. ``apart``: rows are made in a process of its own, as is worth it for many.
    ``consumer`` makes clients of Kafka.
    """

    def __init__(
        self,
        database_url: str,
        brokers: BrokerAccess | str,
        topics: Sequence[str],
        codec: Codec,
        *,
        once: bool = False,
        give_up_after_s: float = 300.0,
        batch_rows_max: int = BATCH_ROWS_MAX,
        signer: HeadSigner | None = None,
        masters: MasterKeys | None = None,
        say: Callable[[str], None] = lambda line: None,
        on_status: Callable[[Status], None] | None = None,
        on_written: Callable[[Batch, float], None] | None = None,
        status_every_s: float = 10.0,
        apart: bool = False,
        consumer: Callable[[dict[str, Any]], Any] = Consumer,
    ) -> None:
        self.status = Status()
        self._database_url = database_url
        self._brokers = brokers
        self._topics = list(topics)
        self._codec = codec
        self._masters = masters
        self._apart = apart
        self._once = once
        self._give_up_after_s = give_up_after_s
        self._batch_rows_max = batch_rows_max
        self._signer = signer
        #: Something may have been written since trees were signed.
        self._unsigned = True
        self._say = say
        self._on_status = on_status
        #: Told of each batch that is in the database, and of the seconds that writing it took.
        self._on_written = on_written
        self._status_every_s = status_every_s
        self._consumer = consumer
        self._database: Database | None = None
        self._maker: Apart | Here | None = None
        self._writer: Writer | None = None
        #: Batches on their way, the later one first: its rows are being made, or are made, or it is being written.
        self._making: _Work | None = None
        self._made: _Work | None = None
        self._under_way: _Work | None = None
        #: Of the outcomes, and of all other topics.
        self._outcomes: Any = None
        self._others: Any = None
        #: What the database holds; what a batch expects there.
        self._stored: dict[Partition, int] = {}
        #: Assigned partitions and the next offset to read.
        self._next: dict[Partition, int] = {}
        #: Ends when the partitions were found; partitions whose end was reached (past markers, which are no records).
        self._ends: dict[Partition, int] = {}
        self._at_end: set[Partition] = set()
        self._looked = False
        #: Time without the database, since something was last written, and how long to wait next.
        self._away_s = 0.0
        self._delay_s = FIRST_DELAY_S
        self._said_at: dict[str, float] = {}

    def run(self, stop: Event) -> None:
        """Run until ``stop`` is set, or with ``once`` until the end. Ends between two transactions.

        Raises :class:`SinkError` or :class:`~connectors.sinks.database.DatabaseError` when it cannot go on.
        """
        maker = Apart if self._apart else Here
        try:
            self._maker = maker(self._codec, self._masters)
            if not self._open(stop, LOCK_WAIT_S) or self._database is None:
                return
            self._is_back(self._database)
            self._outcomes = self._consumer(self._consumer_config())
            self._others = self._consumer(self._consumer_config())
            self._follow(stop)
        except PreparingError as error:
            raise SinkError(f"{error}; what it said is above. Nothing is lost: start the sink again.") from None
        finally:
            for consumer in (self._outcomes, self._others):
                if consumer is not None:
                    consumer.close()
            self._outcomes = self._others = None
            self._close()
            if self._maker is not None:
                self._maker.close()
                self._maker = None

    def _consumer_config(self) -> dict[str, Any]:
        return client_config(self._brokers) | {
            "group.id": "ptr-audit-sink",  # required by the client, not used
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": self._once,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "queued.min.messages": 2 * self._batch_rows_max,
            "queued.max.messages.kbytes": QUEUED_KIB_MAX,
            "fetch.message.max.bytes": FETCH_BYTES,
            "fetch.queue.backoff.ms": 10,  # a second, the default, starves the sink
            "fetch.wait.max.ms": 100,
            "log_level": 0,  # the client's own lines; trouble comes through error_cb
            "error_cb": self._on_broker_error,
        }

    def _on_broker_error(self, error: Any) -> None:
        self._say_again(f"Kafka at {self._brokers}: {error.str()}; waiting")

    def _say_again(self, line: str) -> None:
        now = time.monotonic()
        if now - self._said_at.get(line, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said_at[line] = now
            self._say(line)

    # The database

    def _open(self, stop: Event, busy_for_s: float) -> bool:
        """Open, lock, migrate and read the offsets, waiting while it is away; False when stopped meanwhile."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                self._database = open_database(self._database_url, create=True)
                self._database.lock()
                self._database.migrate()
                self._open_maker(self._database)
                self._stored = self._database.offsets()
                self._writer = Writer(self._database, self._signed)
            except (DatabaseAwayError, DatabaseBusyError) as error:
                limit_s = busy_for_s if isinstance(error, DatabaseBusyError) else self._give_up_after_s
                self._wait(error, started, limit_s, stop)
            else:
                return True
        return False

    def _open_maker(self, database: Database) -> None:
        assert self._maker is not None
        if self._masters is None and is_in_use(database):
            raise SinkError(
                f"{database.shown}: its rows are sealed, and there is no master key: name it in PTR_PRIVACY_MASTER_KEY_FILE"
            )
        try:
            self._maker.open(self._database_url)
        except MasterKeyError as error:
            raise SinkError(f"{database.shown}: {error}") from None

    def _close(self) -> None:
        """Close the database; what is being written ends before that."""
        if self._writer is not None:
            self._writer.close()
        if self._database is not None:
            self._database.close()
        self._writer = self._database = None
        self._making = self._made = self._under_way = None

    def _wait(self, error: DatabaseError, started: float, limit_s: float, stop: Event) -> None:
        """Close the database and wait after an attempt that began at ``started``; longer each time."""
        self._close()
        self._away_s += time.monotonic() - started
        left_s = limit_s - self._away_s
        if left_s <= 0:
            raise self._given_up(error, limit_s) from None
        delay_s = min(self._delay_s, left_s)
        self._delay_s = min(self._delay_s * 2, DELAY_MAX_S)
        self._say(f"{error}; nothing is lost, trying again in {delay_s:.2g} s, giving up in {left_s:.0f} s")
        stop.wait(delay_s)
        self._away_s += delay_s

    def _is_back(self, database: Database) -> None:
        if self._away_s:
            self._say(f"{database.shown}: is back")
            self._away_s, self._delay_s = 0.0, FIRST_DELAY_S

    @staticmethod
    def _given_up(error: DatabaseError, limit_s: float) -> SinkError:
        if isinstance(error, DatabaseBusyError):
            return SinkError(f"{error}. One sink per database: stop the other one, or give this one another database.")
        return SinkError(
            f"{error}: gave up after {limit_s:.0f} s. Nothing is lost: start the sink again when the database is back,"
            " before Kafka's retention ends."
        )

    def _take(self, work: _Work, stop: Event) -> bool:
        """Begin to make the rows of ``work``, and write those that are made; False when the database went away and was opened
        again, or the sink is to stop.
        """
        if not work.records:
            return True
        if not self._collect(stop):
            return False
        assert self._maker is not None
        self._maker.begin(work.records)
        self._making = work
        return self._write(stop)

    def _drain(self, stop: Event) -> bool:
        """Have everything that is on its way written; False as :meth:`_take`."""
        return self._collect(stop) and self._write(stop) and self._finish(stop)

    def _collect(self, stop: Event) -> bool:
        """Wait for the rows that are being made, if some are; False as :meth:`_take`."""
        work, self._making = self._making, None
        if work is None:
            return True
        assert self._maker is not None and self._database is not None
        started = time.monotonic()
        try:
            prepared = self._prepared(self._maker, work, stop)
        except MasterKeyError as error:
            raise SinkError(f"{self._database.shown}: {error}. Nothing of this batch is written.") from None
        except DatabaseAwayError as error:
            if self._finish(stop):
                self._reopen(error, started, stop)
            return False
        if prepared is None:
            return False
        work.unreadable = prepared.unreadable
        work.batch = Batch(prepared.events, prepared.states, leaves=prepared.leaves, keys=prepared.keys)
        work.records = []
        self._made = work
        return True

    def _write(self, stop: Event) -> bool:
        """Begin to write the rows that are made, if some are, once those before are written; False as :meth:`_take`."""
        work, self._made = self._made, None
        if work is None:
            return True
        if not self._finish(stop):
            return False
        assert self._database is not None and self._writer is not None
        work.batch.offsets = {at: (self._stored.get(at), next_offset) for at, next_offset in work.next_offsets.items()}
        self._under_way = work
        self._writer.begin(work.batch)
        return self._database.has_server or self._finish(stop)

    def _finish(self, stop: Event) -> bool:
        """Wait for the batch that is being written, if one is; False as :meth:`_take`."""
        if self._under_way is None:
            return True
        assert self._database is not None and self._writer is not None
        work, written = self._under_way, self._writer.ended()
        self._under_way = None
        if written.inserted is not None:
            self._count(work, written.inserted, written.took_s)
            self._unsigned = written.signed is None
            self.status.heads += written.signed or 0
        if isinstance(written.error, DatabaseAwayError):
            self._reopen(written.error, written.began_s, stop)
            return False
        if written.error is not None:
            raise written.error
        self._is_back(self._database)
        return True

    def _count(self, work: _Work, inserted: int, took_s: float) -> None:
        """``work`` is in the database."""
        batch, status = work.batch, self.status
        self._stored.update(work.next_offsets)
        status.events += inserted
        status.repeated += len(batch.events) - inserted
        status.unreadable += work.unreadable
        status.unsealed += inserted if self._masters is None else 0
        status.transactions += 1
        if self._on_written is not None:
            self._on_written(batch, took_s)

    def _reopen(self, error: DatabaseAwayError, started: float, stop: Event) -> None:
        """Wait for a database that went away in what began at ``started``, and read on from what it holds."""
        self._wait(error, started, self._give_up_after_s, stop)
        if self._open(stop, self._give_up_after_s):
            self._start_over()

    def _start_over(self) -> None:
        """Read on from what the database holds: whether the last transaction was committed is known only there."""
        self._outcomes.unassign()
        self._others.unassign()
        self._at_end.clear()
        self._next = {partition: self._stored.get(partition, 0) for partition in self._next}
        for partition in self._next:
            self._assign(partition)

    # Topics

    def _follow(self, stop: Event) -> None:
        started = time.monotonic()
        look_at = status_at = started
        while not stop.is_set():
            now = time.monotonic()
            if now >= look_at:
                found = self._look_for_partitions(stop)
                if not self._looked and self._once and now - started > self._give_up_after_s:
                    raise SinkError(f"Kafka at {self._brokers} does not answer: is it running, is the address right?")
                look_at = now + (METADATA_S if found else METADATA_MISSING_S)
            if self._once and self._looked and self._is_at_end() and self._drain(stop):
                break
            self._read(stop)
            self._sign(stop)
            if self._on_status is not None and now - status_at >= self._status_every_s:
                status_at = now
                self.status.lag = self._lag()
                self._on_status(self.status)
        if self._drain(stop):
            self._sign(stop, now=True)
        self.status.lag = self._lag()

    def _signed(self, *, now: bool = False) -> int | None:
        """Sign what has grown, unless that is put off; gives as :meth:`HeadSigner.sign`."""
        if self._signer is None or self._database is None:
            return 0
        try:
            return self._signer.sign(self._database, now=now)
        except (HeadsFileError, LeafLogError) as error:
            raise SinkError(f"{error}. Rows are written; heads are signed again at the next start.") from None

    def _sign(self, stop: Event, *, now: bool = False) -> None:
        """Sign what was put off; when the database went away, what is written later is signed with it."""
        if self._under_way is not None or self._database is None or not self._unsigned:
            return
        started = time.monotonic()
        try:
            signed = self._signed(now=now)
            self._unsigned = signed is None
            self.status.heads += signed or 0
        except DatabaseAwayError as error:
            self._reopen(error, started, stop)

    def _look_for_partitions(self, stop: Event) -> bool:
        """Assign partitions that are not yet; whether every topic is there."""
        try:
            known = self._others.list_topics(timeout=BROKER_TIMEOUT_S).topics
            found: dict[Partition, tuple[int, int]] = {}
            missing = []
            for topic in self._topics:
                metadata = known.get(topic)
                if metadata is None or _is_unknown(metadata.error):
                    missing.append(topic)
                    continue
                if metadata.error is not None:  # there, but without a leader yet
                    raise KafkaException(metadata.error)
                for number in sorted(metadata.partitions):
                    if (topic, number) not in self._next:
                        at = TopicPartition(topic, number)
                        found[topic, number] = self._reader_of(topic).get_watermark_offsets(
                            at, timeout=BROKER_TIMEOUT_S
                        )
        except KafkaException as error:
            self._say_again(f"Kafka at {self._brokers}: {error.args[0].str()}; waiting")
            return False
        if missing and not self._once:
            self._say_again(f"waiting for topics that do not exist yet: {', '.join(missing)}")
        for partition, (low, high) in found.items():
            self._begin(partition, low, high, stop)
        self._looked = True
        return not missing

    def _begin(self, partition: Partition, low: int, high: int, stop: Event) -> None:
        position = self._stored.get(partition, 0)
        if position > high:
            raise self._made_again(partition, position, high)
        self._next[partition] = position
        self._ends[partition] = high
        # When the database goes away here, the partition is assigned with all others, and the gap found again.
        if position >= low or self._record_expired(partition, position, low, stop):
            self._assign(partition)

    def _reader_of(self, topic: str) -> Any:
        return self._outcomes if topic == COMPLETED.name else self._others

    def _assign(self, partition: Partition) -> None:
        at = TopicPartition(*partition, self._next[partition] or OFFSET_BEGINNING)
        self._reader_of(partition[0]).incremental_assign([at])

    def _made_again(self, partition: Partition, expected: int, found: int) -> SinkError:
        topic, number = partition
        return SinkError(
            f"{topic}/{number}: {expected} records were audited, but Kafka at {self._brokers} is at {found}: the topic"
            " was deleted and made again, lost data, or this is another broker. Keep this database as it is and start a"
            " new one."
        )

    def _record_expired(self, partition: Partition, first: int, low: int, stop: Event) -> bool:
        """Say and record the gap; False when the database went away meanwhile."""
        topic, number = partition
        self._say(
            f"ERROR {topic}/{number}: records {first} to {low - 1} ({low - first}) expired before they were audited;"
            f" going on at {low}"
        )
        row = expired_row(topic, number, first, low, int(time.time() * 1000))
        if not self._drain(stop):
            return False
        self._made = _Work(batch=Batch([row]), next_offsets={partition: low})
        if not self._write(stop) or not self._finish(stop):
            return False
        self._next[partition] = low
        self.status.expired += low - first
        return True

    # Records

    def _read(self, stop: Event) -> None:
        """Take what waits and have it written, in as many transactions as its size asks for. When it was all that waits, it is
        written when this returns."""
        work = _Work()
        checked: set[Partition] = set()
        next_offsets = self._next
        messages = self._waiting()
        for message in messages:
            if message.error() is not None:
                self._on_message_error(message)
                continue
            topic, number, offset, value = message.topic(), message.partition(), message.offset(), message.value()
            partition = (topic, number)
            if offset != next_offsets[partition] and partition not in checked:
                checked.add(partition)
                if missing_to := self._expired_to(partition, offset):
                    if not self._take(work, stop) or not self._record_expired(
                        partition, next_offsets[partition], missing_to, stop
                    ):
                        return
                    work = _Work()
            work.records.append((topic, number, offset, message.timestamp()[1], value))
            next_offsets[partition] = work.next_offsets[partition] = offset + 1
            work.size_bytes += len(value) if value else 0
            if work.size_bytes >= BATCH_BYTES_MAX:
                if not self._take(work, stop):
                    return
                work = _Work()
        if self._take(work, stop) and len(messages) < self._batch_rows_max:
            self._drain(stop)

    def _waiting(self) -> list[Any]:
        """Messages for a transaction: half of them outcomes while these wait, so that nothing starves."""
        outcomes = self._outcomes.consume(self._batch_rows_max // 2, 0)
        return outcomes + self._others.consume(self._batch_rows_max - len(outcomes), CONSUME_S)  # type: ignore[no-any-return]

    def _prepared(self, maker: Apart | Here, work: _Work, stop: Event) -> Prepared | None:
        """What becomes of ``work``; waits for a schema registry. None when stopped meanwhile."""
        try:
            return maker.ended()
        except RegistryAwayError as away:
            error = away
        until = time.monotonic() + self._give_up_after_s
        delay_s = FIRST_DELAY_S
        while time.monotonic() < until:
            self._say(f"the schema registry does not answer ({error}); trying again in {delay_s:.2g} s")
            if stop.wait(delay_s):
                return None
            delay_s = min(delay_s * 2, DELAY_MAX_S)
            try:
                maker.begin(work.records)
                return maker.ended()
            except RegistryAwayError as again:
                error = again
        raise SinkError(
            f"the schema registry does not answer ({error}): gave up after {self._give_up_after_s:.0f} s. Nothing is"
            " lost: start the sink again when it is back."
        )

    def _expired_to(self, partition: Partition, offset: int) -> int:
        """``offset`` is not the next one: where what is missing ends, or 0 when nothing is.

        Compaction and transactions leave gaps too; only expiry moves the start of the log.
        """
        expected = self._next[partition]
        if offset < expected:
            raise self._made_again(partition, expected, offset)
        try:
            low, _ = self._reader_of(partition[0]).get_watermark_offsets(
                TopicPartition(*partition), timeout=BROKER_TIMEOUT_S
            )
        except KafkaException:
            low = offset  # not known: rather an alarm too many
        return min(low, offset) if low > expected else 0

    def _on_message_error(self, message: Any) -> None:
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add((message.topic(), message.partition()))
        else:
            self._say_again(f"{message.topic()}/{message.partition()}: {error.str()}; waiting")

    def _is_at_end(self) -> bool:
        return all(self._next[p] >= end or p in self._at_end for p, end in self._ends.items())

    def _lag(self) -> int | None:
        if self._others is None or not self._next:
            return None
        lag = 0
        for partition, position in self._next.items():
            _, high = self._reader_of(partition[0]).get_watermark_offsets(TopicPartition(*partition), cached=True)
            lag += max(high - position, 0)
        return lag


def _is_unknown(error: Any) -> bool:
    return error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
