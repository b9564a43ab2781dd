"""The worker's own web pages: health, metrics, and views of table state, answered by whichever worker owns the key.

Closed by default: it listens on loopback, and everything but the two health pages needs the token (``PTR_WEB_TOKEN``);
without a token set there is nothing else. A view whose key another worker of the group owns is asked for there.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any
from urllib.parse import unquote

import aiohttp
import msgspec
from aiohttp import web
from faust.types import TP
from yarl import URL

from agents.pages import HEADERS, bearer, is_token, metrics_page, problem
from connectors.tenants.book import TenantBook
from pipeline.engine.app import PipelineApp
from pipeline.settings import Settings
from schemas.identity import ID_PATTERN, TENANT_PATTERN, partition_of
from tables.views import VIEWS, View, page, style_source

log = logging.getLogger("ptr.web")

FORWARD_TIMEOUT_S = 3.0
COOKIE = "ptr-token"
FORWARDED = "X-Ptr-Forwarded"
_STYLE_HASH = base64.b64encode(hashlib.sha256(style_source().encode()).digest()).decode()
_CSP = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = HEADERS | {"Content-Security-Policy": _CSP}


class WebServer:
    """Started with the app, before it joins its group, so that the group knows its address."""

    def __init__(self, settings: Settings, book: TenantBook) -> None:
        self._settings = settings
        self._book = book
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url: URL | None = None

    async def start(self, app: PipelineApp) -> None:
        """Listen; the address is kept in the data folder so that a restart has the same one."""
        if self._settings.web_port < 0:
            return
        self._app, self._settings = app, app.settings
        server = web.Application(middlewares=[self._guard], client_max_size=16 * 1024)
        server.router.add_get("/live", self._live)
        server.router.add_get("/ready", self._ready)
        server.router.add_get("/metrics", self._metrics)
        server.router.add_get("/tables/", self._tables)
        server.router.add_get("/tables/tenant_rules/{tenant}", self._tenant_rules)
        server.router.add_get("/tables/{table}/{key:.+}", self._row)
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        port = await self._listen(self._runner)
        self.url = URL.build(scheme="http", host=self._settings.web_host, port=port)
        app.conf.canonical_url = self.url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FORWARD_TIMEOUT_S))

    async def _listen(self, runner: web.AppRunner) -> int:
        settings, remembered = self._settings, self._settings.datadir / "web-port"
        last = int(text) if remembered.exists() and (text := remembered.read_text().strip()).isdigit() else 0
        for port in [settings.web_port] if settings.web_port else [last, 0]:
            try:
                await web.TCPSite(runner, settings.web_host, port).start()
            except OSError as error:
                if port == settings.web_port and port:
                    raise SystemExit(f"ptr worker: port {port} on {settings.web_host} is not free: {error}") from error
                continue
            taken: int = runner.addresses[0][1]
            remembered.write_text(str(taken))
            return taken
        raise SystemExit(f"ptr worker: no port to listen on at {settings.web_host}")

    async def stop(self) -> None:
        """Close."""
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- access -------------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path in ("/live", "/ready"):
            response: web.StreamResponse = await handler(request)
        elif not self._settings.web_token:
            response = problem(403, "no token is set: start the worker with PTR_WEB_TOKEN to see this")
        elif not self._authorized(request):
            response = problem(401, "give the token: 'Authorization: Bearer TOKEN', or ?token=TOKEN in a browser")
            response.headers["WWW-Authenticate"] = "Bearer"
        elif "token" in request.query:
            # The token leaves the address bar and the history.
            response = web.HTTPFound(request.url.without_query_params("token"))
            response.set_cookie(COOKIE, self._settings.web_token, httponly=True, samesite="Strict", path="/")
        else:
            try:
                response = await handler(request)
            except web.HTTPNotFound:
                response = problem(404, "there is no such page; /tables/ lists the views")
        response.headers.update(_HEADERS)
        return response

    def _authorized(self, request: web.Request) -> bool:
        given = bearer(request) or request.query.get("token") or request.cookies.get(COOKIE, "")
        return is_token(given, self._settings.web_token)

    # -- pages --------------------------------------------------------------------------------------------------------

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        app = self._app
        body = {"ready": app.is_ready, "group": self._settings.worker_group, "stages": self._settings.stages}
        return web.json_response(body, status=200 if app.is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return metrics_page()

    async def _tables(self, request: web.Request) -> web.Response:
        held = self._app.tables
        listed = [
            {
                "table": name,
                "about": view.about,
                "path": f"/tables/{name}/" + "/".join(view.parts),
                "here": name in held,
            }
            for name, view in VIEWS.items()
        ]
        about = "a tenant's configuration in force"
        listed.append({"table": "tenant_rules", "about": about, "path": "/tables/tenant_rules/tenant", "here": True})
        return _answer(request, "Tables", {"tables": listed})

    async def _tenant_rules(self, request: web.Request) -> web.Response:
        tenant = request.match_info["tenant"]
        versions = self._book.versions(tenant)
        if not versions:
            return problem(
                404, f"tenant {tenant} has no configuration" if TENANT_PATTERN.match(tenant) else "not an id"
            )
        latest = versions[-1]
        data = {
            "version": latest.number,
            "in_force_at_ms": latest.in_force_at_ms,
            "rules": msgspec.to_builtins(latest.rules),
        }
        return _answer(request, f"tenant_rules {tenant}", data)

    async def _row(self, request: web.Request) -> web.Response:
        # As it came: an id may hold an encoded slash.
        name, parts = request.match_info["table"], [unquote(part) for part in request.rel_url.raw_path.split("/")[3:]]
        view = VIEWS.get(name)
        if view is None:
            return problem(404, f"there is no table of that name; there are {', '.join(VIEWS)} and tenant_rules")
        needed = sum(not part.startswith("[") for part in view.parts)
        if not needed <= len(parts) <= len(view.parts) or not all(ID_PATTERN.match(part) for part in parts):
            return problem(400, f"the path is /tables/{name}/" + "/".join(view.parts))
        key = view.key_of(*parts)
        if name not in self._app.tables:
            return await self._ask_peers(request)
        partition = partition_of(key, self._settings.partitions)
        if TP(view.changelog, partition) in self._app.assignor.assigned_actives():
            return self._own_row(request, name, view, key, partition)
        return await self._ask_owner(request, view, partition)

    def _own_row(self, request: web.Request, name: str, view: View, key: bytes, partition: int) -> web.Response:
        app = self._app
        runner = next(
            (r for r in app.runners.values() if r.group.table is not None and r.group.table.name == name), None
        )
        if runner is None or not app.is_ready:
            return problem(503, "this worker is not ready: it is being assigned its partitions or recovers them")
        row = runner.rows(partition).peek(key)
        if row is None:
            return problem(404, f"{name} has no such row")
        return _answer(request, f"{name} {key.decode()}", {"table": name, "partition": partition, **view.show(row)})

    async def _ask_owner(self, request: web.Request, view: View, partition: int) -> web.Response:
        for url, topics in self._app.assignor.tables_metadata().items():
            if partition in topics.get(view.changelog, ()):
                return await self._forward(request, URL(str(url)))
        return problem(503, "nobody owns this partition right now: a rebalance is under way; try again")

    async def _ask_peers(self, request: web.Request) -> web.Response:
        if not self._settings.web_peers:
            stages = ", ".join(self._settings.stages)
            return problem(404, f"this worker group ({stages}) does not hold that table, and PTR_WEB_PEERS is not set")
        answer = problem(502, "no peer answered")
        for peer in self._settings.web_peers:
            answer = await self._forward(request, URL(peer))
            if answer.status == 200:
                break
        return answer

    async def _forward(self, request: web.Request, base: URL) -> web.Response:
        said = request.headers.get(FORWARDED, "0")
        hops = int(said) if said in ("0", "1", "2") else 9
        if hops >= 2 or base == self.url:
            return problem(503, "the owner of this key is changing: try again")
        assert self._session is not None
        headers = {"Authorization": f"Bearer {self._settings.web_token}", FORWARDED: str(hops + 1)}
        headers["Accept"] = request.headers.get("Accept", "application/json")
        try:
            async with self._session.get(base.join(request.rel_url), headers=headers, allow_redirects=False) as reply:
                kind = reply.headers.get("Content-Type", "application/json")
                return web.Response(body=await reply.read(), status=reply.status, headers={"Content-Type": kind})
        except (aiohttp.ClientError, TimeoutError) as error:
            return problem(502, f"the worker that owns this key does not answer ({type(error).__name__})")


def _answer(request: web.Request, title: str, data: dict[str, Any]) -> web.Response:
    if "text/html" in request.headers.get("Accept", "") and request.query.get("format") != "json":
        return web.Response(text=page(title, data), content_type="text/html")
    return web.json_response(data, dumps=lambda value: msgspec.json.encode(value).decode())
