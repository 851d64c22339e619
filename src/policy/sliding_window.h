// A sliding window is one word that counts the units of two windows of the clock, and from them
// estimates those of the window that ends now.
//
// Windows are aligned to the epoch: number = now / window. Of the previous one, the part counts
// that the sliding window still overlaps: estimate = ceil(previous * (window - elapsed) / window) +
// current. A request fits iff estimate + cost <= limit. At a boundary the estimate does not jump.
//
// Against an exact log: in any span as long as the window at most 2 * limit - 1 units are admitted.
// Proof: a span meets two windows of the clock at most. If C are admitted in the first one, and the
// last of the span comes `elapsed` into the second one, then the second has had at most limit -
// ceil(C * (window - elapsed) / window) by then, which is less than the limit where C is not 0. It
// takes C = limit units at the very end of a window, and then all that is allowed. The excess of
// several kinds of traffic was measured: tests/policy/sliding_window_test.cc.
//
// The word, from the top: one bit that is always 0, the number of the current window modulo 2^15,
// 24 bits of previous and 24 bits of current units. A word without units is empty, whatever its
// number. Numbers are told apart as up to 2^14 - 1 windows behind now, the same, or ahead. So a
// word that lay for 2^14 windows or more may be taken for a recent one, or for one that is ahead:
// its old units then count once more, for less than two windows after ClampToNow, and nothing is
// admitted that would not be on an empty word. A caller whose clock lags by 2^14 windows or more
// (16 s for windows of 1 ms) may take a newer word for an old one, so it must not.
//
// Thread safety: pure functions on values. No function here but CheckSlidingWindow allocates.
//
//   const WindowRule rule = MakeWindowRule({.limit = 20, .window_ns = 1'000'000'000});
//   const WindowAnswer answer = Spend(rule, {.word = word, .now_ns = now, .cost = 1});
//   if (answer.fits) ...  // swap the word for answer.word
#ifndef THROTTL_SRC_POLICY_SLIDING_WINDOW_H_
#define THROTTL_SRC_POLICY_SLIDING_WINDOW_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

#include "src/policy/rate_terms.h"

namespace throttl::internal {

inline constexpr std::int64_t kWindowLimitMax = (std::int64_t{1} << 24) - 1;

struct WindowRule {
  std::int64_t limit = 0;      // units in a window, 1..kWindowLimitMax
  std::int64_t window_ns = 0;  // kRateWindowMinNs..kRateWindowMaxNs

  friend bool operator==(const WindowRule&, const WindowRule&) = default;
};

// OK for terms that CheckRate accepts, with a limit of at most kWindowLimitMax. There is no burst:
// `terms.burst` must be the limit.
// InvalidArgument: names the value and the bound.
absl::Status CheckSlidingWindow(const RateTerms& terms);

// Terms that CheckSlidingWindow refuses give the nearest rule within the bounds.
WindowRule MakeWindowRule(const RateTerms& terms);

// What a word says.
struct WindowCounts {
  std::int64_t number = 0;    // of its window, modulo 2^15
  std::int64_t previous = 0;  // units, 0..kWindowLimitMax
  std::int64_t current = 0;   // the same
};
std::uint64_t PackWindow(const WindowCounts& counts);
WindowCounts UnpackWindow(std::uint64_t word);

struct WindowRequest {
  std::uint64_t word = 0;   // 0 is an empty one; the top bit is ignored
  std::int64_t now_ns = 0;  // of the caller's clock; before the epoch: the epoch
  std::int64_t cost = 0;    // units, 0..2^63-1
};

struct WindowAnswer {
  bool fits = false;
  std::uint64_t word = 0;      // to store; as it was where nothing is spent
  std::int64_t remaining = 0;  // units left after this request, 0..limit; refused: before it
  // How long after now_ns the request first fits, if nobody spends in between: one nanosecond
  // earlier it does not. std::nullopt: it fits now, or never will, as cost > limit.
  std::optional<std::int64_t> retry_after_ns = std::nullopt;
};

// A word ahead of now is one of a caller whose clock is further: the request counts in the word's
// window, as at its beginning. A cost of 0 spends nothing and fits always.
WindowAnswer Spend(const WindowRule& rule, const WindowRequest& request);

// The word after `cost` units that the word `spent` was stored with turned out not to be needed.
// They are taken from the window they were counted in; where that is over, nothing changes.
struct WindowReturn {
  std::uint64_t word = 0;   // as it is now
  std::uint64_t spent = 0;  // WindowAnswer::word of the request that spent
  std::int64_t cost = 0;    // units
};
std::uint64_t GiveBack(const WindowReturn& units);

// The word where its window is not ahead of now's; else one of now's window, whose previous units
// are min(limit, current) of the word, and whose current ones are 0.
//
// Ahead of a clock reading that is younger than it, a word comes only from a clock that went back
// since, from another rule, or from 2^14 windows ago; it would lock its key until its window.
// REQUIRES: `fresh_now_ns` is a clock reading taken after `word` was read.
std::uint64_t ClampToNow(const WindowRule& rule, std::uint64_t word, std::int64_t fresh_now_ns);

// From when the word says nothing, in nanoseconds since the epoch, at most 2^63-1: the end of the
// window after its own, of its own where only the previous one has units, 0 where none has. Until
// then less than the limit may be left. Seen from `now_ns`, as Spend would see the word.
std::int64_t FreeAt(const WindowRule& rule, std::uint64_t word, std::int64_t now_ns);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_SLIDING_WINDOW_H_
