// The plans of a new store without their rate limits, for tests of quotas at one moment.
//
// Thread safety: a pure function.
//
//   auto engine = Engine::Open("memory:", {.seed_plans = QuotaPlans()});
#ifndef THROTTL_TESTS_QUOTA_PLANS_H_
#define THROTTL_TESTS_QUOTA_PLANS_H_

#include <vector>

#include "throttl/plan.h"

namespace throttl::testing {

inline std::vector<Plan> QuotaPlans() {
  std::vector<Plan> plans = DefaultPlans();
  for (Plan& plan : plans) plan.rate_limits.clear();
  return plans;
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_QUOTA_PLANS_H_
