"""The audit sink's page: ``/live``, and ``/metrics`` behind the token, served by a thread beside the sink."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agents.pages import HEADERS, guarded_metrics, problem
from connectors.sinks.sink import Status

_COUNTS = {
    "events": "Events that became rows",
    "repeated": "Events that were rows already",
    "unreadable": "Records that became rows without content",
    "unsealed": "Events stored without a master key: what is personal in them is readable",
    "expired": "Records that expired before they were read",
    "transactions": "Transactions",
    "heads": "Heads that were signed",
}


class SinkMetrics(Collector):
    """What a sink did since it started, as Prometheus reads it: looked up in ``status`` when it asks."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """All of them; the lag once it is known."""
        for name, about in _COUNTS.items():
            yield CounterMetricFamily(f"ptr_audit_{name}", about, value=getattr(self._status, name))
        lag = GaugeMetricFamily("ptr_audit_lag_records", "Records that wait, every 10 s")
        if self._status.lag is not None:
            lag.add_metric([], self._status.lag)
        yield lag


class SinkPage:
    """Serves the metrics of a sink; ``token`` opens them."""

    def __init__(self, status: Status, token: str) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(SinkMetrics(status))
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink page", daemon=True)
        self._runner: web.AppRunner | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; gives the port. Raises :class:`OSError`; :meth:`stop` is to be called all the same."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop).result()

    def stop(self) -> None:
        """End what is being answered, and the thread."""
        if self._thread.is_alive():
            if self._runner is not None:
                asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _listen(self, host: str, port: int) -> int:
        server = web.Application(middlewares=[self._guard], client_max_size=16 * 1024)
        server.router.add_get("/live", self._live)
        server.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        taken: int = self._runner.addresses[0][1]
        return taken

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            response = await handler(request)
        except web.HTTPMethodNotAllowed as error:
            response = problem(405, "only GET here")
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        except web.HTTPNotFound:
            response = problem(404, "there is no such page: GET /live, /metrics")
        response.headers.update(HEADERS)
        return response

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _metrics(self, request: web.Request) -> web.Response:
        return guarded_metrics(request, self._token, self._registry)
