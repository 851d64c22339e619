#include "src/policy/sliding_window.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace throttl::internal {
namespace {

__extension__ using Int128 = __int128;

constexpr int kCountBits = 24;
constexpr int kNumberShift = 2 * kCountBits;
constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
constexpr std::int64_t kNumbers = std::int64_t{1} << 15;
constexpr std::int64_t kAheadFrom = kNumbers / 2;  // so far behind is ahead
constexpr std::int64_t kTimeMax = std::numeric_limits<std::int64_t>::max();

static_assert(kWindowLimitMax == static_cast<std::int64_t>(kCountMask));

std::int64_t SaturatingProduct(std::int64_t a, std::int64_t b) {
  return b != 0 && a > kTimeMax / b ? kTimeMax : a * b;
}

struct Fraction {
  std::int64_t times = 0;    // 0..kWindowLimitMax
  std::int64_t time_ns = 0;  // 0..kRateWindowMaxNs
  std::int64_t over = 0;     // more than 0
};

// floor(times * time / over), where that is less than 2^63.
std::int64_t Floor(const Fraction& fraction) {
  constexpr std::int64_t kShort = std::int64_t{1} << (63 - kCountBits);
  if (fraction.time_ns < kShort) return fraction.times * fraction.time_ns / fraction.over;
  return static_cast<std::int64_t>(Int128{fraction.times} * fraction.time_ns / fraction.over);
}

// What a word says at one moment.
struct WindowView {
  std::int64_t number = 0;  // of the window that is counted in, not modulo
  std::int64_t previous = 0;
  std::int64_t current = 0;
  std::int64_t elapsed_ns = 0;    // of that window
  std::int64_t begins_in_ns = 0;  // 0: it has begun
};

WindowView ViewOf(const WindowRule& rule, std::uint64_t word, std::int64_t now_ns) {
  const std::int64_t number = now_ns / rule.window_ns;
  const std::int64_t elapsed_ns = now_ns - number * rule.window_ns;
  const WindowCounts counts = UnpackWindow(word);
  WindowView view{.number = number, .elapsed_ns = elapsed_ns};
  if (counts.previous == 0 && counts.current == 0) return view;
  const std::int64_t behind = (number - counts.number) & (kNumbers - 1);
  if (behind == 0) {
    view.previous = counts.previous;
    view.current = counts.current;
  } else if (behind == 1) {
    view.previous = counts.current;
  } else if (behind >= kAheadFrom) {
    const std::int64_t ahead = kNumbers - behind;
    view = {.number = number + ahead,
            .previous = counts.previous,
            .current = counts.current,
            .begins_in_ns = SaturatingProduct(ahead, rule.window_ns) - elapsed_ns};
  }
  return view;
}

std::int64_t EstimateOf(const WindowRule& rule, const WindowView& view) {
  // What no longer counts of the previous window is rounded down.
  return view.current + view.previous - Floor({view.previous, view.elapsed_ns, rule.window_ns});
}

// How long after the window's beginning `previous` units count for at most `room`.
std::int64_t ElapsedUntil(const WindowRule& rule, std::int64_t previous, std::int64_t room) {
  if (previous <= room) return 0;
  return rule.window_ns - Floor({room, rule.window_ns, previous});
}

// REQUIRES: the request is refused, and its cost is at most the limit.
std::int64_t RetryAfter(const WindowRule& rule, const WindowView& view, std::int64_t cost) {
  const std::int64_t room = rule.limit - cost - view.current;
  const std::int64_t elapsed_ns =
      room >= 0 ? ElapsedUntil(rule, view.previous, room)
                : rule.window_ns + ElapsedUntil(rule, view.current, rule.limit - cost);
  const std::int64_t wait_ns = elapsed_ns - view.elapsed_ns;
  return view.begins_in_ns > kTimeMax - wait_ns ? kTimeMax : view.begins_in_ns + wait_ns;
}

}  // namespace

absl::Status CheckSlidingWindow(const RateTerms& terms) {
  if (absl::Status status = CheckRate(terms); !status.ok()) return status;
  if (terms.limit > kWindowLimitMax) {
    return absl::InvalidArgumentError(absl::StrCat("limit is ", terms.limit, ", at most ",
                                                   kWindowLimitMax,
                                                   " are allowed in a sliding window"));
  }
  if (terms.burst == terms.limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("burst is ", terms.burst, ", none but the limit, ",
                                                 terms.limit, ", is allowed in a sliding window"));
}

WindowRule MakeWindowRule(const RateTerms& terms) {
  return {.limit = std::clamp<std::int64_t>(terms.limit, 1, kWindowLimitMax),
          .window_ns = std::clamp(terms.window_ns, kRateWindowMinNs, kRateWindowMaxNs)};
}

std::uint64_t PackWindow(const WindowCounts& counts) {
  const auto bits = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  return (bits(counts.number & (kNumbers - 1)) << kNumberShift) |
         (bits(std::clamp<std::int64_t>(counts.previous, 0, kWindowLimitMax)) << kCountBits) |
         bits(std::clamp<std::int64_t>(counts.current, 0, kWindowLimitMax));
}

WindowCounts UnpackWindow(std::uint64_t word) {
  const auto number = static_cast<std::int64_t>(word >> kNumberShift);
  return {.number = number & (kNumbers - 1),
          .previous = static_cast<std::int64_t>((word >> kCountBits) & kCountMask),
          .current = static_cast<std::int64_t>(word & kCountMask)};
}

WindowAnswer Spend(const WindowRule& rule, const WindowRequest& request) {
  WindowView view = ViewOf(rule, request.word, std::max<std::int64_t>(0, request.now_ns));
  const std::int64_t room = std::max<std::int64_t>(0, rule.limit - EstimateOf(rule, view));
  WindowAnswer answer{.fits = true, .word = request.word, .remaining = room};
  if (request.cost <= 0) return answer;
  answer.fits = request.cost <= room;
  if (answer.fits) {
    answer.remaining = room - request.cost;
    answer.word = PackWindow(
        {.number = view.number, .previous = view.previous, .current = view.current + request.cost});
  } else if (request.cost <= rule.limit) {
    answer.retry_after_ns = RetryAfter(rule, view, request.cost);
  }
  return answer;
}

std::uint64_t GiveBack(const WindowReturn& units) {
  WindowCounts counts = UnpackWindow(units.word);
  const std::int64_t spent_number = UnpackWindow(units.spent).number;
  const std::int64_t cost = std::max<std::int64_t>(0, units.cost);
  if (counts.number == spent_number) {
    counts.current -= std::min(counts.current, cost);
  } else if (counts.number == ((spent_number + 1) & (kNumbers - 1))) {
    counts.previous -= std::min(counts.previous, cost);
  }
  return PackWindow(counts);
}

std::uint64_t ClampToNow(const WindowRule& rule, std::uint64_t word, std::int64_t fresh_now_ns) {
  const std::int64_t now_ns = std::max<std::int64_t>(0, fresh_now_ns);
  const WindowView view = ViewOf(rule, word, now_ns);
  if (view.begins_in_ns == 0) return word;
  return PackWindow({.number = now_ns / rule.window_ns,
                     .previous = std::min(rule.limit, view.current),
                     .current = 0});
}

std::int64_t FreeAt(const WindowRule& rule, std::uint64_t word, std::int64_t now_ns) {
  const WindowCounts counts = UnpackWindow(word);
  if (counts.previous == 0 && counts.current == 0) return 0;
  const std::int64_t number = std::max<std::int64_t>(0, now_ns) / rule.window_ns;
  const std::int64_t behind = (number - counts.number) & (kNumbers - 1);
  const std::int64_t own = number - (behind >= kAheadFrom ? behind - kNumbers : behind);
  const std::int64_t end = own + (counts.current > 0 ? 2 : 1);
  return SaturatingProduct(std::max<std::int64_t>(0, end), rule.window_ns);
}

}  // namespace throttl::internal
