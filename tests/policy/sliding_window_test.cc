// Sliding windows against the rule in 128 bits, and against an exact log.
//
// Most units admitted in any span of one window, in percent of the limit, as this test prints it
// (limit 100 per 60 s, full scale, 24 November 2026); an exact log would admit 100:
//
//   even, twice the limit                          100
//   twice the limit around each end of a window    100
//   Poisson, 1.5 times the limit, 20,000 windows   112
//   on-off at 10 times the limit, 20,000 windows   190
//   all at the end of a window, then as allowed    199, the worst there is
#include "src/policy/sliding_window.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/numeric/int128.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "throttl/plan.h"

#include "tests/scale.h"

namespace throttl::internal {
namespace {

using testing::Scaled;

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000 * kMs;
constexpr std::int64_t kDay = 24 * 3'600 * kSecond;
constexpr std::int64_t kStart = 1'767'225'600 * kSecond;  // 2026, the beginning of a minute
constexpr std::int64_t kYear2200 = 7'258'118'400 * kSecond;
constexpr std::int64_t kNumbers = 32'768;

// A number of any size up to `max`: small and large ones are as likely.
rc::Gen<std::int64_t> UpTo(std::int64_t max) {
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange(0, 64), rc::gen::arbitrary<std::uint64_t>()),
      [max](const auto& drawn) {
        const std::uint64_t value = std::get<1>(drawn) >> std::get<0>(drawn);
        return static_cast<std::int64_t>(value % (static_cast<std::uint64_t>(max) + 1));
      });
}

WindowRule DrawRule(std::int64_t window_max_ns = kRateWindowMaxNs) {
  const std::int64_t window_ns = (1 + *UpTo(window_max_ns / kMs - 1)) * kMs;
  return {.limit = 1 + *UpTo(kWindowLimitMax - 1), .window_ns = window_ns};
}

// A word of the window of `now`, or of one some windows before.
std::uint64_t DrawWord(const WindowRule& rule, std::int64_t now) {
  const std::int64_t number = now / rule.window_ns - *UpTo(3);
  const auto units = [&rule] {
    return *rc::gen::oneOf(UpTo(rule.limit), rc::gen::just(rule.limit), UpTo(kWindowLimitMax));
  };
  return PackWindow({.number = number, .previous = units(), .current = units()});
}

WindowAnswer SpendAt(const WindowRule& rule, std::uint64_t word, std::int64_t now,
                     std::int64_t cost) {
  return Spend(rule, {.word = word, .now_ns = now, .cost = cost});
}

// The rule as the header states it, in 128 bits, of a log of units by window.
struct WindowLog {
  std::map<std::int64_t, std::int64_t> units = {};

  absl::int128 EstimateAt(const WindowRule& rule, std::int64_t now) {
    const std::int64_t number = now / rule.window_ns;
    const absl::int128 left = rule.window_ns - now % rule.window_ns;
    const absl::int128 part = left * units[number - 1];
    return (part + rule.window_ns - 1) / rule.window_ns + units[number];
  }
};

TEST_CASE("a word holds what was packed, and its top bit is 0") {
  CHECK(rc::check([] {
    const WindowCounts counts{.number = *UpTo(kMax),
                              .previous = *UpTo(kWindowLimitMax),
                              .current = *UpTo(kWindowLimitMax)};
    const std::uint64_t word = PackWindow(counts);
    RC_ASSERT(word >> 63 == 0U);
    const WindowCounts unpacked = UnpackWindow(word);
    RC_ASSERT(unpacked.number == counts.number % kNumbers);
    RC_ASSERT(unpacked.previous == counts.previous);
    RC_ASSERT(unpacked.current == counts.current);
  }));
  CHECK(PackWindow({.number = 0, .previous = 0, .current = 0}) == 0);
}

TEST_CASE("a limit that 24 bits do not hold is refused, and so is a burst") {
  CHECK(CheckSlidingWindow({16'777'215, 60 * kSecond, 16'777'215}).ok());
  CHECK(CheckSlidingWindow({16'777'216, 60 * kSecond, 16'777'216}).message() ==
        "limit is 16777216, at most 16777215 are allowed in a sliding window");
  CHECK(CheckSlidingWindow({10, kSecond, 11}).message() ==
        "burst is 11, none but the limit, 10, is allowed in a sliding window");
  CHECK(CheckSlidingWindow({0, kSecond, 1}).message() == CheckRate({0, kSecond, 1}).message());
  CHECK(MakeWindowRule({kLimitMax, kMax, 1}) == WindowRule{kWindowLimitMax, 31 * kDay});
  CHECK(MakeWindowRule({-1, -1, -1}) == WindowRule{1, kMs});
}

TEST_CASE("a request fits iff the estimate and its cost are within the limit") {
  CHECK(rc::check([] {
    const WindowRule rule = DrawRule();
    std::int64_t now = *UpTo(kYear2200);
    std::uint64_t word = 0;
    WindowLog log;
    for (int i = *rc::gen::inRange(1, 30); i > 0; --i) {
      now += *rc::gen::oneOf(UpTo(rule.window_ns / 4), UpTo(3 * rule.window_ns));
      const absl::int128 room = rule.limit - log.EstimateAt(rule, now);
      const std::int64_t units = *rc::gen::oneOf(UpTo(rule.limit), UpTo(kMax));
      // Costs at the edge of what fits are the ones that tell.
      const std::int64_t edge =
          std::max<std::int64_t>(0, static_cast<std::int64_t>(room) + *rc::gen::inRange(0, 2));
      const std::int64_t cost = *rc::gen::elementOf(std::vector<std::int64_t>{units, edge});
      const WindowAnswer answer = SpendAt(rule, word, now, cost);
      RC_ASSERT(answer.fits == (absl::int128(cost) <= room || cost == 0));
      RC_ASSERT(answer.word >> 63 == 0U);
      if (answer.fits) log.units[now / rule.window_ns] += cost;
      if (!answer.fits || cost == 0) RC_ASSERT(answer.word == word);
      RC_ASSERT(absl::int128(answer.remaining) == rule.limit - log.EstimateAt(rule, now));
      word = answer.word;
    }
  }));
}

TEST_CASE("a refused request fits after retry_after, and not a nanosecond earlier") {
  CHECK(rc::check([] {
    const WindowRule rule = DrawRule();
    const std::int64_t now = *UpTo(kYear2200);
    const std::uint64_t word = DrawWord(rule, now);
    const std::int64_t cost =
        *rc::gen::oneOf(rc::gen::just<std::int64_t>(1), rc::gen::just(rule.limit),
                        rc::gen::map(UpTo(rule.limit - 1), [](auto units) { return units + 1; }));
    const WindowAnswer answer = SpendAt(rule, word, now, cost);
    RC_ASSERT(answer.retry_after_ns.has_value() == !answer.fits);
    RC_CLASSIFY(!answer.fits, "refused");
    if (answer.fits) return;
    RC_ASSERT(*answer.retry_after_ns > 0);
    RC_ASSERT(*answer.retry_after_ns <= 2 * rule.window_ns);
    const std::int64_t then = now + *answer.retry_after_ns;
    RC_ASSERT(SpendAt(rule, word, then, cost).fits);
    RC_ASSERT(!SpendAt(rule, word, then - 1, cost).fits);
  }));
}

TEST_CASE("a cost above the limit never fits, and one of 0 always does and spends nothing") {
  const WindowRule rule{.limit = 10, .window_ns = kSecond};
  const std::uint64_t full =
      PackWindow({.number = kStart / kSecond, .previous = 10, .current = 10});
  for (const std::uint64_t word : {std::uint64_t{0}, full}) {
    for (const std::int64_t cost : {std::int64_t{11}, kCostMax, kMax}) {
      const WindowAnswer answer = SpendAt(rule, word, kStart, cost);
      CHECK(!answer.fits);
      CHECK(answer.word == word);
      CHECK(!answer.retry_after_ns.has_value());
    }
    CHECK(SpendAt(rule, word, kStart, 0).fits);
    CHECK(SpendAt(rule, word, kStart, 0).word == word);
  }
  CHECK(SpendAt(rule, 0, kStart, 0).remaining == 10);
  CHECK(SpendAt(rule, full, kStart, 0).remaining == 0);
}

TEST_CASE("a caller whose clock lags counts in the word's window, as at its beginning") {
  CHECK(rc::check([] {
    const WindowRule rule = DrawRule(kMax / (2 * kNumbers));
    const std::int64_t number = 20'000 + *UpTo(1'000);
    const std::int64_t begin = number * rule.window_ns;
    const std::int64_t previous = *UpTo(rule.limit);
    const std::uint64_t word =
        PackWindow({.number = number, .previous = previous, .current = *UpTo(rule.limit - 1) + 1});
    const std::int64_t lagging = begin - 1 - *UpTo(16'000 * rule.window_ns);
    const std::int64_t cost = 1 + *UpTo(rule.limit - 1);
    const WindowAnswer late = SpendAt(rule, word, lagging, cost);
    const WindowAnswer at_begin = SpendAt(rule, word, begin, cost);
    RC_ASSERT(late.fits == at_begin.fits);
    RC_ASSERT(late.word == at_begin.word);
    RC_ASSERT(late.remaining == at_begin.remaining);
    if (!late.fits) {
      RC_ASSERT(*late.retry_after_ns == begin - lagging + *at_begin.retry_after_ns);
    }
  }));
}

TEST_CASE(
    "a word ahead of a fresh clock is clamped to it, and locks its key for a window at most") {
  const WindowRule rule{.limit = 10, .window_ns = kSecond};
  const std::int64_t number = kStart / kSecond;
  const std::int64_t now = kStart + kSecond / 4;
  for (const std::int64_t ahead : {1, 2, 100, 16'384}) {
    CAPTURE(ahead);
    const std::uint64_t word = PackWindow({.number = number + ahead, .previous = 3, .current = 8});
    const WindowCounts clamped = UnpackWindow(ClampToNow(rule, word, now));
    CHECK(clamped.number == number % kNumbers);
    CHECK(clamped.previous == 8);
    CHECK(clamped.current == 0);
  }
  const std::uint64_t over = PackWindow({.number = number + 1, .previous = 3, .current = 12});
  CHECK(UnpackWindow(ClampToNow(rule, over, now)).previous == 10);
  for (const std::int64_t behind : {0, 1, 2, 16'383}) {
    const std::uint64_t word = PackWindow({.number = number - behind, .previous = 3, .current = 8});
    CHECK(ClampToNow(rule, word, now) == word);
  }
}

TEST_CASE("a word that lay for 2^14 windows or more never admits what an empty one would not") {
  CHECK(rc::check([] {
    const WindowRule rule = DrawRule(kMax / (16 * kNumbers));
    const std::int64_t first = *UpTo(kYear2200 / 2 / rule.window_ns);
    const std::int64_t idle = 2 + *rc::gen::oneOf(UpTo(4 * kNumbers), UpTo(kNumbers / 2),
                                                  rc::gen::element(kNumbers - 2, kNumbers - 1));
    const std::int64_t now = (first + idle) * rule.window_ns + *UpTo(rule.window_ns - 1);
    const std::uint64_t word =
        PackWindow({.number = first, .previous = *UpTo(rule.limit), .current = *UpTo(rule.limit)});
    const std::uint64_t clamped = ClampToNow(rule, word, now);
    RC_ASSERT(SpendAt(rule, clamped, now, 0).remaining <= rule.limit);
    const WindowCounts counts = UnpackWindow(clamped);
    const std::int64_t units = counts.previous + counts.current;
    // Less than two windows later nothing of it is left.
    const std::int64_t later = (now / rule.window_ns + 2) * rule.window_ns;
    RC_ASSERT(SpendAt(rule, clamped, later, 0).remaining == rule.limit);
    if (idle < kNumbers / 2) {
      RC_ASSERT(SpendAt(rule, word, now, 0).remaining == rule.limit);
    } else {
      RC_ASSERT(SpendAt(rule, clamped, now, 0).remaining >= rule.limit - units);
    }
    const WindowAnswer answer = SpendAt(rule, clamped, now, 1);
    if (answer.fits) RC_ASSERT(UnpackWindow(answer.word).number == now / rule.window_ns % kNumbers);
  }));
}

TEST_CASE("an empty word is of no window, so that the first request begins one of now") {
  const WindowRule rule{.limit = 10, .window_ns = kSecond};
  for (std::int64_t number = 0; number < kNumbers; number += 97) {
    const std::int64_t now = number * kSecond;
    const WindowAnswer answer = SpendAt(rule, 0, now, 4);
    CHECK(answer.word == PackWindow({.number = number, .previous = 0, .current = 4}));
    CHECK(answer.remaining == 6);
  }
}

TEST_CASE("a word is free from when it leaves the whole limit, and not a nanosecond earlier") {
  CHECK(rc::check([] {
    const WindowRule rule = DrawRule();
    const std::int64_t now = 4 * rule.window_ns + *UpTo(kYear2200 / 2);
    const std::uint64_t word = DrawWord(rule, now);
    const std::int64_t free_at = FreeAt(rule, word, now);
    const std::int64_t seen_from = *UpTo(10'000 * kSecond);
    if (free_at > 0) {
      RC_ASSERT(SpendAt(rule, word, free_at - 1, 0).remaining < rule.limit);
      RC_ASSERT(FreeAt(rule, word, free_at - 1) == free_at);
    }
    // So few windows later that their numbers are told apart.
    const std::int64_t span = 10'000 * std::min(rule.window_ns, kSecond);
    const std::int64_t then = std::max(free_at, now) + seen_from % span;
    RC_ASSERT(SpendAt(rule, word, then, 0).remaining == rule.limit);
    RC_ASSERT(SpendAt(rule, word, then, 1).word == SpendAt(rule, 0, then, 1).word);
  }));
  CHECK(FreeAt({.limit = 1, .window_ns = 31 * kDay}, PackWindow({16'000, 0, 1}), 0) == kMax);
}

TEST_CASE("units given back are taken from the window that they were counted in") {
  const WindowRule rule{.limit = 10, .window_ns = kSecond};
  const std::int64_t number = kStart / kSecond;
  const std::uint64_t before = PackWindow({.number = number, .previous = 2, .current = 3});
  const std::uint64_t spent = SpendAt(rule, before, kStart, 4).word;
  CHECK(GiveBack({.word = spent, .spent = spent, .cost = 4}) == before);
  // Others have spent since, in the same window and in the next.
  const std::uint64_t more = SpendAt(rule, spent, kStart + kSecond - 1, 1).word;
  CHECK(GiveBack({.word = more, .spent = spent, .cost = 4}) ==
        PackWindow({.number = number, .previous = 2, .current = 4}));
  const std::uint64_t next = SpendAt(rule, more, kStart + 2 * kSecond - 1, 5).word;
  CHECK(next == PackWindow({.number = number + 1, .previous = 8, .current = 5}));
  CHECK(GiveBack({.word = next, .spent = spent, .cost = 4}) ==
        PackWindow({.number = number + 1, .previous = 4, .current = 5}));
  const std::uint64_t later = SpendAt(rule, next, kStart + 4 * kSecond, 5).word;
  CHECK(GiveBack({.word = later, .spent = spent, .cost = 4}) == later);
  CHECK(GiveBack({.word = before, .spent = before, .cost = kMax}) ==
        PackWindow({.number = number, .previous = 2, .current = 0}));
}

// Most units of `at`, one each and in order, in any half-open span of one window.
std::int64_t MostInAWindow(const std::vector<std::int64_t>& at, std::int64_t window_ns) {
  std::int64_t most = 0;
  std::size_t first = 0;
  for (std::size_t last = 0; last < at.size(); ++last) {
    while (at[last] - at[first] >= window_ns) ++first;
    most = std::max(most, static_cast<std::int64_t>(last - first + 1));
  }
  return most;
}

struct Admitter {
  WindowRule rule = {};
  std::uint64_t word = 0;
  std::vector<std::int64_t> admitted_at = {};

  WindowAnswer Ask(std::int64_t now) {
    const WindowAnswer answer = SpendAt(rule, word, now, 1);
    word = answer.word;
    if (answer.fits) admitted_at.push_back(now);
    return answer;
  }
  std::int64_t Percent() const {
    return 100 * MostInAWindow(admitted_at, rule.window_ns) / rule.limit;
  }
};

constexpr WindowRule kMinute{.limit = 100, .window_ns = 60 * kSecond};

std::int64_t AskEvenly(std::int64_t windows) {
  Admitter admitter{.rule = kMinute};
  for (std::int64_t i = 0; i < windows * 200; ++i) admitter.Ask(kStart + i * 300 * kMs);
  return admitter.Percent();
}

std::int64_t AskAtRandom(std::int64_t windows) {
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(1.5 * 100 / 60e9);
  Admitter admitter{.rule = kMinute};
  std::int64_t now = kStart;
  while (now < kStart + windows * kMinute.window_ns) {
    now += static_cast<std::int64_t>(gap(random));
    admitter.Ask(now);
  }
  return admitter.Percent();
}

// 10 times the limit while on; on and off last 10 and 30 s on average.
std::int64_t AskOnAndOff(std::int64_t windows) {
  std::mt19937_64 random(2);
  std::exponential_distribution<double> gap(10.0 * 100 / 60e9);
  std::exponential_distribution<double> on(1 / 10e9);
  std::exponential_distribution<double> off(1 / 30e9);
  Admitter admitter{.rule = kMinute};
  std::int64_t now = kStart;
  while (now < kStart + windows * kMinute.window_ns) {
    const std::int64_t end = now + static_cast<std::int64_t>(on(random));
    for (; now < end; now += static_cast<std::int64_t>(gap(random))) admitter.Ask(now);
    now += static_cast<std::int64_t>(off(random));
  }
  return admitter.Percent();
}

// 200 requests around each boundary of the clock, which a fixed window admits.
std::int64_t AskAroundBoundaries(std::int64_t windows) {
  Admitter admitter{.rule = kMinute};
  for (std::int64_t window = 1; window <= windows; ++window) {
    for (std::int64_t i = -100; i < 100; ++i) {
      admitter.Ask(kStart + window * kMinute.window_ns + i * kMs);
    }
  }
  return admitter.Percent();
}

// All units in the last nanosecond of a window, then each as soon as it is allowed.
std::int64_t AskAtTheEnd(const WindowRule& rule) {
  Admitter admitter{.rule = rule};
  const std::int64_t begin = (kStart / rule.window_ns + 1) * rule.window_ns;
  for (std::int64_t i = 0; i < rule.limit; ++i) admitter.Ask(begin - 1);
  for (std::int64_t now = begin; now < begin + rule.window_ns - 1;) {
    now += admitter.Ask(now).retry_after_ns.value_or(0);
  }
  return MostInAWindow(admitter.admitted_at, rule.window_ns);
}

TEST_CASE("in any span of a window less than twice the limit is admitted; measured") {
  const std::int64_t windows = Scaled(20'000);
  const std::int64_t even = AskEvenly(windows / 10 + 1);
  const std::int64_t poisson = AskAtRandom(windows);
  const std::int64_t on_off = AskOnAndOff(windows);
  const std::int64_t boundary = AskAroundBoundaries(windows / 10 + 1);
  MESSAGE("percent of the limit: even " << even << ", Poisson " << poisson << ", on-off " << on_off
                                        << ", around boundaries " << boundary);
  CHECK(even <= 101);
  CHECK(boundary <= 101);
  CHECK(poisson < 130);
  CHECK(on_off < 200);
}

TEST_CASE("the worst is 2 * limit - 1: all at the end of a window, and then what is allowed") {
  for (const std::int64_t limit : {1, 2, 3, 10, 100, 1'000}) {
    for (const std::int64_t window_ns : {kMs, 60 * kSecond, 31 * kDay}) {
      const std::int64_t most = AskAtTheEnd({.limit = limit, .window_ns = window_ns});
      CHECK(most == 2 * limit - 1);
    }
  }
}

TEST_CASE("whatever is asked when, at most 2 * limit - 1 is admitted in a span of a window") {
  CHECK(rc::check([] {
    const WindowRule rule{.limit = *rc::gen::inRange<std::int64_t>(1, 20),
                          .window_ns = *rc::gen::inRange<std::int64_t>(1, 4) * kMs};
    Admitter admitter{.rule = rule};
    std::int64_t now = kStart;
    for (int i = 0; i < 200; ++i) {
      // To the end of a window, to when it is allowed, by a little, or by any time.
      const std::int64_t to_end = rule.window_ns - 1 - now % rule.window_ns;
      const WindowAnswer answer = admitter.Ask(now);
      now +=
          *rc::gen::oneOf(rc::gen::just(to_end), rc::gen::just(answer.retry_after_ns.value_or(0)),
                          UpTo(1'000), UpTo(2 * rule.window_ns));
    }
    RC_ASSERT(MostInAWindow(admitter.admitted_at, rule.window_ns) <= 2 * rule.limit - 1);
  }));
}

}  // namespace
}  // namespace throttl::internal
