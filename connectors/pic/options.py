"""What a plugin is made with: its settings, its secrets by reference, and what the engine knows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PREFIX: Final = "PTR_PIC_"
#: So that the settings of ``stripe-2`` are not taken for some of ``stripe``.
_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*\Z")


class PicSettingError(ValueError):
    """A setting of a PIC is missing or cannot be read; the text names the variable, never a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PicOptions:
    """What plugins may need; each takes what it knows. Its ``repr`` shows which settings there are, and no value."""

    name: str
    #: By lower-case key: ``PTR_PIC_<NAME>_<KEY>``, hyphens of the name as underscores.
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: ``PTR_PIC_TIMEOUT_S``: after this an answer is unknown.
    timeout_s: float = 5.0
    #: ``PTR_SIMULATOR_LEDGER``: SQLite file of simulated PICs; empty keeps it in memory.
    simulator_ledger: str = ""
    #: The engine's lease: False forbids calls.
    allowed: Callable[[], bool] | None = None

    def variable(self, key: str) -> str:
        """The environment variable that ``key`` is read from."""
        return f"{_prefix(self.name)}{key.upper()}"

    def setting(self, key: str, default: str | None = None) -> str:
        """A setting. Raises :class:`PicSettingError` when it is not given and has no default."""
        value = self.settings.get(key, default)
        if value is None:
            raise PicSettingError(f"PIC {self.name}: {self.variable(key)} is missing")
        return value

    def has_secret(self, key: str) -> bool:
        """Whether :meth:`secret` has something to read."""
        return bool(self.settings.get(f"{key}_file") or self.settings.get(key))

    def secret(self, key: str) -> str:
        """A secret, from the file that ``<KEY>_FILE`` names or from ``<KEY>`` itself, without white space around it.

        Raises :class:`PicSettingError`. Read it when it is needed; keep it out of ``repr``, errors and logs.
        """
        path = self.settings.get(f"{key}_file")
        if not path:
            value = self.settings.get(key, "").strip()
            if not value:
                raise PicSettingError(
                    f"PIC {self.name}: {self.variable(key)}_FILE is missing: the name of a file with the secret"
                    f" (or {self.variable(key)}: the secret itself)"
                )
            return value
        try:
            value = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise PicSettingError(f"PIC {self.name}: {self.variable(key)}_FILE: cannot read {path}: {why}") from None
        if not value:
            raise PicSettingError(f"PIC {self.name}: {self.variable(key)}_FILE: {path} is empty")
        return value


def settings_of(name: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of PIC ``name`` from ``PTR_PIC_<NAME>_<KEY>``, by lower-case key. An empty variable counts as not given."""
    environment = os.environ if environment is None else environment
    prefix = _prefix(name)
    return {
        variable.removeprefix(prefix).lower(): value
        for variable, value in environment.items()
        if value and variable.startswith(prefix) and _KEY.match(variable.removeprefix(prefix))
    }


def _prefix(name: str) -> str:
    return f"{_PREFIX}{name.upper().replace('-', '_')}_"
