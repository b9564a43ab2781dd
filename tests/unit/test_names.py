"""pipeline/stages/names.py."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.stages.names import NAME_CHARS_MAX, NOBODY, parse


def sorted_tokens(name: str) -> tuple[str, ...]:
    return tuple(sorted(parse(name).tokens))


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("Saddam Hussein", "hussein saddam"),
        ("Hussein, Saddam", "hussein saddam"),
        ("  HUSSEIN   saddam ", "hussein saddam"),
        ("Dr. José María Muñoz-Gómez", "gomez jose maria munoz"),
        ("Łukasz Ørsted", "lukasz orsted"),
        ("Straße", "strasse"),
        ("O’Brien, Seán", "obrien sean"),
        ("al-Qa`ida", "al qaida"),
        ("ＡＣＭＥ　Ｌｔｄ", "acme"),
        ("ACME TRADING CO., LTD.", "acme trading"),
        ("Acme S.A. de C.V.", "acme"),
        ("Acme Trading GmbH & Co. KG", "acme trading"),
        ("J.R.R. Tolkien", "jrr tolkien"),
        ("Bank of the North", "bank north"),
        ("Sheikh Isa bin Tarif, Mullah", "bin isa tarif"),
        ("Volkswagen Gesellschaft mit beschränkter Haftung", "volkswagen"),
        ("ООО «Байкал»", "baikal"),
        ("Сергей Лавров", "lavrov sergei"),
        ("Brigade Forty-Four", "44 brigade"),
        ("1st International Bank", "1 bank international"),
        ("First International Bank", "1 bank international"),
        ("U.S. Department of State", "department state states united"),
        ("Abd al-Rahman Salim", "abdul rahman salim"),
        ("ABDURRAHMAN, Salim", "abdul rahman salim"),
        ("Abdullah Saif-al-Din", "abdullah saifuddin"),
        ("MV Hellenic Spirit", "hellenic spirit"),
        ("M/T Hellenic Spirit", "hellenic spirit"),
        ("Mus?ab Omar", "musab omar"),
        ("Ali Ali", "ali ali"),
        ("The Limited Company", "company limited the"),
        ("محمد عبدالعلی", "abdul ly mhmd"),
        ("عبد الرحمن الشمري", "abdul rhmn shmry"),
        ("金 正恩", "jin zhengen"),
        ("", ""),
        ("--- ...", ""),
    ],
)
def test_one_spelling(name: str, tokens: str) -> None:
    """Case, accents, width, script, punctuation, order, titles and legal forms make no other name; repeats count."""
    assert " ".join(sorted_tokens(name)) == tokens


@given(st.text(max_size=60))
def test_any_text_has_its_tokens(name: str) -> None:
    """For any text: tokens are sorted, none empty, and there are none exactly when nothing can be compared."""
    tokens = sorted_tokens(name)
    assert list(tokens) == sorted(tokens)
    assert all(tokens)
    assert bool(tokens) == bool(parse(name))


#: Words that belong to their neighbour, so that order matters to them.
_PLACED = {"abd", "abdul", "abdel", "din", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}


@given(st.text(max_size=60))
def test_order_and_case_do_not_matter(name: str) -> None:
    """For any ASCII words: reversed and in capitals they are the same name."""
    words = [word for word in name.split() if word.isascii() and word.isalnum()]
    assume(_PLACED.isdisjoint(word.lower() for word in words))
    assert sorted_tokens(" ".join(words)) == sorted_tokens(", ".join(reversed(words)).upper())


def test_the_key_is_in_the_names_own_script() -> None:
    """Two names that sound alike in Latin letters are not the same name: block at 1.0 is for the same spelling."""
    left, right = parse("高石早苗"), parse("高市早苗")
    assert left.tokens == right.tokens == ("gaoshizaomiao",)
    assert left.key != right.key
    assert (left.script, parse("Владимир").script, parse("José").script) == ("CJK", "CYRILLIC", "")


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("Acme GmbH", {"limited"}),
        ("Acme Joint Stock Company", {"public"}),
        ("Acme Trading Co., Ltd.", {"corporation", "limited"}),
        ("ООО Байкал", {"limited"}),
        ("Acme", set()),
        ("The Limited Company", set()),  # all that there is of the name is no legal form
    ],
)
def test_legal_forms_are_kept_by_their_class(name: str, forms: set[str]) -> None:
    """Forms are no part of the name, but a limited company is not a public one."""
    assert parse(name).forms == forms


def test_what_is_no_name() -> None:
    """Nothing to compare is nobody; a hostile text costs no more than a long name."""
    assert parse("") == parse("--- ...") == NOBODY
    assert not NOBODY
    assert len("".join(parse("ab " * 10_000).tokens)) <= NAME_CHARS_MAX
