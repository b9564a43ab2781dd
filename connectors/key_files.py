"""Files of keys: made once, never written over."""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, text: str, mode: int = 0o600) -> None:
    """Make the file ``path`` with ``text``, on the disk when this returns, for its owner alone unless ``mode`` says otherwise.

    Raises FileExistsError when there is one, and OSError.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
