-- +goose Up
-- What SQLite's tables are, in PostgreSQL's types. An index that refuses a
-- duplicate which a caller is told of is named <table>_<column>.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Times are nanoseconds since 1970. seq orders by age and is what pages count by.
CREATE TABLE sandboxes (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    name           TEXT NOT NULL,
    provider       TEXT NOT NULL,
    state          BIGINT NOT NULL,
    pending        BIGINT NOT NULL,
    prior          BIGINT NOT NULL,
    reason         TEXT NOT NULL,
    gone           BIGINT NOT NULL,
    gone_at        BIGINT,
    op_key         TEXT NOT NULL,
    op_digest      BYTEA NOT NULL,
    request_key    TEXT NOT NULL,
    retry_at       BIGINT,
    attempts       BIGINT NOT NULL,
    expires_at     BIGINT,
    idle_ns        BIGINT NOT NULL,
    last_active_at BIGINT NOT NULL,
    due_at         BIGINT,
    version        BIGINT NOT NULL,
    body           BYTEA NOT NULL
);
CREATE UNIQUE INDEX sandboxes_name ON sandboxes (name) WHERE name <> '' AND gone = 0;
CREATE INDEX sandboxes_live ON sandboxes (seq) WHERE gone = 0;
CREATE INDEX sandboxes_state ON sandboxes (state, seq) WHERE gone = 0;
CREATE INDEX sandboxes_provider ON sandboxes (provider, seq) WHERE gone = 0;
CREATE INDEX sandboxes_due ON sandboxes (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sandboxes_gone ON sandboxes (gone_at) WHERE gone = 1;
CREATE INDEX sandboxes_request ON sandboxes (request_key) WHERE request_key <> '';

CREATE TABLE sandbox_labels (
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    seq   BIGINT NOT NULL REFERENCES sandboxes (seq) ON DELETE CASCADE,
    PRIMARY KEY (key, value, seq)
);
CREATE INDEX sandbox_labels_seq ON sandbox_labels (seq);

CREATE TABLE snapshots (
    seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    sandbox_id  TEXT NOT NULL,
    ready       BIGINT NOT NULL,
    op_key      TEXT NOT NULL,
    op_digest   BYTEA NOT NULL,
    request_key TEXT NOT NULL,
    handle      BYTEA,
    spec        BYTEA,
    body        BYTEA NOT NULL
);
CREATE UNIQUE INDEX snapshots_name ON snapshots (name) WHERE name <> '';
CREATE INDEX snapshots_sandbox ON snapshots (sandbox_id, seq);
CREATE INDEX snapshots_request ON snapshots (request_key) WHERE request_key <> '';

CREATE TABLE requests (
    key    TEXT CONSTRAINT requests_key PRIMARY KEY,
    digest BYTEA NOT NULL,
    ids    TEXT NOT NULL,
    at     BIGINT NOT NULL
);
CREATE INDEX requests_at ON requests (at);
