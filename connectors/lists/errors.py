"""What can be wrong with a sanctions list."""

from __future__ import annotations

from pathlib import Path


class ListError(ValueError):
    """A list that is missing, cut off or malformed is refused whole: half a list lets the other half through.

    The text names file and line (0: the whole file) and no person.
    """

    def __init__(self, file: Path, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}" if line else f"{file}: {what}")
        self.file = file
        self.line = line
