#include "src/policy/rate_terms.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/plan.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000 * kMs;
constexpr std::int64_t kDay = 24 * 3'600 * kSecond;

TEST_CASE("limits of at most 1,000,000 units a second within their bounds are accepted") {
  for (const RateTerms& terms : std::vector<RateTerms>{{1, kMs, 1},
                                                       {1'000, kMs, 1},
                                                       {1'000'000, kSecond, 1},
                                                       {1, 31 * kDay, kLimitMax},
                                                       {2'678'400'000'000, 31 * kDay, 1},
                                                       {10, 60 * kSecond, 10}}) {
    CAPTURE(terms.limit);
    CHECK(CheckRate(terms).ok());
  }
}

TEST_CASE("terms out of their bounds are refused, and the message gives the value and the bound") {
  const std::string units = ", 1 to 281474976710655 are allowed";
  const std::string window = ", 1ms to 744h are allowed";
  const std::vector<std::pair<RateTerms, std::string>> faults = {
      {{0, kSecond, 1}, "limit is 0" + units},
      {{-1, kSecond, 1}, "limit is -1" + units},
      {{kLimitMax + 1, kSecond, 1}, "limit is 281474976710656" + units},
      {{1, kSecond, 0}, "burst is 0" + units},
      {{1, kSecond, kLimitMax + 1}, "burst is 281474976710656" + units},
      {{1, 0, 1}, "window is 0" + window},
      {{1, -kSecond, 1}, "window is -1s" + window},
      {{1, kMs - 1, 1}, "window is 999.999us" + window},
      {{1, 31 * kDay + kMs, 1}, "window is 744h0.001s" + window},
      {{1, kMs + 1, 1}, "window is 1.000001ms, whole milliseconds are required"},
      {{1'000'001, kSecond, 1},
       "limit is 1000001, at most 1000000 in 1s are allowed: 1,000,000 units a second"},
      {{1'001, kMs, 1}, "limit is 1001, at most 1000 in 1ms are allowed: 1,000,000 units a second"},
      {{kLimitMax, 31 * kDay, 1},
       "limit is 281474976710655, at most 2678400000000 in 744h are allowed: 1,000,000 units a "
       "second"}};
  for (const auto& fault : faults) {
    const absl::Status status = CheckRate(fault.first);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(status.message() == fault.second);
  }
}

}  // namespace
}  // namespace throttl::internal
