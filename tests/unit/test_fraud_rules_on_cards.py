"""The library's defaults against card transactions that nobody here made: honest customers are left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.stages.features import PAYER_FEATURES
from pipeline.stages.fraud import Approved, assess
from pipeline.stages.profiles import (
    PayeeProfile,
    PayerProfile,
    add_payee_payment,
    add_payer_payment,
    payee_features,
)
from schemas.tenant_rules import FraudRules

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fdh" / "transactions.parquet"
#: 2018-04-01 as a day since 1970.
FIRST_DAY = 17_622
DAY_MS = 86_400_000
#: Of 5,000 customers every so many, with 37 days of history before the week that is judged.
EVERY = 16
WEEK = range(129, 136)
_PAYEE_NEW = PAYER_FEATURES.index("payee_new")


def some_transactions() -> Iterator[tuple[int, str, str, int, bool]]:
    """Time, customer, terminal, amount in minor units, and whether it was fraud; in order of time."""
    if not DATA.exists():
        pytest.skip("shared/data/fdh/transactions.parquet is not there")
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    days = [("TX_TIME_DAYS", ">=", WEEK.start - 37), ("TX_TIME_DAYS", "<", WEEK.stop)]
    table = pq.read_table(DATA, columns=columns, filters=days)
    customers = table["CUSTOMER_ID"]
    rest = pc.subtract(customers, pc.multiply(pc.divide(customers, EVERY), EVERY))
    table = table.filter(pc.equal(rest, 0)).sort_by("TX_TIME_SECONDS")
    for second, customer, terminal, amount, fraud in zip(*(table[name].to_pylist() for name in columns), strict=True):
        yield FIRST_DAY * DAY_MS + second * 1000, str(customer), str(terminal), round(amount * 100), bool(fraud)


def test_the_defaults_leave_honest_customers_alone() -> None:
    """Of more than 4,000 genuine payments at most one in a thousand is referred or declined; and rules do see fraud."""
    payers: dict[str, PayerProfile] = {}
    payees: dict[str, PayeeProfile] = {}
    rules, judged, stopped = FraudRules(), Counter[bool](), Counter[bool]()
    seen = 0
    for at_ms, customer, terminal, amount_minor, fraud in some_transactions():
        payer, payee = payers.setdefault(customer, PayerProfile()), payees.setdefault(terminal, PayeeProfile())
        facts = add_payer_payment(payer, at_ms, amount_minor, terminal=terminal, card=customer, country="BE", home="BE")
        add_payee_payment(payee, at_ms, amount_minor, card=customer, new_payer=bool(facts[_PAYEE_NEW]))
        if at_ms // DAY_MS - FIRST_DAY not in WEEK:
            continue
        answer = assess(facts, payee_features(payee, at_ms), amount_minor, at_ms, rules)
        judged[fraud] += 1
        stopped[fraud] += not isinstance(answer, Approved)
        seen += fraud and bool(answer.hits)
    assert judged[False] > 4_000
    assert stopped[False] <= judged[False] / 1_000
    assert seen > 0
