"""``ptr pic`` as a plugin's author uses it: write a package, run its test, install it, list and check it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180


def ptr(*words: str) -> tuple[int, str]:
    """Exit code and output of a command in this process."""
    result = CliRunner().invoke(main, ["pic", *words], prog_name="ptr")
    return result.exit_code, result.output


def run(*command: str | Path, path: Path, cwd: Path, **settings: str) -> tuple[int, str]:
    """Exit code and output of a program that finds packages in ``path`` and here."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PTR_")} | settings
    environment["PYTHONPATH"] = f"{path}{os.pathsep}{ROOT}"
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    return ended.returncode, ended.stdout + ended.stderr


def test_a_new_plugin_passes_its_own_test_and_the_kit(tmp_path: Path) -> None:
    """As written, before anybody changed a line: its test, then installed beside the pipeline `list` and `check`."""
    folder, installed = tmp_path / "ours", tmp_path / "installed"
    code, said = ptr("new", "acme-bank", "--directory", str(folder))
    assert code == 0, said
    assert str(folder / "ptr_pic_acme_bank" / "plugin.py") in said
    python = sys.executable
    code, said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=folder, cwd=folder)
    assert code == 0, said

    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    code, said = run(*pip, "--no-build-isolation", "--target", installed, folder, path=tmp_path, cwd=tmp_path)
    assert code == 0, said
    cli = [python, "-m", "pipeline.cli", "pic"]
    code, said = run(*cli, "list", "--json", path=installed, cwd=tmp_path)
    assert code == 0, said
    ours, _ = sorted(json.loads(said), key=lambda row: row["name"])[:2]
    assert (ours["name"], ours["package"], ours["stand"]) == ("acme-bank", "ptr-pic-acme-bank 0.1.0", True)
    assert "PTR_PIC_ACME_BANK_BASE_URL is missing" in ours["error"]
    code, said = run(
        *cli,
        "list",
        path=installed,
        cwd=tmp_path,
        PTR_PIC_ACME_BANK_BASE_URL="http://127.0.0.1:1",
        PTR_PIC_ACME_BANK_API_KEY="k",
    )
    assert "acme-bank  payment, deduplicates, looks up  (ptr-pic-acme-bank 0.1.0)" in said.splitlines()
    code, said = run(*cli, "codes", "acme-bank", path=installed, cwd=tmp_path)
    assert (code, said.splitlines()[-1].split()) == (0, ["ISSUER_DOWN", "issuer_unavailable", "elsewhere"]), said
    code, said = run(*cli, "check", "acme-bank", "--json", path=installed, cwd=tmp_path)
    assert code == 0, said
    report = json.loads(said)
    assert (report["fail"], report["pass"] >= 25, report["pass"] + report["not_offered"]) == (
        0,
        True,
        len(report["scenarios"]),
    )

    code, said = run(*cli, "new", "acme-bank", "--directory", str(folder), path=installed, cwd=tmp_path)
    assert (code, "a plugin called acme-bank is installed" in said) == (1, True), said


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A second beginning in the same folder."""
    ptr("new", "acme", "--directory", str(tmp_path))
    code, said = ptr("new", "acme", "--directory", str(tmp_path))
    assert code == 1
    assert "exists: nothing was written" in said


def test_a_new_plugin_is_small(tmp_path: Path) -> None:
    """What an author has to understand first fits on two screens."""
    ptr("new", "acme", "--directory", str(tmp_path))
    assert len((tmp_path / "ptr_pic_acme" / "plugin.py").read_text().splitlines()) < 130


def test_a_check_prints_a_table_and_fails_when_a_scenario_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each with its verdict, then the counts; code 1 with a failure and what was wrong."""
    code, said = ptr("check", "simulator", "--only", "unknowns")
    assert code == 0, said
    *lines, last = said.splitlines()
    assert last == "simulator: 14 passed, 0 failed, 0 not offered"
    assert len(lines) == 14
    assert all(line.split()[0] == "unknowns" and line.split()[2] == "pass" for line in lines)

    from connectors.pic import simulator

    async def lies(self: simulator.Simulator, calls: object) -> list[object]:
        return [None]

    monkeypatch.setattr(simulator.Simulator, "look_up", lies)
    code, said = ptr("check", "simulator", "--only", "a_look_up")
    assert code == 1
    assert "FAIL  look-up is None, not" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "acme"), "no plugin for PIC 'acme': there are "),
        (("codes", "acme"), "no plugin for PIC 'acme': there are "),
        (("check", "simulator", "--only", "nonsense"), "no scenario has 'nonsense'"),
        (("new", "Acme Bank"), "'Acme Bank' is no name of a PIC"),
        (("new", "9-acme"), "is no name of a PIC"),
        (("new", "simulator"), "a plugin called simulator is installed"),
    ],
)
def test_a_mistake_is_answered_in_words(words: tuple[str, ...], says: str) -> None:
    """And nothing is written or run."""
    code, said = ptr(*words)
    assert code != 0
    assert says in said


def test_codes_are_told_with_what_they_mean_and_allow() -> None:
    """By hand, one of each kind; of another PIC of the same plugin they are the same."""
    code, said = ptr("codes", "iso8583-2")
    assert code == 0, said
    lines = [line.split() for line in said.splitlines()]
    assert ["51", "insufficient_funds", "never"] in lines
    assert ["05", "do_not_honor", "elsewhere"] in lines
    assert ["91", "issuer_unavailable", "here"] in lines
    assert len({line[0] for line in lines}) == len(lines)
    code, said = ptr("codes", "stripe", "--json")
    assert {"code": "fraudulent", "decline_code": "suspected_fraud", "retry": "never"} in json.loads(said)


def test_a_plugin_without_a_table_of_codes_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.pic.codes_of", lambda name: None)
    code, said = ptr("codes", "simulator")
    assert (code, "names no table of codes" in said) == (1, True), said


def test_the_list_has_a_line_for_each_plugin() -> None:
    """The simulator's says what it can do and where it comes from."""
    code, said = ptr("list")
    assert code == 0, said
    (line,) = (line for line in said.splitlines() if line.startswith("simulator "))
    assert "payment, authorize, capture, void, refund, deduplicates, looks up, partial captures" in line
    assert "(payment-pipeline 0.1.0)" in line
