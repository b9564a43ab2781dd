"""The UN's XML as entries with their parts: structure only, no meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl, Locator

from defusedxml import DefusedXmlException
from defusedxml import sax as defused_sax

from connectors.lists.errors import ListError

_ROOT: Final = "CONSOLIDATED_LIST"
_SECTIONS: Final = {"INDIVIDUALS": ("INDIVIDUAL", "person"), "ENTITIES": ("ENTITY", "organisation")}


@dataclass(slots=True)
class Entry:
    """One INDIVIDUAL or ENTITY: its parts in order, each with its own text and the values inside it."""

    kind: str
    #: Where it ends.
    line: int = 0
    parts: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        """The texts of all parts of this name."""
        return [text for part, text, _ in self.parts if part == name]

    def groups(self, *names: str) -> Iterator[dict[str, str]]:
        """The values of each part of these names, by their names."""
        return (dict(values) for part, _, values in self.parts if part in names)

    def values(self, name: str, value: str) -> list[str]:
        """All values called ``value`` in all parts called ``name``."""
        return [text for part, _, values in self.parts if part == name for tag, text in values if tag == value]


@dataclass(slots=True)
class UnFile:
    """The whole file."""

    entries: list[Entry] = field(default_factory=list)
    #: When it was made, as the file says; empty when it does not.
    made_at: str = ""


def read_file(file: Path) -> UnFile:
    """Read ``file``. Raises :class:`ListError`, naming file and line, when it is missing, cut off or of another format."""
    handler = _Handler(file)
    try:
        with file.open("rb") as stream:
            defused_sax.parse(stream, handler, forbid_dtd=True)
    except OSError as error:
        raise ListError(file, 0, f"cannot be read: {error.strerror}") from error
    except SAXParseException as error:
        raise ListError(file, error.getLineNumber() or 0, f"not XML, or cut off: {error.getMessage()}") from error
    except DefusedXmlException as error:
        raise ListError(file, handler.line, f"refused: {type(error).__name__}") from error
    return handler.found


class _Handler(ContentHandler):
    """Collects entries; knows nothing but where it is in the file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.found = UnFile()
        self.sections: set[str] = set()
        self._file = file
        self._path: list[str] = []
        self._text: list[str] = []
        self._values: list[tuple[str, str]] = []
        self._entry = Entry("")
        self._locator: Locator | None = None

    @property
    def line(self) -> int:
        """The line that is being read."""
        return (self._locator.getLineNumber() or 0) if self._locator else 0

    def setDocumentLocator(self, locator: Locator) -> None:
        self._locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        self._path.append(name)
        self._text = []
        match len(self._path):
            case 1:
                if name != _ROOT:
                    raise ListError(self._file, self.line, f"the root is not {_ROOT}")
                self.found.made_at = attrs.get("dateGenerated", "")
            case 2:
                if name not in _SECTIONS:
                    raise ListError(self._file, self.line, f"neither {' nor '.join(_SECTIONS)}")
                self.sections.add(name)
            case 3:
                wanted, kind = _SECTIONS[self._path[1]]
                if name != wanted:
                    raise ListError(self._file, self.line, f"an unexpected element in {self._path[1]}")
                self._entry = Entry(kind)
            case 4:
                self._values = []

    def characters(self, content: str) -> None:
        self._text.append(content)

    def endElement(self, name: str) -> None:
        text = " ".join("".join(self._text).split())
        match len(self._path):
            case 3:
                self._entry.line = self.line
                self.found.entries.append(self._entry)
            case 4:
                self._entry.parts.append((name, text, self._values))
            case 5:
                self._values.append((name, text))
        self._text = []
        self._path.pop()

    def endDocument(self) -> None:
        missing = _SECTIONS.keys() - self.sections
        if missing:
            raise ListError(self._file, self.line, f"no {' and no '.join(sorted(missing))}")
        if not self.found.entries:
            raise ListError(self._file, self.line, "the list is empty")
