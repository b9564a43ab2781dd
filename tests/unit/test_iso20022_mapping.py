"""connectors/pic/iso20022: calls to pain.001, the bank's messages to words. No file is written; schemas are ISO's own."""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xmlschema
from defusedxml.ElementTree import fromstring
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.pic.base import Answer, Call
from connectors.pic.conformance.iso20022_stand import Heard, statement, status
from connectors.pic.iso20022.batching import Batching
from connectors.pic.iso20022.ledger import DIFFERS, Taken, judged
from connectors.pic.iso20022.pain001 import pain001, payment_ids
from connectors.pic.iso20022.reasons import DUPLICATES, REASONS, meaning
from connectors.pic.iso20022.reports import ReportError, Said, read_report
from connectors.pic.iso20022.transfers import Account, Transfer, end_to_end_id, latin, transfer_of
from pipeline.stages.localities.value_date import ValueDates
from schemas.codec import encode_request
from schemas.localities import ValueDateTerms
from schemas.records import PaymentTerms
from tests.builders import a_request

DATA = Path(__file__).parents[3] / "shared/data/iso20022"
#: The IBAN registry's examples.
DEBTOR, CREDITOR = Account("DE89370400440532013000", "COBADEFFXXX"), Account("FR1420041010050500013M02606")
OTHER = Account("GB29NWBK60161331926819")
#: printf 'aurora|p1|1' | b2sum -l 160 | cut -d' ' -f1 | xxd -r -p | base32
ID_OF_P1 = "EKJ3QGU7WVNKSXHV5JGCNPZIHV4LM4WLB"
CREATED = datetime(2026, 11, 27, 14, 5, 6, tzinfo=UTC)
TAKEN = ("-/?:().,'+ ") + string.ascii_letters + string.digits


def data(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"../shared/data/iso20022/{name} is not there")
    return DATA / name


@cache
def schema(version: str) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(data(f"pain.001.001.{version}.xsd")))


def call(creditor_name: str = "Corner Shop", order_reference: str = "order-1", **named: Any) -> Call:
    request = a_request(creditor_name=creditor_name, order_reference=order_reference)
    fields: dict[str, Any] = {
        "attempt_id": "aurora|p1|1",
        "tenant": "aurora",
        "payment_id": "p1",
        "amount_minor": 1_234,
        "currency": "EUR",
        "token": "tok_p1",
        "method": "bank_account",
        "request": encode_request(request),
    }
    return Call(**(fields | named))


def transfer(**named: Any) -> Transfer:
    made = transfer_of(call(**named), DEBTOR, CREDITOR)
    assert isinstance(made, Transfer)
    return made


def written(*transfers: Transfer, version: str = "09", date: str = "2026-11-30") -> str:
    return pain001(
        [(each, date) for each in transfers],
        message_id="M1",
        created_at=CREATED,
        initiator="Shop GmbH",
        version=version,  # type: ignore[arg-type]
    ).decode()


def test_an_attempt_has_one_end_to_end_id() -> None:
    """33 letters and digits of its hash: it fits into 35, and a statement leads back to the attempt."""
    assert end_to_end_id("aurora|p1|1") == ID_OF_P1
    assert len(ID_OF_P1) == 33
    assert end_to_end_id("aurora|p1|2") != ID_OF_P1


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("Łukasz Müller & Søn", "Lukasz Muller + Son"),
        ("Ελένη Παπαδοπούλου", "Eleni Papadopoyloy"),
        ("Иванов_Иван", "Ivanov-Ivan"),
        ("//Path//of  A/", "Path/of A"),
        ("a@b.example; x", "a(at)b.example, x"),
        ("<b>\x00\n“Ж”</b>", "b 'Zh' /b"),
        ("", ""),
        ("💶", ":euro:"),
    ],
)
def test_names_stay_readable(name: str, readable: str) -> None:
    """In the characters that every bank takes."""
    assert latin(name, 70) == readable


@given(st.text(max_size=300), st.integers(1, 140))
def test_every_text_is_in_the_banks_characters(text: str, length: int) -> None:
    """No other character, not too long, no slash at an end or twice."""
    made = latin(text, length)
    assert set(made) <= set(TAKEN)
    assert len(made) <= length
    assert not made.startswith("/") and not made.endswith("/") and "//" not in made


@pytest.mark.parametrize("version", ["03", "09"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=90),
            st.one_of(st.text(max_size=200), st.just("RF18539007547034")),
            st.integers(1, 99_999_999_999),
            st.sampled_from(["EUR", "JPY", "KWD", "CLF"]),
            st.sampled_from([DEBTOR, OTHER]),
            st.sampled_from([CREDITOR, DEBTOR]),
            st.sampled_from(["2026-11-27", "2026-11-30"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_file_is_valid(version: str, asked: list[tuple[Any, ...]]) -> None:
    """Against ISO's schema of its version, whatever names, texts and amounts are in it."""
    made = []
    for number, (name, text, amount_minor, currency, debtor, creditor, date) in enumerate(asked):
        one = call(
            creditor_name=f"A{name}",
            order_reference=text,
            amount_minor=amount_minor,
            currency=currency,
            attempt_id=f"t|{number}|1",
        )
        each = transfer_of(one, debtor, creditor)
        assert isinstance(each, Transfer)
        made.append((each, date))
    content = pain001(
        made,
        message_id="20261127140506-00000001-abcdef",
        created_at=CREATED,
        initiator="Shop GmbH",
        version=version,  # type: ignore[arg-type]
    )
    schema(version).validate(content.decode())
    root = fromstring(content)
    assert root.findtext(".//{*}GrpHdr/{*}NbOfTxs") == str(len(made))
    groups = {(each.debtor.iban, each.currency, date) for each, date in made}
    assert len(root.findall(".//{*}PmtInf")) == len(groups)
    assert len(set(payment_ids(made, "M"))) == len(groups)
    sums = [Decimal(each.text or "") for each in root.iterfind(".//{*}PmtInf/{*}CtrlSum")]
    assert sum(sums) == Decimal(root.findtext(".//{*}GrpHdr/{*}CtrlSum") or "")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (1_234, "EUR", "12.34"),
        (5, "EUR", "0.05"),
        (99_999_929, "EUR", "999999.29"),
        (1_234, "JPY", "1234"),
        (12_340, "KWD", "12.340"),
    ],
)
def test_amounts_are_exact(amount_minor: int, currency: str, text: str) -> None:
    """By the currency's own decimals, and the bank's echo of one is read back as the same."""
    made = transfer(amount_minor=amount_minor, currency=currency)
    assert f'<InstdAmt Ccy="{currency}">{text}</InstdAmt>' in written(made)
    assert f"<CtrlSum>{text}</CtrlSum>" in written(made)
    (said,) = read_report(booked(made, amount=text))
    assert judged(said, made, "M1").outcome == "succeeded"


def test_a_transfer_says_who_what_and_when() -> None:
    """Names, accounts, agents, a structured reference; the older version has another date and another name for the BIC."""
    new = written(transfer(order_reference="RF18 5390 0754 7034"))
    for part in (
        f"<EndToEndId>{ID_OF_P1}</EndToEndId>",
        "<ReqdExctnDt><Dt>2026-11-30</Dt></ReqdExctnDt>",
        "<Dbtr><Nm>Ada Lovelace</Nm></Dbtr><DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct>",
        "<DbtrAgt><FinInstnId><BICFI>COBADEFFXXX</BICFI></FinInstnId></DbtrAgt>",
        "<Cdtr><Nm>Corner Shop</Nm></Cdtr><CdtrAcct><Id><IBAN>FR1420041010050500013M02606</IBAN></Id></CdtrAcct>",
        "<Cd>SCOR</Cd></CdOrPrtry><Issr>ISO</Issr></Tp><Ref>RF18539007547034</Ref>",
        "<BtchBookg>false</BtchBookg>",
    ):
        assert part in new
    old = written(transfer(), version="03")
    assert "<ReqdExctnDt>2026-11-30</ReqdExctnDt>" in old
    assert "<BIC>COBADEFFXXX</BIC>" in old
    assert "<RmtInf><Ustrd>order-1</Ustrd></RmtInf>" in old
    assert "<DbtrAgt><FinInstnId><Othr><Id>NOTPROVIDED</Id>" in written(
        msgspec.structs.replace(transfer(), debtor=OTHER)
    )


@pytest.mark.parametrize(
    ("named", "debtor", "creditor", "reason"),
    [
        ({}, None, CREDITOR, "invalid_account"),
        ({}, DEBTOR, None, "invalid_account"),
        ({}, DEBTOR, Account("FR1420041010050500013M02607"), "invalid_account"),
        ({}, Account("DE89370400440532013000", "COBADEF"), CREDITOR, "invalid_account"),
        ({}, Account("XX89370400440532013000"), CREDITOR, "invalid_account"),
        ({"amount_minor": 0}, DEBTOR, CREDITOR, "invalid_amount"),
        ({"amount_minor": -5}, DEBTOR, CREDITOR, "invalid_amount"),
        ({"amount_minor": 100_000_000_000}, DEBTOR, CREDITOR, "invalid_amount"),
        ({"creditor_name": "\u2060"}, DEBTOR, CREDITOR, "invalid_request"),
    ],
)
def test_what_no_bank_takes_is_declined(
    named: dict[str, Any], debtor: Account | None, creditor: Account | None, reason: str
) -> None:
    """A check digit, a country, an amount, a name: before anything is written."""
    answer = transfer_of(call(**named), debtor, creditor)
    assert isinstance(answer, Answer)
    assert (answer.outcome, answer.reason) == ("declined", reason)


def test_account_numbers_are_not_shown() -> None:
    """Not by ``repr``, so not in a traceback."""
    assert "DE89" not in repr(DEBTOR) + repr(transfer())


# -- what the bank says --


def heard(sent: Transfer, amount: str = "12.34", message_id: str = "M1", **named: str) -> Heard:
    fields = {"payment_id": "M1-1", "iban": sent.debtor.iban, "currency": sent.currency} | named
    return Heard(sent.end_to_end_id, message_id, fields["payment_id"], fields["iban"], amount, fields["currency"])


def booked(sent: Transfer, kind: str = "camt.053", amount: str = "12.34", **named: str) -> bytes:
    return statement([heard(sent, amount)], kind, **named).encode()


def outcomes(body: bytes | str, sent: Transfer, message_id: str = "M1") -> set[str]:
    said = read_report(body.encode() if isinstance(body, str) else body)
    return {judged(each, sent, message_id).outcome for each in said}


@pytest.mark.parametrize("kind", ["camt.053", "camt.054"])
def test_a_booked_debit_is_a_success(kind: str) -> None:
    """In a statement and in a notification of a debit."""
    assert outcomes(booked(transfer(), kind), transfer()) == {"succeeded"}


#: What is done to a statement or report that would be a success.
CHANGES: dict[str, Callable[[str], str]] = {
    "not booked yet": lambda body: body.replace("BOOK", "PDNG"),
    "for information": lambda body: body.replace("BOOK", "INFO"),
    "money came": lambda body: body.replace("DBIT", "CRDT"),
    "the entry is a credit": lambda body: body.replace("DBIT</CdtDbtInd><Sts>", "CRDT</CdtDbtInd><Sts>"),
    "the detail is a credit": lambda body: body.replace("DBIT</CdtDbtInd></TxDtls>", "CRDT</CdtDbtInd></TxDtls>"),
    "reversed": lambda body: body.replace("<Sts>", "<RvslInd>true</RvslInd><Sts>"),
    "returned": lambda body: body.replace("</TxDtls>", "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf></TxDtls>"),
    "one cent less": lambda body: body.replace("12.34", "12.33"),
    "a fraction of a cent more": lambda body: body.replace("12.34", "12.341"),
    "an amount in words": lambda body: body.replace("12.34", "12,34"),
    "infinity": lambda body: body.replace("12.34", "Infinity"),
    "negative": lambda body: body.replace("12.34", "-12.34"),
    "another currency": lambda body: body.replace('Ccy="EUR"', 'Ccy="USD"'),
    "no currency": lambda body: body.replace(' Ccy="EUR"', ""),
    "no amount": lambda body: body.replace('<Amt Ccy="EUR">12.34</Amt>', ""),
    "another account": lambda body: body.replace(DEBTOR.iban, OTHER.iban),
    "no account": lambda body: body.replace(f"<IBAN>{DEBTOR.iban}</IBAN>", "<Othr><Id>1</Id></Othr>"),
    "no end-to-end id": lambda body: body.replace("EndToEndId", "TxId"),
    "elements of another namespace": lambda body: body.replace("<Ntry>", '<Ntry xmlns="urn:example">'),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["camt.053", "camt.054"])
def test_anything_else_is_no_success(kind: str, change: str) -> None:
    """One thing changed in a booking, and it is not this transfer's."""
    body = booked(transfer(), kind).decode()
    changed = CHANGES[change](body)
    assert changed != body
    assert "succeeded" not in outcomes(changed, transfer())


@pytest.mark.parametrize(
    "version", ["camt.053.001.99", "camt.053.001.01", "camt.052.001.08", "pain.001.001.09", "camt.053", ""]
)
def test_another_version_or_message_is_refused(version: str) -> None:
    """What was never read here is not guessed."""
    body = booked(transfer()).decode().replace("camt.053.001.08", version)
    with pytest.raises(ReportError, match="version"):
        read_report(body.encode())


@pytest.mark.parametrize("version", ["02", "04", "06", "07"])
def test_older_statements_are_read(version: str) -> None:
    """Their status is a word, not a choice."""
    body = booked(transfer()).decode().replace("001.08", f"001.{version}")
    assert outcomes(body.replace("<Sts><Cd>BOOK</Cd></Sts>", "<Sts>BOOK</Sts>"), transfer()) == {"succeeded"}


def test_an_entry_of_several_transfers_needs_their_own_amounts() -> None:
    """The sum of an entry is nobody's amount, but where there is one transfer it is that one's."""
    body = booked(transfer()).decode()
    detail = body[body.index("<TxDtls>") : body.index("</NtryDtls>")]
    bare = detail.replace('<Amt Ccy="EUR">12.34</Amt>', "")
    assert outcomes(body.replace(detail, bare), transfer()) == {"succeeded"}
    other = bare.replace(transfer().end_to_end_id, "OTHER")
    assert outcomes(body.replace(detail, bare + other), transfer()) == {"pending"}
    older = bare.replace("</Refs>", '</Refs><AmtDtls><TxAmt><Amt Ccy="EUR">12.34</Amt></TxAmt></AmtDtls>')
    assert outcomes(body.replace(detail, older + other), transfer()) == {"succeeded", "pending"}


def test_somebody_elses_statement_is_read() -> None:
    """prowide's camt.053, in an envelope with a business header: no entries. One of ours in it counts for our account only."""
    body = data("camt.053.001.07.xml").read_text()
    assert read_report(body.encode()) == []
    ours = booked(transfer()).decode()
    entry = ours[ours.index("<Ntry>") : ours.index("</Stmt>")].replace("<Sts><Cd>BOOK</Cd></Sts>", "<Sts>BOOK</Sts>")
    with_entry = body.replace("<AddtlStmtInf>", f"{entry}<AddtlStmtInf>")
    assert outcomes(with_entry, transfer()) == {"pending"}
    account = body[body.index("<Othr>") : body.index("</Othr>") + len("</Othr>")]
    assert outcomes(with_entry.replace(account, f"<IBAN>{DEBTOR.iban}</IBAN>"), transfer()) == {"succeeded"}


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("ACSC", "succeeded"),
        ("ACCC", "succeeded"),
        ("RJCT", "declined"),
        *((word, "pending") for word in ("ACSP", "ACTC", "ACCP", "ACWC", "RCVD", "PDNG", "PART", "CANC", "acsc", "")),
    ],
)
def test_a_status_is_a_word(word: str, outcome: str) -> None:
    """Settled, rejected, and everything else is on its way."""
    assert outcomes(status(heard(transfer()), word, "AM04"), transfer()) == {outcome}


@pytest.mark.parametrize("change", ["another file", "no file", "another amount"])
def test_a_status_of_something_else_is_no_success(change: str) -> None:
    """The file and the amount are those that were sent."""
    body = status(heard(transfer()), "ACSC")
    changed = {
        "another file": body.replace("<OrgnlMsgId>M1", "<OrgnlMsgId>M2"),
        "no file": body.replace("<OrgnlMsgId>M1</OrgnlMsgId>", ""),
        "another amount": body.replace("12.34", "12.35"),
    }[change]
    assert changed != body
    (said,) = read_report(changed.encode())
    assert judged(said, transfer(), "M1") == Answer("pending", DIFFERS)


def test_a_report_is_about_one_file() -> None:
    """Of two files it does not say in which a transfer was."""
    body = status(heard(transfer()), "ACSC")
    group = body[body.index("<OrgnlGrpInfAndSts>") : body.index("<OrgnlPmtInfAndSts>")]
    assert read_report(body.replace(group, group + group.replace("M1", "M2")).encode()) == []


def test_what_contradicts_itself_is_not_known() -> None:
    """One transfer, settled and rejected in one file."""
    body = status(heard(transfer()), "ACSC")
    one = body[body.index("<TxInfAndSts>") : body.index("</OrgnlPmtInfAndSts>")]
    assert outcomes(body.replace(one, one + one.replace("ACSC", "RJCT")), transfer()) == {"pending"}


@pytest.mark.parametrize("level", ["file", "payment"])
def test_a_whole_file_can_be_rejected_but_not_settled(level: str) -> None:
    """A group's rejection is that of all transfers in it; its success is nobody's."""
    body = status(heard(transfer()), "ACSP")
    one = body[body.index("<TxInfAndSts>") : body.index("</OrgnlPmtInfAndSts>")]

    def of(word: str) -> str:
        why = "<StsRsnInf><Rsn><Cd>FF01</Cd></Rsn></StsRsnInf>"
        if level == "file":
            return body.replace(one, "").replace(
                "</OrgnlGrpInfAndSts>", f"<GrpSts>{word}</GrpSts>{why}</OrgnlGrpInfAndSts>"
            )
        return body.replace(one, f"<PmtInfSts>{word}</PmtInfSts>{why}")

    (said,) = read_report(of("RJCT").encode())
    assert (said.message_id, said.payment_id, said.code) == ("M1", "" if level == "file" else "M1-1", "FF01")
    assert judged(said, transfer(), "M1").reason == "invalid_request"
    assert read_report(of("ACSC").encode()) == []


def test_reasons_are_standard_declines() -> None:
    """Each code has four letters or digits; a duplicate is no decline, for it says nothing of the first."""
    assert {
        code: (meaning(code).code.value, meaning(code).retry) for code in ("AC01", "AC04", "AM04", "TM01", "FRAD")
    } == {
        "AC01": ("invalid_account", "never"),
        "AC04": ("closed_account", "never"),
        "AM04": ("insufficient_funds", "never"),
        "TM01": ("try_again_later", "here"),
        "FRAD": ("suspected_fraud", "never"),
    }
    assert meaning("NARR").code == meaning("").code == "other"
    assert all(len(code) == 4 and code.isalnum() for code in REASONS)
    assert not DUPLICATES & set(REASONS)
    for code in DUPLICATES:
        assert outcomes(status(heard(transfer()), "RJCT", code), transfer()) == {"pending"}


BOMB = (
    '<!DOCTYPE Document [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    + '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>&b;</BkToCstmrStmt></Document>'
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        BOMB.encode(),
        BOMB.replace('"aaaaaaaaaa"', 'SYSTEM "file:///etc/passwd"').encode(),
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<a>" * 100_000,
        b"<a>" * 20_000 + b"</a>" * 20_000,
        b"x" * (64 * 1024 * 1024 + 1),
    ],
    ids=["empty", "no text", "entities", "external entity", "utf-7", "no encoding", "deep", "deep and closed", "huge"],
)
def test_hostile_files_are_refused(body: bytes) -> None:
    """In words that hold nothing of the file."""
    with pytest.raises(ReportError) as error:
        read_report(body)
    assert "passwd" not in str(error.value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_no_success_by_accident(drawn: st.DataObject) -> None:
    """Cut off, or bytes changed, in a file that tells of other transfers: never is ours a success, nothing but ReportError."""
    ours, other = transfer(), transfer(attempt_id="aurora|p2|1", amount_minor=1_235)
    source = drawn.draw(
        st.sampled_from(
            [booked(other), booked(other, "camt.054"), status(heard(other, "12.35"), "ACSC").encode(), BOMB.encode()]
        )
    )
    body = bytearray(source)
    for _ in range(drawn.draw(st.integers(0, 4))):
        at = drawn.draw(st.integers(0, len(body) - 1))
        body[at : at + drawn.draw(st.integers(0, 9))] = drawn.draw(st.binary(max_size=9))
    try:
        said = read_report(bytes(body[: drawn.draw(st.integers(0, len(body)))]))
    except ReportError:
        return
    assert all(each.end_to_end_id != ours.end_to_end_id or each.outcome == "pending" for each in said)


@given(st.integers(0, 10_000))
def test_a_file_that_is_cut_off_tells_nothing(cut: int) -> None:
    """Not even of what came before the cut."""
    body = booked(transfer())
    with pytest.raises(ReportError):
        read_report(body[: min(cut, len(body) - 1)])


# -- batches --

#: Frankfurt's 27 November 2026 is a Friday, in winter time.
FRIDAY_1400 = int(datetime(2026, 11, 27, 13, 0, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
BATCHING = Batching(
    initiator="Shop GmbH",
    dates=ValueDates(ValueDateTerms(calendar="t2-2026", cut_off="15:00", days=0)),
    transfers_max=3,
    wait_s=7_200,
)


def waiting(*minutes: int, **named: Any) -> list[Taken]:
    return [Taken(f"t|{n}|1", FRIDAY_1400 + minute * MINUTE, transfer(**named)) for n, minute in enumerate(minutes)]


@pytest.mark.parametrize(
    ("taken", "now", "sent"),
    [
        ((), 0, 0),
        ((0, 1), 2, 0),
        ((0, 1, 2), 2, 3),
        ((0, 1, 2, 3), 3, 3),
        # The cut-off, whenever the oldest came; what came after it goes along.
        ((59,), 59, 0),
        ((59,), 60, 1),
        ((59, 61), 61, 2),
        ((61,), 62, 0),
        # Two hours.
        ((61,), 180, 0),
        ((61,), 181, 1),
    ],
)
def test_a_file_is_closed_when_it_is_due(taken: tuple[int, ...], now: int, sent: int) -> None:
    """By number, at the cut-off of 15:00 in Frankfurt, or after a time."""
    assert len(BATCHING.choose(waiting(*taken), FRIDAY_1400 + now * MINUTE)) == sent


@pytest.mark.parametrize(
    ("taken", "now", "value_date", "date"),
    [
        (0, 1, "", "2026-11-27"),
        (59, 60, "", "2026-11-27"),
        # Nobody was there at the cut-off: the bank's is over too.
        (59, 66, "", "2026-11-30"),
        (61, 62, "", "2026-11-30"),
        (0, 1, "2026-12-24", "2026-12-24"),
        (0, 1, "2026-11-01", "2026-11-27"),
    ],
)
def test_a_transfer_is_executed_on_a_business_day(taken: int, now: int, value_date: str, date: str) -> None:
    """Today before the cut-off, otherwise the next day that the bank is open; not before its value date."""
    terms = PaymentTerms(payable_minor=1_234, value_date=value_date)
    (each,) = waiting(taken, terms=terms)
    assert BATCHING.execution_date(each, FRIDAY_1400 + now * MINUTE) == date


def test_one_file_has_a_payment_for_each_date() -> None:
    """And says which transfer is in which."""
    batch = BATCHING.write(
        "M1",
        [*waiting(0), *waiting(1, attempt_id="t|2|1", terms=PaymentTerms(payable_minor=1, value_date="2026-12-24"))],
        FRIDAY_1400 + MINUTE,
    )
    assert batch.payment_ids == ["M1-1", "M1-2"]
    assert b"2026-11-27</Dt>" in batch.content and b"2026-12-24</Dt>" in batch.content


def test_what_is_said_has_words() -> None:
    """Of a success nothing but the word, so that answers are the same however it was told."""
    assert judged(Said(outcome="succeeded"), transfer(), "M1") == Answer("succeeded", "")
