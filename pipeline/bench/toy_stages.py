"""Five stages with trivial decisions: the engine alone, for ``ptr bench engine``.

Real topics, re-keying, tables, changelogs, fences and Avro; the decisions do next to nothing. One PTR crosses six topics and
four tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.engine.rows import Row
from pipeline.engine.stage import Group, RawRecord, Stage, Table, Work
from pipeline.topics import Topic
from schemas import bodies

STAGES = ("screening", "localization", "payer", "payee", "dispatch")
TOPICS = ("requested", "screened", "localized", "profiled", "scored", "completed")


def _record(name: str, **fields: Any) -> bodies.Body:
    return bodies.plain({"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]})


PTR = _record(
    "PTR",
    payment_id="string",
    tenant="string",
    payer="string",
    payer_name="string",
    payee="string",
    payee_name="string",
    country="string",
    currency="string",
    amount_minor="long",
    at_ms="long",
    method="string",
)
EVENT = _record(
    "Event",
    sender_partition="int",
    sender_offset="long",
    ptr="bytes",
    payer="string",
    payee="string",
    at_ms="long",
    amount_minor="long",
    outcome="string",
    fee_minor="long",
    features={"type": "array", "items": "double"},
    score="double",
)


class Seen(Row):
    offset: int = -1


class Buckets(Row):
    seen: dict[int, int] = {}
    hours: dict[int, list[int]] = {}


class State(Row):
    state: str = ""


def ptr(number: int, at_ms: int) -> tuple[bytes, bytes]:
    """Key and value of the ``number``-th PTR."""
    payment_id = f"pay_{number:09d}"
    mixed = number * 2_654_435_761 % 2**32
    value = {
        "payment_id": payment_id,
        "tenant": f"t{number % 5}",
        "payer": f"c{mixed % 5000}",
        "payer_name": "Ada Lovelace",
        "payee": f"m{mixed // 5000 % 2000}",
        "payee_name": "Shop",
        "country": "DE",
        "currency": "EUR",
        "amount_minor": 100 + mixed % 49_900,
        "at_ms": at_ms,
        "method": "card",
    }
    return payment_id.encode(), PTR.write(b"", value)


def topics(prefix: str) -> list[Topic]:
    """The run's topics and changelogs."""
    compact = {"cleanup.policy": "compact"}
    return [Topic(f"{prefix}-{name}", "benchmark") for name in TOPICS] + [
        Topic(f"{prefix}-table-{name}", "benchmark", config=compact) for name in STAGES if name != "localization"
    ]


def _count(row: Buckets, event: dict[str, Any]) -> list[float]:
    bucket = row.hours.setdefault(event["at_ms"] // 3_600_000, [0, 0])
    bucket[0] += 1
    bucket[1] += event["amount_minor"]
    n = sum(b[0] for b in row.hours.values())
    return [float(n), sum(b[1] for b in row.hours.values()) / n]


def groups(prefix: str, wanted: tuple[str, ...]) -> list[Group]:
    """The groups of this worker."""
    name_of = {name: f"{prefix}-{name}" for name in TOPICS}

    def sent(event: dict[str, Any], r: RawRecord) -> bytes:
        event["sender_partition"], event["sender_offset"] = r.partition, r.offset
        return EVENT.write(b"", event)

    def screening(r: RawRecord, work: Work) -> None:
        assert r.key is not None and r.value is not None
        row = work.rows.get(r.key)
        if row.offset >= r.offset:
            return
        row.offset = r.offset
        p = PTR.read(r.value, 0)
        event = {
            "ptr": r.value,
            "payer": f"{p['tenant']}|{p['payer']}",
            "payee": f"{p['tenant']}|{p['payee']}",
            "at_ms": p["at_ms"],
            "amount_minor": p["amount_minor"],
            "outcome": "clear",
            "fee_minor": 0,
            "features": [],
            "score": 0.0,
        }
        work.rows.save(r.key, row)
        work.emit(name_of["screened"], sent(event, r), r.key)

    def localization(r: RawRecord, work: Work) -> None:
        assert r.value is not None
        event = EVENT.read(r.value, 0)
        event["fee_minor"] = PTR.read(event["ptr"], 0)["amount_minor"] * 29 // 1000 + 30
        work.emit(name_of["localized"], sent(event, r), event["payer"].encode())

    def profile(target: str, key_of: Callable[[dict[str, Any]], bytes]) -> Callable[[RawRecord, Work], None]:
        def handle(r: RawRecord, work: Work) -> None:
            assert r.key is not None and r.value is not None
            event, row = EVENT.read(r.value, 0), work.rows.get(r.key)
            if row.seen.get(event["sender_partition"], -1) >= event["sender_offset"]:
                return
            row.seen[event["sender_partition"]] = event["sender_offset"]
            event["features"] += _count(row, event)
            work.rows.save(r.key, row)
            work.emit(name_of[target], sent(event, r), key_of(event))

        return handle

    def payment_key(event: dict[str, Any]) -> bytes:
        value: bytes = event["ptr"]
        return value[1 : 1 + (value[0] >> 1)]  # Avro: the PTR begins with its payment id.

    def dispatch(r: RawRecord, work: Work) -> None:
        assert r.key is not None and r.value is not None
        row = work.rows.get(r.key)
        if row.state:
            return
        EVENT.read(r.value, 0)
        row.state = "paid"
        work.rows.save(r.key, row)
        work.emit(name_of["completed"], r.value, r.key)

    handlers = {
        "screening": (screening, "requested", Seen),
        "localization": (localization, "screened", None),
        "payer": (profile("profiled", lambda e: e["payee"].encode()), "localized", Buckets),
        "payee": (profile("scored", payment_key), "profiled", Buckets),
        "dispatch": (dispatch, "scored", State),
    }
    made = []
    for name in wanted:
        handle, source, row_type = handlers[name]
        table = Table(name=f"{name}_rows", changelog=f"{prefix}-table-{name}", row_type=row_type) if row_type else None
        made.append(Group(name=name, stages=(Stage(name=name, source=name_of[source], handle=handle),), table=table))
    return made
