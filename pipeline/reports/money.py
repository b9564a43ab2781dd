"""Reports of money: what moved, and what it cost. Amounts of two currencies are never added. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, TypeVar

import msgspec

from pipeline.reports.events import Days, Event
from pipeline.reports.sheet import Chart, Column, Row, Sheet
from schemas.reasons import WENT_THROUGH, Outcome

T = TypeVar("T")

#: Stages whose events move money.
SETTLEMENT, UPDATED, CHARGEBACK = "settlement", "updated", "chargeback"


class _Completed(msgspec.Struct, frozen=True):
    amount_minor: int
    currency: str
    fee_minor: int = 0
    pic: str = ""


class _Updated(msgspec.Struct, frozen=True):
    kind: str
    amount_minor: int
    currency: str
    operation_id: str = ""
    pic: str = ""


class _Disputed(msgspec.Struct, frozen=True):
    amount_minor: int
    currency: str


_completed = msgspec.json.Decoder(_Completed).decode
_updated = msgspec.json.Decoder(_Updated).decode
_disputed = msgspec.json.Decoder(_Disputed).decode


@dataclass(slots=True)
class _Moved:
    """What moved on one day in one currency at one PIC."""

    payments: int = 0
    paid_minor: int = 0
    captures: int = 0
    captured_minor: int = 0
    refunds: int = 0
    refunded_minor: int = 0
    chargebacks: int = 0
    charged_back_minor: int = 0
    fees_minor: int = 0

    @property
    def net_minor(self) -> int:
        """What is left of what came in."""
        came = self.paid_minor + self.captured_minor
        return came - self.refunded_minor - self.charged_back_minor - self.fees_minor


def _add(into: T, more: T, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(into, name, getattr(into, name) + getattr(more, name))


#: Tenant, day, currency, PIC.
_Key = tuple[str, str, str, str]
_KEY: Final = (Column("tenant"), Column("day"), Column("currency"), Column("pic", heading="PIC"))
_PLACE_OF_CURRENCY: Final = 2


def _totals(found: Mapping[_Key, T], make: Callable[[], T], row: Callable[[T], Row]) -> list[Row]:
    """A total of each currency."""
    names = tuple(each.name for each in fields(make()))  # type: ignore[arg-type]
    by_currency: dict[str, T] = {}
    for key, value in found.items():
        _add(by_currency.setdefault(key[_PLACE_OF_CURRENCY], make()), value, names)
    return [("total", None, currency, None, *row(by_currency[currency])) for currency in sorted(by_currency)]


class Settlement:
    """Money that moved, by tenant, day, currency and PIC. Give it the events of :attr:`stages`, in any order."""

    stages: Final = (SETTLEMENT, UPDATED, CHARGEBACK)
    columns: Final = (
        *_KEY,
        Column("payments", "count"),
        Column("paid_minor", "minor"),
        Column("captures", "count"),
        Column("captured_minor", "minor"),
        Column("refunds", "count"),
        Column("refunded_minor", "minor"),
        Column("chargebacks", "count"),
        Column("charged_back_minor", "minor", "charged back"),
        Column("fees_minor", "minor"),
        Column("net_minor", "minor"),
    )
    _values = attrgetter(*(column.name for column in columns[len(_KEY) :]))

    def __init__(self, days: Days) -> None:
        self._days = days
        self._found: dict[_Key, _Moved] = {}

    def add(self, event: Event) -> None:
        """Count one event; what moves nothing is passed over."""
        if event.stage == SETTLEMENT:
            if event.outcome in WENT_THROUGH:
                completed = _completed(event.payload)
                moved = self._at(event, completed.currency, completed.pic)
                moved.fees_minor += completed.fee_minor
                if event.outcome == Outcome.PAID:
                    moved.payments += 1
                    moved.paid_minor += completed.amount_minor
        elif event.stage == UPDATED:
            updated = _updated(event.payload)
            if event.outcome == "succeeded" and updated.operation_id:
                moved = self._at(event, updated.currency, updated.pic)
                if updated.kind == "capture":
                    moved.captures += 1
                    moved.captured_minor += updated.amount_minor
                elif updated.kind == "refund":
                    moved.refunds += 1
                    moved.refunded_minor += updated.amount_minor
        elif event.stage == CHARGEBACK:
            disputed = _disputed(event.payload)
            # Who carried the payment is not said.
            moved = self._at(event, disputed.currency, "")
            if event.outcome == "refunded":
                moved.refunds += 1
                moved.refunded_minor += disputed.amount_minor
            else:
                moved.chargebacks += 1
                moved.charged_back_minor += disputed.amount_minor

    def _at(self, event: Event, currency: str, pic: str) -> _Moved:
        key = (event.tenant, self._days.of(event.recorded_at_ms), currency, pic)
        moved = self._found.get(key)
        if moved is None:
            moved = self._found[key] = _Moved()
        return moved

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        return Sheet(
            "settlement",
            "Settlement",
            self.columns,
            [(*key, *self._values(self._found[key])) for key in sorted(self._found)],
            _totals(self._found, _Moved, self._values),
            [Chart("What came in by day", ("paid_minor", "captured_minor"), each="currency")],
            "Net is what was paid and captured, less refunds, chargebacks and the tenant's fees. A fee counts on the day on "
            "which its payment was paid or authorized. Chargebacks do not say which PIC carried the payment.",
        )


@dataclass(slots=True)
class _Fees:
    payments: int = 0
    amount_minor: int = 0
    fees_minor: int = 0


class Fees:
    """Fees of payments that went through, by tenant, day, currency and PIC. As :class:`Settlement`."""

    stages: Final = (SETTLEMENT,)
    columns: Final = (
        *_KEY,
        Column("payments", "count"),
        Column("amount_minor", "minor"),
        Column("fees_minor", "minor"),
        Column("share", "share", "fees of amount"),
    )

    def __init__(self, days: Days) -> None:
        self._days = days
        self._found: dict[_Key, _Fees] = {}

    def add(self, event: Event) -> None:
        """Count one event."""
        if event.outcome not in WENT_THROUGH:
            return
        completed = _completed(event.payload)
        key = (event.tenant, self._days.of(event.recorded_at_ms), completed.currency, completed.pic)
        fees = self._found.setdefault(key, _Fees())
        fees.payments += 1
        fees.amount_minor += completed.amount_minor
        fees.fees_minor += completed.fee_minor

    def sheet(self) -> Sheet:
        """What was found, a row for each key."""
        return Sheet(
            "fees",
            "Fees",
            self.columns,
            [(*key, *_fees_row(self._found[key])) for key in sorted(self._found)],
            _totals(self._found, _Fees, _fees_row),
            [Chart("Fees by day", ("fees_minor",), each="currency")],
            "Fees of payments that were paid or authorized, on the day on which they were.",
        )


def _fees_row(fees: _Fees) -> Row:
    share = fees.fees_minor / fees.amount_minor if fees.amount_minor else None
    return fees.payments, fees.amount_minor, fees.fees_minor, share
