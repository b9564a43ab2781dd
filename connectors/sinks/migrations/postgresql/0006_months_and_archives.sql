-- payment_events becomes one table a month (docs/decisions/0045-audit-archive.md). A unique index of a partitioned table would
-- have to hold the time, and a repeat may come in another month: what tells repeats is a narrow table of its own, which is not
-- partitioned, and keeps the keys of what was archived.
ALTER TABLE payment_events RENAME TO undivided_events;

DROP INDEX payment_events_reviews, payment_events_operations, payment_events_leaves, payment_events_unproven;

ALTER TABLE undivided_events RENAME CONSTRAINT payment_events_pkey TO undivided_events_pkey;

CREATE TABLE payment_events (LIKE undivided_events) PARTITION BY RANGE (recorded_at_ms);

-- What is in no month's table: no row is ever refused for its time.
CREATE TABLE payment_events_other PARTITION OF payment_events DEFAULT;

CREATE INDEX payment_events_payments ON payment_events (tenant, payment_id);

CREATE INDEX payment_events_leaves ON payment_events (tenant, "partition", leaf_index) WHERE leaf_index IS NOT NULL;

CREATE INDEX payment_events_unproven ON payment_events (tenant) WHERE leaf_index IS NULL;

CREATE INDEX payment_events_reviews ON payment_events (recorded_at_ms) WHERE stage = 'reviews';

CREATE INDEX payment_events_operations ON payment_events (recorded_at_ms) WHERE sequence = 1500000000;

-- Each month's table gets a row's trigger with it; the statement's trigger is not inherited.
CREATE TRIGGER payment_events_no_update BEFORE UPDATE OR DELETE ON payment_events
    FOR EACH ROW EXECUTE FUNCTION payment_events_append_only();

CREATE TRIGGER payment_events_no_truncate BEFORE TRUNCATE ON payment_events
    FOR EACH STATEMENT EXECUTE FUNCTION payment_events_append_only();

CREATE TRIGGER payment_events_no_truncate BEFORE TRUNCATE ON payment_events_other
    FOR EACH STATEMENT EXECUTE FUNCTION payment_events_append_only();

-- Makes the table of the month of a time, as the tables' owner: the writing role need not be able to. FALSE: its rows go to
-- payment_events_other, because they are of before 2020 or of far from now (a clock that is wrong must not make a thousand
-- tables), or because rows of the month are there already.
CREATE FUNCTION payment_events_month(at_ms BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first TIMESTAMP := date_trunc('month', to_timestamp(least(greatest(at_ms, 0), 9999999999999) / 1000.0) AT TIME ZONE 'UTC');
    from_ms BIGINT := extract(epoch FROM first)::BIGINT * 1000;
    until_ms BIGINT := extract(epoch FROM first + INTERVAL '1 month')::BIGINT * 1000;
    name TEXT := 'payment_events_' || to_char(first, 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN TRUE;
    END IF;
    IF first < TIMESTAMP '2020-01-01' OR first > now() AT TIME ZONE 'UTC' + INTERVAL '100 days' THEN
        RETURN FALSE;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('payment_events_month'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN TRUE;
    END IF;
    IF EXISTS (SELECT FROM payment_events_other WHERE recorded_at_ms >= from_ms AND recorded_at_ms < until_ms) THEN
        RETURN FALSE;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE payment_events)', name);
    EXECUTE format('ALTER TABLE payment_events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, from_ms, until_ms);
    EXECUTE format(
        'CREATE TRIGGER payment_events_no_truncate BEFORE TRUNCATE ON %I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION payment_events_append_only()', name
    );
    RETURN TRUE;
END;
$$;

REVOKE ALL ON FUNCTION payment_events_month(BIGINT) FROM PUBLIC;

-- Names in it mean this schema's, whoever calls it.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION payment_events_month(BIGINT) SET search_path = %I, pg_temp', current_schema());
END;
$$;

-- Which events there are, archived ones too: the key that keeps repeats out, and the leaf that the event is.
CREATE TABLE audit_event_keys (
    tenant TEXT COLLATE "C" NOT NULL,
    payment_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    shard INTEGER NOT NULL,
    leaf_index BIGINT
);

INSERT INTO audit_event_keys
SELECT tenant, payment_id, event_id, "partition", leaf_index FROM undivided_events ORDER BY tenant, payment_id, event_id;

ALTER TABLE audit_event_keys ADD CONSTRAINT audit_event_keys_pkey PRIMARY KEY (tenant, payment_id, event_id);

-- A table for each month that has rows, and for this and the next one.
DO $$
BEGIN
    PERFORM payment_events_month(at_ms) FROM (
        SELECT DISTINCT extract(
            epoch FROM date_trunc('month', to_timestamp(recorded_at_ms / 1000) AT TIME ZONE 'UTC')
        )::BIGINT * 1000 AS at_ms
        FROM undivided_events
        WHERE recorded_at_ms BETWEEN 0 AND 9999999999999
        UNION SELECT extract(epoch FROM now())::BIGINT * 1000
        UNION SELECT extract(epoch FROM now() + INTERVAL '1 month')::BIGINT * 1000
    ) months;
END;
$$;

INSERT INTO payment_events SELECT * FROM undivided_events;

-- Files that rows were moved to, under the folder that `ptr audit archive` was given. Their rows are removed after they are here.
CREATE TABLE audit_archives (
    file TEXT COLLATE "C" PRIMARY KEY,
    sha256 TEXT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    month TEXT COLLATE "C" NOT NULL,
    events BIGINT NOT NULL,
    is_removed INTEGER NOT NULL
);

-- Which leaves of which tree they hold, without gaps.
CREATE TABLE audit_archived_leaves (
    tenant TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    first_leaf BIGINT NOT NULL,
    last_leaf BIGINT NOT NULL,
    file TEXT COLLATE "C" NOT NULL REFERENCES audit_archives,
    PRIMARY KEY (tenant, shard, first_leaf)
);

CREATE TRIGGER audit_event_keys_no_delete BEFORE DELETE ON audit_event_keys
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_event_keys_no_truncate BEFORE TRUNCATE ON audit_event_keys
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_archives_only_removed BEFORE UPDATE ON audit_archives
    FOR EACH ROW WHEN (NEW.is_removed <> 1 OR (NEW.file, NEW.sha256, NEW.tenant, NEW.month, NEW.events)
        IS DISTINCT FROM (OLD.file, OLD.sha256, OLD.tenant, OLD.month, OLD.events))
    EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_archives_no_delete BEFORE DELETE ON audit_archives
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();

CREATE TRIGGER audit_archived_leaves_no_update BEFORE UPDATE OR DELETE ON audit_archived_leaves
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();

-- Whoever had a right to payment_events has it still, and to what is beside it what belongs to that.
DO $$
DECLARE
    granted RECORD;
BEGIN
    FOR granted IN
        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::TEXT END AS role, acl.privilege_type AS privilege
        FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'undivided_events'::regclass AND acl.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON payment_events TO %s', granted.privilege, granted.role);
        EXECUTE format('GRANT SELECT ON audit_event_keys, audit_archives, audit_archived_leaves TO %s', granted.role);
        IF granted.privilege = 'INSERT' THEN
            EXECUTE format('GRANT INSERT ON audit_event_keys TO %s', granted.role);
            EXECUTE format('GRANT EXECUTE ON FUNCTION payment_events_month(BIGINT) TO %s', granted.role);
        END IF;
    END LOOP;
END;
$$;

DROP TABLE undivided_events;
