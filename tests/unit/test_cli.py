"""The command line: every command explains itself with examples, and wrong use ends with a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import COMMANDS, main


def every_command() -> Iterator[tuple[str, ...]]:
    """Each command and subcommand, as it is typed."""
    yield ()
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        yield (name,)
        if isinstance(command, click.Group):
            for inner in command.list_commands(click.Context(command)):
                yield (name, inner)


@pytest.mark.parametrize("words", list(every_command()), ids=lambda words: " ".join(("ptr", *words)))
def test_every_command_has_help_with_examples(words: tuple[str, ...]) -> None:
    """Code 0, what it does, and at least one line that can be typed."""
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="ptr")
    assert result.exit_code == 0, result.output
    assert "Usage: ptr" in result.output
    assert "Examples:" in result.output, result.output
    examples = result.output.split("Examples:", 1)[1].splitlines()
    assert any(line.strip().startswith(" ".join(("ptr", *words))) for line in examples), result.output


@pytest.mark.parametrize("words", list(every_command()), ids=lambda words: " ".join(("ptr", *words)))
def test_a_wrong_flag_is_named(words: tuple[str, ...]) -> None:
    """Code 2 and the flag, no traceback."""
    result = CliRunner().invoke(main, [*words, "--no-such-flag"], prog_name="ptr")
    assert result.exit_code == 2
    assert "--no-such-flag" in result.output
    assert "Traceback" not in result.output


def test_an_unknown_command_is_named() -> None:
    """Code 2."""
    result = CliRunner().invoke(main, ["payments"])
    assert result.exit_code == 2
    assert "No such command 'payments'" in result.output


def test_the_list_of_commands_says_what_each_does() -> None:
    """Without importing them."""
    output = CliRunner().invoke(main, ["--help"]).output
    for name, (_, _, about) in COMMANDS.items():
        assert name in output
        assert about.split(".")[0][:20] in output


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_it_is_said_to_be(name: str) -> None:
    """And carries the name under which it is listed."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("words", [("worker",), ("topics", "list"), ("dead-letters", "list")])
def test_a_wrong_setting_is_an_error_in_words(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 1, naming the variable."""
    monkeypatch.setenv("PTR_SESSION_TIMEOUT_S", "1")
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 1
    assert "PTR_SESSION_TIMEOUT_S" in result.output
    assert "Traceback" not in result.output
