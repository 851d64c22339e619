-- Version 2: counters know whom their events are about and which were raised, and have a checksum,
-- as leases do. A NULL checksum is a row of version 1 that was not written since.

ALTER TABLE counter ADD COLUMN exceeded INTEGER NOT NULL DEFAULT 0;  -- quota.exceeded was raised
ALTER TABLE counter ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;     -- quota.reset was raised
ALTER TABLE counter ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
ALTER TABLE counter ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE counter ADD COLUMN checksum INTEGER;
ALTER TABLE lease ADD COLUMN checksum INTEGER;

CREATE INDEX counter_due ON counter(period_end) WHERE ended = 0 AND used + forfeited > 0;

-- Whom a counter of version 1 is about is not known, so the end of its period is not told.
UPDATE counter SET ended = 1;

PRAGMA user_version = 2;
