-- +goose Up
-- What was there before there were tenants is the default one's. body is the
-- public message, whatever it will hold.
CREATE TABLE tenants (
    seq  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT tenants_name UNIQUE,
    body BYTEA NOT NULL
);
INSERT INTO tenants (name, body) VALUES ('default', '');

-- hash is all that is known of a key's secret.
CREATE TABLE api_keys (
    seq    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL REFERENCES tenants (name) ON DELETE CASCADE,
    hash   BYTEA NOT NULL,
    body   BYTEA NOT NULL
);
CREATE INDEX api_keys_tenant ON api_keys (tenant, seq);

ALTER TABLE sandboxes ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
DROP INDEX sandboxes_name;
CREATE UNIQUE INDEX sandboxes_name ON sandboxes (name, tenant) WHERE name <> '' AND gone = 0;
CREATE INDEX sandboxes_tenant ON sandboxes (tenant, seq) WHERE gone = 0;
DROP INDEX sandboxes_state;
CREATE INDEX sandboxes_state ON sandboxes (tenant, state, seq) WHERE gone = 0;

ALTER TABLE snapshots ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
DROP INDEX snapshots_name;
CREATE UNIQUE INDEX snapshots_name ON snapshots (name, tenant) WHERE name <> '';
CREATE INDEX snapshots_tenant ON snapshots (tenant, seq);

ALTER TABLE requests ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
ALTER TABLE requests DROP CONSTRAINT requests_key;
ALTER TABLE requests ADD CONSTRAINT requests_key PRIMARY KEY (key, tenant);
