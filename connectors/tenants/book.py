"""All versions of all tenants' configurations, and which of them is in force at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import msgspec

from connectors.rules.editions import edition
from connectors.tenants.checks import mistakes
from connectors.tenants.document import document_hash
from connectors.tenants.route_checks import route_mistakes
from connectors.tenants.rule_checks import tenant_rule_mistakes
from pipeline.stages.rules.rule_book import RuleBook
from schemas.records import TenantConfigured
from schemas.tenant_rules import TenantRules, rules_of

log = logging.getLogger(__name__)

#: A version is in force this long after its record's timestamp. By then every worker has read it, so that all of them,
#: and any later replay, decide a payment by the same version.
EFFECTIVE_DELAY_MS = 1000
#: The first version of a tenant is in force from the beginning: nothing was before it.
ALWAYS_MS = -(2**63)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one tenant's configuration."""

    number: int
    rules: TenantRules
    document_hash: str
    #: Kafka timestamp of its record.
    written_at_ms: int
    #: From when on, in event time, it is in force.
    in_force_at_ms: int
    #: Gives its business rules, those of its base rule sets among them: made when they are first asked for, for most versions
    #: are of the past.
    book: Callable[[], RuleBook]


#: From when on, number and rules, and the business rules.
_InForce = tuple[int, tuple[int, TenantRules], Callable[[], RuleBook]]


class TenantBook:
    """Every version that was read. One thread applies, any thread reads: what they see is replaced, never changed."""

    def __init__(self) -> None:
        self._versions: dict[str, tuple[Version, ...]] = {}
        #: Per tenant, oldest first: in force from, and what :meth:`rules` gives.
        self._in_force: dict[str, tuple[_InForce, ...]] = {}
        #: Records that hold no valid configuration, and were ignored.
        self.refused = 0

    def rules(self, tenant: str, at_ms: int) -> tuple[int, TenantRules] | None:
        """Number and rules of the version in force at event time ``at_ms``; None when the tenant is not configured."""
        found = self._found(tenant, at_ms)
        return None if found is None else found[1]

    def decider(self, tenant: str, at_ms: int) -> tuple[int, TenantRules, RuleBook] | None:
        """The same, with the business rules ready to be asked."""
        found = self._found(tenant, at_ms)
        return None if found is None else (*found[1], found[2]())

    def _found(self, tenant: str, at_ms: int) -> _InForce | None:
        versions = self._in_force.get(tenant)
        if versions is None:
            return None
        if at_ms >= versions[-1][0]:
            return versions[-1]
        for found in reversed(versions):
            if at_ms >= found[0]:
                return found
        return versions[0]

    def apply(self, record: TenantConfigured, timestamp_ms: int) -> bool:
        """Take in a version; False when it is known already, or refused.

        A version that is known stays as it is, whatever a later record says. An invalid one, which somebody else must
        have written, is ignored, logged and counted in :attr:`refused`: the version before it stays in force.
        """
        known = self._versions.get(record.tenant, ())
        if any(version.number == record.version for version in known):
            return False
        rules = self._read(record)
        if rules is None:
            return False
        new = Version(
            record.version, rules, record.document_hash, timestamp_ms, ALWAYS_MS, cache(partial(rule_book, rules))
        )
        versions: list[Version] = []
        for version in sorted((*known, new), key=lambda version: version.number):
            # Never before the version that it replaces, even if clocks of brokers differ.
            at_ms = (
                max(version.written_at_ms + EFFECTIVE_DELAY_MS, versions[-1].in_force_at_ms) if versions else ALWAYS_MS
            )
            versions.append(replace(version, in_force_at_ms=at_ms))
        self._versions[record.tenant] = tuple(versions)
        self._in_force[record.tenant] = tuple((v.in_force_at_ms, (v.number, v.rules), v.book) for v in versions)
        return True

    def refuse(self, tenant: str, version: int, why: str) -> None:
        """Count and log a record that holds no valid configuration."""
        self.refused += 1
        log.error("tenant %s version %s is ignored, the version before it stays in force: %s", tenant, version, why)

    def tenants(self) -> list[str]:
        """Every tenant that is configured, sorted."""
        return sorted(self._versions)

    def versions(self, tenant: str) -> tuple[Version, ...]:
        """Every version of ``tenant``, oldest first; empty when it is not configured."""
        return self._versions.get(tenant, ())

    def _read(self, record: TenantConfigured) -> TenantRules | None:
        why = ""
        rules: TenantRules | None = None
        if record.version < 1:
            why = "its number is below 1"
        elif document_hash(record.document) != record.document_hash:
            why = "its document has another hash"
        else:
            try:
                rules = rules_of(record.document)
            except msgspec.MsgspecError as error:
                why = str(error)
            else:
                # Which PICs there are differs by worker and by time; dispatch checks it.
                found = [f"{path}: {text}" for path, text in mistakes(rules, pics=None)]
                of_rules = (*tenant_rule_mistakes(rules), *route_mistakes(rules))
                found += [f"{mistake.path}: {mistake.text}" for mistake in of_rules]
                if rules.tenant != record.tenant:
                    found.append("tenant: is another one than the record's")
                why = "; ".join(found)
        if why:
            self.refuse(record.tenant, record.version, why)
            return None
        return rules


def rule_book(rules: TenantRules) -> RuleBook:
    """The business rules of a valid configuration, with the base rule sets that it inherits, and its shadow."""
    shadow = rules.shadow
    return RuleBook(
        rules.rules,
        rules.groups,
        [edition(name) for name in rules.inherits],
        rules.routes,
        None
        if shadow is None
        else RuleBook(shadow.rules, shadow.groups, [edition(name) for name in shadow.inherits], rules.routes),
    )
