"""The people and shops of the demo: who pays whom, with what, how much. Made from a seed, the same every time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

from connectors.demo.names import person, shop
from schemas.records import Instrument, Locality, Party

#: What people spend at once, about: 25 units of a currency worth a euro; half of them between 14 and 45.
USUAL_CENTS: Final = 2_500
PEOPLE_DIFFER: Final = 0.5
PAYMENTS_DIFFER: Final = 0.6
#: No everyday payment is outside: above every demo fee, below every demo limit.
EVERYDAY_CENTS_MIN, EVERYDAY_CENTS_MAX = 400, 60_000
#: One in so many payments goes to a shop that is not a favourite.
STRAY_SHARE: Final = 0.08


@dataclass(frozen=True, slots=True)
class Place:
    """A country: its currency, how many of its minor units a euro cent is, its language and style of names."""

    country: str
    currency: str
    minor_per_cent: float
    locale: str
    style: str
    postcodes: tuple[str, ...]


PLACES: Final[dict[str, Place]] = {
    place.country: place
    for place in (
        Place("DE", "EUR", 1, "de-DE", "german", ("10115", "50667", "80331")),
        Place("FR", "EUR", 1, "fr-FR", "french", ("13001", "44000", "75011")),
        Place("ES", "EUR", 1, "es-ES", "spanish", ("08001", "28004", "41003")),
        Place("IT", "EUR", 1, "it-IT", "italian", ("00184", "20121", "50122")),
        Place("GR", "EUR", 1, "el-GR", "greek", ("105 57", "546 24")),
        Place("GB", "GBP", 0.85, "en-GB", "english", ("BS1 4DJ", "EH1 1YZ", "M1 1AE")),
        Place("JP", "JPY", 1.6, "ja-JP", "japanese", ("100-0001", "600-8216")),
        Place("SE", "SEK", 11.3, "sv-SE", "nordic", ("111 20", "411 05")),
        Place("NO", "NOK", 11.6, "nb-NO", "nordic", ("0150", "5003")),
        Place("DK", "DKK", 7.5, "da-DK", "nordic", ("1050", "8000")),
        Place("FI", "EUR", 1, "fi-FI", "finnish", ("00100", "33100")),
        Place("PL", "PLN", 4.3, "pl-PL", "polish", ("00-001", "31-007")),
    )
}


@dataclass(frozen=True, slots=True)
class Market:
    """What a tenant serves. Only these countries, their currencies, and these methods are everyday here."""

    countries: tuple[str, ...]
    methods: tuple[str, ...]


#: The two demo tenants' markets, in turn, for tenants of any name; tenants.yaml allows what they hold.
MARKETS: Final = (
    Market(("DE", "FR", "ES", "IT", "GR", "GB", "JP"), ("card", "card", "card", "bank_account", "wallet")),
    Market(("SE", "NO", "DK", "FI", "PL"), ("card", "card", "wallet")),
)


@dataclass(frozen=True, slots=True)
class Payee:
    """A shop with its terminals; one without any sells online."""

    party: Party
    place: Place
    locality: Locality
    terminals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Payer:
    """A person with habits: a few favourite shops, one way to pay, a usual amount."""

    party: Party
    place: Place
    instrument: Instrument
    favourites: tuple[tuple[Payee, str], ...]
    usual_cents: float


class World:
    """One tenant's payers and payees. All randomness comes from ``rng``."""

    def __init__(self, tenant: str, market: Market, rng: Random, *, payers: int, payees: int) -> None:
        self.tenant = tenant
        self.market = market
        self.payees = [self._payee(n, rng) for n in range(payees)]
        self._near = {c: [p for p in self.payees if p.place.country == c] or self.payees for c in market.countries}
        self._strays = {
            place.currency: [p for p in self.payees if p.place.currency == place.currency] or self.payees
            for place in (PLACES[country] for country in market.countries)
        }
        self.payers = [self._payer(n, rng) for n in range(payers)]

    def everyday(self, rng: Random) -> tuple[Payer, Payee, str, int]:
        """Who pays whom at which terminal, and the amount in minor units of the payee's currency."""
        payer = self.payers[int(rng.random() * len(self.payers))]
        if rng.random() < STRAY_SHARE:
            # In the currency of the payer's habits: amounts of different currencies are not alike.
            strays = self._strays[payer.place.currency]
            payee = strays[int(rng.random() * len(strays))]
            terminal = payee.terminals[0] if payee.terminals else ""
        else:
            payee, terminal = payer.favourites[int(rng.random() * len(payer.favourites))]
        return payer, payee, terminal, usual_amount(payer, payee.place, rng)

    def _payee(self, n: int, rng: Random) -> Payee:
        # The first shops are spread over the countries, so that each has one.
        countries = self.market.countries
        place = PLACES[countries[n] if n < len(countries) else rng.choice(countries)]
        party = Party(
            id=f"shop-{n}", name=shop(place.style, rng), country=place.country, registration=f"{place.country}-{n:05d}"
        )
        locality = Locality(country=place.country, postcode=rng.choice(place.postcodes), locale=place.locale)
        return Payee(party, place, locality, tuple(f"t{n}-{t}" for t in range(rng.choice((0, 1, 1, 2, 3)))))

    def _payer(self, n: int, rng: Random) -> Payer:
        place = PLACES[rng.choice(self.market.countries)]
        style = rng.choice(("cyrillic", "arabic", "chinese")) if rng.random() < 0.1 else place.style
        born = f"{rng.randint(1940, 2005)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        party = Party(
            id=f"payer-{n}",
            name=person(style, rng),
            country=place.country,
            birth_date=born if rng.random() < 0.5 else None,
        )
        favourites = tuple(
            (payee, rng.choice(payee.terminals) if payee.terminals else "")
            for payee in (rng.choice(self._near[place.country]) for _ in range(3))
        )
        usual_cents = math.exp(rng.gauss(math.log(USUAL_CENTS), PEOPLE_DIFFER))
        instrument = Instrument(kind=rng.choice(self.market.methods), token=f"tok_{self.tenant}_{n}")
        return Payer(party, place, instrument, favourites, usual_cents)


def usual_amount(payer: Payer, place: Place, rng: Random, times: float = 1.0) -> int:
    """An amount as this payer spends it, ``times`` as much when something is wrong; minor units of ``place``."""
    cents = min(
        max(payer.usual_cents * math.exp(rng.gauss(0.0, PAYMENTS_DIFFER)), EVERYDAY_CENTS_MIN), EVERYDAY_CENTS_MAX
    )
    return round(cents * times * place.minor_per_cent)
