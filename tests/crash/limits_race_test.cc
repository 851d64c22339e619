// One decision over all limits: processes and threads race for keys with two and three limits, of
// which a wider one than the narrowest refuses. The clock stands still, and a ledger of what was
// allowed decides.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"
#include "tests/crash/shared_clock.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

// A limit of depth d applies to the endpoints of depth d and more.
constexpr std::array<const char*, 3> kEndpoints = {"/other", "/api/other", "/api/narrow"};
constexpr std::array<const char*, 3> kPatterns = {"", "/api/**", "/api/narrow"};
constexpr std::array<const char*, 3> kNames = {"all", "api", "narrow"};
constexpr std::size_t kThreads = 8;  // of a process
constexpr std::size_t kProcesses = 4;
constexpr std::size_t kRoundsMax = 4096;
constexpr std::size_t kKeysOfOwner = 3;
constexpr std::int64_t kRoom = 5;  // of a limit that never refuses
constexpr int kWaitsMax = 100;

// A plan, and which of its limits all the others leave to refuse.
struct Contest {
  Plan plan = {};
  std::vector<std::size_t> depths = {};  // of the rate limits of the plan
  std::size_t depth = 0;                 // of the limit that refuses, 0 for a quota
  std::int64_t limit = 0;                // of the limit that refuses
  bool of_owner = false;                 // the owner's quota refuses
  std::size_t keys = 1;
};

struct Shape {
  std::uint32_t rates = 0;  // bit d: a rate limit of depth d
  std::optional<QuotaScope> quota = std::nullopt;
  std::size_t refusing = 0;  // from the narrowest, 0, to the widest
  RateAlgorithm algorithm = RateAlgorithm::kGcra;
  bool tight = false;  // the narrowest refuses, too, but not everything
};

Contest MakeContest(const Shape& shape, std::int64_t limit) {
  Contest contest{.limit = limit};
  contest.keys = shape.quota == QuotaScope::kOwner ? kKeysOfOwner : 1;
  std::size_t position = 0;
  const auto size_of = [&](std::size_t at) {
    if (at == shape.refusing) return limit;
    if (at == 0 && shape.tight) return limit / 2 + 1;
    return limit * static_cast<std::int64_t>(contest.keys) + kRoom;
  };
  for (const std::size_t depth : {2U, 1U, 0U}) {
    if ((shape.rates >> depth & 1) == 0) continue;
    contest.plan.rate_limits.push_back({.name = kNames[depth],
                                        .limit = size_of(position),
                                        .endpoint = kPatterns[depth],
                                        .algorithm = shape.algorithm});
    contest.depths.push_back(depth);
    if (position == shape.refusing) contest.depth = depth;
    ++position;
  }
  if (!shape.quota.has_value()) return contest;
  contest.plan.quota =
      Quota{.limit = size_of(position), .period = Period::kLifetime, .scope = *shape.quota};
  contest.of_owner = position == shape.refusing && shape.quota == QuotaScope::kOwner;
  return contest;
}

// Every combination of two and three limits, and every one of them but the narrowest to refuse.
std::vector<Contest> AllContests() {
  constexpr std::array<std::int64_t, 5> kLimits = {1, 7, 60, 2, 300};
  std::vector<Contest> contests;
  for (std::uint32_t rates = 1; rates < 8; ++rates) {
    for (const std::optional<QuotaScope> quota :
         {std::optional<QuotaScope>(), std::optional(QuotaScope::kKey),
          std::optional(QuotaScope::kOwner)}) {
      const std::size_t limits =
          static_cast<std::size_t>(__builtin_popcount(rates)) + (quota.has_value() ? 1 : 0);
      if (limits < 2 || limits > 3) continue;
      for (std::size_t refusing = 1; refusing < limits; ++refusing) {
        for (const auto algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
          for (const bool tight : {false, true}) {
            if (tight && rates == 1) continue;  // it would refuse everything
            contests.push_back(MakeContest({.rates = rates,
                                            .quota = quota,
                                            .refusing = refusing,
                                            .algorithm = algorithm,
                                            .tight = tight},
                                           kLimits[contests.size() % kLimits.size()]));
            contests.back().plan.id = absl::StrCat("plan_", contests.size());
          }
        }
      }
    }
  }
  return contests;
}

struct Round {
  std::size_t contest = 0;
  std::int64_t cost_max = 1;
  std::vector<std::string> secrets = {};
};

struct RaceLedger {
  // Units that were allowed, by round, key, and depth of the endpoint.
  std::array<std::array<std::array<std::atomic<std::int64_t>, 3>, kKeysOfOwner>, kRoundsMax>
      allowed = {};
  std::atomic<std::size_t> arrived = 0;
  std::atomic<std::int64_t> now_ms = 1'790'000'000'123;
  Report report;
};

std::unique_ptr<Engine> OpenOrReport(const std::string& url, RaceLedger& ledger) {
  auto engine = Engine::Open(
      url, {.settle_thread = false, .clock = std::make_shared<SharedClock>(ledger.now_ms)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

std::vector<Round> MakeRounds(Engine& engine, const std::vector<Contest>& contests,
                              std::int64_t count) {
  for (const Contest& contest : contests) {
    const auto put = engine.PutPlan(contest.plan);
    REQUIRE_MESSAGE(put.ok(), put.status().ToString());
  }
  std::vector<Round> rounds;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    Round round{.contest = at % contests.size(), .cost_max = i % 3 == 2 ? 3 : 1};
    for (std::size_t key = 0; key < contests[round.contest].keys; ++key) {
      const auto issued = engine.CreateKey(
          {.owner_id = absl::StrCat("owner_", i), .plan_id = contests[round.contest].plan.id});
      REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
      round.secrets.emplace_back(issued->secret.Reveal());
    }
    rounds.push_back(std::move(round));
  }
  return rounds;
}

// Asks for twice the limit and more, until the limit that is to refuse has refused a unit of every
// key.
void Compete(Engine& engine, const Contest& contest, const Round& round, std::size_t number,
             std::size_t competitors, std::uint64_t seed, RaceLedger& ledger) {
  std::mt19937_64 random(seed);
  std::size_t refused = 0;  // bit i: key i
  int waits = 0;
  const std::size_t everybody = (std::size_t{1} << contest.keys) - 1;
  const std::int64_t demand = 2 * contest.limit * static_cast<std::int64_t>(contest.keys) /
                                  static_cast<std::int64_t>(competitors) +
                              2;
  for (std::int64_t i = 0; i < demand || refused != everybody; ++i) {
    const std::size_t key = random() % contest.keys;
    const std::size_t depth = contest.depth + random() % (3 - contest.depth);
    const std::int64_t cost =
        static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(round.cost_max)) + 1;
    const Decision d =
        engine.Validate(round.secrets[key], {.cost = cost, .endpoint = kEndpoints[depth]});
    if (d.allowed()) {
      ledger.allowed[number][key][depth].fetch_add(cost);
    } else if (d.code == DecisionCode::kStoreUnavailable && ++waits < kWaitsMax) {
      std::this_thread::yield();  // a lock was not to be had in time, which a host repeats
    } else if (d.code != DecisionCode::kQuotaExceeded && d.code != DecisionCode::kRateLimited) {
      ledger.report.Add(absl::StrCat("code ", static_cast<int>(d.code), " ",
                                     engine.stats().last_store_error.ToString()));
      return;
    } else if (depth == contest.depth && cost == 1) {
      refused |= std::size_t{1} << key;
    }
  }
}

void CompeteInAll(Engine& engine, const std::vector<Contest>& contests,
                  const std::vector<Round>& rounds, std::size_t processes, std::uint64_t seed,
                  RaceLedger& ledger) {
  std::vector<std::thread> threads;
  const std::size_t competitors = processes * kThreads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (std::size_t number = 0; number < rounds.size(); ++number) {
        ledger.arrived.fetch_add(1);
        while (ledger.arrived.load() < (number + 1) * competitors) std::this_thread::yield();
        Compete(engine, contests[rounds[number].contest], rounds[number], number, competitors,
                seed + 1000 * number + i, ledger);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::int64_t Sum(const RaceLedger& ledger, std::size_t round, std::size_t key, std::size_t depth) {
  std::int64_t sum = 0;
  for (std::size_t d = depth; d < 3; ++d) sum += ledger.allowed[round][key][d].load();
  return sum;
}

// What the ledger says, and the quota.
void CheckRound(Engine& engine, const Contest& contest, const Round& round, std::size_t number,
                const RaceLedger& ledger) {
  CAPTURE(number);
  CAPTURE(contest.plan.id);
  std::int64_t of_owner = 0;
  for (std::size_t key = 0; key < contest.keys; ++key) {
    const std::int64_t allowed = Sum(ledger, number, key, contest.depth);
    if (!contest.of_owner) REQUIRE(allowed == contest.limit);
    of_owner += allowed;
  }
  if (contest.of_owner) REQUIRE(of_owner == contest.limit);
  // What is not the owner's is the only key's.
  for (const std::string& secret : round.secrets) {
    REQUIRE(engine.Peek(secret, {.cost = 0}).quota.used == of_owner);
  }
}

// What each rate limit has left, which is seen when the plan has no other.
void CheckRates(Engine& engine, const Contest& contest, const std::vector<Round>& rounds,
                std::size_t contest_number, const RaceLedger& ledger) {
  for (std::size_t i = 0; i < contest.depths.size(); ++i) {
    Plan plan = contest.plan;
    plan.rate_limits = {contest.plan.rate_limits[i]};
    REQUIRE(engine.PutPlan(plan).ok());
    for (std::size_t number = 0; number < rounds.size(); ++number) {
      if (rounds[number].contest != contest_number) continue;
      CAPTURE(number);
      CAPTURE(plan.id);
      for (std::size_t key = 0; key < contest.keys; ++key) {
        const Decision d = engine.Peek(rounds[number].secrets[key],
                                       {.cost = 0, .endpoint = kEndpoints[contest.depths[i]]});
        REQUIRE(d.rate.name.view() == plan.rate_limits[0].name);
        REQUIRE(d.rate.remaining ==
                plan.rate_limits[0].limit - Sum(ledger, number, key, contest.depths[i]));
      }
    }
  }
}

void CheckAll(Engine& engine, const std::vector<Contest>& contests,
              const std::vector<Round>& rounds, const RaceLedger& ledger) {
  for (std::size_t number = 0; number < rounds.size(); ++number) {
    CheckRound(engine, contests[rounds[number].contest], rounds[number], number, ledger);
  }
  for (std::size_t i = 0; i < contests.size(); ++i) {
    CheckRates(engine, contests[i], rounds, i, ledger);
  }
}

TEST_CASE(
    "Of two and three limits the wide one is admitted exactly, and at rest every counter is what "
    "was allowed: processes on SQLite") {
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  const std::vector<Contest> contests = AllContests();
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  const Shared<RaceLedger> ledger;
  std::vector<Round> rounds;
  {
    const auto engine = OpenOrReport(path, *ledger);
    REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
    rounds = MakeRounds(*engine, contests, std::max<std::int64_t>(Scaled(10 * 92), 92));
    REQUIRE(engine->Close().ok());
  }
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < kProcesses; ++i) {
    children.push_back(StartChild([&, i] {
      const auto engine = OpenOrReport(path, *ledger);
      if (engine == nullptr) return 1;
      CompeteInAll(*engine, contests, rounds, kProcesses, seed + 100 * i, *ledger);
      return engine->Close().ok() ? 0 : 1;
    }));
  }
  for (const pid_t child : children) CHECK(WaitForChild(child) == "");
  REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  const auto engine = OpenOrReport(path, *ledger);
  REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
  CheckAll(*engine, contests, rounds, *ledger);
}

TEST_CASE(
    "Of two and three limits the wide one is admitted exactly, and at rest every counter is what "
    "was allowed: threads on memory") {
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  const std::vector<Contest> contests = AllContests();
  const Shared<RaceLedger> ledger;
  const auto engine = OpenOrReport("memory:", *ledger);
  REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
  const std::vector<Round> rounds =
      MakeRounds(*engine, contests, std::max<std::int64_t>(Scaled(20 * 92), 92));
  CompeteInAll(*engine, contests, rounds, 1, seed, *ledger);
  REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  CheckAll(*engine, contests, rounds, *ledger);
}

}  // namespace
}  // namespace throttl::testing
