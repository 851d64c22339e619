-- Version 4: a counter says what a change of its quota in mid-period did to it.
--
-- The checksum of a counter covers the new columns only if one of them is not 0: what version 3
-- wrote still matches, and a column that is lost or becomes 0 does not.

ALTER TABLE counter ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN added INTEGER NOT NULL DEFAULT 0 CHECK(added >= 0);

PRAGMA user_version = 4;
