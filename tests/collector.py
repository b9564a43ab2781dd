"""A collector of spans for tests: takes OTLP over HTTP on the loopback interface, and decodes it by OpenTelemetry's schema."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collector:
    """What came."""

    url: str = ""
    #: What is answered.
    status: int = 200
    paths: list[str] = field(default_factory=list)
    #: Spans of OpenTelemetry's protocol.
    spans: list[Any] = field(default_factory=list)
    #: Attributes of the resources that they came with.
    resource: dict[str, Any] = field(default_factory=dict)
    raw: bytes = b""

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        self.paths.append(path)
        self.raw += body
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.resource |= attributes_of(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans


def attributes_of(of: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def a_collector() -> Iterator[Collector]:
    """Listens on a free port."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if found.status == 200:
                found.take(self.path, body)
            self.send_response(found.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
