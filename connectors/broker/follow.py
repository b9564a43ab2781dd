"""Reads a topic alone and whole, without a group: once to its end, or at start and on, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config

log = logging.getLogger(__name__)

#: The thread wakes this often when nothing comes, to see whether it is to stop.
POLL_S = 0.5
FETCH_WAIT_MS = 200
#: While the topic does not exist, the broker is asked this often.
LOOK_AGAIN_S = 1.0
#: Longest wait for an answer to such a question.
METADATA_TIMEOUT_S = 1.0
#: How often a follower lets go of what nobody needs any more.
TIDY_S = 60.0
#: The topic is there no more.
_GONE: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class TopicReadError(RuntimeError):
    """A topic cannot be read; the message says why and what to do."""


def consumer_config(brokers: BrokerAccess | str, **more: Any) -> dict[str, Any]:
    """Settings of a consumer that reads the topic alone, without a group; librdkafka wants a name for one still."""
    config = {
        "group.id": "ptr-unused",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
        # An idle fetch is answered after this long. A new record ends it at once, but not at the embedded broker, and
        # the end of the topic is only learnt from such an answer.
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        # Otherwise librdkafka keeps 64 MB in hand for a topic that is some KiB.
        "queued.max.messages.kbytes": 4096,
    }
    return client_config(brokers, config | more)


def partitions_of(consumer: Any, topic: str, timeout_s: float) -> list[int]:
    """Partitions of ``topic``; empty when it does not exist. Raises KafkaException, also while it has no leader."""
    found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if found.error is None:
        return sorted(found.partitions)
    if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return []
    raise KafkaException(found.error)


def _begin(consumer: Any, topic: str, timeout_s: float, since_ms: int = 0) -> set[int]:
    """Have ``consumer`` read ``topic`` from the beginning, or from what was written at ``since_ms``; gives its partitions, none
    when there is no topic."""
    partitions = partitions_of(consumer, topic, timeout_s)
    starts = [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions]
    # The embedded broker knows no times; it keeps little anyway.
    if since_ms and starts and not embedded.is_embedded(consumer.list_topics(topic, timeout=timeout_s).cluster_id):
        asked = [TopicPartition(topic, partition, since_ms) for partition in partitions]
        starts = consumer.offsets_for_times(asked, timeout_s)
    consumer.assign(starts)
    return set(partitions)


def _ended(message: Any, behind: set[int]) -> bool:
    """Whether ``message`` is the end of a partition, which is then not ``behind`` any more; else it is what went wrong."""
    ended: bool = message.error().code() == KafkaError._PARTITION_EOF
    if ended:
        behind.discard(message.partition())
    return ended


def read_to_end(
    brokers: BrokerAccess | str, topic: str, take: Callable[[Any], object], timeout_s: float, *, since_ms: int = 0
) -> bool:
    """Give ``take`` every record that is in ``topic``, in the order of each partition; False when there is no topic.

    With ``since_ms`` (epoch milliseconds) those that were written before may be left out.
    Raises :class:`TopicReadError` when the broker does not give them within ``timeout_s``.
    """
    trouble = Trouble()
    consumer = Consumer(consumer_config(brokers, log_level=0, error_cb=trouble) | {"fetch.wait.max.ms": 20})
    try:
        behind = _begin(consumer, topic, timeout_s, since_ms)
        exists = bool(behind)
        deadline_s = time.monotonic() + timeout_s
        while behind:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                why = f": {trouble.why()}" if trouble.why() else ""
                raise TopicReadError(f"{topic} was not read to its end within {timeout_s:g} s from {brokers}{why}")
            message = consumer.poll(min(left_s, POLL_S))
            if message is None:
                continue
            if message.error() is None:
                take(message)
            elif not _ended(message, behind):
                raise KafkaException(message.error())
    except KafkaException as error:
        consumer.poll(0)
        if trouble.refusal:
            raise TopicReadError(f"{topic} cannot be read from {brokers}: {trouble.refusal}") from error
        why = trouble.last or error.args[0].str()
        raise TopicReadError(
            f"{topic} cannot be read from {brokers}: {why}. Check that the broker is up and that --broker names it."
        ) from error
    finally:
        consumer.close()
    return exists


class TopicFollower:
    """Gives ``take`` every record of a topic, from the beginning on every start, in a thread of its own::

        follower = TopicFollower(brokers, TENANTS.name, take, on_failure=stop_the_worker)
        follower.start()
        follower.wait_caught_up(30)
        ...
        follower.stop()

    Records that were committed are read (``read_committed``). ``at_end`` is called whenever the end is reached, the
    first time before :meth:`wait_caught_up` returns; ``tidy`` once a minute, with the time
    (epoch milliseconds), when nothing comes. A topic that does not exist is an empty one, and looked for every second.
    When the thread ends by an error, :attr:`failure` holds it and ``on_failure`` is called with it, in that thread: a worker
    that goes on would decide by what is outdated.
    """

    def __init__(
        self,
        brokers: BrokerAccess | str,
        topic: str,
        take: Callable[[Any], object],
        *,
        at_end: Callable[[], None] = lambda: None,
        tidy: Callable[[int], object] = lambda now_ms: None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.topic = topic
        self._brokers = brokers
        self._take = take
        self._at_end = at_end
        self._tidy = tidy
        self._tidied_s = time.monotonic()
        self._on_failure = on_failure
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._trouble = Trouble()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"reader of {topic}", daemon=True)

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread; None while it runs, or after :meth:`stop`."""
        return self._failure

    @property
    def caught_up(self) -> bool:
        """Whether the end was reached once."""
        return self._caught_up.is_set()

    def start(self) -> None:
        """Begin to read, from the beginning."""
        self._thread.start()

    def wait_caught_up(self, timeout_s: float) -> None:
        """Wait until everything that was in the topic is taken in.

        Raises :class:`TopicReadError` when that takes longer than ``timeout_s`` or the thread has failed.
        """
        done = self._caught_up.wait(timeout_s)
        if self._failure is not None:
            raise TopicReadError(
                f"reading {self.topic} from {self._brokers} failed: {self._failure}"
            ) from self._failure
        if not done:
            if self._trouble.refusal:
                raise TopicReadError(self._trouble.unanswered(self._brokers, timeout_s))
            why = f": {self._trouble.last}" if self._trouble.last else ""
            raise TopicReadError(
                f"{self.topic} was not read to its end within {timeout_s:g} s from {self._brokers}{why}. "
                "Check that the broker is up and that PTR_BROKER names it."
            )

    def stop(self) -> None:
        """End the thread, within about a second."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            consumer = Consumer(consumer_config(self._brokers, error_cb=self._trouble, log_level=0))
            try:
                while not self._stopping.is_set():
                    self._follow(consumer)
            finally:
                consumer.close()
        except BaseException as error:
            # Nobody above would see it: a thread's exception goes to a hook and the process lives on.
            log.critical("reading %s failed, what it says is no longer up to date: %s", self.topic, error)
            self._failure = error
            self._caught_up.set()
            if self._on_failure is not None:
                self._on_failure(error)

    def _follow(self, consumer: Any) -> None:
        """Find the topic, read it, and go on reading; returns to be called again when the topic is not there."""
        try:
            behind = _begin(consumer, self.topic, METADATA_TIMEOUT_S)
        except KafkaException as error:
            _raise_unless_passing(error.args[0])
            consumer.poll(0)  # What the client heard meanwhile says more than that nobody answered.
            if not self._trouble.last:
                self._trouble(error.args[0])
            self._stopping.wait(LOOK_AGAIN_S)
            return
        if not behind:
            self._caught_up.set()
            self._stopping.wait(LOOK_AGAIN_S)
            return
        while not self._stopping.is_set():
            message = consumer.poll(POLL_S)
            if message is None:
                self._tidy_at_times()
                continue
            trouble = message.error()
            if trouble is None:
                self._take(message)
            elif _ended(message, behind):
                if not behind:
                    self._at_end()
                    self._caught_up.set()
            elif trouble.code() in _GONE:
                log.error("%s has gone; looking for it", self.topic)
                consumer.unassign()
                return
            else:
                _raise_unless_passing(trouble)
                self._trouble(trouble)

    def _tidy_at_times(self) -> None:
        if time.monotonic() - self._tidied_s > TIDY_S:
            self._tidied_s = time.monotonic()
            self._tidy(int(time.time() * 1000))


def _raise_unless_passing(error: Any) -> None:
    """Raise what does not pass by waiting."""
    lasting = (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.TOPIC_EXCEPTION,
    )
    if error.fatal() or error.code() in lasting:
        raise KafkaException(error)
