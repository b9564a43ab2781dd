"""Which models score at a time; and how they are run within a limit."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from connectors.broker.parts import PART_BYTES_MAX
from connectors.models.book import CHALLENGER, CHAMPION, EFFECTIVE_DELAY_MS, NO_MODELS, PROMOTIONS_KEPT, ModelBook
from connectors.models.scorer import FAILURES_MAX, LEFT_ALONE_S, Scorer
from connectors.models.topic import records_of
from schemas.records import ModelPromoted
from tests.models import FEATURES, SlowModel, a_model

NOW_MS = 1_760_000_000_000


class Told:
    """What a book and a scorer tell."""

    def __init__(self) -> None:
        self.roles: list[tuple[str, str]] = []
        self.refusals = 0
        self.rows = 0
        self.failures: list[tuple[str, int]] = []

    def in_force(self, champion: str, challenger: str) -> None:
        self.roles.append((champion, challenger))

    def refused(self) -> None:
        self.refusals += 1

    def scored(self, rows: int, seconds: float) -> None:
        self.rows += rows

    def failed(self, why: str, rows: int) -> None:
        self.failures.append((why, rows))


def give(book: ModelBook, seed: int = 0, *, parts: bool = True) -> str:
    """Take in a model; its version."""
    trained = a_model(seed)
    contents, head = records_of(trained.model, trained.content, NOW_MS)
    for part in contents if parts else []:
        book.take_part(part)
    book.take_head(head)
    return head.version


def promote(book: ModelBook, role: str, version: str, at_ms: int) -> None:
    """Take in a promotion and take it up."""
    book.take_promotion(ModelPromoted(role=role, version=version, by="x", promoted_at_ms=at_ms), at_ms)
    book.take_up()


def versions(book: ModelBook, at_ms: int) -> tuple[str, str]:
    """Champion and challenger at a time; empty for none."""
    found = book.in_force(at_ms)
    return found.champion.version if found.champion else "", found.challenger.version if found.challenger else ""


def test_without_a_promotion_no_model_scores() -> None:
    """A model that was only published does nothing."""
    book = ModelBook()
    give(book)
    book.take_up()
    assert book.in_force(NOW_MS) is NO_MODELS


def test_a_promotion_is_in_force_by_event_time() -> None:
    """From a fixed delay after its timestamp, whenever it is asked: a repeat is scored by the same model."""
    told = Told()
    book = ModelBook(told)
    one, other = give(book, 0), give(book, 1)
    promote(book, CHAMPION, one, NOW_MS)
    promote(book, CHAMPION, other, NOW_MS + 60_000)
    promote(book, CHALLENGER, one, NOW_MS + 70_000)
    in_force_ms = NOW_MS + 60_000 + EFFECTIVE_DELAY_MS
    assert versions(book, in_force_ms - 1) == (one, "")
    assert versions(book, in_force_ms) == (other, "")
    assert versions(book, in_force_ms + 10_000) == (other, one)
    assert told.roles[-1] == (other, one)
    promote(book, CHALLENGER, "", NOW_MS + 80_000)
    promote(book, CHAMPION, "", NOW_MS + 90_000)
    assert versions(book, NOW_MS + 80_000 + EFFECTIVE_DELAY_MS) == (other, "")
    assert versions(book, NOW_MS + 90_000 + EFFECTIVE_DELAY_MS) == ("", "")
    assert versions(book, in_force_ms) == (other, "")


def test_a_champion_that_cannot_be_loaded_is_named() -> None:
    """Its parts are missing, or the file is damaged: the stage learns which champion fails, and metrics count it."""
    told = Told()
    book = ModelBook(told)
    version = give(book, parts=False)
    promote(book, CHAMPION, version, NOW_MS)
    found = book.in_force(NOW_MS + EFFECTIVE_DELAY_MS)
    assert (found.champion, found.unusable) == (None, version)
    assert told.refusals == 1
    # The parts come later: it is tried again.
    give(book)
    book.take_up()
    assert versions(book, NOW_MS + EFFECTIVE_DELAY_MS) == (version, "")


def test_damaged_parts_are_no_model() -> None:
    """A part that is another one's has another hash."""
    book, other = ModelBook(), records_of(a_model(1).model, a_model(1).content, NOW_MS)[0]
    version = give(book)
    book.take_part(type(other[0])(version=version, part=0, content=other[0].content))
    promote(book, CHAMPION, version, NOW_MS)
    assert book.in_force(NOW_MS + EFFECTIVE_DELAY_MS).unusable == version


def test_an_unknown_role_is_refused() -> None:
    """And changes nothing."""
    told = Told()
    book = ModelBook(told)
    promote(book, "king", give(book), NOW_MS)
    assert (book.in_force(NOW_MS * 2), told.refusals) == (NO_MODELS, 1)


def test_removed_records_withdraw_no_model() -> None:
    """Tombstones of a model and of its last promotion leave it in force."""
    book = ModelBook()
    version = give(book)
    promote(book, CHAMPION, version, NOW_MS)
    book.forget_model(version)
    book.forget_promotion(CHAMPION, version)
    book.take_up()
    assert versions(book, NOW_MS + EFFECTIVE_DELAY_MS) == (version, "")


def test_old_promotions_are_forgotten() -> None:
    """Only the last ones are kept loaded."""
    book = ModelBook()
    found = [give(book, seed) for seed in range(PROMOTIONS_KEPT + 2)]
    for number, version in enumerate(found):
        promote(book, CHAMPION, version, NOW_MS + number * 1000)
    assert set(book._loaded) == set(found[-PROMOTIONS_KEPT:])
    assert versions(book, NOW_MS) == (found[-PROMOTIONS_KEPT], "")


def test_a_model_travels_in_parts() -> None:
    """None larger than a broker takes, and together the file."""
    trained = a_model()
    content = trained.content + bytes(PART_BYTES_MAX)
    parts, head = records_of(trained.model, content, NOW_MS)
    assert [len(part.content) <= PART_BYTES_MAX for part in parts] == [True] * head.parts
    assert b"".join(part.content for part in parts) == content
    assert "histograms" not in head.description


# -- within a limit ---------------------------------------------------------------------------------------------------


ROWS = np.ones((5, len(FEATURES)), dtype=np.float32)


def test_scores_come_as_the_model_gives_them() -> None:
    """And are counted."""
    told = Told()
    model = a_model().model
    scores = asyncio.run(Scorer(5.0, told).score(model, ROWS))
    assert not isinstance(scores, str)
    assert scores.tobytes() == model.score(ROWS).tobytes()
    assert (told.rows, told.failures) == (5, [])


def test_a_model_that_takes_too_long_is_left_alone_for_a_while() -> None:
    """Each of the first calls costs the limit and no more; then none is made until some seconds have passed."""
    told, model, now = Told(), SlowModel(a_model().content), [1000.0]
    scorer = Scorer(0.05, told, clock=lambda: now[0])

    async def run() -> None:
        began = time.monotonic()
        for _ in range(FAILURES_MAX + 2):
            assert await scorer.score(model, ROWS) == "slow"
        assert time.monotonic() - began < 0.05 * FAILURES_MAX + 2.0
        assert told.failures == [("slow", 5)] * (FAILURES_MAX + 2)
        model.go.set()
        assert await scorer.score(model, ROWS) == "slow"
        now[0] += LEFT_ALONE_S + 0.1
        await asyncio.sleep(0.2)
        assert not isinstance(await scorer.score(model, ROWS), str)

    asyncio.run(run())
    assert told.rows == 5


def test_a_score_that_is_there_counts_although_its_time_is_over() -> None:
    """A worker that was stopped for a while wakes to both: it takes the score."""
    told, model = Told(), a_model().model

    async def run() -> None:
        scorer = Scorer(0.2, told)
        asked = asyncio.ensure_future(scorer.score(model, ROWS))
        await asyncio.sleep(0)
        time.sleep(0.5)  # The whole loop, as SIGSTOP would; the thread goes on.
        assert not isinstance(await asked, str)

    asyncio.run(run())
    assert (told.rows, told.failures) == (5, [])


def test_a_model_that_fails_is_a_failure_and_nothing_is_raised() -> None:
    """Whatever the runtime raises: here rows of another width."""
    told = Told()
    rows = np.ones((5, 2), dtype=np.float32)
    assert asyncio.run(Scorer(5.0, told).score(a_model().model, rows)) == "failed"
    assert told.failures == [("failed", 5)]


def test_no_rows_no_scores() -> None:
    """An empty batch asks nobody."""
    assert len(a_model().model.score(np.empty((0, 3), dtype=np.float32))) == 0
    with pytest.raises(Exception, match="dimension"):
        a_model().model.score(np.ones((1, 2), dtype=np.float32))
