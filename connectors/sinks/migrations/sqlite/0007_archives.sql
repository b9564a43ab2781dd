-- The events of a month, without reading all of them.
CREATE INDEX payment_events_times ON payment_events (recorded_at_ms);

-- Files that rows were moved to, under the folder that `ptr audit archive` was given (docs/decisions/0045-audit-archive.md).
-- Their rows are removed after they are here.
CREATE TABLE audit_archives (
    file TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    tenant TEXT NOT NULL,
    month TEXT NOT NULL,
    events INTEGER NOT NULL,
    is_removed INTEGER NOT NULL
);

-- Which leaves of which tree they hold, without gaps.
CREATE TABLE audit_archived_leaves (
    tenant TEXT NOT NULL,
    shard INTEGER NOT NULL,
    first_leaf INTEGER NOT NULL,
    last_leaf INTEGER NOT NULL,
    file TEXT NOT NULL REFERENCES audit_archives,
    PRIMARY KEY (tenant, shard, first_leaf)
) WITHOUT ROWID;

-- The keys of events whose rows are in files: a repeat of one is still a repeat.
CREATE TABLE archived_events (
    payment_number INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    leaf_index INTEGER NOT NULL,
    PRIMARY KEY (payment_number, event_id)
) WITHOUT ROWID;

-- The same of events that tell no payment's state.
CREATE TABLE archived_other_events (
    tenant TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    leaf_index INTEGER NOT NULL,
    PRIMARY KEY (tenant, payment_id, event_id)
) WITHOUT ROWID;

CREATE TRIGGER archived_events_no_delete BEFORE DELETE ON archived_events
BEGIN
    SELECT RAISE(ABORT, 'archived_events is append-only');
END;

CREATE TRIGGER archived_other_events_no_delete BEFORE DELETE ON archived_other_events
BEGIN
    SELECT RAISE(ABORT, 'archived_other_events is append-only');
END;

CREATE TRIGGER audit_archives_only_removed BEFORE UPDATE ON audit_archives
WHEN NEW.is_removed <> 1 OR (NEW.file, NEW.sha256, NEW.tenant, NEW.month, NEW.events)
    IS NOT (OLD.file, OLD.sha256, OLD.tenant, OLD.month, OLD.events)
BEGIN
    SELECT RAISE(ABORT, 'audit_archives is append-only');
END;

CREATE TRIGGER audit_archives_no_delete BEFORE DELETE ON audit_archives
BEGIN
    SELECT RAISE(ABORT, 'audit_archives is append-only');
END;

CREATE TRIGGER audit_archived_leaves_no_update BEFORE UPDATE ON audit_archived_leaves
BEGIN
    SELECT RAISE(ABORT, 'audit_archived_leaves is append-only');
END;

CREATE TRIGGER audit_archived_leaves_no_delete BEFORE DELETE ON audit_archived_leaves
BEGIN
    SELECT RAISE(ABORT, 'audit_archived_leaves is append-only');
END;
