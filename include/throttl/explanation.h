// An Explanation says what would become of a request, and how every limit that applies to it
// stands: for people who ask why a key was refused.
//
// Thread safety: values.
//
//   auto why = engine.Explain("key_1", {.method = "GET", .endpoint = "/v1/search"});
//   for (const throttl::ExplainedLimit& limit : why->limits) Print(limit.name, limit.remaining);
#ifndef THROTTL_EXPLANATION_H_
#define THROTTL_EXPLANATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "throttl/decision.h"

namespace throttl {

enum class LimitKind : std::uint8_t { kRateLimit = 1, kQuota = 2 };

struct ExplainedLimit {
  LimitKind kind = LimitKind::kRateLimit;
  std::string name = {};      // of a quota: its period, "month"
  std::string endpoint = {};  // the pattern that matched; empty: every request
  bool of_key = false;        // the key's own, and not its plan's
  bool shadow = false;
  bool refuses = false;        // also a shadow limit, which refuses nobody
  std::int64_t limit = 0;      // units a window
  std::int64_t at_rest = 0;    // units that fit at once when nothing was spent
  std::int64_t remaining = 0;  // units that fit at once now
  std::optional<absl::Duration> window = std::nullopt;  // std::nullopt: for ever
  std::optional<absl::Time> resets_at = std::nullopt;   // when at_rest fit; std::nullopt: never
  std::optional<absl::Duration> retry_after = std::nullopt;  // as in Decision, for this limit alone
};

struct Explanation {
  // What the decision would be on any live secret of the key.
  DecisionCode code = DecisionCode::kStoreUnavailable;
  absl::Time at = absl::UnixEpoch();
  // The rate limits, in the order in which they are spent, and then the quota, if there is one.
  std::vector<ExplainedLimit> limits = {};
};

}  // namespace throttl

#endif  // THROTTL_EXPLANATION_H_
