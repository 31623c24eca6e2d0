-- The table that latest.toml writes to, in words that SQLite and PostgreSQL share.
CREATE TABLE IF NOT EXISTS latest (
    device TEXT PRIMARY KEY,
    temp   DOUBLE PRECISION,
    hum    DOUBLE PRECISION,
    at     BIGINT,
    writes BIGINT NOT NULL
);
