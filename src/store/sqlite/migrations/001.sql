-- Version 1: the first schema.
--
-- Times are milliseconds since 1970 (UTC) in columns that end in _at, seconds in period_start. A
-- NULL time or limit means none. `checksum` is XXH3 over a record's settings: a damaged record is
-- refused and never granted from.

CREATE TABLE meta(
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The ids of the change sets applied last: applying one again changes nothing.
CREATE TABLE change(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE plan(
  id TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL CHECK(version >= 1),
  name TEXT NOT NULL,
  quota_limit INTEGER CHECK(quota_limit >= 0),
  quota_period INTEGER NOT NULL,
  quota_anchor_day INTEGER NOT NULL,
  quota_time_zone TEXT NOT NULL,
  quota_scope INTEGER NOT NULL,
  alert_percents TEXT NOT NULL,          -- "90,100"
  checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key(
  id TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL CHECK(version >= 1),
  owner_id TEXT NOT NULL,
  plan_id TEXT NOT NULL,
  name TEXT NOT NULL,
  enabled INTEGER NOT NULL CHECK(enabled IN (0, 1)),
  expires_at INTEGER,
  quota_limit INTEGER CHECK(quota_limit >= 0),
  quota_period INTEGER NOT NULL,
  quota_anchor_day INTEGER NOT NULL,
  quota_time_zone TEXT NOT NULL,
  quota_scope INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  secret_prefix TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER,
  text_count INTEGER NOT NULL,           -- rows in key_text: a plain key costs no look-up there
  rate_limit_count INTEGER NOT NULL,     -- rows in rate_limit
  checksum INTEGER NOT NULL,
  -- Written by settling, apart from the settings above.
  last_used_at INTEGER,
  detector_state BLOB NOT NULL DEFAULT x''
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_by_age ON api_key(created_at, id);
CREATE INDEX api_key_by_owner ON api_key(owner_id, created_at, id);
CREATE INDEX api_key_by_plan ON api_key(plan_id, created_at, id);
CREATE INDEX api_key_live_by_plan ON api_key(plan_id) WHERE revoked_at IS NULL;

CREATE TABLE key_secret(
  locator TEXT NOT NULL PRIMARY KEY,
  key_id TEXT NOT NULL REFERENCES api_key(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,             -- 0: the newest
  last4 TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  digest BLOB NOT NULL CHECK(length(digest) = 32),
  pepper_version INTEGER NOT NULL CHECK(pepper_version >= 0)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX key_secret_by_key ON key_secret(key_id, position);
CREATE INDEX key_secret_by_pepper ON key_secret(pepper_version);

CREATE TABLE key_text(
  key_id TEXT NOT NULL REFERENCES api_key(id) ON DELETE CASCADE,
  kind INTEGER NOT NULL CHECK(kind IN (1, 2)),  -- 1: scope, 2: address
  position INTEGER NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY(key_id, kind, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE rate_limit(
  of INTEGER NOT NULL CHECK(of IN (1, 2)),      -- 1: a plan's, 2: a key's
  parent_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  unit_limit INTEGER NOT NULL CHECK(unit_limit >= 1),
  window_ns INTEGER NOT NULL CHECK(window_ns >= 1),
  burst INTEGER,
  endpoint TEXT NOT NULL,
  PRIMARY KEY(of, parent_id, position)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a seq is never used again, also when the newest events were pruned.
CREATE TABLE event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  at INTEGER NOT NULL,
  owner_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_age ON event(at);

CREATE TABLE counter(
  subject TEXT NOT NULL,
  period_start INTEGER NOT NULL,
  period_end INTEGER,
  unit_limit INTEGER,
  limit_version INTEGER NOT NULL,
  used INTEGER NOT NULL,
  charged INTEGER NOT NULL,
  forfeited INTEGER NOT NULL,
  open_leases INTEGER NOT NULL CHECK(open_leases >= 0),
  alerted_percent INTEGER NOT NULL,
  recall INTEGER NOT NULL,
  PRIMARY KEY(subject, period_start),
  CHECK(used >= 0 AND forfeited >= 0 AND used + forfeited <= charged)
) STRICT, WITHOUT ROWID;
CREATE INDEX counter_by_end ON counter(period_end) WHERE period_end IS NOT NULL;

CREATE TABLE lease(
  subject TEXT NOT NULL,
  period_start INTEGER NOT NULL,
  holder INTEGER NOT NULL,               -- the 64 bits of a HolderId
  state INTEGER NOT NULL,                -- 1 open, 2 closed, 3 lost
  seq INTEGER NOT NULL,
  allowance INTEGER NOT NULL,
  used INTEGER NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY(subject, period_start, holder),
  CHECK(used >= 0 AND used <= allowance)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_open_by_holder ON lease(holder) WHERE state = 1;

CREATE TABLE usage_hour(
  key_id TEXT NOT NULL,
  start_at INTEGER NOT NULL,
  holder INTEGER NOT NULL,
  allowed INTEGER NOT NULL,
  units INTEGER NOT NULL,
  rate_limited INTEGER NOT NULL,
  quota_exceeded INTEGER NOT NULL,
  refused_otherwise INTEGER NOT NULL,
  PRIMARY KEY(key_id, start_at, holder)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hour_by_start ON usage_hour(start_at);

CREATE TABLE webhook(
  id TEXT NOT NULL PRIMARY KEY,
  owner_id TEXT NOT NULL,
  url TEXT NOT NULL,
  active INTEGER NOT NULL CHECK(active IN (0, 1)),
  version INTEGER NOT NULL CHECK(version >= 1)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_by_owner ON webhook(owner_id);

CREATE TABLE webhook_text(
  webhook_id TEXT NOT NULL REFERENCES webhook(id) ON DELETE CASCADE,
  kind INTEGER NOT NULL CHECK(kind IN (1, 2)),  -- 1: event type, 2: sealed secret
  position INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY(webhook_id, kind, position)
) STRICT, WITHOUT ROWID;

-- A delivery keeps its event whole, since the log may forget it earlier.
CREATE TABLE delivery(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  destination TEXT NOT NULL,
  state INTEGER NOT NULL,                -- 1 pending, 2 delivered, 3 dead
  attempts INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  claim INTEGER NOT NULL,                -- 0: nobody's
  claimed_until INTEGER NOT NULL,
  last_http_status INTEGER NOT NULL,
  last_error TEXT NOT NULL,
  event_seq INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  event_at INTEGER NOT NULL,
  event_owner_id TEXT NOT NULL,
  event_key_id TEXT NOT NULL,
  event_actor TEXT NOT NULL,
  event_data TEXT NOT NULL
) STRICT;
CREATE INDEX delivery_due ON delivery(due_at) WHERE state = 1;
CREATE INDEX delivery_by_claim ON delivery(claim) WHERE claim <> 0;
CREATE INDEX delivery_by_age ON delivery(event_at) WHERE state <> 1;

PRAGMA application_id = 1414025812;  -- "THRT"
PRAGMA user_version = 1;
