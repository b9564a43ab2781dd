"""Why a bank rejects a transfer: ISO 20022 external status reasons as standard declines.

Source: ISO 20022 external code sets, ExternalStatusReason1Code; what they allow next follows EPC059-18 on r-transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connectors.pic.declines import STANDARD, DeclineCode, Meaning

#: The bank has this transfer or file already. What became of that is in no such report, so it is no decline.
DUPLICATES: Final = frozenset({"AM05", "DU01", "DU02", "DU03", "DU04", "DU05", "DUPL"})

_CODES: Final[Mapping[DeclineCode, str]] = {
    DeclineCode.INSUFFICIENT_FUNDS: "AM04",
    # AC06 is blocked; RC and AGNT are wrong bank codes.
    DeclineCode.INVALID_ACCOUNT: "AC01 AC02 AC03 AC06 AC09 AC10 AC11 AC12 AC14 BE01 RC01 RC03 RC04 AGNT",
    DeclineCode.CLOSED_ACCOUNT: "AC04 AC05 AC07 MD07",
    DeclineCode.LIMIT_EXCEEDED: "AM02 AM13 AM14 AM23",
    DeclineCode.INVALID_AMOUNT: "AM01 AM06 AM09 AM10 AM12",
    DeclineCode.CURRENCY_NOT_SUPPORTED: "AM03 AM11 CURR AC13",
    DeclineCode.NOT_PERMITTED: "AG01 AG02 AG03 AC08 CNOR DNOR RR01 RR02 RR03 RR04 RR05 RR06 SL11 SL12 SL13 SL14",
    DeclineCode.SUSPECTED_FRAUD: "FRAD FR01",
    DeclineCode.AUTHENTICATION_FAILED: "DS02 DS0A DS0B DS0C DS0D DS0E DS0F DS0G DS0H",
    DeclineCode.DO_NOT_HONOR: "MS02 MS03 CUST",
    DeclineCode.INVALID_REQUEST: "BE04 BE05 BE06 BE07 BE09 BE10 BE16 BE17 CH03 CH04 CH11 CH20 CH21 DT01 DT02 FF01 FF03 FF05"
    " FF10 NERI RF01",
    DeclineCode.TRY_AGAIN_LATER: "TM01 AM07 AG07",
    DeclineCode.ISSUER_UNAVAILABLE: "AB01 AB02 AB03 AB04 AB05 AB06 AB07 AB08 AB09 AB10 AG10 AG11",
}
#: From a reason's code to its meaning.
REASONS: Final[Mapping[str, Meaning]] = MappingProxyType(
    {code: STANDARD[meant] for meant, codes in _CODES.items() for code in codes.split()}
)


def meaning(code: str) -> Meaning:
    """What a rejection with this code means; a proprietary, unknown or missing one is ``other``."""
    return REASONS.get(code, STANDARD[DeclineCode.OTHER])
