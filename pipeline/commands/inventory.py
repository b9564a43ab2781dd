"""``ptr inventory``: what a warehouse or an ERP tells of the stock."""

from __future__ import annotations

from typing import BinaryIO, Final

import click

from pipeline import topics
from pipeline.commands.posted_lines import Posted, post_lines
from pipeline.commands.shared import broker_option, json_option
from pipeline.stages.inventory import mistake_in
from schemas.identity import stock_key
from schemas.records import StockMoved


class _Strict(StockMoved, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


_MOVEMENTS: Final[Posted[StockMoved]] = Posted(
    "movements",
    topics.INVENTORY,
    StockMoved,
    _Strict,
    mistake_in,
    lambda moved: stock_key(moved.tenant, moved.sku),
)


@click.group()
def inventory() -> None:
    """Tell of goods that moved; `ptr report inventory` adds them up.

    \b
    Examples:
      ptr inventory post movements.jsonl
    """


@inventory.command("post")
@click.argument("file", type=click.File("rb"))
@broker_option
@json_option
def post(file: BinaryIO, broker: str | None, as_json: bool) -> None:
    """Post the movements of FILE, JSON Lines with the fields of StockMoved (docs/schemas.md); - is standard input.

    Every line is checked before the first is posted: with one that is wrong nothing is, and the exit code is 1. Posting a
    file twice is safe: a movement is known by its movement_id, and the first one of that id counts.

    \b
    One line:
      {"tenant": "aurora", "movement_id": "mv-1", "sku": "tea-250", "location": "vienna", "kind": "received",
       "quantity": 40, "unit_cost_minor": 250, "currency": "EUR", "moved_at_ms": 1764000000000}

    \b
    Kinds: received, reserved, released, sold, returned, restocked, written_off, adjusted, transferred.

    \b
    Examples:
      ptr inventory post movements.jsonl
      erp-export --json | ptr inventory post - --json
    """
    post_lines(file, _MOVEMENTS, broker, as_json=as_json)
