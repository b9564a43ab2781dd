"""``ptr trace``: draw where a payment's time went."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from connectors.sinks.journey import Kind, Part, Step, journey, totals, waited_ms
from connectors.sinks.story import Story, iso
from pipeline.commands.shared import archive_option, json_option, print_json
from pipeline.commands.stories import database_option, found_story, not_told
from schemas.trace_context import trace_id_of

#: How each kind of step is drawn: in Unicode, in ASCII, its colour. The signs differ, so that no colour is needed.
_SIGNS: Final[dict[Kind, tuple[str, str, str]]] = {
    "wait": ("·", ",", "yellow"),
    "stage": ("█", "#", "cyan"),
    "queue": ("░", ".", "yellow"),
    "call": ("▓", "=", "magenta"),
    "delay": ("┄", "-", "yellow"),
    "review": ("▒", "~", "blue"),
    "mark": ("◆", "*", "white"),
}
_FAILED: Final = "red"
#: What each kind is called before its name.
_WORDS: Final[dict[Kind, str]] = {
    "wait": "wait for",
    "stage": "",
    "queue": "queue of",
    "call": "call to",
    "delay": "wait to ask",
    "review": "review by",
    "mark": "",
}
_BARS_MIN: Final = 16
_BARS_MAX: Final = 100


@click.command("trace")
@click.argument("tenant")
@click.argument("payment")
@database_option
@archive_option
@json_option
def trace(tenant: str, payment: str, database: str | None, archive_folder: Path | None, as_json: bool) -> None:
    """Draw where the time of PAYMENT of TENANT went, from the audit tables alone.

    A bar for each step: waiting in a topic for a stage, its work, waiting in a PIC's queue, calls, waiting to ask again,
    reviews; then what each took together, and how much of it was waiting. A stage works on a batch: its work is that on the
    others too. Operations on the payment follow, each with its own time. Events that `ptr audit archive` moved to files are
    drawn with --archive. Ends with code 1 when there is no such payment.

    \b
    Examples:
      ptr trace aurora pay_000001
      ptr trace aurora pay_000001 --json
      ptr trace aurora pay_000001 --archive /mnt/archive
    """
    found = found_story(tenant, payment, database, archive_folder)
    parts = journey(found)
    if as_json:
        print_json(_data(found, parts))
        return
    console = Console(markup=False, highlight=False)
    if found.archived:
        console.print(f"{found.tenant} {found.payment_id}  {not_told(found)}", soft_wrap=True)
    for part in parts:
        for line in _drawn(found, part, console.width, console.options.ascii_only):
            console.print(line, soft_wrap=True)


def _data(found: Story, parts: list[Part]) -> dict[str, Any]:
    return {
        "tenant": found.tenant,
        "payment_id": found.payment_id,
        "archived": found.archived,
        "parts": [
            {
                "part": part.part_id,
                "name": part.name,
                "trace_id": trace_id_of(found.tenant, found.payment_id, part.trace_id),
                "outcome": part.outcome,
                "reason": part.reason,
                "began_ms": part.began_ms,
                "took_ms": part.ended_ms - part.began_ms,
                "steps": [
                    {
                        "step": step.step_id,
                        "after": step.parent_id,
                        "kind": step.kind,
                        "name": step.name,
                        "began_ms": step.began_ms,
                        "took_ms": step.took_ms,
                        "outcome": step.outcome,
                        "reason": step.reason,
                        "attempt": step.attempt,
                        "ask": step.ask,
                        "failed": step.failed,
                        "event_id": step.event.event_id,
                    }
                    for step in part.steps
                ],
                "waited_ms": waited_ms(part.steps),
                "totals": [
                    {"kind": kind, "name": name, "took_ms": took_ms, "steps": steps}
                    for kind, name, took_ms, steps in totals(part.steps)
                ],
            }
            for part in parts
        ],
    }


def _drawn(found: Story, part: Part, width: int, ascii_only: bool) -> Iterator[Text]:
    took_ms = part.ended_ms - part.began_ms
    yield Text(f"{found.tenant} {found.payment_id}  {_title(part)}", style="bold")
    yield Text(
        f"began {iso(part.began_ms)}, took {took_ms:,} ms, trace "
        + trace_id_of(found.tenant, found.payment_id, part.trace_id)
    )
    rows = [(f"+{step.began_ms - part.began_ms:,}", _label(step), f"{step.took_ms:,} ms", step) for step in part.steps]
    at_width = max((len(at) for at, *_ in rows), default=0)
    label_width = max((cell_len(label) for _, label, *_ in rows), default=0)
    took_width = max((len(took) for *_, took, _ in rows), default=0)
    bars = min(max(width - at_width - label_width - took_width - 6, _BARS_MIN), _BARS_MAX)
    # What was told after the end is drawn at the end.
    span_ms = max(took_ms, 1)
    for at, label, took, step in rows:
        line = Text(f"{at:>{at_width}}  ")
        line.append(_bar(step, part.began_ms, span_ms, bars, ascii_only))
        shown = "" if step.kind == "mark" else took
        line.append(f"  {shown:>{took_width}}  ")
        line.append(label, style=_FAILED if step.failed else "")
        yield line
    yield Text(f"where the time went: {waited_ms(part.steps):,} of {took_ms:,} ms waiting")
    sums = totals(part.steps)
    names = [_name(kind, name) for kind, name, _, _ in sums]
    name_width = max(map(cell_len, names), default=0)
    for name, (kind, _, sum_ms, steps) in zip(names, sums, strict=True):
        line = Text("  ")
        line.append(_sign(kind, ascii_only) + " ", style=_SIGNS[kind][2])
        times = f"  {steps} times" if steps > 1 else ""
        line.append(f"{name:<{name_width}}  {sum_ms:>12,} ms  {100 * sum_ms / span_ms:5.1f} %{times}")
        yield line


def _title(part: Part) -> str:
    name = part.part_id.replace("/", " ", 1) if part.part_id != part.name else ""
    why = f": {part.reason}" if part.reason else ""
    outcome = f"{part.outcome}{why}" if part.outcome else "no outcome yet"
    return f"{part.name} {name.removeprefix('operation ')}  {outcome}" if name else outcome


def _label(step: Step) -> str:
    words = [_name(step.kind, step.name)]
    if step.ask or step.attempt > 1:
        words.append(f"attempt {step.attempt}" + (f", ask {step.ask + 1}" if step.ask else ""))
    if step.outcome:
        words.append(f"{step.outcome}: {step.reason}" if step.reason else step.outcome)
    return "  ".join(words)


def _name(kind: Kind, name: str) -> str:
    return f"{_WORDS[kind]} {name}".strip()


def _sign(kind: Kind, ascii_only: bool) -> str:
    return _SIGNS[kind][1 if ascii_only else 0]


def _bar(step: Step, origin_ms: int, span_ms: int, bars: int, ascii_only: bool) -> Text:
    """A line of ``bars`` cells with the step at its place; what took any time at all is one cell at least."""

    def cell(at_ms: int) -> int:
        return min(round((at_ms - origin_ms) * bars / span_ms), bars)

    start = min(cell(step.began_ms), bars - 1)
    length = max(cell(step.ended_ms) - start, 1 if step.took_ms or step.kind == "mark" else 0)
    style = _FAILED if step.failed else _SIGNS[step.kind][2]
    line = Text(" " * start)
    line.append(_sign(step.kind, ascii_only) * length or ("|" if ascii_only else "▏"), style=style)
    line.append(" " * (bars - line.cell_len))
    return line
