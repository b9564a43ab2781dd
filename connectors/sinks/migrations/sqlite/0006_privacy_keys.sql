-- Keys that personal data in events is sealed with (docs/decisions/0044-erasable-rows.md). An erased one leaves its id and when.
CREATE TABLE privacy_keys (
    key_id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject BLOB,
    wrapped BLOB,
    master TEXT,
    created_at_ms INTEGER NOT NULL,
    erased_at_ms INTEGER,
    erased_by TEXT,
    CHECK ((erased_at_ms IS NULL) = (wrapped IS NOT NULL)),
    CHECK ((erased_at_ms IS NULL) = (subject IS NOT NULL)),
    CHECK ((erased_at_ms IS NULL) = (master IS NOT NULL))
);

CREATE UNIQUE INDEX privacy_keys_subject ON privacy_keys (subject) WHERE subject IS NOT NULL;

CREATE INDEX privacy_keys_erased ON privacy_keys (erased_at_ms) WHERE erased_at_ms IS NOT NULL;

CREATE TRIGGER privacy_keys_stay BEFORE DELETE ON privacy_keys
BEGIN
    SELECT RAISE(ABORT, 'keys are erased, not deleted');
END;

CREATE TRIGGER privacy_keys_stay_erased BEFORE UPDATE ON privacy_keys
WHEN OLD.erased_at_ms IS NOT NULL OR NEW.key_id IS NOT OLD.key_id OR NEW.tenant IS NOT OLD.tenant
BEGIN
    SELECT RAISE(ABORT, 'an erased key stays erased');
END;
