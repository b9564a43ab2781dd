"""The plugin: a call becomes a transfer in the ledger, transfers become files, the bank's files become answers.

A payment is pending from the moment that the ledger has it. What the bank says of it is found by a look-up.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from connectors.pic.base import Abilities, Answer, Call, NotSentError, Plugin
from connectors.pic.declines import STANDARD, DeclineCode
from connectors.pic.iso20022.accounts import Accounts, AccountsError
from connectors.pic.iso20022.batching import Batching
from connectors.pic.iso20022.exchange import Exchange, LedgerLostError
from connectors.pic.iso20022.pain001 import Version
from connectors.pic.iso20022.transfers import NAME_MAX, Transfer, asked_for, latin, transfer_of
from connectors.pic.options import PicOptions, PicSettingError
from pipeline.stages.localities.value_date import ValueDates
from schemas.localities import ValueDateTerms
from schemas.money import is_currency

_log = logging.getLogger(__name__)

_VERSIONS: Final[dict[str, Version]] = {"03": "03", "09": "09"}


def make(name: str, options: PicOptions) -> Plugin:
    """The plugin of one bank. Raises :class:`~connectors.pic.options.PicSettingError`."""

    def wrong(key: str, why: str) -> PicSettingError:
        return PicSettingError(f"PIC {name}: {options.variable(key)} {why}")

    def number(key: str, default: float, low: float, high: float) -> float:
        try:
            value = float(options.setting(key, str(default)))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise wrong(key, f"must be a number from {low:g} to {high:g}")
        return value

    initiator = latin(options.setting("initiator"), NAME_MAX)
    if not initiator:
        raise wrong("initiator", "must have Latin letters")
    cut_off = options.setting("cut_off", "15:00")
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", cut_off) is None:
        raise wrong("cut_off", "must be a time as 15:00")
    try:
        dates = ValueDates(ValueDateTerms(calendar=options.setting("calendar", "t2-2026"), cut_off=cut_off, days=0))
    except ValueError as error:
        raise wrong("calendar", f"is not known: {error}") from None
    version = _VERSIONS.get(options.setting("version", "09"))
    if version is None:
        raise wrong("version", "must be 03 or 09")
    currencies = frozenset(options.setting("currencies", "EUR").split(","))
    if not all(map(is_currency, currencies)):
        raise wrong("currencies", "must be codes of ISO 4217, with commas between them")
    batching = Batching(
        initiator=initiator,
        dates=dates,
        version=version,
        transfers_max=int(number("transfers_max", 1_000, 1, 9_999)),
        wait_s=number("wait_s", 300, 0, 86_400),
    )
    poll_s = number("poll_s", 1.0, 0.01, 60)
    try:
        accounts = Accounts(Path(options.setting("accounts")))
    except AccountsError as error:
        raise wrong("accounts", f"cannot be used: {error}") from None
    try:
        exchange = Exchange(Path(options.setting("folder")))
    except (OSError, LedgerLostError) as error:
        raise wrong("folder", f"cannot be used: {error}") from None
    return Iso20022(exchange, accounts, batching, currencies=currencies, poll_s=poll_s)


class Iso20022(Plugin):
    """A bank that takes and gives files. It has no notifications: a file that anybody could post would not be believed."""

    def __init__(
        self,
        exchange: Exchange,
        accounts: Accounts,
        batching: Batching,
        *,
        currencies: frozenset[str] = frozenset({"EUR"}),
        poll_s: float = 1.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.exchange = exchange
        self._accounts = accounts
        self._batching = batching
        self._poll_s = poll_s
        self._now_s = now_s
        self._poller: asyncio.Task[None] | None = None
        self._turning = asyncio.Lock()
        self._turned_s = 0.0
        self._abilities = Abilities(
            deduplicates=True,
            looks_up=True,
            settles_later=True,
            currencies=currencies,
            methods=frozenset({"bank_account"}),
        )

    @property
    def abilities(self) -> Abilities:
        """See :class:`Plugin`."""
        return self._abilities

    async def authorize(self, call: Call) -> Answer:
        """Take the transfer into the ledger; of one that is there already say what became of it."""
        self._poll()
        return await asyncio.to_thread(self._take, call)

    async def look_up(self, call: Call) -> Answer | None:
        """What the bank's files say, those that came just now too. None: never taken, so it is in no file."""
        self._poll()
        asked_s = time.monotonic()
        async with self._turning:
            # One that began after this call came has seen what this one would see.
            if self._turned_s <= asked_s:
                self._turned_s = time.monotonic()
                await asyncio.to_thread(self.turn)
        found = await asyncio.to_thread(self.exchange.ledger.find, call.attempt_id)
        return found[1] if found is not None else None

    async def close(self) -> None:
        """What is taken and in no file yet is in the ledger: the next worker sends it."""
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
        async with self._turning:
            self.exchange.ledger.close()

    def turn(self) -> None:
        """Everything that files have to do now, unless another process is about it."""
        now_ms = int(self._now_s() * 1000)
        with self.exchange.alone() as alone:
            if not alone:
                return
            at = f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%d%H%M%S}"
            while self.exchange.ledger.close_batch(
                lambda waiting: self._batching.choose(waiting, now_ms),
                lambda message_id, chosen: self._batching.write(message_id, chosen, now_ms),
                at,
            ):
                pass
            self.exchange.deliver()
            self.exchange.collect()

    def _take(self, call: Call) -> Answer:
        asked = asked_for(call)
        ledger = self.exchange.ledger
        found = ledger.find(call.attempt_id)
        if found is None:
            transfer = self._transfer(call)
            if isinstance(transfer, Answer):
                return transfer
            ledger.add(call.attempt_id, asked, transfer, int(self._now_s() * 1000))
            found = ledger.find(call.attempt_id)
            assert found is not None
        if found[0] != asked:
            return STANDARD[DeclineCode.DUPLICATE].answer()
        return found[1]

    def _transfer(self, call: Call) -> Transfer | Answer:
        if not self._batching.dates.of(int(self._now_s() * 1000)):
            raise NotSentError("the calendar does not know today")
        try:
            debtor, creditor = self._accounts.of(call.tenant, call.token, call.ptr().creditor.id)
        except AccountsError as error:
            _log.error("%s", error)
            raise NotSentError("no accounts") from None
        return transfer_of(call, debtor, creditor)

    def _poll(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._turn_for_ever())

    async def _turn_for_ever(self) -> None:
        """Files are made and read while nobody calls, too. What goes wrong is tried again at the next turn."""
        while True:
            await asyncio.sleep(self._poll_s)
            async with self._turning:
                self._turned_s = time.monotonic()
                try:
                    await asyncio.to_thread(self.turn)
                except Exception as error:
                    _log.error("the bank's folder cannot be worked in: %s", type(error).__name__)
