"""How good and how fast name matching is, on public data that nobody on this project made (``SOURCES.md`` beside it)."""

from __future__ import annotations

import csv
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from connectors.lists import ofac, un
from connectors.lists.countries import country_code
from connectors.lists.errors import ListError
from pipeline.stages.likeness import ALGORITHM, compare
from pipeline.stages.names import parse
from pipeline.stages.ofac_score import ofac_score
from pipeline.stages.support import Support
from pipeline.stages.watchlist import Watchlists
from schemas.tenant_rules import ScreeningRules

Figures = dict[str, Any]
#: A score, and whether the names are of one person or thing.
Rated = tuple[float, bool]

NAME_PAIRS: Final = "names/name_pairs.csv"
POSITIVES: Final = "names/positives_un_treated.csv"
NEGATIVES: Final = "names/negatives_global_10k.csv"
PORTAL: Final = "names/ofac_portal_scores.csv"
OFAC: Final = "ofac"
UN: Final = "un/UN_consolidated.xml"

#: The kind of a listed name by the schema that the pairs name.
_KINDS: Final = {"Person": "person", "Vessel": "vessel"}
#: Folds and seeds of the cross-validation.
FOLDS: Final = 5
SEEDS: Final = 5
#: How far a score may be from OFAC's portal, in points of 100.
PORTAL_POINTS: Final = 5
#: Names that are asked again, to time the cache.
SEEN_NAMES: Final = 2000
#: The threshold of a tenant that names none.
REFER_AT: Final = ScreeningRules().refer_at
_PAGE_BYTES: Final = 4096


class DataError(ValueError):
    """A file of the reference data is missing or not what it was; the text names it."""


def measure(data: Path) -> Figures:
    """All figures, those of time on this machine in this hour; raises :class:`DataError` for what is missing."""
    for file in (NAME_PAIRS, POSITIVES, NEGATIVES, PORTAL, f"{OFAC}/sdn.csv", f"{OFAC}/alt.csv", UN):
        if not (data / file).is_file():
            raise DataError(f"{data / file} is not there; --data names the folder of the reference data")
    try:
        # First: what the other parts leave in memory is no part of a worker, and would be counted and collected with it.
        speed = speed_figures(data)
        return {
            "algorithm": ALGORITHM,
            "threshold": REFER_AT,
            "pairs": pairs_figures(rated_pairs(data)),
            "un": un_figures(data),
            "portal": portal_figures(data),
            "speed": speed,
            "both": both_figures(data),
        }
    except (ListError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"the reference data cannot be read: {error}") from error


def rated_pairs(data: Path) -> list[tuple[Rated, str]]:
    """The labelled pairs with their scores, and a group that all spellings of one pair share."""
    rated = []
    for row in _rows(data / NAME_PAIRS):
        first, second = parse(row["name1"]), parse(row["name2"])
        score = compare(first, second, _KINDS.get(row["schema"], "organisation")).score
        rated.append(((score, row["is_match"] == "true"), "|".join(sorted((first.key, second.key)))))
    return rated


def pairs_figures(rated: Sequence[tuple[Rated, str]]) -> Figures:
    """F1 on the pairs: cross-validated, at the default threshold, and at the best one of these rows for comparison."""
    scores = [pair for pair, _ in rated]
    by_seed = [cross_validated_f1(rated, random.Random(seed)) for seed in range(SEEDS)]
    best = best_threshold(scores)
    return {
        "count": len(rated),
        "f1_cross_validated": round(statistics.mean(by_seed), 3),
        "f1_cross_validated_min": round(min(by_seed), 3),
        "f1_at_threshold": round(f1(scores, REFER_AT), 3),
        "f1_best": round(f1(scores, best), 3),
        "best_threshold": best,
    }


def f1(rated: Iterable[Rated], threshold: float) -> float:
    """The harmonic mean of precision and recall when a score of at least ``threshold`` is a match; 0 without any."""
    right = wrong = missed = 0
    for score, same in rated:
        right += same and score >= threshold
        wrong += not same and score >= threshold
        missed += same and score < threshold
    return 2 * right / (2 * right + wrong + missed) if right else 0.0


def best_threshold(rated: Sequence[Rated]) -> float:
    """The score from which on F1 is best; of equally good ones the highest. 1 without any pair."""
    return max(((f1(rated, score), score) for score in {score for score, _ in rated}), default=(0.0, 1.0))[1]


def cross_validated_f1(rated: Sequence[tuple[Rated, str]], chance: random.Random) -> float:
    """F1 over all rows, each decided by the threshold that is best for the other folds.

    Groups stay together, and each fold has about the same share of matches.
    """
    groups: dict[str, list[Rated]] = {}
    for pair, group in rated:
        groups.setdefault(group, []).append(pair)
    folds: list[list[Rated]] = [[] for _ in range(FOLDS)]
    for label in (True, False):
        alike = [pairs for pairs in groups.values() if pairs[0][1] is label]
        chance.shuffle(alike)
        for number, pairs in enumerate(alike):
            folds[number % FOLDS] += pairs
    decided: list[Rated] = []
    for fold in folds:
        threshold = best_threshold([pair for other in folds if other is not fold for pair in other])
        decided += [(float(score >= threshold), same) for score, same in fold]
    return f1(decided, 1.0)


def un_figures(data: Path) -> Figures:
    """Recall on misspelt names of the UN's list and false alarms on people who are on no list, at one threshold."""
    lists = Watchlists(un.load(data / UN))
    found = [_score(lists, name) for name in _names(data / POSITIVES)]
    alarms = [_score(lists, name) for name in _names(data / NEGATIVES)]
    return {
        "listed_names": len(lists),
        "recall": round(sum(score >= REFER_AT for score in found) / len(found), 4),
        "false_alarms_per_1000": round(1000 * sum(score >= REFER_AT for score in alarms) / len(alarms), 2),
        "blocked_in_error": sum(score >= ScreeningRules().block_at for score in alarms),
    }


def both_figures(data: Path) -> Figures:
    """The same with OFAC's and the UN's lists together: by name alone, and with what a payment may say beside the name.

    Most people on no list who are referred have a listed person's first and last name: only what is known beside the name
    tells them apart, so a payment that says birth date and country is referred less often.
    """
    lists = Watchlists([*ofac.load(data / OFAC), *un.load(data / UN)])
    positives, negatives = _rows(data / POSITIVES), _rows(data / NEGATIVES)

    def referred(rows: Sequence[dict[str, str]], *, supported: bool) -> int:
        return sum(_strongest(lists, row, supported=supported) >= REFER_AT for row in rows)

    return {
        "listed_names": len(lists),
        "recall": round(referred(positives, supported=False) / len(positives), 4),
        "false_alarms_per_1000": round(1000 * referred(negatives, supported=False) / len(negatives), 2),
        "recall_with_birth_date_and_country": round(referred(positives, supported=True) / len(positives), 4),
        "false_alarms_per_1000_with_birth_date_and_country": round(
            1000 * referred(negatives, supported=True) / len(negatives), 2
        ),
    }


def _strongest(lists: Watchlists, row: dict[str, str], *, supported: bool) -> float:
    if not supported:
        return _score(lists, row["full_name"])
    code = country_code(row["nationality"]) or row["nationality"].upper()
    support = Support(row["date_of_birth"], (code,) if len(code) == 2 else ())
    match = lists.best_match(row["full_name"], support)
    return match.score if match else 0.0


def portal_figures(data: Path) -> Figures:
    """How many scores of OFAC's portal the compatible score is near; -1 (it showed nothing) is never near."""
    near = [
        abs(ofac_score(row["query_name"], row["result_name"]) - int(row["ofac_score"])) <= PORTAL_POINTS
        for row in _rows(data / PORTAL)
    ]
    shown = [ok for ok, row in zip(near, _rows(data / PORTAL), strict=True) if int(row["ofac_score"]) >= 0]
    return {
        "count": len(near),
        "share_within_5_points": round(sum(near) / len(near), 3),
        "share_within_5_points_of_shown": round(sum(shown) / len(shown), 3),
    }


def speed_figures(data: Path, clock: Callable[[], float] = time.perf_counter) -> Figures:
    """Load time, memory and time of a question on OFAC's list with aliases, one core."""
    names = list(dict.fromkeys(_names(data / NEGATIVES) + _names(data / POSITIVES)))
    gc.collect()
    resident = _resident_bytes()
    began = clock()
    entries = ofac.load(data / OFAC)
    lists = Watchlists(entries)
    loaded = clock()
    # As a worker that is ready: what stays is not looked through again and again.
    gc.collect()
    gc.freeze()
    listed_bytes = _resident_bytes() - resident
    times = []
    for name in names:
        asked = clock()
        lists.best_match(name)
        times.append(clock() - asked)
    seen = names[-SEEN_NAMES:]
    again = clock()
    for name in seen:
        lists.best_match(name)
    seen_s = clock() - again
    gc.unfreeze()
    return {
        "listed_names": len(lists),
        "names_and_aliases": sum(len(entry.names) + len(entry.weak_names) for entry in entries),
        "load_s": round(loaded - began, 2),
        "memory_mb": round(listed_bytes / 1e6, 1),
        "memory_with_caches_mb": round((_resident_bytes() - resident) / 1e6, 1),
        "different_names": len(names),
        "names_per_s": round(len(times) / sum(times)),
        "p50_us": round(1e6 * statistics.median(times)),
        "p99_us": round(1e6 * statistics.quantiles(times, n=100)[98]),
        "max_us": round(1e6 * max(times)),
        "seen_before_us": round(1e6 * seen_s / len(seen), 2),
    }


def _score(lists: Watchlists, name: str) -> float:
    match = lists.best_match(name)
    return match.score if match else 0.0


def _names(file: Path) -> list[str]:
    return [row["full_name"] for row in _rows(file)]


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _resident_bytes() -> int:
    """Memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
