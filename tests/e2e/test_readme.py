"""README as a user reads it: its posting lines post, its commands and targets exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.broker.embedded import EmbeddedBroker
from connectors.tenants.document import parse_tenants
from pipeline.cli import main
from pipeline.rig import Rig, Worker
from schemas.codec import Codec
from schemas.records import PaymentCompleted

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUTCOME_TIMEOUT_S = 60.0
PARTITIONS = 4


def _posting_lines() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, "README has one block of Python"
    return str(blocks[0])


def test_posting_takes_ten_lines_and_nothing_of_ours() -> None:
    """Ten lines, none blank, that import plain clients only."""
    lines = _posting_lines().splitlines()
    assert len(lines) == 10
    assert all(line.strip() for line in lines)
    assert not re.search(r"\b(pipeline|agents|schemas|tables|connectors)\b(?!/avro)", _posting_lines())
    assert ";" not in _posting_lines()


def test_the_posting_lines_of_the_readme_make_a_payment(tmp_path: Path) -> None:
    """Run as they stand, with the broker named in PTR_BROKER: the payment of acme has its outcome, paid, and its fee is the
    example configuration's 1.5 % of 12.50 EUR, rounded half up, and 0.25 EUR."""
    rules = parse_tenants((ROOT / "docs/tenants-example.yaml").read_text(), "tenants", pics=("simulator",))
    with EmbeddedBroker() as broker, Rig(broker.address, tmp_path, PTR_WEB_TOKEN="t") as rig:
        rig.prepare(rules)
        worker = rig.worker("all")
        rig.wait_ready()
        _wait_until_configured(worker)
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        posted = subprocess.run(
            [sys.executable, "-c", _posting_lines()],
            cwd=ROOT,
            env=environment | {"PTR_BROKER": broker.address, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (posted.returncode, posted.stdout) == (0, "not delivered: 0\n"), posted.stderr
        completed = _outcome_of(broker.address, b"acme|order-1001")
    assert (completed.outcome, completed.amount_minor, completed.currency) == ("paid", 1250, "EUR")
    assert completed.fee_minor == 44  # 18.75 -> 19, and 25


def _wait_until_configured(worker: Worker) -> None:
    deadline = time.monotonic() + OUTCOME_TIMEOUT_S
    while worker.get("/tables/tenant_rules/acme", "t")[0] != 200:
        assert time.monotonic() < deadline, worker.log_tail()
        time.sleep(0.05)


def _outcome_of(broker: str, key: bytes) -> PaymentCompleted:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "readme", "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition("payments.completed.v1", partition, 0) for partition in range(PARTITIONS)])
        deadline = time.monotonic() + OUTCOME_TIMEOUT_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None and message.key() == key:
                return Codec().decode(message.value(), PaymentCompleted)
    finally:
        consumer.close()
    raise AssertionError(f"no outcome within {OUTCOME_TIMEOUT_S:g} s")


def _shell_lines(text: str) -> list[str]:
    """Lines of fenced shell blocks, and inline code that is a command."""
    fenced = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return fenced + re.findall(r"`((?:ptr|make) [^`]+)`", prose)


def _commands(program: str) -> list[list[str]]:
    """Each use of ``program`` in the documents, as its words after the name."""
    found = []
    for page in PAGES:
        for line in _shell_lines(page.read_text()):
            words = shlex.split(line, comments=True)
            for at, word in enumerate(words):
                if word == program and (
                    at == 0 or words[at - 1] in ("&&", "|", "--", "worker-front", "audit-sink") or "=" in words[at - 1]
                ):
                    ends = [n for n, later in enumerate(words) if n > at and later in ("&", "&&", "|", "<", ">")]
                    found.append(words[at + 1 : min(ends, default=len(words))])
    return found


PTR = sorted({tuple(words) for words in _commands("ptr")})


def test_commands_are_found() -> None:
    """The documents name the commands that a user needs; otherwise the next test checks nothing."""
    named = {words[0] for words in PTR}
    assert {"worker", "audit-sink", "submit", "show", "tenants", "topics", "kafka", "dead-letters"} <= named
    assert len(PTR) > 15


@pytest.mark.parametrize("words", PTR, ids=" ".join)
def test_every_ptr_command_exists_with_its_options(words: tuple[str, ...]) -> None:
    """Each command in README and docs is one of ``ptr``'s, takes the options shown, and has help."""
    command: click.Command | None = main
    context = click.Context(main, info_name="ptr")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"ptr has no {rest[0]}"
        command = found
        context = click.Context(command, info_name=rest.pop(0), parent=context)
    assert command is not None
    assert command.get_help(context)
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"ptr {' '.join(words)}: no option {word}"


def test_every_make_target_exists() -> None:
    """Each ``make`` target that the documents name is in the Makefile, and README names demo and test."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for words in _commands("make")}
    assert {"demo", "test"} <= named
    assert named <= targets


def test_ci_lints_and_runs_no_test_twice() -> None:
    """``.ci/run`` calls targets of the Makefile; ``check`` would run tests that ``test`` runs too."""
    targets = dict(re.findall(r"^([a-z]+):((?:.*\n)(?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"^make ([a-z]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    recipes = [targets[name] for name in called]
    assert sum("pytest" in recipe for recipe in recipes) == 1
    for tool in ("ruff check", "ruff format", "mypy", "lint-imports"):
        assert sum(tool in recipe for recipe in recipes) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Each relative link names a file of the repository and, after ``#``, one of its headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, target


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
