"""pipeline/stages/parties.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from connectors.erasures.book import ERASED_MAX, ErasureBook
from pipeline.stages.exceptions import NoExceptions, entry_hash, name_hash
from pipeline.stages.parties import ERASURE_DELAY_MS, SIGHTINGS_MAX, Known, Sightings, flag, learn, mistake_in
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.records import ErasureRequested, ExceptionGranted, Party, PartySeen
from schemas.tenant_rules import ScreeningRules

LISTS = Watchlists(
    [
        ListEntry("ofac", "1", "person", ("Miroslav Varanov",), birth_dates=("1960",), countries=("RU",)),
        ListEntry("un", "2", "person", ("Miroslav Varanoff",)),
        ListEntry("un", "3", "person", ("Qasim al-Zahiran",)),
    ],
    version="ofac:aaa,un:bbb",
)
VERSIONS = {"ofac": "aaa", "un": "bbb"}
VARANOV = Known("Miroslav Varanov", "RU", "", 5)


def seen(name: str, at_ms: int, country: str = "DE", birth_date: str | None = None) -> PartySeen:
    return PartySeen(
        tenant="t1",
        party_id="d1",
        name=name,
        country=country,
        birth_date=birth_date,
        list_version="x",
        seen_at_ms=at_ms,
    )


def test_a_party_is_news_once_and_again_when_it_changes() -> None:
    """By tenant and id; a name that comes back after another one is news again, for the last one is kept."""
    sightings = Sightings(ErasureBook())
    ada, eve = Party(id="d1", name="Ada", country="DE"), Party(id="d1", name="Eve", country="DE")
    news = [
        sightings.is_news(tenant, party, 1) for tenant, party in [("t1", ada), ("t1", ada), ("t2", ada), ("t1", eve)]
    ]
    assert news == [True, False, True, True]
    assert sightings.is_news("t1", ada, 1)
    assert sightings.is_news("t1", Party(id="d1", name="Ada", country="DE", birth_date="1970"), 1)


def test_sightings_are_bounded() -> None:
    """The one known longest is forgotten, and so is news again; the newest are not."""
    sightings = Sightings(ErasureBook())
    for number in range(SIGHTINGS_MAX + 1):
        assert sightings.is_news("t1", Party(id=f"d{number}", name="Ada", country="DE"), 1)
    assert not sightings.is_news("t1", Party(id="d1", name="Ada", country="DE"), 1)
    assert sightings.is_news("t1", Party(id="d0", name="Ada", country="DE"), 1)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 1, 0)])
def test_the_last_sighting_is_kept_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    """Of 3, 5 and 4 ms it is that of 5 ms, also when it comes twice."""
    sightings = [seen("Early", 3), seen("Last", 5, "FR", "1970-01-02"), seen("Middle", 4)]
    known = Known("", "", "", 0)
    for number in order:
        known = learn(known, sightings[number]) or known
    assert known == Known("Last", "FR", "1970-01-02", 5)
    assert learn(known, sightings[1]) is None


def flag_it(
    party: Known, flagged: Sequence[str] = (), refer_at: float = 0.9, lists: Watchlists = LISTS, **named: Any
) -> tuple[list[tuple[str, float]], list[str]]:
    """Marks and scores of hits, and the marks to keep."""
    hits, marks = flag(
        "t1",
        "d1",
        party,
        flagged,
        lists=lists,
        versions=VERSIONS if lists is LISTS else {},
        rules=ScreeningRules(refer_at=refer_at),
        exceptions=named.get("exceptions", NoExceptions()),
        at_ms=100,
    )
    return [(mark, match.score) for mark, match in hits], marks


def test_everybody_a_party_is_like_is_a_hit_once() -> None:
    """The same name on one list, a spelling of it on the other; what was flagged is none, and marks of other versions go."""
    hits, marks = flag_it(VARANOV, ["ofac:old:1", "un:bbb:9"])
    assert hits == [("ofac:aaa:1", 1.0), ("un:bbb:2", pytest.approx(0.96, abs=0.03))]
    assert marks == ["un:bbb:9", "ofac:aaa:1", "un:bbb:2"]
    assert flag_it(VARANOV, marks) == ([], marks)


def test_the_tenants_threshold_and_what_is_known_beside_the_name_decide() -> None:
    """At 0.99 only the same name is a hit; another birth year takes 0.08 from it, so that it is none."""
    assert flag_it(VARANOV, refer_at=0.99)[0] == [("ofac:aaa:1", 1.0)]
    assert flag_it(Known("Miroslav Varanov", "RU", "1990-05-06", 5), refer_at=0.99)[0] == []
    assert flag_it(Known("Ada Lovelace", "GB", "", 5)) == ([], [])


def test_who_was_excepted_is_no_hit() -> None:
    """For the entry as it is and the party by this name; once the list says more of the entry, it is one again."""
    entry = ListEntry("ofac", "1", "person", ("Miroslav Varanov",), birth_dates=("1960",), countries=("RU",))
    granted = ExceptionGranted(
        tenant="t1",
        list="ofac",
        entry_id="1",
        entry_hash=entry_hash(entry),
        party_id="d1",
        name_hash=name_hash("t1", "d1", "miroslav varanov"),
        by="rita",
        reason="another person",
        granted_at_ms=1,
        until_ms=1000,
    )

    class Granted(NoExceptions):
        def in_force(
            self, tenant: str, list_id: str, entry_id: str, party_id: str, at_ms: int
        ) -> ExceptionGranted | None:
            return granted if (tenant, list_id, entry_id, party_id) == ("t1", "ofac", "1", "d1") else None

    only = Watchlists([entry], version="x")
    assert flag_it(VARANOV, lists=only, exceptions=Granted()) == ([], [])
    changed = Watchlists([replace(entry, birth_dates=("1960", "1961"))], version="y")
    assert [mark for mark, _ in flag_it(VARANOV, lists=changed, exceptions=Granted())[0]] == ["ofac:y:1"]


def test_lists_without_versions_are_named_by_their_content() -> None:
    """The sample and files: the version of all of it."""
    lists = Watchlists([ListEntry("sample", "7", "person", ("Ada Lovelace",))], version="sample")
    ada = Known("Ada Lovelace", "", "", 1)
    hits, marks = flag_it(ada, lists=lists)
    assert (hits, marks) == ([("sample:sample:7", 1.0)], ["sample:sample:7"])
    assert flag_it(ada, marks, lists=lists) == ([], marks)


# -- erasures ---------------------------------------------------------------------------------------------------------


def test_an_erased_party_is_news_again_when_it_pays_later() -> None:
    """Once, from three seconds after the erasure on; a payment of before that comes late is none, nor is anybody else."""
    book = ErasureBook()
    sightings = Sightings(book)
    ada = Party(id="d1", name="Ada", country="DE")
    assert sightings.is_news("t1", ada, 1_000)
    assert sightings.is_news("t2", ada, 1_000)
    book.take("t1", "d1", 10_000)
    until_ms = 10_000 + ERASURE_DELAY_MS
    times = (9_000, until_ms - 1, until_ms, until_ms + 1, 9_000)
    assert [sightings.is_news("t1", ada, at_ms) for at_ms in times] == [False, False, True, False, False]
    assert not sightings.is_news("t2", ada, until_ms)
    book.take("t1", "d1", 5_000)  # of another partition's clock: the later one counts
    assert not sightings.is_news("t1", ada, until_ms + 2)
    book.take("t1", "d1", 20_000)
    assert sightings.is_news("t1", ada, 20_000 + ERASURE_DELAY_MS)


def test_erasures_in_memory_are_bounded() -> None:
    """The oldest is let go; who was erased again is not the oldest."""
    book = ErasureBook()
    for number in range(ERASED_MAX):
        book.take("t1", f"d{number}", 1)
    book.take("t1", "d0", 2)
    book.take("t1", "new", 3)
    assert [book.until_ms("t1", party) for party in ("d0", "d1", "d2", "new")] == [
        2 + ERASURE_DELAY_MS,
        0,
        1 + ERASURE_DELAY_MS,
        3 + ERASURE_DELAY_MS,
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"tenant": "T 1"}, "tenant is not"),
        ({"party_id": "a|b"}, "party_id is not"),
        ({"party_id": ""}, "party_id is not"),
        ({"erasure_id": " "}, "erasure_id is not"),
        ({"by": ""}, "by must be"),
        ({"by": "x" * 81}, "by must be"),
        ({"by": "two\nlines"}, "by must be"),
        ({"by": "4111111111111111"}, "erasure_id or by"),
    ],
)
def test_what_cannot_be_an_erasure_is_named(changed: dict[str, str], words: str) -> None:
    """Each field, and by word of none of its content."""
    fields = {"tenant": "t1", "party_id": "d1", "erasure_id": "e1", "by": "dpo"} | changed
    mistake = mistake_in(ErasureRequested(**fields, requested_at_ms=1))
    assert (mistake is None) == (not words)
    assert words in (mistake[1] if mistake else "")
