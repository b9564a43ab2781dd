"""What pages of reports share: one HTML file that needs nothing else, readable on paper too. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

#: Dark, middle, light: told apart in print too (Okabe and Ito's colours for the colour-blind).
DARK, MIDDLE, LIGHT, RED = "#0072b2", "#56b4e9", "#cccccc", "#d55e00"

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #ccc}
p{margin:.4rem 0}.note{color:#444}.figures{display:flex;flex-wrap:wrap;gap:1rem 2.2rem;margin:1rem 0}
.figures div{min-width:6.5rem}.figures b{display:block;font-size:1.45rem;font-weight:600}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%}
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #888}
.word{text-align:left}tfoot td{border-top:2px solid #888;font-weight:600}
svg{width:100%;height:auto;margin:.5rem 0}svg text{font:11px system-ui,sans-serif;fill:#1a1a1a}
svg .title{font-size:13px;font-weight:600}.grid{stroke:#ddd}.mark{stroke:#1a1a1a;stroke-dasharray:4 3}
@media print{body{margin:0;max-width:none}h2,svg{break-after:avoid}svg,tr,.figures{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}.scroll{overflow:visible}table{font-size:10px}}
"""


def document(title: str, about: str, parts: Sequence[str], language: str = "en") -> str:
    """The whole page; ``parts`` are HTML."""
    head = (
        f"<!doctype html><html lang={escape(language)}><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
    )
    return "\n".join([head, f'<p class="note">{escape(about)}</p>', *parts, "</body></html>"])


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    about: Mapping[str, str] | None = None,
    *,
    totals: Sequence[Sequence[str]] = (),
    left: int = 1,
) -> str:
    """A table, its first ``left`` columns of words; a cell that is a word of ``about`` explains it when pointed at."""
    if not rows:
        return "<p>Nothing to show.</p>"
    head = _row("th", headings, {}, left)
    body = "".join(_row("td", row, about or {}, left) for row in rows)
    foot = "".join(_row("td", row, {}, left) for row in totals)
    foot = f"<tfoot>{foot}</tfoot>" if foot else ""
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody>{foot}</table></div>'


def _row(tag: str, cells: Sequence[str], about: Mapping[str, str], left: int) -> str:
    made = []
    for place, text in enumerate(cells):
        side = ' class="word"' if 0 < place < left else ""
        explained = f' title="{escape(about[text])}"' if text in about else ""
        made.append(f"<{tag}{side}{explained}>{escape(text)}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"
