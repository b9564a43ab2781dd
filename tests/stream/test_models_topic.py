"""Models over a broker: published whole, given roles, followed; and the commands of a user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectors.broker.transaction import PublishError
from connectors.models.book import CHALLENGER, CHAMPION, PROMOTIONS_KEPT, ModelBook
from connectors.models.topic import MODELS_KEPT, ModelReader, model_key, part_key, promote, publish, read_all
from pipeline.commands.fraud import fraud
from pipeline.topics import MODELS
from schemas.codec import Codec
from tests.models import a_model
from tests.stream.broker import following, put, wait_until

CODEC = Codec()
TOPICS = (MODELS.name,)
FAR_MS = 2**62


@pytest.fixture
def book(broker: str) -> Iterator[ModelBook]:
    """A book that follows the broker's models."""
    made = ModelBook()
    with following(ModelReader(broker, MODELS.name, CODEC, made)):
        yield made


def champion(book: ModelBook) -> str:
    found = book.in_force(FAR_MS).champion
    return found.version if found else ""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(fraud, arguments, catch_exceptions=False)


def test_a_running_worker_takes_up_a_promotion(broker: str, book: ModelBook) -> None:
    """Published and promoted in one go, then another, then none: followed without a restart."""
    one = publish(broker, CODEC, a_model(0).content, promote_to=CHAMPION, by="anna", reason="first")
    wait_until(lambda: champion(book) == one)
    other = publish(broker, CODEC, a_model(1).content)
    promote(broker, CODEC, CHALLENGER, other[:6], by="anna", reason="")
    wait_until(lambda: book.in_force(FAR_MS).challenger is not None)
    assert champion(book) == one
    promote(broker, CODEC, CHAMPION, other, by="anna", reason="better")
    wait_until(lambda: champion(book) == other)
    # Who becomes champion is no challenger any more.
    wait_until(lambda: book.in_force(FAR_MS).challenger is None)
    promote(broker, CODEC, CHAMPION, "", by="anna", reason="")
    wait_until(lambda: champion(book) == "")


def test_a_worker_that_starts_later_has_the_same_models(broker: str) -> None:
    """The topic is all that it needs."""
    version = publish(broker, CODEC, a_model(0).content, promote_to=CHAMPION, by="anna")
    made = ModelBook()
    with following(ModelReader(broker, MODELS.name, CODEC, made)):
        assert champion(made) == version


def test_what_is_no_model_is_not_published(broker: str) -> None:
    """Nor is one promoted that is not there, or whose parts are gone: nothing changes."""
    with pytest.raises(PublishError, match="nothing was published"):
        publish(broker, CODEC, b"garbage", promote_to=CHAMPION, by="anna")
    with pytest.raises(PublishError, match="no model"):
        promote(broker, CODEC, CHAMPION, "abcdef", by="anna", reason="")
    version = publish(broker, CODEC, a_model(0).content)
    put(broker, MODELS.name, (part_key(version, 0), None), partition=0)
    with pytest.raises(PublishError, match="cannot be used"):
        promote(broker, CODEC, CHAMPION, version, by="anna", reason="")
    assert read_all(broker, CODEC).promoted == {}


def test_the_same_model_again_is_the_same(broker: str) -> None:
    """No second copy of its parts; its role is given again."""
    for _ in range(2):
        version = publish(broker, CODEC, a_model(0).content, promote_to=CHAMPION, by="anna")
    contents = read_all(broker, CODEC)
    assert list(contents.heads) == [version]
    assert contents.version(CHAMPION) == version


def test_old_models_and_promotions_are_removed(broker: str) -> None:
    """What has no role and is not among the newest goes, parts and head; the champion stays however old it is."""
    first = publish(broker, CODEC, a_model(0).content, promote_to=CHALLENGER, by="anna")
    for seed in range(1, MODELS_KEPT + PROMOTIONS_KEPT + 3):
        publish(broker, CODEC, a_model(seed).content, promote_to=CHAMPION, by="anna")
    contents = read_all(broker, CODEC)
    assert contents.version(CHALLENGER) == first in contents.heads
    assert len(contents.promoted[CHAMPION]) == PROMOTIONS_KEPT
    assert len(contents.heads) <= MODELS_KEPT + 2
    assert {version for version, parts in contents.parts.items() if parts} == set(contents.heads)


def test_a_record_that_is_none_of_these_is_refused(broker: str, book: ModelBook) -> None:
    """Garbage in the topic stops no worker."""
    put(broker, MODELS.name, (model_key("x"), b"garbage"), partition=0)
    version = publish(broker, CODEC, a_model(0).content, promote_to=CHAMPION, by="anna")
    wait_until(lambda: champion(book) == version)


def test_a_user_promotes_a_file(broker: str, tmp_path: Path) -> None:
    """By file or by the first characters of a version; list tells roles, who and why."""
    file = tmp_path / "model.onnx"
    file.write_bytes(a_model(0).content)
    result = run("models", "promote", str(file), "--by", "anna", "--reason", "first", "--broker", broker, "--json")
    assert result.exit_code == 0, result.output
    version = json.loads(result.output)["version"]
    other = publish(broker, CODEC, a_model(1).content)
    assert run("models", "shadow", other[:5], "--by", "ben", "--broker", broker).exit_code == 0
    listed = json.loads(run("models", "list", "--broker", broker, "--json").output)
    assert [(each["version"], each["role"], each["by"], each["reason"]) for each in listed] == [
        (version, "champion", "anna", "first"),
        (other, "challenger", "ben", ""),
    ]
    assert listed[0]["description"]["payments"] == 600
    text = run("models", "list", "--broker", broker).output
    assert version in text
    assert "champion by anna: first" in text
    assert run("models", "promote", "--none", "--by", "anna", "--broker", broker).output.startswith(
        "no model is champion"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("models", "promote"), "give a VERSION, or --none"),
        (("models", "promote", "ab", "--none"), "give a VERSION, or --none"),
        (("models", "shadow", "nothing.onnx"), "cannot be read"),
        (("train",), "--output FILE, --publish"),
        (("train", "--output", "x", "--from", "yesterday"), "no day"),
        (("train", "--output", "x", "--from", "2026-02-01", "--until", "2026-01-01"), "before --until"),
        (("train", "--output", "x", "--features", "amount,shoe_size"), "'shoe_size'"),
    ],
)
def test_a_user_is_told_what_is_wrong(arguments: tuple[str, ...], why: str) -> None:
    """In one line, code 1 or 2, and nothing is contacted."""
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert why in result.output
