-- +goose Up
-- Somebody wants the snapshot deleted, and its provider did not confirm it yet.
ALTER TABLE snapshots ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;
-- Those that somebody has to see to, which are few.
CREATE INDEX snapshots_open ON snapshots (seq) WHERE ready = 0 OR deleting = 1;
