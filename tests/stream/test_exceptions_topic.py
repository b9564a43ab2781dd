"""Exceptions over a broker: granted and withdrawn by the commands of a user, followed by a reader."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectors.exceptions.book import ExceptionBook
from connectors.exceptions.reader import ExceptionReader
from connectors.sinks.database import open_database
from pipeline.cli import main
from pipeline.topics import EXCEPTIONS
from schemas.codec import Codec
from schemas.records import ListEvidence, PaymentScreened
from tests.stream.broker import following, put, wait_until
from tests.stream.events import a_fact
from tests.unit.test_review_rows import write

CODEC = Codec()
TOPICS = (EXCEPTIONS.name,)
EVIDENCE = ListEvidence(
    party="debtor",
    list="ofac",
    entry_id="36",
    score=0.92,
    algorithm="mistakes-2",
    party_name="ada lovelace",
    listed_name="LOVELACE, Adah",
    entry_hash="0f" * 16,
)


@pytest.fixture
def ptr(broker: str, tmp_path: Path) -> Callable[..., Result]:
    """``ptr exceptions ...`` with an audit database that knows one referred payment."""
    url = f"sqlite:///{tmp_path}/audit.db"
    database = open_database(url, create=True)
    database.lock()
    database.migrate()
    write(database, a_fact(PaymentScreened, outcome="referred", reason="party_resembles_listed", evidence=EVIDENCE))
    database.close()

    def run(*words: str) -> Result:
        environment = {"PTR_BROKER": broker, "PTR_DATABASE": url}
        return CliRunner().invoke(main, ["exceptions", *words], env=environment)

    return run


def test_granted_listed_followed_and_withdrawn(broker: str, ptr: Callable[..., Result]) -> None:
    """What the commands say is what a worker's book holds; no name is written anywhere."""
    book = ExceptionBook()
    with following(ExceptionReader(broker, EXCEPTIONS.name, CODEC, book)):
        added = ptr("add", "t1", "p1", "--by", "rita", "--reason", "seen", "--days", "30")
        assert (added.exit_code, "d1 is excepted from ofac 36" in added.output) == (0, True), added.output
        wait_until(lambda: len(book.newest()) == 1)
        (granted,) = book.newest("t1")
        assert (granted.entry_hash, granted.by, granted.revoked) == (EVIDENCE.entry_hash, "rita", False)
        assert "lovelace" not in repr(granted).lower()
        later_ms = int(time.time() * 1000) + 60_000
        assert book.in_force("t1", "ofac", "36", "d1", later_ms) == granted
        listed = ptr("list", "--tenant", "t1", "--json")
        assert [each["party_id"] for each in json.loads(listed.output)] == ["d1"]
        assert "rita" in ptr("list").output
        assert "no exception holds" in ptr("list", "--tenant", "t2").output
        removed = ptr("remove", "t1", "ofac", "36", "d1", "--by", "rita", "--reason", "in error")
        assert removed.exit_code == 0, removed.output
        wait_until(lambda: book.newest("t1")[0].revoked)
        assert "no exception holds" in ptr("list").output
        (shown,) = json.loads(ptr("list", "--all", "--json").output)
        assert (shown["revoked"], shown["reason"]) == (True, "in error")
        twice = ptr("remove", "t1", "ofac", "36", "d1", "--by", "rita", "--reason", "again")
        assert (twice.exit_code, "no such exception" in twice.output) == (1, True)


def test_what_is_no_exception_does_not_stop_a_reader(broker: str) -> None:
    """It is counted and logged; what comes after it is taken in."""
    book = ExceptionBook()
    with following(ExceptionReader(broker, EXCEPTIONS.name, CODEC, book)):
        values = (b"junk", None, CODEC.encode(a_fact(PaymentScreened)))
        put(broker, EXCEPTIONS.name, *[(b"t1|ofac|36|d1", value) for value in values])
        wait_until(lambda: book.refused == 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "t1", "nobody", "--by", "rita", "--reason", "r"), "screening found nobody"),
        (("add", "t1", "p1", "--by", " ", "--reason", "r"), "by is empty"),
        (("add", "t1", "p1", "--by", "rita", "--reason", "pan 4111 1111 1111 1111"), "card_number_in_text"),
        (("add", "t1", "p1", "--by", "rita", "--reason", "r", "--days", "100000"), "--days"),
        (("remove", "t1", "ofac", "37", "d1", "--by", "rita", "--reason", "r"), "no such exception"),
        (("list", "--broker", "127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
def test_a_users_mistakes_are_told(ptr: Callable[..., Result], words: tuple[str, ...], said: str) -> None:
    """An exit code and what is wrong; no content is repeated, nothing is posted."""
    result = ptr(*words)
    assert result.exit_code in (1, 2)
    assert said in result.output, result.output
    assert "4111" not in result.output
    assert "no exception holds" in ptr("list", "--all").output
