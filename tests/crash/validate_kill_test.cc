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
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kKeys = 20;
constexpr std::size_t kWorkers = 3;
constexpr std::size_t kThreads = 2;

// A period is an hour of a clock that all processes share.
struct KillLedger {
  std::atomic<std::int64_t> now_ms = 1'790'000'000'000;
  std::array<std::atomic<std::int64_t>, kKeys> acknowledged = {};
  // Of each thread: the key that it may be spending on, plus one.
  std::array<std::array<std::atomic<std::int64_t>, kThreads>, kWorkers> spending = {};
  Report report;
};

class SharedClock final : public Clock {
 public:
  explicit SharedClock(KillLedger& ledger) : ledger_(ledger) {}
  Reading Read() override {
    const std::int64_t ms = ledger_.now_ms.load(std::memory_order_relaxed);
    return {absl::FromUnixMillis(ms), absl::Milliseconds(ms)};
  }

 private:
  KillLedger& ledger_;
};

std::unique_ptr<Engine> OpenOn(const std::string& path, KillLedger& ledger) {
  auto engine = Engine::Open(path, {.settle_interval = absl::Milliseconds(10),
                                    .clock = std::make_shared<SharedClock>(ledger)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

std::vector<std::string> MakeKeys(Engine& engine) {
  std::vector<std::string> secrets;
  REQUIRE(
      engine.PutPlan({.id = "hourly", .quota = Quota{.limit = 1 << 20, .period = Period::kHour}})
          .ok());
  for (std::size_t i = 0; i < kKeys; ++i) {
    const auto issued =
        engine.CreateKey({.owner_id = "acme", .plan_id = "hourly", .id = absl::StrCat("key_", i)});
    REQUIRE(issued.ok());
    secrets.emplace_back(issued->secret.Reveal());
  }
  return secrets;
}

void ValidateForever(Engine& engine, const std::vector<std::string>& secrets, KillLedger& ledger,
                     std::atomic<std::int64_t>& spending, std::uint64_t seed) {
  constexpr int kWaitsMax = 100;
  std::mt19937_64 random(seed);
  int waits = 0;
  for (;;) {
    const std::size_t key = random() % kKeys;
    if (random() % 20'000 == 0) ledger.now_ms.fetch_add(600'000);
    spending = static_cast<std::int64_t>(key) + 1;
    const Decision d = engine.Validate(secrets[key]);
    if (d.allowed()) ledger.acknowledged[key].fetch_add(1);
    spending = 0;
    if (d.allowed() || d.code == DecisionCode::kQuotaExceeded) continue;
    // A lock was not to be had in time, which a host repeats.
    if (d.code == DecisionCode::kStoreUnavailable && ++waits < kWaitsMax) continue;
    ledger.report.Add(absl::StrCat("code ", static_cast<int>(d.code), " ",
                                   engine.stats().last_store_error.ToString()));
    return;
  }
}

// Processes that validate until they are killed.
class KilledWorkers {
 public:
  KilledWorkers(const std::string& path, const std::vector<std::string>& secrets,
                KillLedger& ledger, std::uint64_t seed)
      : path_(path), secrets_(secrets), ledger_(ledger), seed_(seed) {
    for (std::size_t i = 0; i < kWorkers; ++i) Start(i);
  }

  void Start(std::size_t worker) {
    workers_[worker] = StartChild([this, worker] {
      const auto engine = OpenOn(path_, ledger_);
      if (engine == nullptr) return 1;
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < kThreads; ++i) {
        threads.emplace_back([&, i] {
          ValidateForever(*engine, secrets_, ledger_, ledger_.spending[worker][i], seed_ + i);
        });
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
    for (std::atomic<std::int64_t>& spending : ledger_.spending[worker]) {
      const std::int64_t key = spending.exchange(0);
      if (key != 0) ++uncertain_[static_cast<std::size_t>(key - 1)];
    }
  }

  // Requests on the key that were under way when their process was killed.
  std::int64_t uncertain(std::size_t key) const { return uncertain_[key]; }

 private:
  const std::string path_;
  const std::vector<std::string> secrets_;
  KillLedger& ledger_;
  const std::uint64_t seed_;
  std::array<pid_t, kWorkers> workers_ = {};
  std::array<std::int64_t, kKeys> uncertain_ = {};
};

// Units of a key in the store, by its hours.
std::int64_t StoredUnits(Engine& engine, std::size_t key) {
  const auto history =
      engine.UsageHistory({.key_id = absl::StrCat("key_", key), .bucket = Period::kHour});
  REQUIRE(history.ok());
  std::int64_t stored = 0;
  for (const UsageBucket& hour : *history) {
    CHECK(hour.allowed == hour.units);
    stored += hour.units;
  }
  return stored;
}

TEST_CASE("nothing that was acknowledged is lost, and nothing is counted twice, over kill -9") {
  const std::int64_t kills = Scaled(300);
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  const Shared<KillLedger> ledger;
  std::vector<std::string> secrets;
  {
    const auto engine = OpenOn(path, *ledger);
    REQUIRE(engine != nullptr);
    secrets = MakeKeys(*engine);
  }
  KilledWorkers workers(path, secrets, *ledger, seed);
  for (std::int64_t i = 0; i < kills; ++i) {
    const std::size_t worker = static_cast<std::size_t>(i) % kWorkers;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    workers.Kill(worker);
    workers.Start(worker);
  }
  for (std::size_t i = 0; i < kWorkers; ++i) workers.Kill(i);
  REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  const auto engine = OpenOn(path, *ledger);
  REQUIRE(engine != nullptr);
  REQUIRE(engine->Flush().ok());
  std::int64_t total = 0;
  for (std::size_t key = 0; key < kKeys; ++key) {
    CAPTURE(key);
    const std::int64_t stored = StoredUnits(*engine, key);
    CHECK(stored >= ledger->acknowledged[key]);
    CHECK(stored <= ledger->acknowledged[key] + workers.uncertain(key));
    total += stored;
  }
  MESSAGE(absl::StrCat(kills, " kills, ", total, " requests"));
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
  const Shared<KillLedger> ledger;
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
    const Shared<KillLedger> ledger;
    auto engine = OpenOn(path, *ledger);
    REQUIRE(engine != nullptr);
    const std::vector<std::string> secrets = MakeKeys(*engine);
    for (int i = 0; i < 2000; ++i) {
      if (engine->Validate(secrets[0]).allowed()) ledger->acknowledged[0].fetch_add(1);
    }
    std::vector<pid_t> children;
    for (int worker = 0; worker < 4; ++worker) {
      children.push_back(StartChild([&, worker] {
        for (int i = 0; i < 2000; ++i) {
          const Decision d = engine->Validate(secrets[static_cast<std::size_t>(i) % kKeys]);
          if (d.allowed()) ledger->acknowledged[static_cast<std::size_t>(i) % kKeys].fetch_add(1);
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
      CHECK(command->ListKeys()->items.size() == kKeys);
    }
    for (const pid_t child : children) CHECK(WaitForChild(child) == "");
    REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
    const auto again = OpenOn(path, *ledger);
    REQUIRE(again != nullptr);
    REQUIRE(again->Flush().ok());
    std::int64_t total = 0;
    for (std::size_t i = 0; i < kKeys; ++i) {
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
