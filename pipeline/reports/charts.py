"""Small charts as inline SVG: no script, no style from elsewhere, readable in print and in shades of grey. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 28, 40
#: Labels under bars, at most; of more every second, third, ... is written.
_LABELS_MAX: Final = 12
_ROW: Final = 20
_NAME_WIDTH: Final = 230


@dataclass(frozen=True, slots=True)
class Series:
    """One row of numbers, None where there is none; ``colour`` as CSS has it. Series differ in lightness too."""

    name: str
    colour: str
    values: Sequence[float | None]


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[Series]) -> str:
    """A bar a label, made of the series, the first at the bottom."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(len(labels))]
    top = _nice(max(totals, default=0.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    parts = []
    for at, label in enumerate(labels):
        base = 0.0
        for each in series:
            value = each.values[at] or 0.0
            if value:
                high = _y(base, top) - _y(base + value, top)
                parts.append(
                    f'<rect x="{_LEFT + at * step + step * 0.1:.1f}" y="{_y(base + value, top):.1f}" '
                    f'width="{step * 0.8:.1f}" height="{high:.1f}" fill="{each.colour}">'
                    f"<title>{escape(label)}: {escape(each.name)} {value:,.0f}</title></rect>"
                )
            base += value
    return _framed(title, labels, series, top, "".join(parts), "{:,.0f}")


def lines(title: str, labels: Sequence[str], series: Sequence[Series]) -> str:
    """A line for each series, from 0 to 1; a gap where there is no value, a dot on each that there is."""
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    parts = []
    for each in series:
        run: list[str] = []
        for at, value in enumerate([*each.values, None]):
            if value is not None:
                x, y = _LEFT + (at + 0.5) * step, _y(value, 1.0)
                run.append(f"{x:.1f},{y:.1f}")
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{each.colour}">'
                    f"<title>{escape(labels[at])}: {escape(each.name)} {value:.3f}</title></circle>"
                )
            elif run:
                points = " ".join(run)
                parts.append(f'<polyline points="{points}" fill="none" stroke="{each.colour}" stroke-width="2"/>')
                run = []
    return _framed(title, labels, series, 1.0, "".join(parts), "{:.2g}")


def rows(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    colour: str,
    top: float,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """A horizontal bar for each name, its value written behind it; ``marks`` are named values with a line.

    A bar of more than ``top`` is as long as one of ``top``: the number behind it tells.
    """
    height = _TOP + _ROW * len(names) + 16
    width = WIDTH - _NAME_WIDTH - 70
    parts = []
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        y = _TOP + at * _ROW
        long = min(max(value, 0.0), top) / top * width
        parts.append(
            f'<text x="{_NAME_WIDTH - 6}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_NAME_WIDTH}" y="{y + 2}" width="{long:.1f}" height="{_ROW - 5}" '
            f'fill="{colour}"/>'
            f'<text x="{_NAME_WIDTH + long + 5:.1f}" y="{y + 13}">{_written(value)}</text>'
        )
    for mark, name in marks:
        x = _NAME_WIDTH + mark / top * width
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 4}" x2="{x:.1f}" y2="{height - 14}" class="mark"/>'
            f'<text x="{x:.1f}" y="{height - 2}" text-anchor="middle">{escape(name)}</text>'
        )
    return _svg(title, height, "".join(parts))


def _written(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _framed(title: str, labels: Sequence[str], series: Sequence[Series], top: float, inside: str, written: str) -> str:
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    every = -(-len(labels) // _LABELS_MAX) or 1
    axis = []
    for part in range(5):
        value = top * part / 4
        y = _y(value, top)
        axis.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{written.format(value)}</text>'
        )
    for at in range(0, len(labels), every):
        x = _LEFT + (at + 0.5) * step
        axis.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(labels[at])}</text>')
    legend, x = [], float(_LEFT)
    for each in series:
        legend.append(
            f'<rect x="{x:.0f}" y="{HEIGHT - 14}" width="10" height="10" fill="{each.colour}"/>'
            f'<text x="{x + 14:.0f}" y="{HEIGHT - 5}">{escape(each.name)}</text>'
        )
        x += 30 + 6.6 * len(each.name)
    return _svg(title, HEIGHT, "".join(axis) + inside + "".join(legend))


def _svg(title: str, height: float, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f'<text x="0" y="14" class="title">{escape(title)}</text>{inside}</svg>'
    )


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * value / top


def _nice(value: float) -> float:
    """The least of 4, 8, 20, 40, 80, 200, ... that is not below ``value``: four parts of it are whole numbers."""
    scale = 1.0
    while True:
        for part in (4, 8, 20):
            if value <= part * scale:
                return part * scale
        scale *= 10
