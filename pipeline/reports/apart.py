"""Records of others whose figures do not hold together: counted apart, never summed. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from pipeline.stages.outside import Mistake

#: Of a record that the audit tables keep under its coordinates: whose it is cannot be said.
NO_IDS: Final = Mistake("an id", "is not valid")


class Apart:
    """How many there are, by what is wrong with them: as many kinds as there are checks."""

    def __init__(self) -> None:
        self._found: Counter[Mistake] = Counter()

    def add(self, mistake: Mistake) -> None:
        """One more."""
        self._found[mistake] += 1

    def said(self) -> str:
        """A sentence, empty when there are none."""
        if not self._found:
            return ""
        kinds = sorted(self._found.items(), key=lambda item: (-item[1], item[0]))
        number = self._found.total()
        what = "record that does not hold together is" if number == 1 else "records that do not hold together are"
        return (
            f"{number:,} {what} not in the figures: {'; '.join(f'{count:,}: {mistake}' for mistake, count in kinds)}."
        )
