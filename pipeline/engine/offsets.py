"""Where a worker group begins: a stage that moves to another group goes on where the other one stopped.

Kafka keeps offsets per consumer group. A group that is about to run a stage for the first time, or again after another group
had it, takes the most advanced committed offset of the pipeline's groups for each partition. Tables need no such step: their
changelog topics carry fixed names.
"""

from __future__ import annotations

import logging

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.settings import Settings, client_config

log = logging.getLogger("ptr.engine")

GROUP_PREFIX = "ptr"
TIMEOUT_S = 10.0


class StageRunsElsewhereError(RuntimeError):
    """Another worker group runs one of our stages; two groups on one stage would double its effects."""


def adopt_offsets(settings: Settings, sources: list[str]) -> dict[tuple[str, int], int]:
    """Advance our group's offsets to those of the pipeline's other groups; gives what was changed.

    Raises :class:`StageRunsElsewhereError` when another group has members that read one of our topics.
    """
    admin = AdminClient(client_config(settings.access, {"log_level": 3}))
    mine = settings.worker_group
    try:
        listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result()
        others = [g.group_id for g in listed.valid if g.group_id.startswith(GROUP_PREFIX) and g.group_id != mine]
        if not others:
            return {}
        _refuse_if_running(admin, others, set(sources))
        committed = {group: _committed(admin, group, set(sources)) for group in [mine, *others]}
    except KafkaException as error:
        # The embedded broker has no such requests, and only one group.
        log.info("offsets of other groups are not known: %s", error.args[0].name())
        return {}
    ahead: dict[tuple[str, int], int] = {}
    for group in others:
        for partition, offset in committed[group].items():
            if offset > max(committed[mine].get(partition, -1), ahead.get(partition, -1)):
                ahead[partition] = offset
    if ahead:
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ahead.items()]
        try:
            future = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(mine, wanted)])[mine]
            future.result()
            log.warning("took over %d partition offsets from groups %s", len(ahead), ", ".join(others))
        except KafkaException as error:
            # Refused while our group has members: the first of them did this when it started.
            log.info("offsets stay: %s", error.args[0].name())
            return {}
    return ahead


def _refuse_if_running(admin: AdminClient, groups: list[str], sources: set[str]) -> None:
    for group, future in admin.describe_consumer_groups(groups, request_timeout=TIMEOUT_S).items():
        for member in future.result().members:
            theirs = {tp.topic for tp in member.assignment.topic_partitions} & sources
            if theirs:
                raise StageRunsElsewhereError(
                    f"worker group {group} reads {', '.join(sorted(theirs))}: stop its workers first, or join it "
                    f"with PTR_GROUP={group}"
                )


def _committed(admin: AdminClient, group: str, sources: set[str]) -> dict[tuple[str, int], int]:
    future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
    return {(tp.topic, tp.partition): tp.offset for tp in future.result().topic_partitions if tp.topic in sources}
