-- +goose Up
-- URLs that are told of events. holder delivers until held_until, in nanoseconds
-- since 1970; a new one is a new version. body is the public message.
CREATE TABLE webhooks (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL REFERENCES tenants (name) ON DELETE CASCADE,
    disabled        INTEGER NOT NULL,
    secret          BLOB NOT NULL,
    previous_secret BLOB NOT NULL,
    holder          TEXT NOT NULL,
    held_until      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    body            BLOB NOT NULL
) STRICT;
CREATE INDEX webhooks_tenant ON webhooks (tenant, seq);
