"""Writes the beginning of a plugin: a package of its own, with a stand and a test that passes as written."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from connectors.pic.registry import plugins
from schemas.identity import PIC_PATTERN

#: Template to file, ``{package}`` being the package's folder.
_FILES: Final = {
    "pyproject.toml.txt": "pyproject.toml",
    "init.py.txt": "{package}/__init__.py",
    "plugin.py.txt": "{package}/plugin.py",
    "stand.py.txt": "{package}/stand.py",
    "test_conformance.py.txt": "tests/test_conformance.py",
}


class NewPluginError(ValueError):
    """It cannot be written there, or not under this name."""


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package for PIC ``name`` into ``folder``, which may exist but not hold any of its files; those written.

    Raises :class:`NewPluginError`.
    """
    if not PIC_PATTERN.match(name) or not name[0].isalpha():
        raise NewPluginError(f"{name!r} is no name of a PIC: a lower-case letter, then letters, digits and hyphens")
    if (taken := plugins().get(name)) is not None:
        raise NewPluginError(f"a plugin called {name} is installed ({taken.value}): take another name")
    package = f"ptr_pic_{name.replace('-', '_')}"
    values = {
        "name": name,
        "package": package,
        "distribution": f"ptr-pic-{name}",
        "prefix": f"PTR_PIC_{name.upper().replace('-', '_')}",
    }
    templates = files("connectors.pic") / "template"
    wanted = {folder / path.format(package=package): templates / template for template, path in _FILES.items()}
    for path in wanted:
        if path.exists():
            raise NewPluginError(f"{path} exists: nothing was written")
    for path, template in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text()).substitute(values))
    return list(wanted)
