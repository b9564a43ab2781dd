"""What workers tell of their calls to PICs, on their metrics pages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 3.0
#: A page of metrics is some dozen KB.
PAGE_BYTES_MAX: Final = 4 << 20
#: What the numbers of ``ptr_pic_breaker_state`` mean.
STATES: Final = {0.0: "closed", 1.0: "half open", 2.0: "open"}


@dataclass(slots=True)
class Calls:
    """Of one PIC, over all workers that were asked: calls in flight, and how many workers have their breaker in each state."""

    in_flight: int = 0
    breakers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Told:
    """By PIC, what workers told; and why some did not, a sentence each."""

    calls: Mapping[str, Calls]
    troubles: Sequence[str]


def calls_of(pages: Iterable[str]) -> dict[str, Calls]:
    """What pages of metrics tell, by PIC. Pure. Raises :class:`ValueError` for what is no such page."""
    found: dict[str, Calls] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            if family.name not in ("ptr_pic_in_flight", "ptr_pic_breaker_state"):
                continue
            for sample in family.samples:
                calls = found.setdefault(sample.labels["pic"], Calls())
                if family.name == "ptr_pic_in_flight":
                    calls.in_flight += int(sample.value)
                else:
                    calls.breakers[STATES.get(sample.value, "?")] += 1
    return found


def ask(urls: Sequence[str], token: str) -> Told:
    """Ask the worker at each base address (``http://HOST:PORT``), all at once."""
    if not urls:
        return Told({}, ["in flight and breaker are told by workers: name them with --worker or PTR_WEB_PEERS"])
    if not token:
        return Told({}, ["in flight and breaker are told by workers: give their token in PTR_WEB_TOKEN"])
    pages, troubles = [], []
    for url, (page, trouble) in zip(urls, asyncio.run(_ask_all(urls, token)), strict=True):
        if trouble:
            troubles.append(f"the worker at {url} {trouble}")
            continue
        try:
            calls_of([page])
        except ValueError:
            troubles.append(f"what answers at {url} is no worker")
        else:
            pages.append(page)
    return Told(calls_of(pages), troubles)


async def _ask_all(urls: Sequence[str], token: str) -> list[tuple[str, str]]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        return await asyncio.gather(*[_ask(session, url) for url in urls])


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[str, str]:
    """A page, or what is wrong."""
    try:
        # No redirects: they would take the token elsewhere.
        async with session.get(f"{url.rstrip('/')}/metrics", allow_redirects=False) as reply:
            if reply.status in (401, 403):
                return "", "does not take the token: PTR_WEB_TOKEN is not the one it was started with"
            if reply.status != 200:
                return "", f"answers with status {reply.status}"
            body = await reply.content.read(PAGE_BYTES_MAX)
            while not reply.content.at_eof() and len(body) < PAGE_BYTES_MAX:
                body += await reply.content.read(PAGE_BYTES_MAX - len(body))
            return body.decode(errors="replace"), ""
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return "", f"does not answer ({type(error).__name__}): is its address http://HOST:PORT?"
