// A RateSet is the rate limits of a key, its own and its plan's, ready to decide by.
//
// Thread safety: constant once made.
//
//   THROTTL_ASSIGN_OR_RETURN(RateSet set, RateSet::Create(plan.rate_limits, key.rate_limits));
//   std::uint64_t matched = set.Match({.method = "GET", .endpoint = "/v1/search"});
#ifndef THROTTL_SRC_ENGINE_RATE_RULES_H_
#define THROTTL_SRC_ENGINE_RATE_RULES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/decision.h"
#include "throttl/fixed_string.h"
#include "throttl/plan.h"

#include "src/policy/endpoint_matcher.h"
#include "src/policy/gcra.h"
#include "src/policy/reciprocal.h"
#include "src/policy/sliding_window.h"

namespace throttl::internal {

struct RateQuestion {
  std::uint64_t word = 0;  // of the rate table; 0: at rest
  std::int64_t now_ns = 0;
  std::int64_t cost = 0;  // units
};

struct RateAnswer {
  bool fits = false;
  std::uint64_t word = 0;      // to store when it fits
  std::int64_t remaining = 0;  // units left after this request; refused: before it
  // As in GcraAnswer.
  std::optional<std::int64_t> retry_after_ns = std::nullopt;
};

// Units that a request spent and turned out not to need.
struct RateReturn {
  std::uint64_t word = 0;   // as it is now
  std::uint64_t spent = 0;  // RateAnswer::word of the request
  std::int64_t spent_at_ns = 0;
  std::int64_t now_ns = 0;  // read after `word`
  std::int64_t cost = 0;
};

struct RateRule {
  FixedString<kRateLimitNameBytesMax> name = {};
  std::int64_t limit = 0;
  std::int64_t window_ns = 0;
  absl::Duration window = absl::ZeroDuration();  // the same
  std::int64_t burst = 0;                        // units that fit at once, at rest
  bool slides = false;                           // RateAlgorithm::kSlidingWindow
  bool counts_requests = false;
  bool shadow = false;
  // Whether the clock of 4 ms ticks will not do: less than a second's burst.
  bool wants_fine_clock = false;
  // Of the name and of how words are to be read: limits that differ in it have different words.
  std::uint64_t hash = 0;
  GcraRule gcra = {};
  Reciprocal per_interval = {};  // of GCRA's
  WindowRule sliding = {};

  static absl::StatusOr<RateRule> Create(const RateLimit& limit);

  RateAnswer Spend(const RateQuestion& question) const;
  // RateAnswer::remaining of the answer whose word this is.
  std::int64_t Remaining(std::uint64_t word, std::int64_t now_ns) const;
  // When all of it is there again if nobody spends.
  std::int64_t RestsAtNs(std::uint64_t word, std::int64_t now_ns) const;
  // Whether the word can only come from a clock that is ahead of `now_ns`, and the word without
  // that; REQUIRES for the latter: `fresh_now_ns` was read after the word.
  bool IsAhead(std::uint64_t word, std::int64_t now_ns) const;
  std::uint64_t ClampToNow(std::uint64_t word, std::int64_t fresh_now_ns) const;
  std::uint64_t GiveBack(const RateReturn& units) const;

 private:
  static std::int64_t AsTat(std::uint64_t word) { return static_cast<std::int64_t>(word); }
  RateAnswer SpendSliding(const RateQuestion& question) const;
  std::int64_t SlidingRestsAtNs(std::uint64_t word, std::int64_t now_ns) const;
  std::uint64_t ClampSliding(std::uint64_t word, std::int64_t fresh_now_ns) const;
};

// As RateFreeAt of the rate table: `window_ns` is 0 for GCRA.
std::int64_t RateWordFreeAt(std::uint64_t word, std::int64_t window_ns, std::int64_t now_ns);

class RateSet {
 public:
  // At most so many, whatever the key replaces.
  static constexpr std::size_t kRulesMax = 2 * kRateLimitsMax;

  RateSet() = default;  // no limits
  // A limit of the key replaces that of the plan with the same name. Errors: those of field rules.
  static absl::StatusOr<RateSet> Create(std::span<const RateLimit> of_plan,
                                        std::span<const RateLimit> of_key);

  bool empty() const { return rules_.empty(); }
  // From the narrowest to the widest, in which order they are spent.
  std::span<const RateRule> rules() const { return rules_; }
  // Bit i: rules()[i] applies.
  std::uint64_t Match(const EndpointRequest& request) const {
    return patterns_ == 0 ? general_ : matcher_.Match(request);
  }
  // Whether one of the rules in `matched` wants the fine clock.
  bool WantsFineClock(std::uint64_t matched) const { return (matched & fine_) != 0; }

 private:
  std::vector<RateRule> rules_;
  EndpointMatcher matcher_;
  std::size_t patterns_ = 0;   // of rules with an endpoint
  std::uint64_t general_ = 0;  // rules without one
  std::uint64_t fine_ = 0;
};

// The inline parts follow: they are what a request costs, where the limit is GCRA. Where an answer
// comes back through memory, the processor waits for it.

ABSL_ATTRIBUTE_ALWAYS_INLINE inline RateAnswer RateRule::Spend(const RateQuestion& question) const {
  if (slides) return SpendSliding(question);
  const GcraAnswer answer = internal::Spend(
      gcra, GcraRequest{
                .tat_ns = AsTat(question.word), .now_ns = question.now_ns, .cost = question.cost});
  return {.fits = answer.fits,
          .word = static_cast<std::uint64_t>(answer.tat_ns),
          .remaining = answer.remaining,
          .retry_after_ns = answer.retry_after_ns};
}

inline std::int64_t RateRule::Remaining(std::uint64_t word, std::int64_t now_ns) const {
  if (slides) return SpendSliding({.word = word, .now_ns = now_ns, .cost = 0}).remaining;
  return per_interval.Divide(RoomNs(gcra, AsTat(word), now_ns));
}

inline std::int64_t RateRule::RestsAtNs(std::uint64_t word, std::int64_t now_ns) const {
  return slides ? SlidingRestsAtNs(word, now_ns) : std::max(AsTat(word), now_ns);
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline std::uint64_t RateRule::ClampToNow(
    std::uint64_t word, std::int64_t fresh_now_ns) const {
  if (slides) return ClampSliding(word, fresh_now_ns);
  return static_cast<std::uint64_t>(internal::ClampToNow(gcra, AsTat(word), fresh_now_ns));
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool RateRule::IsAhead(std::uint64_t word,
                                                           std::int64_t now_ns) const {
  return ClampToNow(word, now_ns) != word;
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_RATE_RULES_H_
