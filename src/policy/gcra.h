// A GCRA bucket is one word, the theoretical arrival time (TAT): when the bucket will be full again
// if nobody spends, in nanoseconds since the epoch. A TAT in the past says nothing: the bucket is
// full.
//
// The generic cell rate algorithm (ITU-T I.371, virtual scheduling): a unit moves the TAT on by one
// interval, and fits while the TAT stays within the tolerance, burst * interval, of now. The answer
// is a function of (rule, TAT, now, cost), so a compare-and-swap of the word is a whole admission.
//
// Rounding: the interval is window / limit rounded up to a nanosecond. So the sustained rate is
// never above what was asked for, and less than 0.1 % below it, since an interval is 1,000 ns or
// more. In any span of t ns at most burst + t / interval units are admitted.
//
// Thread safety: pure functions on values. No function here but CheckRate allocates.
//
//   const GcraRule rule = MakeGcraRule({.limit = 20, .window_ns = 1'000'000'000, .burst = 20});
//   const GcraAnswer answer = Spend(rule, {.tat_ns = word, .now_ns = now, .cost = 1});
//   if (answer.fits) ...  // swap the word for answer.tat_ns
#ifndef THROTTL_SRC_POLICY_GCRA_H_
#define THROTTL_SRC_POLICY_GCRA_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "absl/status/status.h"

#include "src/policy/rate_terms.h"

namespace throttl::internal {

// The time in which a bucket fills, burst * interval, is at most this.
inline constexpr std::int64_t kGcraToleranceMaxNs = std::int64_t{366} * 24 * 3'600 * 1'000'000'000;
// Clock readings beyond are taken for this one, in the year 2261, and those before the epoch for
// the epoch.
inline constexpr std::int64_t kGcraNowMaxNs =
    std::numeric_limits<std::int64_t>::max() - kGcraToleranceMaxNs;

struct GcraRule {
  std::int64_t interval_ns = 0;   // for one unit; kRateIntervalMinNs or more
  std::int64_t burst = 0;         // units of a full bucket, 1 or more
  std::int64_t tolerance_ns = 0;  // interval_ns * burst, at most kGcraToleranceMaxNs

  friend bool operator==(const GcraRule&, const GcraRule&) = default;
};

// OK for terms that CheckRate accepts and whose bucket fills in kGcraToleranceMaxNs or less.
// OutOfRange or InvalidArgument: names the value and the bound.
absl::Status CheckGcra(const RateTerms& terms);

// Terms that CheckGcra refuses give the nearest rule within the bounds, never a faster one: the
// interval is raised, or the burst lowered, but not below 1.
GcraRule MakeGcraRule(const RateTerms& terms);

struct GcraRequest {
  std::int64_t tat_ns = 0;  // the word, 0..2^63-1
  std::int64_t now_ns = 0;  // of the caller's clock
  std::int64_t cost = 0;    // units, 0..2^63-1
};

struct GcraAnswer {
  bool fits = false;
  std::int64_t tat_ns = 0;     // the word to store; as it was where nothing is spent
  std::int64_t remaining = 0;  // units left after this request, 0..burst; refused: before it
  // How long after now_ns the request first fits, if nobody spends in between: one nanosecond
  // earlier it does not. std::nullopt: it fits now, or never will, as cost > burst.
  std::optional<std::int64_t> retry_after_ns = std::nullopt;
};

inline std::int64_t ClampGcraNow(std::int64_t now_ns) {
  return std::clamp<std::int64_t>(now_ns, 0, kGcraNowMaxNs);
}

// What is left of the tolerance, 0..tolerance_ns.
inline std::int64_t RoomNs(const GcraRule& rule, std::int64_t tat_ns, std::int64_t now_ns) {
  const std::int64_t ahead_ns = std::max<std::int64_t>(0, tat_ns - ClampGcraNow(now_ns));
  return std::max<std::int64_t>(0, rule.tolerance_ns - ahead_ns);
}

// Units that fit at once, 0..burst.
inline std::int64_t Remaining(const GcraRule& rule, std::int64_t tat_ns, std::int64_t now_ns) {
  return RoomNs(rule, tat_ns, now_ns) / rule.interval_ns;
}

// Admits iff max(tat, now) + cost * interval - now <= burst * interval. A cost of 0 spends nothing
// and fits always. The bucket is full again at the answer's tat_ns, or is, if that is past.
inline GcraAnswer Spend(const GcraRule& rule, const GcraRequest& request) {
  const std::int64_t now_ns = ClampGcraNow(request.now_ns);
  const std::int64_t ahead_ns = std::max<std::int64_t>(0, request.tat_ns - now_ns);
  GcraAnswer answer{.fits = request.cost <= 0, .tat_ns = request.tat_ns};
  if (request.cost > 0 && request.cost <= rule.burst) {
    const std::int64_t needed_ns = request.cost * rule.interval_ns;  // at most the tolerance
    const std::int64_t room_ns = rule.tolerance_ns - needed_ns;
    answer.fits = ahead_ns <= room_ns;
    if (answer.fits) {
      answer.tat_ns = now_ns + ahead_ns + needed_ns;
    } else {
      answer.retry_after_ns = ahead_ns - room_ns;
    }
  }
  answer.remaining = Remaining(rule, answer.tat_ns, now_ns);
  return answer;
}

// The word after units that were spent at `spent_at_ns` turned out not to be needed: what `cost`
// moved it by, less the time since then, in which the bucket might have been full without them. So
// no request is ever admitted that would have been refused had they not been spent.
struct GcraReturn {
  std::int64_t tat_ns = 0;       // the word as it is now
  std::int64_t spent_at_ns = 0;  // now_ns of the request that spent
  std::int64_t now_ns = 0;       // a clock reading taken after `tat_ns` was read
  std::int64_t cost = 0;         // 0..burst
};
inline std::int64_t GiveBack(const GcraRule& rule, const GcraReturn& units) {
  const std::int64_t moved_ns =
      std::clamp<std::int64_t>(units.cost, 0, rule.burst) * rule.interval_ns;
  const std::int64_t since_ns =
      std::max<std::int64_t>(0, ClampGcraNow(units.now_ns) - ClampGcraNow(units.spent_at_ns));
  return std::max<std::int64_t>(0, units.tat_ns - std::max<std::int64_t>(0, moved_ns - since_ns));
}

// The word where it is at most one tolerance ahead of now, else that: the bucket is empty.
//
// Further ahead a word comes only from a clock that went back since, or from another rule with a
// longer tolerance; it would lock its key for as long. A caller whose own clock lags must not pull
// it back: REQUIRES: `fresh_now_ns` is a clock reading taken after `tat_ns` was read.
inline std::int64_t ClampToNow(const GcraRule& rule, std::int64_t tat_ns,
                               std::int64_t fresh_now_ns) {
  return std::min(tat_ns, ClampGcraNow(fresh_now_ns) + rule.tolerance_ns);
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_GCRA_H_
