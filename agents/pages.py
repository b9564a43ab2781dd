"""What all HTTP servers of the pipeline share: headers, errors as JSON, the token, metrics."""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

#: On every answer; a page with something to show allows that in its ``Content-Security-Policy``.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def problem(status: int, message: str) -> web.Response:
    """An error that says what and why; no secret, nothing of the request."""
    return web.json_response({"error": message}, status=status)


def bearer(request: web.Request) -> str:
    """The token of the ``Authorization`` header, empty when there is none."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return given if kind == "Bearer" else ""


def is_token(given: str, token: str) -> bool:
    """Whether it is the right one, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())


def metrics_page(registry: CollectorRegistry = REGISTRY) -> web.Response:
    """Metrics as Prometheus reads them."""
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def guarded_metrics(request: web.Request, token: str, registry: CollectorRegistry = REGISTRY) -> web.Response:
    """Metrics for whoever has the token; nobody where none is set."""
    if not token:
        return problem(403, "no token is set: start with PTR_WEB_TOKEN to see this")
    if not is_token(bearer(request), token):
        response = problem(401, "give the token: 'Authorization: Bearer TOKEN'")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    return metrics_page(registry)
