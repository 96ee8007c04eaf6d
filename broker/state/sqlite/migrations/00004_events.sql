-- +goose Up
-- What happened to sandboxes, stored with the change that it is. Readers go on
-- behind (txid, seq), so the order of the two is the order of the events; a
-- database with one writer needs no txid.
CREATE TABLE events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    txid INTEGER NOT NULL DEFAULT 0,
    at   INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX events_position ON events (txid, seq);
