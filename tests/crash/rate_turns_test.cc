// Requests race for two and three limits, and at each step of a decision another one may go on: a
// turn is drawn at every fault point, so that a round is one schedule of many, and its seed says
// which.
#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "src/lease/fault_point.h"
#include "tests/crash/crash_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

// A limit of depth d applies to the endpoints of depth d and more.
constexpr std::array<const char*, 3> kEndpoints = {"/other", "/api/other", "/api/narrow"};
constexpr std::array<const char*, 3> kPatterns = {"", "/api/**", "/api/narrow"};
constexpr std::array<const char*, 3> kNames = {"all", "api", "narrow"};
constexpr std::size_t kRunnersMax = 4;
// None of them is passed with a lock held.
constexpr std::array<std::string_view, 6> kPoints = {"rate.read",  "rates.spent", "probe.read",
                                                     "spend.read", "spend.fits",  "spend.swapped"};

// What this thread does at a fault point.
thread_local const std::function<void(std::string_view point)>* at_point = nullptr;

void AtFaultPoint(const char* point) {
  if (at_point != nullptr) (*at_point)(point);
}

// One runner at a time goes on; who has the turn alone reads and writes what is here.
class Turns {
 public:
  explicit Turns(std::uint64_t seed) : random_(seed) {}

  // Lets the first `runners` run once each, and waits for them.
  void Run(std::size_t runners) {
    for (std::size_t i = 0; i < runners; ++i) running_.push_back(i);
    Next().release();
    ended_.acquire();
  }
  void Await(std::size_t runner) { turns_[runner].acquire(); }
  void Pass(std::size_t runner) {
    std::binary_semaphore& next = Next();
    if (&next == &turns_[runner]) return;
    next.release();
    Await(runner);
  }
  void End(std::size_t runner) {
    std::erase(running_, runner);
    running_.empty() ? ended_.release() : Next().release();
  }

 private:
  std::binary_semaphore& Next() { return turns_[running_[random_() % running_.size()]]; }

  std::mt19937_64 random_;
  std::vector<std::size_t> running_;
  std::array<std::binary_semaphore, kRunnersMax> turns_ = {
      std::binary_semaphore(0), std::binary_semaphore(0), std::binary_semaphore(0),
      std::binary_semaphore(0)};
  std::binary_semaphore ended_ = std::binary_semaphore(0);
};

struct Scenario {
  std::array<std::int64_t, 3> rates = {};  // by depth; 0: none
  std::optional<Quota> quota = std::nullopt;
  std::vector<std::size_t> runners = {};  // the depths of their endpoints
  std::int64_t allowed = 0;               // the wide limit
  RateAlgorithm algorithm = RateAlgorithm::kGcra;
  bool warm = false;  // a request of every limit has been before
  std::string plan_id = {};
};

Quota LifetimeQuota(std::int64_t limit, QuotaScope scope = QuotaScope::kKey) {
  return {.limit = limit, .period = Period::kLifetime, .scope = scope};
}

// In the first ones two runners want the one unit of the narrow limit, and of the wide one there
// is as much as can be used: whoever takes a unit of it and finds the narrow limit used up keeps it
// from another. In the others the wide limit refuses what the narrow one lets pass.
std::vector<Scenario> AllScenarios() {
  const auto of_owner = [](std::int64_t limit) { return LifetimeQuota(limit, QuotaScope::kOwner); };
  const std::vector<Scenario> basic = {
      {.rates = {2, 0, 1}, .runners = {2, 2, 0}, .allowed = 2},
      {.rates = {0, 0, 1}, .quota = LifetimeQuota(2), .runners = {2, 2, 0}, .allowed = 2},
      {.rates = {0, 0, 1}, .quota = of_owner(2), .runners = {2, 2, 0}, .allowed = 2},
      {.rates = {3, 2, 1}, .runners = {2, 2, 1, 0}, .allowed = 3},
      {.rates = {0, 2, 1}, .quota = LifetimeQuota(3), .runners = {2, 2, 1, 0}, .allowed = 3},
      {.rates = {2, 0, 1}, .quota = of_owner(2), .runners = {2, 2, 0}, .allowed = 2},
      {.rates = {1, 0, 2}, .runners = {2, 2, 0}, .allowed = 1},
      {.rates = {0, 0, 2}, .quota = LifetimeQuota(1), .runners = {2, 2}, .allowed = 1},
      {.rates = {3, 0, 3}, .quota = LifetimeQuota(1), .runners = {2, 2, 0}, .allowed = 1},
      {.rates = {2, 0, 0}, .quota = of_owner(1), .runners = {0, 0, 0}, .allowed = 1}};
  std::vector<Scenario> scenarios;
  for (const auto algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
    for (const bool warm : {false, true}) {
      for (Scenario scenario : basic) {
        scenario.algorithm = algorithm;
        scenario.warm = warm;
        scenario.plan_id = absl::StrCat("plan_", scenarios.size());
        if (warm) {
          for (std::int64_t& limit : scenario.rates) limit += limit == 0 ? 0 : 1;
          if (scenario.quota.has_value()) ++scenario.quota->limit;
          ++scenario.allowed;
        }
        scenarios.push_back(scenario);
      }
    }
  }
  return scenarios;
}

RateLimit LimitOf(const Scenario& scenario, std::size_t depth) {
  return {.name = kNames[depth],
          .limit = scenario.rates[depth],
          .endpoint = kPatterns[depth],
          .algorithm = scenario.algorithm};
}

Plan PlanOf(const Scenario& scenario) {
  Plan plan{.id = scenario.plan_id, .quota = scenario.quota};
  for (std::size_t depth = 0; depth < 3; ++depth) {
    if (scenario.rates[depth] != 0) plan.rate_limits.push_back(LimitOf(scenario, depth));
  }
  return plan;
}

std::unique_ptr<Engine> OpenOnMemory() {
  auto engine = Engine::Open(
      "memory:", {.settle_thread = false,
                  .clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000))});
  REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
  return *std::move(engine);
}

std::string NewSecret(Engine& engine, const std::string& plan_id, const std::string& owner_id) {
  const auto issued = engine.CreateKey({.owner_id = owner_id, .plan_id = plan_id});
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return std::string(issued->secret.Reveal());
}

// A round's key, and what was allowed of it.
struct Round {
  std::size_t scenario = 0;
  std::string secret = {};
  std::array<std::int64_t, 3> allowed = {};  // by depth of the endpoint

  std::int64_t Sum(std::size_t depth) const {
    std::int64_t sum = 0;
    for (std::size_t d = depth; d < 3; ++d) sum += allowed[d];
    return sum;
  }
};

// The threads that run in turns.
class Runners {
 public:
  Runners(Engine& engine, const std::vector<Scenario>& scenarios, std::uint64_t seed)
      : engine_(engine), scenarios_(scenarios), turns_(seed) {
    for (std::size_t i = 0; i < kRunnersMax; ++i) {
      threads_.emplace_back([this, i] { Serve(i); });
    }
  }
  ~Runners() {
    round_ = nullptr;
    turns_.Run(kRunnersMax);
    for (std::thread& thread : threads_) thread.join();
  }
  Runners(const Runners&) = delete;
  Runners& operator=(const Runners&) = delete;

  void Run(Round& round) {
    round_ = &round;
    turns_.Run(scenarios_[round.scenario].runners.size());
  }

 private:
  void Serve(std::size_t runner) {
    const std::function<void(std::string_view)> pass = [&](std::string_view point) {
      if (std::find(kPoints.begin(), kPoints.end(), point) != kPoints.end()) turns_.Pass(runner);
    };
    for (;;) {
      turns_.Await(runner);
      if (round_ == nullptr) return turns_.End(runner);
      const std::size_t depth = scenarios_[round_->scenario].runners[runner];
      at_point = &pass;
      const Decision d = engine_.Validate(round_->secret, {.endpoint = kEndpoints[depth]});
      at_point = nullptr;
      if (d.allowed()) ++round_->allowed[depth];
      turns_.End(runner);
    }
  }

  Engine& engine_;
  const std::vector<Scenario>& scenarios_;
  Turns turns_;
  Round* round_ = nullptr;
  std::vector<std::thread> threads_;
};

// What each rate limit has left, which is seen when the plan has no other.
void CheckRates(Engine& engine, const std::vector<Scenario>& scenarios,
                const std::vector<Round>& rounds) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < scenarios.size(); ++i) {
    for (std::size_t depth = 0; depth < 3; ++depth) {
      if (scenarios[i].rates[depth] == 0) continue;
      Plan plan = PlanOf(scenarios[i]);
      plan.rate_limits = {LimitOf(scenarios[i], depth)};
      REQUIRE(engine.PutPlan(plan).ok());
      for (const Round& round : rounds) {
        if (round.scenario != i) continue;
        const Decision d = engine.Peek(round.secret, {.cost = 0, .endpoint = kEndpoints[2]});
        if (d.rate.remaining == scenarios[i].rates[depth] - round.Sum(depth)) continue;
        if (++wrong <= 10) {
          MESSAGE(absl::StrCat("round ", &round - rounds.data(), " of scenario ", i, ": ",
                               kNames[depth], " has ", d.rate.remaining, " left, and ",
                               round.Sum(depth), " of ", scenarios[i].rates[depth],
                               " were allowed"));
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("Whatever the order of their steps, of racing requests the wide limit is admitted") {
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  internal::fault_hook = AtFaultPoint;
  const std::vector<Scenario> scenarios = AllScenarios();
  const auto engine = OpenOnMemory();
  for (const Scenario& scenario : scenarios) REQUIRE(engine->PutPlan(PlanOf(scenario)).ok());
  std::vector<Round> rounds(static_cast<std::size_t>(Scaled(20'000)));
  std::vector<std::int64_t> wrong(scenarios.size());
  std::vector<std::int64_t> all(scenarios.size());
  {
    Runners runners(*engine, scenarios, seed);
    for (std::size_t number = 0; number < rounds.size(); ++number) {
      Round& round = rounds[number];
      round.scenario = number % scenarios.size();
      const Scenario& scenario = scenarios[round.scenario];
      round.secret = NewSecret(*engine, scenario.plan_id, absl::StrCat("owner_", number));
      if (scenario.warm) {
        REQUIRE(engine->Validate(round.secret, {.endpoint = kEndpoints[2]}).allowed());
        ++round.allowed[2];
      }
      runners.Run(round);
      ++all[round.scenario];
      if (round.Sum(0) != scenario.allowed) ++wrong[round.scenario];
    }
  }
  for (std::size_t i = 0; i < scenarios.size(); ++i) {
    CHECK_MESSAGE(wrong[i] == 0, absl::StrCat(wrong[i], " of ", all[i], " rounds of scenario ", i,
                                              " did not admit ", scenarios[i].allowed));
  }
  for (const Round& round : rounds) {
    REQUIRE(engine->Peek(round.secret, {.cost = 0}).quota.used == round.Sum(0));
  }
  CheckRates(*engine, scenarios, rounds);
}

// What happens once in the middle of a request: when it has spent from the first of its limits.
class Between {
 public:
  explicit Between(const std::function<void()>& what)
      : at_([this, what](std::string_view point) {
          if (point != "rates.spent" || done_) return;
          done_ = true;
          what();
        }) {
    internal::fault_hook = AtFaultPoint;
    at_point = &at_;
  }
  ~Between() { at_point = nullptr; }
  Between(const Between&) = delete;
  Between& operator=(const Between&) = delete;

  bool done() const { return done_; }

 private:
  bool done_ = false;
  const std::function<void(std::string_view)> at_;
};

std::int64_t LeftOfNarrow(Engine& engine, const Scenario& scenario, const std::string& secret) {
  Plan plan = PlanOf(scenario);
  plan.rate_limits = {LimitOf(scenario, 2)};
  REQUIRE(engine.PutPlan(plan).ok());
  return engine.Peek(secret, {.cost = 0, .endpoint = kEndpoints[2]}).rate.remaining;
}

TEST_CASE("A request that lost a race has spent nothing, also when the table has grown meanwhile") {
  constexpr std::int64_t kKeysThatGrow = 2000;
  for (const auto algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
    for (const bool warm : {false, true}) {
      for (const bool quota : {false, true}) {
        CAPTURE(warm);
        CAPTURE(quota);
        Scenario scenario{
            .rates = {quota ? 9 : 2, 0, 5}, .algorithm = algorithm, .plan_id = "raced"};
        if (quota) scenario.quota = LifetimeQuota(2);
        const auto engine = OpenOnMemory();
        REQUIRE(engine->PutPlan(PlanOf(scenario)).ok());
        REQUIRE(engine->PutPlan({.id = "grows", .rate_limits = {{.name = "a", .limit = 9}}}).ok());
        const std::string secret = NewSecret(*engine, "raced", "acme");
        REQUIRE(engine->Validate(secret, {.endpoint = kEndpoints[warm ? 2 : 0]}).allowed());
        std::vector<std::string> others;
        for (std::int64_t i = 0; i < kKeysThatGrow; ++i) {
          others.push_back(NewSecret(*engine, "grows", "acme"));
        }
        Decision refused;
        {
          const Between between([&] {
            CHECK(engine->Validate(secret, {.endpoint = kEndpoints[0]}).allowed());
            for (const std::string& other : others) CHECK(engine->Validate(other).allowed());
          });
          refused = engine->Validate(secret, {.endpoint = kEndpoints[2]});
          CHECK(between.done());
        }
        CHECK_FALSE(refused.allowed());
        CHECK(refused.quota.used == 2);
        CHECK(LeftOfNarrow(*engine, scenario, secret) == (warm ? 4 : 5));
      }
    }
  }
}

TEST_CASE("A request that lost a race has spent nothing, also while the table grows") {
  constexpr std::int64_t kKeysThatGrow = 2000;
  for (const auto algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
    const Scenario scenario{
        .rates = {0, 0, 5}, .quota = LifetimeQuota(2), .algorithm = algorithm, .plan_id = "raced"};
    const auto engine = OpenOnMemory();
    REQUIRE(engine->PutPlan(PlanOf(scenario)).ok());
    REQUIRE(engine->PutPlan({.id = "grows", .rate_limits = {{.name = "a", .limit = 9}}}).ok());
    const std::string secret = NewSecret(*engine, "raced", "acme");
    REQUIRE(engine->Validate(secret, {.endpoint = kEndpoints[2]}).allowed());
    std::vector<std::string> others;
    for (std::int64_t i = 0; i < kKeysThatGrow; ++i) {
      others.push_back(NewSecret(*engine, "grows", "acme"));
    }
    std::binary_semaphore grows(0);
    std::binary_semaphore goes_on(0);
    std::int64_t growths = 0;
    std::thread grower;
    bool begun = false;
    bool raced = false;
    bool released = false;
    const auto release = [&] {
      if (!released) goes_on.release();
      released = true;
    };
    const std::function<void(std::string_view)> at_growth = [&](std::string_view point) {
      if (point != "rate.copied" || ++growths != 1) return;
      grows.release();
      goes_on.acquire();
    };
    const std::function<void(std::string_view)> race = [&](std::string_view point) {
      // The request looks for the place from which it had spent, and finds it frozen.
      if (point == "rate.read" && raced) release();
      if (point != "rates.spent" || begun) return;
      begun = true;
      CHECK(engine->Validate(secret, {.endpoint = kEndpoints[0]}).allowed());
      grower = std::thread([&] {
        at_point = &at_growth;
        for (const std::string& other : others) CHECK(engine->Validate(other).allowed());
      });
      grows.acquire();
      raced = true;
    };
    internal::fault_hook = AtFaultPoint;
    at_point = &race;
    const Decision refused = engine->Validate(secret, {.endpoint = kEndpoints[2]});
    at_point = nullptr;
    release();
    REQUIRE(raced);
    CHECK(refused.code == DecisionCode::kQuotaExceeded);
    grower.join();
    CHECK(LeftOfNarrow(*engine, scenario, secret) == 4);
  }
}

TEST_CASE("A request that lost the quota's last unit is told what is left without it") {
  const Scenario scenario{.rates = {0, 0, 5}, .quota = LifetimeQuota(1), .plan_id = "raced"};
  const auto engine = OpenOnMemory();
  REQUIRE(engine->PutPlan(PlanOf(scenario)).ok());
  const std::string secret = NewSecret(*engine, "raced", "acme");
  const Between between(
      [&] { CHECK(engine->Validate(secret, {.endpoint = kEndpoints[0]}).allowed()); });
  const Decision refused = engine->Validate(secret, {.endpoint = kEndpoints[2]});
  CHECK(between.done());
  CHECK(refused.code == DecisionCode::kQuotaExceeded);
  CHECK(refused.rate.remaining == 5);
  CHECK(refused.rate.resets_at == refused.decided_at);
  CHECK(LeftOfNarrow(*engine, scenario, secret) == 5);
}

}  // namespace
}  // namespace throttl::testing
