"""What a condition may ask of a payment. Pure."""

from __future__ import annotations

import msgspec

from pipeline.stages.rules.filters import plain_postcode, plain_region
from schemas.records import PaymentRequested

_HOUR_MS = 60 * 60 * 1000
_DAY_MS = 24 * _HOUR_MS
#: 1970-01-01 was a Thursday, and Monday is 0.
_EPOCH_WEEKDAY = 3

#: Variables of conditions and their CEL types; each is an attribute of :class:`Facts`.
VARIABLES: dict[str, str] = {
    "amount_minor": "int",
    "currency": "string",
    "method": "string",
    "channel": "string",
    "terminal_id": "string",
    "country": "string",
    "region": "string",
    "postcode": "string",
    "locale": "string",
    "debtor_id": "string",
    "debtor_country": "string",
    "debtor_registered": "bool",
    "creditor_id": "string",
    "creditor_country": "string",
    "creditor_registered": "bool",
    "weekday": "int",
    "hour": "int",
    "received_at_ms": "int",
    "requested_at_ms": "int",
    "metadata": "map(string, string)",
}


class Facts(msgspec.Struct, kw_only=True, gc=False):
    """One payment as rules see it. Amounts in minor units, times in epoch milliseconds."""

    amount_minor: int
    currency: str
    method: str
    country: str
    received_at_ms: int
    #: No variable of conditions: it decides the place in a split.
    payment_id: str = ""
    requested_at_ms: int = 0
    channel: str = ""
    terminal_id: str = ""
    region: str = ""
    postcode: str = ""
    locale: str = ""
    debtor_id: str = ""
    debtor_country: str = ""
    debtor_registered: bool = False
    creditor_id: str = ""
    creditor_country: str = ""
    creditor_registered: bool = False
    metadata: dict[str, str] = {}
    #: Worked out when they are first asked for.
    _postcode: str | None = None
    _region: str | None = None

    @property
    def plain_postcode(self) -> str:
        """The postcode as filters compare it."""
        if self._postcode is None:
            self._postcode = plain_postcode(self.postcode)
        return self._postcode

    @property
    def plain_region(self) -> str:
        """The region as filters compare it."""
        if self._region is None:
            self._region = plain_region(self.region)
        return self._region

    @property
    def weekday(self) -> int:
        """Day of the week of the time of receipt, UTC; Monday is 0."""
        return (self.received_at_ms // _DAY_MS + _EPOCH_WEEKDAY) % 7

    @property
    def hour(self) -> int:
        """Hour of the time of receipt, UTC."""
        return self.received_at_ms // _HOUR_MS % 24


def facts_of(request: PaymentRequested, received_at_ms: int) -> Facts:
    """The facts of a PTR that the broker took at ``received_at_ms``."""
    debtor, creditor, place = request.debtor, request.creditor, request.locality
    return Facts(
        amount_minor=request.amount_minor,
        currency=request.currency,
        method=request.instrument.kind,
        country=place.country,
        received_at_ms=received_at_ms,
        payment_id=request.payment_id,
        requested_at_ms=request.requested_at_ms,
        channel=request.channel,
        terminal_id=request.terminal_id,
        region=place.region,
        postcode=place.postcode,
        locale=place.locale,
        debtor_id=debtor.id,
        debtor_country=debtor.country,
        debtor_registered=bool(debtor.registration),
        creditor_id=creditor.id,
        creditor_country=creditor.country,
        creditor_registered=bool(creditor.registration),
        metadata=request.metadata,
    )
