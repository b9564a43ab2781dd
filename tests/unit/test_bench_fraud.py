"""What ``ptr bench fraud`` times: rows as stages have them that run for weeks."""

from __future__ import annotations

from pipeline.bench.fraud import DAY_MS, FIRST_DAY, WEEK, Counted
from pipeline.stages.features import PAYEE_FEATURES, PAYER_FEATURES
from schemas.records import PaymentRequested
from tests.builders import a_request


def paid(number: int, day: int) -> PaymentRequested:
    """The payment of a day, at noon."""
    at_ms = (FIRST_DAY + day) * DAY_MS + DAY_MS // 2
    return a_request(payment_id=f"p{number}", requested_at_ms=at_ms)


def test_rows_hold_what_came_before_and_its_chargebacks() -> None:
    """A payer's month, a payee's, and a fraud of the first day, known a week later."""
    counted = Counted()
    days = [(FIRST_DAY + day, [paid(day, day)]) for day in range(WEEK + 2)]
    counted.live(days[:WEEK], {"p0"})
    payer, payee = counted.facts(paid(WEEK, WEEK))
    assert payer[PAYER_FEATURES.index("count_30d")] == WEEK + 1
    assert payee[PAYEE_FEATURES.index("chargebacks_30d")] == 0
    counted = Counted()
    counted.live(days[: WEEK + 1], {"p0"})
    payer, payee = counted.facts(paid(WEEK + 1, WEEK + 1))
    assert payer[PAYER_FEATURES.index("payee_new")] == 0
    assert payee[PAYEE_FEATURES.index("count_30d")] == WEEK + 2
    assert payee[PAYEE_FEATURES.index("chargebacks_30d")] == 1
