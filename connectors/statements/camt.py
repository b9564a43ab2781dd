"""A bank's statement, camt.053 or camt.054, transfer by transfer: memory does not grow with the file.

The structure is :mod:`connectors.pic.iso20022.reports`'. Expat reads the bytes; what defusedxml forbids is kept out before: the
encoding is one in which ``<!DOCTYPE`` looks the same, and a file that has it is refused.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Final
from xml.etree.ElementTree import Element, ParseError, XMLParser, XMLPullParser

from connectors.pic.iso20022.reports import DOCUMENT, STATEMENTS, Booking, Reader
from connectors.statements.lines import (
    AMOUNT_MINOR_MAX,
    CHUNK_BYTES,
    LINE_BYTES_MAX,
    Lines,
    Other,
    StatementError,
    span_of,
)
from pipeline.stages.reconciliation import Line, Says

#: Deeper than any message, an envelope included.
DEPTH_MAX: Final = 64
_DECLARED: Final = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
#: In each of them an ASCII character is its ASCII byte, and expat reads them itself.
_ENCODINGS: Final = {"utf-8": "utf-8", "us-ascii": "us-ascii", "ascii": "us-ascii", "iso-8859-1": "iso-8859-1"}
_FORBIDDEN: Final = b"<!DOCTYPE"
_MARK: Final = b"\xef\xbb\xbf"


def read(file: BinaryIO) -> Lines:
    """Lines of a camt.053 or camt.054. Raises :class:`StatementError`, also after lines were given: then none counts."""
    parser, walk = None, _Walk()
    tail, newlines = b"", 0
    while chunk := file.read(CHUNK_BYTES):
        if parser is None:
            chunk = chunk.removeprefix(_MARK)
            parser = XMLPullParser(("start", "end"), _parser=_parser(chunk))
        if b"\0" in chunk:
            # Expat takes UTF-16 by its mark, whatever it is told.
            raise StatementError(f"line {newlines + 1}", "a NUL byte: not in UTF-8, ASCII or ISO-8859-1")
        looked_at = tail + chunk
        if _FORBIDDEN in looked_at:
            line = newlines + looked_at.count(b"\n", 0, looked_at.index(_FORBIDDEN)) - tail.count(b"\n") + 1
            raise StatementError(f"line {line}", "a document type, which no statement has")
        tail, newlines = looked_at[-len(_FORBIDDEN) :], newlines + chunk.count(b"\n")
        try:
            parser.feed(chunk)
            yield from walk.take(parser, len(chunk))
        except (ParseError, ValueError) as error:
            raise _broken(error) from None
    if parser is None:
        raise StatementError("", "the file is empty")
    try:
        parser.close()
        yield from walk.take(parser, 0)
    except (ParseError, ValueError) as error:
        raise _broken(error) from None
    walk.finish()


def _parser(beginning: bytes) -> XMLParser:
    # Of what defusedxml forbids nothing is without a document type, which is refused; and it is three times as slow.
    return XMLParser(encoding=_encoding(beginning))  # noqa: S314


def _encoding(beginning: bytes) -> str:
    found = _DECLARED.match(beginning[:400])
    declared = found[1].decode().lower() if found else "utf-8"
    try:
        return _ENCODINGS[declared]
    except KeyError:
        raise StatementError("line 1", "an encoding other than UTF-8, ASCII or ISO-8859-1") from None


def _broken(error: Exception) -> StatementError:
    if isinstance(error, StatementError):
        return error
    line = error.position[0] if isinstance(error, ParseError) else 1
    return StatementError(f"line {line}", "not XML, not in its encoding, or cut off")


class _Walk:
    """Follows the elements and lets go of each entry and transfer once it is read."""

    def __init__(self) -> None:
        self._path: list[Element] = []
        self._reader: Reader | None = None
        self._names: dict[str, str] = {}
        self._iban = ""
        self._entry = 0
        #: Of the entry that is being read: how many transfers are done, and one that may turn out to be alone.
        self._done = 0
        self._first: Element | None = None
        self._bytes = 0

    def take(self, parser: XMLPullParser[Element], fed: int) -> Lines:
        """What the parser has found since the last time, after ``fed`` more bytes."""
        self._bytes += fed
        path, names = self._path, self._names
        element: Element
        for event, element in parser.read_events():  # type: ignore[assignment,misc]
            if event == "start":
                path.append(element)
                if self._reader is None:
                    self._open(element)
                if len(path) > DEPTH_MAX:
                    raise StatementError(self._where(), f"elements more than {DEPTH_MAX} deep")
                continue
            path.pop()
            name = names.get(element.tag)
            if name is None:
                continue
            if name == "TxDtls" and len(path) > 1 and names.get(path[-2].tag) == "Ntry":
                yield from self._detail(path[-2], path[-1], element)
            elif name == "Ntry" and names.get(path[-1].tag) == "Statement":
                yield from self._ended(element)
                path[-1].remove(element)
            elif name == "Acct" and names.get(path[-1].tag) == "Statement":
                assert self._reader is not None
                self._iban = self._reader.account(path[-1])
            elif name == "Statement":
                self._iban = ""
                path[-1].remove(element)
            else:
                continue
            self._bytes = 0
        if self._bytes > LINE_BYTES_MAX:
            raise StatementError(self._where(), f"more than {LINE_BYTES_MAX} bytes that are no entry")

    def finish(self) -> None:
        """The file has ended. Raises :class:`StatementError` when it was no statement."""
        if self._reader is None:
            raise StatementError("", "not a camt.053 or camt.054 in a version that is known")

    def _open(self, element: Element) -> None:
        tag = DOCUMENT.fullmatch(element.tag)
        if tag is not None and tag[3]:
            namespace = f"{{{tag[1]}}}"
            self._reader = Reader(tag[1])
            self._names.update({f"{namespace}{name}": name for name in ("Ntry", "TxDtls", "Acct")})
            self._names.update({f"{namespace}{path.split('/')[1]}": "Statement" for path in STATEMENTS})

    def _detail(self, entry: Element, details: Element, detail: Element) -> Lines:
        """One transfer; the first is kept until it is known whether it is the only one."""
        assert self._reader is not None
        if self._first is not None:
            yield self._line(self._reader.booking(entry, self._first, self._iban, alone=False))
            self._first = None
        self._done += 1
        details.remove(detail)
        if self._done == 1:
            self._first = detail
        else:
            yield self._line(self._reader.booking(entry, detail, self._iban, alone=False))

    def _ended(self, entry: Element) -> Lines:
        assert self._reader is not None
        if self._first is not None or self._done == 0:
            yield self._line(self._reader.booking(entry, self._first, self._iban, alone=True))
        self._entry += 1
        self._done, self._first = 0, None

    def _line(self, booking: Booking) -> Line | Other:
        row = self._entry + 1
        at = span_of(booking.booked_on) if booking.booked_on else None
        if booking.booked_on and at is None:
            raise StatementError(self._where(), "a booking date that is none")
        says: Says
        if booking.is_debit != booking.is_return:
            # A debit is a payment; what comes in is one that came back, if it says so.
            says = "returned" if booking.is_return else "paid"
        else:
            return Other(row, at)
        if not 0 <= booking.amount_minor <= AMOUNT_MINOR_MAX:
            raise StatementError(self._where(), "an amount that is none of its currency")
        return Line(
            row=row,
            movement="payment",
            says=says if booking.is_booked else "pending",
            amount_minor=booking.amount_minor,
            currency=booking.currency,
            keys=(("end_to_end_id", booking.end_to_end_id),) if booking.end_to_end_id else (),
            at=at,
        )

    def _where(self) -> str:
        return f"entry {self._entry + 1}"
