-- +goose Up
-- What happened to sandboxes, stored with the change that it is. Readers go on
-- behind (txid, seq), so the order of the two is the order of the events. seq alone
-- would not do: transactions take numbers before they commit, and one that commits
-- late would be missed by whoever has read past its number. So a reader waits for
-- all older transactions, and the older transaction comes first.
CREATE TABLE events (
    seq  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at   BIGINT NOT NULL,
    body BYTEA NOT NULL
);
CREATE INDEX events_position ON events (txid, seq);
