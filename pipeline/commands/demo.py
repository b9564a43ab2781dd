"""``ptr demo``: the whole pipeline on this machine, with traffic of its own, and what became of it."""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import msgspec
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.broker import admin
from connectors.broker.embedded import EmbeddedBroker, EmbeddedBrokerError
from connectors.broker.transaction import PublishError
from connectors.demo.generator import generate
from connectors.demo.model import demo_model
from connectors.demo.recount import expected
from connectors.demo.stream import Post
from connectors.demo.tenants import tenants_yaml
from connectors.files import source
from connectors.files.readers import FileError
from connectors.models.book import CHAMPION
from connectors.models.topic import publish
from connectors.privacy.masters import make_master
from connectors.reviews.scripted import ScriptedReviewer
from connectors.sinks.database import open_database
from connectors.sinks.reviews import open_reviews
from connectors.sinks.story import count_check, outcome_counts
from connectors.tenants.document import TenantFileError, parse_tenants
from pipeline import topics
from pipeline.commands.interrupts import INTERRUPTED, one_interrupt
from pipeline.commands.shared import print_json, settings_with
from pipeline.rig import FRAUD, FRONT, Rig, RigError, Worker
from pipeline.settings import BrokerAccess, client_config
from schemas.codec import Codec
from schemas.identity import payment_key
from schemas.money import is_currency
from schemas.records import PaymentRequested, ReviewOpened
from schemas.tenant_rules import TenantRules

SEED = 7
#: In the demo's folder: with it the audit sink seals what is personal.
MASTER_KEY = "privacy.key"
#: Posts a second: fast enough to be done soon, slow enough for the latencies of a pipeline that is not full.
RATE = 400.0
#: What the scripted reviewer does with the reviews that it takes up, in turn; none: it leaves the payment waiting.
REVIEWER_DOES: tuple[tuple[str, ...], ...] = (("approve",), ("reject",), ())
WAITING_MAX = 100_000
#: A payment that waits for longer than this is left waiting by the demo, and counted so.
PATIENCE_MS = 60_000
#: Unknown answers are asked for again after 1, 5 and 30 s; the demo's need one or two asks.
SETTLE_TIMEOUT_S = 60.0


@click.command()
@click.option("--payments", type=click.IntRange(100, 200_000), default=3000, show_default=True, help="Posts to make.")
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C.")
@click.option("--broker", metavar="HOST:PORT", help="A real Kafka instead of the embedded broker.")
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay a JSON Lines file of PTRs instead of the demo's own traffic.",
)
@click.option(
    "--tenants",
    "tenants_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Their tenants; with --file and without this, every tenant in the file gets simple rules.",
)
@click.option("--seed", type=int, default=SEED, show_default=True, help="Draws the traffic.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of it as JSON.")
def demo(
    payments: int,
    keep: bool,
    broker: str | None,
    file: Path | None,
    tenants_file: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run the whole pipeline here and replay a few thousand payments through it.

    Two tenants with different rules, payers and payees with habits, a compromised terminal, a card-testing burst, some
    names from a made-up sanctions list, repeats, a conflict, and garbage. What is referred is approved, rejected or left
    waiting by a scripted reviewer, or its time passes. Nothing else is needed: the broker is embedded
    (in memory, for this demo only), the audit tables are SQLite.

    \b
    Examples:
      ptr demo
      ptr demo --keep                        then open the web view that it names
      ptr demo --broker 127.0.0.1:9092       on a real Kafka ('ptr kafka up')
      ptr demo --file payments.jsonl --json
    """
    console = Console(stderr=as_json, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="ptr-demo-"))
    kept = False
    try:
        with one_interrupt(), ExitStack() as stack:
            posts, tenants = _load(file, tenants_file, payments, seed)
            report = _run(stack, console, folder, posts, tenants, broker, own_file=file is not None, keep=keep)
            _print(report, console, as_json)
            kept = keep
            if keep:
                console.print("\nrunning; Ctrl-C ends it")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
                console.print("ending")
    except KeyboardInterrupt:
        console.print("\nended by Ctrl-C; nothing is left running")
        raise SystemExit(INTERRUPTED) from None
    except (RigError, EmbeddedBrokerError, FileError, TenantFileError, PublishError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        if not kept:
            _tidy(folder)
    if report["problems"]:
        raise SystemExit(1)


def _tidy(folder: Path) -> None:
    """Keep the audit database, drop the rest."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


def _load(
    file: Path | None, tenants_file: Path | None, payments: int, seed: int
) -> tuple[list[Post], list[TenantRules]]:
    pics = ("simulator",)
    if file is None:
        text, name = (tenants_file.read_text(), str(tenants_file)) if tenants_file else (tenants_yaml(), "demo tenants")
        start_ms = int(time.time() * 1000)
        return list(generate(payments, seed=seed, start_ms=start_ms)), parse_tenants(text, name, pics=pics)
    posts = list(_posts_of(file))
    if not posts:
        raise FileError(f"{file} holds no payments")
    if tenants_file is not None:
        return posts, parse_tenants(tenants_file.read_text(), str(tenants_file), pics=pics)
    seen: dict[str, set[str]] = {}
    for post in posts:
        if post.request is not None:
            seen.setdefault(post.request.tenant, set()).add(post.request.currency)
    return posts, [
        TenantRules(tenant=tenant, pic="simulator", currencies=sorted(filter(is_currency, currencies)) or ["EUR"])
        for tenant, currencies in sorted(seen.items())
    ]


def _posts_of(file: Path) -> Iterator[Post]:
    encode = Codec().encoder(PaymentRequested)
    for page in source.read(file, source.format_of(file), None):
        for item in page.items:
            if not isinstance(item, PaymentRequested):
                raise FileError(f"{file}, line {item.row}: not a PTR ({item.why}); nothing was posted")
            key = payment_key(item.tenant, item.payment_id)
            yield Post(key, encode(item), "file", (item.tenant, item.payment_id), item, "first")


def _run(
    stack: ExitStack,
    console: Console,
    folder: Path,
    posts: list[Post],
    tenants: list[TenantRules],
    broker: str | None,
    *,
    own_file: bool,
    keep: bool,
) -> dict[str, Any]:
    if broker is None:
        access = BrokerAccess(addresses=stack.enter_context(EmbeddedBroker()).address)
        console.print(f"embedded broker on {access}: in memory, 4 partitions, for this demo only")
    else:
        access = settings_with(broker=broker).access
        _reach(access)
        console.print(f"Kafka on {access}")
    token = secrets.token_urlsafe(16)
    master = folder / MASTER_KEY
    folder.mkdir(parents=True, exist_ok=True)
    make_master(master)
    rig = stack.enter_context(Rig(access, folder, PTR_WEB_TOKEN=token, PTR_PRIVACY_MASTER_KEY_FILE=str(master)))
    before = _dead_letters_before(rig)
    rig.prepare(tenants)
    publish(
        rig.access, Codec(), demo_model(), promote_to=CHAMPION, by="ptr demo", reason="trained on generated traffic"
    )
    console.print(f"tenants: {', '.join(rules.tenant for rules in tenants)}; two worker groups, audit sink on SQLite")
    front, _ = rig.worker("front", FRONT), rig.worker("fraud", FRAUD)
    rig.audit_sink()
    truth = expected(posts)
    reviewer = stack.enter_context(ScriptedReviewer(access, _reviewer()))
    with Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=not sys.stderr.isatty(),
    ) as progress:
        starting = progress.add_task("workers start", total=None)
        rig.wait_ready(tick=lambda: progress.update(starting))
        progress.update(starting, total=1, completed=1)
        posting = progress.add_task("posted", total=len(posts))
        settling = progress.add_task("payments with outcome or in review", total=truth["payments"])
        started = time.monotonic()
        posted = threading.Thread(target=_post, args=(access, posts, lambda: progress.advance(posting)), daemon=True)
        posted.start()
        answered = _settle(rig, truth, before, reviewer, lambda done: progress.update(settling, completed=done), posted)
        seconds = time.monotonic() - started
    return _report(rig, front, token, truth, seconds, answered, posts, own_file, keep)


def _reviewer() -> Callable[[ReviewOpened], Sequence[str]]:
    """Takes up what waits for long, in turn; what is due soon is left to its time limit."""
    turn = cycle(REVIEWER_DOES)
    return lambda review: next(turn) if review.due_at_ms - review.opened_at_ms > PATIENCE_MS else ()


def _reach(access: BrokerAccess) -> None:
    """Raise when nobody answers, or we are not let in."""
    try:
        admin.metadata(admin.client(access))
    except admin.AdminError as error:
        raise RigError(f"{error}. Without --broker the demo brings its own") from error


def _dead_letters_before(rig: Rig) -> int:
    try:
        return rig.count(topics.DEAD_LETTERS.name)
    except Exception:  # a new broker has no such topic
        return 0


def _post(access: BrokerAccess, posts: list[Post], advance: Callable[[], None]) -> None:
    producer = Producer(client_config(access, {"enable.idempotence": True, "linger.ms": 2, "log_level": 3}))
    started = time.monotonic()
    for number, post in enumerate(posts):
        if (ahead_s := started + number / RATE - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(ahead_s)
        producer.produce(topics.REQUESTED.name, post.value, post.topic_key)
        advance()
    producer.flush(30)


def _settle(
    rig: Rig,
    truth: dict[str, Any],
    dead_before: int,
    reviewer: ScriptedReviewer,
    tell: Callable[[int], None],
    posting: threading.Thread,
) -> bool:
    """Whether every payment has its outcome in the audit tables or was left waiting, and every other post is accounted
    for."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S + truth["posts"] / RATE
    while time.monotonic() < deadline:
        rig.check()
        done, refusals, dead = _progress(rig, reviewer)
        tell(done)
        finished = done >= truth["payments"] and refusals >= truth["conflicting_requests"]
        if finished and dead >= truth["dead_letters"] and not posting.is_alive():
            return True
        time.sleep(0.1)
    return False


def _progress(rig: Rig, reviewer: ScriptedReviewer) -> tuple[int, int, int]:
    try:
        database = open_database(rig.database)
    except Exception:  # the sink has not made it yet
        return 0, 0, 0
    try:
        done = database.query("SELECT COUNT(*) FROM payments WHERE outcome IS NOT NULL")[0][0]
        now_ms = int(time.time() * 1000)
        waiting = open_reviews(database, now_ms=now_ms, limit=WAITING_MAX)
        done += sum(
            review.due_at_ms > now_ms + PATIENCE_MS
            and (review.tenant, review.payment_id, review.stage) in reviewer.left
            for review in waiting
        )
        refusals = database.query("SELECT COUNT(*) FROM payment_events WHERE reason = 'conflicting_request'")[0][0]
        dead = database.query("SELECT COUNT(*) FROM payment_events WHERE outcome = 'dead_letter'")[0][0]
        return int(done), int(refusals), int(dead)
    except Exception:
        return 0, 0, 0
    finally:
        database.close()


def _report(
    rig: Rig,
    front: Worker,
    token: str,
    truth: dict[str, Any],
    seconds: float,
    settled: bool,
    posts: list[Post],
    own_file: bool,
    keep: bool,
) -> dict[str, Any]:
    database = open_database(rig.database)
    try:
        counts, check = outcome_counts(database), count_check(database)
        waits = sorted(
            int(ms)
            for (ms,) in database.query(
                "SELECT completed_at_ms - received_at_ms FROM payments WHERE completed_at_ms IS NOT NULL"
                " AND reason <> 'review_expired'"
            )
        )
        dead = database.query(
            "SELECT reason, COUNT(*) FROM payment_events WHERE outcome = 'dead_letter' GROUP BY reason ORDER BY reason"
        )
        refused = database.query(
            "SELECT payload FROM payment_events WHERE reason = 'conflicting_request' ORDER BY event_id"
        )
        waiting = open_reviews(database, now_ms=int(time.time() * 1000), limit=WAITING_MAX)
        reviewed = database.query(
            "SELECT outcome, reason, COUNT(*) FROM payment_events WHERE stage = 'reviews' AND outcome <> 'referred'"
            " GROUP BY outcome, reason ORDER BY outcome, reason"
        )
        in_review = {(review.tenant, review.payment_id) for review in waiting}
        unended = database.query("SELECT tenant, payment_id FROM payments WHERE outcome IS NULL ORDER BY 1, 2")
        pending = [payment for payment in unended if payment not in in_review]
    finally:
        database.close()
    problems = [f"{anomaly.what}: {anomaly.count}, such as {anomaly.examples[:3]}" for anomaly in check.anomalies]
    if not settled:
        missing = truth["payments"] - check.payments + len(pending)
        problems.append(f"{missing} payments have no outcome and wait for nobody")
    example = next((p for p in posts if p.payment is not None and p.kind == "first"), None)
    return {
        "posts": truth["posts"],
        "payments": truth["payments"],
        "repeats": truth["repeats"],
        "conflicting_requests": truth["conflicting_requests"],
        "outcomes": [
            {"tenant": tenant, "outcome": outcome, "reason": reason, "count": count}
            for tenant, outcome, reason, count in counts
        ],
        "reviews": {
            "waiting": len(waiting),
            **{f"{outcome}, {reason}": count for outcome, reason, count in reviewed},
        },
        "pending": [f"{tenant} {payment}" for tenant, payment in pending],
        "conflicts": [_conflict(payload) for (payload,) in refused],
        "dead_letters": {reason: count for reason, count in dead},
        "audit_rows": check.events,
        "exactly_one_outcome": settled
        and not check.anomalies
        and check.payments == truth["payments"]
        and not pending
        and check.without_outcome == len(waiting),
        "latency_p50_ms": waits[len(waits) // 2] if waits else None,
        "latency_p99_ms": waits[int(len(waits) * 0.99)] if waits else None,
        "seconds": round(seconds, 1),
        "posts_per_s": round(truth["posts"] / seconds),
        "audit_database": rig.database,
        "master_key_file": str(rig.folder / MASTER_KEY),
        "web": f"{front.url()}/tables/?token={token}" if keep else "",
        "show": f"ptr show {example.payment[0]} {example.payment[1]} --database {rig.database}"
        if example is not None and example.payment is not None
        else "",
        "problems": problems,
    }


def _conflict(payload: Any) -> str:
    data = payload if isinstance(payload, dict) else msgspec.json.decode(payload)
    return f"{data['tenant']} {data['payment_id']}: {data['detail']}"


def _print(report: dict[str, Any], console: Console, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    table = Table(title=f"what became of {report['payments']} payments ({report['posts']} posts)")
    for column, justify in (("tenant", "left"), ("outcome", "left"), ("reason", "left"), ("payments", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in report["outcomes"]:
        table.add_row(row["tenant"] or "?", row["outcome"], row["reason"], str(row["count"]))
    console.print(table)
    totals = Counter()  # type: Counter[str]
    for row in report["outcomes"]:
        totals[row["outcome"]] += row["count"]
    console.print("outcomes   " + ", ".join(f"{count} {outcome}" for outcome, count in totals.most_common()))
    console.print(f"repeats    {report['repeats']} requests posted again: the same answer, no second effect")
    for line in report["conflicts"]:
        console.print(f"conflict   {line}; refused, the first payment is untouched")
    dead = ", ".join(f"{count} {reason}" for reason, count in report["dead_letters"].items()) or "none"
    console.print(f"garbage    {dead} (dead letters)")
    told = (
        ", ".join(f"{count} {what}" for what, count in report["reviews"].items() if what != "waiting") or "none ended"
    )
    console.print(f"reviews    {told}; {report['reviews']['waiting']} wait for a person (`ptr reviews list`)")
    if report["pending"]:
        console.print(f"pending    {len(report['pending'])} payments wait for an unknown answer of the PIC")
    console.print(
        f"latency    p50 {report['latency_p50_ms']} ms, p99 {report['latency_p99_ms']} ms from request to outcome "
        "(with the PIC's own time)"
    )
    console.print(f"throughput {report['posts_per_s']} posts/s for {report['seconds']} s, until the last audit row")
    word = "yes" if report["exactly_one_outcome"] else "NO"
    console.print(
        f"exactly one outcome for every payment that waits for nobody: {word} ({report['audit_rows']} audit rows)"
    )
    for problem in report["problems"]:
        console.print(f"problem    {problem}")
    console.print(f"audit      {report['audit_database']}", soft_wrap=True)
    console.print(
        f"privacy    export PTR_PRIVACY_MASTER_KEY_FILE={report['master_key_file']} to read names", soft_wrap=True
    )
    if report["show"]:
        console.print(f"story      {report['show']}", soft_wrap=True)
    if report["web"]:
        console.print(f"web        {report['web']}", soft_wrap=True)
    else:
        console.print("web        with --keep, the views of table state stay open and their address is shown")
