"""Dead letters: what no stage can handle, kept as it came, without card numbers."""

from __future__ import annotations

from pipeline.engine.stage import RawRecord
from schemas.card_numbers import mask_card_numbers
from schemas.codec import Codec
from schemas.limits import VALUE_BYTES_MAX
from schemas.records import DeadLetter

#: Of an oversize value this much is kept, to see what it was.
OVERSIZE_KEPT_BYTES = 1024
KEY_BYTES_MAX = 1024


def dead_letter(record: RawRecord, stage: str, error: str, detail: str, codec: Codec) -> tuple[bytes, bytes]:
    """The encoded letter for ``record`` and its key."""
    value, key = record.value, record.key
    length = len(value) if value is not None else 0
    if value is not None and length > VALUE_BYTES_MAX:
        value = value[:OVERSIZE_KEPT_BYTES]
    masked = mask_card_numbers(key[:KEY_BYTES_MAX]) if key is not None else None
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        stage=stage,
        error=error,
        detail=detail,
        key=masked,
        value=mask_card_numbers(value) if value is not None else None,
        value_length=length,
    )
    return codec.encode(letter), masked or b""
