// A limit policy is one limit of a decision as HTTP tells it: the rate limit, or the quota.
//
// Thread safety: pure functions.
//
//   for (const LimitPolicy& policy : PoliciesOf(decision)) Append(policy.name, policy.remaining);
#ifndef THROTTL_SRC_HTTP_LIMIT_POLICY_H_
#define THROTTL_SRC_HTTP_LIMIT_POLICY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

#include "throttl/decision.h"

namespace throttl::internal {

struct LimitPolicy {
  std::string name = {};                                // printable ASCII
  std::int64_t limit = 0;                               // never negative
  std::int64_t remaining = 0;                           // never negative
  std::optional<std::int64_t> window_s = std::nullopt;  // above 0; std::nullopt: not whole seconds
  // After decided_at, never negative and finite; std::nullopt: never. For the policy that refused
  // no later than the decision's retry_after.
  std::optional<absl::Duration> until_more = std::nullopt;
  std::optional<absl::Duration> until_reset = std::nullopt;
  bool refused = false;
};

// The rate limit first, the quota second; each only where the decision knows it, and none where the
// decision is about something else than units.
std::vector<LimitPolicy> PoliciesOf(const Decision& decision);

// The one that refused, as PoliciesOf names it; empty: none did.
std::string ViolatedPolicyName(const Decision& decision);

// `time` rounded up to whole seconds, 0 to kSecondsMax.
inline constexpr std::int64_t kSecondsMax = 999'999'999'999'999;  // RFC 9651, section 3.3.1
std::int64_t WholeSeconds(absl::Duration time);

// What Retry-After says, at least 1; std::nullopt: nothing.
std::optional<std::int64_t> RetryAfterSeconds(const Decision& decision);

// `text` with '?' in place of each byte that is not printable ASCII.
std::string PrintableAscii(std::string_view text);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_HTTP_LIMIT_POLICY_H_
