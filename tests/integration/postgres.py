"""A throwaway PostgreSQL for tests: its own folder, a free port on loopback, a password; gone when the test ends."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 60


def _binaries() -> Path | None:
    """The folder of the newest server's programs, None when there is none."""
    if (found := shutil.which("initdb")) and shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(folders, key=lambda path: int(path.parent.name), default=None)


def available() -> str:
    """Empty, or why no PostgreSQL can be started here."""
    if _binaries() is None:
        return "no PostgreSQL server programs (initdb, pg_ctl): install your system's postgresql package"
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return "PostgreSQL does not run as root, and there is no setpriv to become the user postgres"
        if subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode:
            return "PostgreSQL does not run as root, and there is no user postgres to become"
    return ""


class Postgres:
    """A server; :meth:`stop` and :meth:`start` it as often as you like, its data stay."""

    def __init__(self, folder: Path) -> None:
        binaries = _binaries()
        assert binaries is not None
        self._binaries = binaries
        self._folder = folder
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--reset-env"]
            shutil.chown(folder, "postgres", "postgres")
        self.port = _free_port()
        self.password = secrets.token_hex(8)
        password_file = folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(password_file, "postgres", "postgres")
        options = f"-U postgres -A scram-sha-256 --pwfile={password_file} --no-sync -E UTF8 --locale=C.UTF-8"
        self._run("initdb", "-D", str(folder / "data"), *options.split())

    @property
    def url(self) -> str:
        """URL of the database, with the password."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def process_id(self) -> int:
        """Of the running server's first process, whose children do the work."""
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        self._run(
            "pg_ctl", "-D", str(self._folder / "data"), "-w", "-l", str(self._folder / "log"), "-o", options, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends sessions, ``immediate`` is a crash. Does nothing when it is not running."""
        if (self._folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._binaries / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server inherits it, and would be waited for.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            log = self._folder / "log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} ended with {done.returncode}\n{said}")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; raises :class:`RuntimeError` when it does not start. Check :func:`available` first."""
    folder = Path(tempfile.mkdtemp(prefix="ptr-postgres-"))
    server = None
    try:
        server = Postgres(folder)
        server.start()
        yield server
    finally:
        try:
            if server is not None:
                server.stop("immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
