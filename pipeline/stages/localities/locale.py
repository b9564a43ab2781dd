"""Locale: in which language the payer reads messages. RFC 4647, section 3.4 (lookup), with a default."""

from __future__ import annotations

from schemas.localities import LocaleTerms


def locale_for(asked: str, terms: LocaleTerms) -> str:
    """The tag of ``terms.offered`` that fits ``asked`` (BCP 47) best: itself, its language, else the first offered.

    Tags are compared without regard to case; ``de_CH`` is read as ``de-CH``. What is asked may be anything: it is never
    given back.
    """
    offered = terms.offered
    if not asked:
        return offered[0]
    wanted = asked.replace("_", "-").lower()
    while wanted:
        for tag in offered:
            if tag.lower() == wanted:
                return tag
        cut = wanted.rfind("-")
        if cut < 0:
            break
        wanted = wanted[:cut]
    language = wanted + "-"
    for tag in offered:
        if tag.lower().startswith(language):
            return tag
    return offered[0]
