// Rate limits under a spray of keys and endpoints: a small rate table that endpoints do not fill,
// and what happens when it is full of limits that are not at rest.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kSlots = 1024;
constexpr std::uint64_t kSeed = 20261101;

struct Small {
  std::shared_ptr<ManualClock> clock = nullptr;
  std::unique_ptr<Engine> engine = nullptr;
};

Small OpenSmall(std::int64_t slots, StoreFailure on_store_failure = StoreFailure::kRefuse) {
  Small small{.clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'010))};
  auto engine = Engine::Open("memory:", {.on_store_failure = on_store_failure,
                                         .settle_thread = false,
                                         .rate_slots_max = slots,
                                         .clock = small.clock});
  REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
  small.engine = *std::move(engine);
  return small;
}

std::vector<std::string> IssueKeys(Engine& engine, const Plan& plan, std::size_t count) {
  REQUIRE(engine.PutPlan(plan).ok());
  std::vector<std::string> secrets;
  for (std::size_t i = 0; i < count; ++i) {
    const auto issued = engine.CreateKey({.owner_id = "acme", .plan_id = plan.id});
    REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
    secrets.emplace_back(issued->secret.Reveal());
  }
  return secrets;
}

// What is left of a limit that is reached in the end, and then none.
std::int64_t Rest(Engine& engine, const std::string& secret, std::string_view endpoint) {
  std::int64_t allowed = 0;
  while (engine.Validate(secret, {.method = "GET", .endpoint = endpoint}).allowed()) ++allowed;
  return allowed;
}

TEST_CASE("Of a million endpoints none makes a counter: each key has its limits, and no more") {
  // A tag finds a place for certain only while the table is far from full.
  constexpr std::size_t kKeys = 200;
  constexpr std::size_t kThreads = 4;
  const std::int64_t pairs = Scaled(1'000'000);
  const std::int64_t of_key = pairs / static_cast<std::int64_t>(kKeys);
  INFO("seed " << kSeed);
  const Small small = OpenSmall(4 * kSlots);
  // By the first segment: three limits, of which each is less than what is asked of it.
  const Plan plan{
      .id = "sprayed",
      .rate_limits = {{.name = "users", .limit = of_key / 6 + 1, .endpoint = "/users/*/posts/**"},
                      {.name = "search",
                       .limit = of_key / 12 + 1,
                       .endpoint = "GET /search/**",
                       .algorithm = RateAlgorithm::kSlidingWindow},
                      {.name = "all", .limit = of_key / 2 + 1}}};
  const std::vector<std::string> secrets = IssueKeys(*small.engine, plan, kKeys);
  struct Allowed {
    std::atomic<std::int64_t> users = 0;
    std::atomic<std::int64_t> search = 0;
    std::atomic<std::int64_t> all = 0;
  };
  std::vector<Allowed> allowed(kKeys);
  std::atomic<std::int64_t> others = 0;  // neither allowed nor limited
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(kSeed + i);
      const auto share = pairs / static_cast<std::int64_t>(kThreads);
      for (std::int64_t n = 0; n < share; ++n) {
        // Every endpoint is another one.
        const std::size_t key = static_cast<std::size_t>(n) % kKeys;
        const std::size_t kind = random() % 3;
        const std::string tail = absl::StrCat(i, "-", n);
        const std::string endpoint = kind == 0   ? absl::StrCat("/users/", tail, "/posts/", n)
                                     : kind == 1 ? absl::StrCat("/search/", tail)
                                                 : absl::StrCat("/", tail);
        const Decision d =
            small.engine->Validate(secrets[key], {.method = "GET", .endpoint = endpoint});
        if (d.allowed()) {
          ++allowed[key].all;
          if (kind == 0) ++allowed[key].users;
          if (kind == 1) ++allowed[key].search;
        } else if (d.code != DecisionCode::kRateLimited) {
          ++others;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(others.load() == 0, small.engine->stats().last_store_error.ToString());
  for (std::size_t key = 0; key < kKeys; ++key) {
    CAPTURE(key);
    const std::int64_t users = Rest(*small.engine, secrets[key], "/users/x/posts/y");
    const std::int64_t search = Rest(*small.engine, secrets[key], "/search/x");
    const std::int64_t more = Rest(*small.engine, secrets[key], "/x");
    const std::int64_t all = allowed[key].all + users + search + more;
    REQUIRE(all == plan.rate_limits[2].limit);
    REQUIRE(allowed[key].users + users <= plan.rate_limits[0].limit);
    REQUIRE(allowed[key].search + search <= plan.rate_limits[1].limit);
  }
}

TEST_CASE(
    "A rate table full of limits that are not at rest: further keys fall under the failure policy, "
    "the limited ones go on exactly, and when they rest there is room again") {
  constexpr std::int64_t kLimit = 5;
  for (const RateAlgorithm algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
    for (const StoreFailure policy : {StoreFailure::kRefuse, StoreFailure::kAllow}) {
      const Small small = OpenSmall(kSlots, policy);
      const std::vector<std::string> secrets =
          IssueKeys(*small.engine,
                    {.id = "small",
                     .rate_limits = {{.name = "minute", .limit = kLimit, .algorithm = algorithm}}},
                    3000);
      std::vector<std::size_t> limited;
      std::vector<std::size_t> further;
      for (std::size_t key = 0; key < secrets.size(); ++key) {
        const Decision d = small.engine->Validate(secrets[key]);
        if (d.allowed() && !d.unmetered) {
          limited.push_back(key);
          continue;
        }
        further.push_back(key);
        REQUIRE(d.code == (policy == StoreFailure::kAllow ? DecisionCode::kValid
                                                          : DecisionCode::kStoreUnavailable));
        REQUIRE(d.unmetered == (policy == StoreFailure::kAllow));
      }
      CHECK(limited.size() > kSlots * 3 / 4);
      CHECK(limited.size() <= kSlots);
      CHECK(absl::IsResourceExhausted(small.engine->stats().last_store_error));
      // Those that have a place, in between of those that have none.
      for (std::int64_t spent = 1; spent <= kLimit; ++spent) {
        for (const std::size_t key : limited) {
          const Decision d = small.engine->Validate(secrets[key]);
          REQUIRE_FALSE(d.unmetered);
          REQUIRE(d.code == (spent < kLimit ? DecisionCode::kValid : DecisionCode::kRateLimited));
        }
        for (const std::size_t key : further) {
          const Decision d = small.engine->Validate(secrets[key]);
          REQUIRE(d.unmetered == (policy == StoreFailure::kAllow));
          REQUIRE(d.code != DecisionCode::kRateLimited);
        }
      }
      // A GCRA limit that is used up rests after its window, a sliding one after two.
      small.clock->Advance(absl::Minutes(2) + absl::Nanoseconds(1));
      for (std::size_t i = 0; i < 100; ++i) {
        REQUIRE(Rest(*small.engine, secrets[further[i]], "") == kLimit);
        REQUIRE(Rest(*small.engine, secrets[limited[i]], "") == kLimit);
      }
    }
  }
}

}  // namespace
}  // namespace throttl::testing
