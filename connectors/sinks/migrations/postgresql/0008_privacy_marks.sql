-- Which keys sealed something in which stretch of a tree's leaves (connectors/privacy/marks.py): made by whoever looks for a person.
CREATE TABLE privacy_marks (
    tenant TEXT COLLATE "C" NOT NULL,
    shard BIGINT NOT NULL,
    stretch BIGINT NOT NULL,
    marks BYTEA NOT NULL,
    PRIMARY KEY (tenant, shard, stretch)
);

-- They are random: no attempt to compress them.
ALTER TABLE privacy_marks ALTER COLUMN marks SET STORAGE EXTERNAL;

-- Whoever may read the keys may read which rows they sealed.
DO $$
DECLARE
    granted RECORD;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::TEXT END AS role
        FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'privacy_keys'::regclass AND acl.grantee <> c.relowner AND acl.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON privacy_marks TO %s', granted.role);
    END LOOP;
END;
$$;
