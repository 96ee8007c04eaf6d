-- +goose Up
-- URLs that are told of events. holder delivers until held_until, in nanoseconds
-- since 1970; a new one is a new version. body is the public message.
CREATE TABLE webhooks (
    seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL REFERENCES tenants (name) ON DELETE CASCADE,
    disabled        BIGINT NOT NULL,
    secret          BYTEA NOT NULL,
    previous_secret BYTEA NOT NULL,
    holder          TEXT NOT NULL,
    held_until      BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    body            BYTEA NOT NULL
);
CREATE INDEX webhooks_tenant ON webhooks (tenant, seq);
