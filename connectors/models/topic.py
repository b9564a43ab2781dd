"""``models.updated.v1``: models in parts and heads, and promotions. What is read, what is written, the keys."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from connectors.broker.books import BookReader, place_of, timestamp_ms_of
from connectors.broker.parts import PART_BYTES_MAX, IncompleteError, whole
from connectors.broker.transaction import Publisher, PublishError, Publishing, read_contents
from connectors.models.book import CHAMPION, PROMOTIONS_KEPT, ROLES, ModelBook
from connectors.models.onnx_model import OnnxModel
from pipeline.settings import BrokerAccess
from pipeline.stages.fraud_model import UnusableModelError
from pipeline.topics import MODELS
from schemas.codec import Codec, UndecodableError
from schemas.records import ModelPart, ModelPromoted, ModelUpdated, Record

PUBLISHER: Final = Publisher(
    topic=MODELS.name,
    transactional_id="ptr-models-publish",
    rival="changed the models",
    unknown="'ptr fraud models list' tells; publishing again does no harm.",
)
#: Models that stay in the topic although they have no role any more: to go back to.
MODELS_KEPT: Final = 8
#: Longest text of who and why.
BY_CHARS_MAX, REASON_CHARS_MAX = 80, 200


def model_key(version: str) -> bytes:
    """Key of a model's head."""
    return f"model|{version}".encode()


def part_key(version: str, part: int) -> bytes:
    """Key of a part."""
    return f"part|{version}|{part}".encode()


def promotion_key(role: str, version: str) -> bytes:
    """Key of a promotion: compaction keeps the latest of each version in each role."""
    return f"{role}|{version}".encode()


def records_of(model: OnnxModel, content: bytes, trained_at_ms: int) -> tuple[list[ModelPart], ModelUpdated]:
    """The records in which a model travels."""
    cuts = range(0, len(content), PART_BYTES_MAX)
    parts = [
        ModelPart(version=model.version, part=number, content=content[at : at + PART_BYTES_MAX])
        for number, at in enumerate(cuts)
    ]
    head = ModelUpdated(
        version=model.version,
        parts=len(parts),
        sha256=model.sha256,
        feature_set=model.facts.feature_set,
        description=msgspec.json.encode(_summary(model)).decode(),
        trained_at_ms=trained_at_ms,
    )
    return parts, head


def _summary(model: OnnxModel) -> dict[str, Any]:
    """The description without what only the file needs."""
    return {name: each for name, each in model.facts.description.items() if name != "histograms"}


def _read(codec: Codec, value: bytes) -> ModelPart | ModelUpdated | ModelPromoted:
    kind = codec.record_of(value)
    if kind is ModelPart:
        return codec.decode(value, ModelPart)
    if kind is ModelUpdated:
        return codec.decode(value, ModelUpdated)
    return codec.decode(value, ModelPromoted)


class ModelReader(BookReader[ModelBook]):
    """Keeps a book of models up to date; loads them in its own thread."""

    def take(self, message: Any) -> None:
        """Put what ``message`` holds into the book; what is none of the three records is refused there."""
        book = self.book
        if message.value() is None:
            kind, _, rest = (message.key() or b"").decode(errors="replace").partition("|")
            if kind == "model":
                book.forget_model(rest)
            elif kind in ROLES:
                book.forget_promotion(kind, rest)
            return
        where = place_of(message)
        try:
            record = _read(self.codec, message.value())
        except UndecodableError as error:
            book.refuse(where, str(error))
            return
        if isinstance(record, ModelPart):
            book.take_part(record)
        elif isinstance(record, ModelUpdated):
            book.take_head(record)
        elif (timestamp_ms := timestamp_ms_of(message)) is None:
            book.refuse(where, "a promotion without a timestamp")
        else:
            book.take_promotion(record, timestamp_ms)

    def at_end(self) -> None:
        """Load what was promoted and put it in force."""
        self.book.take_up()


@dataclass(slots=True)
class Contents:
    """The topic, read to its end."""

    heads: dict[str, ModelUpdated] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    #: By role, then by version: the promotion and its timestamp, the latest last.
    promoted: dict[str, dict[str, tuple[ModelPromoted, int]]] = field(default_factory=dict)
    exists: bool = True

    def version(self, role: str) -> str:
        """Version that has ``role`` now; empty for none."""
        return next(reversed(self.promoted.get(role, {})), "")

    def find(self, prefix: str) -> str:
        """The one version that begins with ``prefix``. Raises :class:`PublishError` when there is none or more."""
        found = [version for version in self.heads if version.startswith(prefix)]
        if len(found) != 1 or not prefix:
            what = "no model" if not found else f"{len(found)} models"
            raise PublishError(f"{what} in {MODELS.name} begins with {prefix!r}; 'ptr fraud models list' shows them")
        return found[0]

    def model(self, version: str) -> OnnxModel:
        """Load a model. Raises :class:`PublishError` when it cannot be used."""
        try:
            return OnnxModel(whole(self.heads[version], self.parts.get(version, {})))
        except (IncompleteError, UnusableModelError) as error:
            raise PublishError(f"model {version} cannot be used: {error}") from error

    def take(self, codec: Codec, message: Any) -> None:
        """Take in a record; what is none of the three is nobody's model."""
        if message.value() is None:
            kind, _, rest = (message.key() or b"").decode(errors="replace").partition("|")
            if kind == "model":
                self.heads.pop(rest, None)
            elif kind == "part":
                version, _, part = rest.partition("|")
                if part.isdecimal():
                    self.parts.get(version, {}).pop(int(part), None)
            else:
                self.promoted.get(kind, {}).pop(rest, None)
            return
        with suppress(UndecodableError):
            record = _read(codec, message.value())
            if isinstance(record, ModelPart):
                self.parts.setdefault(record.version, {})[record.part] = record.content
            elif isinstance(record, ModelUpdated):
                self.heads.pop(record.version, None)
                self.heads[record.version] = record
            elif record.role in ROLES:
                versions = self.promoted.setdefault(record.role, {})
                versions.pop(record.version, None)
                versions[record.version] = record, message.timestamp()[1]


def read_all(
    brokers: BrokerAccess | str, codec: Codec, topic: str = MODELS.name, timeout_s: float = PUBLISHER.timeout_s
) -> Contents:
    """Read ``topic`` to its end. Raises :class:`PublishError` when the broker does not give it within ``timeout_s``."""
    return read_contents(Contents(), brokers, codec, topic, timeout_s)


def publish(
    brokers: BrokerAccess | str,
    codec: Codec,
    content: bytes,
    *,
    promote_to: str = "",
    by: str = "",
    reason: str = "",
    topic: str = MODELS.name,
) -> str:
    """Publish a model's file, and give it a role in the same transaction; gives its version. The same again: no new parts.

    Raises :class:`PublishError`, also for a file that is no usable model; then nothing was published, unless it says that
    this is unknown.
    """
    try:
        model = OnnxModel(content)
    except UnusableModelError as error:
        raise PublishError(f"nothing was published: {error}") from error
    now_ms = int(time.time() * 1000)
    parts, head = records_of(model, content, now_ms)
    publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
    heads: list[tuple[bytes, Record]] = []
    known = publishing.before.heads.get(model.version)
    if known is None:
        heads.append((model_key(model.version), head))
    if promote_to:
        heads.append(_promotion(promote_to, model.version, by, reason, now_ms))
    publishing.write(heads, parts=[(part_key(p.version, p.part), p) for p in parts] if known is None else [])
    publishing.remove(_old_keys(publishing.before, model.version))
    return model.version


def promote(
    brokers: BrokerAccess | str,
    codec: Codec,
    role: str,
    version: str,
    *,
    by: str,
    reason: str,
    topic: str = MODELS.name,
) -> str:
    """Give ``version`` (its first characters; empty: none) a role; gives the version. Raises :class:`PublishError`.

    A model that cannot be used is never promoted. A challenger that becomes champion leaves its old role.
    """
    publishing = Publishing(PUBLISHER, Contents(), brokers, codec, topic)
    before = publishing.before
    chosen = before.find(version) if version else ""
    if chosen:
        before.model(chosen)
    now_ms = int(time.time() * 1000)
    heads = [_promotion(role, chosen, by, reason, now_ms)]
    if role == CHAMPION and chosen:
        heads += [
            _promotion(other, "", by, f"{chosen} is champion", now_ms)
            for other in ROLES
            if other != role and before.version(other) == chosen
        ]
    publishing.write(heads)
    publishing.remove(_old_keys(before, chosen))
    return chosen


def _promotion(role: str, version: str, by: str, reason: str, now_ms: int) -> tuple[bytes, Record]:
    promoted = ModelPromoted(
        role=role, version=version, by=by[:BY_CHARS_MAX], reason=reason[:REASON_CHARS_MAX], promoted_at_ms=now_ms
    )
    return promotion_key(role, version), promoted


def _old_keys(before: Contents, newest: str) -> list[bytes]:
    """Keys of promotions and models that nobody needs any more, and of parts that never got a head."""
    keys: list[bytes] = []
    kept = {newest}
    for role, versions in before.promoted.items():
        recent = list(versions)[-PROMOTIONS_KEPT + 1 :]
        kept |= set(recent)
        keys += [promotion_key(role, version) for version in versions if version not in recent]
    kept |= set(list(before.heads)[-MODELS_KEPT:])
    gone = (set(before.heads) | set(before.parts)) - kept
    keys += [model_key(version) for version in sorted(gone) if version in before.heads]
    keys += [part_key(version, part) for version in sorted(gone) for part in sorted(before.parts.get(version, {}))]
    return keys
