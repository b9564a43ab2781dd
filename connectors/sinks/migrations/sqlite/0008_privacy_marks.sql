-- Which keys sealed something in which stretch of a tree's leaves (connectors/privacy/marks.py): made by whoever looks for a person.
CREATE TABLE privacy_marks (
    tenant TEXT NOT NULL,
    shard INTEGER NOT NULL,
    stretch INTEGER NOT NULL,
    marks BLOB NOT NULL,
    PRIMARY KEY (tenant, shard, stretch)
);
