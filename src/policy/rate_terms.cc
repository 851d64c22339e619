#include "src/policy/rate_terms.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "throttl/plan.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kWholeNs = 1'000'000;  // windows are whole milliseconds

absl::Status TermError(absl::string_view field, absl::string_view value, absl::string_view bound) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", ", bound));
}

absl::Status CheckUnits(absl::string_view field, std::int64_t units) {
  if (units >= 1 && units <= kLimitMax) return absl::OkStatus();
  return TermError(field, absl::StrCat(units), absl::StrCat("1 to ", kLimitMax, " are allowed"));
}

}  // namespace

absl::Status CheckRate(const RateTerms& terms) {
  if (absl::Status status = CheckUnits("limit", terms.limit); !status.ok()) return status;
  const std::string window = absl::FormatDuration(absl::Nanoseconds(terms.window_ns));
  if (terms.window_ns < kRateWindowMinNs || terms.window_ns > kRateWindowMaxNs) {
    return TermError(
        "window", window,
        absl::StrCat(absl::FormatDuration(absl::Nanoseconds(kRateWindowMinNs)), " to ",
                     absl::FormatDuration(absl::Nanoseconds(kRateWindowMaxNs)), " are allowed"));
  }
  if (terms.window_ns % kWholeNs != 0) {
    return TermError("window", window, "whole milliseconds are required");
  }
  const std::int64_t limit_max = terms.window_ns / kRateIntervalMinNs;
  if (terms.limit > limit_max) {
    return TermError("limit", absl::StrCat(terms.limit),
                     absl::StrCat("at most ", limit_max, " in ", window,
                                  " are allowed: 1,000,000 units a second"));
  }
  return CheckUnits("burst", terms.burst);
}

}  // namespace throttl::internal
