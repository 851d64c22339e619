#include "src/policy/gcra.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
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
constexpr std::int64_t kNow = 1'767'225'600 * kSecond;  // 2026
constexpr std::int64_t kYear2200 = 7'258'118'400 * kSecond;

// A number of any size up to `max`: small and large ones are as likely.
rc::Gen<std::int64_t> UpTo(std::int64_t max) {
  return rc::gen::map(
      rc::gen::tuple(rc::gen::inRange(0, 64), rc::gen::arbitrary<std::uint64_t>()),
      [max](const auto& drawn) {
        const std::uint64_t value = std::get<1>(drawn) >> std::get<0>(drawn);
        return static_cast<std::int64_t>(value % (static_cast<std::uint64_t>(max) + 1));
      });
}

// Terms that CheckGcra accepts.
RateTerms DrawTerms() {
  RateTerms terms;
  terms.window_ns = (1 + *UpTo(kRateWindowMaxNs / kMs - 1)) * kMs;
  terms.limit = 1 + *UpTo(terms.window_ns / kRateIntervalMinNs - 1);
  const std::int64_t interval = (terms.window_ns + terms.limit - 1) / terms.limit;
  terms.burst = 1 + *UpTo(std::min(kLimitMax, kGcraToleranceMaxNs / interval) - 1);
  RC_ASSERT(CheckGcra(terms).ok());
  return terms;
}

std::int64_t DrawNow() {
  return *rc::gen::oneOf(UpTo(kYear2200), UpTo(kMax), rc::gen::element<std::int64_t>(0, kMax));
}

// A word near now, where admission is decided, or anywhere.
std::int64_t DrawTat(const GcraRule& rule, std::int64_t now) {
  const std::int64_t near = ClampGcraNow(now) + *UpTo(rule.tolerance_ns);
  return *rc::gen::oneOf(rc::gen::just(near), UpTo(kMax));
}

TEST_CASE("the rate is never above what was asked for, and less than 0.1 % below it") {
  CHECK(rc::check([] {
    const RateTerms terms = DrawTerms();
    const GcraRule rule = MakeGcraRule(terms);
    // limit / window, and 1 / interval.
    const absl::int128 limit_ns = absl::int128(rule.interval_ns) * terms.limit;
    RC_ASSERT(limit_ns >= terms.window_ns);
    RC_ASSERT(limit_ns * 1'000 < absl::int128(terms.window_ns) * 1'001);
    RC_ASSERT(rule.burst == terms.burst);
    RC_ASSERT(rule.tolerance_ns == rule.interval_ns * rule.burst);
  }));
  CHECK(MakeGcraRule({3, kSecond, 1}).interval_ns == 333'333'334);
  CHECK(MakeGcraRule({20, kSecond, 1}).interval_ns == 50'000'000);
  CHECK(MakeGcraRule({1'000'000, kSecond, 1}).interval_ns == 1'000);
}

TEST_CASE("a bucket that takes more than 366 days to fill is refused, and the bound is named") {
  CHECK(CheckGcra({1, 31 * kDay, 11}).ok());
  CHECK(CheckGcra({1, 31 * kDay, 12}).message() ==
        "burst is 12, at most 11 are allowed at this rate: what can be filled again in 366 days");
  CHECK(CheckGcra({1'000'000, kSecond, 31'622'400'000'000}).ok());
  CHECK(CheckGcra({1'000'000, kSecond, 31'622'400'000'001}).code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(CheckGcra({0, kSecond, 1}).message() == CheckRate({0, kSecond, 1}).message());
}

TEST_CASE("terms that are refused give a rule within the bounds") {
  CHECK(MakeGcraRule({1, 31 * kDay, 1'000}).burst == 11);
  CHECK(MakeGcraRule({kLimitMax, kMs, 7}) == GcraRule{1'000, 7, 7'000});
  const std::vector<std::int64_t> values = {std::numeric_limits<std::int64_t>::min(), -1, 0, 1,
                                            kMax};
  for (const std::int64_t limit : values) {
    for (const std::int64_t window : values) {
      for (const std::int64_t burst : values) {
        const GcraRule rule = MakeGcraRule({limit, window, burst});
        CHECK(rule.interval_ns >= kRateIntervalMinNs);
        CHECK(rule.burst >= 1);
        CHECK(rule.tolerance_ns / rule.burst == rule.interval_ns);
        CHECK(rule.tolerance_ns <= kGcraToleranceMaxNs);
      }
    }
  }
}

TEST_CASE(
    "admitted iff max(tat, now) + cost * interval - now <= burst * interval, whatever the size") {
  CHECK(rc::check([] {
    const RateTerms terms = DrawTerms();
    const GcraRule rule = MakeGcraRule(terms);
    const std::int64_t now = DrawNow();
    const std::int64_t tat = DrawTat(rule, now);
    const std::int64_t cost =
        *rc::gen::oneOf(UpTo(rule.burst), UpTo(kCostMax), UpTo(kMax), rc::gen::just(rule.burst));
    const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = cost});
    const absl::int128 clamped = std::min(now, kGcraNowMaxNs);
    const absl::int128 interval = rule.interval_ns;
    const absl::int128 moved = std::max<absl::int128>(tat, clamped) + interval * cost;
    const bool fits = cost == 0 || moved - clamped <= interval * rule.burst;
    RC_ASSERT(answer.fits == fits);
    RC_ASSERT(absl::int128(answer.tat_ns) == (fits && cost > 0 ? moved : absl::int128(tat)));
    const absl::int128 room =
        interval * rule.burst - std::max<absl::int128>(0, answer.tat_ns - clamped);
    const absl::int128 units = room < 0 ? 0 : room / interval;
    RC_ASSERT(absl::int128(answer.remaining) == units);
    RC_ASSERT(Remaining(rule, answer.tat_ns, now) == answer.remaining);
    RC_CLASSIFY(fits && cost > 0, "fits");
    RC_CLASSIFY(!fits && cost <= rule.burst, "refused");
  }));
}

TEST_CASE("a refused request fits after retry_after, and not a nanosecond earlier") {
  CHECK(rc::check([] {
    const GcraRule rule = MakeGcraRule(DrawTerms());
    const std::int64_t now = *UpTo(kYear2200);
    const std::int64_t tat = now + *UpTo(3 * rule.tolerance_ns / 2);
    const std::int64_t cost = 1 + *UpTo(rule.burst - 1);
    const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = cost});
    RC_ASSERT(answer.retry_after_ns.has_value() == !answer.fits);
    if (answer.fits) return;
    const std::int64_t then = now + *answer.retry_after_ns;
    RC_ASSERT(Spend(rule, {.tat_ns = tat, .now_ns = then, .cost = cost}).fits);
    RC_ASSERT(!Spend(rule, {.tat_ns = tat, .now_ns = then - 1, .cost = cost}).fits);
  }));
}

TEST_CASE("a cost above the burst never fits, and there is no time to retry") {
  const GcraRule rule = MakeGcraRule({10, kSecond, 5});
  CHECK(Spend(rule, {.tat_ns = 0, .now_ns = kNow, .cost = 5}).fits);
  for (const std::int64_t cost : {std::int64_t{6}, kCostMax, kMax}) {
    const GcraAnswer answer = Spend(rule, {.tat_ns = 0, .now_ns = kNow, .cost = cost});
    CHECK(!answer.fits);
    CHECK(answer.tat_ns == 0);
    CHECK(answer.remaining == 5);
    CHECK(!answer.retry_after_ns.has_value());
  }
}

TEST_CASE("a cost of 0 spends nothing and fits always, also on a bucket that is overdrawn") {
  const GcraRule rule = MakeGcraRule({10, kSecond, 5});
  for (const std::int64_t tat : {std::int64_t{0}, kNow, kNow + kSecond, kMax}) {
    const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = kNow, .cost = 0});
    CHECK(answer.fits);
    CHECK(answer.tat_ns == tat);
    CHECK(!answer.retry_after_ns.has_value());
  }
}

TEST_CASE("a refused request changes nothing, and what remains fits to the unit") {
  CHECK(rc::check([] {
    const GcraRule rule = MakeGcraRule(DrawTerms());
    const std::int64_t now = *UpTo(kYear2200);
    const std::int64_t tat = DrawTat(rule, now);
    const std::int64_t left = Remaining(rule, tat, now);
    RC_ASSERT(left >= 0);
    RC_ASSERT(left <= rule.burst);
    const GcraAnswer over = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = left + 1});
    RC_ASSERT(!over.fits);
    RC_ASSERT(over.tat_ns == tat);
    RC_ASSERT(over.remaining == left);
    const GcraAnswer all = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = left});
    RC_ASSERT(all.fits);
    RC_ASSERT(all.remaining == 0);
  }));
}

struct Admission {
  std::int64_t at_ns;
  std::int64_t cost;
};

// Requests at random times and of random cost, about twice as many units as the rule admits.
std::vector<Admission> AdmitRandomly(const GcraRule& rule, std::mt19937_64& random, int requests) {
  std::vector<Admission> admitted;
  std::int64_t now = kNow;
  std::int64_t tat = 0;
  for (int i = 0; i < requests; ++i) {
    const auto cost = static_cast<std::int64_t>(
        1 + random() % static_cast<std::uint64_t>(std::min<std::int64_t>(rule.burst, 5)));
    const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = cost});
    if (answer.fits) admitted.push_back({now, cost});
    tat = answer.tat_ns;
    // Now and then there is silence, after which the bucket is full.
    const std::int64_t pause = random() % 50 == 0 ? rule.tolerance_ns : 2 * rule.interval_ns;
    now += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(pause));
  }
  return admitted;
}

TEST_CASE("in any span of t ns at most burst + t / interval units are admitted") {
  std::mt19937_64 random(20'260'101);
  MESSAGE("seed 20260101");
  for (std::int64_t history = 0; history < Scaled(300); ++history) {
    const auto limit = static_cast<std::int64_t>(1 + random() % 1'000);
    const auto burst = static_cast<std::int64_t>(1 + random() % 50);
    const GcraRule rule = MakeGcraRule({limit, kSecond, burst});
    const std::vector<Admission> admitted = AdmitRandomly(rule, random, 400);
    REQUIRE(!admitted.empty());
    for (std::size_t first = 0; first < admitted.size(); ++first) {
      std::int64_t units = 0;
      bool holds = true;
      for (std::size_t last = first; last < admitted.size(); ++last) {
        units += admitted[last].cost;
        const std::int64_t span_ns = admitted[last].at_ns - admitted[first].at_ns;
        holds = holds && units <= rule.burst + span_ns / rule.interval_ns;
      }
      REQUIRE_MESSAGE(holds, "history " << history << ", from admission " << first);
    }
  }
}

TEST_CASE("who asks all the time gets the rate: one burst, and then a unit each interval") {
  for (const RateTerms& terms :
       {RateTerms{3, kSecond, 2}, RateTerms{7, 10 * kMs, 7}, RateTerms{1'000, kSecond, 1}}) {
    const GcraRule rule = MakeGcraRule(terms);
    std::int64_t now = kNow;
    std::int64_t tat = 0;
    std::int64_t units = 0;
    const std::int64_t end = now + 1'000 * terms.window_ns;
    while (now < end) {
      const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = now, .cost = 1});
      if (answer.fits) ++units;
      tat = answer.tat_ns;
      now += answer.retry_after_ns.value_or(0);
    }
    CHECK(units <= terms.burst + 1'000 * terms.limit);
    CHECK(units > terms.burst + 999 * terms.limit);
  }
}

TEST_CASE("clamped to now, a word locks its key no longer than an empty bucket") {
  CHECK(rc::check([] {
    const GcraRule rule = MakeGcraRule(DrawTerms());
    const std::int64_t now = DrawNow();
    const std::int64_t tat = DrawTat(rule, now);
    const std::int64_t clamped = ClampToNow(rule, tat, now);
    const std::int64_t empty = ClampGcraNow(now) + rule.tolerance_ns;
    RC_ASSERT(clamped == std::min(tat, empty));
    if (tat < empty) return;
    const GcraAnswer answer = Spend(rule, {.tat_ns = clamped, .now_ns = now, .cost = 1});
    RC_ASSERT(!answer.fits);
    RC_ASSERT(answer.retry_after_ns == rule.interval_ns);
  }));
}

TEST_CASE("a word that is in the past says as little as an empty one") {
  const GcraRule rule = MakeGcraRule({10, kSecond, 5});
  for (const std::int64_t tat : {std::int64_t{0}, kNow - 1, kNow}) {
    const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = kNow, .cost = 2});
    CHECK(answer.tat_ns == kNow + 2 * rule.interval_ns);
    CHECK(answer.remaining == 3);
  }
}

TEST_CASE("units given back at once leave the word as if they had not been spent") {
  const GcraRule rule = MakeGcraRule({10, kSecond, 5});
  const std::int64_t tat = kNow + rule.interval_ns;
  const GcraAnswer answer = Spend(rule, {.tat_ns = tat, .now_ns = kNow, .cost = 3});
  CHECK(GiveBack(rule, {answer.tat_ns, kNow, kNow, 3}) == tat);
  CHECK(GiveBack(rule, {answer.tat_ns, kNow, kNow, 0}) == answer.tat_ns);
  CHECK(GiveBack(rule, {answer.tat_ns, kNow, kNow - kSecond, 3}) == tat);
  // Of what was spent long ago nothing is left to give back.
  CHECK(GiveBack(rule, {answer.tat_ns, kNow, kNow + kSecond, 3}) == answer.tat_ns);
  CHECK(GiveBack(rule, {0, 0, 0, 5}) == 0);
}

TEST_CASE("given back units never admit what would have been refused had they not been spent") {
  CHECK(rc::check([] {
    const GcraRule rule = MakeGcraRule(DrawTerms());
    std::int64_t now = kNow;
    const std::int64_t cost = 1 + *UpTo(rule.burst - 1);
    const std::int64_t start = now - rule.tolerance_ns + *UpTo(2 * rule.tolerance_ns);
    const GcraAnswer spent = Spend(rule, {.tat_ns = start, .now_ns = now, .cost = cost});
    if (!spent.fits) return;
    std::int64_t with = spent.tat_ns;
    std::int64_t without = start;
    for (int i = *rc::gen::inRange(0, 5); i > 0; --i) {
      now += *UpTo(rule.tolerance_ns / 4);
      const GcraRequest other{.tat_ns = with, .now_ns = now, .cost = 1 + *UpTo(rule.burst - 1)};
      const GcraAnswer answer = Spend(rule, other);
      if (!answer.fits) continue;
      with = answer.tat_ns;
      without = Spend(rule, {.tat_ns = without, .now_ns = now, .cost = other.cost}).tat_ns;
    }
    now += *UpTo(rule.tolerance_ns / 4);
    const std::int64_t back = GiveBack(rule, {with, kNow, now, cost});
    RC_ASSERT(back <= with);
    RC_ASSERT(std::max(back, now) >= std::max(without, now));
  }));
}

}  // namespace
}  // namespace throttl::internal
