// Exactness of Validate over threads, processes, changes of the plan, and forks: a ledger of the
// decisions decides.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"
#include "tests/quota_plans.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

struct RaceLedger {
  std::atomic<std::int64_t> admitted = 0;  // units
  std::atomic<int> ready = 0;
  std::atomic<bool> start = false;
  Report report;
};

struct Race {
  std::int64_t limit = 0;
  int processes = 1;
  int threads = 1;
  std::int64_t cost_max = 1;
};

constexpr int kWaitsMax = 100;

std::unique_ptr<Engine> OpenOrReport(const std::string& url, Report& report) {
  auto engine =
      Engine::Open(url, {.settle_interval = absl::Milliseconds(10), .seed_plans = QuotaPlans()});
  if (engine.ok()) return *std::move(engine);
  report.Add("open: " + engine.status().ToString());
  return nullptr;
}

// Spends until a request of cost 1 is refused, and then as often again.
void Spend(Engine& engine, const std::string& secret, const Race& race, std::uint64_t seed,
           RaceLedger& ledger) {
  std::mt19937_64 random(seed);
  std::int64_t spent = 0;
  std::int64_t refused = 0;
  int waits = 0;
  const std::int64_t demand = 2 * race.limit / (race.processes * race.threads) + 2;
  for (std::int64_t i = 0; i < demand || refused == 0; ++i) {
    const auto cost =
        static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(race.cost_max)) + 1;
    const Decision d = engine.Validate(secret, {.cost = cost});
    if (d.allowed()) {
      spent += cost;
    } else if (d.code == DecisionCode::kStoreUnavailable && ++waits < kWaitsMax) {
      std::this_thread::yield();  // a lock was not to be had in time, which a host repeats
    } else if (d.code != DecisionCode::kQuotaExceeded) {
      ledger.report.Add(absl::StrCat("code ", static_cast<int>(d.code), " ",
                                     engine.stats().last_store_error.ToString()));
      break;
    } else if (cost == 1) {
      ++refused;
    }
  }
  ledger.admitted.fetch_add(spent);
}

int RunProcess(const std::string& path, const std::string& secret, const Race& race,
               std::uint64_t seed, RaceLedger& ledger) {
  const std::unique_ptr<Engine> engine = OpenOrReport(path, ledger.report);
  ledger.ready.fetch_add(1);
  if (engine == nullptr) return 1;
  while (!ledger.start.load()) std::this_thread::yield();
  std::vector<std::thread> threads;
  for (int i = 0; i < race.threads; ++i) {
    threads.emplace_back(
        [&, i] { Spend(*engine, secret, race, seed + static_cast<std::uint64_t>(i), ledger); });
  }
  for (std::thread& thread : threads) thread.join();
  const absl::Status closed = engine->Close();
  if (!closed.ok()) ledger.report.Add("close: " + closed.ToString());
  return 0;
}

// Makes a key with the limit; the engine that makes it stays open for the round.
std::string NewSecret(Engine& engine, std::int64_t limit) {
  auto issued = engine.CreateKey(
      {.owner_id = "acme", .quota = Quota{.limit = limit, .period = Period::kLifetime}});
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return std::string(issued->secret.Reveal());
}

void RunRound(const std::string& path, const Race& race, std::uint64_t seed) {
  const Shared<RaceLedger> ledger;
  std::string secret;
  {
    const std::unique_ptr<Engine> engine = OpenOrReport(path, ledger->report);
    REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
    secret = NewSecret(*engine, race.limit);
  }
  std::vector<pid_t> children;
  for (int i = 0; i < race.processes; ++i) {
    children.push_back(StartChild([&, i] {
      return RunProcess(path, secret, race, seed + static_cast<std::uint64_t>(1000 * i), *ledger);
    }));
  }
  while (ledger->ready.load() < race.processes) std::this_thread::yield();
  ledger->start = true;
  for (const pid_t child : children) CHECK(WaitForChild(child) == "");
  REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  REQUIRE(ledger->admitted.load() == race.limit);
  // The store says the same.
  const std::unique_ptr<Engine> engine = OpenOrReport(path, ledger->report);
  REQUIRE(engine != nullptr);
  REQUIRE(engine->Peek(secret, {.cost = 1}).quota.used == race.limit);
}

Race RaceOf(std::int64_t round, std::int64_t rounds) {
  constexpr std::array<std::array<int, 2>, 6> kShapes = {
      {{1, 2}, {2, 1}, {2, 4}, {4, 2}, {8, 4}, {8, 32}}};
  Race race;
  // One round of 200 with a million units, one in ten with a thousand, the rest with ten at most.
  race.limit = round % 200 == 7 ? 1'000'000 : round % 10 == 3 ? 1000 : round % 10 + 1;
  const std::array<int, 2> shape =
      kShapes[static_cast<std::size_t>(round * 6 / std::max<std::int64_t>(rounds, 1)) % 6];
  race.processes = shape[0];
  race.threads = shape[1];
  if (round % 5 == 4) race.cost_max = 3;
  return race;
}

TEST_CASE("Units admitted to a subject never exceed its limit, and reach it: processes on SQLite") {
  const std::int64_t rounds = Scaled(700);
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  const ScratchDirectory scratch;
  std::map<std::string, std::int64_t> table;
  for (std::int64_t round = 0; round < rounds; ++round) {
    const Race race = RaceOf(round, rounds);
    CAPTURE(round);
    RunRound(scratch.File("throttl.db"), race, seed + static_cast<std::uint64_t>(round));
    ++table[absl::StrCat(race.processes, "x", race.threads, " limit ", race.limit)];
  }
  std::string text;
  for (const auto& [shape, count] : table) absl::StrAppend(&text, "\n  ", shape, ": ", count);
  MESSAGE("rounds by processes x threads and limit:" << text);
}

TEST_CASE("Units admitted to a subject never exceed its limit, and reach it: threads on memory") {
  const std::int64_t rounds = Scaled(300);
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  RaceLedger unused;
  const std::unique_ptr<Engine> engine = OpenOrReport("memory:", unused.report);
  REQUIRE(engine != nullptr);
  for (std::int64_t round = 0; round < rounds; ++round) {
    Race race = RaceOf(round, rounds);
    race.threads *= race.processes;
    race.threads = std::min(race.threads, 32);
    race.processes = 1;
    RaceLedger ledger;
    const std::string secret = NewSecret(*engine, race.limit);
    std::vector<std::thread> threads;
    for (int i = 0; i < race.threads; ++i) {
      threads.emplace_back([&, i] {
        Spend(*engine, secret, race, seed + static_cast<std::uint64_t>(round * 100 + i), ledger);
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE_MESSAGE(ledger.report.count() == 0, ledger.report.Text());
    REQUIRE(ledger.admitted.load() == race.limit);
  }
}

TEST_CASE(
    "While plans are raised and lowered and keys rotated, never more is admitted than the "
    "highest limit, and it is reached in the end") {
  const std::int64_t rounds = Scaled(20);
  const ScratchDirectory scratch;
  for (std::int64_t round = 0; round < rounds; ++round) {
    const Shared<RaceLedger> ledger;
    const std::string path = scratch.File(absl::StrCat("throttl", round, ".db"));
    const std::unique_ptr<Engine> engine = OpenOrReport(path, ledger->report);
    REQUIRE(engine != nullptr);
    REQUIRE(engine->PutPlan({.id = "p", .quota = Quota{.limit = 500}}).ok());
    auto issued = engine->CreateKey({.owner_id = "acme", .plan_id = "p"});
    REQUIRE(issued.ok());
    const std::string secret(issued->secret.Reveal());
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (!stop.load()) {
          const Decision d = engine->Validate(secret);
          if (d.allowed()) ledger->admitted.fetch_add(1);
          if (!d.allowed() && d.code != DecisionCode::kQuotaExceeded) {
            return ledger->report.Add(absl::StrCat("code ", static_cast<int>(d.code)));
          }
        }
      });
    }
    for (std::int64_t limit = 600; limit <= 2000; limit += 100) {
      REQUIRE(engine->PutPlan({.id = "p", .quota = Quota{.limit = limit}}).ok());
      REQUIRE(engine->RotateKey(issued->key.id, {.overlap = absl::Hours(1)}).ok());
      // The secret of the threads is the older one now, and would end with the next rotation.
      issued = engine->CreateKey({.owner_id = "acme", .plan_id = "p"});
      REQUIRE(engine->PutPlan({.id = "p", .quota = Quota{.limit = limit - 300}}).ok());
      const std::int64_t admitted = ledger->admitted.load();
      CHECK(admitted <= limit);
    }
    REQUIRE(engine->PutPlan({.id = "p", .quota = Quota{.limit = 2500}}).ok());
    while (ledger->admitted.load() < 2500 && ledger->report.count() == 0) std::this_thread::yield();
    stop = true;
    for (std::thread& thread : threads) thread.join();
    REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
    CHECK(ledger->admitted.load() == 2500);
    CHECK(engine->Peek(secret).code == DecisionCode::kQuotaExceeded);
  }
}

}  // namespace
}  // namespace throttl::testing
