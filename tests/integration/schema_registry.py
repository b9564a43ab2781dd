"""A schema registry for tests: a small server that answers the two requests as Confluent documents them (Schema Registry API
reference, "Subjects" and "Schemas": POST /subjects/{subject}/versions gives an id, the same one for the same schema; GET
/schemas/ids/{id} gives the schema, or 404 with error code 40403). A whole registry (Apicurio is 300 MB) is too heavy for
tests that are run often.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

TYPE = "application/vnd.schemaregistry.v1+json"
Schemas = list[str]


@dataclass
class Server:
    """A registry in a thread of its own."""

    schemas: Schemas = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    #: Answer this status to everything; 0 answers properly.
    failing: int = 0
    url: str = ""

    async def register(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.failing:
            return web.Response(status=self.failing)
        assert request.content_type == TYPE
        body = await request.json()
        assert body["schemaType"] == "AVRO"
        text = json.dumps(json.loads(body["schema"]))
        if text not in self.schemas:
            self.schemas.append(text)
        number = self.schemas.index(text) + 100_000
        self.subjects.setdefault(request.match_info["subject"], []).append(number)
        return web.json_response({"id": number}, content_type=TYPE)

    async def look_up(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.failing:
            return web.Response(status=self.failing)
        at = int(request.match_info["id"]) - 100_000
        if not 0 <= at < len(self.schemas):
            body = {"error_code": 40403, "message": "Schema not found"}
            return web.json_response(body, status=404, content_type=TYPE)
        return web.json_response({"schema": self.schemas[at]}, content_type=TYPE)

    def _note(self, request: web.Request) -> None:
        self.requests.append((request.method, request.path, request.headers.get("Authorization", "")))


@pytest.fixture
def registry() -> Iterator[Server]:
    """Started on a free port, and ended with the test."""
    server, loop, listens = Server(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/api/subjects/{subject}/versions", server.register)
        app.router.add_get("/api/schemas/ids/{id}", server.look_up)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        server.url = f"http://127.0.0.1:{port}/api/"
        listens.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert listens.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
