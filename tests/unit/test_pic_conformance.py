"""The conformance kit: the simulator passes all of it, and a plugin with one fault fails the scenarios that are about it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import pytest

from connectors.pic.base import KINDS, Abilities, Answer, Call, Kind, Notice, NotificationError, Notified, Plugin
from connectors.pic.calls import Pic
from connectors.pic.conformance import kit
from connectors.pic.conformance.scenario import CheckError, Scenario, scenario
from connectors.pic.conformance.scenarios import ALL
from connectors.pic.conformance.simulator_stand import SimulatorStand
from connectors.pic.conformance.stand import Behaviour, Effect, Stand, find_stand
from connectors.pic.ledger import SqliteLedger
from connectors.pic.options import PicOptions
from connectors.pic.simulator import Simulator
from connectors.pic.simulator_notices import Event
from schemas.money import minor_units

BY_NAME = {each.name: each for each in ALL}
DECLINED = {name for name in BY_NAME if name.startswith("declined_")}
#: A fault, and the scenarios that are about it.
FAULTS: dict[str, set[str]] = {
    "two decimals for every currency": {"a_currency_without_minor_units", "a_currency_with_three_decimals"},
    "amounts through floats": {"a_large_amount_is_exact"},
    "no references": {
        "a_payment_is_made",
        "an_authorization_holds_and_moves_nothing",
        "a_challenge_sends_the_payer_somewhere",
    },
    "one reference for all": {"payments_are_told_apart"},
    "answers in another order": {"a_batch_is_answered_in_order"},
    "asks for what it cannot do": {"a_currency_that_is_not_taken", "what_is_not_offered_is_declined"},
    "every decline is other": DECLINED
    | {"a_declined_authorization_holds_nothing", "a_repeated_decline_stays_declined", "a_decline_is_told"},
    "declines move money": DECLINED | {"a_declined_authorization_holds_nothing", "a_repeated_decline_stays_declined"},
    "the PIC's own texts": {"reasons_are_safe_to_show"},
    "captures and refunds everything": {
        "a_part_is_captured",
        "captures_follow_each_other",
        "a_part_is_refunded",
        "refunds_follow_each_other",
        "never_more_than_was_captured",
    },
    "does nothing but pay": {
        "a_capture_takes_what_was_authorized",
        "a_void_lets_go",
        "a_payment_is_refunded",
        "a_refund_whose_answer_is_lost_is_found",
        "a_capture_whose_answer_is_lost_is_found",
    },
    "no limits": {
        "never_more_than_was_authorized",
        "never_more_in_all_than_was_authorized",
        "nothing_is_captured_twice",
        "what_is_not_there_is_not_captured",
        "nothing_is_captured_after_a_void",
        "nothing_is_voided_after_a_capture",
        "never_more_than_was_paid",
        "never_more_in_all_than_was_paid",
        "nothing_is_refunded_twice",
        "what_was_not_captured_is_not_refunded",
        "never_more_than_was_captured",
    },
    "a new key each time": {
        "a_repeated_capture_is_one",
        "a_repeated_void_is_one",
        "a_repeated_refund_is_one",
        "a_repeat_is_answered_the_same",
        "many_at_once_are_one",
        "a_repeat_after_a_lost_answer_is_answered",
        "a_repeat_is_not_another_challenge",
        "the_same_key_with_another_amount",
    },
    "the key is all that counts": {"the_same_key_with_another_amount"},
    "unknown is a yes": {
        "what_is_not_known_is_no_success",
        "a_capture_whose_answer_is_lost_is_found",
        "a_refund_whose_answer_is_lost_is_found",
        "a_repeat_after_a_lost_answer_is_answered",
        "a_repeat_after_a_broken_connection_is_made",
        "a_payment_whose_answer_is_lost_is_found",
        "a_late_answer_is_looked_up",
        "a_broken_connection_is_unknown",
        "a_rubbish_answer_is_unknown",
        "an_error_of_the_pic_is_unknown",
        "what_is_not_decided_is_pending",
    },
    "unknown is a no": {
        "what_is_not_known_is_no_success",
        "a_payment_whose_answer_is_lost_is_found",
        "a_late_answer_is_looked_up",
        "a_broken_connection_is_unknown",
        "a_rubbish_answer_is_unknown",
        "an_error_of_the_pic_is_unknown",
    },
    "unknown is unsent": {
        "what_is_not_known_is_no_success",
        "a_payment_whose_answer_is_lost_is_found",
        "a_late_answer_is_looked_up",
        "a_broken_connection_is_unknown",
        "a_rubbish_answer_is_unknown",
        "an_error_of_the_pic_is_unknown",
        "what_is_not_decided_is_pending",
    },
    "unsent is unknown": {"too_many_requests_is_unsent", "no_connection_is_unsent"},
    "does not say how long to wait": {"too_many_requests_is_unsent"},
    "waits for nobody": {"a_slow_answer_is_an_answer"},
    "answers of the one before": {"a_late_answer_is_nobody_elses"},
    "finds nothing": {
        "a_look_up_says_what_was_answered",
        "a_payment_whose_answer_is_lost_is_found",
        "a_challenge_that_waits_still_waits",
        "a_challenge_that_is_passed_pays",
        "a_challenge_that_is_failed_does_not",
        "a_look_up_that_fails_finds_nothing_out",
        "it_tells_what_a_look_up_says",
    },
    "finds everything": {
        "what_never_came_is_not_there",
        "a_refund_that_never_came_is_not_there",
        "a_look_up_tells_kinds_apart",
        "a_broken_connection_is_unknown",
        "a_look_up_finds_a_decline",
    },
    "pays when it looks up": {"what_never_came_is_not_there", "a_broken_connection_is_unknown"},
    "a look-up that fails finds nothing": {"a_look_up_that_fails_finds_nothing_out"},
    "a challenge is a success": {
        "a_challenge_sends_the_payer_somewhere",
        "a_challenge_that_waits_still_waits",
        "a_challenge_that_is_passed_pays",
        "a_challenge_that_is_failed_does_not",
        "a_repeat_is_not_another_challenge",
    },
    "believes everybody": {
        "a_changed_body_is_not_believed",
        "a_body_without_a_signature_is_not_believed",
        "a_signature_of_another_is_not_believed",
        "an_old_one_is_a_replay",
    },
    "has no patience": {"one_of_some_minutes_ago_is_believed"},
    "tells nothing": {"a_success_is_told", "a_decline_is_told", "a_rubbish_body_is_malformed"},
    "tells of successes only": {"a_decline_is_told"},
    "a new event each time": {"the_same_event_has_the_same_id"},
    "the last to come is the last": {"order_does_not_matter"},
    "tells no references": {"it_tells_what_a_look_up_says"},
    "stumbles over rubbish": {"a_rubbish_body_is_malformed"},
}


class WatchedStand(SimulatorStand):
    """Also counts what a plugin did under a key that it made of the right one: ``<attempt>#<number>#<kind>``."""

    def effects(self, attempt_id: str) -> Sequence[Effect]:
        found = []
        for key, entry in self._ledger.entries().items():
            right, _, rest = key.partition("#")
            if right == attempt_id and entry.done:
                kind = rest.partition("#")[2] or entry.kind
                found.append(Effect(cast(Kind, kind), entry.amount_minor, entry.currency))
        return found


class Wrong:
    """The simulator, with one fault."""

    def __init__(self, settings: Mapping[str, str], fault: str) -> None:
        self.name = "wrong"
        self._fault = fault
        self._inner = Simulator(
            "wrong", SqliteLedger(settings["ledger"]), slow_s=0.0, notification_secret=settings["notification_secret"]
        )
        self._numbers = itertools.count(1)
        self._before = Answer("pending")
        self.abilities = self._inner.abilities
        if fault == "asks for what it cannot do":
            self.abilities = Abilities(currencies=frozenset({"EUR"}), methods=frozenset({"card"}))

    async def perform(self, calls: Sequence[Call]) -> list[Answer]:
        answers = [self._answered(call, *await self._inner.perform([self._called(call)])) for call in calls]
        return answers[::-1] if self._fault == "answers in another order" else answers

    def _called(self, call: Call) -> Call:
        changed: dict[str, Any] = {}
        follows = call.kind not in ("payment", "authorize")
        match self._fault:
            case "two decimals for every currency":
                changed["amount_minor"] = round(call.amount_minor * 10 ** (2 - minor_units(call.currency)))
            case "amounts through floats" if call.amount_minor > 10_000_000:
                changed["amount_minor"] = call.amount_minor - 1
            case "declines move money" if call.token.startswith("tok_decline"):
                changed["token"] = "tok_good"
            case "captures and refunds everything" if follows:
                changed["amount_minor"] = 12_34
            case "does nothing but pay" if follows:
                changed |= {"kind": "payment", "original_reference": ""}
            case "no limits" if follows:
                key = f"{call.attempt_id}#1#{call.kind}"
                changed |= {"kind": "payment", "original_reference": "", "attempt_id": key}
            case "a new key each time":
                changed["attempt_id"] = f"{call.attempt_id}#{next(self._numbers)}"
        return msgspec.structs.replace(call, **changed)

    def _answered(self, call: Call, answer: Answer) -> Answer:
        replace = msgspec.structs.replace
        unknown = answer.outcome == "pending"
        match self._fault:
            case "no references":
                return replace(answer, pic_reference="")
            case "one reference for all":
                return replace(answer, pic_reference="here")
            case "every decline is other" if answer.outcome == "declined":
                return replace(answer, reason="other")
            case "declines move money" if call.token.startswith("tok_decline_"):
                return Answer("declined", call.token.removeprefix("tok_decline_"))
            case "the PIC's own texts" if answer.outcome == "declined":
                return replace(answer, reason="Not enough money, Ms Lovelace")
            case "unknown is a yes" if unknown:
                return Answer("succeeded", pic_reference="guessed")
            case "unknown is a no" if unknown:
                return Answer("declined", "other")
            case "unknown is unsent" if unknown:
                return Answer("unsent", "not_sent")
            case "unsent is unknown" if answer.outcome == "unsent":
                return Answer("pending")
            case "does not say how long to wait":
                return replace(answer, retry_after_s=0.0)
            case "waits for nobody" if call.token == "tok_slow":
                return Answer("pending")
            case "the key is all that counts" if answer.reason == "duplicate":
                return Answer("succeeded", pic_reference=answer.pic_reference)
            case "a challenge is a success" if answer.outcome == "requires_action":
                return Answer("succeeded", pic_reference=answer.pic_reference)
            case "answers of the one before":
                self._before, before = answer, self._before
                return before
        return answer

    async def look_up(self, calls: Sequence[Call]) -> list[Answer | None]:
        if self._fault == "pays when it looks up":
            await self._inner.perform(calls)
        return [self._found(found) for found in await self._inner.look_up(calls)]

    def _found(self, found: Answer | None) -> Answer | None:
        match self._fault:
            case "finds nothing":
                return None
            case "finds everything":
                return Answer("succeeded", pic_reference="guessed")
            case "a look-up that fails finds nothing" if found is not None and found.outcome == "pending":
                return None
        return found

    def parse_notification(self, notice: Notice) -> list[Notified]:
        match self._fault:
            case "believes everybody":
                event = msgspec.json.decode(notice.body, type=Event)
                return [self._told(event.id, event.attempt_id, event.answer, event.occurred_at_ms)]
            case "has no patience" if notice.received_at_s - float(notice.headers["simulator-signature"][2:12]) > 60:
                raise NotificationError("replayed")
        try:
            told = self._inner.parse_notification(notice)
        except NotificationError as error:
            if error.reason == "malformed" and self._fault == "tells nothing":
                return []
            if error.reason == "malformed" and self._fault == "stumbles over rubbish":
                raise KeyError("id") from None
            raise
        return [self._told(each.event_id, each.attempt_id, each.answer, each.occurred_at_ms) for each in told][
            : 0 if self._fault == "tells nothing" else None
        ]

    def _told(self, event_id: str, attempt_id: str, answer: Answer, occurred_at_ms: int) -> Notified:
        match self._fault:
            case "every decline is other" if answer.outcome == "declined":
                answer = msgspec.structs.replace(answer, reason="other")
            case "tells of successes only":
                answer = Answer("succeeded", pic_reference=answer.pic_reference)
            case "a new event each time":
                event_id = f"{event_id}-{next(self._numbers)}"
            case "the last to come is the last":
                occurred_at_ms = next(self._numbers)
            case "tells no references":
                answer = msgspec.structs.replace(answer, pic_reference="")
        return Notified(event_id=event_id, attempt_id=attempt_id, answer=answer, occurred_at_ms=occurred_at_ms)

    async def close(self) -> None:
        await self._inner.close()


def run(fault: str, scenarios: Sequence[Scenario] = ALL) -> dict[str, kit.Result]:
    made: kit.PicMaker = lambda settings: cast(Pic, Wrong(settings, fault))  # noqa: E731
    return {each.scenario.name: each for each in asyncio.run(kit.check(made, WatchedStand(), scenarios))}


def test_the_kit_is_as_large_as_it_should_be() -> None:
    """More than forty scenarios, each with a name of its own and a sentence that says what it is about."""
    assert len(BY_NAME) == len(ALL) >= 80
    assert all(each.about.endswith(".") and each.theme for each in ALL)


def test_the_simulator_passes_all_of_it() -> None:
    """It offers everything, so nothing is skipped but what only a PIC with fewer abilities can show."""
    stand = find_stand("simulator")
    assert stand is not None
    results = asyncio.run(kit.check(kit.installed("simulator"), stand))
    assert {each.scenario.name: each.why for each in results if each.verdict == "fail"} == {}
    beyond = {each.scenario.name for each in results if each.verdict == "not_offered"}
    assert beyond == {"a_currency_that_is_not_taken", "what_is_not_offered_is_declined"}


def test_without_a_fault_the_wrong_plugin_is_right() -> None:
    """What the faults below do is their own doing."""
    assert {name: each.why for name, each in run("").items() if each.verdict == "fail"} == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_scenarios_that_are_about_it(fault: str) -> None:
    """Each of them, in words that say what was found."""
    results = run(fault, [BY_NAME[name] for name in sorted(FAULTS[fault])])
    assert {name: each.verdict for name, each in results.items()} == dict.fromkeys(sorted(FAULTS[fault]), "fail")
    assert all(len(each.why) > 10 for each in results.values())


def test_every_scenario_can_fail() -> None:
    """There is a fault for each: a scenario that nothing fails shows nothing."""
    assert set().union(*FAULTS.values()) == set(BY_NAME)


class Small(Plugin):
    """Can next to nothing, and needs the loop too early or too long when told so."""

    abilities = Abilities(currencies=frozenset({"EUR"}), methods=frozenset({"card"}))

    async def authorize(self, call: Call) -> Answer:
        return Answer("pending")


def verdicts(make: Any, *scenarios: Scenario) -> list[tuple[str, str]]:
    results = asyncio.run(kit.check(kit.of("small", make), SimulatorStand(), scenarios))
    return [(each.verdict, each.why) for each in results]


def test_what_a_plugin_does_not_say_it_can_do_is_not_asked_for() -> None:
    """By kind, by ability, by what the stand has; that it declines the rest is checked."""

    class OnlyApproves(SimulatorStand):
        offers = frozenset({Behaviour.APPROVE})

    wanted = ["a_part_is_captured", "a_repeat_is_answered_the_same", "a_slow_answer_is_an_answer"]
    wanted += ["a_currency_with_three_decimals", "a_currency_that_is_not_taken", "what_is_not_offered_is_declined"]
    maker = kit.of("small", lambda name, options: Small())
    results = asyncio.run(kit.check(maker, OnlyApproves(), [BY_NAME[name] for name in wanted]))
    assert [(each.verdict, each.why) for each in results] == [
        ("not_offered", "no authorize"),
        ("not_offered", "no deduplicates"),
        ("not_offered", "the stand has no slow"),
        ("not_offered", "no KWD"),
        ("pass", ""),
        ("pass", ""),
    ]


def test_whatever_goes_wrong_is_a_failure_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails, an exception, a plugin that cannot be made or not without a loop, and one that takes too long."""

    @scenario()
    async def fails(pic: Pic, stand: Stand) -> None:
        raise CheckError("answer is 'pending', not 'succeeded'")

    @scenario()
    async def raises(pic: Pic, stand: Stand) -> None:
        raise KeyError("id")

    @scenario()
    async def hangs(pic: Pic, stand: Stand) -> None:
        await asyncio.Event().wait()

    def needs_a_secret(name: str, options: PicOptions) -> Plugin:
        options.secret("api_key")
        return Small()

    def needs_the_loop(name: str, options: PicOptions) -> Plugin:
        asyncio.get_running_loop()
        return Small()

    monkeypatch.setattr(kit, "SCENARIO_S_MAX", 0.05)
    assert verdicts(lambda name, options: Small(), fails, raises, hangs) == [
        ("fail", "answer is 'pending', not 'succeeded'"),
        ("fail", "KeyError: 'id'"),
        ("fail", "not over after 0 s"),
    ]
    ((verdict, why),) = verdicts(needs_a_secret, fails)
    assert verdict == "fail"
    assert "PTR_PIC_SMALL_API_KEY_FILE is missing" in why
    assert verdicts(needs_the_loop, fails) == [("fail", "RuntimeError: no running event loop")]


def test_kinds_are_all_there() -> None:
    """Scenarios ask for every kind of call."""
    assert {kind for each in ALL for kind in each.kinds} == set(KINDS)
