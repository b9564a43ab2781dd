"""What waits in the processing queues, as Kafka has it: the records after the offsets that workers committed."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from connectors.broker import admin
from connectors.broker.follow import consumer_config
from pipeline.settings import BrokerAccess

#: Worker groups are told by their names, as where a stage moves from one to another.
GROUP_PREFIX: Final = "ptr"
TIMEOUT_S: Final = 10.0
#: Only the first record that waits is looked at; what comes with it is not read.
_ONE_RECORD: Final = {"fetch.message.max.bytes": 64 * 1024, "queued.max.messages.kbytes": 1024, "fetch.wait.max.ms": 20}
_QUEUE = re.compile(r"payments\.queue\.(?P<pic>[a-z0-9-]+)\.v1\Z")
_RETRY = re.compile(r"payments\.retry\.(?P<pic>[a-z0-9-]+)\.(?P<delay>[0-9]+)s\.v1\Z")


class QueuesError(RuntimeError):
    """The broker does not tell; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in one topic: records that are not acknowledged, and when the oldest of them was written."""

    records: int = 0
    #: Epoch milliseconds; None when nothing waits, or the broker did not give that record in time.
    oldest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PicQueue:
    """What waits for one PIC: to be called, and to be asked about, by the seconds of each retry delay, shortest first."""

    pic: str
    queue: Waiting
    retries: Mapping[int, Waiting]


def pics_of(topics: Iterable[str]) -> dict[str, tuple[str, dict[int, str]]]:
    """Of all names of topics: by PIC its queue, and its retry topics by delay in seconds. Pure."""
    names = list(topics)
    found: dict[str, tuple[str, dict[int, str]]] = {
        match["pic"]: (name, {}) for name in sorted(names) if (match := _QUEUE.match(name))
    }
    for name in names:
        if (match := _RETRY.match(name)) and match["pic"] in found:
            found[match["pic"]][1][int(match["delay"])] = name
    return found


def waiting(broker: BrokerAccess | str, groups: Collection[str], pics: Collection[str] | None = None) -> list[PicQueue]:
    """What waits for each PIC that has a queue at the broker, by name; of ``pics`` alone when they are given.

    ``groups`` are looked at besides those that are called like worker groups. Raises :class:`QueuesError`.
    """
    client = admin.client(broker)
    try:
        cluster = admin.metadata(client)
        topics = pics_of(cluster.topics)
        topics = {pic: each for pic, each in topics.items() if pics is None or pic in pics}
        partitions = [
            (name, number)
            for queue, retries in topics.values()
            for name in (queue, *retries.values())
            for number in cluster.topics[name].partitions
        ]
        begins = admin.offsets(client, partitions, OffsetSpec.earliest())
        ends = admin.offsets(client, partitions, OffsetSpec.latest())
        committed = _committed(client, groups, partitions)
    except admin.AdminError as error:
        raise QueuesError(str(error)) from None
    except KafkaException as error:
        raise QueuesError(f"{broker} does not tell its offsets: {error.args[0].str()}") from None
    nexts = {tp: max(committed.get(tp, 0), begins[tp]) for tp in partitions}
    oldest = _oldest_ms(broker, {tp: at for tp, at in nexts.items() if at < ends[tp]})

    def of_topic(name: str) -> Waiting:
        mine = [tp for tp in partitions if tp[0] == name]
        times = [oldest[tp] for tp in mine if tp in oldest]
        return Waiting(sum(max(ends[tp] - nexts[tp], 0) for tp in mine), min(times, default=None))

    return [
        PicQueue(pic, of_topic(queue), {delay_s: of_topic(retries[delay_s]) for delay_s in sorted(retries)})
        for pic, (queue, retries) in topics.items()
    ]


def known_pics(broker: BrokerAccess | str) -> list[str]:
    """The PICs that have a queue at the broker. Raises :class:`QueuesError`."""
    try:
        return list(pics_of(admin.metadata(admin.client(broker)).topics))
    except admin.AdminError as error:
        raise QueuesError(str(error)) from None


def _committed(
    client: admin.Client, groups: Collection[str], partitions: Collection[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """The most advanced offset of any group: stages move between groups, and the old one's offsets stay."""
    names = set(groups)
    with suppress(KafkaException):  # The embedded broker does not list groups.
        listed = client.list_consumer_groups(request_timeout=TIMEOUT_S).result().valid
        names |= {group.group_id for group in listed if group.group_id.startswith(GROUP_PREFIX)}
    found: dict[tuple[str, int], int] = {}
    for name in names:
        asked = ConsumerGroupTopicPartitions(name, [TopicPartition(*tp) for tp in partitions])
        future = client.list_consumer_group_offsets([asked])[name]
        try:
            offsets = future.result().topic_partitions
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise
            continue
        for tp in offsets:
            found[tp.topic, tp.partition] = max(tp.offset, found.get((tp.topic, tp.partition), 0))
    return found


def _oldest_ms(broker: BrokerAccess | str, starts: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """When the first record from each offset on was written; without those that do not come in time."""
    found: dict[tuple[str, int], int] = {}
    if not starts:
        return found
    consumer = Consumer(consumer_config(broker, log_level=0) | _ONE_RECORD)
    try:
        consumer.assign([TopicPartition(topic, partition, at) for (topic, partition), at in starts.items()])
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(found) < len(starts) and time.monotonic() < deadline_s:
            message = consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            tp = message.topic(), message.partition()
            if tp not in found:
                found[tp] = message.timestamp()[1]
                consumer.pause([TopicPartition(*tp)])
    finally:
        consumer.close()
    return found
