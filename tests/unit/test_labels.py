"""Labels: what is known of a payment, by when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.labels import LABEL_DELAY_MS, UNKNOWN, Evidence, Label, Source, Truth, is_fraud, label_of

DAY_MS = 86_400_000
PAID_MS = 100 * DAY_MS


def label(*evidence: Evidence, days: float = 30, went_through: bool = True) -> Label:
    """The label ``days`` after the payment."""
    as_of_ms = PAID_MS + round(days * DAY_MS)
    return label_of(evidence, paid_at_ms=PAID_MS, went_through=went_through, as_of_ms=as_of_ms)


def heard(source: Source, days: float, reason: str = "") -> Evidence:
    """Evidence that came ``days`` after the payment."""
    return Evidence(source, PAID_MS + round(days * DAY_MS), reason)


@pytest.mark.parametrize(
    ("reason", "fraud"),
    [
        ("fraud", True),
        ("Fraud", True),
        ("fraud_card_not_present", True),
        ("10.4", True),
        ("4837", True),
        (" f29 ", True),
        ("FRAD", True),
        ("FR01", True),
        ("not_received", False),
        ("13.1", False),  # Visa: merchandise not received
        ("4853", False),  # Mastercard: cardholder dispute
        ("no_fraud", False),
        ("", False),
    ],
)
def test_reasons_of_fraud_are_told_from_disputes_about_goods(reason: str, fraud: bool) -> None:
    """The pipeline's own word, and the codes of schemes and banks."""
    assert is_fraud(reason) is fraud


def test_silence_is_genuine_after_a_week_and_only_of_what_went_through() -> None:
    """Seven days to the millisecond, and never of a payment that was stopped."""
    assert LABEL_DELAY_MS == 7 * DAY_MS
    assert label(days=7) == Label(Truth.GENUINE, Source.SILENCE, PAID_MS + 7 * DAY_MS)
    early = label_of([], paid_at_ms=PAID_MS, went_through=True, as_of_ms=PAID_MS + 7 * DAY_MS - 1)
    assert early == UNKNOWN
    assert label(days=400, went_through=False) == UNKNOWN


@pytest.mark.parametrize(
    ("evidence", "truth", "source", "days"),
    [
        ([heard(Source.CHARGEBACK, 5, "fraud")], Truth.FRAUD, Source.CHARGEBACK, 5),
        ([heard(Source.REFUND, 2, "fraud")], Truth.FRAUD, Source.REFUND, 2),
        ([heard(Source.REVIEW_REJECTED, 1)], Truth.FRAUD, Source.REVIEW_REJECTED, 1),
        ([heard(Source.REVIEW_APPROVED, 1)], Truth.GENUINE, Source.REVIEW_APPROVED, 1),
        # A person let it pass, and it was fraud.
        ([heard(Source.REVIEW_APPROVED, 1), heard(Source.CHARGEBACK, 9, "10.4")], Truth.FRAUD, Source.CHARGEBACK, 9),
        # First refunded, then charged back too: known since the refund.
        ([heard(Source.CHARGEBACK, 9, "fraud"), heard(Source.REFUND, 3, "fraud")], Truth.FRAUD, Source.CHARGEBACK, 3),
        # Charged back twice: since the first.
        (
            [heard(Source.CHARGEBACK, 9, "fraud"), heard(Source.CHARGEBACK, 4, "fraud")],
            Truth.FRAUD,
            Source.CHARGEBACK,
            4,
        ),
        # A dispute about goods is no fraud, and no word for it either.
        ([heard(Source.CHARGEBACK, 9, "not_received")], Truth.GENUINE, Source.SILENCE, 7),
        ([heard(Source.REFUND, 2, "returned")], Truth.GENUINE, Source.SILENCE, 7),
    ],
)
def test_the_strongest_evidence_counts(evidence: list[Evidence], truth: Truth, source: Source, days: float) -> None:
    """Disputes before reviews before silence; known since the first that speaks for it."""
    for order in (evidence, evidence[::-1]):
        assert label(*order) == Label(truth, source, PAID_MS + round(days * DAY_MS))


def test_nothing_is_known_before_it_was_heard() -> None:
    """A report of an earlier day sees the labels of that day: training must not look into the future."""
    evidence = heard(Source.REVIEW_APPROVED, 1), heard(Source.CHARGEBACK, 9, "fraud")
    assert label(*evidence, days=0.5) == UNKNOWN
    assert label(*evidence, days=8).truth is Truth.GENUINE
    assert label(*evidence, days=9).truth is Truth.FRAUD


sources = st.sampled_from([Source.CHARGEBACK, Source.REFUND, Source.REVIEW_APPROVED, Source.REVIEW_REJECTED])
some_evidence = st.lists(
    st.builds(heard, sources, st.integers(0, 60), st.sampled_from(["fraud", "not_received", "10.1"])), max_size=6
)


@given(some_evidence, st.randoms(), st.integers(0, 60), st.booleans())
def test_the_order_of_evidence_does_not_matter_and_fraud_stays_fraud(
    evidence: list[Evidence], random: object, days: int, went_through: bool
) -> None:
    """Shuffled, the same label; more time never takes a fraud back."""
    shuffled = list(evidence)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = label(*evidence, days=days, went_through=went_through)
    assert label(*shuffled, days=days, went_through=went_through) == found
    assert found.known_at_ms <= PAID_MS + days * DAY_MS
    if found.truth is Truth.FRAUD:
        assert label(*evidence, days=days + 30, went_through=went_through).truth is Truth.FRAUD
