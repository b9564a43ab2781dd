"""The comparison of topics: what counts as a difference, and how it reads."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import PartitionMetadata, TopicMetadata

from connectors.broker.admin import Difference, Kind, _differences
from connectors.broker.embedded import is_embedded
from pipeline.topics import Topic, all_topics

TOPIC = Topic("payments.requested.v1", "", config={"cleanup.policy": "delete", "retention.ms": "1000"})
SETTINGS = {"cleanup.policy": "delete", "retention.ms": "1000", "segment.bytes": "7"}


def _there(partitions: int, replicas: int) -> TopicMetadata:
    """A topic as librdkafka describes it."""
    topic = TopicMetadata()
    topic.topic = TOPIC.name
    for number in range(partitions):
        partition = PartitionMetadata()
        partition.id, partition.replicas = number, list(range(replicas))
        topic.partitions[number] = partition
    return topic


def test_no_difference_when_all_is_as_wanted() -> None:
    """Settings that the pipeline does not name are nobody's business."""
    assert _differences(TOPIC, _there(4, 3), SETTINGS, partitions=4, replication=3) == []


@pytest.mark.parametrize(
    ("partitions", "replicas", "settings", "expected", "may_change"),
    [
        (3, 1, {}, "payments.requested.v1: partitions is 3, wanted 4", False),
        (8, 1, {}, "payments.requested.v1: partitions is 8, wanted 4", False),
        (4, 2, {}, "payments.requested.v1: replication is 2, wanted 1", False),
        (4, 1, {"retention.ms": "5"}, "payments.requested.v1: retention.ms is 5, wanted 1000", True),
        (4, 1, {"cleanup.policy": ""}, "payments.requested.v1: cleanup.policy is not set, wanted delete", True),
    ],
)
def test_each_difference_says_both_values(
    partitions: int, replicas: int, settings: dict[str, str], expected: str, may_change: bool
) -> None:
    """Topic, what differs, what is there and what is wanted; only settings may be changed."""
    found = _differences(TOPIC, _there(partitions, replicas), SETTINGS | settings, partitions=4, replication=1)
    assert [(str(difference), difference.changeable) for difference in found] == [(expected, may_change)]


def test_a_missing_topic_may_be_made() -> None:
    """A missing topic is a difference that can be removed."""
    missing = Difference("t", Kind.MISSING, "4 partitions")
    assert (str(missing), missing.changeable) == ("t: missing, wanted with 4 partitions", True)


def test_only_the_mock_cluster_is_the_embedded_broker() -> None:
    """Its cluster ids begin with a word of librdkafka's; those of Kafka are 16 bytes in base 64."""
    assert is_embedded("mockCluster7f66d19b77f8")
    assert not is_embedded("MkU3OEVBNTcwNTJENDM2Qk")
    assert not is_embedded(None)


def test_changelogs_are_never_deleted() -> None:
    """The changelog is the state: compacted only, for any PIC."""
    tables = [topic for topic in all_topics(["b", "a"]) if topic.name.startswith("payments.table.")]
    assert tables
    assert {topic.config["cleanup.policy"] for topic in tables} == {"compact"}
