"""Writes docs/schemas.md from the ``.avsc`` files: ``python docs/render_schemas.py``. A contract test compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "schemas.md"
#: In flow order.
NAMES = (
    "payment_requested",
    "payment_screened",
    "payment_localized",
    "payment_profiled",
    "payment_scored",
    "payment_queued",
    "payment_answered",
    "payment_ended",
    "payment_completed",
    "operation_requested",
    "payment_notified",
    "payment_updated",
    "payment_parked",
    "payment_credited",
    "dead_letter",
    "tenant_configured",
    "chargeback_received",
    "rule_snoozed",
    "pic_controlled",
    "list_part",
    "list_updated",
    "party_seen",
    "party_flagged",
    "erasure_requested",
    "party_erased",
    "model_part",
    "model_updated",
    "model_promoted",
    "review_opened",
    "review_decided",
    "review_answered",
    "exception_granted",
    "stock_moved",
    "invoice_changed",
)
HEAD = """# Records

Written from the schemas in `schemas/avro/` by `docs/render_schemas.py`; do not edit. Which topic holds which record is
in [reference/topics.md](reference/topics.md). Amounts are in minor units of the currency, times in epoch milliseconds.
A field with a default may be left out by a writer. Every version of every schema is kept in `schemas/history/` and
stays readable, both ways. What a text says of a person is in the column *personal* (`schemas/personal.py`): subject
(whose the record is), name, birth, place, instrument, text (words from outside that may say anything), carries (another
record), staff (who decided).

| record | what it is |
|---|---|
"""


def type_of(avro: Any, nested: dict[str, dict[str, Any]]) -> str:
    """A type in words; records inside are noted in ``nested``."""
    if isinstance(avro, list):
        return " or ".join(type_of(branch, nested) for branch in avro)
    if isinstance(avro, str):
        return avro
    match avro["type"]:
        case "record":
            nested.setdefault(avro["name"], avro)
            return str(avro["name"])
        case "array":
            return f"array of {type_of(avro['items'], nested)}"
        case "map":
            return f"map of {type_of(avro['values'], nested)}"
    return str(avro["type"])


def table(fields: list[dict[str, Any]], nested: dict[str, dict[str, Any]]) -> list[str]:
    """The fields as a Markdown table."""
    lines = ["| field | type | default | personal | meaning |", "|---|---|---|---|---|"]
    for field in fields:
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        meaning = field.get("doc", "").replace("|", "\\|")
        personal = "" if (said := field.get("personal", "no")) == "no" else said
        lines.append(f"| `{field['name']}` | {type_of(field['type'], nested)} | {default} | {personal} | {meaning} |")
    return lines


def render() -> str:
    """The whole page."""
    schemas = [json.loads((ROOT / "schemas" / "avro" / f"{name}.avsc").read_text()) for name in NAMES]
    lines = [f"| [{schema['name']}](#{schema['name'].lower()}) | {schema['doc']} |" for schema in schemas]
    nested: dict[str, dict[str, Any]] = {}
    for schema in schemas:
        lines += ["", f"## {schema['name']}", "", schema["doc"], "", *table(schema["fields"], nested)]
    lines += ["", "## Inside other records"]
    for name, schema in nested.items():
        lines += ["", f"### {name}", "", schema["doc"], "", *table(schema["fields"], {})]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
