#include "src/store/sqlite/sqlite_record_parts.h"

#include <algorithm>
#include <bit>
#include <string>

#include "src/base/checksum.h"
#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

void AddQuota(Checksum& sum, const std::optional<Quota>& quota) {
  sum.Add(std::int64_t{quota.has_value()});
  if (!quota.has_value()) return;
  sum.Add(quota->limit);
  sum.Add(static_cast<std::int64_t>(quota->period));
  sum.Add(std::int64_t{quota->anchor_day});
  sum.Add(quota->time_zone);
  sum.Add(static_cast<std::int64_t>(quota->scope));
}

void AddRateLimits(Checksum& sum, const std::vector<RateLimit>& limits) {
  sum.Add(static_cast<std::int64_t>(limits.size()));
  for (const RateLimit& limit : limits) {
    sum.Add(limit.name);
    sum.Add(limit.limit);
    sum.Add(absl::ToInt64Nanoseconds(limit.window));
    sum.Add(limit.burst);
    sum.Add(limit.endpoint);
  }
}

// What version 3 of the schema has added, after all that version 2 had: nothing if all of it is the
// default, so that the checksums of version 2 still match.
void AddVersion3(Checksum& sum, const std::optional<Quota>& quota,
                 const std::vector<RateLimit>& limits) {
  const RateLimit plain;
  const bool limits_are_plain =
      std::all_of(limits.begin(), limits.end(), [&plain](const RateLimit& limit) {
        return limit.algorithm == plain.algorithm && limit.counts == plain.counts &&
               limit.shadow == plain.shadow;
      });
  const std::int32_t soft_percent = quota.value_or(Quota()).soft_percent;
  if (limits_are_plain && soft_percent == 0) return;
  sum.Add(std::int64_t{soft_percent});
  for (const RateLimit& limit : limits) {
    sum.Add(static_cast<std::int64_t>(limit.algorithm));
    sum.Add(static_cast<std::int64_t>(limit.counts));
    sum.Add(std::int64_t{limit.shadow});
  }
}

void AddTexts(Checksum& sum, const std::vector<std::string>& texts) {
  sum.Add(static_cast<std::int64_t>(texts.size()));
  for (const std::string& text : texts) sum.Add(text);
}

}  // namespace

std::optional<std::int64_t> ToMillis(const std::optional<absl::Time>& time) {
  if (!time.has_value()) return std::nullopt;
  return absl::ToUnixMillis(*time);
}

std::optional<absl::Time> FromMillis(const std::optional<std::int64_t>& millis) {
  if (!millis.has_value()) return std::nullopt;
  return absl::FromUnixMillis(*millis);
}

void BindQuota(SqliteStatement& write, const std::optional<Quota>& quota) {
  if (!quota.has_value()) {
    write.Bind(std::optional<std::int64_t>()).Bind(0).Bind(0).Bind("").Bind(0).Bind(0);
    return;
  }
  write.Bind(quota->limit)
      .Bind(static_cast<std::int64_t>(quota->period))
      .Bind(quota->anchor_day)
      .Bind(quota->time_zone)
      .Bind(static_cast<std::int64_t>(quota->scope))
      .Bind(quota->soft_percent);
}

std::optional<Quota> ReadQuota(const SqliteStatement& read, int first_column) {
  const std::optional<std::int64_t> limit = read.OptionalInt(first_column);
  if (!limit.has_value()) return std::nullopt;
  return Quota{.limit = *limit,
               .period = static_cast<Period>(read.Int(first_column + 1)),
               .anchor_day = read.Int32(first_column + 2),
               .time_zone = read.Text(first_column + 3),
               .scope = static_cast<QuotaScope>(read.Int(first_column + 4)),
               .soft_percent = read.Int32(first_column + 5)};
}

absl::StatusOr<std::vector<RateLimit>> ReadRateLimits(SqliteConnection& db, RateLimitsOf of,
                                                      std::string_view parent_id) {
  SqliteStatement read(db,
                       "SELECT name, unit_limit, window_ns, burst, endpoint, algorithm, counts, "
                       "shadow FROM rate_limit WHERE of = ? AND parent_id = ? ORDER BY position");
  read.Bind(static_cast<std::int32_t>(of)).Bind(parent_id);
  std::vector<RateLimit> limits;
  while (read.Step()) {
    limits.push_back({.name = read.Text(0),
                      .limit = read.Int(1),
                      .window = absl::Nanoseconds(read.Int(2)),
                      .burst = read.OptionalInt(3),
                      .endpoint = read.Text(4),
                      .algorithm = static_cast<RateAlgorithm>(read.Int(5)),
                      .counts = static_cast<RateCost>(read.Int(6)),
                      .shadow = read.Int(7) != 0});
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return limits;
}

absl::Status WriteRateLimits(SqliteConnection& db, RateLimitsOf of, std::string_view parent_id,
                             const std::vector<RateLimit>& limits) {
  {
    SqliteStatement erase(db, "DELETE FROM rate_limit WHERE of = ? AND parent_id = ?");
    erase.Bind(static_cast<std::int32_t>(of)).Bind(parent_id);
    THROTTL_RETURN_IF_ERROR(erase.Finish());
  }
  std::int64_t position = 0;
  for (const RateLimit& limit : limits) {
    SqliteStatement write(db,
                          "INSERT INTO rate_limit(of, parent_id, position, name, unit_limit, "
                          "window_ns, burst, endpoint, algorithm, counts, shadow) "
                          "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    write.Bind(static_cast<std::int32_t>(of))
        .Bind(parent_id)
        .Bind(position++)
        .Bind(limit.name)
        .Bind(limit.limit)
        .Bind(absl::ToInt64Nanoseconds(limit.window))
        .Bind(limit.burst)
        .Bind(limit.endpoint)
        .Bind(static_cast<std::int64_t>(limit.algorithm))
        .Bind(static_cast<std::int64_t>(limit.counts))
        .Bind(std::int64_t{limit.shadow});
    THROTTL_RETURN_IF_ERROR(write.Finish());
  }
  return absl::OkStatus();
}

std::int64_t PlanChecksum(const Plan& plan) {
  Checksum sum;
  sum.Add(plan.id);
  sum.Add(plan.version);
  sum.Add(plan.name);
  AddQuota(sum, plan.quota);
  AddRateLimits(sum, plan.rate_limits);
  sum.Add(static_cast<std::int64_t>(plan.alert_percents.size()));
  for (const std::int32_t percent : plan.alert_percents) sum.Add(std::int64_t{percent});
  AddVersion3(sum, plan.quota, plan.rate_limits);
  return sum.Value();
}

std::int64_t CounterChecksum(const CounterId& id, const Counter& counter) {
  Checksum sum;
  sum.Add(id.subject);
  sum.Add(absl::ToUnixSeconds(id.period_start));
  sum.Add(ToMillis(counter.period_end));
  sum.Add(counter.limit);
  sum.Add(counter.limit_version);
  sum.Add(counter.used);
  sum.Add(counter.charged);
  sum.Add(counter.forfeited);
  sum.Add(std::int64_t{counter.open_leases});
  sum.Add(std::int64_t{counter.alerted_percent});
  sum.Add(std::int64_t{counter.recall});
  sum.Add(std::int64_t{counter.exceeded});
  sum.Add(std::int64_t{counter.ended});
  sum.Add(counter.owner_id);
  sum.Add(counter.key_id);
  // Of version 4.
  if (counter.forgiven != 0 || counter.added != 0) {
    sum.Add(counter.forgiven);
    sum.Add(counter.added);
  }
  return sum.Value();
}

std::int64_t LeaseChecksum(const CounterId& id, HolderId holder, const Lease& lease) {
  Checksum sum;
  sum.Add(id.subject);
  sum.Add(absl::ToUnixSeconds(id.period_start));
  sum.Add(std::bit_cast<std::int64_t>(static_cast<std::uint64_t>(holder)));
  sum.Add(static_cast<std::int64_t>(lease.state));
  sum.Add(lease.seq);
  sum.Add(lease.allowance);
  sum.Add(lease.used);
  sum.Add(ToMillis(lease.expires_at));
  return sum.Value();
}

std::int64_t KeyChecksum(const KeyRecord& record) {
  const Key& key = record.key;
  Checksum sum;
  sum.Add(key.id);
  sum.Add(key.version);
  sum.Add(key.owner_id);
  sum.Add(key.plan_id);
  sum.Add(key.name);
  sum.Add(std::int64_t{key.enabled});
  sum.Add(ToMillis(key.expires_at));
  AddTexts(sum, key.scopes);
  AddTexts(sum, key.addresses);
  AddQuota(sum, key.quota);
  AddRateLimits(sum, key.rate_limits);
  sum.Add(key.metadata);
  sum.Add(key.secret_prefix);
  sum.Add(absl::ToUnixMillis(key.created_at));
  sum.Add(ToMillis(key.revoked_at));
  sum.Add(static_cast<std::int64_t>(record.secrets.size()));
  for (const SecretRecord& secret : record.secrets) {
    sum.Add(secret.info.locator);
    sum.Add(secret.info.last4);
    sum.Add(absl::ToUnixMillis(secret.info.created_at));
    sum.Add(ToMillis(secret.info.expires_at));
    sum.Add(std::string_view(reinterpret_cast<const char*>(secret.digest.data()),
                             secret.digest.size()));
    sum.Add(std::int64_t{secret.pepper_version});
  }
  AddVersion3(sum, key.quota, key.rate_limits);
  return sum.Value();
}

}  // namespace throttl::internal
