"""``ptr inventory post`` and ``ptr invoices post``: a file with a bad line is not posted, and it is told which and why.

Nobody listens at the broker's address here: a command that began to post would say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from pipeline.commands.inventory import inventory
from pipeline.commands.invoices import invoices
from pipeline.commands.posted_lines import ERRORS_SHOWN
from tests.unit.test_inventory import CARD_NUMBER, a_movement
from tests.unit.test_invoices import a_change

NOBODY = "127.0.0.1:1"
MOVEMENT: dict[str, Any] = msgspec.to_builtins(a_movement())
CHANGE: dict[str, Any] = msgspec.to_builtins(a_change())


def post(command: click.Group, content: str | bytes, *words: str) -> Result:
    """``ptr ... post -`` with ``content`` on standard input."""
    return CliRunner().invoke(command, ["post", "-", "--broker", NOBODY, *words], input=content)


def lines(*objects: dict[str, Any] | str) -> str:
    return "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in objects)


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (without(MOVEMENT, "quantity"), "quantity is missing"),
        (MOVEMENT | {"quantity": "10"}, "quantity is of another type"),
        (MOVEMENT | {"quantity": 1.5}, "quantity is of another type"),
        (MOVEMENT | {"quantity": 0}, "quantity is zero"),
        (MOVEMENT | {"quantity": 10**30}, "quantity is beyond 1000000000"),
        (MOVEMENT | {"colour": "green"}, "has a field that is not known"),
        (MOVEMENT | {"order_reference": f"Ada {CARD_NUMBER}"}, "order_reference holds a card number"),
        (MOVEMENT | {"order_reference": "\ud800"}, "is no JSON object"),
        ("[1]", "is of another type"),
        ("not json", "is no JSON object"),
        ('{"tenant": "acme"', "is no JSON object"),
        (f'{{"tenant": "{"x" * (1 << 20)}"}}', "is too long"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_posted(bad: dict[str, Any] | str, told: str) -> None:
    """By its number, blank lines counted; in words, and as JSON; what it holds is not repeated."""
    content = lines(MOVEMENT, "", bad, MOVEMENT)
    done = post(inventory, content)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [f"line 3: {told}", "Nothing was posted: 1 of 3 lines are wrong."]
    assert done.stdout == ""
    as_json = post(inventory, content, "--json")
    assert as_json.exit_code == 1
    counts = json.loads(as_json.stdout)
    [error] = counts.pop("errors")
    assert (error["line"], f"{error['field']} {error['why']}".strip()) == (3, told)
    assert counts == {"topic": "inventory.moved.v1", "read": 3, "posted": 0, "refused": 1}
    assert CARD_NUMBER not in done.output + as_json.output


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (CHANGE | {"gross_minor": 12_001}, "gross_minor is not net_minor and tax_minor together"),
        (CHANGE | {"taxes": [{"rate_ppm": 1, "net_minor": 1}]}, "taxes[0].tax_minor is missing"),
        (CHANGE | {"taxes": [{"rate_ppm": 2**40, "net_minor": 10_000, "tax_minor": 2_000}]}, "taxes has a rate"),
        (
            CHANGE | {"taxes": [{"rate_ppm": 1, "net_minor": 1, "tax_minor": 1, "note": "Ada"}]},
            "taxes[0] has a field",
        ),
        (CHANGE | {"debtor_id": "Ada Lovelace"}, "debtor_id is not an id"),
    ],
)
def test_invoices_are_checked_in_the_same_way(bad: dict[str, Any], told: str) -> None:
    """Also what is inside, and nobody is named."""
    done = post(invoices, lines(CHANGE, bad))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"line 2: {told}")
    assert "Ada" not in done.output


def test_many_mistakes_are_counted() -> None:
    """The first are named."""
    done = post(inventory, lines(*[MOVEMENT | {"quantity": 0}] * (ERRORS_SHOWN + 2)))
    told = done.stderr.splitlines()
    assert len(told) == ERRORS_SHOWN + 2
    assert told[-2:] == ["... and 2 more", "Nothing was posted: 22 of 22 lines are wrong."]


def test_bytes_that_are_no_text_and_files_that_are_none_are_told(tmp_path: Path) -> None:
    """In a line, without a traceback."""
    assert "line 1: is no JSON object" in post(inventory, b'{"tenant": "\xff"}\n').stderr
    assert post(inventory, "").stdout == "0 movements posted to inventory.moved.v1\n"
    for path in (tmp_path, tmp_path / "none"):
        done = CliRunner().invoke(inventory, ["post", str(path)])
        assert done.exit_code in (1, 2)
        assert "Traceback" not in done.output
        assert str(path) in done.output


def test_a_broker_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once every line is right, and with what to do."""
    monkeypatch.setattr("connectors.broker.one.CONNECT_TIMEOUT_S", 0.5)
    done = post(inventory, lines(MOVEMENT))
    assert done.exit_code == 1
    assert NOBODY in done.output
    assert "twice does no harm" in done.output
