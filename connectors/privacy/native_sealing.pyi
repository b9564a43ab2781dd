"""Types of the compiled module, ``native_sealing.pyx``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

def seal(
    rows: Sequence[tuple[Any, ...]],
    cut_type: type,
    keys: Mapping[Any, Any],
    kind: str,
    magic: bytes,
    random: bytes,
    count: int,
    others: Callable[[tuple[Any, ...], Any], tuple[Any, ...]],
) -> list[tuple[Any, ...]]: ...
