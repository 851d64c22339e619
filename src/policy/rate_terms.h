// RateTerms are what a rate limit was asked for, before an algorithm makes its rule of them.
//
// Thread safety: values and pure functions.
//
//   THROTTL_RETURN_IF_ERROR(CheckRate({.limit = 20, .window_ns = 1'000'000'000, .burst = 20}));
#ifndef THROTTL_SRC_POLICY_RATE_TERMS_H_
#define THROTTL_SRC_POLICY_RATE_TERMS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace throttl::internal {

inline constexpr std::int64_t kRateWindowMinNs = 1'000'000;
inline constexpr std::int64_t kRateWindowMaxNs = std::int64_t{31} * 24 * 3'600 * 1'000'000'000;
// The time for one unit: at most 1,000,000 units a second.
inline constexpr std::int64_t kRateIntervalMinNs = 1'000;

struct RateTerms {
  std::int64_t limit = 0;      // units a window, 1..kLimitMax
  std::int64_t window_ns = 0;  // kRateWindowMinNs..kRateWindowMaxNs, whole milliseconds
  std::int64_t burst = 0;      // units at once, 1..kLimitMax; the limit where none was asked for
};

// OK for terms within their bounds that ask for at most 1,000,000 units a second.
// InvalidArgument: names the field, its value and the bound.
absl::Status CheckRate(const RateTerms& terms);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_RATE_TERMS_H_
