"""Figures of scores, worked out by hand, and the handbook's protocol."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.training.figures import average_precision, card_precision, handbook_test_set, roc_auc


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def test_auc_counts_pairs() -> None:
    """Of 2 * 3 pairs of a fraud and another, 3 are in order and one is a tie: (3 + 0.5) / 6."""
    assert roc_auc(labels(1, 0, 1, 0, 0), np.array([0.9, 0.9, 0.4, 0.5, 0.1])) == pytest.approx(3.5 / 6)
    assert roc_auc(labels(1, 0), np.array([1.0, 0.0])) == 1.0
    assert roc_auc(labels(1, 0), np.array([0.0, 1.0])) == 0.0
    assert math.isnan(roc_auc(labels(1, 1), np.array([0.1, 0.2])))


def test_average_precision_sums_precision_at_each_step_of_recall() -> None:
    """Ranks 1 and 3 of 4: (1/1 + 2/3) / 2; two equal scores are one threshold; nothing found is not a number."""
    assert average_precision(labels(1, 0, 1, 0), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(labels(1, 0), np.array([0.5, 0.5])) == 0.5
    assert average_precision(labels(0, 1), np.array([0.5, 0.5])) == 0.5
    assert math.isnan(average_precision(labels(0, 0), np.array([0.5, 0.5])))


def test_card_precision_looks_at_cards_and_blocks_those_it_found() -> None:
    """Two a day. Day 1: cards 1 (found) and 2. Day 2: card 1 is blocked, so 3 (found) and 2 are looked at."""
    day = np.array([1, 1, 1, 2, 2, 2])
    card = np.array([1, 1, 2, 1, 2, 3])
    scores = np.array([0.9, 0.1, 0.5, 1.0, 0.2, 0.3])
    assert card_precision(day, card, labels(0, 1, 0, 1, 0, 1), scores, 2) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert card_precision(day, card, labels(0, 0, 0, 0, 0, 0), scores, 2) == 0.0


def test_the_handbooks_test_set() -> None:
    """Train on days 10 and 11, delay of 2, test on 14 and 15, each without the cards that are known by then.

    Card 1 is defrauded in training: known. Card 2 on day 11: known. Card 3 on day 12: a label of 2 days later is there on
    day 14 + 1, so it is left out of day 15 and not of day 14. Card 4 on day 13: not known in time.
    """
    day = np.array([10, 11, 12, 13, *[14] * 5, *[15] * 5])
    card = np.array([1, 2, 3, 4, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    fraud = labels(1, 1, 1, 1, *[0] * 10)
    train, test = handbook_test_set(day, card, fraud, train_day=10, days=2, delay=2)
    assert np.nonzero(train)[0].tolist() == [0, 1]
    assert [(int(d), int(c)) for d, c in zip(day[test], card[test], strict=True)] == [
        (14, 3), (14, 4), (14, 5), (15, 4), (15, 5),
    ]  # fmt: skip
