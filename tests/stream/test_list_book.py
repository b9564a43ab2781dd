"""Sanctions lists over a broker: published whole, read whole, followed; and the commands of a user."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaError, KafkaException

from connectors.broker.follow import TopicReadError, read_to_end
from connectors.broker.transaction import PublishError
from connectors.lists.book import EFFECTIVE_DELAY_MS, ListBook
from connectors.lists.publish import publish, read_all
from connectors.lists.reader import ListReader
from connectors.lists.version import ListVersion, head_key, pack, part_key
from pipeline.commands.lists import lists
from pipeline.stages.watchlist import ListEntry, Watchlists
from pipeline.topics import LISTS, SCREENED
from schemas.codec import Codec
from schemas.records import PaymentScreened
from tests.builders import a_request
from tests.stream.broker import WAIT_S, put, wait_until
from tests.stream.shell import Shell
from tests.unit.test_lists import ADD, ALT, SDN, UN_XML, ofac_folder, un_file

CODEC = Codec()
TOPICS = (LISTS.name,)
DAY_S = 24 * 60 * 60
#: Nothing listens here: the port is reserved (RFC 6335, tcpmux) and closed.
NOWHERE = "127.0.0.1:1"
FAR_MS = 2**62


@pytest.fixture
def start(broker: str) -> Iterator[Callable[[], ListBook]]:
    """Starts a reader, which is stopped at the end; gives its book, caught up."""
    readers: list[ListReader] = []

    def start() -> ListBook:
        book = ListBook(Watchlists([], version="none"))
        readers.append(ListReader(broker, LISTS.name, CODEC, book))
        readers[-1].start()
        readers[-1].wait_caught_up(WAIT_S)
        return book

    yield start
    for reader in readers:
        reader.stop()
        assert reader.failure is None


def a_version(*names: str, list_id: str = "ofac") -> ListVersion:
    """A version with these people."""
    entries = [ListEntry(list_id, str(number), "person", (name,)) for number, name in enumerate(names, 1)]
    return pack(list_id, entries, source_at_ms=int(time.time() * 1000), imported_at_ms=0)


def test_lists_are_read_whole_and_followed(broker: str, start: Callable[[], ListBook]) -> None:
    """What is there at the start, and each later import, together with the other lists."""
    one, un, two = a_version("A"), a_version("U", list_id="un"), a_version("A", "B")
    assert publish(broker, CODEC, one)
    book = start()
    assert book.in_force(0).version == f"ofac:{one.head.version}"
    assert publish(broker, CODEC, un)
    wait_until(lambda: book.in_force(FAR_MS).version == f"ofac:{one.head.version},un:{un.head.version}")
    assert publish(broker, CODEC, two)
    wait_until(lambda: book.in_force(FAR_MS).version == f"ofac:{two.head.version},un:{un.head.version}")
    assert book.in_force(FAR_MS).entries_count == 3
    assert not publish(broker, CODEC, two)
    assert start().in_force(FAR_MS).version == book.in_force(FAR_MS).version


def test_the_version_before_is_kept_and_no_other(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tombstones remove older versions, damaged ones and parts that never got a head; going back is possible."""
    monkeypatch.setattr("connectors.lists.version.PART_BYTES_MAX", 200)
    versions = [a_version(*(f"{name} {number}" for number in range(9))) for name in "ABC"]
    lonely, headless = a_version("X"), a_version("Y")
    for each in versions:
        publish(broker, CODEC, each)
        put(broker, LISTS.name, (head_key("ofac", lonely.head.version), CODEC.encode(lonely.head)), partition=0)
        put(
            broker,
            LISTS.name,
            *((part_key("ofac", p.version, p.part), CODEC.encode(p)) for p in headless.parts()),
            partition=0,
        )
    publish(broker, CODEC, versions[0])
    contents = read_all(broker, CODEC)
    assert [head.version for head in contents.versions("ofac")] == [versions[2].head.version, versions[0].head.version]
    assert len(contents.heads) == 2
    held = {key: len(parts) for key, parts in contents.parts.items() if parts}
    assert held == {("ofac", each.head.version): each.head.parts for each in (versions[2], versions[0])}
    assert versions[0].head.parts > 3


def test_what_somebody_else_wrote_stops_nobody(broker: str, start: Callable[[], ListBook]) -> None:
    """Records that are neither part nor head are counted and skipped."""
    one = a_version("A")
    publish(broker, CODEC, one)
    put(broker, LISTS.name, (b"ofac|1", b"no Avro"), (b"", None), (b"x|y|z", None), (b"ofac|2|0", b""), partition=0)
    book = start()
    assert book.in_force(0).version == f"ofac:{one.head.version}"
    assert book.refused_count == 2


def test_a_worker_does_not_start_without_a_list_that_is_damaged(broker: str) -> None:
    """Payments would pass unscreened: it says which list, and what to do."""
    publish(broker, CODEC, a_version("U", list_id="un"))
    lonely = a_version("X")
    put(broker, LISTS.name, (head_key("ofac", lonely.head.version), CODEC.encode(lonely.head)), partition=0)
    heard: list[BaseException] = []
    reader = ListReader(broker, LISTS.name, CODEC, ListBook(Watchlists([])), on_failure=heard.append)
    reader.start()
    try:
        with pytest.raises(TopicReadError, match=r"no version of the sanctions list ofac .*ptr lists import"):
            reader.wait_caught_up(WAIT_S)
    finally:
        reader.stop()
    assert heard == [reader.failure]


def test_an_import_that_fails_before_its_head_publishes_nothing(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even its parts are seen."""
    one = a_version("A")
    publish(broker, CODEC, one)

    def fail(producer: object, timeout_s: float) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the broker is gone"))

    with monkeypatch.context() as patched:
        patched.setattr("connectors.broker.transaction._flush", fail)
        with pytest.raises(PublishError, match="nothing was published: the broker is gone"):
            publish(broker, CODEC, a_version("B"))
    assert [head.version for head in read_all(broker, CODEC).versions("ofac")] == [one.head.version]


def test_the_head_is_written_last(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all parts: whoever has read the head has read the list."""
    monkeypatch.setattr("connectors.lists.version.PART_BYTES_MAX", 200)
    one = a_version(*(f"A {number}" for number in range(9)))
    publish(broker, CODEC, one)
    keys: list[bytes] = []
    assert read_to_end(broker, LISTS.name, lambda message: keys.append(message.key()), WAIT_S)
    parts = [part_key("ofac", one.head.version, part) for part in range(one.head.parts)]
    assert keys == [*parts, head_key("ofac", one.head.version)]
    assert len(parts) > 3


def test_the_shell_screens_by_the_lists_in_force_then() -> None:
    """By the time at which a payment was received; its event names the version. No restart, no new shell."""
    shell = Shell("screening")
    version = a_version("Ada Lovelace")
    record = shell.ask(a_request(payment_id="p1"))
    shell.run()
    for part in version.parts():
        shell.lists.take_part(part)
    # Written so long before that it is in force when the next payment is received.
    shell.lists.take_head(version.head, record.timestamp - EFFECTIVE_DELAY_MS)
    shell.lists.take_up(record.timestamp)
    shell.ask(a_request(payment_id="p2"))
    shell.run()
    events = [event for _, event in shell.out(SCREENED.name, PaymentScreened)]
    assert [(event.payment_id, event.outcome, event.list_version) for event in events] == [
        ("p1", "clear", "test"),
        ("p2", "blocked", f"ofac:{version.head.version}"),
    ]


# -- commands -------------------------------------------------------------------------------------------------------------


def run(broker: str, *arguments: str) -> Result:
    """`ptr lists ARGUMENTS`."""
    return CliRunner().invoke(lists, [*arguments, "--broker", broker])


def fresh(folder: Path, age_s: float = 0.0) -> str:
    """The folder's files as downloaded this long ago."""
    then = time.time() - age_s
    for file in folder.iterdir():
        os.utime(file, (then, then))
    return str(folder)


def test_a_user_imports_lists_and_compares(broker: str, tmp_path: Path) -> None:
    """From files to versions; a dry run changes nothing; what changed is shown, entry by entry and field by field."""
    assert (run(broker, "list").exit_code, json.loads(run(broker, "list", "--json").stdout)) == (1, [])
    (tmp_path / "ofac").mkdir()
    folder = ofac_folder(tmp_path / "ofac")
    planned = run(broker, "import", "ofac", fresh(folder), "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    data = json.loads(planned.stdout)
    assert (data["change"], data["before"], data["counts"]["added"]) == ("would_publish", None, 4)
    assert data["kinds"] == {"aircraft": 1, "organisation": 1, "person": 1, "vessel": 1}
    assert not read_all(broker, CODEC).heads
    first = run(broker, "import", "ofac", str(folder))
    assert first.exit_code == 0, first.output
    assert f"ofac: version {data['version']} written, in force 10 s later on all workers" in first.stdout
    assert "unchanged" in run(broker, "import", "ofac", str(folder)).stdout
    listed = run(broker, "list")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.splitlines()[1].split()[:3] == ["ofac", data["version"], "4"]

    changed = tmp_path / "changed"
    changed.mkdir()
    another = SDN.splitlines(keepends=True)[0].replace("36,", "37,")
    ofac_folder(changed, SDN.replace("DOB 1966", "DOB 1967").replace("\x1a", another + "\x1a"))
    compared = run(broker, "diff", "ofac", str(changed))
    assert compared.stdout.splitlines() == [
        "+ 37  organisation  AEROCARIBBEAN AIRLINES",
        "~ 101  person  BLACKWOOD, Ignatius",
        "    birth_dates: -1966; +1967",
        "ofac: 1 added, 0 removed, 1 changed",
    ]
    second = run(broker, "import", "ofac", fresh(changed))
    assert second.exit_code == 0, second.output
    assert "    birth_dates: -1966; +1967" in second.stdout
    for before in ("ofac:before", f"ofac:{data['version']}", str(folder)):
        difference = json.loads(run(broker, "diff", before, "ofac", "--json").stdout)
        assert difference["counts"] == {"added": 1, "removed": 0, "changed": 1}, before
        assert difference["changed"][0]["fields"] == [{"field": "birth_dates", "removed": ["1966"], "added": ["1967"]}]
    un = un_file(tmp_path)
    imported = run(broker, "import", "un", str(un), "--source-date", time.strftime("%Y-%m-%d", time.gmtime()))
    assert imported.exit_code == 0, imported.output
    assert json.loads(run(broker, "diff", "un", str(un), "--json").stdout)["counts"]["changed"] == 0
    assert [each["list"] for each in json.loads(run(broker, "list", "--json").stdout)] == ["ofac", "un"]


def test_a_list_that_is_not_whole_is_refused_loudly(broker: str, tmp_path: Path) -> None:
    """File, line and what stays in force; nothing is published; without a broker it is refused as well."""
    folder = ofac_folder(tmp_path)
    run(broker, "import", "ofac", fresh(folder))
    (head,) = read_all(broker, CODEC).versions("ofac")
    (folder / "alt.csv").write_bytes(ALT.rstrip("\x1a").encode())
    cut = run(broker, "import", "ofac", str(folder), "--force")
    assert cut.exit_code == 1
    assert "REFUSED, nothing was imported" in cut.stderr and "alt.csv:3: the list is cut off" in cut.stderr
    assert f"ofac: version {head.version} of" in cut.stderr and "stays in force" in cut.stderr
    assert "BLACKWOOD" not in cut.stderr
    nowhere = run(NOWHERE, "import", "ofac", str(folder))
    assert nowhere.exit_code == 1
    assert "REFUSED" in nowhere.stderr and "whatever was in force stays in force" in nowhere.stderr
    assert read_all(broker, CODEC).versions("ofac") == [head]


def test_a_list_that_lost_many_entries_or_is_older_needs_force(broker: str, tmp_path: Path) -> None:
    """One of four gone is more than a tenth; an older day would undo a newer list."""
    folder = ofac_folder(tmp_path)
    run(broker, "import", "ofac", fresh(folder))
    lines = SDN.splitlines(keepends=True)
    ofac_folder(tmp_path, "".join(line for line in lines if not line.startswith("103,")))
    lost = run(broker, "import", "ofac", fresh(folder))
    assert lost.exit_code == 1
    assert "lacks 1 of the 4 entries that are in force (25%, at most 10%)" in lost.stderr
    assert "--force" in lost.stderr and "stays in force" in lost.stderr
    assert run(broker, "import", "ofac", str(folder), "--dry-run").exit_code == 1
    assert run(broker, "import", "ofac", str(folder), "--force").exit_code == 0
    ofac_folder(tmp_path)
    older = run(broker, "import", "ofac", fresh(folder, DAY_S))
    assert older.exit_code == 1
    assert "older than what is in force" in older.stderr
    assert run(broker, "import", "ofac", str(folder), "--force").exit_code == 0
    future = run(broker, "import", "ofac", str(folder), "--source-date", "2999-01-01", "--force")
    assert future.exit_code == 1
    assert "not yet" in future.stderr
    assert run(broker, "import", "ofac", str(folder), "--source-date", "yesterday").exit_code == 2


@pytest.mark.parametrize(("age_s", "code"), [(4 * DAY_S - 3600, 0), (4 * DAY_S + 3600, 1)])
def test_a_list_older_than_its_limit_is_an_alert(broker: str, tmp_path: Path, age_s: float, code: int) -> None:
    """OFAC's may be four days old; `ptr lists list` tells by its code, and the import warns."""
    imported = run(broker, "import", "ofac", fresh(ofac_folder(tmp_path), age_s))
    assert imported.exit_code == 0
    assert ("STALE" in imported.stderr) == bool(code)
    listed = run(broker, "list")
    assert listed.exit_code == code
    assert ("STALE" in listed.stdout) == bool(code)
    (data,) = json.loads(run(broker, "list", "--json").stdout)
    assert data["stale"] == bool(code)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("diff", "ofac", "un"), "has no ofac; of ofac it has none"),
        (("diff", "nowhere.xml", "un"), "nowhere.xml is neither a file nor a folder, nor LIST"),
    ],
)
def test_a_users_mistakes_are_told(broker: str, arguments: tuple[str, ...], told: str) -> None:
    """Code 1 and what there is, without a traceback."""
    result = run(broker, *arguments)
    assert result.exit_code == 1
    assert told in result.stderr


def test_versions_of_two_lists_are_not_compared(broker: str, tmp_path: Path) -> None:
    """Everything would have changed."""
    (tmp_path / "ofac").mkdir()
    result = run(broker, "diff", str(ofac_folder(tmp_path / "ofac", SDN, ALT, ADD)), str(un_file(tmp_path, UN_XML)))
    assert result.exit_code == 1
    assert "a list of ofac and" in result.stderr
