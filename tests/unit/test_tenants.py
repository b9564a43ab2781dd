"""Tenants' configurations: what a file may say, how mistakes are told, which version is in force when."""

from __future__ import annotations

import csv
import json
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.tenants.book import ALWAYS_MS, EFFECTIVE_DELAY_MS, TenantBook
from connectors.tenants.checks import countries
from connectors.tenants.document import (
    FILE_CHARS_MAX,
    TenantFileError,
    document_hash,
    document_of,
    parse_tenants,
)
from pipeline.stages.fraud_library import LIBRARY
from schemas.records import TenantConfigured
from schemas.tenant_rules import (
    METHODS,
    MOVED_THRESHOLDS,
    FeeRules,
    FraudRules,
    MethodRules,
    RuleTuning,
    ScreeningRules,
    TenantRules,
    rules_of,
)

ROOT = Path(__file__).resolve().parents[2]
PICS = ("simulator",)
LEAST = "tenant: acme\npic: simulator\ncurrencies: [EUR]\n"


def parsed(text: str) -> list[TenantRules]:
    """The tenants in ``text``."""
    return parse_tenants(text, "t.yaml", pics=PICS)


def refused(text: str) -> list[str]:
    """Why ``text`` is refused, without the file's name."""
    with pytest.raises(TenantFileError) as caught:
        parsed(text)
    assert all(mistake.startswith("t.yaml:") for mistake in caught.value.mistakes)
    return [mistake.removeprefix("t.yaml:") for mistake in caught.value.mistakes]


def test_what_is_left_out_has_its_default() -> None:
    """Three fields are enough; every method is then taken."""
    assert parsed(LEAST) == [TenantRules(tenant="acme", pic="simulator", currencies=["EUR"])]
    assert tuple(parsed(LEAST)[0].methods) == METHODS


def test_every_field_is_read() -> None:
    """Each field goes where its name says, underscores in numbers included."""
    text = """
    tenant: acme
    pic: simulator
    currencies: [EUR, JPY]
    countries: [DE, NO]
    methods:
      card: {min_minor: {EUR: 100}, max_minor: {EUR: 500_000, JPY: 9}}
      gift_card: {}
    fee: {percent_bp: 150, fixed_minor: {EUR: 25}}
    screening: {refer_at: 0.85, block_at: 0.95}
    fraud:
      refer_at: 0.5
      decline_at: 1
      rules:
        payer_velocity_1d: {enabled: false}
        card_testing_1d:
          weight: 0.75
          thresholds: {count_max: 6, mean_minor_max: 1_000}
    """
    assert parsed(text) == [
        TenantRules(
            tenant="acme",
            pic="simulator",
            currencies=["EUR", "JPY"],
            countries=["DE", "NO"],
            methods={
                "card": MethodRules(min_minor={"EUR": 100}, max_minor={"EUR": 500_000, "JPY": 9}),
                "gift_card": MethodRules(),
            },
            fee=FeeRules(percent_bp=150, fixed_minor={"EUR": 25}),
            screening=ScreeningRules(refer_at=0.85, block_at=0.95),
            fraud=FraudRules(
                refer_at=0.5,
                decline_at=1.0,
                rules={
                    "payer_velocity_1d": RuleTuning(enabled=False),
                    "card_testing_1d": RuleTuning(weight=0.75, thresholds={"count_max": 6, "mean_minor_max": 1000}),
                },
            ),
        )
    ]


def test_norway_is_a_country() -> None:
    """YAML 1.1 takes NO for a truth value; here it is text."""
    assert parsed(LEAST + "countries: [NO, SE]")[0].countries == ["NO", "SE"]


def test_several_documents_are_several_tenants() -> None:
    """As is a list, and both together; an empty document is none."""
    other = LEAST.replace("acme", "other")
    third = "- " + LEAST.replace("acme", "third").replace("\n", "\n  ").rstrip(" ")
    text = "---\n".join([LEAST, other, third, "", ""])
    assert [rules.tenant for rules in parsed(text)] == ["acme", "other", "third"]


def test_a_file_is_refused_whole_with_every_mistake_and_its_line() -> None:
    """Mistakes of all tenants, in the order of the file; one right tenant does not help."""
    text = """\
- tenant: good
  pic: simulator
  currencies: [EUR]
- tenant: acme
  pic: other
  currencies: [EUR, eur, USD, USD]
  countries: [XX]
  methods:
    card:
      min_minor: {USD: 20}
      max_minor: {GBP: 5, USD: 10, EUR: 010}
  fee: {percent_bp: 10_001, fixed_minor: {EUR: -1}}
  screening: {refer_at: 1.5}
  fraud:
    refer_at: 0.6
    decline_at: 0.4
    rules: {amount_high: {weight: "5"}}
- tenant: good
  pic:
  curencies: [EUR]
"""
    assert refused(text) == [
        "5: pic: must be one of simulator, is 'other'",
        "6: currencies[3]: 'USD' is named twice",
        "6: currencies[1]: must be an ISO 4217 code in capitals, is 'eur'",
        "7: countries[0]: must be an ISO 3166-1 code of two capitals, is 'XX'",
        "11: methods.card.max_minor.EUR: must be a whole number, is 010",
        "11: methods.card.max_minor.GBP: must be under one of the tenant's currencies",
        "11: methods.card.max_minor.USD: must be at least min_minor (20), is 10",
        "12: fee.percent_bp: must be between 0 and 10000 basis points, is 10001",
        "12: fee.fixed_minor.EUR: must be between 0 and 10000000000000 minor units, is -1",
        "13: screening.refer_at: must be between 0 and 1, is 1.5",
        "16: fraud.decline_at: must be between refer_at (0.6) and 1, is 0.4",
        "17: fraud.rules.amount_high.weight: must be a number, is '5'",
        "18: currencies: is missing",
        "18: tenant: good is configured already, at line 1",
        "19: pic: must be text, is empty",
        "20: curencies: unknown field; did you mean currencies?",
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["1: the file holds no tenant"]),
        ("# nothing\n---\n", ["1: the file holds no tenant"]),
        ("5", ["1: must be a mapping with tenant, pic, currencies, ..., is 5"]),
        ("- - a", ["1: must be a mapping with tenant, pic, currencies, ..., is a list"]),
        ("a: b: c", ["1: not YAML: mapping values are not allowed here"]),
        ("a: 1\nb: \x07", ["2: not YAML: a character that YAML does not take"]),
        ("a: &x 1\nb: *x", ["1: anchors and aliases are not taken: write the value out"]),
        ("a: 1\nb: *x", ["2: anchors and aliases are not taken: write the value out"]),
        ("a: !!python/object/apply:os.getcwd []", ["1: tags are not taken: write the plain value"]),
        ("[" * 50_000, ["1: more than 10 levels deep"]),
        (LEAST + "tenant: other", ["4: tenant: is written already, at line 1"]),
        (LEAST + "fee:\n  percent_bp: 1\n  percent_bp: 1", ["6: fee.percent_bp: is written already, at line 5"]),
        (LEAST + "<<: {pic: x}", ["4: <<: a name must be text"]),
        (LEAST + "7: x", ["4: 7: a name must be text"]),
        (LEAST + "countries: [12]", ["4: countries[0]: must be text, is 12; put it in quotes"]),
        (LEAST + "countries: DE", ["4: countries: must be a list, is 'DE'"]),
        (LEAST + "countries: [DE, [AT]]", ["4: countries[1]: must be text, is a list"]),
        (LEAST + "fee: 5", ["4: fee: must be a mapping with percent_bp, fixed_minor, tiers, ..., is 5"]),
        (LEAST + "fee: {percent_bp: 1.5}", ["4: fee.percent_bp: must be a whole number, is 1.5"]),
        (LEAST + "fee: {percent_bp: true}", ["4: fee.percent_bp: must be a whole number, is true"]),
        (LEAST + "fee: {percent_bp: 1:30}", ["4: fee.percent_bp: must be a whole number, is 1:30"]),
        (LEAST + "fraud: {refer_at: .nan}", ["4: fraud.refer_at: must be a number, is .nan"]),
        (LEAST + "fraud: {decline_at: 1.01}", ["4: fraud.decline_at: must be between refer_at (0.6) and 1, is 1.01"]),
        (LEAST + "fraud: {refer_at: 0.9}", ["4: fraud.decline_at: must be between refer_at (0.9) and 1, is 0.8"]),
        (LEAST + "screening: {block_at: 0.5}", ["4: screening.block_at: must be between refer_at (0.9) and 1, is 0.5"]),
        (
            LEAST + "fraud:\n  rules:\n    payer_velocty_1d:\n      enabled: false",
            ["6: fraud.rules.payer_velocty_1d: unknown rule; did you mean payer_velocity_1d?"],
        ),
        (
            LEAST + "fraud: {rules: {zzz: {}}}",
            [
                "4: fraud.rules.zzz: unknown rule; there are payer_velocity_1h, payer_velocity_1d, payer_velocity_7d, "
                "payer_amount_1d, payer_rise_1d, payee_burst_1h, payee_velocity_1d, payee_rise_1d, "
                "payee_amount_rise_1d, card_testing_1d, small_amounts_1h, probe_then_purchase_1h and 27 more"
            ],
        ),
        (
            LEAST + "fraud: {rules: {card_testing_1d: {wight: 1}}}",
            ["4: fraud.rules.card_testing_1d.wight: unknown field; did you mean weight?"],
        ),
        (
            LEAST + "fraud: {rules: {card_testing_1d: {enabled: yes, weight: 1.01}}}",
            [
                "4: fraud.rules.card_testing_1d.enabled: must be true or false, is yes",
                "4: fraud.rules.card_testing_1d.weight: must be between 0 and 1, is 1.01",
            ],
        ),
        (
            LEAST + "fraud: {rules: {card_testing_1d: {thresholds: {count_mx: 1, mean_minor_max: -1}}}}",
            [
                "4: fraud.rules.card_testing_1d.thresholds.count_mx: unknown threshold; did you mean count_max?",
                "4: fraud.rules.card_testing_1d.thresholds.mean_minor_max: must be between 0 and 10000000000000, is -1.0",
            ],
        ),
        (
            LEAST + "fraud: {payee_count_1h_max: 5}",
            ["4: fraud.payee_count_1h_max: is now fraud.rules.payee_burst_1h.thresholds.count_max"],
        ),
        (LEAST + "review: {hours: 0}", ["4: review.hours: must be above 0 and at most 720, is 0"]),
        (LEAST + "review: {hours: 721}", ["4: review.hours: must be above 0 and at most 720, is 721"]),
        (LEAST + "review: {at_expiry: pay}", ["4: review.at_expiry: must be approve or reject, is 'pay'"]),
        (LEAST + "methods: {}", ["4: methods: must name at least one method"]),
        (
            LEAST + "methods: {Card: {}}",
            ["4: methods.Card: a method's name must be 1 to 40 of a-z, 0-9 and '_', beginning with a letter"],
        ),
        (LEAST.replace("[EUR]", "[]"), ["3: currencies: must name at least one currency"]),
        (LEAST.replace("[EUR]", "[XAU]"), ["3: currencies[0]: must be an ISO 4217 code in capitals, is 'XAU'"]),
        (
            LEAST.replace("acme", "Acme|1"),
            ["1: tenant: must be 1 to 40 of a-z, 0-9, '-' and '_', not beginning with '-' or '_', is 'Acme|1'"],
        ),
    ],
)
def test_each_mistake_is_told_as_what_it_is(text: str, mistakes: list[str]) -> None:
    """One mistake, one message, on its line; nothing that hangs on a mistake is reported as another."""
    assert refused(text) == mistakes


def test_a_large_file_is_refused_unread() -> None:
    """The bound is on characters, before any YAML is read."""
    assert refused("#" * (FILE_CHARS_MAX + 1)) == [
        f"1: the file has {FILE_CHARS_MAX + 1} characters, at most {FILE_CHARS_MAX} are read"
    ]


def test_a_card_number_in_the_wrong_field_is_not_repeated() -> None:
    """Not in a value, not in a name, not in a number that is out of bounds; long values are cut."""
    card = "4111111111111111"
    text = f"tenant: {card}\npic: '{card}'\ncurrencies: ['{card}']\n"
    text += f"fee: {{percent_bp: {card}, fixed_minor: {{EUR: {card}}}}}\n"
    told = "\n".join(refused(text + "methods: {card: {max_minor: {EUR: " + "9" * 60 + "}}}"))
    assert card not in told
    assert "9" * 13 not in told
    assert told.count("a value of 13 digits or more") == 6
    assert "x" * 41 not in "\n".join(refused(LEAST.replace("acme", "x" * 500) + "y" * 500 + ": 1"))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    """No other error comes out, whatever goes in."""
    with suppress(TenantFileError):
        assert parsed(text)


def test_the_example_is_right_and_its_first_tenant_spells_out_the_defaults() -> None:
    """docs/tenants-example.yaml parses; what its comments call defaults are those of the program."""
    acme, kiosk = parse_tenants((ROOT / "docs" / "tenants-example.yaml").read_text(), "example", pics=PICS)
    assert (acme.tenant, kiosk.tenant) == ("acme", "kiosk")
    assert (acme.fraud.refer_at, acme.fraud.decline_at) == (FraudRules().refer_at, FraudRules().decline_at)
    for name, tuning in acme.fraud.rules.items():
        rule = LIBRARY[name]
        assert tuning.enabled
        assert tuning.weight in (None, rule.weight)
        assert tuning.thresholds.items() <= {(threshold.name, threshold.default) for threshold in rule.thresholds()}
    assert acme.screening == ScreeningRules() == kiosk.screening
    assert set(acme.currencies).isdisjoint(kiosk.currencies)


def test_countries_are_those_of_iso_3166() -> None:
    """249 codes are assigned, XK is in use; groups and private codes are not among them, and the EU has its 27."""
    assert len(countries()) == 250
    assert not countries() & {"EU", "UN", "ZZ", "XA", "QO", "UK", "AC"}
    eu = "ATBEBGCYCZDEDKEEESFIFRGRHRHUIEITLTLULVMTNLPLPTROSESISK"
    assert countries() >= {eu[at : at + 2] for at in range(0, 54, 2)}


def test_every_active_currency_can_be_configured() -> None:
    """All codes that list one of ISO 4217 has with a minor unit, in one tenant."""
    path = ROOT.parent / "shared" / "data" / "iso4217" / "codes-all.csv"
    if not path.exists():
        pytest.skip("shared/data/iso4217/codes-all.csv is not there")
    with path.open() as file:
        codes = {
            row["AlphabeticCode"]
            for row in csv.DictReader(file)
            if row["MinorUnit"].isdigit() and not row["WithdrawalDate"]
        }
    assert len(codes) > 150
    known = {code for code in codes if _is_taken(code)}
    # The list at hand and the program's may be of different years; see tests of schemas/money.py.
    assert len(codes - known) <= 5


def _is_taken(currency: str) -> bool:
    try:
        return bool(parsed(LEAST.replace("EUR", currency)))
    except TenantFileError:
        return False


def test_the_document_is_canonical() -> None:
    """All fields, keys sorted; the order in which maps were written does not matter; and it reads back the same."""
    one = TenantRules(tenant="a", pic="p", currencies=["EUR", "USD"], fee=FeeRules(fixed_minor={"USD": 1, "EUR": 2}))
    same = TenantRules(tenant="a", pic="p", currencies=["EUR", "USD"], fee=FeeRules(fixed_minor={"EUR": 2, "USD": 1}))
    assert document_of(one) == document_of(same)
    assert list(json.loads(document_of(one))) == sorted(TenantRules.__struct_fields__)
    assert rules_of(document_of(one)) == one
    # RFC 7693 leaves digest sizes open; the value is b2sum -l 128 of the empty input.
    assert document_hash("") == "cae66941d9efbd404e4d88758ea67670"


#: As a program wrote it before the rules became a library (version 0.1.0), every field set.
OLD_DOCUMENT = (
    '{"countries":[],"currencies":["EUR"],"fee":{"fixed_minor":{},"percent_bp":0},"fraud":{"amount_to_mean_max":12.5,'
    '"card_testing_count_1d_max":6,"card_testing_mean_minor_max":150,"decline_at":0.9,"payee_chargeback_bp_max":300,'
    '"payee_count_1h_max":80,"payer_count_1d_max":30,"payer_terminals_1d_max":4,"refer_at":0.5},'
    '"methods":{"card":{"max_minor":{},"min_minor":{}}},"pic":"simulator",'
    '"screening":{"block_at":1.0,"refer_at":0.9},"tenant":"acme"}'
)


def test_a_document_of_an_earlier_program_is_read() -> None:
    """Limits that were fields are thresholds of the rules that they belonged to, and the version comes into force."""
    fraud = rules_of(OLD_DOCUMENT).fraud
    assert (fraud.refer_at, fraud.decline_at) == (0.5, 0.9)
    assert {name: tuning.thresholds for name, tuning in fraud.rules.items()} == {
        "payer_velocity_1d": {"count_max": 30},
        "amount_unusual_30d": {"ratio_max": 12.5},
        "payer_terminals_1d": {"terminals_max": 4},
        "payee_burst_1h": {"count_max": 80},
        "payee_chargebacks_30d": {"share_bp_max": 300},
        "card_testing_1d": {"count_max": 6, "mean_minor_max": 150},
    }
    assert all(tuning.enabled and tuning.weight is None for tuning in fraud.rules.values())
    book = TenantBook()
    record = TenantConfigured(
        tenant="acme", version=1, document=OLD_DOCUMENT, document_hash=document_hash(OLD_DOCUMENT)
    )
    assert book.apply(record, 0)
    assert book.refused == 0


def test_what_was_moved_is_in_the_library() -> None:
    """Each field became a threshold that there is."""
    for rule, threshold in MOVED_THRESHOLDS.values():
        assert threshold in {each.name for each in LIBRARY[rule].thresholds()}


def a_version(version: int, /, tenant: str = "acme", **named: object) -> TenantConfigured:
    """A record of a valid configuration; ``percent_bp`` is its version, to tell them apart."""
    rules = TenantRules(tenant=tenant, pic="simulator", currencies=["EUR"], fee=FeeRules(percent_bp=version))
    document = document_of(rules)
    fields = {"tenant": tenant, "version": version, "document": document, "document_hash": document_hash(document)}
    return TenantConfigured(**(fields | named))  # type: ignore[arg-type]


def in_force(book: TenantBook, at_ms: int, tenant: str = "acme") -> tuple[int, int] | None:
    """Number of the version in force and its ``percent_bp``."""
    found = book.rules(tenant, at_ms)
    return None if found is None else (found[0], found[1].fee.percent_bp)


def test_a_tenant_that_is_not_configured_has_no_rules() -> None:
    """None, not an error: it is for screening to refuse."""
    assert TenantBook().rules("acme", 0) is None


def test_a_version_is_in_force_a_second_after_it_was_written() -> None:
    """The first one from the beginning, each other one to the millisecond."""
    book = TenantBook()
    for version, written_at_ms in ((1, 50_000), (2, 60_000), (3, 70_000)):
        assert book.apply(a_version(version), written_at_ms)
    assert EFFECTIVE_DELAY_MS == 1000
    expected = {0: 1, 50_000: 1, 60_999: 1, 61_000: 2, 70_999: 2, 71_000: 3, 10**15: 3}
    assert {at_ms: in_force(book, at_ms) for at_ms in expected} == {at: (v, v) for at, v in expected.items()}
    assert [version.in_force_at_ms for version in book.versions("acme")] == [ALWAYS_MS, 61_000, 71_000]


@given(st.permutations([(1, 50_000), (2, 60_000), (3, 60_200), (4, 90_000)]), st.integers(0, 100_000))
def test_the_order_of_reading_does_not_matter(order: list[tuple[int, int]], at_ms: int) -> None:
    """Partitions may be read in any order: the same versions are in force at the same times."""
    book, straight = TenantBook(), TenantBook()
    for version, written_at_ms in order:
        book.apply(a_version(version), written_at_ms)
    for version, written_at_ms in sorted(order):
        straight.apply(a_version(version), written_at_ms)
    assert in_force(book, at_ms) == in_force(straight, at_ms)
    assert [version.number for version in book.versions("acme")] == [1, 2, 3, 4]


def test_a_later_version_is_never_in_force_before_an_earlier_one() -> None:
    """Also when a broker's clock went back between them."""
    book = TenantBook()
    for version, written_at_ms in ((1, 50_000), (2, 60_000), (3, 40_000)):
        book.apply(a_version(version), written_at_ms)
    assert in_force(book, 60_999) == (1, 1)
    assert in_force(book, 61_000) == (3, 3)


def test_a_known_version_is_not_replaced() -> None:
    """A second record of the same version changes nothing, whatever it says: payments were decided by the first."""
    book = TenantBook()
    book.apply(a_version(1), 50_000)
    other = document_of(TenantRules(tenant="acme", pic="simulator", currencies=["USD"]))
    assert not book.apply(a_version(1, document=other, document_hash=document_hash(other)), 50_001)
    assert book.versions("acme")[0].rules.currencies == ["EUR"]
    assert book.refused == 0


def test_tenants_do_not_mix() -> None:
    """Each has its own versions."""
    book = TenantBook()
    book.apply(a_version(1, "one"), 50_000)
    book.apply(a_version(1, "two"), 50_000)
    book.apply(a_version(2, "two"), 60_000)
    assert book.tenants() == ["one", "two"]
    assert (in_force(book, 10**9, "one"), in_force(book, 10**9, "two")) == ((1, 1), (2, 2))


BAD = document_of(TenantRules(tenant="acme", pic="simulator", currencies=["EUR"], fee=FeeRules(percent_bp=99_999)))
OTHERS = document_of(TenantRules(tenant="other", pic="simulator", currencies=["EUR"]))


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"document": "{"}, "truncated"),
        ({"document": "{}"}, "missing required field"),
        ({"document": BAD}, "fee.percent_bp: must be between 0 and 10000 basis points"),
        ({"document": OTHERS}, "another one than the record's"),
        ({"document_hash": "0" * 32}, "another hash"),
        ({"version": 0}, "below 1"),
    ],
)
def test_an_invalid_version_is_ignored_loudly(
    named: dict[str, object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else wrote it: the version before stays, it is counted, and the log names tenant, version and reason."""
    book = TenantBook()
    book.apply(a_version(1), 50_000)
    if "document" in named:
        named = {"document_hash": document_hash(str(named["document"]))} | named
    with caplog.at_level(logging.ERROR):
        assert not book.apply(a_version(2, **named), 60_000)  # type: ignore[arg-type]
    assert in_force(book, 10**9) == (1, 1)
    assert book.refused == 1
    told = caplog.records[0].getMessage()
    assert told.startswith(f"tenant acme version {named.get('version', 2)} is ignored")
    assert why in told.lower() or why in told
