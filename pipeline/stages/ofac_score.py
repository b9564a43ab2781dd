"""A score like that of OFAC's public search portal, for those who have to compare with it; decisions do not use it.

Pure. OFAC publishes no program; its answers to frequently asked questions name Jaro-Winkler over the whole name and over
its words (questions 249, 252), and what it shows for known names (``bench screening``) agrees with this to a few points.
"""

from __future__ import annotations

import re
from typing import Final

from rapidfuzz.distance import JaroWinkler

#: Name of :func:`ofac_score`; another way to score takes another name.
ALGORITHM: Final = "ofac-compatible-1"
#: Words up to this many letters are passed over, unless the name has no other.
SHORT_WORD_CHARS_MAX: Final = 2
#: Words less alike than this are not alike at all; also the lowest score that the portal can be asked for.
WORD_LIKENESS_MIN: Final = 0.5
#: What is between words; an apostrophe is not.
_BETWEEN: Final = re.compile(r"[^A-Z0-9]+")


def ofac_score(query: str, listed: str) -> int:
    """From 0 to 100, how OFAC's portal would rate a ``listed`` name for ``query``; not symmetric, Latin letters only.

    The better of two: all of it as written, against the whole listed name or as many of its words; and the mean, over the
    query's words, of the most alike word of the listed name.
    """
    ours, theirs = _words(query), _words(listed)
    if not ours or not theirs:
        return 0
    whole = " ".join(ours)
    as_written = max(
        JaroWinkler.similarity(whole, " ".join(theirs)),
        JaroWinkler.similarity(whole, " ".join(theirs[: len(ours)])),
    )
    asked = [word for word in ours if len(word) > SHORT_WORD_CHARS_MAX]
    known = [word for word in theirs if len(word) > SHORT_WORD_CHARS_MAX] if asked else theirs
    asked, known = asked or ours, known or theirs
    by_word = sum(
        max(JaroWinkler.similarity(our, their, score_cutoff=WORD_LIKENESS_MIN) for their in known) for our in asked
    )
    return round(100 * max(as_written, by_word / len(asked)))


def _words(name: str) -> list[str]:
    return _BETWEEN.sub(" ", name.upper().replace("'", "")).split()
