"""Money: which currencies there are, and how many decimals an amount has. The only place where decimals appear.

Rule: ISO 4217, list one (active codes), as of 2026. Codes without a minor unit (metals, bond units, the test code XTS,
"no currency" XXX) cannot be paid in, so they are not known here.
"""

from __future__ import annotations

from typing import Final

_CODES_BY_MINOR_UNITS: Final[dict[int, str]] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD
    HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK
    MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD
    RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
    USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
#: Every currency that can be paid in, with its number of decimals.
MINOR_UNITS: Final[dict[str, int]] = {
    code: units for units, codes in _CODES_BY_MINOR_UNITS.items() for code in codes.split()
}


_NUMERIC: Final = """
    AED784 AFN971 ALL008 AMD051 AOA973 ARS032 AUD036 AWG533 AZN944 BAM977 BBD052 BDT050 BHD048 BIF108 BMD060 BND096
    BOB068 BOV984 BRL986 BSD044 BTN064 BWP072 BYN933 BZD084 CAD124 CDF976 CHE947 CHF756 CHW948 CLF990 CLP152 CNY156
    COP170 COU970 CRC188 CUP192 CVE132 CZK203 DJF262 DKK208 DOP214 DZD012 EGP818 ERN232 ETB230 EUR978 FJD242 FKP238
    GBP826 GEL981 GHS936 GIP292 GMD270 GNF324 GTQ320 GYD328 HKD344 HNL340 HTG332 HUF348 IDR360 ILS376 INR356 IQD368
    IRR364 ISK352 JMD388 JOD400 JPY392 KES404 KGS417 KHR116 KMF174 KPW408 KRW410 KWD414 KYD136 KZT398 LAK418 LBP422
    LKR144 LRD430 LSL426 LYD434 MAD504 MDL498 MGA969 MKD807 MMK104 MNT496 MOP446 MRU929 MUR480 MVR462 MWK454 MXN484
    MXV979 MYR458 MZN943 NAD516 NGN566 NIO558 NOK578 NPR524 NZD554 OMR512 PAB590 PEN604 PGK598 PHP608 PKR586 PLN985
    PYG600 QAR634 RON946 RSD941 RUB643 RWF646 SAR682 SBD090 SCR690 SDG938 SEK752 SGD702 SHP654 SLE925 SOS706 SRD968
    SSP728 STN930 SVC222 SYP760 SZL748 THB764 TJS972 TMT934 TND788 TOP776 TRY949 TTD780 TWD901 TZS834 UAH980 UGX800
    USD840 USN997 UYI940 UYU858 UYW927 UZS860 VED926 VES928 VND704 VUV548 WST882 XAD396 XAF950 XCD951 XCG532 XOF952
    XPF953 YER886 ZAR710 ZMW967 ZWG924
"""
#: The three digits of every one of them, where a message has those instead of letters.
_NUMERIC_CODES: Final[dict[str, str]] = {word[:3]: word[3:] for word in _NUMERIC.split()}


class UnknownCurrencyError(ValueError):
    """Not an active ISO 4217 code with a minor unit. The text does not repeat what was given."""


def is_currency(code: str) -> bool:
    """Whether ``code`` is an active ISO 4217 code, in capitals, that can be paid in."""
    return code in MINOR_UNITS


def minor_units(currency: str) -> int:
    """How many decimals amounts in ``currency`` have: 2 for EUR, 0 for JPY. Raises :class:`UnknownCurrencyError`."""
    units = MINOR_UNITS.get(currency)
    if units is None:
        raise UnknownCurrencyError("not an active ISO 4217 currency code")
    return units


def numeric_code(currency: str) -> str:
    """The three digits of ``currency``: 978 for EUR, 008 for ALL. Raises :class:`UnknownCurrencyError`."""
    code = _NUMERIC_CODES.get(currency)
    if code is None:
        raise UnknownCurrencyError("not an active ISO 4217 currency code")
    return code


def format_amount(amount_minor: int, currency: str) -> str:
    """``1234, "EUR"`` as ``12.34 EUR``, ``1200, "JPY"`` as ``1200 JPY``. Raises :class:`UnknownCurrencyError`."""
    units = minor_units(currency)
    if units == 0:
        return f"{amount_minor} {currency}"
    whole, part = divmod(abs(amount_minor), 10**units)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole}.{part:0{units}d} {currency}"


#: Basis points of the whole: 10 000 are 100 %.
WHOLE_BP: Final = 10_000


def rounded(numerator: int, denominator: int, how: str) -> int:
    """``numerator / denominator`` (neither negative) to a whole number, exactly.

    ``half_up`` is the usual commercial rounding; ``half_even`` gives a half to the even neighbour (ISO 80000-1, annex B, rule
    A), ``down`` drops the fraction, ``up`` makes any fraction a whole. Raises ValueError for another word.
    """
    whole, left = divmod(numerator, denominator)
    if how == "half_up":
        return whole + (2 * left >= denominator)
    if how == "half_even":
        return whole + (2 * left > denominator or (2 * left == denominator and whole % 2))
    if how == "down":
        return whole
    if how == "up":
        return whole + (left > 0)
    raise ValueError("how to round is half_up, half_even, down or up")
