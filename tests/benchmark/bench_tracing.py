"""What spans cost the audit sink: ``python -m tests.benchmark.bench_tracing [--payments N] [--rate PAYMENTS/S] [--rounds N]``.

Writes the rows of paid payments into new SQLite files at a rate, as the sink does, in turns without a collector and with one
at the default sampling (a process of its own that takes all). Prints this process's processor time a payment, its threads' too,
the least and the median; and the difference as a share of what the whole pipeline takes for one (``--of``, microseconds).
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from connectors.sinks.database import Batch
from connectors.tracing import is_configured
from connectors.tracing.exporter import OtlpExporter
from connectors.tracing.sampling import Sampling
from connectors.tracing.tracer import Tracer
from pipeline.settings import load
from schemas.codec import Codec
from tests.benchmark.bench_sink import BATCH_ROWS_MAX, batches, messages, new_database

#: Rows of a payment.
ROWS = 7


class _Taker(BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def collect(told: Connection) -> None:
    """Serve until killed; tells the port."""
    server = HTTPServer(("127.0.0.1", 0), _Taker)
    told.send(server.server_port)
    server.serve_forever()


def run(url: str, ready: list[Batch], batch_s: float) -> tuple[float, int]:
    """Write a batch each ``batch_s``; gives the processor time, and how many payments were sampled."""
    settings = load()
    with closing(new_database(url)) as database:
        cpu_s = time.process_time()
        tracer = None
        if is_configured(os.environ):
            sampling = Sampling(share=settings.trace_share, slow_ms=int(settings.trace_slow_s * 1000))
            tracer = Tracer(url, OtlpExporter(), sampling)
        due_s = time.monotonic()
        for batch in ready:
            began_s = time.perf_counter()
            database.write(batch)
            if tracer is not None:
                tracer.written(batch, time.perf_counter() - began_s)
            due_s += batch_s
            time.sleep(max(due_s - time.monotonic(), 0))
        if tracer is None:
            return time.process_time() - cpu_s, 0
        tracer.close()
        assert tracer.counts.lost == 0, tracer.counts
        return time.process_time() - cpu_s, tracer.counts.sampled


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=10_000)
    parser.add_argument(
        "--rate", type=int, default=2_000, help="payments a second: with more, fewer of them are sampled"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--of", type=float, default=1_000.0, help="what the pipeline takes for a payment, microseconds")
    arguments = parser.parse_args()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # as `ptr audit-sink` does
    codec = Codec()
    ready = list(batches(messages(arguments.payments, codec), codec))
    here, there = multiprocessing.Pipe()
    collector = multiprocessing.Process(target=collect, args=(there,), daemon=True)
    collector.start()
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{here.recv()}"}
    found: dict[str, list[float]] = {"without": [], "with": []}
    sampled = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, environment in (("without", {}), ("with", endpoint)):
                os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
                os.environ.update(environment)
                url = f"sqlite:///{Path(folder) / f'{name}{number}.db'}"
                cpu_s, chosen = run(url, ready, BATCH_ROWS_MAX / ROWS / arguments.rate)
                found[name].append(cpu_s / arguments.payments * 1e6)
                sampled += chosen
    collector.kill()
    least, median = ({name: sorted(times)[at] for name, times in found.items()} for at in (0, arguments.rounds // 2))
    print(f"{arguments.payments:,} payments a round, {sampled / arguments.rounds:.0f} of them sampled")
    for name in found:
        print(f"{name:8s} a collector: least {least[name]:6.1f}, median {median[name]:6.1f} us of CPU a payment")
    for name, these in (("least", least), ("median", median)):
        more = these["with"] - these["without"]
        print(f"{name:8s} {more:6.1f} us more: {more / arguments.of:.2%} of {arguments.of:.0f} us a payment")


if __name__ == "__main__":
    main()
