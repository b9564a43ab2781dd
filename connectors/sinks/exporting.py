"""What an auditor takes home: one archive with rows, proofs, heads and public key, the rules and models that were in force, the
file that checks it all, and a page that says how, with this program and without.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.proofs import verifier
from connectors.proofs.verifier import COLUMNS, PublicKey
from connectors.sinks.database import Database
from connectors.sinks.proving import UnknownPaymentError, bundle_of
from pipeline.reports.page import document, table

if TYPE_CHECKING:
    from connectors.sinks.archive_files import ArchivedRows

#: Payments that are asked for at once.
PAGE_PAYMENTS: Final = 500
#: Names of the archive's files.
BUNDLES, HEADS, KEY, RULES, MODELS, VERIFIER, GUIDE = (
    "bundles.jsonl",
    "heads.txt",
    "log.pub",
    "rules.jsonl",
    "models.json",
    "verifier.py",
    "HOW-TO-CHECK.html",
)
_PAYMENTS: Final = (
    "SELECT payment_id FROM payments WHERE tenant = ? AND payment_id > ? AND requested_at_ms >= ? AND requested_at_ms < ?"
    " ORDER BY payment_id LIMIT ?"
)
_ANY_PAYMENT: Final = "SELECT 1 FROM payments WHERE tenant = ? LIMIT 1"
_PAYLOAD, _STAGE = COLUMNS.index("payload"), COLUMNS.index("stage")


class NothingToExportError(Exception):
    """The tenant has no payment in the days that were asked for, or none at all."""


class _Scored(msgspec.Struct):
    model: str = ""
    challenger: str = ""
    rule_library: int = 0


_scored = msgspec.json.Decoder(_Scored)


@dataclass(slots=True)
class Exported:
    """What is in an archive."""

    payments: int = 0
    rows: int = 0
    #: Versions of the tenant's rules, and of what scored its payments.
    rules: int = 0
    models: set[str] = field(default_factory=set)
    heads: list[str] = field(default_factory=list)


def export(
    database: Database,
    tenant: str,
    *,
    from_ms: int,
    until_ms: int,
    key: PublicKey,
    file: Path,
    archived: ArchivedRows | None = None,
    said: Callable[[Exported], None] = lambda exported: None,
) -> Exported:
    """Write the archive of the payments of ``tenant`` that were requested in [from_ms, until_ms) to ``file``.

    What is said of the tenant itself (its rules) is in it whole, whenever that was. Every bundle is checked with ``key``
    before it is written. Memory does not grow with the payments.

    Raises :class:`NothingToExportError` before ``file`` is made, :class:`~connectors.sinks.proving.UnprovenError`,
    :class:`~connectors.proofs.verifier.ProofError`, :class:`~connectors.sinks.archives.ArchiveFileError` and OSError.
    """
    _must_have_payments(database, tenant, from_ms, until_ms)
    exported, scored_by = Exported(), set[tuple[int, str, str]]()
    notes: dict[str, str] = {}
    rules: list[bytes] = []
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        with archive.open(BUNDLES, "w", force_zip64=True) as bundles:
            for bundle in _bundles(database, tenant, from_ms, until_ms, archived):
                content = msgspec.json.encode(bundle)
                verified = verifier.verify_bundle(content, key)
                bundles.write(content + b"\n")
                notes |= {head.origin: note for head, note in zip(verified.heads, bundle["heads"], strict=True)}
                for row in verified.rows:
                    if row[_STAGE] == "tenants" and row[_PAYLOAD]:
                        rules.append(row[_PAYLOAD].encode())
                    elif row[_STAGE] == "payee" and row[_PAYLOAD]:
                        scored = _scored.decode(row[_PAYLOAD])
                        scored_by.add((scored.rule_library, scored.model, scored.challenger))
                exported.payments += bool(bundle["payment_id"])
                exported.rows += len(verified.rows)
                said(exported)
        exported.rules, exported.heads = len(rules), sorted(notes)
        exported.models = {model for _, *names in scored_by for model in names if model}
        archive.writestr(HEADS, "\n".join(notes[origin] for origin in exported.heads) + "\n")
        archive.writestr(KEY, f"{key}\n")
        archive.writestr(RULES, b"".join(rule + b"\n" for rule in rules))
        names = ("rule_library", "model", "challenger")
        models = [dict(zip(names, each, strict=True)) for each in sorted(scored_by)]
        archive.writestr(MODELS, msgspec.json.format(msgspec.json.encode(models)) + b"\n")
        archive.writestr(VERIFIER, Path(verifier.__file__).read_bytes())
        archive.writestr(GUIDE, _guide(tenant, from_ms, until_ms, exported, key))
    return exported


def _must_have_payments(database: Database, tenant: str, from_ms: int, until_ms: int) -> None:
    if database.query(_PAYMENTS, (tenant, "", from_ms, until_ms, 1)):
        return
    if not database.query(_ANY_PAYMENT, (tenant,)):
        raise NothingToExportError(f"{database.shown} holds no payment of tenant {tenant}: nothing was written")
    first, until = _minutes(from_ms, until_ms)
    raise NothingToExportError(
        f"no payment of {tenant} was requested from {first} to before {until} (UTC): nothing was written"
    )


def _minutes(*times_ms: int) -> tuple[str, ...]:
    return tuple(datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") for ms in times_ms)


def _bundles(
    database: Database, tenant: str, from_ms: int, until_ms: int, archived: ArchivedRows | None
) -> Iterator[dict[str, Any]]:
    with suppress(UnknownPaymentError):
        yield bundle_of(database, tenant, "", archived)  # What is of no payment.
    after = ""
    while page := database.query(_PAYMENTS, (tenant, after, from_ms, until_ms, PAGE_PAYMENTS)):
        for (payment_id,) in page:
            yield bundle_of(database, tenant, payment_id, archived)
        after = page[-1][0]


def _guide(tenant: str, from_ms: int, until_ms: int, exported: Exported, key: PublicKey) -> str:
    first, until = _minutes(from_ms, until_ms)
    asked = f"{exported.payments:,} payments of {tenant}, requested from {first} to before {until} (UTC)"
    files = [
        [BUNDLES, "a line a payment: every row of it, and for each row the path to the root of its tree (JSON)"],
        [HEADS, "the trees' signed heads: origin, size, root, signature"],
        [KEY, "the log's public key; compare it with the one that you were given otherwise"],
        [RULES, "every version of the tenant's rules; its rows are in the first line of bundles.jsonl"],
        [MODELS, "the rule library and the models that scored these payments"],
        [VERIFIER, "checks all of it with Python's standard library alone; it is short: read it first"],
    ]
    steps = (
        "<ol><li>Compare <code>log.pub</code> with the public key that you have from elsewhere, and <code>heads.txt</code> "
        "with heads that you kept: a head of the same origin and size must have the same root.</li>"
        "<li>With Python 3.11 or newer and nothing else: <code>python3 -I verifier.py bundles.jsonl log.pub</code>. It says "
        "how many rows are proven, or names the first that is not, and ends with 1.</li>"
        "<li>With the program: <code>ptr audit verify bundles.jsonl --key log.pub --heads YOUR-HEADS.txt</code>. That nothing "
        "is missing is told by <code>ptr audit verify --database URL --heads YOUR-HEADS.txt</code>, at the database.</li></ol>"
    )
    by_hand = (
        "<p>By hand: a row's canonical bytes are a MessagePack array of the number 1 and its fifteen columns, in their order, "
        "each in its shortest form (text as str, avro as bin, nothing as nil). The leaf is SHA-256 over a zero byte and these; "
        "a node is SHA-256 over a byte of one, the left and the right hash (RFC 6962, section 2.1). Walk from the leaf along "
        "the proof as in RFC 9162, section 2.1.3.2: the end must be the root in the head. The head is the three lines origin, "
        "size and root (base64), each ended by a newline; after an empty line the signature line holds, in base64, four bytes "
        "that name the key and an Ed25519 signature (RFC 8032) over these three lines.</p>"
    )
    heads = "".join(f"<li><code>{escape(origin)}</code></li>" for origin in exported.heads)
    parts = [
        "<h2>What is here</h2>",
        table(["file", "what it is"], files, left=2),
        "<h2>How to check it</h2>",
        steps,
        by_hand,
        f"<h2>The log</h2><p>The public key is <code>{escape(str(key))}</code>. Its trees here:</p><ul>{heads}</ul>",
        "<p>Personal data is sealed in rows whose avro begins with E5 01 (docs/decisions/0044-erasable-rows.md); others may "
        "hold it in the open: keep this archive as you keep those.</p>",
    ]
    return document("How to check this archive", f"{asked}: {exported.rows:,} rows.", parts)
