// Plans through the C ABI.
#include <optional>
#include <utility>
#include <vector>

#include "src/capi/capi_call.h"
#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

// How often a change that lost a race with another one is read and tried again.
constexpr int kConflictTriesMax = 16;

struct PlanChange {
  std::string id = {};
  std::optional<std::int64_t> version = std::nullopt;
  CarryOver carry_over = CarryOver::kDifference;
  Json settings = Json::object();  // a merge patch
};

absl::StatusOr<PlanChange> ReadChange(const ManagementCall& call) {
  PlanChange change;
  call.members.Integer("version", change.version);
  ReadCarryOver(call.members, change.carry_over);
  // What is no setting, or of another type, is found before anything is merged.
  Plan unused;
  ReadPlan(call.members, unused);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  change.id = unused.id;
  change.settings = call.members.object();
  for (const char* const name : {"version", "carry_over", "caller"}) change.settings.erase(name);
  return change;
}

absl::StatusOr<Plan> TryPut(const ManagementCall& call, const PlanChange& change) {
  const absl::StatusOr<Plan> stored = call.engine.GetPlan(change.id);
  if (!stored.ok() && !absl::IsNotFound(stored.status())) return stored.status();
  Json merged = ToJson(stored.ok() ? *stored : Plan{});
  merged.erase("version");
  merged.merge_patch(change.settings);
  Plan plan;
  ObjectReader reader(merged, "");
  ReadPlan(reader, plan);
  const absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  plan.version = change.version.value_or(stored.ok() ? stored->version : 0);
  return call.engine.PutPlan(plan, call.caller, change.carry_over);
}

absl::StatusOr<std::string> Put(const ManagementCall& call) {
  const absl::StatusOr<PlanChange> change = ReadChange(call);
  if (!change.ok()) return change.status();
  for (int tries = 1;; ++tries) {
    const absl::StatusOr<Plan> put = TryPut(call, *change);
    if (put.ok()) return TextOfJson(ToJson(*put));
    // With a version of its own the caller wants to hear of another change.
    const bool again = absl::IsAborted(put.status()) && !change->version.has_value();
    if (!again || tries == kConflictTriesMax) return put.status();
  }
}

absl::StatusOr<std::string> Delete(const ManagementCall& call) {
  std::string id;
  call.members.String("id", id);
  absl::Status status = call.members.Finish();
  if (status.ok()) status = call.engine.DeletePlan(id, call.caller);
  if (!status.ok()) return status;
  return "null";
}

absl::StatusOr<std::string> Get(const ManagementCall& call) {
  std::string id;
  call.members.String("id", id);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<Plan> plan = call.engine.GetPlan(id);
  if (!plan.ok()) return plan.status();
  return TextOfJson(ToJson(*plan));
}

absl::StatusOr<std::string> List(const ManagementCall& call) {
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<std::vector<Plan>> plans = call.engine.ListPlans();
  if (!plans.ok()) return plans.status();
  Json list = Json::array();
  for (const Plan& plan : *plans) list.push_back(ToJson(plan));
  return TextOfJson(list);
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

THROTTL_DEFINE_CALL(throttl_plan_put, Put)
THROTTL_DEFINE_CALL(throttl_plan_delete, Delete)
THROTTL_DEFINE_CALL(throttl_plan_get, Get)
THROTTL_DEFINE_CALL(throttl_plan_list, List)

}  // extern "C"
