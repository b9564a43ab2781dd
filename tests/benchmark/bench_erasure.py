"""What finding a person in the audit tables costs: ``python -m tests.benchmark.bench_erasure [--rows N] [--postgres]``.

Writes N sealed rows (five tenants, four shards each) into a new database, then finds payers of one tenant, as
`ptr privacy erase` does before it asks: by reading all rows of the tenant, and by marks, of which there are none for the first.
Processor time of this process, and the time passed.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from contextlib import ExitStack

from connectors.privacy.marks import COLUMNS
from connectors.privacy.masters import MasterKeys
from connectors.privacy.persons import Persons
from connectors.privacy.sealing import Sealer
from connectors.privacy.vault import PARTY, Vault
from connectors.sinks.database import Batch, Database
from connectors.sinks.rows import Mapper, state_of
from schemas.codec import Codec
from tests.benchmark.bench_sink import PARTITIONS, new_database, records_of, throwaway_url

MASTERS = MasterKeys([bytes(32)])
#: Payments of one transaction.
PAYMENTS = 1_000


def fill(database: Database, payments: int) -> int:
    """Write the rows of ``payments``, sealed; gives how many there are."""
    codec, rng = Codec(), random.Random(1)
    mapper, sealer = Mapper(codec, cutting=True), Sealer(Vault(database, MASTERS, create=True))
    offset = 0
    for start in range(0, payments, PAYMENTS):
        batch, before = Batch(), offset
        for number in range(start, min(start + PAYMENTS, payments)):
            rows = []
            for topic, record in records_of(number, rng):
                # A payment's rows are in several shards, as its topics have several keys.
                shard = (number + (len(rows) in (2, 3))) % PARTITIONS
                rows.append(mapper.columns(topic, shard, offset, 1_764_000_000_000 + offset, codec.encode(record)))
                offset += 1
            state = state_of(rows, mapper.record_of)
            assert state is not None
            batch.states.append(state)
            batch.events += rows
        batch.events = sealer.sealed(batch.events)
        batch.offsets["t", 0] = (before or None, offset)
        database.write(batch)
    return offset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--postgres", action="store_true", help="a throwaway PostgreSQL instead of an SQLite file")
    parser.add_argument("--persons", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        database = new_database(throwaway_url(stack, on_postgres=arguments.postgres))
        stack.callback(database.close)
        rows = fill(database, arguments.rows // 7)
        print(f"{rows:,} rows")
        for number in range(arguments.persons):
            payment = 10 * number + 1
            record = records_of(payment, random.Random(payment))[0][1]
            tenant, party = record.tenant, record.debtor_id  # type: ignore[attr-defined]
            persons = Persons(database, MASTERS, Codec(), keep=True)
            key = Vault(database, MASTERS).key_of((tenant, PARTY, party))
            assert key is not None
            sql = f"SELECT {COLUMNS} FROM payment_events e WHERE tenant = ? AND {database.holds_bytes}"
            read = timed("by reading all", lambda: len(database.query(sql, (tenant, key.key_id))))  # noqa: B023
            found = timed("by marks", lambda: persons.find(tenant, party).events)  # noqa: B023
            assert read == found
        (marks,) = database.query(
            "SELECT COUNT(*), COALESCE(SUM(LENGTH(marks)), 0) FROM privacy_marks WHERE tenant = ?", (tenant,)
        )
        print(f"{marks[0]:,} stretches with {marks[1]:,} bytes of marks")


def timed(how: str, find: Callable[[], int]) -> int:
    """What ``find`` gives; its times are printed."""
    cpu, started = time.process_time(), time.perf_counter()
    events = find()
    took_ms, cpu_ms = 1e3 * (time.perf_counter() - started), 1e3 * (time.process_time() - cpu)
    print(f"{events} events found {how} in {took_ms:,.1f} ms, {cpu_ms:,.1f} ms of this process")
    return events


if __name__ == "__main__":
    main()
