"""The wheel is tested, not the checkout: built, installed in an environment of its own, used from another directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.settings import STAGES
from schemas.codec import COMPILED, schema_file_name
from schemas.records import RECORDS

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "connectors", "pipeline", "schemas", "tables")
#: What is compiled, and who uses it and tells whether it is.
COMPILED_MODULES = {
    "schemas.native": "schemas.bodies",
    "pipeline.stages.native_names": "pipeline.stages.likeness",
    "pipeline.stages.native_windows": "pipeline.stages.windows",
    "connectors.sinks.native_copying": "connectors.sinks.copying",
    "connectors.privacy.native_sealing": "connectors.privacy.sealing",
}
TIMEOUT_S = 120


@dataclass(frozen=True)
class Installed:
    wheel: Path
    bin: Path
    elsewhere: Path

    def run(self, *command: str) -> str:
        """Output of a command of the environment, run in a directory that is not the checkout."""
        return run(self.bin / command[0], *command[1:], cwd=self.elsewhere)


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that succeeds; it sees neither the checkout nor settings of whoever runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PTR_"))}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of a copy of the tree, installed alone; its dependencies are those that run the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    if not (tree / "README.md").exists():
        (tree / "README.md").write_text("missing\n")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", tree, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=True, symlinks=True)
    run(home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # Only now: pip must not see what runs the tests. Dependencies come last on the path, and .pth files among them (an
    # editable install of ours) are not followed.
    site = next(home.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installed(wheel, home / "bin", elsewhere)


def test_the_command_says_its_version(installed: Installed) -> None:
    """`ptr --version` is the version of setup.cfg, also where there is no checkout."""
    (line,) = (line for line in (ROOT / "setup.cfg").read_text().splitlines() if line.startswith("version = "))
    assert installed.run("ptr", "--version").strip() == f"ptr, version {line.removeprefix('version = ')}"


def test_the_command_shows_its_help(installed: Installed) -> None:
    """Every command is listed, with examples."""
    shown = installed.run("ptr", "--help")
    assert "Examples:" in shown
    for name in ("demo", "worker", "submit", "show", "tenants", "dead-letters"):
        assert f"  {name}" in shown


def test_what_runs_is_the_wheel(installed: Installed) -> None:
    """Not the checkout that the tests are in."""
    where = installed.run("python", "-c", "import pipeline.app; print(pipeline.app.__file__)").strip()
    assert Path(where).is_relative_to(installed.bin.parent)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here")
@pytest.mark.parametrize(("module", "user"), COMPILED_MODULES.items())
def test_the_wheel_has_what_is_compiled(installed: Installed, module: str, user: str) -> None:
    """Where the checkout has it."""
    shown = installed.run(
        "python", "-c", f"import {module} as native, {user} as user; print(user.COMPILED, native.__file__)"
    )
    compiled, where = shown.split()
    assert compiled == "True"
    assert Path(where).is_relative_to(installed.bin.parent)


def test_faust_finds_the_app_and_lists_its_agents(installed: Installed) -> None:
    """`faust -A pipeline.app agents` names every stage's agent, from another directory."""
    shown = installed.run("python", "-m", "faust", "-A", "pipeline.app", "agents")
    for stage in STAGES:
        assert stage in shown


@pytest.mark.parametrize(
    "name",
    [
        *(f"schemas/avro/{schema_file_name(record)}.avsc" for record in RECORDS),
        *(f"schemas/history/{schema_file_name(record)}/1.avsc" for record in RECORDS),
        "connectors/broker/pom.xml",
        "connectors/demo/tenants.yaml",
        "connectors/lists/sample.csv",
    ],
)
def test_data_files_are_in_the_wheel(installed: Installed, name: str) -> None:
    """What the code reads at run time."""
    assert name in zipfile.ZipFile(installed.wheel).namelist()


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(installed: Installed) -> None:
    """Migrations and all: what is in the tree is in the wheel; tests and tools are not. What was compiled in the tree is not
    taken over: the wheel has its own, or none without a compiler."""
    there = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    packed = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    packed -= {f"{module.replace('.', '/')}{sysconfig.get_config_var('EXT_SUFFIX')}" for module in COMPILED_MODULES}
    assert any("migrations/sqlite" in name for name in packed)
    assert any("migrations/postgresql" in name for name in packed)
    assert packed == there
