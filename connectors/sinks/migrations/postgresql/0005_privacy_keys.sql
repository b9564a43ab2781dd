-- Keys that personal data in events is sealed with (docs/decisions/0044-erasable-rows.md). An erased one leaves its id and when.
CREATE TABLE privacy_keys (
    key_id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    subject BYTEA,
    wrapped BYTEA,
    master TEXT,
    created_at_ms BIGINT NOT NULL,
    erased_at_ms BIGINT,
    erased_by TEXT,
    CHECK ((erased_at_ms IS NULL) = (wrapped IS NOT NULL)),
    CHECK ((erased_at_ms IS NULL) = (subject IS NOT NULL)),
    CHECK ((erased_at_ms IS NULL) = (master IS NOT NULL))
);

CREATE UNIQUE INDEX privacy_keys_subject ON privacy_keys (subject) WHERE subject IS NOT NULL;

CREATE INDEX privacy_keys_erased ON privacy_keys (erased_at_ms) WHERE erased_at_ms IS NOT NULL;

CREATE FUNCTION privacy_keys_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'keys are erased, not deleted, and stay erased' USING ERRCODE = 'restrict_violation';
END;
$$;

CREATE TRIGGER privacy_keys_no_delete BEFORE DELETE ON privacy_keys
    FOR EACH ROW EXECUTE FUNCTION privacy_keys_stay();

CREATE TRIGGER privacy_keys_no_truncate BEFORE TRUNCATE ON privacy_keys
    FOR EACH STATEMENT EXECUTE FUNCTION privacy_keys_stay();

CREATE TRIGGER privacy_keys_stay_erased BEFORE UPDATE ON privacy_keys
    FOR EACH ROW WHEN (OLD.erased_at_ms IS NOT NULL OR NEW.key_id <> OLD.key_id OR NEW.tenant <> OLD.tenant)
    EXECUTE FUNCTION privacy_keys_stay();
