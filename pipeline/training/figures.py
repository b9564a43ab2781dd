"""How good scores are. The figures of the Fraud Detection Handbook, chapter 4, with its own protocol for cards."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Payments or cards that a team can look at in a day: the handbook's k.
CARDS_A_DAY: Final = 100

Labels = NDArray[np.bool_]
Scores = NDArray[np.floating[Any]]


def roc_auc(fraud: Labels, scores: Scores) -> float:
    """Area under the ROC curve: how often a fraud scores above a good payment, a tie counting half. NaN without both."""
    bad, good = int(fraud.sum()), int((~fraud).sum())
    if not bad or not good:
        return float("nan")
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Mean rank of each group of equal scores, from 1.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return float((ranks[fraud].sum() - bad * (bad + 1) / 2) / (bad * good))


def average_precision(fraud: Labels, scores: Scores) -> float:
    """The mean of the precisions at each threshold, weighted by the recall gained there; ties are one threshold."""
    bad = int(fraud.sum())
    if not bad:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], np.cumsum(fraud[order])
    last = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    precision, recall = found[last] / (last + 1), found[last] / bad
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def card_precision(
    day: NDArray[np.int64], card: NDArray[np.int64], fraud: Labels, scores: Scores, k: int = CARDS_A_DAY
) -> float:
    """Card precision top-k: of the k cards with the highest score of a day, the share that had a fraud that day.

    The mean over days; cards that were found on a day are blocked, so they are left out of the days after.
    """
    blocked: set[int] = set()
    shares = []
    for each in np.unique(day):
        at = (day == each) & ~np.isin(card, list(blocked))
        best: dict[int, tuple[float, bool]] = {}
        for c, score, bad in zip(card[at].tolist(), scores[at].tolist(), fraud[at].tolist(), strict=True):
            highest, any_bad = best.get(c, (-1.0, False))
            best[c] = max(highest, score), any_bad or bad
        top = sorted(best.items(), key=lambda item: -item[1][0])[:k]
        hit = {c for c, (_, bad) in top if bad}
        shares.append(len(hit) / k)
        blocked |= hit
    return float(np.mean(shares)) if shares else float("nan")


def handbook_test_set(
    day: NDArray[np.int64], card: NDArray[np.int64], fraud: Labels, *, train_day: int, days: int = 7, delay: int = 7
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which payments are for training and which for the test: the handbook's ``get_train_test_set``.

    Training is ``days`` days from ``train_day``; then ``delay`` days in which labels arrive; then ``days`` days of test,
    each without the cards that are known by then to be defrauded: in the training days, or up to ``delay`` days before.
    """
    train = (day >= train_day) & (day < train_day + days)
    known = set(card[train & fraud].tolist())
    test = np.zeros(len(day), dtype=np.bool_)
    for number in range(days):
        known |= set(card[(day == train_day + days + number - 1) & fraud].tolist())
        test |= (day == train_day + days + delay + number) & ~np.isin(card, list(known))
    return train, test
