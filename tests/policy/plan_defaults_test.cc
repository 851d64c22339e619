#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/plan.h"

namespace throttl {
namespace {

TEST_CASE(
    "free, pro and enterprise: 1,000, 50,000 and 500,000 requests a month; 10, 100 and 1,000 a "
    "minute") {
  struct Expected {
    std::string id;
    std::string name;
    std::int64_t per_month;
    std::int64_t per_minute;
  };
  const std::vector<Expected> expected = {{"free", "Free", 1'000, 10},
                                          {"pro", "Pro", 50'000, 100},
                                          {"enterprise", "Enterprise", 500'000, 1'000}};
  const std::vector<Plan> plans = DefaultPlans();
  REQUIRE(plans.size() == expected.size());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    CAPTURE(i);
    CHECK(plans[i].id == expected[i].id);
    CHECK(plans[i].name == expected[i].name);
    REQUIRE(plans[i].quota.has_value());
    CHECK(plans[i].quota->limit == expected[i].per_month);
    CHECK(plans[i].quota->period == Period::kMonth);
    CHECK(plans[i].quota->anchor_day == 1);
    CHECK(plans[i].quota->time_zone == "UTC");
    CHECK(plans[i].quota->scope == QuotaScope::kKey);
    REQUIRE(plans[i].rate_limits.size() == 1);
    CHECK(plans[i].rate_limits[0].name == "requests");
    CHECK(plans[i].rate_limits[0].limit == expected[i].per_minute);
    CHECK(plans[i].rate_limits[0].window == absl::Minutes(1));
    CHECK(!plans[i].rate_limits[0].burst.has_value());
    CHECK(plans[i].rate_limits[0].endpoint.empty());
    CHECK(plans[i].alert_percents == std::vector<std::int32_t>{90, 100});
    CHECK(plans[i].version == 0);
  }
}

TEST_CASE("each period has its name, and a number that is no period has none") {
  CHECK(PeriodName(Period::kHour) == "hour");
  CHECK(PeriodName(Period::kDay) == "day");
  CHECK(PeriodName(Period::kWeek) == "week");
  CHECK(PeriodName(Period::kMonth) == "month");
  CHECK(PeriodName(Period::kYear) == "year");
  CHECK(PeriodName(Period::kLifetime) == "lifetime");
  CHECK(PeriodName(static_cast<Period>(0)).empty());
  CHECK(PeriodName(static_cast<Period>(7)).empty());
}

}  // namespace
}  // namespace throttl
