"""Health of one container, for HEALTHCHECK: exit code 0 when it does its work, 1 with a line that says why not.

``health.py worker`` asks the worker's page ``/live``. ``health.py audit-sink`` asks PostgreSQL whether the sink holds its
lock, which it does from its start to its end.
"""

from __future__ import annotations

import sys
import urllib.request

from pipeline.settings import SettingsError, load

TIMEOUT_S = 4

#: An advisory lock by one 64-bit key is two 32-bit halves and objsubid 1 (PostgreSQL, "pg_locks").
HOLDERS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
    " AND objsubid = 1 AND classid::bigint = ? AND objid::bigint = ?"
)


def worker() -> str:
    """Empty when the worker's event loop answers."""
    settings = load()
    url = f"http://{settings.web_host}:{settings.web_port}/live"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
            return "" if reply.status == 200 else f"{url} answers {reply.status}"
    except OSError as error:
        return f"{url} does not answer: {error}"


def audit_sink() -> str:
    """Empty when a sink is connected to the audit database and holds its lock."""
    # Here, so that a worker's check, every ten seconds, loads nothing that it does not need.
    from connectors.sinks.database import DatabaseError, open_database
    from connectors.sinks.postgres import LOCK_KEY

    try:
        database = open_database(load().database)
        try:
            held = database.query(HOLDERS, (LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF))[0][0]
        finally:
            database.close()
    except DatabaseError as error:
        return str(error)
    return "" if held else f"no sink holds the lock of {database.shown}"


CHECKS = {"worker": worker, "audit-sink": audit_sink}


def main() -> int:
    """Run the check that the first argument names."""
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        print(f"usage: health.py {'|'.join(CHECKS)}", file=sys.stderr)
        return 2
    try:
        trouble = CHECKS[sys.argv[1]]()
    except SettingsError as error:
        trouble = str(error)
    if trouble:
        print(trouble, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
