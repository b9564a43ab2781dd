"""What a token makes the simulated PIC do, in the manner of a payment provider's test cards.

    tok_decline...      declined: tok_decline_expired_card by any standard code, otherwise insufficient_funds
    tok_slow...         done, but late (the delay is the simulator's, not the ledger's)
    tok_lost...         done, but the first answer is lost; a look-up finds it
    tok_late...         the same, and the answer that nobody waits for takes its time
    tok_garbage...      done, but the first answer is rubbish; a look-up finds it
    tok_error...        an error before anything is done; a look-up finds nothing; the next call with the same key is done
    tok_reset...        the same, by a broken connection
    tok_throttled...    too many requests: not sent, and nothing done; the next call with the same key is done
    tok_refused...      no connection: not sent, and nothing done; the next call with the same key is done
    tok_processing...   pending, then found done by the first look-up
    tok_never...        no answer for 3 look-ups, then declined
    tok_unfindable...   done and said, but the first look-up fails
    tok_challenge...    the payer has to act; nothing moves until the challenge is finished
    tok_unproved...     declined, authentication_failed, where the payer is challenged; otherwise done
    anything else       done

The words hold for calls of every kind: a refund with ``tok_lost`` is done, and its answer lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from connectors.pic.base import NOT_SENT, UNKNOWN, Answer, Call
from connectors.pic.declines import STANDARD, DeclineCode, Meaning

SUCCEEDED: Final = "succeeded"
DECLINED: Final = "declined"
#: Nothing was done; the PIC does not have it.
NOTHING: Final = "nothing"
#: Taken, not decided: until the next look-up, or until there were :data:`NEVER_LOOK_UPS`.
PROCESSING: Final = "processing"
NEVER: Final = "never"
#: Done, and not to be found yet.
HIDDEN: Final = "hidden"
CHALLENGED: Final = "challenged"

#: Look-ups of a ``tok_never`` payment that find no answer yet.
NEVER_LOOK_UPS: Final = 3
#: What a throttling simulator asks for.
RETRY_AFTER_S: Final = 7.0


class Script(msgspec.Struct, frozen=True):
    """What is made of a call that comes for the first time: what the PIC records, and what it says if not just that."""

    outcome: str
    reason: str = ""
    first: Answer | None = None


DONE: Final = Script(SUCCEEDED)
_UNHEARD: Final = Script(SUCCEEDED, first=UNKNOWN)
_UNDONE: Final = Script(NOTHING, first=UNKNOWN)
_THROTTLED: Final = Answer("unsent", DeclineCode.TRY_AGAIN_LATER.value, retry_after_s=RETRY_AFTER_S)
_UNPROVED: Final = Script(DECLINED, DeclineCode.AUTHENTICATION_FAILED.value)

_BY_PREFIX: Final[Mapping[str, Script]] = MappingProxyType(
    {
        "tok_decline": Script(DECLINED, DeclineCode.INSUFFICIENT_FUNDS.value),
        "tok_slow": DONE,
        "tok_lost": _UNHEARD,
        "tok_late": _UNHEARD,
        "tok_garbage": _UNHEARD,
        "tok_error": _UNDONE,
        "tok_reset": _UNDONE,
        "tok_throttled": Script(NOTHING, first=_THROTTLED),
        "tok_refused": Script(NOTHING, first=NOT_SENT),
        "tok_processing": Script(PROCESSING),
        "tok_never": Script(NEVER),
        "tok_unfindable": Script(HIDDEN),
        "tok_challenge": Script(CHALLENGED),
        "tok_unproved": DONE,
    }
)
#: How tokens that say something begin; most say nothing.
PREFIXES: Final = tuple(_BY_PREFIX)
#: The simulator's own codes are the standard ones; ``tok_decline_<code>`` asks for one.
DECLINES: Final[Mapping[str, Meaning]] = MappingProxyType({code.value: STANDARD[code] for code in STANDARD})
#: Tokens whose answer takes its time.
SLOW: Final = ("tok_slow", "tok_late")
_DECLINED: Final = {f"tok_decline_{code}": Script(DECLINED, code) for code in DECLINES}


def script_of(call: Call) -> Script:
    """What the token of ``call`` says."""
    token = call.token
    if not token.startswith(PREFIXES):
        return DONE
    if call.challenge and token.startswith("tok_unproved"):
        return _UNPROVED
    decline = next((script for start, script in _DECLINED.items() if token.startswith(start)), None)
    return decline or next(script for start, script in _BY_PREFIX.items() if token.startswith(start))
