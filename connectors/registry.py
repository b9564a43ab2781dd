"""A Confluent-compatible schema registry, for the codec.

Two requests of its REST API, each made once per schema: confluent-kafka's own client brings an HTTP stack, an OAuth library
and a certificate bundle for them.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from schemas.codec import Registry

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 20


class RegistryError(ConnectionError):
    """The schema registry does not answer, or not as it should."""


class ConfluentRegistry:
    """Registers and looks up schemas (:class:`schemas.codec.Registry`). User and password may be part of the address."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "PTR_SCHEMA_REGISTRY_URL takes http://HOST:PORT or https://HOST:PORT, with a path if need be"
            )
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/json", "Content-Type": "application/vnd.schemaregistry.v1+json"}
        if parts.username:
            pair = f"{parts.username}:{parts.password or ''}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        self._timeout_s = timeout_s

    def id_of(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject``, or find it there. Raises :class:`RegistryError`."""
        body = json.dumps({"schema": schema, "schemaType": "AVRO"}).encode()
        return int(self._ask(f"/subjects/{quote(subject, safe='')}/versions", body)["id"])

    def schema_of(self, schema_id: int) -> str:
        """The schema with this id. Raises LookupError when the registry has none, :class:`RegistryError` otherwise."""
        return str(self._ask(f"/schemas/ids/{schema_id}")["schema"])

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self._base + path, data=body, headers=self._headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.loads(answer.read(ANSWER_BYTES_MAX))
        except urllib.error.HTTPError as error:
            if error.code == 404 and body is None:
                raise LookupError(path) from None
            raise RegistryError(f"{self._base}{path} answers {error.code}") from None
        except (OSError, ValueError) as error:
            raise RegistryError(f"{self._base}{path} does not answer: {type(error).__name__}") from None


def open_registry(url: str) -> Registry | None:
    """The registry at ``url``; None when there is none."""
    return ConfluentRegistry(url) if url else None
