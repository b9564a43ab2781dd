"""The demo's traffic: deterministic, valid where it says so, with every scene, and recounted rightly."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from subprocess import run

import msgspec
import pytest

from connectors.demo.generator import Post, expected, generate, tenants_yaml
from connectors.demo.world import PLACES
from connectors.lists import sample
from connectors.tenants.book import rule_book
from connectors.tenants.document import parse_tenants
from pipeline.stages.features import PAYER_FEATURES
from pipeline.stages.fraud import Approved, assess
from pipeline.stages.localization import Accepted as Localized
from pipeline.stages.localization import Rejected, localize
from pipeline.stages.profiles import PayeeProfile, PayerProfile, add_payee_payment, add_payer_payment, payee_features
from pipeline.stages.request_check import Accepted, check_request
from pipeline.stages.rules.facts import facts_of
from pipeline.stages.screening import Blocked, Clear, Referred, screen
from pipeline.stages.watchlist import Watchlists
from schemas.codec import Codec, UndecodableError
from schemas.limits import VALUE_BYTES_MAX
from schemas.records import PaymentRequested
from schemas.tenant_rules import ScreeningRules

ROOT = Path(__file__).parents[2]
START_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
LISTS = Watchlists(sample.load(), version=sample.VERSION)
RULES = {rules.tenant: rules for rules in parse_tenants(tenants_yaml(), "tenants.yaml", pics=["simulator"])}
BOOKS = {tenant: rule_book(rules) for tenant, rules in RULES.items()}

#: What the issue of each single scene is, by the stage's own words.
REFUSED = {
    "card_number": "card_number",
    "unknown_currency": "unknown_currency",
    "amount_zero": "amount_not_positive",
    "requested_in_future": "requested_in_future",
}


def posts(count: int = 2_000, seed: int = 1, **options: object) -> list[Post]:
    return list(generate(count, seed=seed, start_ms=START_MS, **options))  # type: ignore[arg-type]


def request_of(post: Post) -> PaymentRequested:
    return Codec().decode(post.value, PaymentRequested)


def test_the_same_seed_gives_the_same_bytes_in_any_process() -> None:
    """Another process, with another hash seed, gives the same; another seed does not."""
    code = (
        "import sys, hashlib; from connectors.demo.generator import generate\n"
        f"h = hashlib.sha256()\nfor p in generate(600, seed=7, start_ms={START_MS}): h.update(repr(p).encode())\n"
        "print(h.hexdigest())"
    )
    digests = {
        run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": h}, check=True, capture_output=True).stdout
        for h in ("1", "2")
    }
    assert len(digests) == 1
    assert posts(600, seed=7) == posts(600, seed=7)
    assert posts(50, seed=8)[0].value != posts(50, seed=7)[0].value


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("count", [0, 1, 10, 11, 60, 500])
def test_any_count_gives_exactly_that_many(count: int, plain: bool) -> None:
    """Tiny streams too, with and without scenes."""
    assert len(posts(count, plain=plain)) == count


def test_plain_traffic_is_valid_and_taken_by_the_demo_tenants() -> None:
    """Only firsts and repeats; every first passes the request check, screening and localization."""
    made = posts(3_000, plain=True)
    assert {post.kind for post in made} == {"first", "repeat"}
    for post in made:
        request = request_of(post)
        assert request == post.request
        assert post.topic_key == f"{request.tenant}|{request.payment_id}".encode()
        assert post.payment == (request.tenant, request.payment_id)
        assert check_request(request, received_at_ms=START_MS) == Accepted()
        assert isinstance(screen(request.debtor, request.creditor, lists=LISTS, rules=ScreeningRules()), Clear)
        assert isinstance(localized(request), Localized)
        assert request.currency == PLACES[request.debtor.country].currency
        assert request.instrument.token.startswith(f"tok_{request.tenant}_")


def localized(request: PaymentRequested) -> Localized | Rejected:
    return localize(facts_of(request, START_MS), RULES[request.tenant], BOOKS[request.tenant])


def test_repeats_are_the_same_bytes_and_have_the_share_that_was_asked_for() -> None:
    """A repeat comes after its first, under the same key; 10 % of 5,000 is 500, within four standard deviations."""
    first: dict[tuple[str, str], Post] = {}
    repeats = 0
    for post in posts(5_000, plain=True, repeat_share=0.1):
        assert post.payment is not None
        if post.kind == "first":
            assert post.payment not in first
            first[post.payment] = post
        else:
            repeats += 1
            assert (post.value, post.topic_key) == (first[post.payment].value, first[post.payment].topic_key)
    assert 415 <= repeats <= 585
    assert {post.kind for post in posts(500, plain=True, repeat_share=0.0)} == {"first"}


@pytest.mark.parametrize("plain", [True, False])
def test_times_ascend_to_the_start_and_never_pass_it(plain: bool) -> None:
    """New firsts ascend within the span; only the scene from the future is later than the start."""
    made = posts(2_000, plain=plain)
    times = [
        post.request.requested_at_ms
        for post in made
        if post.kind == "first" and post.request is not None and post.about != "requested_in_future"
    ]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[0] >= START_MS - HOUR_MS
    assert times[-1] < START_MS


def test_every_scene_is_there_and_is_what_it_says() -> None:
    """2,000 posts: each single scene ends in the stage, and with the reason, that it is there to show."""
    made = posts(2_000)
    by_about: dict[str, list[Post]] = {}
    for post in made:
        by_about.setdefault(post.about, []).append(post)
    for about, reason in REFUSED.items():
        for post in by_about[about]:
            refused = check_request(request_of(post), received_at_ms=START_MS)
            assert getattr(refused, "reason", None) == reason, about
    assert len(by_about["card_number"]) == 3
    for about in ("currency_not_allowed", "country_not_allowed", "method_not_allowed"):
        for post in by_about[about]:
            decision = localized(request_of(post))
            assert isinstance(decision, Rejected)
            assert decision.reason == about
    for about, kind in (("sanctioned", Blocked), ("resembling", Referred)):
        for post in by_about[about]:
            r = request_of(post)
            found = screen(r.debtor, r.creditor, lists=LISTS, rules=RULES[r.tenant].screening)
            assert isinstance(found, kind)
    assert by_about["unknown_tenant"][0].payment == ("nobody", request_of(by_about["unknown_tenant"][0]).payment_id)
    wrong = by_about["wrong_key"][0]
    assert wrong.topic_key != f"{wrong.payment[0]}|{wrong.payment[1]}".encode() if wrong.payment else False
    assert by_about["no_key"][0].topic_key is None
    assert by_about["empty"][0].value == b""
    assert len(by_about["oversize"][0].value) > VALUE_BYTES_MAX
    for about in ("garbage", "cut_off"):
        with pytest.raises(UndecodableError):
            request_of(by_about[about][0])
    for behaviour in ("decline", "slow", "lost", "error"):
        for post in by_about[f"pic_{behaviour}"]:
            assert request_of(post).instrument.token.startswith(f"tok_{behaviour}_")


def test_conflicts_contradict_a_payment_that_came_before() -> None:
    """The same id, another amount or payee, after the first."""
    firsts: dict[tuple[str, str], PaymentRequested] = {}
    groups = Counter[str]()
    for post in posts(2_000):
        if post.kind == "conflict":
            assert post.payment is not None
            assert post.request is not None
            first = firsts[post.payment]
            changed = [f for f in PaymentRequested.__struct_fields__ if getattr(first, f) != getattr(post.request, f)]
            groups.update(changed)
        elif post.kind == "first" and post.request is not None and post.payment is not None:
            firsts[post.payment] = post.request
    assert groups == {"amount_minor": 3, "creditor": 1}


def test_fraud_sees_the_scenes_and_leaves_the_everyday_alone() -> None:
    """Through the real profiles and rules: most card testing and many jumps are stopped, hardly any everyday."""
    payers: dict[tuple[str, str], PayerProfile] = {}
    payees: dict[tuple[str, str, str], PayeeProfile] = {}
    seen, stopped = Counter[str](), Counter[str]()
    for post in posts(4_000):
        r = post.request
        if post.kind != "first" or r is None or r.tenant not in RULES or post.about in REFUSED:
            continue
        payer = payers.setdefault((r.tenant, r.debtor.id), PayerProfile())
        payee = payees.setdefault((r.tenant, r.creditor.id, r.terminal_id), PayeeProfile())
        facts = add_payer_payment(
            payer,
            r.requested_at_ms,
            r.amount_minor,
            terminal=r.creditor.id + r.terminal_id,
            card=r.instrument.token,
            country=r.locality.country,
            home=r.debtor.country,
        )
        new = bool(facts[PAYER_FEATURES.index("payee_new")])
        add_payee_payment(payee, r.requested_at_ms, r.amount_minor, card=r.instrument.token, new_payer=new)
        at = r.requested_at_ms
        found = assess(facts, payee_features(payee, at), r.amount_minor, at, RULES[r.tenant].fraud)
        seen[post.about] += 1
        stopped[post.about] += not isinstance(found, Approved)
    assert stopped["everyday"] <= 0.02 * seen["everyday"]
    assert stopped["card_testing"] >= 0.6 * seen["card_testing"]
    assert stopped["regular"] <= 0.1 * seen["regular"]
    assert stopped["compromised_terminal"] >= 0.25 * seen["compromised_terminal"] > 2


def test_the_recount_agrees_with_what_was_generated() -> None:
    """Recounted from bytes alone: the same numbers as the labels say, and the sum is all there is."""
    made = posts(2_000)
    kinds = Counter(post.kind for post in made)
    found = expected(made)
    assert found["posts"] == 2_000
    assert found["payments"] == kinds["first"] == sum(found["payments_of"].values())
    assert found["repeats"] == kinds["repeat"]
    assert found["dead_letters"] == kinds["garbage"] == 5
    assert found["conflicts"] == sorted(
        [list(post.payment) for post in made if post.kind == "conflict" and post.payment]
    )
    assert found["conflicting_requests"] == 4
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_the_recount_by_hand() -> None:
    """Two payments; one repeated, one contradicted by two requests, one of them twice; three records that are none."""
    a, b = posts(2, plain=True)
    assert a.request is not None
    codec = Codec()

    def again(amount_minor: int) -> Post:
        assert a.request is not None
        value = codec.encode(msgspec.structs.replace(a.request, amount_minor=amount_minor))
        return Post(a.topic_key, value, "", a.payment, None, "conflict")

    nothing = [Post(b"k", b"", "", None, None, "garbage"), Post(b"k", b"\xc3\x01x", "", None, None, "garbage")]
    found = expected([a, b, b, again(7), again(8), again(7), *nothing, Post(None, a.value, "", None, None, "garbage")])
    assert found == {
        "posts": 9,
        "payments": 2,
        "payments_of": {"aurora": 1, "borealis": 1},
        "repeats": 1,
        "conflicts": [["aurora", a.request.payment_id]],
        "conflicting_requests": 2,
        "dead_letters": 3,
    }


def test_any_tenants_and_runs() -> None:
    """Names of tenants and the beginning of payment ids are the caller's; behaviours can be had in plain traffic."""
    made = posts(400, plain=True, tenants=("one", "two", "three"), run="r9-", behaviour_share=0.5)
    assert {post.payment[0] for post in made if post.payment} == {"one", "two", "three"}
    assert all(post.payment[1].startswith("r9-") for post in made if post.payment)
    assert {"pic_decline", "pic_lost", "pic_error", "pic_slow", "everyday"} <= {p.about for p in made}


def test_names_come_in_several_scripts() -> None:
    """Latin with marks, Greek, Japanese or Chinese, Cyrillic, Arabic."""
    names = "".join(post.request.debtor.name for post in posts(3_000, plain=True) if post.request)
    for low, high in (("À", "ž"), ("Α", "ω"), ("一", "龥"), ("А", "я"), ("ا", "ي")):
        assert any(low <= character <= high for character in names), f"no character from {low} to {high}"


@pytest.mark.parametrize("wrong", [{"count": -1}, {"tenants": ()}, {"span_ms": 0}, {"repeat_share": 1.0}])
def test_what_cannot_be_generated_is_an_error(wrong: dict[str, object]) -> None:
    """It names the values."""
    with pytest.raises(ValueError, match="count="):
        posts(**({"count": 1} | wrong))  # type: ignore[arg-type]


def test_the_demo_tenants() -> None:
    """Two, both carried by the simulator."""
    assert {name: rules.pic for name, rules in RULES.items()} == {"aurora": "simulator", "borealis": "simulator"}
