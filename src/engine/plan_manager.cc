#include "src/engine/plan_manager.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/base/text_check.h"
#include "src/engine/field_rules.h"

namespace throttl::internal {
namespace {

absl::Status NoSuchPlan(std::string_view plan_id) {
  return absl::NotFoundError(absl::StrCat("no plan has the id ", Quoted(plan_id)));
}

absl::Status CheckOperator(const Caller& caller) {
  if (caller.owner_id.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      "plans are changed by the operator only, and the caller is an owner");
}

}  // namespace

absl::Status PlanManager::Seed() const {
  THROTTL_ASSIGN_OR_RETURN(const std::vector<Plan> stored, List());
  if (!stored.empty() || context_.options.seed_plans.empty()) return absl::OkStatus();
  // A store whose plans were all removed has a log; what was removed on purpose does not come back.
  THROTTL_ASSIGN_OR_RETURN(const std::vector<Event> events, context_.store->ReadEvents(0, 1));
  if (!events.empty()) return absl::OkStatus();
  ChangeSet changes;
  THROTTL_ASSIGN_OR_RETURN(changes.id, context_.NewId("chg_"));
  for (Plan plan : context_.options.seed_plans) {
    plan.version = 1;
    THROTTL_ASSIGN_OR_RETURN(Event event,
                             context_.NewEvent({.type = event_type::kPlanChanged,
                                                .subject_id = plan.id,
                                                .data = "{\"version\":1,\"seeded\":true}"},
                                               {}));
    changes.put_plans.push_back(std::move(plan));
    changes.events.push_back(std::move(event));
  }
  const absl::Status status = context_.change_gate->Apply(changes);
  // Aborted: another process was first.
  return absl::IsAborted(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<Plan>> PlanManager::List() const {
  THROTTL_ASSIGN_OR_RETURN(std::vector<Plan> plans, context_.store->ReadPlans());
  std::sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) { return a.id < b.id; });
  return plans;
}

absl::StatusOr<std::optional<Plan>> PlanManager::Find(std::string_view plan_id) const {
  THROTTL_ASSIGN_OR_RETURN(std::vector<Plan> plans, context_.store->ReadPlans());
  for (Plan& plan : plans) {
    if (plan.id == plan_id) return std::move(plan);
  }
  return std::nullopt;
}

absl::StatusOr<Plan> PlanManager::Get(std::string_view plan_id) const {
  THROTTL_ASSIGN_OR_RETURN(std::optional<Plan> plan, Find(plan_id));
  if (!plan.has_value()) return NoSuchPlan(plan_id);
  return *std::move(plan);
}

absl::StatusOr<Plan> PlanManager::TryPut(const Plan& plan, const Caller& caller,
                                         CarryOver carry_over) const {
  THROTTL_ASSIGN_OR_RETURN(const std::optional<Plan> stored, Find(plan.id));
  // Nothing was used of a plan that is new.
  const bool carries = stored.has_value() && carry_over != CarryOver::kDifference;
  THROTTL_RETURN_IF_ERROR(
      CheckCarryOver(stored.has_value() ? stored->quota : plan.quota, plan.quota, carry_over));
  const std::int64_t stored_version = stored.has_value() ? stored->version : 0;
  Plan put = plan;
  put.version = (plan.version == 0 ? stored_version : plan.version) + 1;
  THROTTL_ASSIGN_OR_RETURN(
      ChangeSet changes,
      context_.NewChange({.type = event_type::kPlanChanged,
                          .subject_id = plan.id,
                          .data = absl::StrCat("{\"version\":", put.version,
                                               carries ? CarryOverMember(carry_over) : "", "}")},
                         caller));
  changes.put_plans.push_back(put);
  const auto make_rows = [&] { return carry_.OfPlan(*stored, put, carry_over); };
  THROTTL_RETURN_IF_ERROR(carries ? context_.change_gate->Apply(std::move(changes), "", make_rows)
                                  : context_.change_gate->Apply(changes));
  return put;
}

absl::StatusOr<Plan> PlanManager::Put(const Plan& plan, const Caller& caller,
                                      CarryOver carry_over) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckOperator(caller));
  THROTTL_RETURN_IF_ERROR(CheckPlan(plan));
  // With a version of its own the caller wants to hear of another change.
  if (plan.version != 0) return TryPut(plan, caller, carry_over);
  return RetryConflicts([&] { return TryPut(plan, caller, carry_over); });
}

absl::Status PlanManager::TryDelete(std::string_view plan_id, const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(const std::optional<Plan> stored, Find(plan_id));
  if (!stored.has_value()) return NoSuchPlan(plan_id);
  THROTTL_ASSIGN_OR_RETURN(
      ChangeSet changes,
      context_.NewChange({.type = event_type::kPlanDeleted,
                          .subject_id = plan_id,
                          .data = absl::StrCat("{\"version\":", stored->version, "}")},
                         caller));
  changes.delete_plans.push_back({.id = stored->id, .version = stored->version});
  return context_.change_gate->Apply(changes);
}

absl::Status PlanManager::Delete(std::string_view plan_id, const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckOperator(caller));
  return RetryConflicts([&] { return TryDelete(plan_id, caller); });
}

}  // namespace throttl::internal
