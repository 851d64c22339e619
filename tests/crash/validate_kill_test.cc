// Engines that validate are killed, forked and revoked under load: what was acknowledged is what is
// counted.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"
#include "tests/crash/quota_ledger.h"
#include "tests/crash/shared_clock.h"
#include "tests/quota_plans.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

// Processes that validate until they are killed.
class KilledWorkers {
 public:
  KilledWorkers(const std::string& path, QuotaLedger& ledger, std::uint64_t seed)
      : path_(path), ledger_(ledger), random_(seed) {
    for (std::size_t i = 0; i < kQuotaWorkers; ++i) Start(i);
  }

  void Start(std::size_t worker) {
    const std::uint64_t seed = random_();
    workers_[worker] = StartChild([this, worker, seed] {
      const auto engine = OpenQuotaEngine(path_, ledger_);
      if (engine == nullptr) return 1;
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < kThreadsOfWorker; ++i) {
        threads.emplace_back(
            [&, i] { ValidateForever(*engine, ledger_.spending[worker][i], seed + i); });
      }
      for (std::thread& thread : threads) thread.join();
      return 1;
    });
  }

  void Kill(std::size_t worker) {
    REQUIRE(kill(workers_[worker], SIGKILL) == 0);
    int status = 0;
    REQUIRE(waitpid(workers_[worker], &status, 0) == workers_[worker]);
    REQUIRE_MESSAGE(WIFSIGNALED(status), ledger_.report.Text());
    AddInFlight(ledger_, worker, in_flight_);
  }

  // Requests that were under way when their process was killed, by keys.
  const std::vector<std::int64_t>& in_flight() const { return in_flight_; }

 private:
  void ValidateForever(Engine& engine, std::atomic<std::int64_t>& spending, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (;;) {
      const std::uint64_t dice = random();
      if (dice % 20'000 == 0) ledger_.Advance(600'000);
      const std::size_t key =
          dice % 500 == 1 ? kSteadyKeys + random() % kRareKeys : (dice >> 32) % kSteadyKeys;
      if (!SpendOnce(engine, ledger_, key, spending)) return;
    }
  }

  const std::string path_;
  QuotaLedger& ledger_;
  std::mt19937_64 random_;
  std::array<pid_t, kQuotaWorkers> workers_ = {};
  std::vector<std::int64_t> in_flight_ = std::vector<std::int64_t>(kQuotaKeys);
};

TEST_CASE(
    "over kill -9 nothing that was acknowledged is lost, nothing is counted twice or admitted "
    "beyond a limit, and no unit is stranded") {
  const std::int64_t kills = Scaled(1000);
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  const Shared<QuotaLedger> ledger;
  {
    const auto engine = OpenQuotaEngine(path, *ledger);
    REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
    MakeQuotaKeys(*engine, *ledger);
  }
  KilledWorkers workers(path, *ledger, seed);
  for (std::int64_t i = 0; i < kills; ++i) {
    const std::size_t worker = static_cast<std::size_t>(i) % kQuotaWorkers;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    workers.Kill(worker);
    workers.Start(worker);
  }
  for (std::size_t i = 0; i < kQuotaWorkers; ++i) workers.Kill(i);
  const auto engine = OpenQuotaEngine(path, *ledger);
  REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
  const QuotaTotals totals = CheckLedger(*engine, *ledger, workers.in_flight());
  CheckNothingStranded(*engine, *ledger, /*rare_step=*/5);
  MESSAGE(absl::StrCat(kills, " kills, ", totals.units, " units in ",
                       (ledger->now_ms - kQuotaStartMs) / 3'600'000, " hours, ", totals.in_flight,
                       " requests in flight"));
}

// What servers say: the clock, and what they allowed.
struct ServerLedger {
  std::atomic<std::int64_t> now_ms = kQuotaStartMs;
  std::array<std::atomic<std::int64_t>, 20> acknowledged = {};
  Report report;
};

std::unique_ptr<Engine> OpenOn(const std::string& path, ServerLedger& ledger) {
  auto engine = Engine::Open(path, {.settle_interval = absl::Milliseconds(10),
                                    .seed_plans = QuotaPlans(),
                                    .clock = std::make_shared<SharedClock>(ledger.now_ms)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

std::vector<std::string> MakeKeys(Engine& engine, const ServerLedger& ledger) {
  std::vector<std::string> secrets;
  for (std::size_t i = 0; i < ledger.acknowledged.size(); ++i) {
    const auto issued =
        engine.CreateKey({.owner_id = "acme", .plan_id = "enterprise", .id = QuotaKeyId(i)});
    REQUIRE(issued.ok());
    secrets.emplace_back(issued->secret.Reveal());
  }
  return secrets;
}

// Units of a key in the store, by its hours.
std::int64_t StoredUnits(Engine& engine, std::size_t key) {
  const auto history = engine.UsageHistory({.key_id = QuotaKeyId(key), .bucket = Period::kHour});
  REQUIRE(history.ok());
  std::int64_t stored = 0;
  for (const UsageBucket& hour : *history) {
    CHECK(hour.allowed == hour.units);
    stored += hour.units;
  }
  return stored;
}

TEST_CASE(
    "After RevokeKey returns, no process on the machine allows the key, requests in flight "
    "included") {
  const std::int64_t rounds = Scaled(100);
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  struct Revocation {
    std::atomic<int> revoked = 0;  // number of the last round whose key is revoked
    std::atomic<int> ready = 0;
    std::atomic<bool> stop = false;
    std::array<std::array<char, 128>, 128> secrets = {};
    std::atomic<int> published = 0;
    Report report;
  };
  const Shared<Revocation> shared;
  const Shared<ServerLedger> ledger;
  const auto engine = OpenOn(path, *ledger);
  REQUIRE(engine != nullptr);
  const auto child = [&] {
    const auto own = OpenOn(path, *ledger);
    if (own == nullptr) return 1;
    while (!shared->stop.load()) {
      const int round = shared->published.load();
      if (round == 0) continue;
      const int revoked_before = shared->revoked.load();
      const Decision d = own->Validate(shared->secrets[static_cast<std::size_t>(round)].data());
      if (d.allowed() && revoked_before >= round) shared->report.Add("allowed after RevokeKey");
      if (!d.allowed() && d.code != DecisionCode::kInactive) {
        shared->report.Add(absl::StrCat("code ", static_cast<int>(d.code)));
      }
      if (d.allowed()) shared->ready = round;
    }
    return 0;
  };
  const std::array<pid_t, 3> children = {StartChild(child), StartChild(child), StartChild(child)};
  for (int round = 1; round <= rounds && round < 128 && shared->report.count() == 0; ++round) {
    const auto issued = engine->CreateKey({.owner_id = "acme", .plan_id = "enterprise"});
    REQUIRE(issued.ok());
    const std::string secret(issued->secret.Reveal());
    secret.copy(shared->secrets[static_cast<std::size_t>(round)].data(), 127);
    shared->published = round;
    while (shared->ready.load() < round && shared->report.count() == 0) std::this_thread::yield();
    REQUIRE(engine->RevokeKey(issued->key.id).ok());
    shared->revoked = round;
    const auto used = [&] { return engine->GetUsage(issued->key.id)->quota.used; };
    const std::int64_t then = used();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(used() == then);
  }
  shared->stop = true;
  for (const pid_t pid : children) CHECK(WaitForChild(pid) == "");
  REQUIRE_MESSAGE(shared->report.count() == 0, shared->report.Text());
}

#ifndef __SANITIZE_THREAD__
TEST_CASE(
    "preforked servers: the parent opens and closes, children serve, a command comes and "
    "goes: acknowledged is stored") {
  const std::int64_t runs = Scaled(20);
  for (std::int64_t run = 0; run < runs; ++run) {
    CAPTURE(run);
    const ScratchDirectory scratch;
    const std::string path = scratch.File("throttl.db");
    const Shared<ServerLedger> ledger;
    auto engine = OpenOn(path, *ledger);
    REQUIRE(engine != nullptr);
    const std::vector<std::string> secrets = MakeKeys(*engine, *ledger);
    for (int i = 0; i < 2000; ++i) {
      if (engine->Validate(secrets[0]).allowed()) ledger->acknowledged[0].fetch_add(1);
    }
    std::vector<pid_t> children;
    for (int worker = 0; worker < 4; ++worker) {
      children.push_back(StartChild([&, worker] {
        for (int i = 0; i < 2000; ++i) {
          const Decision d =
              engine->Validate(secrets[static_cast<std::size_t>(i) % secrets.size()]);
          if (d.allowed())
            ledger->acknowledged[static_cast<std::size_t>(i) % secrets.size()].fetch_add(1);
          if (!d.allowed()) ledger->report.Add(absl::StrCat("code ", static_cast<int>(d.code)));
        }
        // Half of them end without a word.
        return worker % 2 == 0 ? 0 : (engine->Close().ok() ? 0 : 1);
      }));
    }
    CHECK(engine->Close().ok());
    {
      const auto command = OpenOn(path, *ledger);
      REQUIRE(command != nullptr);
      CHECK(command->ListKeys()->items.size() == secrets.size());
    }
    for (const pid_t child : children) CHECK(WaitForChild(child) == "");
    REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
    const auto again = OpenOn(path, *ledger);
    REQUIRE(again != nullptr);
    REQUIRE(again->Flush().ok());
    std::int64_t total = 0;
    for (std::size_t i = 0; i < secrets.size(); ++i) {
      const std::int64_t stored = StoredUnits(*again, i);
      CHECK(stored == ledger->acknowledged[i]);
      total += stored;
    }
    CHECK(total == 10'000);
  }
}
#endif

}  // namespace
}  // namespace throttl::testing
