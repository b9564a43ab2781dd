"""Credit transfers as a pain.001 message for the bank, in the version of 2009 (03) or 2019 (09). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from connectors.pic.iso20022.transfers import Account, Transfer
from schemas.money import minor_units

Version = Literal["03", "09"]
NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001."


def payment_ids(transfers: Sequence[tuple[Transfer, str]], message_id: str) -> list[str]:
    """The PmtInfId of each transfer, given with its execution date: one for each date, debtor account and currency."""
    groups: dict[tuple[str, str, str], str] = {}
    return [
        groups.setdefault((date, each.debtor.iban, each.currency), f"{message_id}-{len(groups) + 1}")
        for each, date in transfers
    ]


def pain001(
    transfers: Sequence[tuple[Transfer, str]],
    *,
    message_id: str,
    created_at: datetime,
    initiator: str,
    version: Version = "09",
) -> bytes:
    """The file for transfers, each with its execution date (``YYYY-MM-DD``): UTF-8, valid against the schema of ``version``."""
    document = Element("Document", xmlns=f"{NAMESPACE}{version}")
    root = SubElement(document, "CstmrCdtTrfInitn")
    header = SubElement(root, "GrpHdr")
    _text(header, "MsgId", message_id)
    _text(header, "CreDtTm", f"{created_at:%Y-%m-%dT%H:%M:%SZ}")
    _totals(header, [each for each, _ in transfers])
    _text(header, "InitgPty/Nm", initiator)
    groups: dict[str, list[tuple[Transfer, str]]] = {}
    for payment_id, each in zip(payment_ids(transfers, message_id), transfers, strict=True):
        groups.setdefault(payment_id, []).append(each)
    for payment_id, group in groups.items():
        _payment(SubElement(root, "PmtInf"), payment_id, group, version)
    written: bytes = tostring(document, encoding="UTF-8", xml_declaration=True)
    return written


def _payment(parent: Element, payment_id: str, group: Sequence[tuple[Transfer, str]], version: Version) -> None:
    first, date = group[0]
    _text(parent, "PmtInfId", payment_id)
    _text(parent, "PmtMtd", "TRF")
    # Each is to be an entry of its own in the statement, for it is found there by its EndToEndId.
    _text(parent, "BtchBookg", "false")
    _totals(parent, [each for each, _ in group])
    if first.currency == "EUR":
        _text(parent, "PmtTpInf/SvcLvl/Cd", "SEPA")
    _text(parent, "ReqdExctnDt" if version == "03" else "ReqdExctnDt/Dt", date)
    _text(parent, "Dbtr/Nm", first.debtor_name)
    _text(parent, "DbtrAcct/Id/IBAN", first.debtor.iban)
    _agent(parent, "DbtrAgt", first.debtor, version)
    _text(parent, "ChrgBr", "SLEV" if first.currency == "EUR" else "SHAR")
    for transfer, _ in group:
        _transfer(SubElement(parent, "CdtTrfTxInf"), transfer, version)


def _transfer(parent: Element, transfer: Transfer, version: Version) -> None:
    _text(parent, "PmtId/EndToEndId", transfer.end_to_end_id)
    amount = _text(parent, "Amt/InstdAmt", f"{_decimal(transfer):f}")
    amount.set("Ccy", transfer.currency)
    if transfer.creditor.bic:
        _agent(parent, "CdtrAgt", transfer.creditor, version)
    _text(parent, "Cdtr/Nm", transfer.creditor_name)
    _text(parent, "CdtrAcct/Id/IBAN", transfer.creditor.iban)
    if transfer.reference:
        structured = SubElement(SubElement(SubElement(parent, "RmtInf"), "Strd"), "CdtrRefInf")
        kind = SubElement(structured, "Tp")
        _text(kind, "CdOrPrtry/Cd", "SCOR")
        _text(kind, "Issr", "ISO")
        _text(structured, "Ref", transfer.reference)
    elif transfer.text:
        _text(parent, "RmtInf/Ustrd", transfer.text)


def _agent(parent: Element, name: str, account: Account, version: Version) -> None:
    if account.bic:
        _text(parent, f"{name}/FinInstnId/{'BIC' if version == '03' else 'BICFI'}", account.bic)
    else:
        _text(parent, f"{name}/FinInstnId/Othr/Id", "NOTPROVIDED")


def _totals(parent: Element, transfers: Sequence[Transfer]) -> None:
    _text(parent, "NbOfTxs", str(len(transfers)))
    _text(parent, "CtrlSum", f"{sum(map(_decimal, transfers), Decimal(0)):f}")


def _decimal(transfer: Transfer) -> Decimal:
    return Decimal(transfer.amount_minor).scaleb(-minor_units(transfer.currency))


def _text(parent: Element, path: str, text: str) -> Element:
    for name in path.split("/"):
        parent = SubElement(parent, name)
    parent.text = text
    return parent
