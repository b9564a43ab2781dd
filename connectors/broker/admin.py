"""Topic administration: compare ``pipeline.topics`` with what is at the broker, and make it so where that is safe.

Missing topics are created and settings corrected. The number of partitions and the replication of a topic that exists
are never changed: another number of partitions maps keys to other partitions, away from their state.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from connectors.broker import embedded
from connectors.broker.trouble import Trouble
from pipeline.settings import BrokerAccess, client_config
from pipeline.topics import Topic

TIMEOUT_S = 10.0
#: Rounds of compare and change: a second one sees what another administrator made meanwhile.
ROUNDS_MAX = 5
#: How often offsets are asked for while a partition has no leader: a new topic's elections, or a broker that leaves, take
#: less than these tries together.
LEADER_TRIES_MAX = 20
LEADER_PAUSE_S = 0.25
#: A partition has no leader for now, or the client does not know it yet.
_NO_LEADER = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class Client(AdminClient):  # type: ignore[misc]
    """An administration client that logs nothing by itself, and remembers what it heard about its connection."""

    def __init__(self, broker: BrokerAccess | str) -> None:
        self.broker, self.trouble = broker, Trouble()
        super().__init__(
            client_config(
                broker, {"log_level": 0, "socket.connection.setup.timeout.ms": 5000, "error_cb": self.trouble}
            )
        )


class AdminError(RuntimeError):
    """The broker does not answer, or refuses; the text says what and what to do."""


class Kind(StrEnum):
    """In what a topic differs."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    REPLICATION = "replication"
    SETTING = "setting"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the broker differs from what the pipeline needs."""

    topic: str
    kind: Kind
    wanted: str
    found: str = ""
    #: Name of the topic's setting, where ``kind`` is ``setting``.
    setting: str = ""

    @property
    def changeable(self) -> bool:
        """Whether :func:`apply` may change it."""
        return self.kind in (Kind.MISSING, Kind.SETTING)

    def __str__(self) -> str:
        match self.kind:
            case Kind.MISSING:
                return f"{self.topic}: missing, wanted with {self.wanted}"
            case Kind.SETTING:
                return f"{self.topic}: {self.setting} is {self.found or 'not set'}, wanted {self.wanted}"
            case _:
                return f"{self.topic}: {self.kind} is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What :func:`apply` did, and which differences are left because they may not be changed."""

    done: list[Difference]
    left: list[Difference]
    #: The embedded broker: topics were made by asking for them, with its own number of partitions and no settings.
    embedded: bool = False


def client(broker: BrokerAccess | str) -> Client:
    """An administration client that logs nothing by itself: errors are raised."""
    return Client(broker)


def metadata(admin: AdminClient) -> ClusterMetadata:
    """All topics of the cluster. Raises :class:`AdminError` when no broker answers within 10 s."""
    try:
        return admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        if isinstance(admin, Client):
            admin.poll(0)
            raise AdminError(admin.trouble.unanswered(admin.broker, TIMEOUT_S)) from None
        raise AdminError(f"no Kafka broker answers within {TIMEOUT_S:g} s: {_text(error)}") from None


def offsets(
    admin: AdminClient, partitions: Iterable[tuple[str, int]], which: OffsetSpec, *, committed: bool = False
) -> dict[tuple[str, int], int]:
    """The offset that each (topic, partition) begins or ends at; ``committed``: ends before an open transaction.

    Waits up to 5 s for partitions that have no leader, as those of a topic that was just made. Raises
    :class:`confluent_kafka.KafkaException` when the broker does not answer within 10 s, or still has none.
    """
    wanted = {TopicPartition(topic, partition): which for topic, partition in partitions}
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    tries = 0
    while wanted:
        futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=TIMEOUT_S)
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()}
        except KafkaException as error:
            tries += 1
            if error.args[0].code() not in _NO_LEADER or tries == LEADER_TRIES_MAX:
                raise
            time.sleep(LEADER_PAUSE_S)
    return {}


def plan(admin: AdminClient, topics: Sequence[Topic], partitions: int, replication: int) -> list[Difference]:
    """Every difference, in the order of ``topics``; empty when all is as it should be. Changes nothing.

    ``partitions`` is for the topics that name no number of their own. Of the embedded broker only missing topics are
    reported: it has no settings, and one number of partitions for all.
    """
    cluster = metadata(admin)
    is_embedded = embedded.is_embedded(cluster.cluster_id)
    there = {topic.name: cluster.topics[topic.name] for topic in topics if topic.name in cluster.topics}
    settings = {} if is_embedded else _settings(admin, sorted(there))
    found: list[Difference] = []
    for topic in topics:
        wanted_partitions = topic.partitions or partitions
        if topic.name not in there or (not is_embedded and topic.name not in settings):
            found.append(Difference(topic.name, Kind.MISSING, _partitions(wanted_partitions)))
            continue
        if is_embedded:
            continue
        found += _differences(topic, there[topic.name], settings[topic.name], wanted_partitions, replication)
    return found


def _partitions(number: int) -> str:
    return f"{number} partition{'s' * (number != 1)}"


def _differences(
    topic: Topic, there: TopicMetadata, settings: dict[str, str], partitions: int, replication: int
) -> list[Difference]:
    found: list[Difference] = []
    if len(there.partitions) != partitions:
        found.append(Difference(topic.name, Kind.PARTITIONS, str(partitions), str(len(there.partitions))))
    replicas = sorted({len(partition.replicas) for partition in there.partitions.values()})
    if replicas != [replication]:
        found.append(Difference(topic.name, Kind.REPLICATION, str(replication), ", ".join(map(str, replicas))))
    for name, wanted in topic.config.items():
        if settings.get(name, "") != wanted:
            found.append(Difference(topic.name, Kind.SETTING, wanted, settings.get(name, ""), name))
    return found


def apply(admin: AdminClient, topics: Sequence[Topic], partitions: int, replication: int) -> Applied:
    """Create what is missing and correct settings that differ; a second call does nothing.

    Others may do the same at the same time. A crash in between leaves a part done, and the next call does the rest.
    Raises :class:`AdminError` when the broker does not answer or refuses.
    """
    cluster = metadata(admin)
    if embedded.is_embedded(cluster.cluster_id):
        missing = plan(admin, topics, partitions, replication)
        try:
            address = ",".join(f"{broker.host}:{broker.port}" for broker in cluster.brokers.values())
            embedded.touch_topics(address, [difference.topic for difference in missing])
        except embedded.EmbeddedBrokerError as error:
            raise AdminError(str(error)) from None
        return Applied(missing, [], embedded=True)
    by_name = {topic.name: topic for topic in topics}
    done: list[Difference] = []
    for _ in range(ROUNDS_MAX):
        differences = plan(admin, topics, partitions, replication)
        missing = [difference for difference in differences if difference.kind is Kind.MISSING]
        altered = [difference for difference in differences if difference.kind is Kind.SETTING]
        if not missing and not altered:
            return Applied(done, differences)
        if missing:
            done += _create(admin, missing, by_name, partitions, replication)
        if altered:
            done += _alter(admin, altered)
    raise AdminError(f"the topics still differ after {ROUNDS_MAX} rounds: does somebody else change them?")


def _create(
    admin: AdminClient, missing: list[Difference], topics: dict[str, Topic], partitions: int, replication: int
) -> list[Difference]:
    """Create topics and wait until the broker shows them; those that somebody else made meanwhile are left out."""
    new = [
        NewTopic(
            name,
            num_partitions=topics[name].partitions or partitions,
            replication_factor=replication,
            config=topics[name].config,
        )
        for name in (difference.topic for difference in missing)
    ]
    created: list[Difference] = []
    futures = admin.create_topics(new, request_timeout=TIMEOUT_S, operation_timeout=TIMEOUT_S)
    for difference in missing:
        if _result(futures[difference.topic], f"cannot create {difference.topic}", KafkaError.TOPIC_ALREADY_EXISTS):
            created.append(difference)
    _wait_until_shown(admin, [difference.topic for difference in missing])
    return created


def _wait_until_shown(admin: AdminClient, names: list[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        shown = metadata(admin).topics
        if all(name in shown and shown[name].partitions for name in names):
            return
        time.sleep(0.05)
    raise AdminError(f"the broker accepted new topics but does not show them within {TIMEOUT_S:g} s: try again")


def _alter(admin: AdminClient, differences: list[Difference]) -> list[Difference]:
    by_topic: dict[str, list[Difference]] = {}
    for difference in differences:
        by_topic.setdefault(difference.topic, []).append(difference)
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(difference.setting, difference.wanted, incremental_operation=AlterConfigOpType.SET)
                for difference in of_topic
            ],
        )
        for topic, of_topic in by_topic.items()
    ]
    for resource, future in admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_S).items():
        _result(future, f"cannot change settings of {resource.name}")
    return differences


def _settings(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Settings of topics by name; a topic that went away meanwhile is left out."""
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    settings: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        gone = KafkaError.UNKNOWN_TOPIC_OR_PART
        if _result(future, f"cannot read settings of {resource.name}", gone):
            settings[resource.name] = {name: entry.value or "" for name, entry in future.result().items()}
    return settings


def _result(future: Future[object], what: str, unless: int | None = None) -> bool:
    """Wait for an answer: True when done, False when it is the error ``unless``, else :class:`AdminError`."""
    try:
        # The request's own time-out ends it; this one is for a client that never answers.
        future.result(timeout=2 * TIMEOUT_S)
    except KafkaException as error:
        if unless is not None and error.args[0].code() == unless:
            return False
        raise AdminError(f"{what}: {_text(error)}") from None
    except TimeoutError:
        raise AdminError(f"{what}: no answer within {2 * TIMEOUT_S:g} s") from None
    return True


def _text(error: KafkaException) -> str:
    return str(error.args[0].str())
