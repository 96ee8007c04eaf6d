-- +goose Up
-- What a sandbox is counted as, since when, and by what. The last is the public
-- message Rate, which is in body too: here it can be summed without the rest.
ALTER TABLE sandboxes ADD COLUMN phase INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN phase_at INTEGER;
ALTER TABLE sandboxes ADD COLUMN rate BLOB NOT NULL DEFAULT x'';

-- enforced says whether somebody has to look whether the budget is spent.
-- creates_until is quota.Use.CreatesUntil.
ALTER TABLE tenants ADD COLUMN enforced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenants ADD COLUMN creates_until INTEGER;
CREATE INDEX tenants_enforced ON tenants (seq) WHERE enforced = 1;

-- The same use twice, added up differently: by sandbox for some months, and by day
-- for good. day counts from 1970-01-01. Without a currency the price is unknown.
CREATE TABLE used_sandboxes (
    sandbox_id    TEXT NOT NULL,
    day           INTEGER NOT NULL,
    tenant        TEXT NOT NULL,
    provider      TEXT NOT NULL,
    name          TEXT NOT NULL,
    currency      TEXT NOT NULL,
    basis         INTEGER NOT NULL,
    running_ms    INTEGER NOT NULL,
    paused_ms     INTEGER NOT NULL,
    cpu_us        INTEGER NOT NULL,
    memory_mib_ms INTEGER NOT NULL,
    disk_mib_ms   INTEGER NOT NULL,
    starts        INTEGER NOT NULL,
    micros        INTEGER NOT NULL,
    PRIMARY KEY (sandbox_id, day)
) STRICT;
CREATE INDEX used_sandboxes_tenant ON used_sandboxes (tenant, day);
CREATE INDEX used_sandboxes_day ON used_sandboxes (day);

CREATE TABLE used_days (
    tenant        TEXT NOT NULL,
    day           INTEGER NOT NULL,
    provider      TEXT NOT NULL,
    currency      TEXT NOT NULL,
    basis         INTEGER NOT NULL,
    running_ms    INTEGER NOT NULL,
    paused_ms     INTEGER NOT NULL,
    cpu_us        INTEGER NOT NULL,
    memory_mib_ms INTEGER NOT NULL,
    disk_mib_ms   INTEGER NOT NULL,
    starts        INTEGER NOT NULL,
    micros        INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, provider, currency, basis)
) STRICT, WITHOUT ROWID;
