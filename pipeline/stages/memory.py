"""Making many objects that stay, without the interpreter looking through them again and again meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """No garbage collection of cycles in this process while the context is open, for a second or so.

    Of several threads in it at once the first that leaves ends it for all: collections are on again, never off for good.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
