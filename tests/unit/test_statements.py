"""connectors/statements: files to lines; whatever is wrong with one refuses it as a whole, in bounded memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.pic.conformance.iso20022_stand import Heard, statement
from connectors.statements import camt, table
from connectors.statements.lines import CHUNK_BYTES, LINE_BYTES_MAX, Other, StatementError, span_of
from connectors.statements.reader import read
from connectors.statements.table import RuleError, parse_rule, parse_word, table_of
from pipeline.stages.reconciliation import Line, Span

DAY_MS = 86_400_000
#: 2026-11-27.
FRIDAY = Span(20_784 * DAY_MS, 20_785 * DAY_MS)
RULES = ["attempt_id=Ref", "amount=Gross", "currency=Cur", "kind=Type", "at=When"]
WORDS = ["Sale=payment", "Refund=refund", "Chargeback=returned"]
REPORT = "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,payment_intent_id"
EXPORT = "id,Type,Source,Amount,Fee,Net,Currency,Created (UTC),Available On (UTC),Description"


def heard(number: int = 1, amount: str = "12.34", currency: str = "EUR") -> Heard:
    return Heard(f"E{number:032d}", "M1", "P1", "DE89370400440532013000", amount, currency)


def lines_of(text: str | bytes, tmp_path: Path | None = None) -> list[Line | Other]:
    return list(camt.read(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def csv_lines(text: str | bytes, tmp_path: Path, **named: Any) -> list[Line | Other]:
    path = tmp_path / "balance.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read(path, "auto", named.get("rules")))


def refused(text: str | bytes) -> str:
    with pytest.raises(StatementError) as error:
        lines_of(text)
    return str(error.value)


# -- banks' statements --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["camt.053", "camt.054"])
def test_a_booked_debit_is_a_payment(kind: str) -> None:
    """By its end-to-end id, with its amount and day."""
    (line,) = lines_of(statement([heard()], kind))
    assert line == Line(
        row=1,
        movement="payment",
        says="paid",
        amount_minor=1_234,
        currency="EUR",
        keys=(("end_to_end_id", f"E{1:032d}"),),
        at=FRIDAY,
    )


def test_amounts_have_their_currencys_decimals() -> None:
    """Exactly: no float ever."""
    amounts = [
        ("1200", "JPY", 1_200),
        ("12.345", "KWD", 12_345),
        ("0.1", "EUR", 10),
        ("99999999999999.99", "EUR", 10**16 - 1),
    ]
    for amount, currency, minor in amounts:
        (line,) = lines_of(statement([heard(amount=amount, currency=currency)]))
        assert isinstance(line, Line) and (line.amount_minor, line.currency) == (minor, currency)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("<Sts><Cd>BOOK</Cd></Sts>", "<Sts><Cd>PDNG</Cd></Sts>"), "pending"),
        (("<Sts><Cd>BOOK</Cd></Sts>", "<Sts>BOOK</Sts>"), "paid"),
        (("</TxDtls>", "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf></TxDtls>"), None),
        (("DBIT", "CRDT"), None),
        (("<Sts>", "<RvslInd>true</RvslInd><Sts>"), None),
        (("<CdtDbtInd>DBIT</CdtDbtInd></TxDtls>", "<CdtDbtInd>CRDT</CdtDbtInd></TxDtls>"), "returned"),
    ],
)
def test_what_an_entry_says(change: tuple[str, str], says: str | None) -> None:
    """Announced is not paid; what comes in is none of ours; the other way round in its entry it came back."""
    (line,) = lines_of(statement([heard()]).replace(*change))
    assert (line.says if isinstance(line, Line) else None) == says


@pytest.mark.parametrize("sign", ["<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>", None])
def test_a_transfer_that_came_back(sign: str | None) -> None:
    """A credit with a reason of its return, or a reversed debit."""
    text = statement([heard()], indicator="CRDT")
    text = text.replace("</TxDtls>", f"{sign}</TxDtls>") if sign else text.replace("<Sts>", "<RvslInd>1</RvslInd><Sts>")
    (line,) = lines_of(text)
    assert isinstance(line, Line) and line.says == "returned"


def test_an_entry_of_many_transfers_is_read_one_by_one() -> None:
    """Each with its own amount, which the entry's is not; of a single one the entry's is."""
    one = statement([heard()])
    detail = one[one.index("<TxDtls>") : one.index("</NtryDtls>")]
    many = one.replace(detail, detail + detail.replace("12.34", "1.00").replace("00001<", "00002<"))
    found = lines_of(many)
    assert [(line.row, line.amount_minor) for line in found if isinstance(line, Line)] == [(1, 1_234), (1, 100)]
    bare = detail.replace('<Amt Ccy="EUR">12.34</Amt>', "")
    (line,) = lines_of(one.replace(detail, bare))
    assert isinstance(line, Line) and line.amount_minor == 1_234
    assert refused(one.replace(detail, bare + bare)) == "entry 1: an amount that is none of its currency"


def test_an_entry_that_names_nobody_is_nobodys_yet() -> None:
    """A sum, or a fee: it is a line without a name."""
    one = statement([heard()])
    (line,) = lines_of(one[: one.index("<NtryDtls>")] + one[one.index("</NtryDtls>") + len("</NtryDtls>") :])
    assert isinstance(line, Line) and line.keys == ()


def test_entries_are_not_lost_between_chunks() -> None:
    """Whatever of them is read at a time; several statements, each with its account."""
    number = 3 * CHUNK_BYTES // 500
    text = statement([heard(each) for each in range(number)])
    found = lines_of(text)
    assert [line.keys[0][1] for line in found if isinstance(line, Line)] == [f"E{each:032d}" for each in range(number)]
    assert [line.row for line in found] == list(range(1, number + 1))
    inner = text[text.index("<Stmt>") : text.index("</BkToCstmrStmt>")]
    assert len(lines_of(text.replace(inner, inner + inner))) == 2 * number


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the file is empty"),
        (b"<a/>", "not a camt.053"),
        (statement([heard()]).replace("001.08", "001.99"), "not a camt.053"),
        (statement([heard()]).replace("camt.053", "camt.052"), "not a camt.053"),
        (BOMB + statement([heard()]), "line 1: a document type"),
        ("\n\n" + " " * (CHUNK_BYTES - 6) + "<!DOCTYPE a []><a/>", "line 3: a document type"),
        ((BOMB + statement([heard()])).encode("utf-16"), "line 1: a NUL byte"),
        ((BOMB + statement([heard()])).encode("utf-16-be"), "line 1: a NUL byte"),
        ('<?xml version="1.0" encoding="utf-7"?>' + statement([heard()]), "line 1: an encoding other than"),
        (('<?xml version="1.0" encoding="cp037"?>' + statement([heard()])).encode("cp037"), "not XML"),
        (statement([heard()]).encode().replace(b"S1", b"\xff1"), "not in its encoding"),
        (statement([heard()]).replace("S1", "S\0"), "a NUL byte"),
        (statement([heard()])[:-1], "cut off"),
        (statement([heard()]).replace("12.34", "twelve"), "entry 1: an amount"),
        (statement([heard()]).replace("12.34", "12.345"), "entry 1: an amount"),
        (statement([heard()]).replace("12.34", "-12.34"), "entry 1: an amount"),
        (statement([heard()]).replace('"EUR"', '"XXX"'), "entry 1: an amount"),
        (statement([heard()]).replace("2026-11-27</Dt>", "2026-13-27</Dt>"), "entry 1: a booking date"),
        (statement([heard()]).replace("<Stmt>", "<Stmt>" + "<x>" * 100 + "</x>" * 100), "elements more than 64 deep"),
        (statement([heard()]).replace("S1", "x" * 2 * LINE_BYTES_MAX), "bytes that are no entry"),
        (statement([heard()]).replace("<Stmt>", "<Stmt>" + "<x/>" * LINE_BYTES_MAX), "bytes that are no entry"),
        (statement([heard()]).replace("12.34", "1" * 2 * LINE_BYTES_MAX), "bytes that are no entry"),
    ],
)
def test_hostile_files_are_refused(text: str | bytes, why: str) -> None:
    """With what is wrong and where, and nothing of what they hold."""
    assert why in refused(text)


@given(st.integers(0, 10_000))
def test_a_file_that_is_cut_off_is_refused(cut: int) -> None:
    """Wherever: half a statement would be missing payments."""
    text = statement([heard(1), heard(2)])
    refused(text[: min(cut, len(text) - 1)])


@given(st.data())
def test_damaged_files_are_lines_or_refused(drawn: st.DataObject) -> None:
    """Never another error."""
    text = bytearray(statement([heard(1), heard(2)]).encode())
    for _ in range(drawn.draw(st.integers(1, 5))):
        text[drawn.draw(st.integers(0, len(text) - 1))] = drawn.draw(st.integers(0, 255))
    with suppress(StatementError):
        lines_of(bytes(text))


class _Endless(io.RawIOBase):
    """A file of a million entries that is nowhere as a whole."""

    def __init__(self, number: int, per_entry: int) -> None:
        one = statement([heard()])
        start, end = one.index("<Ntry>"), one.index("</Ntry>") + len("</Ntry>")
        detail = one[one.index("<TxDtls>") : one.index("</NtryDtls>")]
        entry = one[start:end].replace(detail, detail * per_entry).encode()
        self._parts: Iterator[bytes] = (
            part
            for many in ([one[:start].encode()], (entry for _ in range(number)), [one[end:].encode()])
            for part in many
        )
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (more := next(self._parts, b"")):
            self._rest += more
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


@pytest.mark.parametrize(("entries", "per_entry"), [(4_000, 1), (4, 1_000)])
def test_memory_does_not_grow_with_the_file(entries: int, per_entry: int) -> None:
    """Entries and the transfers of one entry are let go of."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in camt.read(_Endless(entries // 8, per_entry))) == entries // 8 * per_entry
        tracemalloc.reset_peak()
        few = tracemalloc.get_traced_memory()[1]
        assert sum(1 for _ in camt.read(_Endless(entries, per_entry))) == entries * per_entry
        assert tracemalloc.get_traced_memory()[1] < few + 3_000_000
    finally:
        tracemalloc.stop()


# -- balance files ------------------------------------------------------------------------------------------------------------


def test_stripes_report_is_known_by_its_columns(tmp_path: Path) -> None:
    """Charges by the payment's metadata or its id, refunds by their own; fees and payouts are about nobody."""
    more = "refund_id,payment_metadata[attempt_id],refund_metadata[attempt_id],customer_facing_amount,customer_facing_currency"
    header = f"{REPORT},{more}"
    rows = [
        "txn_1,2026-11-27 10:00:00,eur,12.34,0.55,11.79,charge,pi_1,,acme|p1|1,,,",
        "txn_2,2026-11-27 11:00:00,eur,-5.00,0.00,-5.00,refund,pi_1,re_1,acme|p1|1,acme|p1|r1|1,,",
        "txn_3,2026-11-27 12:00:00,eur,-7.00,0.00,-7.00,payout,,,,,,",
        "txn_4,2026-11-27 13:00:00,eur,9.10,0.00,9.10,charge,pi_4,,,,1000,jpy",
        "txn_5,2026-11-27 13:00:00,eur,-3.00,0.00,-3.00,partial_capture_reversal,pi_1,,acme|p1|1,,,",
        "txn_6,2026-11-27 13:00:00,eur,-9.10,0.00,-9.10,charge_failure,pi_4,,,,1000,jpy",
    ]
    charge, refund, payout, foreign, reversal, failed = csv_lines("\n".join([header, *rows]) + "\n", tmp_path)
    assert isinstance(charge, Line) and isinstance(refund, Line) and isinstance(foreign, Line)
    assert (charge.row, charge.movement, charge.says, charge.amount_minor) == (2, "payment", "paid", 1_234)
    assert charge.keys == (("attempt_id", "acme|p1|1"), ("pic_reference", "pi_1"))
    assert charge.at == Span(FRIDAY.from_ms + 36_000_000, FRIDAY.from_ms + 36_001_000)
    assert (refund.movement, refund.amount_minor, refund.keys) == (
        "refund",
        500,
        (("attempt_id", "acme|p1|r1|1"), ("pic_reference", "re_1")),
    )
    assert isinstance(payout, Other)
    assert (foreign.amount_minor, foreign.currency) == (1_000, "JPY")
    assert isinstance(reversal, Line) and (reversal.says, reversal.amount_minor) == ("correction", -300)
    assert isinstance(failed, Line) and (failed.says, failed.movement) == ("returned", "payment")


def test_stripes_export_is_known_by_its_columns(tmp_path: Path) -> None:
    """By the metadata, of which the dashboard makes columns; a refund by its own id."""
    rows = [
        "txn_1,charge,ch_1,12.34,0.55,11.79,eur,2026-11-27 10:00,2026-12-01 00:00,secret words,acme|p1|1",
        "txn_2,refund,re_1,-5.00,0.00,-5.00,eur,2026-11-27 11:00,2026-12-01 00:00,REFUND,",
        "txn_3,stripe_fee,,-0.10,0.00,-0.10,eur,2026-11-27 11:00,2026-12-01 00:00,Fee,",
    ]
    charge, refund, fee = csv_lines("\r\n".join([f"{EXPORT},attempt_id (metadata)", *rows]), tmp_path)
    assert isinstance(charge, Line) and charge.keys == (("attempt_id", "acme|p1|1"), ("pic_reference", "ch_1"))
    assert charge.at is not None and charge.at.until_ms - charge.at.from_ms == 60_000
    assert isinstance(refund, Line) and refund.keys == (("pic_reference", "re_1"),)
    assert isinstance(fee, Other) and "secret" not in repr([charge, refund, fee])


def test_other_files_by_rules(tmp_path: Path) -> None:
    """Columns and words are named; words that are not are about nobody."""
    rules = table_of(RULES, WORDS)
    text = (
        '\ufeffWhen,Ref,Type,Gross,Cur,Note\n2026-11-27,acme|p1|1,SALE,12.34,EUR,"a\nb"\n2026-11-27,x,Fee,zero,EUR,\n\n'
    )
    text += "2026-11-27T01:00:00+01:00,acme|p1|2,Refund,-1,EUR,\n"
    sale, fee, refund = csv_lines(text, tmp_path, rules=rules)
    assert isinstance(sale, Line) and (sale.row, sale.amount_minor, sale.at) == (2, 1_234, FRIDAY)
    assert isinstance(fee, Other) and fee.row == 4
    assert isinstance(refund, Line) and (refund.row, refund.movement, refund.amount_minor) == (6, "refund", 100)
    assert refund.at == Span(FRIDAY.from_ms, FRIDAY.from_ms + 1_000)


def test_without_a_kind_the_sign_tells(tmp_path: Path) -> None:
    """Money that left is a refund; minor units are taken as they are."""
    rules = table_of(["pic_reference=Id", "amount_minor=Minor", "currency:=JPY"], [])
    paid, refunded = csv_lines("Id,Minor\na1,500\na2,-20\n", tmp_path, rules=rules)
    assert isinstance(paid, Line) and isinstance(refunded, Line)
    assert (paid.movement, paid.amount_minor, paid.currency) == ("payment", 500, "JPY")
    assert (refunded.movement, refunded.amount_minor) == ("refund", 20)


GOOD = "2026-11-27,acme|p1|1,Sale,12.34,EUR\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the file is empty"),
        ("When,Ref,Type,Gross\n", "line 1: no column Cur"),
        ("When,Ref,Type,Gross,Cur,Cur\n", "line 1: more than one column Cur"),
        (
            "When,Ref,Type,Gross,Cur\n" + GOOD + "2026-11-27,acme|p1|2,Sale,1",
            "line 3: 4 columns where the header has 5",
        ),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("EUR", "EUR,more"), "line 2: 6 columns"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "12,34"), "line 2: 6 columns"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "12.345"), "line 2: an amount with more decimals"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "1e3"), "line 2: an amount that is no number"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "NaN"), "line 2: an amount that is no number"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "٣"), "line 2: an amount that is no number"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", "9" * 18), "line 2: an amount that is too large"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("12.34", ""), "line 2: no amount"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("EUR", "XXX"), "line 2: a currency"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("2026-11-27", "27.11.2026"), "line 2: a time"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", '"Sale'), "not CSV"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", '"Sale"x'), "not CSV"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", "Sa\0le"), "line 2: a NUL"),
        (("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", "Säle")).encode("latin-1"), "line 2: not UTF-8"),
        (("When,Ref,Type,Gross,Cur\n" + GOOD).encode("utf-16"), "line 1: not UTF-8"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", "x" * 200_000), "line 2: not CSV"),
        ("When,Ref,Type,Gross,Cur\n" + GOOD.replace("Sale", "x," * LINE_BYTES_MAX), "line 2: a row of more than"),
        ("When,Ref,Type,Gross,Cur\n" + '"\n",' * LINE_BYTES_MAX, "a row of more than"),
        ("When,Ref,Type,Gross,Cur" + ",x" * 2_000 + "\n", "line 1: more than 1000 columns"),
    ],
)
def test_a_damaged_table_is_refused(text: str | bytes, why: str, tmp_path: Path) -> None:
    """With its line and the reason, and no value."""
    with pytest.raises(StatementError) as error:
        csv_lines(text, tmp_path, rules=table_of(RULES, WORDS))
    assert why in str(error.value)
    assert "acme" not in str(error.value)


@given(st.binary(max_size=400))
def test_rubbish_is_refused_or_lines(content: bytes) -> None:
    """Never another error."""
    with suppress(StatementError):
        list(table.read(io.BytesIO(b"When,Ref,Type,Gross,Cur\n" + content), table_of(RULES, WORDS)))


def test_a_file_of_nobodys_kind_says_what_to_do(tmp_path: Path) -> None:
    """Name the columns."""
    with pytest.raises(StatementError, match="--map"):
        csv_lines("a,b\n1,2\n", tmp_path)
    with pytest.raises(StatementError, match="cannot be read"):
        list(read(tmp_path / "none.csv", "auto", None))


@pytest.mark.parametrize("text", ["attempt_id", "attempt_id=", "=x", "name=Customer", "attempt_id:="])
def test_a_wrong_rule_is_named(text: str) -> None:
    """A line has the fields that it has."""
    with pytest.raises(RuleError, match=r"no rule|no field"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["Sale", "Sale=sold", "=payment"])
def test_a_wrong_word_is_named(text: str) -> None:
    """It means one of a few things."""
    with pytest.raises(RuleError, match="no meaning"):
        parse_word(text)


@pytest.mark.parametrize(
    ("rules", "words", "why"),
    [
        (["amount=A", "currency=C"], [], "names an attempt"),
        (["attempt_id=R", "amount=A"], [], "currency"),
        (["attempt_id=R", "amount=A", "amount_minor=B", "currency=C"], [], "either"),
        (["attempt_id=R", "amount=A", "currency=C"], ["Sale=payment"], "kind"),
    ],
)
def test_rules_that_are_too_few(rules: list[str], words: list[str], why: str) -> None:
    """Without them nothing could be compared."""
    with pytest.raises(RuleError, match=why):
        table_of(rules, words)


@pytest.mark.parametrize("text", ["", "now", "2026-02-30", "20261", "9999-12-31T23:59:59-23:00:00.5x", "1"])
def test_times_that_are_none(text: str) -> None:
    """They are not guessed."""
    assert span_of(text) is None
