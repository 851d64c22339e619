#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_record_parts.h"
#include "src/store/sqlite/sqlite_records.h"

namespace throttl::internal {
namespace {

// Numbers that cannot be read are left out; the checksum finds them missing.
std::vector<std::int32_t> ParsePercents(const std::string& text) {
  std::vector<std::int32_t> percents;
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    std::int32_t percent = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), percent);
    if (result.ec == std::errc()) percents.push_back(percent);
  }
  return percents;
}

void BindPlan(SqliteStatement& write, const Plan& plan, const std::string& percents) {
  write.Bind(plan.version).Bind(plan.name);
  BindQuota(write, plan.quota);
  write.Bind(percents).Bind(PlanChecksum(plan)).Bind(plan.id);
}

}  // namespace

absl::StatusOr<std::vector<Plan>> SqliteReadPlans(SqliteConnection& db) {
  std::vector<Plan> plans;
  SqliteStatement read(db,
                       "SELECT id, version, name, quota_limit, quota_period, quota_anchor_day, "
                       "quota_time_zone, quota_scope, quota_soft_percent, alert_percents, "
                       "checksum FROM plan ORDER BY id");
  while (read.Step()) {
    Plan plan{.id = read.Text(0),
              .name = read.Text(2),
              .quota = ReadQuota(read, 3),
              .alert_percents = ParsePercents(read.Text(9)),
              .version = read.Int(1)};
    THROTTL_ASSIGN_OR_RETURN(plan.rate_limits, ReadRateLimits(db, RateLimitsOf::kPlan, plan.id));
    if (PlanChecksum(plan) != read.Int(10)) {
      return absl::DataLossError(
          absl::StrCat("plan \"", plan.id, "\" does not match its checksum in the database"));
    }
    plans.push_back(std::move(plan));
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return plans;
}

absl::Status SqlitePutPlan(SqliteConnection& db, const Plan& plan) {
  const std::string percents = absl::StrJoin(plan.alert_percents, ",");
  if (plan.version == 1) {
    SqliteStatement write(db,
                          "INSERT INTO plan(version, name, quota_limit, quota_period, "
                          "quota_anchor_day, quota_time_zone, quota_scope, quota_soft_percent, "
                          "alert_percents, checksum, id) "
                          "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                          "ON CONFLICT(id) DO NOTHING");
    BindPlan(write, plan, percents);
    THROTTL_RETURN_IF_ERROR(write.Finish());
  } else {
    SqliteStatement write(db,
                          "UPDATE plan SET version = ?1, name = ?2, quota_limit = ?3, "
                          "quota_period = ?4, quota_anchor_day = ?5, quota_time_zone = ?6, "
                          "quota_scope = ?7, quota_soft_percent = ?8, alert_percents = ?9, "
                          "checksum = ?10 WHERE id = ?11 AND version = ?1 - 1");
    BindPlan(write, plan, percents);
    THROTTL_RETURN_IF_ERROR(write.Finish());
  }
  if (db.changes() == 0) {
    return absl::AbortedError(
        absl::StrCat("the stored version of plan \"", plan.id, "\" is not ", plan.version - 1));
  }
  return WriteRateLimits(db, RateLimitsOf::kPlan, plan.id, plan.rate_limits);
}

absl::Status SqliteDeletePlan(SqliteConnection& db, const ChangeSet::Deletion& deletion) {
  {
    SqliteStatement erase(db, "DELETE FROM plan WHERE id = ? AND version = ?");
    erase.Bind(deletion.id).Bind(deletion.version);
    THROTTL_RETURN_IF_ERROR(erase.Finish());
  }
  if (db.changes() == 0) {
    return absl::AbortedError(
        absl::StrCat("the stored version of plan \"", deletion.id, "\" is not ", deletion.version));
  }
  return WriteRateLimits(db, RateLimitsOf::kPlan, deletion.id, {});
}

absl::StatusOr<bool> SqliteHasPlan(SqliteConnection& db, std::string_view plan_id) {
  SqliteStatement read(db, "SELECT 1 FROM plan WHERE id = ?");
  const bool found = read.Bind(plan_id).Step();
  THROTTL_RETURN_IF_ERROR(read.status());
  return found;
}

absl::StatusOr<bool> SqlitePlanIsUsed(SqliteConnection& db, std::string_view plan_id) {
  SqliteStatement read(db,
                       "SELECT 1 FROM api_key WHERE plan_id = ? AND revoked_at IS NULL LIMIT 1");
  const bool found = read.Bind(plan_id).Step();
  THROTTL_RETURN_IF_ERROR(read.status());
  return found;
}

}  // namespace throttl::internal
