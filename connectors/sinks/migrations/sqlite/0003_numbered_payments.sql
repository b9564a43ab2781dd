-- Payments get numbers, in the order in which they came, and an event is found and told from its repeat by its payment's
-- number: a short key that grows at the end of its index, where tenant and payment id went to a random page each.
CREATE TABLE numbered_payments (
    tenant TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    status TEXT NOT NULL,
    outcome TEXT,
    reason TEXT NOT NULL,
    stage TEXT NOT NULL,
    amount_minor INTEGER,
    currency TEXT,
    fee_minor INTEGER,
    score REAL,
    pic TEXT,
    pic_reference TEXT,
    attempts INTEGER,
    rule_version INTEGER,
    requested_at_ms INTEGER,
    received_at_ms INTEGER,
    completed_at_ms INTEGER,
    last_sequence INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    UNIQUE (tenant, payment_id)
);

INSERT INTO numbered_payments (
    tenant, payment_id, status, outcome, reason, stage, amount_minor, currency, fee_minor, score, pic, pic_reference,
    attempts, rule_version, requested_at_ms, received_at_ms, completed_at_ms, last_sequence, updated_at_ms
)
SELECT
    tenant, payment_id, status, outcome, reason, stage, amount_minor, currency, fee_minor, score, pic, pic_reference,
    attempts, rule_version, requested_at_ms, received_at_ms, completed_at_ms, last_sequence, updated_at_ms
FROM payments ORDER BY updated_at_ms;

-- payment_number: of the payment whose state the event tells; NULL for every other event. Which it is depends on the
-- event alone (tells_state in connectors/sinks/rows.py), so a repeat meets the same index.
CREATE TABLE numbered_events (
    tenant TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    stage TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    rule_version INTEGER,
    trace_id TEXT,
    topic TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    avro BLOB,
    payload TEXT,
    payment_number INTEGER,
    UNIQUE (payment_number, event_id)
);

INSERT INTO numbered_events
SELECT
    e.tenant, e.payment_id, e.event_id, e.sequence, e.stage, e.outcome, e.reason, e.rule_version, e.trace_id,
    e.topic, e."partition", e."offset", e.recorded_at_ms, e.avro, e.payload,
    CASE
        WHEN e.payment_id <> '' AND e.sequence < 2000000000
            AND NOT (e.stage = 'reviews' AND e.outcome = 'ignored')
            AND NOT (e.sequence = 1000000000 AND e.reason = 'conflicting_request')
        THEN p.number
    END
FROM payment_events e LEFT JOIN numbered_payments p ON p.tenant = e.tenant AND p.payment_id = e.payment_id
ORDER BY e.rowid;

DROP TABLE payment_events;

DROP TABLE payments;

ALTER TABLE numbered_events RENAME TO payment_events;

ALTER TABLE numbered_payments RENAME TO payments;

CREATE UNIQUE INDEX other_events ON payment_events (tenant, payment_id, event_id) WHERE payment_number IS NULL;

CREATE INDEX payment_events_reviews ON payment_events (recorded_at_ms) WHERE stage = 'reviews';

CREATE TRIGGER payment_events_no_update BEFORE UPDATE ON payment_events
BEGIN
    SELECT RAISE(ABORT, 'payment_events is append-only');
END;

CREATE TRIGGER payment_events_no_delete BEFORE DELETE ON payment_events
BEGIN
    SELECT RAISE(ABORT, 'payment_events is append-only');
END;

CREATE TRIGGER payments_no_delete BEFORE DELETE ON payments
BEGIN
    SELECT RAISE(ABORT, 'events name payments by number: no payment is deleted');
END;

CREATE TRIGGER payments_no_new_number BEFORE UPDATE OF number, tenant, payment_id ON payments
BEGIN
    SELECT RAISE(ABORT, 'events name payments by number: a payment keeps it');
END;
