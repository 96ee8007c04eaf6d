-- +goose Up
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Times are nanoseconds since 1970. seq orders by age and is what pages count by.
CREATE TABLE sandboxes (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    name           TEXT NOT NULL,
    provider       TEXT NOT NULL,
    state          INTEGER NOT NULL,
    pending        INTEGER NOT NULL,
    prior          INTEGER NOT NULL,
    reason         TEXT NOT NULL,
    gone           INTEGER NOT NULL,
    gone_at        INTEGER,
    op_key         TEXT NOT NULL,
    op_digest      BLOB NOT NULL,
    request_key    TEXT NOT NULL,
    retry_at       INTEGER,
    attempts       INTEGER NOT NULL,
    expires_at     INTEGER,
    idle_ns        INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    due_at         INTEGER,
    version        INTEGER NOT NULL,
    body           BLOB NOT NULL
) STRICT;
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
    seq   INTEGER NOT NULL REFERENCES sandboxes (seq) ON DELETE CASCADE,
    PRIMARY KEY (key, value, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX sandbox_labels_seq ON sandbox_labels (seq);

CREATE TABLE snapshots (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    sandbox_id  TEXT NOT NULL,
    ready       INTEGER NOT NULL,
    op_key      TEXT NOT NULL,
    op_digest   BLOB NOT NULL,
    request_key TEXT NOT NULL,
    handle      BLOB,
    spec        BLOB,
    body        BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX snapshots_name ON snapshots (name) WHERE name <> '';
CREATE INDEX snapshots_sandbox ON snapshots (sandbox_id, seq);
CREATE INDEX snapshots_request ON snapshots (request_key) WHERE request_key <> '';

CREATE TABLE requests (
    key    TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    ids    TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
CREATE INDEX requests_at ON requests (at);
