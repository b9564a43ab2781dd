"""Contents larger than a Kafka record may be: in parts, then a head that names them. For sanctions lists and models.

Parts and head are one transaction, the head last. Readers do not lean on that: a content without its head, or with a part
missing or damaged, counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException

from connectors.broker.transaction import PublishError, failed

#: Half of what a broker takes in one record by default (``message.max.bytes``, 1 MB).
PART_BYTES_MAX: Final = 512 * 1024
#: 128 MB: some thirty times the largest list that is known. A head that names more is a mistake.
PARTS_MAX: Final = 256
#: Of the hash; as many as a version of all lists together has.
VERSION_CHARS: Final = 12
#: Longest wait for the broker in each step.
TIMEOUT_S: Final = 30.0
#: The head has its timestamp when it is written and is seen when the transaction is committed. What is left until it is in
#: force is for workers to make the content ready.
COMMIT_WITHIN_S: Final = 2.0
ATTEMPTS_MAX: Final = 3
#: All records in one partition, whatever the topic has: parts come before their head.
PARTITION: Final = 0


class IncompleteError(ValueError):
    """Parts that are not the content their head names; the text says how."""


class Head(Protocol):
    """What names a content."""

    @property
    def version(self) -> str: ...
    @property
    def parts(self) -> int: ...
    @property
    def sha256(self) -> str: ...


def whole(head: Head, parts: Mapping[int, bytes]) -> bytes:
    """The content that ``head`` names. Raises :class:`IncompleteError` when ``parts`` are not all of it."""
    if not 1 <= head.parts <= PARTS_MAX:
        raise IncompleteError(f"its head names {head.parts} parts; there are 1 to {PARTS_MAX}")
    missing = [part for part in range(head.parts) if part not in parts]
    if missing:
        raise IncompleteError(f"{len(missing)} of its {head.parts} parts are missing, the first is {missing[0]}")
    content = b"".join(parts[part] for part in range(head.parts))
    digest = sha256(content).hexdigest()
    if digest != head.sha256 or not digest.startswith(head.version) or len(head.version) != VERSION_CHARS:
        raise IncompleteError("its content has another hash than its head says")
    return content


def write_in_parts(
    producer: Any,
    topic: str,
    parts: Iterable[tuple[bytes, bytes]],
    heads: Iterable[tuple[bytes, bytes]],
    *,
    rival: str,
    unknown: str,
) -> None:
    """Write parts, then heads (keys and values), in one transaction that is committed soon after the heads' timestamp.

    Raises :class:`PublishError`; ``rival`` and ``unknown`` are what it says, as :func:`failed` takes them.
    """
    parts, heads = list(parts), list(heads)
    for _ in range(ATTEMPTS_MAX):
        try:
            producer.begin_transaction()
            for key, part in parts:
                producer.produce(topic, part, key, PARTITION)
            _flush(producer)
            began_s = time.monotonic()
            for key, head in heads:
                producer.produce(topic, head, key, PARTITION)
            _flush(producer)
            if time.monotonic() - began_s > COMMIT_WITHIN_S:
                producer.abort_transaction(TIMEOUT_S)
                continue
            producer.commit_transaction(TIMEOUT_S)
        except KafkaException as error:
            raise failed(producer, error, rival=rival, unknown=unknown, timeout_s=TIMEOUT_S) from error
        return
    raise PublishError(
        f"nothing was published: the broker takes longer than {COMMIT_WITHIN_S:g} s, so that workers might not have it "
        "when it is in force. Try again when it is less busy."
    )


def remove(producer: Any, topic: str, keys: Iterable[bytes]) -> None:
    """Write tombstones. What is new is in force already: what is left over when this fails, the next one removes."""
    keys = list(keys)
    if not keys:
        return
    try:
        producer.begin_transaction()
        for key in keys:
            producer.produce(topic, None, key, PARTITION)
        producer.commit_transaction(TIMEOUT_S)
    except KafkaException:
        with suppress(KafkaException):
            producer.abort_transaction(TIMEOUT_S)


def _flush(producer: Any) -> None:
    if producer.flush(TIMEOUT_S):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"the broker did not take it within {TIMEOUT_S:g} s"))
