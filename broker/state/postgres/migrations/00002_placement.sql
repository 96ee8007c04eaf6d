-- +goose Up
-- Why a sandbox is where it is; beside its row, which is read far more often.
CREATE TABLE placements (
    seq  BIGINT PRIMARY KEY REFERENCES sandboxes (seq) ON DELETE CASCADE,
    body BYTEA NOT NULL
);

-- good, bad and seconds are decayed to at.
CREATE TABLE measurements (
    provider   TEXT PRIMARY KEY,
    good       DOUBLE PRECISION NOT NULL,
    bad        DOUBLE PRECISION NOT NULL,
    seconds    DOUBLE PRECISION NOT NULL,
    at         BIGINT,
    streak     BIGINT NOT NULL,
    open_until BIGINT,
    openings   BIGINT NOT NULL,
    cool_until BIGINT
);
