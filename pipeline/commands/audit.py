"""``ptr audit-sink``: write the audit tables."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

import click

from connectors.proofs.heads import HeadsFile, HeadsFileError
from connectors.proofs.keys import KeyFileError, read_signer
from connectors.proofs.leaf_log import NO_FOLDER, LeafLog, LeafLogError, folder_of
from connectors.registry import RegistryError, open_registry
from connectors.sinks.database import DatabaseError, shown_url
from connectors.sinks.signing import HeadSigner, HeadsTopic
from connectors.sinks.sink import AuditSink, SinkError, Status
from connectors.sinks.writing import tune_process
from connectors.tracing import is_configured
from pipeline.commands.shared import masters_of, settings_with
from pipeline.settings import Settings
from pipeline.topics import audited
from schemas.codec import Codec

if TYPE_CHECKING:
    from agents.sink_page import SinkPage
    from connectors.tracing.tracer import Tracer

_UNSEALED = (
    "WARNING: no master key (PTR_PRIVACY_MASTER_KEY_FILE): personal data is stored readable, for ever, and nobody can be"
    " erased. Make one with `ptr privacy keygen`"
)


@click.command("audit-sink")
@click.option(
    "--database",
    metavar="URL",
    help="sqlite:///FILE or postgresql://USER@HOST/DB (default: PTR_DATABASE, or sqlite:///var/audit.db).",
)
@click.option("--broker", metavar="HOST:PORT", help="Kafka to read (default: PTR_BROKER, or 127.0.0.1:9092).")
@click.option("--once", is_flag=True, help="Read to what is the end now, and stop.")
@click.option(
    "--give-up-after",
    "give_up_after_s",
    type=click.FloatRange(0, 86_400),
    default=300.0,
    show_default=True,
    help="Seconds to wait for a database that is away, locked or full; with --once for Kafka too.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the page with metrics.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port; 0 takes a free one (default: there is no page).")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON at the end.")
def audit_sink(
    database: str | None,
    broker: str | None,
    once: bool,
    give_up_after_s: float,
    host: str,
    port: int | None,
    as_json: bool,
) -> None:
    """Write every event to the audit tables, each once.

    Runs until it is stopped (Ctrl-C, SIGTERM) and says every 10 seconds how far it is. It may be killed at any time:
    the rows and the place in Kafka are written in one transaction. One sink per database. The tables are made when
    they are missing; rows of payment_events can be neither changed nor deleted. Every row is a leaf of a Merkle tree; with
    a key (PTR_AUDIT_KEY_FILE, see ptr audit keygen) the trees' heads are signed after each batch, or every few seconds, and go
    to the topic heads.signed.v1 and to the file PTR_AUDIT_HEADS_FILE, and the rows' hashes to a folder beside it: keep them
    elsewhere. With a master key (PTR_PRIVACY_MASTER_KEY_FILE, see ptr privacy keygen) personal data is sealed with a key per
    person. With --port the same counts are Prometheus metrics at /metrics, behind PTR_WEB_TOKEN, and /live answers.

    \b
    Examples:
      ptr audit-sink
      ptr audit-sink --port 8083
      ptr audit-sink --once --json
      ptr audit-sink --database postgresql://audit@db.internal/audit
    Keep a password out of the command line: put the URL into a file, and name it in PTR_DATABASE_FILE.
    """
    chosen = settings_with(database=database, broker=broker)
    stop = Event()
    signer = _signer_with(chosen)
    masters = masters_of(chosen)
    if masters is None:
        _say(_UNSEALED)
    tracer = _tracer(chosen) if is_configured(os.environ) else None
    before = {number: signal.signal(number, _stopper(stop)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        sink = AuditSink(
            chosen.database,
            chosen.access,
            [topic.name for topic in audited(chosen.pics)],
            Codec(open_registry(chosen.schema_registry_url)),
            once=once,
            give_up_after_s=give_up_after_s,
            signer=signer,
            masters=masters,
            say=_say,
            on_status=_StatusLine(tracer),
            on_written=tracer.written if tracer else None,
            apart=True,
        )
        page = _page(sink.status, chosen, host, port) if port is not None else None
        tune_process()
        click.echo(f"auditing {chosen.broker} into {shown_url(chosen.database)}", err=True)
        try:
            sink.run(stop)
        finally:
            if page is not None:
                page.stop()
    except (SinkError, DatabaseError, RegistryError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        if tracer is not None:
            tracer.close()
        for number, handler in before.items():
            signal.signal(number, handler)
        if signer is not None:
            signer.close()
    if as_json:
        traced = {"tracing": asdict(tracer.counts)} if tracer else {}
        click.echo(json.dumps({"database": shown_url(chosen.database), **asdict(sink.status), **traced}))
    else:
        click.echo(_words(sink.status, tracer))


def _page(status: Status, chosen: Settings, host: str, port: int) -> SinkPage:
    """Imported only here, as the server is needed only then."""
    from agents.sink_page import SinkPage

    page = SinkPage(status, chosen.web_token)
    try:
        taken = page.start(host, port)
    except OSError as error:
        page.stop()
        raise click.ClickException(f"port {port} on {host} is not free: {error.strerror}") from None
    _say(f"http://{host}:{taken}/metrics")
    return page


def _tracer(chosen: Settings) -> Tracer:
    """Imported only here: OpenTelemetry's packages take half a second and 30 MB."""
    from connectors.tracing.exporter import OtlpExporter
    from connectors.tracing.sampling import Sampling
    from connectors.tracing.tracer import Tracer

    sampling = Sampling(share=chosen.trace_share, slow_ms=int(chosen.trace_slow_s * 1000))
    return Tracer(chosen.database, OtlpExporter(), sampling, say=_say)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _signer_with(settings: Settings) -> HeadSigner | None:
    """What signs heads, None without a key."""
    if not settings.audit_key_file:
        for name in ("audit_heads_file", "audit_leaves_dir"):
            if getattr(settings, name) not in ("", NO_FOLDER):
                raise click.ClickException(f"PTR_{name.upper()}: without PTR_AUDIT_KEY_FILE no head is signed")
        return None
    try:
        signer = read_signer(Path(settings.audit_key_file))
        path = Path(settings.audit_heads_file) if settings.audit_heads_file else None
        file = HeadsFile(path, _say) if path else None
        folder = folder_of(settings.audit_leaves_dir, path)
        leaves = LeafLog(folder, _say) if folder else None
    except (KeyFileError, HeadsFileError, LeafLogError) as error:
        raise click.ClickException(str(error)) from None
    return HeadSigner(signer, settings.audit_heads_every_s, file, HeadsTopic(settings.access, _say), leaves)


def _stopper(stop: Event) -> signal._HANDLER:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    return handle


class _StatusLine:
    """Says how far the sink is, with the rate since the last time."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._at = time.monotonic()
        self._events = 0

    def __call__(self, status: Status) -> None:
        now = time.monotonic()
        rate = (status.events - self._events) / max(now - self._at, 0.001)
        self._at, self._events = now, status.events
        click.echo(f"{_words(status, self._tracer)}, {rate:,.0f} events/s", err=True)


def _words(status: Status, tracer: Tracer | None) -> str:
    words = [f"{status.events:,} events"]
    if status.repeated:
        words.append(f"{status.repeated:,} repeated")
    if status.unreadable:
        words.append(f"{status.unreadable:,} unreadable")
    if status.expired:
        words.append(f"{status.expired:,} EXPIRED UNREAD")
    if status.unsealed:
        words.append(f"{status.unsealed:,} UNSEALED")
    words.append(f"{status.transactions:,} transactions")
    if tracer is not None:
        words.append(f"{tracer.counts.sampled:,} payments traced")
        words += [f"{tracer.counts.skipped:,} NOT TRACED"] if tracer.counts.skipped else []
        words += [f"{tracer.counts.lost:,} SPANS LOST"] if tracer.counts.lost else []
    if status.lag is not None:
        words.append(f"{status.lag:,} waiting")
    return ", ".join(words)
