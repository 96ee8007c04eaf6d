-- +goose Up
-- Why a sandbox is where it is; beside its row, which is read far more often.
CREATE TABLE placements (
    seq  INTEGER PRIMARY KEY REFERENCES sandboxes (seq) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

-- good, bad and seconds are decayed to at.
CREATE TABLE measurements (
    provider   TEXT PRIMARY KEY,
    good       REAL NOT NULL,
    bad        REAL NOT NULL,
    seconds    REAL NOT NULL,
    at         INTEGER,
    streak     INTEGER NOT NULL,
    open_until INTEGER,
    openings   INTEGER NOT NULL,
    cool_until INTEGER
) STRICT, WITHOUT ROWID;
