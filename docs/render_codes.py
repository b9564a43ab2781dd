"""Writes docs/plugins-codes.md from the plugins' own tables: ``python docs/render_codes.py``. A contract test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.pic.declines import Meaning
from connectors.pic.iso8583.answers import APPROVED, NOT_DECIDED, NOT_FOUND, UNWANTED
from connectors.pic.iso20022.reasons import DUPLICATES
from connectors.pic.registry import codes_of

PAGE = Path(__file__).resolve().parent / "plugins-codes.md"
HEAD = """# What PICs' codes mean

Written from the plugins' tables by `docs/render_codes.py`; do not edit. `ptr pic codes NAME` prints the same of any installed
plugin.

The *decline code* is one of the standard set (`connectors/pic/declines.py`): it is what events, reports and the audit tables
show, whoever the PIC is. The *retry* is what may be tried next, always as a new attempt: `never` nothing, `here` later, at this
PIC or another, `elsewhere` at another PIC only. Which the others are, in which order, is the tenant's: `route` and `failover`
in [rules.md](rules.md).
"""


def _words(codes: frozenset[str]) -> str:
    return ", ".join(f"`{code}`" for code in sorted(codes))


#: Title, where a code comes from, and what one means that the table does not have.
PLUGINS: Mapping[str, tuple[str, str, str]] = {
    "simulator": (
        "Simulator",
        "The reason that a token `tok_decline_<code>` asks for.",
        "There are no others.",
    ),
    "stripe": (
        "Stripe",
        "`decline_code`, or without one `code`, of an error; `failure_reason` of a refund.",
        "Any other `decline_code` is `other`, `never`. Without one, an error of the type `idempotency_error` is `duplicate`,"
        " one about the parameter `amount` `invalid_amount`, one about `currency` `currency_not_supported`, any other of the"
        " type `invalid_request_error` `invalid_request`, each with its usual retry (that of the simulator).",
    ),
    "iso8583": (
        "ISO 8583",
        "Field 39 of an answer (response code).",
        f"{_words(APPROVED)} approve. {_words(UNWANTED)} approve what cannot be used, so it is reversed."
        f" {_words(NOT_DECIDED)} decide nothing: pending. {_words(NOT_FOUND)} answer a reversal or inquiry: there is none."
        " Any other code is no answer: the request is reversed, or stays pending.",
    ),
    "iso20022": (
        "ISO 20022",
        "The status reason of a rejected transfer (`StsRsnInf/Rsn/Cd` in pain.002, ExternalStatusReason1Code).",
        f"{_words(DUPLICATES)} say that the bank has it already, which is no decline: pending. Any other reason, also a"
        " proprietary or missing one, is `other`, `never`.",
    ),
}


def table(codes: Mapping[str, Meaning]) -> str:
    """One row per code."""
    rows = [f"| `{code}` | `{meant.code}` | `{meant.retry}` |\n" for code, meant in codes.items()]
    return "| code | decline code | retry |\n|---|---|---|\n" + "".join(rows)


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, (title, source, others) in PLUGINS.items():
        codes = codes_of(name)
        if codes is None:
            raise LookupError(f"the plugin {name} names no table of codes: install this checkout again")
        parts.append(f"\n## {title}\n\nThe PIC `{name}`. {source} {others}\n\n{table(codes)}")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render())
