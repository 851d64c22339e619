#include "src/store/sqlite/sqlite_counting.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_log.h"
#include "src/store/sqlite/sqlite_record_parts.h"
#include "src/store/sqlite/sqlite_records.h"

namespace throttl::internal {
namespace {

std::int64_t HolderBits(HolderId holder) {
  return std::bit_cast<std::int64_t>(static_cast<std::uint64_t>(holder));
}

absl::Status DamagedCounter(const CounterId& id, const char* how) {
  return absl::DataLossError(absl::StrCat("the counter of \"", id.subject, "\" from ",
                                          absl::ToUnixSeconds(id.period_start),
                                          " on is damaged in the database: ", how));
}

absl::Status WriteCounter(SqliteConnection& db, const CounterId& id, const Counter& counter) {
  SqliteStatement write(
      db,
      "INSERT INTO counter(subject, period_start, period_end, unit_limit, limit_version, used, "
      "charged, forfeited, open_leases, alerted_percent, recall, exceeded, ended, owner_id, "
      "key_id, checksum, forgiven, added) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) "
      "ON CONFLICT(subject, period_start) DO UPDATE SET period_end = ?3, unit_limit = ?4, "
      "limit_version = ?5, used = ?6, charged = ?7, forfeited = ?8, open_leases = ?9, "
      "alerted_percent = ?10, recall = ?11, exceeded = ?12, ended = ?13, owner_id = ?14, "
      "key_id = ?15, checksum = ?16, forgiven = ?17, added = ?18");
  write.Bind(id.subject)
      .Bind(absl::ToUnixSeconds(id.period_start))
      .Bind(ToMillis(counter.period_end))
      .Bind(counter.limit)
      .Bind(counter.limit_version)
      .Bind(counter.used)
      .Bind(counter.charged)
      .Bind(counter.forfeited)
      .Bind(counter.open_leases)
      .Bind(counter.alerted_percent)
      .Bind(std::int64_t{counter.recall})
      .Bind(std::int64_t{counter.exceeded})
      .Bind(std::int64_t{counter.ended})
      .Bind(counter.owner_id)
      .Bind(counter.key_id)
      .Bind(CounterChecksum(id, counter))
      .Bind(counter.forgiven)
      .Bind(counter.added);
  return write.Finish();
}

absl::StatusOr<Lease> ReadLease(SqliteConnection& db, const CounterId& id, HolderId holder) {
  SqliteStatement read(db,
                       "SELECT state, seq, allowance, used, expires_at, checksum FROM lease "
                       "WHERE subject = ? AND period_start = ? AND holder = ?");
  read.Bind(id.subject).Bind(absl::ToUnixSeconds(id.period_start)).Bind(HolderBits(holder));
  if (!read.Step()) {
    THROTTL_RETURN_IF_ERROR(read.status());
    return Lease{};
  }
  const Lease lease{.state = static_cast<LeaseState>(read.Int(0)),
                    .seq = read.Int(1),
                    .allowance = read.Int(2),
                    .used = read.Int(3),
                    .expires_at = FromMillis(read.OptionalInt(4))};
  if (read.OptionalInt(5).value_or(LeaseChecksum(id, holder, lease)) !=
      LeaseChecksum(id, holder, lease)) {
    return DamagedCounter(id, "a lease is damaged");
  }
  return lease;
}

absl::Status WriteLease(SqliteConnection& db, const CounterId& id, HolderId holder,
                        const Lease& lease) {
  SqliteStatement write(
      db,
      "INSERT INTO lease(subject, period_start, holder, state, seq, allowance, used, expires_at, "
      "checksum) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
      "ON CONFLICT(subject, period_start, holder) DO UPDATE SET state = ?4, seq = ?5, "
      "allowance = ?6, used = ?7, expires_at = ?8, checksum = ?9");
  write.Bind(id.subject)
      .Bind(absl::ToUnixSeconds(id.period_start))
      .Bind(HolderBits(holder))
      .Bind(static_cast<std::int64_t>(lease.state))
      .Bind(lease.seq)
      .Bind(lease.allowance)
      .Bind(lease.used)
      .Bind(ToMillis(lease.expires_at))
      .Bind(LeaseChecksum(id, holder, lease));
  return write.Finish();
}

// A lease is part of its counter: when one of them is missing, or was damaged in version 1, which
// had no checksums, they mostly disagree. Numbers that pass cannot overflow in ApplySettle.
absl::Status CheckCounter(const CounterId& id, const Counter& counter, const Lease& lease) {
  const bool in_bounds =
      counter.forfeited >= 0 && counter.used >= lease.used && counter.charged >= counter.used &&
      lease.used >= 0 && lease.allowance >= lease.used && counter.open_leases >= 0 &&
      counter.open_leases < std::numeric_limits<std::int32_t>::max() &&
      counter.limit.value_or(0) >= 0 && counter.limit.value_or(0) <= kLimitMax &&
      counter.added >= 0 && counter.added <= kLimitMax && counter.forgiven >= -kLimitMax;
  if (in_bounds) {
    const std::int64_t left = counter.charged - counter.used - counter.forfeited;
    const std::int64_t unspent = lease.allowance - lease.used;
    const bool lost = lease.state == LeaseState::kLost;
    if (left >= 0 && unspent <= (lost ? counter.forfeited : left)) return absl::OkStatus();
  }
  return DamagedCounter(id, "it does not agree with its lease");
}

absl::Status WriteUsage(SqliteConnection& db, HolderId holder, const UsageRow& row) {
  SqliteStatement write(
      db,
      "INSERT INTO usage_hour(key_id, start_at, holder, allowed, units, rate_limited, "
      "quota_exceeded, refused_otherwise) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
      "ON CONFLICT(key_id, start_at, holder) DO UPDATE SET allowed = ?4, units = ?5, "
      "rate_limited = ?6, quota_exceeded = ?7, refused_otherwise = ?8");
  write.Bind(row.key_id)
      .Bind(absl::ToUnixMillis(row.hour.start))
      .Bind(HolderBits(holder))
      .Bind(row.hour.allowed)
      .Bind(row.hour.units)
      .Bind(row.hour.rate_limited)
      .Bind(row.hour.quota_exceeded)
      .Bind(row.hour.refused_otherwise);
  return write.Finish();
}

// Remembers the newest time that was told: Prune tells by it a running period from one that has
// ended.
absl::Status RememberSettledAt(SqliteConnection& db, absl::Time now) {
  SqliteStatement write(db,
                        "INSERT INTO meta(name, value) VALUES('settled_at', CAST(?1 AS TEXT)) "
                        "ON CONFLICT(name) DO UPDATE SET value = CAST(?1 AS TEXT) "
                        "WHERE CAST(value AS INTEGER) < ?1");
  return write.Bind(absl::ToUnixMillis(now)).Finish();
}

// One statement for each way to ask: by key, by owner, everything. Parameters 1 to 4 are key,
// owner, from and to in all of them.
const char* UsageSql(const UsageQuery& query) {
#define THROTTL_USAGE_HEAD                                         \
  "SELECT start_at, sum(allowed), sum(units), sum(rate_limited), " \
  "sum(quota_exceeded), sum(refused_otherwise) FROM usage_hour "
#define THROTTL_USAGE_TAIL \
  " AND start_at >= ?3 AND start_at < ?4 GROUP BY start_at ORDER BY start_at"
  if (!query.key_id.empty()) {
    return THROTTL_USAGE_HEAD
        "WHERE key_id = ?1 AND (?2 = '' OR EXISTS (SELECT 1 FROM api_key "
        "WHERE id = ?1 AND owner_id = ?2))" THROTTL_USAGE_TAIL;
  }
  if (!query.owner_id.empty()) {
    return THROTTL_USAGE_HEAD
        "WHERE ?1 = '' AND key_id IN (SELECT id FROM api_key "
        "WHERE owner_id = ?2)" THROTTL_USAGE_TAIL;
  }
  return THROTTL_USAGE_HEAD "WHERE ?1 = '' AND ?2 = ''" THROTTL_USAGE_TAIL;
#undef THROTTL_USAGE_HEAD
#undef THROTTL_USAGE_TAIL
}

void AddHour(const SqliteStatement& read, UsageBucket& sum) {
  sum.allowed += read.Int(1);
  sum.units += read.Int(2);
  sum.rate_limited += read.Int(3);
  sum.quota_exceeded += read.Int(4);
  sum.refused_otherwise += read.Int(5);
}

}  // namespace

absl::StatusOr<Counter> SqliteReadCounter(SqliteConnection& db, const CounterId& id) {
  SqliteStatement read(db,
                       "SELECT period_end, unit_limit, limit_version, used, charged, forfeited, "
                       "open_leases, alerted_percent, recall, exceeded, ended, owner_id, key_id, "
                       "checksum, forgiven, added FROM counter "
                       "WHERE subject = ? AND period_start = ?");
  if (!read.Bind(id.subject).Bind(absl::ToUnixSeconds(id.period_start)).Step()) {
    THROTTL_RETURN_IF_ERROR(read.status());
    return Counter{};
  }
  Counter counter{.period_end = FromMillis(read.OptionalInt(0)),
                  .limit = read.OptionalInt(1),
                  .limit_version = read.Int(2),
                  .used = read.Int(3),
                  .charged = read.Int(4),
                  .forfeited = read.Int(5),
                  .forgiven = read.Int(14),
                  .added = read.Int(15),
                  .open_leases = read.Int32(6),
                  .alerted_percent = read.Int32(7),
                  .recall = read.Int(8) != 0,
                  .exceeded = read.Int(9) != 0,
                  .ended = read.Int(10) != 0,
                  .owner_id = read.Text(11),
                  .key_id = read.Text(12)};
  const std::int64_t checksum = CounterChecksum(id, counter);
  if (read.OptionalInt(13).value_or(checksum) != checksum) {
    return DamagedCounter(id, "its checksum is another one");
  }
  return counter;
}

bool SqliteOnlyAsks(const SettleBatch& batch) {
  return !batch.rows.empty() && batch.usage.empty() && batch.activity.empty() &&
         std::all_of(batch.rows.begin(), batch.rows.end(),
                     [](const SettleRow& row) { return row.seq == 0; });
}

absl::StatusOr<std::vector<SettleReply>> SqliteAsk(SqliteConnection& db, const SettleBatch& batch) {
  std::vector<SettleReply> replies;
  std::vector<Event> events;
  for (const SettleRow& row : batch.rows) {
    THROTTL_ASSIGN_OR_RETURN(Counter counter, SqliteReadCounter(db, row.counter));
    THROTTL_ASSIGN_OR_RETURN(Lease lease, ReadLease(db, row.counter, batch.holder));
    THROTTL_RETURN_IF_ERROR(CheckCounter(row.counter, counter, lease));
    replies.push_back(ApplySettle(row, batch.now, batch.lease_ttl, counter, lease, events));
  }
  return replies;
}

absl::StatusOr<std::vector<SettleReply>> SqliteSettle(SqliteConnection& db,
                                                      const SettleBatch& batch) {
  std::vector<SettleReply> replies;
  replies.reserve(batch.rows.size());
  std::vector<Event> events;
  absl::Time newest = batch.now;
  for (const SettleRow& row : batch.rows) {
    THROTTL_ASSIGN_OR_RETURN(Counter counter, SqliteReadCounter(db, row.counter));
    THROTTL_ASSIGN_OR_RETURN(Lease lease, ReadLease(db, row.counter, batch.holder));
    THROTTL_RETURN_IF_ERROR(CheckCounter(row.counter, counter, lease));
    const std::int64_t seq_before = lease.seq;
    replies.push_back(ApplySettle(row, batch.now, batch.lease_ttl, counter, lease, events));
    // A row that changed nothing must not make an empty counter either.
    if (lease.seq == seq_before) continue;
    THROTTL_RETURN_IF_ERROR(WriteCounter(db, row.counter, counter));
    THROTTL_RETURN_IF_ERROR(WriteLease(db, row.counter, batch.holder, lease));
    newest = std::max(newest, row.counter.period_start);
  }
  THROTTL_RETURN_IF_ERROR(SqliteAppendEvents(db, events));
  THROTTL_RETURN_IF_ERROR(RememberSettledAt(db, newest));
  for (const UsageRow& row : batch.usage) {
    THROTTL_RETURN_IF_ERROR(WriteUsage(db, batch.holder, row));
  }
  for (const KeyActivity& activity : batch.activity) {
    THROTTL_RETURN_IF_ERROR(SqlitePutActivity(db, activity));
  }
  return replies;
}

absl::Status SqliteCarryOver(SqliteConnection& db, const std::vector<CarryRow>& rows) {
  absl::Time newest = absl::UnixEpoch();
  for (const CarryRow& row : rows) {
    THROTTL_ASSIGN_OR_RETURN(Counter counter, SqliteReadCounter(db, row.counter));
    THROTTL_RETURN_IF_ERROR(CheckCounter(row.counter, counter, Lease{}));
    if (!ApplyCarryOver(row, counter)) continue;
    THROTTL_RETURN_IF_ERROR(WriteCounter(db, row.counter, counter));
    newest = std::max(newest, row.counter.period_start);
  }
  return rows.empty() ? absl::OkStatus() : RememberSettledAt(db, newest);
}

absl::StatusOr<absl::Time> SqliteReadNewestTime(SqliteConnection& db) {
  THROTTL_ASSIGN_OR_RETURN(
      const std::int64_t millis,
      db.ReadNumber("SELECT coalesce(max(CAST(value AS INTEGER)), -1) FROM meta "
                    "WHERE name = 'settled_at'"));
  return millis < 0 ? absl::InfinitePast() : absl::FromUnixMillis(millis);
}

absl::Status SqliteRetireHolder(SqliteConnection& db, HolderId holder, LeaseState end) {
  std::vector<CounterId> ids;
  {
    SqliteStatement read(db,
                         "SELECT subject, period_start FROM lease WHERE holder = ? AND state = 1");
    read.Bind(HolderBits(holder));
    while (read.Step()) ids.push_back({read.Text(0), absl::FromUnixSeconds(read.Int(1))});
    THROTTL_RETURN_IF_ERROR(read.status());
  }
  for (const CounterId& id : ids) {
    THROTTL_ASSIGN_OR_RETURN(Counter counter, SqliteReadCounter(db, id));
    THROTTL_ASSIGN_OR_RETURN(Lease lease, ReadLease(db, id, holder));
    THROTTL_RETURN_IF_ERROR(CheckCounter(id, counter, lease));
    ApplyRetire(end, counter, lease);
    THROTTL_RETURN_IF_ERROR(WriteCounter(db, id, counter));
    THROTTL_RETURN_IF_ERROR(WriteLease(db, id, holder, lease));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CounterId>> SqliteReadDueCounters(SqliteConnection& db, absl::Time now,
                                                             std::int32_t rows_max) {
  // As the index counter_due says it.
  SqliteStatement read(db,
                       "SELECT subject, period_start FROM counter WHERE ended = 0 "
                       "AND used + forfeited > 0 AND period_end <= ? ORDER BY period_end LIMIT ?");
  read.Bind(absl::ToUnixMillis(now)).Bind(rows_max);
  std::vector<CounterId> ids;
  while (read.Step()) ids.push_back({read.Text(0), absl::FromUnixSeconds(read.Int(1))});
  THROTTL_RETURN_IF_ERROR(read.status());
  return ids;
}

absl::StatusOr<std::int64_t> SqliteEndPeriods(SqliteConnection& db, absl::Time now,
                                              std::int32_t rows_max) {
  THROTTL_ASSIGN_OR_RETURN(const std::vector<CounterId> ids,
                           SqliteReadDueCounters(db, now, rows_max));
  THROTTL_RETURN_IF_ERROR(RememberSettledAt(db, now));
  std::vector<Event> events;
  for (const CounterId& id : ids) {
    THROTTL_ASSIGN_OR_RETURN(Counter counter, SqliteReadCounter(db, id));
    if (!ApplyPeriodEnd(id, now, counter, events)) continue;
    THROTTL_RETURN_IF_ERROR(WriteCounter(db, id, counter));
  }
  THROTTL_RETURN_IF_ERROR(SqliteAppendEvents(db, events));
  return static_cast<std::int64_t>(ids.size());
}

absl::StatusOr<std::vector<UsageBucket>> SqliteReadUsage(SqliteConnection& db,
                                                         const UsageQuery& query) {
  constexpr std::int64_t kFirst = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max();
  SqliteStatement read(db, UsageSql(query));
  read.Bind(query.key_id)
      .Bind(query.owner_id)
      .Bind(query.from ? absl::ToUnixMillis(BucketStart(*query.from, query.bucket)) : kFirst)
      .Bind(query.to ? absl::ToUnixMillis(*query.to) : kLast);
  std::vector<UsageBucket> buckets;
  while (read.Step()) {
    const absl::Time start = BucketStart(absl::FromUnixMillis(read.Int(0)), query.bucket);
    if (buckets.empty() || buckets.back().start != start) buckets.push_back({.start = start});
    AddHour(read, buckets.back());
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return buckets;
}

}  // namespace throttl::internal
