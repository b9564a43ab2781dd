"""The United Nations Security Council consolidated list: the XML file as published (schema ``sc-sanctions.xsd``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl, Locator

from defusedxml import DefusedXmlException
from defusedxml import sax as defused_sax

from connectors.lists.errors import ListError
from pipeline.stages.screening import ListEntry

LIST: Final = "un"
_ROOT: Final = "CONSOLIDATED_LIST"
_SECTIONS: Final = {"INDIVIDUALS": ("INDIVIDUAL", "person"), "ENTITIES": ("ENTITY", "organisation")}
_NAME_PARTS: Final = ("FIRST_NAME", "SECOND_NAME", "THIRD_NAME", "FOURTH_NAME")
_OTHER_NAMES: Final = ("ALIAS_NAME", "NAME_ORIGINAL_SCRIPT")
_NUMBER: Final = "REFERENCE_NUMBER"
_WANTED: Final = frozenset((*_NAME_PARTS, *_OTHER_NAMES, _NUMBER))

# One alias field may hold several names and remarks: "A; B", "a) A b) B", "A (birth name)", "A, born 1 Jan. 1953".
_BETWEEN_NAMES: Final = re.compile(r";|\b[a-z]\)")
_IN_BRACKETS: Final = re.compile(r"\(([^()]*)\)?")
_REMARK: Final = re.compile(r",? born .*", re.DOTALL)


def load(file: str | Path) -> list[ListEntry]:
    """The entries of the list in ``file``, each with aliases and original script; ``entry_id`` is the UN's reference.

    Raises :class:`ListError`, naming file and line, when the file is missing, cut off or not of this format.
    """
    file = Path(file)
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
    return handler.entries


class _Handler(ContentHandler):
    """Collects entries; knows nothing but where it is in the file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.entries: list[ListEntry] = []
        self.sections: set[str] = set()
        self._file = file
        self._path: list[str] = []
        self._texts: dict[str, list[str]] = {}
        self._text: list[str] | None = None
        self._locator: Locator | None = None
        self._numbers: set[str] = set()

    @property
    def line(self) -> int:
        """The line that is being read."""
        return (self._locator.getLineNumber() or 0) if self._locator else 0

    def setDocumentLocator(self, locator: Locator) -> None:
        self._locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        self._path.append(name)
        depth = len(self._path)
        if depth == 1 and name != _ROOT:
            raise ListError(self._file, self.line, f"the root is not {_ROOT}")
        if depth == 2:
            if name not in _SECTIONS:
                raise ListError(self._file, self.line, f"neither {' nor '.join(_SECTIONS)}")
            self.sections.add(name)
        elif depth == 3:
            if name != _SECTIONS[self._path[1]][0]:
                raise ListError(self._file, self.line, f"an unexpected element in {self._path[1]}")
            self._texts = {wanted: [] for wanted in _WANTED}
        self._text = [] if depth > 3 and name in _WANTED else None

    def characters(self, content: str) -> None:
        if self._text is not None:
            self._text.append(content)

    def endElement(self, name: str) -> None:
        depth = len(self._path)
        if self._text is not None:
            self._texts[name].append(" ".join("".join(self._text).split()))
            self._text = None
        elif depth == 3:
            self._end_entry(_SECTIONS[self._path[1]][1])
        self._path.pop()

    def endDocument(self) -> None:
        missing = _SECTIONS.keys() - self.sections
        if missing:
            raise ListError(self._file, self.line, f"no {' and no '.join(sorted(missing))}")
        if not self.entries:
            raise ListError(self._file, self.line, "the list is empty")

    def _end_entry(self, kind: str) -> None:
        numbers = [number for number in self._texts[_NUMBER] if number]
        if len(numbers) != 1:
            raise ListError(self._file, self.line, f"an entry with {len(numbers)} reference numbers instead of one")
        if numbers[0] in self._numbers:
            raise ListError(self._file, self.line, "the same reference number twice")
        self._numbers.add(numbers[0])
        main = " ".join(part for tag in _NAME_PARTS for part in self._texts[tag] if part)
        others = [text for tag in _OTHER_NAMES for text in self._texts[tag]]
        names = tuple(dict.fromkeys(name for text in (main, *others) for name in _names_in(text)))
        if not names:
            raise ListError(self._file, self.line, "an entry without a name")
        self.entries.append(ListEntry(list=LIST, entry_id=numbers[0], kind=kind, names=names))


def _names_in(text: str) -> Iterator[str]:
    """The names in one field; what stands in brackets is one only when it is the name in another script."""
    for part in _BETWEEN_NAMES.split(_IN_BRACKETS.sub(" ", text)):
        name = " ".join(_REMARK.sub("", part).split())
        if name:
            yield name
    for found in _IN_BRACKETS.finditer(text):
        if not found[1].isascii() and any(character > "\u024f" for character in found[1]):
            yield found[1].strip()
