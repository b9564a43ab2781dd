"""A bank that exchanges files: what stands for the PIC of :mod:`connectors.pic.iso20022`.

It takes pain.001 files away, does what the token of each transfer says, and writes pain.002, camt.053 and camt.054. Its
messages are written as text after the message definitions, not with the plugin's own code.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

import msgspec
from defusedxml.ElementTree import fromstring

from connectors.pic.base import Call
from connectors.pic.conformance.stand import LATE_S, SLOW_S, Behaviour, Effect, Stand
from connectors.pic.declines import DeclineCode
from connectors.pic.iso20022.transfers import end_to_end_id
from schemas.codec import encode_request
from schemas.money import minor_units
from schemas.records import Instrument, Locality, Party, PaymentRequested

#: What the bank writes for each decline that the protocol can express.
CODES: Final[Mapping[DeclineCode, str]] = {
    DeclineCode.INSUFFICIENT_FUNDS: "AM04",
    DeclineCode.DO_NOT_HONOR: "MS03",
    DeclineCode.INVALID_ACCOUNT: "AC01",
    DeclineCode.CLOSED_ACCOUNT: "AC04",
    DeclineCode.LIMIT_EXCEEDED: "AM02",
    DeclineCode.SUSPECTED_FRAUD: "FRAD",
    DeclineCode.NOT_PERMITTED: "AG01",
    DeclineCode.ISSUER_UNAVAILABLE: "AB06",
    DeclineCode.INVALID_REQUEST: "FF01",
    DeclineCode.TRY_AGAIN_LATER: "TM01",
}
_BEHAVIOURS: Final = (
    Behaviour.APPROVE,
    Behaviour.SLOW,
    Behaviour.LATE,
    Behaviour.LOST,
    Behaviour.GARBAGE,
    Behaviour.PROCESSING,
)
#: From the IBAN registry's own examples.
DEBTOR: Final = {"iban": "DE89370400440532013000", "bic": "COBADEFFXXX"}
CREDITOR: Final = {"iban": "FR1420041010050500013M02606"}
CREDITOR_ID: Final = "creditor-1"
#: How long :meth:`Iso20022Stand.settle` waits for files that are under way.
_SETTLE_S: Final = 10.0
_TICK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Heard:
    """One transfer as the bank read it."""

    end_to_end_id: str
    message_id: str
    payment_id: str
    iban: str
    amount: str
    currency: str

    @property
    def effect(self) -> Effect:
        """What moves when it is booked."""
        return Effect("payment", int(Decimal(self.amount).scaleb(minor_units(self.currency))), self.currency)


class Iso20022Stand(Stand):
    """The bank. It books a transfer as often as it reads it."""

    offers = frozenset(_BEHAVIOURS) | frozenset(CODES)

    def __init__(self) -> None:
        self._wanted: dict[str, Behaviour | DeclineCode] = {}
        self._booked: dict[str, list[Effect]] = {}
        self._later: list[Heard] = []
        self._numbers = itertools.count(1)
        self._requests = 0

    # -- the kit's side --

    @property
    def settings(self) -> Mapping[str, str]:
        """See :class:`Stand`."""
        return {
            "folder": str(self.folder),
            "accounts": str(self.folder.parent / "accounts.json"),
            "initiator": "Conformance Kit",
            "wait_s": "0",
            "poll_s": "0.01",
        }

    async def start(self) -> None:
        """See :class:`Stand`."""
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name) / "bank"
        tokens = {self.token(wanted): DEBTOR for wanted in self.offers}
        accounts = {"conformance": {"debtors": tokens, "creditors": {CREDITOR_ID: CREDITOR}}}
        (self.folder.parent / "accounts.json").write_text(json.dumps(accounts))

    async def stop(self) -> None:
        """See :class:`Stand`."""
        self._temporary.cleanup()

    def token(self, wanted: Behaviour | DeclineCode) -> str:
        """See :class:`Stand`."""
        return f"tok-{wanted}"

    def prepare(self, call: Call) -> Call:
        """With the PTR, which names the creditor. A transfer has no room for a token: its EndToEndId says how it is to go."""
        wanted = call.token.removeprefix("tok-")
        known: list[Behaviour | DeclineCode] = sorted(self.offers)
        self._wanted[end_to_end_id(call.attempt_id)] = next(
            (each for each in known if each == wanted), Behaviour.APPROVE
        )
        request = PaymentRequested(
            tenant=call.tenant,
            payment_id=call.payment_id,
            amount_minor=call.amount_minor,
            currency=call.currency,
            debtor=Party(id="debtor-1", name="Zoë & Søn GmbH", country="DE"),
            creditor=Party(id=CREDITOR_ID, name="Łukasz Müller", country="FR"),
            instrument=Instrument(kind=call.method, token=call.token),
            locality=Locality(country="DE"),
            order_reference="RF18539007547034",
            requested_at_ms=1_760_000_000_000,
        )
        return msgspec.structs.replace(call, request=encode_request(request))

    def effects(self, attempt_id: str) -> Sequence[Effect]:
        """See :class:`Stand`."""
        return self._booked.get(end_to_end_id(attempt_id), [])

    def requests(self) -> int:
        """See :class:`Stand`. Transfers that came."""
        return self._requests

    async def settle(self) -> None:
        """The plugin's files come out, the bank takes them and writes its own. What is undecided it decides the next time."""
        for _ in range(round(_SETTLE_S / _TICK_S)):
            if not self._under_way():
                break
            await asyncio.sleep(_TICK_S)
        decided, self._later = self._later, []
        self._book(decided)
        for path in sorted((self.folder / "outgoing").glob("*.xml")):
            heard = list(_read(path.read_bytes()))
            path.unlink()
            self._requests += len(heard)
            await self._serve(heard)

    # -- the bank's side --

    def _under_way(self) -> bool:
        """Whether the plugin has taken what is not in the bank's folder yet: its own ledger says so."""
        with closing(sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True, timeout=60)) as ledger:
            ((waiting,),) = ledger.execute("SELECT count(*) FROM transfers WHERE file IS NULL")
            ((unsent,),) = ledger.execute("SELECT count(*) FROM files WHERE state != 'sent'")
        return bool(waiting or unsent)

    async def _serve(self, heard: Sequence[Heard]) -> None:
        accepted: list[Heard] = []
        wanted = {self._wanted.get(each.end_to_end_id, Behaviour.APPROVE) for each in heard}
        await asyncio.sleep(LATE_S if Behaviour.LATE in wanted else SLOW_S if Behaviour.SLOW in wanted else 0)
        for each in heard:
            how = self._wanted.get(each.end_to_end_id, Behaviour.APPROVE)
            if isinstance(how, DeclineCode):
                self.write("pain.002", status(each, "RJCT", CODES[how]))
                continue
            if how == Behaviour.GARBAGE:
                self.write("pain.002", status(each, "ACSC")[:-40] + "\x00")
            elif how != Behaviour.LOST:
                self.write("pain.002", status(each, "ACSP"))
            (self._later if how == Behaviour.PROCESSING else accepted).append(each)
        self._book(accepted)

    def _book(self, accepted: Sequence[Heard]) -> None:
        for each in accepted:
            self._booked.setdefault(each.end_to_end_id, []).append(each.effect)
        if accepted:
            self.write("camt.053", statement(accepted))
            self.write("camt.054", statement(accepted, "camt.054"))

    def write(self, kind: str, text: str) -> None:
        """Put a file into the plugin's folder as banks do: whole, under a name that sorts."""
        path = self.folder / "incoming" / f"{next(self._numbers):06d}.{kind}.xml"
        path.with_suffix(".tmp").write_text(text)
        path.with_suffix(".tmp").rename(path)


def _read(body: bytes) -> Iterable[Heard]:
    root: Element = fromstring(body, forbid_dtd=True)
    message_id = root.findtext(".//{*}GrpHdr/{*}MsgId") or ""
    for payment in root.iterfind(".//{*}PmtInf"):
        for transfer in payment.iterfind("{*}CdtTrfTxInf"):
            amount = transfer.find("{*}Amt/{*}InstdAmt")
            assert amount is not None
            yield Heard(
                transfer.findtext("{*}PmtId/{*}EndToEndId") or "",
                message_id,
                payment.findtext("{*}PmtInfId") or "",
                payment.findtext("{*}DbtrAcct/{*}Id/{*}IBAN") or "",
                amount.text or "",
                amount.get("Ccy", ""),
            )


def status(heard: Heard, word: str, code: str = "") -> str:
    """A pain.002 (2019) about one transfer."""
    why = f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn></StsRsnInf>" if code else ""
    return _document(
        "pain.002.001.10",
        f"""<CstmrPmtStsRpt>
<GrpHdr><MsgId>{heard.end_to_end_id}</MsgId><CreDtTm>2026-11-27T15:00:00Z</CreDtTm></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>{heard.message_id}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId></OrgnlGrpInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>{heard.payment_id}</OrgnlPmtInfId>
<TxInfAndSts><OrgnlEndToEndId>{heard.end_to_end_id}</OrgnlEndToEndId><TxSts>{word}</TxSts>{why}
<OrgnlTxRef><Amt><InstdAmt Ccy="{heard.currency}">{heard.amount}</InstdAmt></Amt></OrgnlTxRef></TxInfAndSts>
</OrgnlPmtInfAndSts></CstmrPmtStsRpt>""",
    )


def statement(heard: Sequence[Heard], kind: str = "camt.053", status: str = "BOOK", indicator: str = "DBIT") -> str:
    """A camt.053 or camt.054 (2019) with an entry for each transfer, all of one account."""
    outer, inner = ("BkToCstmrStmt", "Stmt") if kind == "camt.053" else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    entries = "".join(
        f"""<Ntry><Amt Ccy="{each.currency}">{each.amount}</Amt><CdtDbtInd>{indicator}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts>
<BookgDt><Dt>2026-11-27</Dt></BookgDt><BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>
<NtryDtls><TxDtls><Refs><EndToEndId>{each.end_to_end_id}</EndToEndId></Refs>
<Amt Ccy="{each.currency}">{each.amount}</Amt><CdtDbtInd>{indicator}</CdtDbtInd></TxDtls></NtryDtls></Ntry>"""
        for each in heard
    )
    return _document(
        f"{kind}.001.08",
        f"""<{outer}><GrpHdr><MsgId>S1</MsgId><CreDtTm>2026-11-27T18:00:00Z</CreDtTm></GrpHdr>
<{inner}><Id>S1</Id><Acct><Id><IBAN>{heard[0].iban}</IBAN></Id></Acct>{entries}</{inner}></{outer}>""",
    )


def _document(kind: str, body: str) -> str:
    return re.sub(r"\n", "", f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:{kind}">{body}</Document>')
