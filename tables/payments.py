"""Table ``payments``: what was asked under each payment id, and what screening answered. Keyed by payment."""

from __future__ import annotations

import msgspec

from pipeline import topics

NAME = "payments"
CHANGELOG = topics.TABLE_PAYMENTS.name


class PaymentRow(msgspec.Struct, array_like=True):
    """No personal data: of the request only hashes are kept, enough to know a repeat and to name what differs."""

    version: int = 0
    #: Offset of the last request applied, in the row's own partition: the fence of what comes from outside.
    offset: int = -1
    #: Hash of the first request (pipeline.stages.request_check.content_of).
    content: bytes = b""
    #: Short hashes of its groups of fields.
    groups: bytes = b""
    outcome: str = ""
    reason: str = ""
