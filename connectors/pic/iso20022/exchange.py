"""The folders that a bank's file exchange reads and fills. All of the plugin's work with files, but for its ledger.

``outgoing`` has whole files only, each there once: written in ``staging``, then renamed. What a kill leaves is told apart by
the ledger's word for the file:

* ``closed``: perhaps written in part, never renamed. It is written again.
* ``staged``: whole in ``staging``; if it is not there any more it was renamed, and the bank may have taken it already.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connectors.pic.iso20022.ledger import Ledger
from connectors.pic.iso20022.reports import FILE_BYTES_MAX, ReportError, Said, read_report

_log = logging.getLogger(__name__)

#: A file that cannot be read is put aside when it has not changed for so long: it may still be arriving.
ARRIVING_S: Final = 60.0
_UNFINISHED: Final = (".tmp", ".part", ".filepart")


class LedgerLostError(RuntimeError):
    """There are files that were sent, and no ledger that knows them: nothing may be sent, for it could be sent before."""


class Exchange:
    """One folder with all that belongs to a PIC. Its methods block. Raise OSError and ``sqlite3.Error``."""

    def __init__(self, folder: Path) -> None:
        """Makes what is not there. Raises :class:`LedgerLostError`."""
        self._folder = folder
        names = ("staging", "outgoing", "incoming", "done", "refused")
        self.staging, self.outgoing, self.incoming, self.done, self.refused = (folder / name for name in names)
        if not (folder / "ledger.db").exists() and any(
            any(folder.glob(f"{name}/*.xml")) for name in ("staging", "outgoing", "done")
        ):
            raise LedgerLostError(f"{folder} has files, but no ledger.db: put it back, or name a new folder")
        for each in (self.staging, self.outgoing, self.incoming, self.done, self.refused):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.db")
        #: Files that could not be read as they are: (name, size, time).
        self._unreadable: set[tuple[str, int, int]] = set()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process works in the folder, as long as one is inside. A kill ends it."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def deliver(self, reached: Callable[[str], None] = lambda step: None) -> None:
        """Put what the ledger has closed into ``outgoing``. Only for who is alone. ``reached`` is told each step's name."""
        for number, name, content, state in self.ledger.unsent():
            staged = self.staging / name
            if state == "closed":
                _write(staged, content)
                reached("written")
                self.ledger.mark(number, "staged")
                reached("staged")
            if staged.exists():
                staged.rename(self.outgoing / name)
                reached("renamed")
            _sync(self.outgoing)
            _sync(self.staging)
            self.ledger.mark(number, "sent")
            reached("sent")

    def collect(self) -> None:
        """Take what the bank has put into ``incoming``, then put it aside. Only for who is alone."""
        for path in sorted(self.incoming.iterdir()):
            if path.is_symlink() or not path.is_file() or path.name.startswith(".") or path.suffix in _UNFINISHED:
                continue
            status = path.stat()
            seen = (path.name, status.st_size, status.st_mtime_ns)
            is_old = time.time() - status.st_mtime > ARRIVING_S
            if seen in self._unreadable and not is_old:
                continue
            try:
                said = _read(path)
            except ReportError as error:
                self._unreadable.add(seen)
                if is_old:
                    _log.error("a file of the bank is refused: %s: %s", path.name, error)
                    self._unreadable.discard(seen)
                    _put_aside(path, self.refused)
                continue
            # A kill before it is put aside: it is read again, and changes nothing.
            self.ledger.apply(said)
            _put_aside(path, self.done)


def _read(path: Path) -> list[Said]:
    with path.open("rb") as file:
        return read_report(file.read(FILE_BYTES_MAX + 1))


def _put_aside(path: Path, folder: Path) -> None:
    """Banks use names again: the earlier file stays."""
    target, number = folder / path.name, 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    path.rename(target)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
