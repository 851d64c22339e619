// The counts of a lease table over threads and processes that race for one limit.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/lease/lease_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::LeaseTable;
using internal::RefusalKind;
using internal::SlotRef;
using internal::SpendAnswer;
using internal::SpendCode;
using internal::UnsettledSlot;

// What racers of all processes share.
struct Ledger {
  std::atomic<std::int64_t> admitted = 0;  // units
  std::atomic<std::int64_t> failed = 0;    // answers that are neither
  std::atomic<bool> start = false;
};

Ledger* NewLedger() {
  void* place =
      mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  return new (place) Ledger();
}

struct Race {
  std::int64_t limit = 0;
  int processes = 1;
  int threads = 1;
  std::int64_t cost_max = 1;  // costs are 1..cost_max
};

// Spends until it is refused at cost 1.
void RunRacer(LeaseTable& table, const std::string& subject, const Race& race, std::uint64_t seed,
              Ledger& ledger) {
  std::mt19937_64 random(seed);
  SlotRef ref;
  while (!ledger.start.load()) std::this_thread::yield();
  for (;;) {
    const auto cost =
        static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(race.cost_max) + 1);
    const SpendAnswer answer =
        SpendOn(table, subject, {.limit = race.limit, .limit_version = 1}, ref, cost);
    if (answer.code == SpendCode::kSpent) {
      ledger.admitted.fetch_add(cost);
    } else if (answer.code != SpendCode::kRefused) {
      ledger.failed.fetch_add(1);
      return;
    } else if (cost == 1) {
      return;
    }
  }
}

void RunThreads(LeaseTable& table, const std::string& subject, const Race& race, std::uint64_t seed,
                Ledger& ledger) {
  std::vector<std::thread> threads;
  for (int i = 0; i < race.threads; ++i) {
    threads.emplace_back(
        [&, i] { RunRacer(table, subject, race, seed + static_cast<std::uint64_t>(i), ledger); });
  }
  for (std::thread& thread : threads) thread.join();
}

// Each process opens the table for itself. Returns false when one of them failed.
bool RunProcesses(const std::string& path, const std::string& subject, const Race& race,
                  std::uint64_t seed, Ledger& ledger) {
  std::vector<pid_t> children;
  for (int i = 0; i < race.processes; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const auto table = OpenTable(path);
      if (!table.ok()) _exit(1);
      RunThreads(**table, subject, race, seed + static_cast<std::uint64_t>(1000 * i), ledger);
      _exit(0);
    }
    children.push_back(child);
  }
  ledger.start = true;
  bool ok = true;
  for (const pid_t child : children) {
    int status = 0;
    ok = waitpid(child, &status, 0) == child && status == 0 && ok;
  }
  return ok;
}

TEST_CASE("If demand reaches the limit, exactly the limit is admitted: threads on private memory") {
  const std::int64_t rounds = Scaled(300);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  const auto table = OpenTable("");
  REQUIRE(table.ok());
  for (std::int64_t round = 0; round < rounds; ++round) {
    const Race race{.limit = round % 10 == 0 ? 1000 : round % 10 + 1,
                    .threads = static_cast<int>(2 + round % 7),
                    .cost_max = round % 3 == 0 ? 3 : 1};
    Ledger ledger;
    ledger.start = true;
    RunThreads(**table, absl::StrCat("k:", round), race, seed, ledger);
    REQUIRE(ledger.failed == 0);
    REQUIRE(ledger.admitted == race.limit);
  }
}

TEST_CASE("If demand reaches the limit, exactly the limit is admitted: processes on one file") {
  const std::int64_t rounds = Scaled(200);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  const TempDir directory;
  const std::string path = directory.File("throttl.db-lease");
  for (std::int64_t round = 0; round < rounds; ++round) {
    const Race race{.limit = round % 20 == 0 ? 100'000 : 1 + round % 50,
                    .processes = static_cast<int>(1 + round % 8),
                    .threads = 1 + (round % 8 == 7 ? 7 : static_cast<int>(round % 3)),
                    .cost_max = round % 4 == 0 ? 5 : 1};
    Ledger* const ledger = NewLedger();
    const bool ok = RunProcesses(path, absl::StrCat("k:", round), race, seed, *ledger);
    const std::int64_t admitted = ledger->admitted;
    const std::int64_t failed = ledger->failed;
    munmap(ledger, sizeof(Ledger));
    REQUIRE(ok);
    REQUIRE(failed == 0);
    REQUIRE(admitted == race.limit);
  }
}

TEST_CASE("a refusal that is counted while its slot is changed stays unsettled") {
  const std::int64_t rounds = Scaled(100'000);
  const auto table = OpenTable("");
  REQUIRE(table.ok());
  SlotRef ref;
  REQUIRE(SpendOn(**table, "k:one", {.limit = 10}, ref).code == SpendCode::kSpent);
  std::atomic<std::int64_t> begun = 0;
  std::atomic<std::int64_t> refused = 0;
  std::thread refusing([&] {
    for (std::int64_t round = 1; round <= rounds; ++round) {
      while (begun < round) std::this_thread::yield();
      // At another moment of the change each time.
      for (std::int64_t i = 0; i < round % 1999 && begun == round; ++i) {
      }
      (*table)->CountRefusal(ref, RefusalKind::kOtherwise);
      refused = round;
    }
  });
  std::int64_t lost = 0;
  std::vector<UnsettledSlot> read;
  for (std::int64_t round = 0; round <= rounds; ++round) {
    std::uint64_t next = 0;
    auto unsettled = (*table)->ReadUnsettled(10, 0, next);
    REQUIRE(unsettled.ok());
    if (!unsettled->empty()) read = *std::move(unsettled);
    REQUIRE(!read.empty());
    lost += read.front().totals.refused[2] == round ? 0 : 1;
    REQUIRE((*table)->MarkSettled(read).ok());
    if (round == rounds) break;
    begun = round + 1;
    REQUIRE((*table)->SetBase(read.front(), round % 2 + 1).ok());
    while (refused <= round) std::this_thread::yield();
  }
  refusing.join();
  CHECK(lost == 0);
}

}  // namespace
}  // namespace throttl::testing
