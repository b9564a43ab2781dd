"""pipeline/stages/exceptions.py, connectors/exceptions: what an exception covers, when it is in force, what it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from connectors.exceptions.book import EFFECTIVE_DELAY_MS, KEPT_MAX, ExceptionBook
from connectors.exceptions.evidence import granted_from
from connectors.exceptions.publish import ExceptionError
from pipeline.stages.exceptions import (
    DAY_MS,
    DAYS_MAX,
    covers,
    entry_hash,
    exception_id,
    exception_key,
    mistake_in,
    name_hash,
)
from pipeline.stages.screening import Blocked, Clear, Referred, screen
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.reasons import Error
from schemas.records import ExceptionGranted, ListEvidence, Party
from schemas.tenant_rules import ScreeningRules

NOW_MS = 1_760_000_000_000
RULES = ScreeningRules()
ENTRY = ListEntry("ofac", "36", "person", ("VARANOV, Miroslav",), birth_dates=("1951",))
TWIN = ListEntry("un", "U9", "person", ("Miroslav Varanov",))
PARTY = Party(id="d-1", name="Miroslav Varanov", country="DE")
OTHER = Party(id="c-1", name="Corner Shop", country="DE")


def granted(**named: Any) -> ExceptionGranted:
    """An exception of PARTY from ENTRY."""
    fields: dict[str, Any] = {
        "tenant": "t1",
        "list": "ofac",
        "entry_id": "36",
        "entry_hash": entry_hash(ENTRY),
        "party_id": "d-1",
        "name_hash": name_hash("t1", "d-1", "miroslav varanov"),
        "by": "rita",
        "reason": "another birth date",
        "granted_at_ms": NOW_MS,
        "until_ms": NOW_MS + 30 * DAY_MS,
    }
    return ExceptionGranted(**(fields | named))


def book(*words: ExceptionGranted) -> ExceptionBook:
    made = ExceptionBook()
    for number, word in enumerate(words):
        assert made.apply(word, NOW_MS + 10 * number)
    return made


IN_FORCE_MS = NOW_MS + EFFECTIVE_DELAY_MS


def decided(
    exceptions: ExceptionBook,
    *,
    entries: tuple[ListEntry, ...] = (ENTRY,),
    tenant: str = "t1",
    party: Party = PARTY,
    at_ms: int = IN_FORCE_MS,
) -> Clear | Referred | Blocked:
    return screen(
        party, OTHER, lists=Watchlists(entries), rules=RULES, tenant=tenant, received_at_ms=at_ms, exceptions=exceptions
    )


def test_a_match_that_was_looked_at_does_not_count_and_the_event_says_so() -> None:
    """Even a block is lifted; which match it was, and by which exception, stays in the evidence."""
    assert isinstance(decided(ExceptionBook()), Blocked)
    answer = decided(book(granted()))
    assert isinstance(answer, Clear)
    assert answer.evidence is not None
    assert (answer.evidence.entry_id, answer.evidence.score) == ("36", 1.0)
    assert answer.evidence.exception_id == exception_id(granted()) == f"ofac|36|d-1|{NOW_MS}"
    as_creditor = screen(
        OTHER,
        PARTY,
        lists=Watchlists([ENTRY]),
        rules=RULES,
        tenant="t1",
        received_at_ms=IN_FORCE_MS,
        exceptions=book(granted()),
    )
    assert isinstance(as_creditor, Clear)
    assert as_creditor.evidence is not None
    assert as_creditor.evidence.party == "creditor"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"tenant": "t2"}, "another tenant's word"),
        ({"party": msgspec.structs.replace(PARTY, id="d-2")}, "another party of the same name"),
        ({"party": msgspec.structs.replace(PARTY, name="Miroslav Varanow")}, "another name of the party"),
        ({"entries": (replace(ENTRY, birth_dates=("1951", "1952")),)}, "the entry has another content"),
        ({"entries": (replace(ENTRY, names=(*ENTRY.names, "Miro V")),)}, "the entry has another name"),
        ({"entries": (ENTRY, TWIN)}, "another entry is as much like the party"),
        ({"at_ms": IN_FORCE_MS - 1}, "not in force yet"),
        ({"at_ms": NOW_MS + 30 * DAY_MS}, "it is over"),
    ],
)
def test_it_is_void_for_everything_else(changed: dict[str, Any], why: str) -> None:
    """Whatever was not looked at decides as without it."""
    answer = decided(book(granted()), **changed)
    assert isinstance(answer, Blocked | Referred), why
    assert answer.evidence.exception_id == ""


def test_the_other_entry_decides_when_one_is_excepted() -> None:
    """And when both are, the payment goes on."""
    answer = decided(book(granted()), entries=(ENTRY, TWIN))
    assert isinstance(answer, Blocked)
    assert answer.evidence.entry_id == "U9"
    twin = granted(list="un", entry_id="U9", entry_hash=entry_hash(TWIN))
    assert isinstance(decided(book(granted(), twin), entries=(ENTRY, TWIN), at_ms=IN_FORCE_MS + 10), Clear)


def test_a_withdrawn_exception_holds_for_what_was_received_before() -> None:
    """By event time: a repeat of an earlier payment decides as it did."""
    words = book(granted(), granted(granted_at_ms=NOW_MS + 5, revoked=True))
    assert isinstance(decided(words, at_ms=IN_FORCE_MS + 9), Clear)
    assert isinstance(decided(words, at_ms=IN_FORCE_MS + 10), Blocked)


def test_the_last_words_are_kept_and_no_more() -> None:
    """Bounded, and never in force before the one that it replaces."""
    made = ExceptionBook()
    for number in range(KEPT_MAX + 3):
        assert made.apply(granted(granted_at_ms=NOW_MS + number), NOW_MS - number)
    (words,) = made._words.values()
    assert len(words) == KEPT_MAX
    assert [at_ms for at_ms, _ in words] == [IN_FORCE_MS] * KEPT_MAX
    assert made.newest("t1")[0].granted_at_ms == NOW_MS + KEPT_MAX + 2
    assert made.newest("t2") == []


@pytest.mark.parametrize(
    "named",
    [
        {"tenant": "T 1"},
        {"party_id": ""},
        {"party_id": "a|b"},
        {"party_id": "4111111111111111"},
        {"entry_hash": "00"},
        {"name_hash": ""},
        {"by": ""},
        {"by": "x" * 81},
        {"reason": " "},
        {"reason": "pan 4111 1111 1111 1111"},
        {"until_ms": NOW_MS + (DAYS_MAX + 1) * DAY_MS},
    ],
)
def test_what_cannot_be_an_exception_is_ignored_and_counted(named: dict[str, Any]) -> None:
    """Screening goes on without it; the mistake repeats no content."""
    mistake = mistake_in(granted(**named))
    assert mistake is not None
    assert mistake[0] in (Error.INVALID_EXCEPTION, Error.CARD_NUMBER_IN_ID, Error.CARD_NUMBER_IN_TEXT)
    assert "4111" not in mistake[1]
    made = ExceptionBook()
    assert not made.apply(granted(**named), NOW_MS)
    assert made.refused == 1


def test_hashes_change_with_all_that_they_stand_for() -> None:
    """Each field of an entry; tenant, party and name."""
    others = [
        replace(ENTRY, kind="vessel"),
        replace(ENTRY, weak_names=("MV",)),
        replace(ENTRY, countries=("RU",)),
        replace(ENTRY, entry_id="37"),
    ]
    assert len({entry_hash(entry) for entry in (ENTRY, *others)}) == 5
    hashes = {name_hash(*words) for words in (("t1", "d", "n"), ("t2", "d", "n"), ("t1", "e", "n"), ("t1", "d", "m"))}
    assert len(hashes) == 4
    assert entry_hash(ENTRY) == entry_hash(replace(ENTRY))
    assert covers(granted(), entry=granted().entry_hash, name=granted().name_hash, at_ms=NOW_MS)
    assert exception_key(granted()) == b"t1|ofac|36|d-1"


def screened(evidence: ListEvidence | None) -> dict[str, Any]:
    """The JSON of a PaymentScreened as the audit tables hold it."""
    parties = {"debtor": {"id": "d-1", "name": "Miroslav Varanov"}, "creditor": {"id": "c-1", "name": "Corner Shop"}}
    return {"evidence": msgspec.to_builtins(evidence), "request": parties}


def test_an_exception_is_granted_from_what_screening_saw() -> None:
    """From the event of a blocked payment to an exception that clears the next one."""
    answer = decided(ExceptionBook())
    assert isinstance(answer, Blocked)
    made = granted_from(screened(answer.evidence), tenant="t1", days=30, by="rita", reason="seen", at_ms=NOW_MS)
    assert (made.party_id, made.until_ms) == ("d-1", NOW_MS + 30 * DAY_MS)
    assert "aranov" not in repr(made).lower()
    assert isinstance(decided(book(made)), Clear)


@pytest.mark.parametrize(
    "event",
    [None, screened(None), screened(ListEvidence(party="debtor", list="l", entry_id="1", score=1.0, algorithm="a"))],
)
def test_nothing_to_except_is_said(event: dict[str, Any] | None) -> None:
    """No such payment, nobody found, or an event of an earlier version."""
    with pytest.raises(ExceptionError):
        granted_from(event, tenant="t1", days=1, by="rita", reason="seen", at_ms=NOW_MS)
