-- Every event, once, for ever.
CREATE TABLE payment_events (
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
    PRIMARY KEY (tenant, payment_id, event_id)
);

CREATE TRIGGER payment_events_no_update BEFORE UPDATE ON payment_events
BEGIN
    SELECT RAISE(ABORT, 'payment_events is append-only');
END;

CREATE TRIGGER payment_events_no_delete BEFORE DELETE ON payment_events
BEGIN
    SELECT RAISE(ABORT, 'payment_events is append-only');
END;

-- Where each payment stands.
CREATE TABLE payments (
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
    PRIMARY KEY (tenant, payment_id)
) WITHOUT ROWID;

-- What was read; written in the transaction of the rows.
CREATE TABLE sink_offsets (
    topic TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, "partition")
) WITHOUT ROWID;
