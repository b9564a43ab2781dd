"""What proofs cost in a large log: ``python -m tests.benchmark.bench_proofs [--rows N] [--postgres]``.

Writes N rows (five tenants, four shards each) into a new database, signs heads as the sink does, then times the proof of single
payments, their check, and the check of the whole database; processor time of this process, and the time passed.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from contextlib import ExitStack

import msgspec

from connectors.proofs.keys import Signer
from connectors.proofs.verifier import verify_bundle
from connectors.sinks.database import Batch, Database, open_database
from connectors.sinks.proving import bundle_of
from connectors.sinks.rows import Columns, Mapper, state_of
from connectors.sinks.signing import HeadSigner
from connectors.sinks.verifying import verify_database
from schemas.codec import Codec
from tests.benchmark.bench_sink import PARTITIONS, new_database, records_of, throwaway_url

SIGNER = Signer("bench.example.com", bytes(32))
#: Payments of one transaction.
PAYMENTS = 1_000
PROOFS = 200


def fill(database: Database, payments: int) -> list[tuple[str, str]]:
    """Write the rows; gives the payments' ids."""
    codec, rng = Codec(), random.Random(1)
    mapper, signing = Mapper(codec), HeadSigner(SIGNER, 5, None, None)
    ids, offset = list[tuple[str, str]](), 0
    for start in range(0, payments, PAYMENTS):
        batch = Batch()
        for number in range(start, min(start + PAYMENTS, payments)):
            rows: list[Columns] = []
            for topic, record in records_of(number, rng):
                # A payment's rows are in several shards, as its topics have several keys.
                shard = (number + (len(rows) in (2, 3))) % PARTITIONS
                rows.append(mapper.columns(topic, shard, offset, 1_764_000_000_000 + offset, codec.encode(record)))
                offset += 1
            batch.events += rows
            state = state_of(rows, mapper.record_of)
            assert state is not None
            batch.states.append(state)
            ids.append(rows[0][:2])
        batch.offsets["t", 0] = (offset - len(batch.events) or None, offset)
        database.write(batch)
        signing.sign(database)
    signing.sign(database, now=True)
    return ids


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true", help="a throwaway PostgreSQL instead of an SQLite file")
    arguments = parser.parse_args()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    with ExitStack() as stack:
        url = throwaway_url(stack, on_postgres=arguments.postgres)
        database = new_database(url)
        stack.callback(database.close)
        ids = fill(database, arguments.rows // 7)
        reader = open_database(url)
        stack.callback(reader.close)
        rng = random.Random(2)
        proving, checking = list[tuple[float, float]](), list[float]()
        for tenant, payment_id in rng.sample(ids, PROOFS):
            cpu, passed = time.process_time(), time.perf_counter()
            bundle = bundle_of(reader, tenant, payment_id)
            proving.append((time.process_time() - cpu, time.perf_counter() - passed))
            cpu = time.process_time()
            text = msgspec.json.encode(bundle)
            verify_bundle(text, SIGNER.public)
            checking.append(time.process_time() - cpu)
        for name, times in (
            ("proving a payment, CPU", [one[0] for one in proving]),
            ("proving a payment, wall", [one[1] for one in proving]),
            ("checking its bundle with the single file, CPU", checking),
        ):
            in_order = sorted(times)
            worst = in_order[int(0.99 * len(in_order))]
            print(f"{name:46s} median {statistics.median(times) * 1e3:6.2f} ms, p99 {worst * 1e3:6.2f} ms", flush=True)
        heads = sorted(SIGNER.public.open(note) for (note,) in reader.query("SELECT note FROM audit_heads"))
        cpu, passed = time.process_time(), time.perf_counter()
        state = verify_database(reader, heads)
        cpu, passed = time.process_time() - cpu, time.perf_counter() - passed
        assert not state.findings
        print(f"checking {state.rows:,} rows in {state.trees} trees: CPU {cpu:.1f} s, wall {passed:.1f} s")


if __name__ == "__main__":
    main()
