-- Version 3: a quota may be soft; a rate limit says how it spreads its units, what it counts, and
-- whether it only watches. The defaults are what quotas and rate limits of version 2 do.
--
-- The checksum of a plan or key covers the new columns only if one of them is not its default: what
-- version 2 wrote still matches, and a column that is lost or becomes the default does not.

ALTER TABLE plan ADD COLUMN quota_soft_percent INTEGER NOT NULL DEFAULT 0
  CHECK(quota_soft_percent >= 0);
ALTER TABLE api_key ADD COLUMN quota_soft_percent INTEGER NOT NULL DEFAULT 0
  CHECK(quota_soft_percent >= 0);
ALTER TABLE rate_limit ADD COLUMN algorithm INTEGER NOT NULL DEFAULT 1;  -- 1 GCRA, 2 sliding window
ALTER TABLE rate_limit ADD COLUMN counts INTEGER NOT NULL DEFAULT 1;     -- 1 units, 2 requests
ALTER TABLE rate_limit ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0 CHECK(shadow IN (0, 1));

PRAGMA user_version = 3;
