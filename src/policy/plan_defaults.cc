#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

#include "throttl/plan.h"

namespace throttl {
namespace {

RateLimit RequestsPerMinute(std::int64_t limit) {
  return {.name = "requests",
          .limit = limit,
          .window = absl::Minutes(1),
          .counts = RateCost::kRequests};
}

}  // namespace

std::vector<Plan> DefaultPlans() {
  return {
      {.id = "free",
       .name = "Free",
       .quota = Quota{.limit = 1'000},
       .rate_limits = {RequestsPerMinute(10)}},
      {.id = "pro",
       .name = "Pro",
       .quota = Quota{.limit = 50'000},
       .rate_limits = {RequestsPerMinute(100)}},
      {.id = "enterprise",
       .name = "Enterprise",
       .quota = Quota{.limit = 500'000},
       .rate_limits = {RequestsPerMinute(1'000)}},
  };
}

std::string_view PeriodName(Period period) {
  switch (period) {
    case Period::kHour:
      return "hour";
    case Period::kDay:
      return "day";
    case Period::kWeek:
      return "week";
    case Period::kMonth:
      return "month";
    case Period::kYear:
      return "year";
    case Period::kLifetime:
      return "lifetime";
  }
  return {};
}

}  // namespace throttl
