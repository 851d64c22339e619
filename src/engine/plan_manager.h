// A PlanManager makes, changes and removes plans.
//
// Thread safety: as Engine.
//
//   THROTTL_ASSIGN_OR_RETURN(const Plan plan, plans.Get("free"));
#ifndef THROTTL_SRC_ENGINE_PLAN_MANAGER_H_
#define THROTTL_SRC_ENGINE_PLAN_MANAGER_H_

#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "src/engine/carry_planner.h"
#include "src/engine/engine_context.h"

namespace throttl::internal {

class PlanManager {
 public:
  // Both outlive this.
  PlanManager(const EngineContext& context, const CarryPlanner& carry)
      : context_(context), carry_(carry) {}

  // Writes the seed plans, all at once, unless the store has ever had a plan.
  absl::Status Seed() const;

  // What Engine's methods of these names promise.
  absl::StatusOr<Plan> Put(const Plan& plan, const Caller& caller,
                           CarryOver carry_over = CarryOver::kDifference) const;
  absl::Status Delete(std::string_view plan_id, const Caller& caller) const;
  absl::StatusOr<Plan> Get(std::string_view plan_id) const;
  absl::StatusOr<std::vector<Plan>> List() const;

  // The plan, or std::nullopt.
  absl::StatusOr<std::optional<Plan>> Find(std::string_view plan_id) const;

 private:
  absl::StatusOr<Plan> TryPut(const Plan& plan, const Caller& caller, CarryOver carry_over) const;
  absl::Status TryDelete(std::string_view plan_id, const Caller& caller) const;

  const EngineContext& context_;
  const CarryPlanner& carry_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_PLAN_MANAGER_H_
