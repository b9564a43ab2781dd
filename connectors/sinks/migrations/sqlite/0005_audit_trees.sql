-- Every event is a leaf of the Merkle tree of its tenant and shard, the number of its Kafka partition.
ALTER TABLE payment_events ADD COLUMN leaf_index INTEGER;

CREATE UNIQUE INDEX payment_events_leaves ON payment_events (tenant, "partition", leaf_index) WHERE leaf_index IS NOT NULL;

-- None, once the sink has brought the database up to date.
CREATE INDEX payment_events_unproven ON payment_events (tenant) WHERE leaf_index IS NULL;

-- Of each tree: its size, and the tiles that are not whole yet (connectors/proofs/trees.py).
CREATE TABLE audit_trees (
    tenant TEXT NOT NULL,
    shard INTEGER NOT NULL,
    size INTEGER NOT NULL,
    open_tiles BLOB NOT NULL,
    PRIMARY KEY (tenant, shard)
);

CREATE TABLE audit_tiles (
    tenant TEXT NOT NULL,
    shard INTEGER NOT NULL,
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (tenant, shard, level, number)
);

-- The last signed head of each tree; all of them are in the topic and in the file of heads.
CREATE TABLE audit_heads (
    tenant TEXT NOT NULL,
    shard INTEGER NOT NULL,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (tenant, shard)
);

CREATE TRIGGER audit_tiles_no_update BEFORE UPDATE ON audit_tiles
BEGIN
    SELECT RAISE(ABORT, 'audit_tiles is append-only');
END;

CREATE TRIGGER audit_tiles_no_delete BEFORE DELETE ON audit_tiles
BEGIN
    SELECT RAISE(ABORT, 'audit_tiles is append-only');
END;

CREATE TRIGGER audit_trees_only_grow BEFORE UPDATE ON audit_trees
WHEN NEW.size <= OLD.size OR NEW.tenant IS NOT OLD.tenant OR NEW.shard IS NOT OLD.shard
BEGIN
    SELECT RAISE(ABORT, 'a tree only grows');
END;

CREATE TRIGGER audit_trees_no_delete BEFORE DELETE ON audit_trees
BEGIN
    SELECT RAISE(ABORT, 'a tree only grows');
END;
