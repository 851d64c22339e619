#include "src/engine/carry_planner.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "throttl/quota_store.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/base/text_check.h"
#include "src/engine/subject.h"
#include "src/lease/fault_point.h"

namespace throttl::internal {
namespace {

// What the periods of a quota are, for people: "month from day 1 in UTC, for each key".
std::string PeriodsOf(const Quota& quota) {
  return absl::StrCat(AbslView(PeriodName(quota.period)), " from day ", quota.anchor_day, " in ",
                      quota.time_zone,
                      quota.scope == QuotaScope::kOwner ? ", for each owner" : ", for each key");
}

bool HaveSamePeriods(const Quota& a, const Quota& b) {
  return a.period == b.period && a.anchor_day == b.anchor_day && a.time_zone == b.time_zone &&
         a.scope == b.scope;
}

std::optional<std::int64_t> LimitOf(const std::optional<Quota>& quota) {
  if (!quota.has_value()) return std::nullopt;
  return quota->limit;
}

const std::optional<Quota>& QuotaOf(const KeyOnPlan& of) {
  return of.key.quota.has_value() ? of.key.quota : of.plan.quota;
}

}  // namespace

std::string_view CarryOverName(CarryOver carry_over) {
  switch (carry_over) {
    case CarryOver::kDifference:
      return "difference";
    case CarryOver::kReset:
      return "reset";
    case CarryOver::kProportional:
      return "proportional";
    case CarryOver::kAdditive:
      return "additive";
  }
  return "";
}

std::string CarryOverMember(CarryOver carry_over) {
  return absl::StrCat(",\"carry_over\":\"", AbslView(CarryOverName(carry_over)), "\"");
}

absl::Status CheckCarryOver(const std::optional<Quota>& before, const std::optional<Quota>& after,
                            CarryOver carry_over) {
  const std::string_view name = CarryOverName(carry_over);
  if (name.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("carry_over is ", static_cast<int>(carry_over), ", 1 to 4 are allowed"));
  }
  if (carry_over == CarryOver::kReset) return absl::OkStatus();
  if (before.has_value() && after.has_value() && !HaveSamePeriods(*before, *after)) {
    return absl::InvalidArgumentError(
        absl::StrCat("carry_over is ", AbslView(name), ", and the quota changes from each ",
                     PeriodsOf(*before), ", to each ", PeriodsOf(*after), ": that needs reset"));
  }
  if (carry_over == CarryOver::kDifference || (before.has_value() && after.has_value())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("carry_over is ", AbslView(name), ", which needs a quota before and after, and ",
                   before.has_value() ? "the new" : "the old", " one has no limit"));
}

absl::Status CheckCarryOver(const KeyOnPlan& before, const KeyOnPlan& after, CarryOver carry_over) {
  const bool of_key = !IsOfOwner(before.key, before.plan) && !IsOfOwner(after.key, after.plan);
  if (of_key) return CheckCarryOver(QuotaOf(before), QuotaOf(after), carry_over);
  if (carry_over == CarryOver::kDifference) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("carry_over is ", static_cast<int>(carry_over),
                   ", and the quota is one that the owner's keys share: only ",
                   static_cast<int>(CarryOver::kDifference), " (difference) is allowed"));
}

absl::StatusOr<std::vector<CarryRow>> CarryPlanner::OfKey(const KeyOnPlan& before,
                                                          const KeyOnPlan& after,
                                                          CarryOver carry_over) const {
  THROTTL_RETURN_IF_ERROR(CheckCarryOver(before, after, carry_over));
  THROTTL_RETURN_IF_ERROR(settler_.SettleHoldingCommitLock());
  THROTTL_ASSIGN_OR_RETURN(const CountedAs counted,
                           SubjectOf(after.key, after.plan, context_.Now()));
  return std::vector<CarryRow>{{.counter = counted.counter,
                                .carry_over = carry_over,
                                .period_end = counted.period_end,
                                .limit_before = LimitOf(QuotaOf(before)),
                                .limit = LimitOf(counted.quota),
                                .limit_version = LimitVersionOf(after.key.version, after.plan),
                                .owner_id = after.key.owner_id,
                                .key_id = after.key.id}};
}

absl::StatusOr<std::vector<CarryRow>> CarryPlanner::OfPlan(const Plan& before, const Plan& after,
                                                           CarryOver carry_over) const {
  THROTTL_RETURN_IF_ERROR(settler_.SettleHoldingCommitLock());
  THROTTL_FAULT_POINT("carry.settled");
  // All subjects of the plan have the same period.
  THROTTL_ASSIGN_OR_RETURN(const CountedAs counted, SubjectOf(Key{}, after, context_.Now()));
  CarryRow row{.counter = counted.counter,
               .carry_over = carry_over,
               .period_end = counted.period_end,
               .limit_before = LimitOf(before.quota),
               .limit = LimitOf(after.quota)};
  std::vector<CarryRow> rows;
  std::set<std::string> owners;
  KeyQuery query{.plan_id = after.id, .include_revoked = false, .count_max = kStoreBatchMax};
  do {
    THROTTL_ASSIGN_OR_RETURN(Page<KeyRecord> page, context_.store->ListKeys(query));
    for (const KeyRecord& record : page.items) {
      const Key& key = record.key;
      if (key.quota.has_value()) continue;
      const bool of_owner = IsOfOwner(key, after);
      if (of_owner && !owners.insert(key.owner_id).second) continue;
      row.counter.subject = SubjectNameOf(key, after);
      row.limit_version = of_owner ? after.version : LimitVersionOf(key.version, after);
      row.owner_id = key.owner_id;
      row.key_id = of_owner ? "" : key.id;
      rows.push_back(row);
    }
    query.cursor = std::move(page.next_cursor);
  } while (!query.cursor.empty());
  return rows;
}

}  // namespace throttl::internal
