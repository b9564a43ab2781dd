-- Every event, once, for ever.
CREATE TABLE payment_events (
    tenant TEXT COLLATE "C" NOT NULL,
    payment_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    stage TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    rule_version BIGINT,
    trace_id TEXT,
    topic TEXT COLLATE "C" NOT NULL,
    "partition" BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    avro BYTEA,
    payload JSON,
    PRIMARY KEY (tenant, payment_id, event_id)
);

CREATE FUNCTION payment_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payment_events is append-only' USING ERRCODE = 'restrict_violation';
END;
$$;

CREATE TRIGGER payment_events_no_update BEFORE UPDATE OR DELETE ON payment_events
    FOR EACH ROW EXECUTE FUNCTION payment_events_append_only();

CREATE TRIGGER payment_events_no_truncate BEFORE TRUNCATE ON payment_events
    FOR EACH STATEMENT EXECUTE FUNCTION payment_events_append_only();

-- Where each payment stands. Room in each page, so that a change of state need not change the index.
CREATE TABLE payments (
    tenant TEXT COLLATE "C" NOT NULL,
    payment_id TEXT COLLATE "C" NOT NULL,
    status TEXT NOT NULL,
    outcome TEXT,
    reason TEXT NOT NULL,
    stage TEXT NOT NULL,
    amount_minor BIGINT,
    currency TEXT,
    fee_minor BIGINT,
    score DOUBLE PRECISION,
    pic TEXT,
    pic_reference TEXT,
    attempts BIGINT,
    rule_version BIGINT,
    requested_at_ms BIGINT,
    received_at_ms BIGINT,
    completed_at_ms BIGINT,
    last_sequence BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, payment_id)
) WITH (fillfactor = 70);

-- What was read; written in the transaction of the rows.
CREATE TABLE sink_offsets (
    topic TEXT COLLATE "C" NOT NULL,
    "partition" BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (topic, "partition")
);
