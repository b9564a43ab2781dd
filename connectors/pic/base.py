"""What a plugin for a payment integration client (PIC) is: the words that it is asked in, and those it answers in.

A plugin carries; it decides nothing. It says ``succeeded`` and ``declined`` only on the PIC's explicit word. Whatever else
happened once a request may have left is ``pending``: whoever called may have been heard, so a pending answer is looked up
later, never guessed. ``unsent`` is for what surely did nothing.

docs/plugins.md tells how to write one; ``ptr pic new`` writes the beginning, ``ptr pic check`` runs the conformance kit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from schemas.codec import decode_request
from schemas.identity import parse_attempt_id
from schemas.reasons import Reason
from schemas.records import PaymentRequested, PaymentTerms
from schemas.trace_context import call_step, headers_for

#: ``payment`` authorizes and captures at once.
Kind = Literal["payment", "authorize", "capture", "void", "refund"]
KINDS: Final[tuple[Kind, ...]] = ("payment", "authorize", "capture", "void", "refund")

#: What a decline allows: ``never`` another attempt; ``here`` one later, at this PIC or another; ``elsewhere`` one at another
#: PIC only.
Retry = Literal["never", "here", "elsewhere"]

#: How far a notification's signed time may be from its receipt, either way: what Stripe's libraries and Standard Webhooks take.
NOTIFICATION_TOLERANCE_S: Final = 300.0


class NotSentError(Exception):
    """A plugin's word for it that nothing of the request left this host: no connection, no name resolved, no free slot."""


class UnsupportedError(Exception):
    """The PIC has no such thing. Nothing was sent."""


class NotificationError(ValueError):
    """A notification that must not be believed; ``reason`` says why and is safe to show, the text holds nothing else."""

    def __init__(self, reason: Literal["bad_signature", "replayed", "malformed"]) -> None:
        super().__init__(reason)
        self.reason = reason


class CallTimes(msgspec.Struct):
    """When a call was made, epoch milliseconds, and how long the PIC took; both 0 while it was not."""

    called_at_ms: int = 0
    call_ms: int = 0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do. ``attempt_id`` is the idempotency key: the same key is the same call, done once."""

    attempt_id: str
    tenant: str
    payment_id: str
    #: Of a void: what was authorized.
    amount_minor: int
    currency: str
    #: The vault's token of the instrument, never a card number.
    token: str
    #: Kind of the instrument: card, bank_account, wallet ...
    method: str
    kind: Kind = "payment"
    #: The reference that the PIC gave to the payment or authorization which is captured, voided or refunded; "" otherwise.
    original_reference: str = ""
    #: Whether the payer is to prove who they are before money moves (3-D Secure, or what the method has).
    challenge: bool = False
    #: Terms of the tenant's business rules: what is to be paid (``payable_minor``), tax, value date, locale; None without.
    terms: PaymentTerms | None = None
    #: Strong customer authentication: ``required``, ``exempt`` (``sca_basis`` names the article), ``out_of_scope``, or empty.
    sca: str = ""
    sca_basis: str = ""
    #: The how-manieth ask about the attempt this is, from 0.
    ask: int = 0
    #: The caller's trace, as events carry it (:mod:`schemas.trace_context`); :meth:`trace_headers` makes headers of it.
    trace_id: str = ""
    trace_context: str = ""
    #: Where whoever makes the call notes when; None: nobody wants to know.
    times: CallTimes | None = None
    #: The whole PTR, for a plugin that needs more of it: :meth:`ptr`. Most need nothing more, so it is not decoded.
    request: bytes = b""

    def trace_headers(self) -> dict[str, str]:
        """``traceparent`` and perhaps ``tracestate``, for a PIC that passes them on or logs them; nothing of them is secret."""
        name = parse_attempt_id(self.attempt_id)
        step = call_step(name.operation_id, name.attempt, self.ask)
        return headers_for(self.tenant, self.payment_id, step, trace_id=self.trace_id, trace_context=self.trace_context)

    def ptr(self) -> PaymentRequested:
        """The PTR as it was accepted."""
        return decode_request(self.request)


Outcome = Literal["succeeded", "declined", "pending", "requires_action", "unsent"]


class Answer(msgspec.Struct, frozen=True):
    """What became of a call.

    ========================  =====================================================================================
    ``succeeded``             done, on the PIC's word
    ``declined``              not done and not going to be, on the PIC's word; ``retry`` says what may be tried then
    ``requires_action``       the payer is to open ``action_url``; nothing moves before
    ``pending``               everything else: not known, or the PIC itself is not done; to be looked up
    ``unsent``                this call surely did nothing: no connection, too many requests; it may be made again
    ========================  =====================================================================================
    """

    outcome: Outcome
    #: A standard decline code (:mod:`connectors.pic.declines`) or another snake_case word, safe to show; no text of the PIC.
    reason: str = ""
    pic_reference: str = ""
    retry: Retry = "never"
    action_url: str = ""
    #: Of ``unsent``, and of a decline that allows another attempt: how long the PIC wants to be left alone; 0 when it said
    #: nothing.
    retry_after_s: float = 0.0


#: The answer when there is none that can be understood.
UNKNOWN: Final = Answer("pending", Reason.PIC_ANSWER_UNKNOWN.value)
#: The answer when nothing was sent.
NOT_SENT: Final = Answer("unsent", "not_sent")


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a PIC can do through its plugin. The engine asks for nothing else, and the conformance kit for all of it."""

    kinds: frozenset[Kind] = frozenset({"payment"})
    #: The same attempt id again is not done again, and gets the same answer.
    deduplicates: bool = False
    #: :meth:`Plugin.look_up` works, and its None is sure.
    looks_up: bool = False
    #: Less than what was authorized may be captured; captures may follow each other up to that.
    partial_captures: bool = False
    several_captures: bool = False
    #: Refunds of a part, several up to what was captured.
    partial_refunds: bool = False
    #: What becomes of a call is not known at once, as with files for a bank: ``pending`` first, then found by a look-up.
    settles_later: bool = False
    #: The payer may have to prove who they are: ``requires_action``.
    challenges: bool = False
    #: Whether :meth:`Plugin.parse_notification` works, and whether what it is given proves where it comes from.
    notifications: Literal["none", "signed", "unsigned"] = "none"
    #: ISO 4217 codes; empty: all.
    currencies: frozenset[str] = frozenset()
    #: Kinds of instrument; empty: all.
    methods: frozenset[str] = frozenset()


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as it came from the PIC, believed by nobody yet. Header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes
    received_at_s: float

    def check_time(self, signed_at_s: float) -> None:
        """Raise :class:`NotificationError` ``replayed`` when the signed time is too far from the time of receipt."""
        if not abs(self.received_at_s - signed_at_s) <= NOTIFICATION_TOLERANCE_S:  # also when it is no number
            raise NotificationError("replayed")


class Notified(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a notification tells: the state of an attempt. Others about it may have come before, or may come later."""

    #: The same for the same event, however often the PIC tells it.
    event_id: str
    attempt_id: str
    answer: Answer
    #: When it happened, by the PIC's clock: of two that tell of one attempt, the later one counts.
    occurred_at_ms: int


class Plugin(ABC):
    """A payment integration that takes one call at a time; the engine does the rest (:mod:`connectors.pic.calls`).

    Its methods may raise whatever they like, at any time, and may be cancelled: an exception and a time-out are the unknown
    answer, :class:`NotSentError` is ``unsent``, :class:`UnsupportedError` is declined as ``unsupported``. They are called side
    by side in one event loop.
    """

    @property
    @abstractmethod
    def abilities(self) -> Abilities:
        """What the PIC can do; it does not change. A class attribute will do."""

    @abstractmethod
    async def authorize(self, call: Call) -> Answer:
        """Make a payment (kind ``payment``), or hold its amount until it is captured or voided (kind ``authorize``)."""

    async def capture(self, call: Call) -> Answer:
        """Take ``amount_minor`` of what was authorized under ``original_reference``."""
        raise UnsupportedError("capture")

    async def void(self, call: Call) -> Answer:
        """Let go of what was authorized under ``original_reference`` and is not captured."""
        raise UnsupportedError("void")

    async def refund(self, call: Call) -> Answer:
        """Give ``amount_minor`` back of what was captured or paid under ``original_reference``."""
        raise UnsupportedError("refund")

    async def look_up(self, call: Call) -> Answer | None:
        """What became of a call of any kind that was perhaps made; None only when the PIC says that it never got it.

        Asks only: nothing is done by it.
        """
        raise UnsupportedError("look up")

    def parse_notification(self, notice: Notice) -> list[Notified]:
        """What a notification tells; empty when it is about something else. Raises :class:`NotificationError`. No I/O."""
        raise UnsupportedError("notifications")

    async def close(self) -> None:  # noqa: B027 (not abstract: some plugins hold nothing)
        """Let go of connections. Nothing is called afterwards."""
