"""What is asked of the bank: one credit transfer, made of a call and two accounts. Pure."""

from __future__ import annotations

import re
from base64 import b32encode
from hashlib import blake2b
from typing import Final

import msgspec
from anyascii import anyascii
from stdnum import bic, iban, iso11649
from stdnum.exceptions import ValidationError

from connectors.pic.base import Answer, Call
from connectors.pic.declines import STANDARD, DeclineCode, Meaning

#: EPC115-06, SEPA credit transfer: from 0.01 to 999,999,999.99; for other currencies the same number of minor units.
AMOUNT_MINOR_MAX: Final = 99_999_999_999
NAME_MAX: Final = 70
TEXT_MAX: Final = 140
#: EPC217-08: the Latin characters that every bank takes; what they usually stand for is written out first.
_NOT_TAKEN: Final = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]")
_WRITTEN: Final = str.maketrans({"&": "+", "_": "-", "@": "(at)", ";": ",", "[": "(", "]": ")", '"': "'", "|": "/"})
_INVALID_ACCOUNT: Final = Meaning(DeclineCode.INVALID_ACCOUNT, "elsewhere").answer()


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where money is or goes. The BIC may be left out: inside the EEA the IBAN is enough. Its ``repr`` shows neither."""

    iban: str
    bic: str = ""

    def checked(self) -> Account:
        """Without spaces, in capitals. Raises ``stdnum.exceptions.ValidationError`` for a wrong length, digit or country."""
        return Account(iban.validate(self.iban), bic.validate(self.bic) if self.bic else "")

    def __repr__(self) -> str:
        return "Account(...)"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One credit transfer, ready to be written. Personal data: it is kept in the ledger and in files for the bank only."""

    end_to_end_id: str
    amount_minor: int
    currency: str
    debtor_name: str
    debtor: Account
    creditor_name: str
    creditor: Account
    #: ISO 11649 (``RF...``), otherwise empty; then ``text`` may say what is paid.
    reference: str = ""
    text: str = ""
    #: Not to be executed before, ``YYYY-MM-DD``; empty: as soon as it can be.
    value_date: str = ""


def end_to_end_id(attempt_id: str) -> str:
    """The EndToEndId of an attempt: 33 letters and digits, the same every time, by which a statement names it."""
    return f"E{b32encode(blake2b(attempt_id.encode(), digest_size=20).digest()).decode()}"


def asked_for(call: Call) -> str:
    """A hash of what must be the same when an attempt comes again."""
    asked = (call.kind, call.tenant, call.payment_id, call.amount_minor, call.currency, call.token)
    return blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()


def latin(text: str, length: int) -> str:
    """``text`` in the characters that every bank takes, still to be read: Łukasz Müller & Søn as Lukasz Muller + Son."""
    plain = _NOT_TAKEN.sub(" ", anyascii(text.translate(_WRITTEN)).translate(_WRITTEN))
    # Neither at the ends nor twice: EPC217-08 again.
    plain = re.sub(r"/{2,}", "/", " ".join(plain.split()))
    return plain.strip("/ ")[:length].rstrip("/ ")


def transfer_of(call: Call, debtor: Account | None, creditor: Account | None) -> Transfer | Answer:
    """The transfer that ``call`` asks for, or the decline of one that no bank would take. Nothing was sent then."""
    if not 0 < call.amount_minor <= AMOUNT_MINOR_MAX:
        return STANDARD[DeclineCode.INVALID_AMOUNT].answer()
    if debtor is None or creditor is None:
        return _INVALID_ACCOUNT
    try:
        debtor, creditor = debtor.checked(), creditor.checked()
    except ValidationError:
        return _INVALID_ACCOUNT
    request = call.ptr()
    names = latin(request.debtor.name, NAME_MAX), latin(request.creditor.name, NAME_MAX)
    if not all(names):
        return STANDARD[DeclineCode.INVALID_REQUEST].answer()
    structured = iso11649.is_valid(request.order_reference)
    return Transfer(
        end_to_end_id=end_to_end_id(call.attempt_id),
        amount_minor=call.amount_minor,
        currency=call.currency,
        debtor_name=names[0],
        debtor=debtor,
        creditor_name=names[1],
        creditor=creditor,
        reference=iso11649.validate(request.order_reference) if structured else "",
        text="" if structured else latin(request.order_reference, TEXT_MAX),
        value_date=call.terms.value_date if call.terms is not None else "",
    )
