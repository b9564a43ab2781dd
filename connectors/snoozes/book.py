"""Fraud rules that are switched off for single payers, and until when: what the payee stage asks."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from enum import StrEnum
from itertools import pairwise
from typing import Final, Protocol

from connectors.timeline import Timeline, added, in_force
from pipeline.stages.fraud_library import LIBRARY
from schemas.card_numbers import holds_card_number
from schemas.identity import ID_PATTERN, TENANT_PATTERN
from schemas.limits import TEXT_CHARS_MAX
from schemas.records import RuleSnoozed

log = logging.getLogger(__name__)

#: A record counts from this long after its timestamp: by then every worker has read it, so that all of them, and a repeat
#: after a crash, decide a payment by the same ones.
EFFECTIVE_DELAY_MS: Final = 3_000
#: What was replaced or is over stays known this long, for payments that were received before: as long as a worker may take
#: to come back after a crash and still repeat its decisions.
KEPT_MS: Final = 10 * 60 * 1000
#: Payers and rules together, of all tenants, that one worker holds: bounds its memory (some 50 MB).
SNOOZES_MAX: Final = 100_000
BY_CHARS_MAX: Final = 80
REASON_CHARS_MAX: Final = TEXT_CHARS_MAX
#: Longer than this is not a snooze: switch the rule off or raise its threshold.
DAYS_MAX: Final = 366
UNTIL_MS_MAX: Final = 253_402_300_800_000  # the year 10000: every later number is a mistake
#: Tenants and rules of which the log was told that a snooze is ignored; more of them are counted only.
TOLD_MAX: Final = 1_000
#: What a rule may be called: another name is not repeated in the log.
_RULE_NAME = re.compile(r"[a-z][a-z_]{0,59}(_[0-9]{1,3}[a-z])?\Z")

#: Nothing is snoozed: the usual answer.
NONE: Final[frozenset[str]] = frozenset()

Payer = tuple[str, str]
#: Until when a rule is off, by the latest records about it. What ended a snooze early is a later one.
Snoozes = Timeline[int]


class Ignored(StrEnum):
    """Why a record has no effect."""

    UNKNOWN_RULE = "unknown_rule"
    #: Its time was over before it could count.
    EXPIRED = "expired"
    UNREADABLE = "unreadable"
    TOO_MANY = "too_many"


class SnoozeWatch(Protocol):
    """Who wants to know what becomes of snoozes: metrics. Called in the thread that reads."""

    def ignored(self, why: Ignored) -> None:
        """A record has no effect."""


class _Nobody:
    def ignored(self, why: Ignored) -> None:
        pass


def fault(record: RuleSnoozed) -> str:
    """Why a record cannot be used; empty when it can."""
    texts = {"by": (record.by, BY_CHARS_MAX), "reason": (record.reason, REASON_CHARS_MAX)}
    if not TENANT_PATTERN.match(record.tenant) or not ID_PATTERN.match(record.debtor_id):
        return "tenant or payer is not a valid id"
    if record.rule not in LIBRARY:
        return "there is no rule of that name"
    for name, (text, longest) in texts.items():
        if not text.strip() or len(text) > longest or not text.isprintable():
            return f"{name} must be 1 to {longest} printable characters"
    if any(holds_card_number(text) for text in (record.debtor_id, record.by, record.reason)):
        return "a text holds what looks like a card number"
    if not 0 <= record.until_ms <= UNTIL_MS_MAX:
        return "until_ms is not a time"
    return ""


class SnoozeBook:
    """Every snooze that may still matter. One thread takes in, any thread asks: what they see is replaced, not changed."""

    def __init__(self, watch: SnoozeWatch | None = None) -> None:
        self._watch = watch or _Nobody()
        self._snoozes: dict[Payer, dict[str, Snoozes]] = {}
        self._count = 0
        #: What the log was told of already.
        self._told: set[tuple[Ignored, str, str]] = set()

    def snoozed(self, tenant: str, debtor_id: str, at_ms: int) -> Collection[str]:
        """The rules that are switched off for a payer, for a payment that Kafka received at ``at_ms``."""
        rules = self._snoozes.get((tenant, debtor_id))
        if rules is None:
            return NONE
        return [rule for rule, snoozes in rules.items() if at_ms < in_force(snoozes, at_ms, 0)]

    def take(self, record: RuleSnoozed, timestamp_ms: int) -> bool:
        """Take in a record; False when it is refused: then what was before it stays.

        One whose time is over before it could count is taken in too, for it is the latest word on its payer and rule and the
        only one that is left in the topic.
        """
        why = fault(record)
        if why:
            self._ignore(Ignored.UNREADABLE if record.rule in LIBRARY else Ignored.UNKNOWN_RULE, record, why)
            return False
        if self._count >= SNOOZES_MAX and record.rule not in self._snoozes.get(_payer(record), {}):
            self._ignore(Ignored.TOO_MANY, record, f"{SNOOZES_MAX} are known, more are not held")
            return False
        # What ends a snooze early is over when it is decided.
        if record.decided_at_ms < record.until_ms <= timestamp_ms + EFFECTIVE_DELAY_MS:
            self._ignore(Ignored.EXPIRED, record, "its time was over when it arrived")
        rules = self._snoozes.get(_payer(record), {})
        snoozes = added(rules.get(record.rule, ()), record.until_ms, timestamp_ms, EFFECTIVE_DELAY_MS)
        new_from_ms = snoozes[-1][0]
        kept = [each for each, (replaced_ms, _) in pairwise(snoozes) if replaced_ms >= new_from_ms - KEPT_MS]
        self._count += record.rule not in rules
        self._snoozes[_payer(record)] = {**rules, record.rule: (*kept, snoozes[-1])}
        return True

    def forget(self, tenant: str, debtor_id: str, rule: str) -> None:
        """A record was removed: it was over long ago."""
        rules = dict(self._snoozes.get((tenant, debtor_id), {}))
        if rules.pop(rule, None) is not None:
            self._replace((tenant, debtor_id), rules)

    def tidy(self, now_ms: int) -> None:
        """Let go of what was over long ago."""
        for payer, rules in list(self._snoozes.items()):
            left = {rule: each for rule, each in rules.items() if each[-1][1] > now_ms - KEPT_MS}
            if len(left) < len(rules):
                self._replace(payer, left)

    def refuse(self, where: str, why: str) -> None:
        """Count and log a record that is no snooze."""
        self._watch.ignored(Ignored.UNREADABLE)
        log.error("a snooze is ignored (%s): %s", where, why)

    def _ignore(self, kind: Ignored, record: RuleSnoozed, why: str) -> None:
        """Count a record without effect, and say so once for each tenant and rule."""
        self._watch.ignored(kind)
        tenant, rule = _shown(record.tenant, TENANT_PATTERN), _shown(record.rule, _RULE_NAME)
        told = kind, tenant, rule
        if told in self._told or len(self._told) >= TOLD_MAX:
            return
        self._told.add(told)
        log.error("a snooze is ignored (tenant %s, rule %s; more of these are only counted): %s", tenant, rule, why)

    def _replace(self, payer: Payer, rules: dict[str, Snoozes]) -> None:
        self._count += len(rules) - len(self._snoozes[payer])
        if rules:
            self._snoozes[payer] = rules
        else:
            del self._snoozes[payer]

    def __len__(self) -> int:
        return self._count


def _shown(name: str, pattern: re.Pattern[str]) -> str:
    return name if pattern.match(name) and not holds_card_number(name) else "?"


def _payer(record: RuleSnoozed) -> Payer:
    return record.tenant, record.debtor_id
