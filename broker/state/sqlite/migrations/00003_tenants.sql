-- +goose Up
-- What was there before there were tenants is the default one's. body is the
-- public message, whatever it will hold.
CREATE TABLE tenants (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL
) STRICT;
INSERT INTO tenants (name, body) VALUES ('default', x'');

-- hash is all that is known of a key's secret.
CREATE TABLE api_keys (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL REFERENCES tenants (name) ON DELETE CASCADE,
    hash   BLOB NOT NULL,
    body   BLOB NOT NULL
) STRICT;
CREATE INDEX api_keys_tenant ON api_keys (tenant, seq);

ALTER TABLE sandboxes ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
DROP INDEX sandboxes_name;
-- The name is first because SQLite names the first column of an index that refuses.
CREATE UNIQUE INDEX sandboxes_name ON sandboxes (name, tenant) WHERE name <> '' AND gone = 0;
CREATE INDEX sandboxes_tenant ON sandboxes (tenant, seq) WHERE gone = 0;
DROP INDEX sandboxes_state;
CREATE INDEX sandboxes_state ON sandboxes (tenant, state, seq) WHERE gone = 0;

ALTER TABLE snapshots ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
DROP INDEX snapshots_name;
CREATE UNIQUE INDEX snapshots_name ON snapshots (name, tenant) WHERE name <> '';
CREATE INDEX snapshots_tenant ON snapshots (tenant, seq);

CREATE TABLE tenant_requests (
    key    TEXT NOT NULL,
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    ids    TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (key, tenant)
) STRICT;
INSERT INTO tenant_requests (key, tenant, digest, ids, at) SELECT key, 'default', digest, ids, at FROM requests;
DROP TABLE requests;
ALTER TABLE tenant_requests RENAME TO requests;
CREATE INDEX requests_at ON requests (at);
