"""connectors/lists: a version as it travels, what changed between two, and which is in force when."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from hashlib import sha256

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from connectors.lists import version as versions
from connectors.lists.book import EFFECTIVE_DELAY_MS, HEADLESS_MAX, KEPT_MAX, KEPT_MS, ListBook
from connectors.lists.difference import FieldChange, compare
from connectors.lists.load import age_limit_s
from connectors.lists.version import ListVersion, UnusableListError, content_of, entries_of, is_retired, pack, retired
from pipeline.engine.metrics import ListMetrics, Metrics
from pipeline.stages.watchlist import ListEntry, Watchlists
from schemas.records import ListPart, ListUpdated

NOW_MS = 1_760_000_000_000
SECOND_MS = 1000
NONE = Watchlists([], version="none")


def an_entry(number: int = 1, name: str = "Ignatius Blackwood", list_id: str = "ofac", **more: object) -> ListEntry:
    """A person."""
    return ListEntry(list_id, str(number), "person", (name,), **more)  # type: ignore[arg-type]


def a_version(*entries: ListEntry, list_id: str = "ofac", source_at_ms: int = NOW_MS) -> ListVersion:
    """A version of these entries."""
    return pack(list_id, entries or (an_entry(list_id=list_id),), source_at_ms=source_at_ms, imported_at_ms=NOW_MS)


class Watch:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.refusals: list[str] = []

    def in_force(self, heads: Sequence[ListUpdated]) -> None:
        self.versions = [head.version for head in heads]

    def refused(self, list_id: str) -> None:
        self.refusals.append(list_id)


def give(book: ListBook, version: ListVersion, at_ms: int, *, without_part: int = -1, head: bool = True) -> None:
    """Parts, then the head, as a reader meets them."""
    for part in version.parts():
        if part.part != without_part:
            book.take_part(part)
    if head:
        book.take_head(version.head, at_ms)
    book.take_up(at_ms)


# -- a version ------------------------------------------------------------------------------------------------------------


def test_a_version_is_its_content() -> None:
    """Same entries, same parts, hash and version, whenever they were imported; any other entry or order is another one."""
    one, two = an_entry(1), an_entry(2, "Two")
    version = a_version(one, two)
    assert pack("ofac", [one, two], source_at_ms=7, imported_at_ms=8).contents == version.contents
    assert version.head.sha256 == sha256(b"".join(version.contents)).hexdigest()
    assert version.head.version == version.head.sha256[:12]
    others = [a_version(two, one), a_version(one), a_version(one, an_entry(2, "Twa")), a_version()]
    assert len({version.head.version, *(other.head.version for other in others)}) == 4  # a_version() is (one,).


def test_a_list_travels_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is larger than its limit, entries are not cut, and what comes out is what went in."""
    entries = [
        an_entry(
            number, f"Name {number} 金铁三", birth_dates=("1966", "1970/1972"), countries=("CU",), weak_names=("X",)
        )
        for number in range(100)
    ]
    whole = a_version(*entries)
    monkeypatch.setattr(versions, "PART_BYTES_MAX", 1000)
    version = a_version(*entries)
    assert version.head.parts == len(version.contents) > 5
    assert all(len(content) <= 1000 and content.endswith(b"}\n") for content in version.contents)
    # However it is cut, it is the same content.
    assert version.head.version == whole.head.version
    content = content_of(version.head, dict(enumerate(version.contents)))
    assert entries_of(version.head, content) == tuple(entries)


def test_a_part_fits_into_a_record() -> None:
    """A broker takes 1,048,588 bytes by default (message.max.bytes)."""
    assert versions.PART_BYTES_MAX < 1_000_000


@pytest.mark.parametrize(
    ("head", "parts", "says"),
    [
        ({}, {}, "1 of its 1 parts are missing, the first is 0"),
        ({"parts": 3}, {0: b"", 2: b""}, "1 of its 3 parts are missing, the first is 1"),
        ({"parts": 0}, {}, "names 0 parts"),
        ({"parts": 10**9}, {}, "names 1000000000 parts"),
        ({}, {0: b"other"}, "another hash"),
        ({"version": "0123456789ab"}, None, "another hash"),
        ({"version": ""}, None, "another hash"),
    ],
)
def test_an_incomplete_version_is_no_version(
    head: dict[str, object], parts: dict[int, bytes] | None, says: str
) -> None:
    """Parts that are missing or of another content are told; a head cannot ask for endless work."""
    version = a_version()
    changed = msgspec.structs.replace(version.head, **head)
    with pytest.raises(UnusableListError, match=says):
        content_of(changed, dict(enumerate(version.contents)) if parts is None else parts)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "cannot be read"),
        (b'{"list":"ofac","entry_id":"1","kind":"person"}\n', "cannot be read"),
        (b'{"list":"ofac","entry_id":"1","kind":"person","names":["A"]}\n' * 2, "holds 2 entries, and its head says 1"),
        (b"", "holds 0 entries"),
        (b'{"list":"un","entry_id":"1","kind":"person","names":["A"]}\n', "of another list"),
        (b'{"list":"ofac","entry_id":"1","kind":"ship","names":["A"]}\n', "unknown kind"),
        (b'{"list":"ofac","entry_id":"1","kind":"person","names":[]}\n', "without a name"),
    ],
)
def test_content_that_is_not_the_list_is_refused(content: bytes, says: str) -> None:
    """Also when its hash is right: whoever wrote it made a mistake."""
    with pytest.raises(UnusableListError, match=says):
        entries_of(a_version().head, content)


# -- what changed ---------------------------------------------------------------------------------------------------------


def test_a_difference_names_entries_and_fields() -> None:
    """Added, removed, changed; of a changed one which field lost and gained what, or only its order."""
    same, gone, new = an_entry(1), an_entry(2, "Gone"), an_entry(3, "New")
    before = an_entry(4, "Old Name", birth_dates=("1966",), countries=("CU",))
    after = ListEntry("ofac", "4", "organisation", ("Old Name",), birth_dates=("1966", "1967"), countries=())
    swapped = ListEntry("ofac", "5", "person", ("A", "B"))
    difference = compare(
        [same, gone, before, swapped], [same, new, after, ListEntry("ofac", "5", "person", ("B", "A"))]
    )
    assert (difference.added, difference.removed) == ((new,), (gone,))
    assert [(change.after.entry_id, change.fields) for change in difference.changed] == [
        (
            "4",
            (
                FieldChange("kind", ("person",), ("organisation",)),
                FieldChange("birth_dates", (), ("1967",)),
                FieldChange("countries", ("CU",), ()),
            ),
        ),
        ("5", (FieldChange("names", (), ()),)),
    ]
    assert difference.lost_share == 0.25
    assert not compare([same], [same])
    assert compare([], [same]).lost_share == 0.0


# -- the book -------------------------------------------------------------------------------------------------------------


def test_the_fallback_is_in_force_until_a_list_is_whole() -> None:
    """Parts alone change nothing; with the head the first version is in force at once, also for what came before."""
    book, version = ListBook(NONE), a_version()
    give(book, version, NOW_MS, head=False)
    assert book.in_force(NOW_MS + KEPT_MS).version == "none"
    give(book, version, NOW_MS)
    lists = book.in_force(NOW_MS - 1)
    assert (lists.version, lists.entries_count) == (f"ofac:{version.head.version}", 1)


def test_a_new_version_is_in_force_ten_seconds_after_it_was_written() -> None:
    """By the time at which a payment was received, so that all workers and repeats agree."""
    watch = Watch()
    book = ListBook(NONE, watch)
    old, new = a_version(), a_version(an_entry(2, "New"))
    give(book, old, NOW_MS)
    at_ms = NOW_MS + 3600 * SECOND_MS
    give(book, new, at_ms)
    assert EFFECTIVE_DELAY_MS == 10_000
    assert book.in_force(at_ms + 9_999).version == f"ofac:{old.head.version}"
    assert book.in_force(at_ms + 10_000).version == f"ofac:{new.head.version}"
    assert watch.versions == [new.head.version]


def test_a_restarted_worker_decides_as_the_one_before() -> None:
    """Read anew, the two versions that the topic keeps give the same answer for every moment since the first of them."""
    old, new, un = a_version(), a_version(an_entry(2, "New")), a_version(list_id="un")
    running, restarted = ListBook(NONE), ListBook(NONE)
    given = [(old, NOW_MS), (un, NOW_MS + 60 * SECOND_MS), (new, NOW_MS + 120 * SECOND_MS)]
    for version, at_ms in given:
        give(running, version, at_ms)
        for part in version.parts():
            restarted.take_part(part)
        restarted.take_head(version.head, at_ms)
    restarted.take_up(NOW_MS + 180 * SECOND_MS)
    moments = [NOW_MS + second * SECOND_MS for second in range(0, 200, 5)]
    assert [running.in_force(ms).version for ms in moments] == [restarted.in_force(ms).version for ms in moments]
    assert {running.in_force(ms).version for ms in moments} == {
        f"ofac:{old.head.version}",
        f"ofac:{old.head.version},un:{un.head.version}",
        f"ofac:{new.head.version},un:{un.head.version}",
    }


def test_what_was_replaced_is_let_go() -> None:
    """After its time, and before it when there are too many: lists take memory."""
    book = ListBook(NONE)
    old, new = a_version(), a_version(an_entry(2, "New"))
    give(book, old, NOW_MS)
    give(book, new, NOW_MS)
    replaced_ms = NOW_MS + EFFECTIVE_DELAY_MS
    for later in range(3, 3 + KEPT_MAX):
        give(book, a_version(an_entry(later)), NOW_MS + later * SECOND_MS)
    assert len(book._in_force) == KEPT_MAX
    assert not book.take_up(replaced_ms + KEPT_MS)
    assert book.take_up(replaced_ms + 2 * KEPT_MS)
    assert len(book._in_force) == 1


@pytest.mark.parametrize("damage", ["part", "hash", "entries"])
def test_a_damaged_version_is_never_taken_up(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged as an error and counted, once, and the one before stays in force."""
    watch = Watch()
    book = ListBook(NONE, watch)
    old, new = a_version(), a_version(an_entry(2, "New"))
    give(book, old, NOW_MS)
    at_ms = NOW_MS + 60 * SECOND_MS
    if damage == "part":
        give(book, new, at_ms, without_part=0)
    else:
        changed = {"hash": {"sha256": "0" * 64}, "entries": {"entries": 2}}[damage]
        give(book, ListVersion(msgspec.structs.replace(new.head, **changed), new.contents), at_ms)
    book.take_up(at_ms)
    assert book.in_force(at_ms + KEPT_MS).version == f"ofac:{old.head.version}"
    assert (watch.versions, watch.refusals, book.refused_count) == ([old.head.version], ["ofac"], 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert new.head.version in record.getMessage()
    assert book.unusable() == []
    # Written again, whole, it is taken up.
    give(book, new, at_ms + 1)
    assert book.in_force(at_ms + KEPT_MS).version == f"ofac:{new.head.version}"


def test_a_list_that_was_never_usable_is_told() -> None:
    """A worker that has just started must not go on without it."""
    book = ListBook(NONE)
    give(book, a_version(list_id="un"), NOW_MS)
    give(book, a_version(), NOW_MS, without_part=0)
    assert book.unusable() == ["ofac"]
    give(book, a_version(), NOW_MS)
    assert book.unusable() == []


def test_the_same_list_of_a_later_day_stays_in_force() -> None:
    """Only its age changes: it is in force from when it was, and nothing is made anew."""
    book = ListBook(NONE)
    give(book, a_version(an_entry(2, "Older")), NOW_MS - 3600 * SECOND_MS)
    give(book, a_version(), NOW_MS)
    lists = book.in_force(NOW_MS + EFFECTIVE_DELAY_MS)
    later = a_version(source_at_ms=NOW_MS + 24 * 3600 * SECOND_MS)
    book.take_head(later.head, NOW_MS + 60 * SECOND_MS)
    assert not book.take_up(NOW_MS + 60 * SECOND_MS)
    assert book.in_force(NOW_MS + EFFECTIVE_DELAY_MS) is lists
    assert [head.source_at_ms for head in book.heads()] == [later.head.source_at_ms]


def test_going_back_is_a_change() -> None:
    """An earlier version that is written again is in force again."""
    book = ListBook(NONE)
    one, two = a_version(), a_version(an_entry(2, "Two"))
    for number, version in enumerate((one, two, one)):
        give(book, version, NOW_MS + number * 60 * SECOND_MS)
    assert book.in_force(NOW_MS + 129 * SECOND_MS).version == f"ofac:{two.head.version}"
    assert book.in_force(NOW_MS + 130 * SECOND_MS).version == f"ofac:{one.head.version}"


def test_removed_versions_are_forgotten_but_for_the_last() -> None:
    """Tombstones tidy up; they never leave a worker without the list."""
    book = ListBook(NONE)
    one, two = a_version(), a_version(an_entry(2, "Two"))
    give(book, one, NOW_MS)
    give(book, two, NOW_MS + SECOND_MS)
    for version in (one, two):
        book.forget("ofac", version.head.version, None)
        book.forget("ofac", version.head.version, 0)
    book.take_up(NOW_MS + SECOND_MS)
    assert book.in_force(NOW_MS + KEPT_MS).version == f"ofac:{two.head.version}"
    assert [head.version for head in book.heads()] == [two.head.version]


def test_parts_without_heads_take_bounded_memory() -> None:
    """Imports that were killed leave parts; only the newest few are held."""
    book = ListBook(NONE)
    for number in range(50):
        book.take_part(ListPart(list="ofac", version=f"{number:012}", part=0, content=b"x"))
    assert len(book._parts) == HEADLESS_MAX


def test_metrics_tell_which_list_and_how_old() -> None:
    """Version and entries of what is in use and of nothing else; the age grows by itself; stale above the limit."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    watch = ListMetrics(metrics, age_limit_s)
    watch.without_topic("sample", "sample", 12)
    assert registry.get_sample_value("ptr_list_info", {"list": "sample", "version": "sample"}) == 1
    book = ListBook(NONE, watch)
    now_ms = int(time.time() * 1000)
    day_ms = 24 * 3600 * SECOND_MS
    ofac, un = a_version(source_at_ms=now_ms - 3 * day_ms), a_version(list_id="un", source_at_ms=now_ms - 3 * day_ms)
    give(book, ofac, now_ms)
    give(book, un, now_ms)
    give(book, a_version(an_entry(9)), now_ms, without_part=0)

    def value(name: str, list_id: str) -> float | None:
        return registry.get_sample_value(name, {"list": list_id})

    assert registry.get_sample_value("ptr_list_info", {"list": "sample", "version": "sample"}) is None
    assert registry.get_sample_value("ptr_list_info", {"list": "ofac", "version": ofac.head.version}) == 1
    assert (value("ptr_list_entries", "ofac"), value("ptr_list_entries", "sample")) == (1, None)
    # OFAC's limit is four days, the UN's two.
    assert (value("ptr_list_stale", "ofac"), value("ptr_list_stale", "un")) == (0, 1)
    assert value("ptr_list_age_seconds", "un") == pytest.approx(3 * 24 * 3600, abs=60)
    assert value("ptr_lists_refused_total", "ofac") == 1


def test_a_retired_list_is_in_force_without_entries(caplog: pytest.LogCaptureFixture) -> None:
    """After the usual delay nobody is found on it, the other list stays, and the same list again is in force again; it is
    told loudly, and a list out of use does not grow stale."""
    registry = CollectorRegistry()
    book = ListBook(NONE, ListMetrics(Metrics(registry), age_limit_s))
    ofac, un = a_version(), a_version(an_entry(7, "Tobias Bramble", "un"), list_id="un")
    give(book, ofac, NOW_MS)
    give(book, un, NOW_MS)
    later_ms = NOW_MS + EFFECTIVE_DELAY_MS
    empty = retired(ofac.head, at_ms=later_ms)
    assert (is_retired(empty.head), is_retired(ofac.head), empty.head.source_at_ms) == (True, False, NOW_MS)
    give(book, empty, later_ms)
    before, after = book.in_force(later_ms), book.in_force(later_ms + EFFECTIVE_DELAY_MS)
    assert before.best_match("Ignatius Blackwood") is not None
    assert after.best_match("Ignatius Blackwood") is None
    assert after.best_match("Tobias Bramble") is not None
    assert "ofac is taken out of use" in caplog.text
    assert registry.get_sample_value("ptr_list_entries", {"list": "ofac"}) == 0
    assert registry.get_sample_value("ptr_list_stale", {"list": "ofac"}) is None
    assert registry.get_sample_value("ptr_list_stale", {"list": "un"}) == 1
    give(book, ofac, later_ms + EFFECTIVE_DELAY_MS)
    assert book.in_force(later_ms + 2 * EFFECTIVE_DELAY_MS).best_match("Ignatius Blackwood") is not None


def test_changes_are_what_is_new_or_changed_of_any_list() -> None:
    """Against a version that is known; all of it against one that is not."""
    book = ListBook(NONE)
    old = a_version(an_entry(1), an_entry(2, "Tobias Bramble"), an_entry(3, "Zebulon Quillfeather"))
    new = a_version(an_entry(1), an_entry(2, "Tobias Brambling"), an_entry(4, "Peregrine Ashgrove"))
    un = a_version(an_entry(7, "Casimir Dunmore", "un"), list_id="un")
    give(book, old, NOW_MS)
    give(book, new, NOW_MS + SECOND_MS)
    give(book, un, NOW_MS + SECOND_MS)
    lists = book.in_force(NOW_MS + EFFECTIVE_DELAY_MS + SECOND_MS)
    changes = book.changes(f"ofac:{old.head.version}", lists)
    names = ("Ignatius Blackwood", "Tobias Brambling", "Peregrine Ashgrove", "Casimir Dunmore")
    assert [changes.best_match(name) is not None for name in names] == [False, True, True, True]
    assert changes.version == lists.version
    assert book.changes("ofac:unknown", lists) is lists
    assert book.changes("sample", lists) is lists
    assert book.changes("ofac:x", NONE) is NONE
