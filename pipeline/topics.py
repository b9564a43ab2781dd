"""Every topic: its name, what it holds, how it is kept. ``ptr topics apply`` makes them (connectors/broker/admin.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

DAY_MS = 24 * 60 * 60 * 1000

#: Delays, in seconds, after which an unknown answer is asked for again; the last one repeats. The first are for an answer that
#: is late, the last for a PIC that is away: an outage of a day costs it a dozen look-ups a payment, and ends within 3 h of it.
RETRY_DELAYS_S: tuple[int, ...] = (1, 5, 30, 5 * 60, 30 * 60, 3 * 60 * 60)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``partitions`` None means the pipeline's number (all such topics are co-partitioned)."""

    name: str
    about: str
    partitions: int | None = None
    config: dict[str, str] = field(default_factory=dict)


def _log(name: str, about: str, *, retention_days: int = 7, **config: str) -> Topic:
    kept = {"cleanup.policy": "delete", "retention.ms": str(retention_days * DAY_MS)}
    return Topic(name, about, config=kept | {k.replace("_", "."): v for k, v in config.items()})


def _table(name: str, about: str, **config: str) -> Topic:
    # Compacted only, never deleted: the changelog is the state. Short segments keep recovery short.
    return Topic(
        f"payments.table.{name}.v1",
        about,
        config={
            "cleanup.policy": "compact",
            "segment.ms": str(60 * 60 * 1000),
            "segment.bytes": str(64 << 20),
            "min.cleanable.dirty.ratio": "0.1",
        }
        | {k.replace("_", "."): v for k, v in config.items()},
    )


# Received at the broker's time: configuration in force then applies, and no producer can choose it.
REQUESTED = _log("payments.requested.v1", "PTRs as clients post them", message_timestamp_type="LogAppendTime")
SCREENED = _log("payments.screened.v1", "screening's answers, keyed by payment")
LOCALIZED = _log("payments.localized.v1", "localization's answers, keyed by payer")
PROFILED = _log("payments.profiled.v1", "with the payer's features, keyed by payee")
SCORED = _log("payments.scored.v1", "fraud's answers, keyed by payment")
# Opened at the broker's time, and in time by the broker's time: no clock of a worker decides.
REFERRED = _log(
    "payments.referred.v1",
    "events of payments that wait for a person, and repeats of their requests; keyed by payment",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)
REVIEWS_OPENED = _log("reviews.opened.v1", "payments that began to wait, keyed by payment", retention_days=30)
REVIEWS_DECIDED = _log(
    "reviews.decided.v1",
    "people's decisions on them, and that their time is over; keyed by payment",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)
REVIEWS_ANSWERED = _log("reviews.answered.v1", "what became of each decision, keyed by payment", retention_days=30)
ENDED = _log("payments.ended.v1", "ended before dispatch, and repeats; keyed by payment")
ANSWERED = _log("payments.answered.v1", "what PICs said, keyed by payment")
# Latency is measured between two times of the broker.
COMPLETED = _log(
    "payments.completed.v1",
    "the outcome of each payment, keyed by payment",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)
# Received at the broker's time, as requests: no clock of a worker decides.
OPERATIONS = _log(
    "operations.requested.v1",
    "captures, voids and refunds as clients post them, keyed by payment",
    message_timestamp_type="LogAppendTime",
)
# In order of time, as the topics of retries; kept longer than anything waits in it.
OPERATIONS_DELAYED = _log(
    "operations.delayed.v1",
    "operations whose payment is not known yet, until that is looked at again; keyed by payment",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)
# Judged by the broker's time.
OPERATIONS_EXPIRED = _log(
    "operations.expired.v1",
    "operations that waited for their payment as long as they may, keyed by payment",
    message_timestamp_type="LogAppendTime",
)
NOTIFIED = _log(
    "payments.notified.v1",
    "news of attempts that no call brought: PICs' notifications, statements, people; keyed by payment",
    retention_days=30,
)
UPDATED = _log(
    "payments.updated.v1", "each step of a payment after or beside its outcome, keyed by payment", retention_days=30
)
PARKED = _log("payments.parked.v1", "payments and operations that need a person, keyed by payment", retention_days=30)
CREDITED = _log(
    "payments.credited.v1", "payments to accounts that were paid, for tenants that look at them; keyed by payer"
)
CHARGEBACKS = _log("payments.chargebacks.v1", "disputes, and refunds for fraud; keyed by payee", retention_days=30)
# Personal data: kept no longer than a stage may be away, and a day, for what is deleted is whole segments.
PARTIES_SEEN = _log("parties.seen.v1", "parties of payments, new or changed; keyed by party", segment_ms=str(DAY_MS))
PARTIES_FLAGGED = _log(
    "parties.flagged.v1", "known parties that are like somebody on a new list; keyed by party", retention_days=30
)
# Judged by the broker's time: what a party did later is another matter.
ERASURES = _log(
    "erasures.requested.v1",
    "parties that are to be forgotten; keyed by party",
    message_timestamp_type="LogAppendTime",
    segment_ms=str(DAY_MS),
)
PARTIES_ERASED = _log(
    "parties.erased.v1", "that they were, without their ids; keyed by tenant and erasure", retention_days=30
)
DEAD_LETTERS = _log("payments.dead-letter.v1", "records that no stage can handle", retention_days=30)
TENANTS = Topic(
    "tenants.configured.v1",
    "versions of tenants' configurations, keyed by tenant and version",
    partitions=1,
    config={"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
)
# Compacted after a day: whoever reads it whole still finds what was in force when he stopped. Deleted when the longest
# snooze (connectors/snoozes/book.py) is over for sure.
SNOOZES = Topic(
    "fraud.snoozed.v1",
    "fraud rules that are switched off for a payer until a time, keyed by tenant, payer and rule",
    partitions=1,
    config={
        "cleanup.policy": "compact,delete",
        "retention.ms": str(400 * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
        "min.compaction.lag.ms": str(DAY_MS),
    },
)
# Compacted to the last word on each PIC.
CONTROLS = Topic(
    "pics.controlled.v1",
    "which PICs are paused, by whom and why; keyed by PIC",
    partitions=1,
    config={"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
)
# One partition: parts come before the head that names them. Segments of a day, so that old versions are cleaned soon.
LISTS = Topic(
    "lists.updated.v1",
    "versions of sanctions lists: their parts, then the head that puts them in force; keyed by list, version and part",
    partitions=1,
    config={
        "cleanup.policy": "compact",
        "message.timestamp.type": "LogAppendTime",
        "segment.ms": str(DAY_MS),
        "min.cleanable.dirty.ratio": "0.1",
    },
)

# As the lists.
MODELS = Topic(
    "models.updated.v1",
    "fraud models: their parts, then the head that names them, and promotions to champion or challenger",
    partitions=1,
    config=dict(LISTS.config),
)
# Compacted to the last word on each party and entry; earlier ones stay for a day, so that a repeat decides as before.
EXCEPTIONS = Topic(
    "exceptions.granted.v1",
    "tenants' exceptions from sanctions matches, keyed by tenant, list, entry and party",
    partitions=1,
    config={
        "cleanup.policy": "compact",
        "message.timestamp.type": "LogAppendTime",
        "min.compaction.lag.ms": str(DAY_MS),
    },
)

# Told from outside, received at the broker's time: no producer chooses on which day of a report it counts.
INVENTORY = _log(
    "inventory.moved.v1",
    "movements of stock, as whoever keeps it tells them; keyed by tenant and SKU",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)
INVOICES = _log(
    "invoices.changed.v1",
    "changes of invoices, as whoever keeps them tells them; keyed by tenant and invoice",
    retention_days=30,
    message_timestamp_type="LogAppendTime",
)

# Read by outsiders, who need no schema: notes are text. In order: one partition.
HEADS = Topic(
    "heads.signed.v1",
    "signed heads of the audit tables' trees, as notes of text; keyed by the tree's origin",
    partitions=1,
    config={"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)},
)

TABLE_PAYMENTS = _table("payments", "what was asked and answered, by payment")
TABLE_PAYER_PROFILES = _table("payer_profiles", "hourly buckets of payers")
TABLE_PAYEE_PROFILES = _table("payee_profiles", "hourly buckets of payees")
# Names that were erased are cleaned within a day, however few they are; and for a month a tombstone tells disks that still
# hold one.
TABLE_PARTIES = _table(
    "parties",
    "known parties, to screen them again",
    max_compaction_lag_ms=str(DAY_MS),
    delete_retention_ms=str(30 * DAY_MS),
)
TABLE_REVIEWS = _table("reviews", "payments that wait for a person, and how their reviews ended")
TABLE_ATTEMPTS = _table("attempts", "the state machine of each payment")


def queue(pic: str) -> Topic:
    """The processing queue of one PIC: intents, durable before any call."""
    return _log(f"payments.queue.{pic}.v1", f"intents to call {pic}, keyed by payment")


def retries(pic: str) -> list[Topic]:
    """Where unknown answers of one PIC wait, one topic per delay so that each is in order of time."""
    return [_log(f"payments.retry.{pic}.{s}s.v1", f"look-ups at {pic} after {s} s") for s in RETRY_DELAYS_S]


def table_intents(pic: str) -> Topic:
    """Changelog of the fence of one PIC's queue."""
    return _table(f"intents.{pic}", f"which intents for {pic} were handled")


def all_topics(pics: Iterable[str]) -> list[Topic]:
    """Everything the pipeline needs with these PICs, in flow order."""
    return [
        REQUESTED,
        SCREENED,
        LOCALIZED,
        PROFILED,
        SCORED,
        REFERRED,
        REVIEWS_OPENED,
        REVIEWS_DECIDED,
        REVIEWS_ANSWERED,
        *[topic for pic in sorted(pics) for topic in (queue(pic), *retries(pic))],
        ANSWERED,
        ENDED,
        COMPLETED,
        OPERATIONS,
        OPERATIONS_DELAYED,
        OPERATIONS_EXPIRED,
        NOTIFIED,
        UPDATED,
        PARKED,
        CREDITED,
        CHARGEBACKS,
        PARTIES_SEEN,
        PARTIES_FLAGGED,
        ERASURES,
        PARTIES_ERASED,
        DEAD_LETTERS,
        TENANTS,
        SNOOZES,
        CONTROLS,
        LISTS,
        MODELS,
        EXCEPTIONS,
        INVENTORY,
        INVOICES,
        HEADS,
        TABLE_PAYMENTS,
        TABLE_PAYER_PROFILES,
        TABLE_PAYEE_PROFILES,
        TABLE_PARTIES,
        TABLE_REVIEWS,
        TABLE_ATTEMPTS,
        *[table_intents(pic) for pic in sorted(pics)],
    ]


def audited(pics: Iterable[str]) -> list[Topic]:
    """What the audit sink reads. Not requests and reviewers' decisions as they
    come: what is refused may hold what must not be kept."""
    queues = [topic for pic in sorted(pics) for topic in (queue(pic), *retries(pic))]
    beside = [REVIEWS_OPENED, REVIEWS_ANSWERED, PARTIES_FLAGGED, PARTIES_ERASED]
    ends = [
        ANSWERED,
        COMPLETED,
        NOTIFIED,
        UPDATED,
        PARKED,
        CHARGEBACKS,
        DEAD_LETTERS,
        TENANTS,
        EXCEPTIONS,
        SNOOZES,
        CONTROLS,
        INVENTORY,
        INVOICES,
    ]
    return [SCREENED, LOCALIZED, PROFILED, SCORED, *beside, *queues, *ends]
