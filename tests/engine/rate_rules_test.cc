#include "src/engine/rate_rules.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "src/policy/gcra.h"
#include "src/policy/sliding_window.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000 * kMs;
constexpr std::int64_t kNow = 1'790'000'000 * kSecond;

RateRule RuleOf(const RateLimit& limit) {
  const auto rule = RateRule::Create(limit);
  REQUIRE_MESSAGE(rule.ok(), rule.status().ToString());
  return *rule;
}

RateSet SetOf(const std::vector<RateLimit>& of_plan, const std::vector<RateLimit>& of_key = {}) {
  auto set = RateSet::Create(of_plan, of_key);
  REQUIRE_MESSAGE(set.ok(), set.status().ToString());
  return *std::move(set);
}

// "name=limit name=limit", in the order of the rules.
std::string NamesOf(const RateSet& set, std::uint64_t matched = ~std::uint64_t{0}) {
  std::string names;
  for (std::size_t i = 0; i < set.rules().size(); ++i) {
    if (((matched >> i) & 1) == 0) continue;
    const RateRule& rule = set.rules()[i];
    names += (names.empty() ? "" : " ") + rule.name.str() + "=" + std::to_string(rule.limit);
  }
  return names;
}

RateLimit Sliding(const RateLimit& limit) {
  RateLimit slides = limit;
  slides.algorithm = RateAlgorithm::kSlidingWindow;
  return slides;
}

TEST_CASE("rules stand from the narrowest to the widest, the key's among the plan's") {
  const RateSet set = SetOf({{.name = "all", .limit = 1},
                             {.name = "v1", .limit = 2, .endpoint = "/v1/**"},
                             {.name = "post", .limit = 3, .endpoint = "POST /v1/**"},
                             {.name = "search", .limit = 4, .endpoint = "/v1/search"}},
                            {{.name = "star", .limit = 5, .endpoint = "/v1/*"},
                             {.name = "any", .limit = 6, .endpoint = "/**"},
                             {.name = "own", .limit = 7}});
  CHECK(NamesOf(set) == "search=4 star=5 post=3 v1=2 any=6 all=1 own=7");
}

TEST_CASE("limits as narrow as each other stay in their order, those of the plan first") {
  const RateSet set =
      SetOf({{.name = "b", .limit = 1}, {.name = "a", .limit = 2}}, {{.name = "c", .limit = 3}});
  CHECK(NamesOf(set) == "b=1 a=2 c=3");
}

TEST_CASE("a limit of the key replaces the plan's of the same name, with all that it says") {
  const RateSet set =
      SetOf({{.name = "all", .limit = 1}, {.name = "search", .limit = 2, .endpoint = "/search"}},
            {{.name = "search",
              .limit = 3,
              .window = absl::Hours(1),
              .burst = 4,
              .counts = RateCost::kRequests,
              .shadow = true}});
  REQUIRE(NamesOf(set) == "all=1 search=3");
  const RateRule& rule = set.rules()[1];
  CHECK(rule.window_ns == 3600 * kSecond);
  CHECK(rule.burst == 4);
  CHECK(rule.counts_requests);
  CHECK(rule.shadow);
  CHECK_FALSE(set.rules()[0].counts_requests);
  CHECK_FALSE(set.rules()[0].shadow);
  // Without an endpoint, as the key's.
  CHECK(NamesOf(set, set.Match({})) == "all=1 search=3");
}

TEST_CASE("a plan and a key may have eight limits each") {
  std::vector<RateLimit> of_plan;
  std::vector<RateLimit> of_key;
  for (std::size_t i = 0; i < kRateLimitsMax; ++i) {
    of_plan.push_back({.name = "plan" + std::to_string(i), .limit = 1});
    of_key.push_back({.name = "key" + std::to_string(i), .limit = 1});
  }
  const RateSet set = SetOf(of_plan, of_key);
  CHECK(set.rules().size() == RateSet::kRulesMax);
  CHECK(set.Match({}) == (std::uint64_t{1} << RateSet::kRulesMax) - 1);
}

TEST_CASE(
    "Match: those without an endpoint, and those whose endpoint and method are the request's") {
  const RateSet set = SetOf({{.name = "all", .limit = 1},
                             {.name = "search", .limit = 2, .endpoint = "/v1/search/**"},
                             {.name = "post", .limit = 3, .endpoint = "POST /v1/**"}});
  const auto matched = [&](std::string_view method, std::string_view endpoint) {
    return NamesOf(set, set.Match({.method = method, .endpoint = endpoint}));
  };
  CHECK(matched("GET", "/v1/search") == "search=2 all=1");
  CHECK(matched("POST", "/v1/search/a") == "search=2 post=3 all=1");
  CHECK(matched("POST", "/v1/items") == "post=3 all=1");
  CHECK(matched("", "/v1/search") == "search=2 all=1");
  CHECK(matched("GET", "/v2") == "all=1");
  CHECK(matched("", "") == "all=1");
  const RateSet search = SetOf({{.name = "search", .limit = 1, .endpoint = "/search"}});
  CHECK(search.Match({}) == 0);
  CHECK(search.Match({.endpoint = "/search"}) == 1);
  CHECK(SetOf({}).Match({.method = "GET", .endpoint = "/"}) == 0);
  CHECK(SetOf({}).empty());
  CHECK_FALSE(set.empty());
}

TEST_CASE("a limit that cannot be is refused, of the plan and of the key") {
  const std::vector<RateLimit> good = {{.name = "good", .limit = 1}};
  const std::vector<std::vector<RateLimit>> bad = {
      {{.name = "none", .limit = 0}},
      {{.name = "path", .limit = 1, .endpoint = "v1"}},
      {{.name = "fast", .limit = 1'000'001, .window = absl::Seconds(1)}},
      {{.name = "burst", .limit = 1, .burst = 0}},
      {Sliding({.name = "burst", .limit = 2, .burst = 1})},
      {Sliding({.name = "many", .limit = kSlidingWindowLimitMax + 1, .window = absl::Hours(1)})}};
  for (const std::vector<RateLimit>& limits : bad) {
    CAPTURE(limits.front().name);
    CHECK(absl::IsInvalidArgument(RateSet::Create(limits, good).status()));
    CHECK(absl::IsInvalidArgument(RateSet::Create(good, limits).status()));
  }
}

TEST_CASE("a GCRA limit of the same name keeps its word, whatever else is changed") {
  const std::uint64_t hash = RuleOf({.name = "all", .limit = 10}).hash;
  CHECK(RuleOf({.name = "all", .limit = 20}).hash == hash);
  CHECK(RuleOf({.name = "all", .limit = 10, .window = absl::Hours(1)}).hash == hash);
  CHECK(RuleOf({.name = "all", .limit = 10, .burst = 3, .endpoint = "/a", .shadow = true}).hash ==
        hash);
  CHECK(RuleOf({.name = "all", .limit = 10, .counts = RateCost::kRequests}).hash == hash);
  CHECK(RuleOf({.name = "al", .limit = 10}).hash != hash);
}

TEST_CASE("a sliding window keeps its word while its window stays, and shares it with no GCRA") {
  const RateLimit minute{.name = "all", .limit = 10};
  const std::uint64_t hash = RuleOf(Sliding(minute)).hash;
  CHECK(RuleOf(Sliding({.name = "all", .limit = 20})).hash == hash);
  CHECK(RuleOf(Sliding({.name = "all", .limit = 10, .endpoint = "/a", .shadow = true})).hash ==
        hash);
  CHECK(RuleOf(Sliding({.name = "all", .limit = 10, .window = absl::Hours(1)})).hash != hash);
  CHECK(RuleOf(Sliding({.name = "al", .limit = 10})).hash != hash);
  CHECK(RuleOf(minute).hash != hash);
}

TEST_CASE("the fine clock is wanted by a GCRA burst, or a sliding window, of less than a second") {
  const auto wants = [](const RateLimit& limit) {
    return SetOf({limit}).WantsFineClock(1) && RuleOf(limit).wants_fine_clock;
  };
  // At 50 a second 50 units come back in exactly a second.
  CHECK_FALSE(wants({.name = "a", .limit = 50, .window = absl::Seconds(1)}));
  CHECK(wants({.name = "a", .limit = 50, .window = absl::Seconds(1), .burst = 49}));
  CHECK(wants({.name = "a", .limit = 1, .window = absl::Milliseconds(999)}));
  // The burst counts, not the window.
  CHECK(wants({.name = "a", .limit = 6'000, .burst = 99}));
  CHECK_FALSE(wants({.name = "a", .limit = 6'000, .burst = 100}));
  CHECK_FALSE(wants({.name = "a", .limit = 10, .window = absl::Milliseconds(10), .burst = 1'000}));
  CHECK_FALSE(wants(Sliding({.name = "a", .limit = 1, .window = absl::Seconds(1)})));
  CHECK(wants(Sliding({.name = "a", .limit = 1, .window = absl::Milliseconds(999)})));
}

TEST_CASE("only matched limits ask for the fine clock") {
  const RateSet set = SetOf({{.name = "all", .limit = 60},
                             {.name = "fine", .limit = 60, .burst = 1, .endpoint = "/second"},
                             {.name = "fast", .limit = 100, .burst = 1, .endpoint = "/fast"}});
  const auto wants = [&](std::string_view endpoint) {
    return set.WantsFineClock(set.Match({.endpoint = endpoint}));
  };
  // One unit at 60 a minute comes back in a second, at 100 in 600 ms.
  CHECK_FALSE(wants("/second"));
  CHECK(wants("/fast"));
  CHECK_FALSE(wants("/other"));
  CHECK_FALSE(wants(""));
}

TEST_CASE("GCRA: the word is when all units are there again") {
  const RateRule rule = RuleOf({.name = "all", .limit = 10, .window = absl::Seconds(10)});
  CHECK(rule.Remaining(0, kNow) == 10);
  CHECK(rule.RestsAtNs(0, kNow) == kNow);
  const RateAnswer spent = rule.Spend({.word = 0, .now_ns = kNow, .cost = 4});
  CHECK(spent.fits);
  CHECK(spent.remaining == 6);
  CHECK(static_cast<std::int64_t>(spent.word) == kNow + 4 * kSecond);
  CHECK(rule.RestsAtNs(spent.word, kNow) == kNow + 4 * kSecond);
  CHECK(rule.RestsAtNs(spent.word, kNow + 5 * kSecond) == kNow + 5 * kSecond);
  CHECK(rule.Remaining(spent.word, kNow + 3 * kSecond) == 9);
  const RateAnswer refused = rule.Spend({.word = spent.word, .now_ns = kNow, .cost = 8});
  CHECK_FALSE(refused.fits);
  CHECK(refused.word == spent.word);
  CHECK(refused.remaining == 6);
  CHECK(refused.retry_after_ns == 2 * kSecond);
  CHECK_FALSE(rule.Spend({.word = 0, .now_ns = kNow, .cost = 11}).retry_after_ns.has_value());
}

TEST_CASE("sliding window: the word counts, and is at rest when both of its windows are over") {
  const RateRule rule = RuleOf(Sliding({.name = "all", .limit = 10, .window = absl::Seconds(10)}));
  const RateAnswer spent = rule.Spend({.word = 0, .now_ns = kNow, .cost = 4});
  CHECK(spent.fits);
  CHECK(spent.remaining == 6);
  CHECK(UnpackWindow(spent.word).current == 4);
  // kNow begins a window.
  REQUIRE(kNow % (10 * kSecond) == 0);
  CHECK(rule.RestsAtNs(spent.word, kNow) == kNow + 20 * kSecond);
  CHECK(rule.RestsAtNs(spent.word, kNow + 30 * kSecond) == kNow + 30 * kSecond);
  CHECK(rule.Remaining(spent.word, kNow + 15 * kSecond) == 8);
  const RateAnswer refused = rule.Spend({.word = spent.word, .now_ns = kNow, .cost = 7});
  CHECK_FALSE(refused.fits);
  CHECK(refused.word == spent.word);
  // From a quarter of the next window on, three of the four count.
  CHECK(refused.retry_after_ns == 10 * kSecond + 2'500 * kMs);
  CHECK_FALSE(rule.Spend({.word = 0, .now_ns = kNow, .cost = 11}).retry_after_ns.has_value());
}

TEST_CASE("RateWordFreeAt: from when a word lets through all that an empty one does") {
  const RateRule gcra = RuleOf({.name = "all", .limit = 10, .window = absl::Seconds(10)});
  const std::uint64_t tat = gcra.Spend({.word = 0, .now_ns = kNow, .cost = 4}).word;
  CHECK(RateWordFreeAt(tat, 0, kNow) == kNow + 4 * kSecond);
  CHECK(RateWordFreeAt(tat, 0, kNow + 60 * kSecond) == kNow + 4 * kSecond);
  CHECK(gcra.Remaining(tat, RateWordFreeAt(tat, 0, kNow)) == 10);
  CHECK(gcra.Remaining(tat, RateWordFreeAt(tat, 0, kNow) - 1) == 9);
  CHECK(RateWordFreeAt(0, 0, kNow) == 0);

  // It knows the window and not the limit, so it is the same for all limits.
  for (const std::int64_t limit : {4, 10, 1'000}) {
    const RateRule slides =
        RuleOf(Sliding({.name = "all", .limit = limit, .window = absl::Seconds(10)}));
    const std::uint64_t word = slides.Spend({.word = 0, .now_ns = kNow, .cost = 4}).word;
    const std::int64_t free_at_ns = RateWordFreeAt(word, slides.window_ns, kNow);
    CHECK(free_at_ns == kNow + 20 * kSecond);
    CHECK(free_at_ns == slides.RestsAtNs(word, kNow));
    CHECK(slides.Remaining(word, free_at_ns) == limit);
    CHECK(slides.Remaining(word, free_at_ns - 1) == limit - 1);
  }
  CHECK(RateWordFreeAt(0, 10 * kSecond, kNow) == 0);
}

TEST_CASE("GiveBack undoes a Spend, also below what others have spent since") {
  for (const bool slides : {false, true}) {
    CAPTURE(slides);
    const RateLimit limit{.name = "all", .limit = 10, .window = absl::Seconds(10)};
    const RateRule rule = RuleOf(slides ? Sliding(limit) : limit);
    const std::uint64_t before = rule.Spend({.word = 0, .now_ns = kNow, .cost = 1}).word;
    const std::uint64_t spent = rule.Spend({.word = before, .now_ns = kNow, .cost = 4}).word;
    const std::uint64_t after = rule.Spend({.word = spent, .now_ns = kNow, .cost = 2}).word;
    const auto give_back = [&](std::uint64_t word, std::int64_t since_ns) {
      return rule.GiveBack({.word = word,
                            .spent = spent,
                            .spent_at_ns = kNow,
                            .now_ns = kNow + since_ns,
                            .cost = 4});
    };
    CHECK(give_back(spent, 0) == before);
    CHECK(rule.Remaining(give_back(after, 0), kNow) == 7);
    // Later, GCRA keeps what might have come back without the units, and a window what it counted.
    CHECK(rule.Remaining(give_back(after, kSecond), kNow) == (slides ? 7 : 6));
    CHECK(rule.Remaining(give_back(after, 5 * kSecond), kNow) == (slides ? 7 : 3));
  }
}

TEST_CASE("units given back after their sliding window are not taken from the next one") {
  const RateRule rule = RuleOf(Sliding({.name = "all", .limit = 10, .window = absl::Seconds(10)}));
  const std::uint64_t spent = rule.Spend({.word = 0, .now_ns = kNow, .cost = 4}).word;
  const std::int64_t later_ns = kNow + 40 * kSecond;
  const std::uint64_t word = rule.Spend({.word = spent, .now_ns = later_ns, .cost = 5}).word;
  CHECK(rule.GiveBack(
            {.word = word, .spent = spent, .spent_at_ns = kNow, .now_ns = later_ns, .cost = 4}) ==
        word);
}

TEST_CASE(
    "a word is ahead when no clock that reads now can have made it, and is then pulled back") {
  const RateLimit limit{.name = "all", .limit = 10, .window = absl::Seconds(10)};
  const RateRule gcra = RuleOf(limit);
  const std::uint64_t full = gcra.Spend({.word = 0, .now_ns = kNow, .cost = 10}).word;
  CHECK_FALSE(gcra.IsAhead(0, kNow));
  CHECK_FALSE(gcra.IsAhead(full, kNow));
  CHECK(gcra.IsAhead(full, kNow - 1));
  CHECK(gcra.ClampToNow(full, kNow) == full);
  CHECK(gcra.ClampToNow(full, kNow - kSecond) == full - kSecond);

  const RateRule slides = RuleOf(Sliding(limit));
  const std::uint64_t window = slides.Spend({.word = 0, .now_ns = kNow, .cost = 10}).word;
  CHECK_FALSE(slides.IsAhead(0, kNow));
  CHECK_FALSE(slides.IsAhead(window, kNow));
  CHECK_FALSE(slides.IsAhead(window, kNow + 100 * kSecond));
  CHECK(slides.IsAhead(window, kNow - 1));
  CHECK(slides.ClampToNow(window, kNow) == window);
  const std::uint64_t clamped = slides.ClampToNow(window, kNow - 1);
  CHECK(UnpackWindow(clamped).previous == 10);
  CHECK(UnpackWindow(clamped).current == 0);
  CHECK_FALSE(slides.IsAhead(clamped, kNow - 1));
}

}  // namespace
}  // namespace throttl::internal
