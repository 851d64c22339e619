#include "src/policy/gcra.h"

#include "absl/strings/str_cat.h"

#include "throttl/plan.h"

namespace throttl::internal {
namespace {

// The window is divided as it is by others who round against the caller: up.
std::int64_t IntervalOf(const RateTerms& terms) {
  const auto limit = std::clamp<std::int64_t>(terms.limit, 1, kLimitMax);
  const auto window_ns = std::clamp(terms.window_ns, kRateWindowMinNs, kRateWindowMaxNs);
  return std::max(kRateIntervalMinNs, (window_ns + limit - 1) / limit);
}

}  // namespace

absl::Status CheckGcra(const RateTerms& terms) {
  if (absl::Status status = CheckRate(terms); !status.ok()) return status;
  const std::int64_t burst_max = kGcraToleranceMaxNs / IntervalOf(terms);
  if (terms.burst <= burst_max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("burst is ", terms.burst, ", at most ", burst_max,
                   " are allowed at this rate: what can be filled again in ",
                   kGcraToleranceMaxNs / (std::int64_t{24} * 3'600 * 1'000'000'000), " days"));
}

GcraRule MakeGcraRule(const RateTerms& terms) {
  const std::int64_t interval_ns = IntervalOf(terms);
  // An interval is at most 31 days, so there is always room for a unit.
  const auto burst = std::clamp<std::int64_t>(terms.burst, 1, kGcraToleranceMaxNs / interval_ns);
  return {.interval_ns = interval_ns, .burst = burst, .tolerance_ns = interval_ns * burst};
}

}  // namespace throttl::internal
