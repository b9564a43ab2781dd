"""Which of the listed names that share words with a name are compared with it.

Pure. Compiled, the same is :func:`pipeline.stages.native_names.select` (docs/decisions/0040); this is the reference.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Final

#: Names that are compared share two words with the name, or one word that no more than this many listed names have.
RARE_NAMES_MAX: Final = 12
#: Listed names that are compared at most, those with the most words in common first; bounds the time of a question.
COMPARED_MAX: Final = 40


def select(hits: list[bytes], sizes: bytes, size: int) -> list[int]:
    """Positions of the names to compare with a name of ``size`` words.

    ``hits`` are for each word the positions of names that may have it, four bytes each in the order of this machine, the
    rarest word first; ``sizes`` how many words each listed name has.
    """
    found = [set(memoryview(names).cast("i")) for names in hits]
    rare = set(
        chain.from_iterable(at for at, names in zip(found, hits, strict=True) if len(names) <= 4 * RARE_NAMES_MAX)
    )
    common = set[int]()
    if size > 1 and hits and len(hits[-1]) > 4 * RARE_NAMES_MAX:
        # One word of the shorter name may be missed here: misspelt beyond the index, or an initial. So a name is
        # found by the rarer words, and the commonest is only looked for in what they found.
        common = found.pop()
    counts = Counter(chain.from_iterable(found))
    several = [
        at
        for at, found_by in counts.items()
        if size == 1 or (((count := found_by + (at in common)) > 1 or at in rare) and count >= min(size, sizes[at]) - 1)
    ]
    if len(several) > COMPARED_MAX:
        several.sort(key=lambda at: (-counts[at], abs(sizes[at] - size), at))
        del several[COMPARED_MAX:]
    return several
