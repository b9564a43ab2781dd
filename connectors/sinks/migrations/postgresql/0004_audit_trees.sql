-- Every event is a leaf of the Merkle tree of its tenant and shard, the number of its Kafka partition.
ALTER TABLE payment_events ADD COLUMN leaf_index BIGINT;

CREATE UNIQUE INDEX payment_events_leaves ON payment_events (tenant, "partition", leaf_index) WHERE leaf_index IS NOT NULL;

-- None, once the sink has brought the database up to date.
CREATE INDEX payment_events_unproven ON payment_events (tenant) WHERE leaf_index IS NULL;

-- Of each tree: its size, and the tiles that are not whole yet (connectors/proofs/trees.py).
CREATE TABLE audit_trees (
    tenant TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    size BIGINT NOT NULL,
    open_tiles BYTEA NOT NULL,
    PRIMARY KEY (tenant, shard)
);

CREATE TABLE audit_tiles (
    tenant TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    level BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (tenant, shard, level, number)
);

-- Hashes are random: no attempt to compress them.
ALTER TABLE audit_trees ALTER COLUMN open_tiles SET STORAGE EXTERNAL;

ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- The last signed head of each tree; all of them are in the topic and in the file of heads.
CREATE TABLE audit_heads (
    tenant TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    size BIGINT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (tenant, shard)
);

CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END;
$$;

CREATE TRIGGER audit_tiles_no_update BEFORE UPDATE OR DELETE ON audit_tiles
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_tiles_no_truncate BEFORE TRUNCATE ON audit_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_trees_only_grow BEFORE UPDATE ON audit_trees
    FOR EACH ROW WHEN (NEW.size <= OLD.size OR NEW.tenant <> OLD.tenant OR NEW.shard <> OLD.shard)
    EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_trees_no_delete BEFORE DELETE ON audit_trees
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_trees_no_truncate BEFORE TRUNCATE ON audit_trees
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
