"""Ctrl-C arrives, also where Python drops exceptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commands.interrupts import ended_by, one_interrupt

WAIT_S = 30


class _InterruptedAtItsEnd:
    """Its destructor is where Ctrl-C strikes; nobody can catch what a destructor raises."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


def _interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    _wait()


def _terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    _wait()


def _interrupted_in_a_destructor() -> None:
    _InterruptedAtItsEnd()
    _wait()


def _interrupted_again_while_tidying(tidied: list[str]) -> None:
    try:
        _interrupted()
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        tidied.append("all of it")


def _wait() -> None:
    signal.sigtimedwait({signal.SIGUSR1}, WAIT_S)
    pytest.fail("the interrupt was lost")


@pytest.mark.parametrize("strike", [_interrupted, _interrupted_in_a_destructor])
def test_an_interrupt_ends_the_block(strike: Callable[[], None]) -> None:
    """Also where Python drops the exception."""
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        strike()


def test_sigterm_ends_the_block_with_its_code() -> None:
    with pytest.raises(SystemExit) as ended, one_interrupt():
        _terminated()
    assert ended.value.code == 143


def test_further_interrupts_do_not_disturb_the_tidying_up() -> None:
    tidied: list[str] = []
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        _interrupted_again_while_tidying(tidied)
    assert tidied


def test_handlers_and_hook_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = (*map(signal.getsignal, numbers), sys.unraisablehook)
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        raise KeyboardInterrupt
    assert (*map(signal.getsignal, numbers), sys.unraisablehook) == before


@pytest.mark.parametrize(
    "stuck",
    [
        "raise KeyboardInterrupt",
        "exec('raise KeyboardInterrupt')",
        "raise ImportError('initialization failed') from KeyboardInterrupt()",
    ],
)
def test_every_command_ends_with_the_shells_code(stuck: str, tmp_path: Path) -> None:
    """Also one that does not listen for it, interrupted anywhere: in the import of a dataclass, or of a compiled module."""
    program = (
        "import click, sys; from pipeline import cli\n"
        "@cli.main.command('stuck')\n"
        f"def stuck(): {stuck}\n"
        "cli._Lazy.get_command = lambda self, ctx, name: stuck\n"
        "cli.main(['stuck'])"
    )
    (tmp_path / "interrupted.py").write_text(program)
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


def test_other_errors_are_not_taken_for_an_interrupt() -> None:
    """Also one that is raised on purpose while an interrupt is answered."""

    def answer() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ValueError("something else") from None

    with pytest.raises(ValueError, match="something else") as raised:
        answer()
    assert ended_by(raised.value) is None
    assert ended_by(OSError()) is None
    assert ended_by(SystemExit(1)) is None
