// Processes and threads race for quotas that change with each CarryOver; a ledger of what was
// allowed, and between which changes, decides.
#include <algorithm>
#include <array>
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

#include "tests/crash/carry_ledger.h"
#include "tests/crash/crash_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kProcesses = 4;
constexpr std::size_t kThreads = 8;
constexpr std::array<CarryOver, 4> kCarryOvers = {CarryOver::kDifference, CarryOver::kReset,
                                                  CarryOver::kProportional, CarryOver::kAdditive};

// Changes what the lanes race for.
class Changer {
 public:
  Changer(Engine& engine, CarryLedger& ledger, std::size_t lanes, std::uint64_t seed)
      : engine_(engine), ledger_(ledger), lanes_(lanes), random_(seed) {}

  void Round() {
    std::array<CarryOver, 4> kinds = kCarryOvers;
    std::shuffle(kinds.begin(), kinds.end(), random_);
    for (const CarryOver kind : kinds) ChangeInQuiet(kind);
    ChangeUnderLoad();
    if (random_() % 2 == 0) Drain();
  }

  // Nobody spends while a quota changes, so all is known exactly; then what remains is spent.
  void Drain() {
    Spend();
    RestAll(ledger_);
    Add(CheckCarryAtRest(engine_, ledger_));
    const CarryTotals totals = DrainCarry(engine_, ledger_, lanes_);
    CHECK(totals.inexact == 0);
    Add(totals);
    ++drains_;
  }

  std::string Text() const {
    return absl::StrCat(changes_, " changes, ", totals_.units, " units, of them ", totals_.overlap,
                        " allowed beside a change, ", drains_, " drains");
  }
  std::int64_t units() const { return totals_.units; }

 private:
  void Spend() {
    ledger_.mode = CarryMode::kSpend;
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 3000));
  }

  void Change(CarryOver kind) {
    const std::string fault = ChangeOnce(engine_, ledger_, kind, random_);
    REQUIRE_MESSAGE(fault.empty(), fault);
    ++changes_;
  }

  void ChangeInQuiet(CarryOver kind) {
    CAPTURE(static_cast<int>(kind));
    Spend();
    RestAll(ledger_);
    Change(kind);
    Spend();
    RestAll(ledger_);
    const CarryTotals totals = CheckCarryAtRest(engine_, ledger_);
    CHECK(totals.inexact == 0);
    CHECK(totals.overlap == 0);
    Add(totals);
  }

  void ChangeUnderLoad() {
    for (std::size_t i = 0; i < 12; ++i) {
      Spend();
      Change(kCarryOvers[random_() % kCarryOvers.size()]);
    }
    RestAll(ledger_);
    Add(CheckCarryAtRest(engine_, ledger_));
  }

  void Add(const CarryTotals& totals) {
    totals_.units += totals.units;
    totals_.overlap += totals.overlap;
  }

  Engine& engine_;
  CarryLedger& ledger_;
  const std::size_t lanes_;
  std::mt19937_64 random_;
  std::int64_t changes_ = 0;
  std::int64_t drains_ = 0;
  CarryTotals totals_ = {};
};

int RunProcess(const std::string& path, CarryLedger& ledger, std::size_t process,
               std::uint64_t seed) {
  const std::unique_ptr<Engine> engine = OpenCarryEngine(path, ledger);
  if (engine == nullptr) return 1;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    const std::size_t lane = process * kThreads + i;
    threads.emplace_back(
        [&, lane] { SpendByMode(*engine, ledger, ledger.lanes[lane], seed + lane); });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

TEST_CASE(
    "What is used before a change is carried over, what is used after it counts, and what remains "
    "is admitted to the unit: processes on SQLite") {
  constexpr std::int64_t kRoundsOfStore = 5;
  const std::int64_t rounds = Scaled(20);
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  std::string text;
  for (std::int64_t store = 0; store * kRoundsOfStore < rounds; ++store) {
    CAPTURE(store);
    const ScratchDirectory scratch;
    const std::string path = scratch.File("throttl.db");
    const Shared<CarryLedger> ledger;
    {
      const auto engine = OpenCarryEngine(path, *ledger);
      REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
      MakeCarrySubjects(*engine, *ledger);
    }
    const std::uint64_t store_seed = seed + 1000 * static_cast<std::uint64_t>(store);
    std::vector<pid_t> children;
    for (std::size_t i = 0; i < kProcesses; ++i) {
      children.push_back(StartChild([&, i] { return RunProcess(path, *ledger, i, store_seed); }));
    }
    const auto engine = OpenCarryEngine(path, *ledger);
    REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
    Changer changer(*engine, *ledger, kProcesses * kThreads, store_seed);
    const std::int64_t rounds_now = std::min(kRoundsOfStore, rounds - store * kRoundsOfStore);
    for (std::int64_t round = 0; round < rounds_now; ++round) {
      CAPTURE(round);
      changer.Round();
    }
    changer.Drain();
    CHECK(changer.units() > 0);
    ledger->mode = CarryMode::kStop;
    for (const pid_t child : children) CHECK(WaitForChild(child) == "");
    REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
    absl::StrAppend(&text, "\n  ", changer.Text());
  }
  MESSAGE("stores:" << text);
}

TEST_CASE(
    "What is used before a change is carried over, what is used after it counts, and what remains "
    "is admitted to the unit: threads on memory") {
  const std::int64_t rounds = Scaled(25);
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  const Shared<CarryLedger> ledger;
  const auto engine = OpenCarryEngine("memory:", *ledger);
  REQUIRE_MESSAGE(engine != nullptr, ledger->report.Text());
  MakeCarrySubjects(*engine, *ledger);
  std::vector<std::thread> threads;
  for (std::size_t lane = 0; lane < kProcesses * kThreads; ++lane) {
    threads.emplace_back(
        [&, lane] { SpendByMode(*engine, *ledger, ledger->lanes[lane], seed + lane); });
  }
  Changer changer(*engine, *ledger, threads.size(), seed);
  for (std::int64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    changer.Round();
  }
  changer.Drain();
  ledger->mode = CarryMode::kStop;
  for (std::thread& thread : threads) thread.join();
  REQUIRE_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  MESSAGE(changer.Text());
}

}  // namespace
}  // namespace throttl::testing
