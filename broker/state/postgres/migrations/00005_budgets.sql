-- +goose Up
-- What a sandbox is counted as, since when, and by what. The last is the public
-- message Rate, which is in body too: here it can be summed without the rest.
ALTER TABLE sandboxes ADD COLUMN phase BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN phase_at BIGINT;
ALTER TABLE sandboxes ADD COLUMN rate BYTEA NOT NULL DEFAULT '';

-- enforced says whether somebody has to look whether the budget is spent.
-- creates_until is quota.Use.CreatesUntil.
ALTER TABLE tenants ADD COLUMN enforced BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tenants ADD COLUMN creates_until BIGINT;
CREATE INDEX tenants_enforced ON tenants (seq) WHERE enforced = 1;

-- The same use twice, added up differently: by sandbox for some months, and by day
-- for good. day counts from 1970-01-01. Without a currency the price is unknown.
CREATE TABLE used_sandboxes (
    sandbox_id    TEXT NOT NULL,
    day           BIGINT NOT NULL,
    tenant        TEXT NOT NULL,
    provider      TEXT NOT NULL,
    name          TEXT NOT NULL,
    currency      TEXT NOT NULL,
    basis         BIGINT NOT NULL,
    running_ms    BIGINT NOT NULL,
    paused_ms     BIGINT NOT NULL,
    cpu_us        BIGINT NOT NULL,
    memory_mib_ms BIGINT NOT NULL,
    disk_mib_ms   BIGINT NOT NULL,
    starts        BIGINT NOT NULL,
    micros        BIGINT NOT NULL,
    PRIMARY KEY (sandbox_id, day)
);
CREATE INDEX used_sandboxes_tenant ON used_sandboxes (tenant, day);
CREATE INDEX used_sandboxes_day ON used_sandboxes (day);

CREATE TABLE used_days (
    tenant        TEXT NOT NULL,
    day           BIGINT NOT NULL,
    provider      TEXT NOT NULL,
    currency      TEXT NOT NULL,
    basis         BIGINT NOT NULL,
    running_ms    BIGINT NOT NULL,
    paused_ms     BIGINT NOT NULL,
    cpu_us        BIGINT NOT NULL,
    memory_mib_ms BIGINT NOT NULL,
    disk_mib_ms   BIGINT NOT NULL,
    starts        BIGINT NOT NULL,
    micros        BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, provider, currency, basis)
);
