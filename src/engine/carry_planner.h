// A CarryPlanner says what a change of a quota does to usage in the running period: which changes
// may carry it over in which way, and the counters that a store must change with the quota.
//
// Thread safety: as Engine.
//
//   THROTTL_RETURN_IF_ERROR(CheckCarryOver(stored.quota, plan.quota, carry_over));
//   THROTTL_ASSIGN_OR_RETURN(changes.carry_overs, planner.OfPlan(stored, plan, carry_over));
#ifndef THROTTL_SRC_ENGINE_CARRY_PLANNER_H_
#define THROTTL_SRC_ENGINE_CARRY_PLANNER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/key.h"
#include "throttl/plan.h"
#include "throttl/settle.h"

#include "src/engine/engine_context.h"
#include "src/engine/settler.h"

namespace throttl::internal {

// "difference", "reset", "proportional", "additive".
std::string_view CarryOverName(CarryOver carry_over);

// For an event's data: ',"carry_over":"reset"'.
std::string CarryOverMember(CarryOver carry_over);

// InvalidArgument: there is no such way; another period, anchor, time zone or scope needs kReset;
// kProportional and kAdditive need a limit before and after.
absl::Status CheckCarryOver(const std::optional<Quota>& before, const std::optional<Quota>& after,
                            CarryOver carry_over);

// CheckCarryOver for the change of one key. A count that an owner's keys share is not changed by
// one of them: then, InvalidArgument unless carry_over is kDifference. `before` and `after` have
// their plans.
struct KeyOnPlan {
  const Key& key;
  const Plan& plan;
};
absl::Status CheckCarryOver(const KeyOnPlan& before, const KeyOnPlan& after, CarryOver carry_over);

class CarryPlanner {
 public:
  // Both outlive this.
  CarryPlanner(const EngineContext& context, Settler& settler)
      : context_(context), settler_(settler) {}

  // REQUIRES: the caller holds the commit lock; carry_over is checked, and not kDifference. Both
  // settle, so that the store knows what was used until now. What is used while the change is under
  // way counts as used after it.
  absl::StatusOr<std::vector<CarryRow>> OfPlan(const Plan& before, const Plan& after,
                                               CarryOver carry_over) const;
  absl::StatusOr<std::vector<CarryRow>> OfKey(const KeyOnPlan& before, const KeyOnPlan& after,
                                              CarryOver carry_over) const;

 private:
  const EngineContext& context_;
  Settler& settler_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_CARRY_PLANNER_H_
