"""Names of countries, as sanctions lists write them, to ISO 3166-1 alpha-2 codes. What is not known is not guessed."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Final

from babel import Locale

from connectors.tenants.names import countries

#: Spellings that are kept with their codes: a list says the same few tens of thousands of times.
SPELLINGS_MAX: Final = 2_048
#: Spellings of the lists that CLDR's English names do not have. Countries that exist no more (Netherlands Antilles,
#: Serbia and Montenegro, Soviet Union) are left out: which of their successors is meant is not told.
_SPELLINGS: Final = {
    "bahamas, the": "BS",
    "bosnia and herzegovina": "BA",
    "bosnia-herzegovina": "BA",
    "brunei darussalam": "BN",
    "burma": "MM",
    "cabo verde": "CV",
    "china, hong kong special administrative region": "HK",
    "china, macao special administrative region": "MO",
    "congo": "CG",
    "congo, democratic republic of the": "CD",
    "congo, republic of the": "CG",
    "cote d ivoire": "CI",
    "cote d'ivoire": "CI",
    "czech republic": "CZ",
    "democratic people's republic of korea": "KP",
    "democratic republic of the congo": "CD",
    "dprk": "KP",
    "drc": "CD",
    "england": "GB",
    "gambia, the": "GM",
    "gaza": "PS",
    "gaza strip": "PS",
    "hong kong": "HK",
    "iran (islamic republic of)": "IR",
    "korea, north": "KP",
    "korea, south": "KR",
    "lao people's democratic republic": "LA",
    "macao": "MO",
    "macau": "MO",
    "macedonia, the former yugoslav republic of": "MK",
    "man, isle of": "IM",
    "myanmar": "MM",
    "palestine": "PS",
    "palestinian": "PS",
    "region: gaza": "PS",
    "republic of korea": "KR",
    "republic of moldova": "MD",
    "russian federation": "RU",
    "saint kitts and nevis": "KN",
    "saint vincent and the grenadines": "VC",
    "sao tome and principe": "ST",
    "st. kitts and nevis": "KN",
    "st. vincent and the grenadines": "VC",
    "state of palestine": "PS",
    "swaziland": "SZ",
    "syrian arab republic": "SY",
    "the bahamas": "BS",
    "the gambia": "GM",
    "the netherlands": "NL",
    "the philippines": "PH",
    "trinidad and tobago": "TT",
    "turkey": "TR",
    "turkiye": "TR",
    "united kingdom of great britain and northern ireland": "GB",
    "united republic of tanzania": "TZ",
    "united states of america": "US",
    "usa": "US",
    "uk": "GB",
    "venezuela (bolivarian republic of)": "VE",
    "bolivia (plurinational state of)": "BO",
    "viet nam": "VN",
    "virgin islands, british": "VG",
    "virgin islands, u.s.": "VI",
    "west bank": "PS",
}


@lru_cache(SPELLINGS_MAX)
def country_code(name: str) -> str | None:
    """The alpha-2 code of the country that ``name`` names in English, in whatever case; None when it is not known."""
    return _codes().get(_plain(name))


@cache
def _codes() -> dict[str, str]:
    known = countries()
    names = Locale("en").territories
    return {_plain(name): code for code, name in names.items() if code in known} | _SPELLINGS


def _plain(name: str) -> str:
    """Without case, accents, typographic apostrophes, ``&`` and double spaces."""
    text = name.replace("\u2019", "'").replace("&", " and ")
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"\s+", " ", text).strip().casefold()
