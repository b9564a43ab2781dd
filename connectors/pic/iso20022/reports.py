"""What a bank's file tells: pain.002, camt.053 and camt.054 as words about transfers. Pure; believes nothing it does not know.

Structure is read by ISO 20022's message definitions; from the editions of 2009 on the elements read here are the same, but for
an entry's status, which is a choice since camt.053.001.08.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, Literal
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from schemas.money import MINOR_UNITS

#: A day's statement of a hundred thousand entries is half of that.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024

#: The document element of what is read here: its namespace, and which of pain.002 and camt it is.
DOCUMENT: Final = re.compile(
    r"\{(urn:iso:std:iso:20022:tech:xsd:"
    r"(?:(pain\.002)\.001\.(?:0[3-9]|1[0-4])|(camt\.05[34])\.001\.(?:0[2-9]|1[0-3])))\}Document"
)
_AMOUNT: Final = re.compile(r"\d{1,18}(\.\d{0,17})?", re.ASCII)
#: The debtor's bank has booked the transfer; the creditor's bank has.
_SETTLED: Final = frozenset({"ACSC", "ACCC"})
#: Where statements are in a document.
STATEMENTS: Final = ("BkToCstmrStmt/Stmt", "BkToCstmrDbtCdtNtfctn/Ntfctn")


class ReportError(ValueError):
    """The file is none of these messages, or not whole. The text says what kind of mistake it is, and nothing of the file."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer of an entry in a camt.053 or camt.054, whatever became of it."""

    #: Empty where the entry names no transfer, as one that is only a sum.
    end_to_end_id: str = ""
    iban: str = ""
    #: Whether the bank has booked it; it may only announce it.
    is_booked: bool
    #: Whether the account was charged.
    is_debit: bool
    #: Whether it takes an earlier booking back: a reversal, or a return.
    is_return: bool
    #: ``-1`` when it has none, or none of the currency.
    amount_minor: int
    currency: str = ""
    #: When it was booked, ISO 8601, as the bank writes it; empty when it does not say.
    booked_on: str = ""

    @property
    def pays(self) -> bool:
        """Whether it is a payment of ours that was made."""
        return self.is_booked and self.is_debit and not self.is_return


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of one transfer, or of all transfers of a file or payment of ours. Empty: it does not say."""

    outcome: Literal["succeeded", "declined", "pending"]
    end_to_end_id: str = ""
    #: Of a rejection: the bank's code.
    code: str = ""
    message_id: str = ""
    payment_id: str = ""
    #: The account that was charged.
    iban: str = ""
    #: None when it does not say; ``-1`` when it is no amount of the currency.
    amount_minor: int | None = None
    currency: str = ""


def read_report(body: bytes) -> list[Said]:
    """Everything that ``body`` tells of transfers, the ones that are named before whole payments and files.

    Of a transfer that a file calls settled and rejected both, nothing is told. Raises :class:`ReportError`; a file that is cut
    off, has a document type or is of another kind tells nothing at all.
    """
    if len(body) > FILE_BYTES_MAX:
        raise ReportError("too large")
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except DefusedXmlException:
        raise ReportError("has a document type or entities") from None
    except (ParseError, ValueError, LookupError):
        raise ReportError("not XML, or cut off") from None
    # The root itself, or beside a business header in an envelope.
    found = [(element, tag) for element in (root, *root) if (tag := DOCUMENT.fullmatch(element.tag))]
    if len(found) != 1:
        raise ReportError("not one pain.002, camt.053 or camt.054 in a version that is known")
    document, tag = found[0]
    reader = Reader(tag[1])
    return _agreed(list(reader.status(document) if tag[2] else reader.booked(document)))


def _agreed(said: list[Said]) -> list[Said]:
    """Without what contradicts itself; a whole file's status is not that of transfers that have one of their own."""
    outcomes: dict[str, set[str]] = {}
    for each in said:
        if each.end_to_end_id:
            outcomes.setdefault(each.end_to_end_id, set()).add(each.outcome)
    torn = {key for key, found in outcomes.items() if {"succeeded", "declined"} <= found}
    named = [each for each in said if each.end_to_end_id and each.end_to_end_id not in torn]
    # Then nothing is known of it, whatever is said of the file that it was in.
    named += [Said(outcome="pending", end_to_end_id=key) for key in torn]
    return [*named, *(each for each in said if not each.end_to_end_id)]


class Reader:
    """Finds elements of one namespace; those of any other are not there."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._paths: dict[str, str] = {}

    def status(self, document: Element) -> Iterator[Said]:
        """pain.002: only a transfer's own status can be a success; a payment or a whole file can be rejected."""
        for report in self._all(document, "CstmrPmtStsRpt"):
            groups = self._all(report, "OrgnlGrpInfAndSts")
            # Of two it could not be said whose the transfers are; the schema has one.
            for group in groups if len(groups) == 1 else ():
                message_id = self._text(group, "OrgnlMsgId")
                for payment in self._all(report, "OrgnlPmtInfAndSts"):
                    payment_id = self._text(payment, "OrgnlPmtInfId")
                    for transaction in self._all(payment, "TxInfAndSts"):
                        yield self._transaction(transaction, message_id)
                    if self._text(payment, "PmtInfSts") == "RJCT" and payment_id:
                        yield Said(
                            outcome="declined", code=self._code(payment), message_id=message_id, payment_id=payment_id
                        )
                if self._text(group, "GrpSts") == "RJCT" and message_id:
                    yield Said(outcome="declined", code=self._code(group), message_id=message_id)

    def _transaction(self, transaction: Element, message_id: str) -> Said:
        status = self._text(transaction, "TxSts")
        amount = self._first(transaction, "OrgnlTxRef/Amt/InstdAmt")
        return Said(
            outcome="succeeded" if status in _SETTLED else "declined" if status == "RJCT" else "pending",
            end_to_end_id=self._text(transaction, "OrgnlEndToEndId"),
            code=self._code(transaction),
            # A report that does not say on which file of ours it is, is on none.
            message_id=message_id or "unknown",
            amount_minor=_minor(amount),
            currency=_currency(amount),
        )

    def booked(self, document: Element) -> Iterator[Said]:
        """camt.053 and camt.054: a debit that is booked, not reversed and not returned is a success."""
        for path in STATEMENTS:
            for statement in self._all(document, path):
                iban = self.account(statement)
                for entry in self._all(statement, "Ntry"):
                    for booking in self.bookings(entry, iban):
                        if booking.pays and booking.end_to_end_id:
                            yield Said(
                                outcome="succeeded",
                                end_to_end_id=booking.end_to_end_id,
                                iban=booking.iban or "unknown",
                                amount_minor=booking.amount_minor,
                                currency=booking.currency,
                            )

    def account(self, statement: Element) -> str:
        """The IBAN that a statement is of, or nothing."""
        return self._text(statement, "Acct/Id/IBAN")

    def bookings(self, entry: Element, iban: str) -> list[Booking]:
        """The transfers of an entry, or the entry itself where it names none."""
        details = self._all(entry, "NtryDtls/TxDtls")
        if not details:
            return [self.booking(entry, None, iban, alone=True)]
        return [self.booking(entry, each, iban, alone=len(details) == 1) for each in details]

    def booking(self, entry: Element, detail: Element | None, iban: str, *, alone: bool) -> Booking:
        """A transfer of an entry; of one that is ``alone`` the entry's amount is its own."""
        amount = None
        direction = self._text(entry, "CdtDbtInd")
        is_return = self._text(entry, "RvslInd") not in ("", "false", "0")
        if detail is not None:
            own = self._text(detail, "CdtDbtInd") or direction
            # The other way round than its entry, it is a return that was booked together with others.
            is_return = is_return or own != direction or self._first(detail, "RtrInf") is not None
            direction = own
            amount = self._first(detail, "Amt")
            if amount is None:
                amount = self._first(detail, "AmtDtls/TxAmt/Amt")
        if amount is None and alone:
            amount = self._first(entry, "Amt")
        minor = _minor(amount)
        return Booking(
            end_to_end_id="" if detail is None else self._text(detail, "Refs/EndToEndId"),
            iban=iban,
            is_booked=(self._text(entry, "Sts/Cd") or self._text(entry, "Sts")) == "BOOK",
            is_debit=direction == "DBIT",
            is_return=is_return,
            # A booking says how much was booked: one that does not is of no amount.
            amount_minor=-1 if minor is None else minor,
            currency=_currency(amount),
            booked_on=self._text(entry, "BookgDt/Dt") or self._text(entry, "BookgDt/DtTm"),
        )

    def _code(self, element: Element) -> str:
        return self._text(element, "StsRsnInf/Rsn/Cd")

    def _all(self, element: Element, path: str) -> list[Element]:
        return element.findall(self._path(path))

    def _first(self, element: Element, path: str) -> Element | None:
        return element.find(self._path(path))

    def _text(self, element: Element, path: str) -> str:
        return (element.findtext(self._path(path)) or "").strip()

    def _path(self, path: str) -> str:
        whole = self._paths.get(path)
        if whole is None:
            whole = self._paths[path] = "/".join(f"{{{self._namespace}}}{name}" for name in path.split("/"))
        return whole


def _currency(amount: Element | None) -> str:
    return amount.get("Ccy", "") if amount is not None else ""


def _minor(amount: Element | None) -> int | None:
    """Exact minor units; -1 for what is none of the currency."""
    if amount is None:
        return None
    text, units = (amount.text or "").strip(), MINOR_UNITS.get(amount.get("Ccy", ""))
    if units is None or _AMOUNT.fullmatch(text) is None:
        return -1
    minor = Decimal(text).scaleb(units)
    return int(minor) if minor == int(minor) else -1
