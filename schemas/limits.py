"""Limits of what comes from outside, each with its reason."""

from __future__ import annotations

#: A PTR is some hundred bytes; anything near this is not a payment. Longer values are dead letters, unread.
VALUE_BYTES_MAX = 64 * 1024
#: 10^13 minor units: above any retail payment in any currency, far below 2^63.
AMOUNT_MINOR_MAX = 10_000_000_000_000
#: Of goods that move at once: far above any lorry, far below 2^63 also when many are added.
QUANTITY_MAX = 1_000_000_000
METADATA_ENTRIES_MAX = 32
METADATA_KEY_CHARS_MAX = 64
METADATA_VALUE_CHARS_MAX = 512
NAME_CHARS_MAX = 200
TEXT_CHARS_MAX = 200
#: Who decided a review, or granted an exception: a user or an address, not a text.
BY_CHARS_MAX = 80
#: Clocks of clients differ; a request from further in the future is a mistake.
REQUESTED_AHEAD_MS_MAX = 5 * 60 * 1000
