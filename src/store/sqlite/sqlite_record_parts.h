// The parts that plans and keys have in common: a quota in six columns, rate limits in rows,
// checksums.
//
// Thread safety: as the connection.
//
//   BindQuota(write, plan.quota);
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_RECORD_PARTS_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_RECORD_PARTS_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/quota_store.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

std::optional<std::int64_t> ToMillis(const std::optional<absl::Time>& time);
std::optional<absl::Time> FromMillis(const std::optional<std::int64_t>& millis);

// quota_limit, quota_period, quota_anchor_day, quota_time_zone, quota_scope, quota_soft_percent.
// `quota` lives until the statement goes.
void BindQuota(SqliteStatement& write, const std::optional<Quota>& quota);
std::optional<Quota> ReadQuota(const SqliteStatement& read, int first_column);

enum class RateLimitsOf : std::int32_t { kPlan = 1, kKey = 2 };
absl::StatusOr<std::vector<RateLimit>> ReadRateLimits(SqliteConnection& db, RateLimitsOf of,
                                                      std::string_view parent_id);
// Replaces those that are stored.
absl::Status WriteRateLimits(SqliteConnection& db, RateLimitsOf of, std::string_view parent_id,
                             const std::vector<RateLimit>& limits);

std::int64_t PlanChecksum(const Plan& plan);
std::int64_t CounterChecksum(const CounterId& id, const Counter& counter);
std::int64_t LeaseChecksum(const CounterId& id, HolderId holder, const Lease& lease);
// Over the settings and secrets; not over last_used_at and detector_state.
std::int64_t KeyChecksum(const KeyRecord& record);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_RECORD_PARTS_H_
