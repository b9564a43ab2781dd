"""The records on the wire, typed. The ``.avsc`` files are the contract; a contract test compares these with them.

Every record is a :class:`msgspec.Struct`, immutable, with the field names, order and defaults of its schema. Amounts are
in minor units, times in epoch milliseconds.
"""

from __future__ import annotations

import msgspec

#: For a record with a field called ``list``.
Texts = list[str]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that travels."""


class Party(Record, frozen=True, kw_only=True):
    """A person or organisation that pays or is paid."""

    id: str
    name: str
    country: str
    birth_date: str | None = None
    registration: str | None = None


class Instrument(Record, frozen=True, kw_only=True):
    """What is charged, as a token: never a card number."""

    kind: str
    token: str


class Locality(Record, frozen=True, kw_only=True):
    """Where the payment takes place."""

    country: str
    region: str = ""
    postcode: str = ""
    locale: str = ""


class PaymentRequested(Record, frozen=True, kw_only=True):
    """A Payment Transaction Request (PTR): what a client asks for."""

    tenant: str
    payment_id: str
    kind: str = "payment"
    amount_minor: int
    currency: str
    debtor: Party
    creditor: Party
    terminal_id: str = ""
    channel: str = ""
    instrument: Instrument
    locality: Locality
    order_reference: str = ""
    metadata: dict[str, str] = {}
    requested_at_ms: int


class ListEvidence(Record, frozen=True, kw_only=True):
    """Why a party looks like somebody on a sanctions list."""

    party: str
    list: str
    entry_id: str
    score: float
    algorithm: str
    party_name: str = ""
    listed_name: str = ""
    support: Texts = []
    entry_hash: str = ""
    exception_id: str = ""


class PaymentScreened(Record, frozen=True, kw_only=True):
    """Screening answered: clear, referred or blocked."""

    sender_partition: int
    sender_offset: int
    rule_version: int
    taken_at_ms: int = 0
    outcome: str
    reason: str = ""
    list_version: str = ""
    evidence: ListEvidence | None = None
    requested_at_ms: int
    amount_minor: int
    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    currency: str
    debtor_id: str
    country: str
    method: str
    token: str
    kind: str = "payment"
    debtor_country: str = ""
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""
    request: bytes


class PaymentTerms(Record, frozen=True, kw_only=True):
    """What the tenant's business rules say of an accepted payment."""

    payable_minor: int
    tax_minor: int = 0
    tax_rate_bp: int = 0
    tax_kind: str = ""
    value_date: str = ""
    locale: str = ""
    routes: list[str] = []
    rules: list[str] = []


class PayerLimit(Record, frozen=True, kw_only=True):
    """A limit of the payer's payments in one calendar period."""

    rule: str
    period: int
    max_count: int = 0
    max_minor: int = 0


class PayerChecks(Record, frozen=True, kw_only=True):
    """What is left to decide with what the payer did before."""

    limits: list[PayerLimit] = []
    sca: str = ""
    sca_basis: str = ""
    sca_share_ppm: int = 0
    sca_count: int = 0
    sca_counter: str = ""


class ShadowDecision(Record, frozen=True, kw_only=True):
    """What the tenant's shadow rules would have decided, where that differs."""

    differs: list[str]
    outcome: str
    reason: str = ""
    detail: str = ""
    fee_minor: int = 0
    pic: str = ""
    tax_minor: int = 0
    payable_minor: int = 0
    value_date: str = ""
    sca: str = ""


class PaymentLocalized(Record, frozen=True, kw_only=True):
    """Localization answered: accepted or rejected."""

    sender_partition: int
    sender_offset: int
    rule_version: int
    taken_at_ms: int = 0
    outcome: str
    reason: str = ""
    checks: PayerChecks | None = None
    shadow: ShadowDecision | None = None
    failed: list[str] = []
    rejected_by: str = ""
    fee_minor: int
    pic: str
    terms: PaymentTerms | None = None
    requested_at_ms: int
    amount_minor: int
    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    currency: str
    debtor_id: str
    country: str
    method: str
    token: str
    kind: str = "payment"
    debtor_country: str = ""
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""
    request: bytes


class PaymentProfiled(Record, frozen=True, kw_only=True):
    """The payer's profile was updated and read."""

    sender_partition: int
    sender_offset: int
    rule_version: int
    taken_at_ms: int = 0
    outcome: str
    reason: str = ""
    feature_set: int = 1
    payer_features: list[int]
    sca: str = ""
    sca_basis: str = ""
    fee_minor: int
    pic: str
    terms: PaymentTerms | None = None
    requested_at_ms: int
    amount_minor: int
    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    currency: str
    debtor_id: str
    country: str
    method: str
    token: str
    kind: str = "payment"
    debtor_country: str = ""
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""
    request: bytes


class RuleHit(Record, frozen=True, kw_only=True):
    """A fraud rule that fired."""

    rule: str
    value: float
    limit: float
    weight: float
    snoozed: bool = False


class FeatureEffect(Record, frozen=True, kw_only=True):
    """What one feature did to the model's score."""

    feature: str
    value: float
    usual: float
    effect: float


class PaymentScored(Record, frozen=True, kw_only=True):
    """Fraud answered: approved, referred or declined."""

    sender_partition: int
    sender_offset: int
    rule_version: int
    taken_at_ms: int = 0
    outcome: str
    reason: str = ""
    payee_features: list[int]
    score: float
    score_reasons: list[str]
    rule_hits: list[RuleHit] = []
    rule_library: int = 0
    rule_score: float = 0.0
    model: str = ""
    model_score: float = 0.0
    model_failure: str = ""
    challenger: str = ""
    challenger_score: float = 0.0
    effects: list[FeatureEffect] = []
    feature_set: int = 1
    payer_features: list[int]
    sca: str = ""
    sca_basis: str = ""
    fee_minor: int
    pic: str
    terms: PaymentTerms | None = None
    requested_at_ms: int
    amount_minor: int
    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    currency: str
    debtor_id: str
    country: str
    method: str
    token: str
    kind: str = "payment"
    debtor_country: str = ""
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""
    request: bytes


class PaymentQueued(Record, frozen=True, kw_only=True):
    """The intent to call a PIC, durable before any call."""

    sender_partition: int
    sender_offset: int
    attempt: int
    ask: int
    not_before_ms: int
    taken_at_ms: int = 0
    challenge: bool = False
    operation_id: str = ""
    original_reference: str = ""
    unsent: bool = False
    rule_version: int
    sca: str = ""
    sca_basis: str = ""
    fee_minor: int
    pic: str
    terms: PaymentTerms | None = None
    requested_at_ms: int
    amount_minor: int
    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    currency: str
    debtor_id: str
    country: str
    method: str
    token: str
    kind: str = "payment"
    debtor_country: str = ""
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""
    request: bytes


class PaymentAnswered(Record, frozen=True, kw_only=True):
    """What a PIC said to one ask."""

    attempt: int
    ask: int
    outcome: str
    reason: str = ""
    pic_reference: str = ""
    answered_at_ms: int
    called: bool
    pic: str
    tenant: str
    payment_id: str
    trace_id: str = ""
    operation_id: str = ""
    retry: str = "never"
    retry_after_ms: int = 0
    action_url: str = ""
    called_at_ms: int = 0
    call_ms: int = 0


class PaymentEnded(Record, frozen=True, kw_only=True):
    """A stage before dispatch ended the payment, or a request repeats one: settlement answers."""

    sender_partition: int
    sender_offset: int
    rule_version: int
    outcome: str
    reason: str = ""
    stage: str
    request_kind: str
    request_id: str = ""
    requested_at_ms: int
    amount_minor: int
    currency: str
    detail: str = ""
    tenant: str
    payment_id: str
    received_at_ms: int
    trace_id: str = ""
    trace_context: str = ""


class PaymentCompleted(Record, frozen=True, kw_only=True):
    """The one outcome of a payment, or the refusal of a conflicting request."""

    event_id: str
    tenant: str
    payment_id: str
    outcome: str
    reason: str = ""
    stage: str
    detail: str = ""
    rule_version: int
    taken_at_ms: int = 0
    requested_at_ms: int
    received_at_ms: int
    amount_minor: int
    currency: str
    fee_minor: int = 0
    score: float = 0.0
    pic: str = ""
    pic_reference: str = ""
    attempts: int = 0
    repeat: bool = False
    trace_id: str = ""
    trace_context: str = ""


class OperationRequested(Record, frozen=True, kw_only=True):
    """A client asks to capture, void or refund what was authorized or paid."""

    tenant: str
    payment_id: str
    operation_id: str
    kind: str
    amount_minor: int = 0
    currency: str
    requested_at_ms: int


class PaymentNotified(Record, frozen=True, kw_only=True):
    """News of an attempt from outside the calls, verified: what a PIC told by itself, a statement, or a person."""

    event_id: str
    source: str
    who: str = ""
    why: str = ""
    pic: str
    tenant: str
    payment_id: str
    operation_id: str = ""
    attempt: int
    outcome: str
    reason: str = ""
    retry: str = "never"
    pic_reference: str = ""
    action_url: str = ""
    occurred_at_ms: int


class PaymentUpdated(Record, frozen=True, kw_only=True):
    """Where a payment stands after a step that is not its first outcome."""

    event_id: str
    tenant: str
    payment_id: str
    operation_id: str = ""
    kind: str
    outcome: str
    reason: str = ""
    detail: str = ""
    amount_minor: int
    currency: str
    status: str
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    action_url: str = ""
    pic: str = ""
    pic_reference: str = ""
    attempts: int = 0
    occurred_at_ms: int
    repeat: bool = False
    trace_id: str = ""
    trace_context: str = ""


class PaymentParked(Record, frozen=True, kw_only=True):
    """A payment, or an operation on one, that needs a person."""

    event_id: str
    tenant: str
    payment_id: str
    operation_id: str = ""
    kind: str
    attempt: int
    pic: str
    reason: str
    detail: str = ""
    amount_minor: int
    currency: str
    pic_reference: str = ""
    parked_at_ms: int
    trace_id: str = ""
    trace_context: str = ""


class PaymentCredited(Record, frozen=True, kw_only=True):
    """A payment to an account was paid: what the payer stage learns of money that came in for its payers."""

    tenant: str
    payment_id: str
    creditor_id: str
    amount_minor: int
    currency: str
    requested_at_ms: int


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that no stage can handle, as it came."""

    topic: str
    partition: int
    offset: int
    stage: str
    error: str
    detail: str = ""
    key: bytes | None = None
    value: bytes | None = None
    value_length: int


class TenantConfigured(Record, frozen=True, kw_only=True):
    """A version of a tenant's configuration."""

    tenant: str
    version: int
    document: str
    document_hash: str


class ChargebackReceived(Record, frozen=True, kw_only=True):
    """Somebody says that a payment should not have been: a label, arriving late."""

    tenant: str
    payment_id: str
    creditor_id: str
    terminal_id: str = ""
    amount_minor: int
    currency: str
    paid_at_ms: int
    charged_back_at_ms: int
    reason: str = "fraud"
    kind: str = "chargeback"


class RuleSnoozed(Record, frozen=True, kw_only=True):
    """Somebody switched a fraud rule off for one payer until a time, or on again."""

    tenant: str
    debtor_id: str
    rule: str
    until_ms: int
    by: str
    reason: str
    decided_at_ms: int


class PicControlled(Record, frozen=True, kw_only=True):
    """Somebody paused the calls to a PIC, or has them go on."""

    pic: str
    paused: bool
    who: str
    why: str
    decided_at_ms: int


class ListPart(Record, frozen=True, kw_only=True):
    """A part of one version of a sanctions list. It counts only once a ListUpdated names its version."""

    list: str
    version: str
    part: int
    content: bytes


class ListUpdated(Record, frozen=True, kw_only=True):
    """A version of a sanctions list is complete and comes into force; written after all its parts."""

    list: str
    version: str
    parts: int
    sha256: str
    entries: int
    source_at_ms: int
    imported_at_ms: int


class PartySeen(Record, frozen=True, kw_only=True):
    """A party of a screened payment, new or changed: what the table ``parties`` is filled from. Personal data."""

    tenant: str
    party_id: str
    name: str
    country: str
    birth_date: str | None = None
    list_version: str
    seen_at_ms: int


#: A field of the next record is called list.
_Texts = list[str]


class PartyFlagged(Record, frozen=True, kw_only=True):
    """A known party is like somebody on a new version of a sanctions list; it names no person."""

    tenant: str
    party_id: str
    list: str
    version: str
    entry_id: str
    score: float
    evidence: _Texts
    algorithm: str
    rule_version: int


class ErasureRequested(Record, frozen=True, kw_only=True):
    """Somebody wants a party forgotten: removed from the table of known parties, as it was known until then."""

    tenant: str
    party_id: str
    erasure_id: str
    by: str
    requested_at_ms: int


class PartyErased(Record, frozen=True, kw_only=True):
    """A party was removed from the table of known parties, or was not in it. It does not say which party."""

    tenant: str
    erasure_id: str
    by: str
    found: bool
    erased_at_ms: int


class ModelPart(Record, frozen=True, kw_only=True):
    """A part of one version of a fraud model. It counts only once a ModelUpdated names its version."""

    version: str
    part: int
    content: bytes


class ModelUpdated(Record, frozen=True, kw_only=True):
    """A fraud model is complete and may be promoted; written after all its parts."""

    version: str
    parts: int
    sha256: str
    feature_set: int
    description: str
    trained_at_ms: int


class ModelPromoted(Record, frozen=True, kw_only=True):
    """A model is from now on champion (its score counts) or challenger (it is recorded only)."""

    role: str
    version: str
    by: str
    reason: str = ""
    promoted_at_ms: int


class ReviewOpened(Record, frozen=True, kw_only=True):
    """A payment was referred and waits for a person, until a time. It has no outcome yet."""

    event_id: str
    tenant: str
    payment_id: str
    stage: str
    reason: str
    detail: str = ""
    rule_version: int
    requested_at_ms: int
    received_at_ms: int
    amount_minor: int
    currency: str
    opened_at_ms: int
    due_at_ms: int
    at_expiry: str
    repeat: bool = False
    trace_id: str = ""
    trace_context: str = ""


class ReviewDecided(Record, frozen=True, kw_only=True):
    """Somebody's word on a payment that waits, or a worker's that its time is over."""

    tenant: str
    payment_id: str
    stage: str
    decision: str
    by: str = ""
    reason: str = ""
    decided_at_ms: int


class ReviewAnswered(Record, frozen=True, kw_only=True):
    """What became of a decision: it ended the review, or it was ignored."""

    event_id: str
    tenant: str
    payment_id: str
    stage: str
    decision: str
    result: str
    ignored: str = ""
    by: str = ""
    reason: str = ""
    decided_at_ms: int
    trace_id: str = ""


class ExceptionGranted(Record, frozen=True, kw_only=True):
    """A tenant's word that a party is not the listed entry that it is like, or that it is withdrawn. Hashes, no names."""

    tenant: str
    list: str
    entry_id: str
    entry_hash: str
    party_id: str
    name_hash: str
    by: str
    reason: str
    granted_at_ms: int
    until_ms: int
    revoked: bool = False


class StockMoved(Record, frozen=True, kw_only=True):
    """Goods moved, or were set aside, at one location: told by whoever keeps the stock."""

    tenant: str
    movement_id: str
    sku: str
    location: str = ""
    kind: str
    quantity: int
    unit_cost_minor: int = 0
    currency: str = ""
    order_reference: str = ""
    payment_id: str = ""
    moved_at_ms: int
    trace_id: str = ""


class TaxSubtotal(Record, frozen=True, kw_only=True):
    """A part of an invoice under one rate of tax."""

    rate_ppm: int
    net_minor: int
    tax_minor: int


class InvoiceChanged(Record, frozen=True, kw_only=True):
    """An invoice was issued, or something became of it: one record a change."""

    tenant: str
    invoice_id: str
    event_id: str
    kind: str
    status: str
    amount_minor: int
    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    taxes: list[TaxSubtotal] = []
    due_date: str = ""
    payment_id: str = ""
    debtor_id: str = ""
    changed_at_ms: int
    trace_id: str = ""


#: Every record that has a topic, in flow order.
RECORDS: tuple[type[Record], ...] = (
    PaymentRequested,
    PaymentScreened,
    PaymentLocalized,
    PaymentProfiled,
    PaymentScored,
    PaymentQueued,
    PaymentAnswered,
    PaymentEnded,
    PaymentCompleted,
    OperationRequested,
    PaymentNotified,
    PaymentUpdated,
    PaymentParked,
    PaymentCredited,
    DeadLetter,
    TenantConfigured,
    ChargebackReceived,
    RuleSnoozed,
    PicControlled,
    ListPart,
    ListUpdated,
    PartySeen,
    PartyFlagged,
    ErasureRequested,
    PartyErased,
    ModelPart,
    ModelUpdated,
    ModelPromoted,
    ReviewOpened,
    ReviewDecided,
    ReviewAnswered,
    ExceptionGranted,
    StockMoved,
    InvoiceChanged,
)
