// Words of rate limits over threads and processes that race for the same tags, and for entries.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/lease/rate_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::LeaseTable;
using internal::RateTable;

constexpr std::size_t kTags = 16;  // of one bucket, which has places for eight
constexpr std::size_t kAdmissionsKept = 16'384;

// What racers of all processes share.
struct Arena {
  std::atomic<std::int64_t> now_ns = kStartNs;
  std::array<std::atomic<std::int64_t>, kTags> admitted = {};  // units
  // When, by the clock of the request. As many as are counted, one unit each.
  std::array<std::array<std::atomic<std::int64_t>, kAdmissionsKept>, kTags> admitted_ns = {};
  std::atomic<std::int64_t> exhausted = 0;
  std::atomic<std::int64_t> failed = 0;
  std::atomic<std::int64_t> wrong = 0;  // phases in which not exactly the limit was admitted
  std::atomic<std::int64_t> phase = 0;
  std::atomic<std::int64_t> arrived = 0;
  // As they must be, after the phase.
  std::array<std::int64_t, kTags> words = {};
};

Arena* NewArena() {
  void* place =
      mmap(nullptr, sizeof(Arena), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  return new (place) Arena();
}

struct Race {
  int processes = 1;
  int threads = 1;
  std::int64_t phases = 1;
  Gcra limit = {};
  std::int64_t rates_max = 1024;
  std::uint64_t seed = 0;
  std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, kTags);
};

using Racer = void (*)(LeaseTable& table, const Race& race, std::uint64_t seed, Arena& arena);

// Each process opens the table for itself. Returns false when one of them failed.
bool RunProcesses(const std::string& path, const Race& race, Racer racer, Arena& arena) {
  std::vector<pid_t> children;
  for (int i = 0; i < race.processes; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const auto table = OpenRates(path, race.rates_max);
      if (!table.ok()) _exit(1);
      std::vector<std::thread> threads;
      for (int j = 0; j < race.threads; ++j) {
        const std::uint64_t seed = race.seed + static_cast<std::uint64_t>(100 * i + j);
        threads.emplace_back([&, seed] { racer(**table, race, seed, arena); });
      }
      for (std::thread& thread : threads) thread.join();
      _exit(0);
    }
    children.push_back(child);
  }
  bool ok = true;
  for (const pid_t child : children) {
    int status = 0;
    ok = waitpid(child, &status, 0) == child && status == 0 && ok;
  }
  return ok;
}

// Waits for all; `act` is done by the last one.
void Meet(const Race& race, Arena& arena, const auto& act) {
  const std::int64_t phase = arena.phase;
  if (arena.arrived.fetch_add(1) + 1 == std::int64_t{race.processes} * race.threads) {
    act();
    arena.arrived = 0;
    arena.phase = phase + 1;
    return;
  }
  while (arena.phase == phase) std::this_thread::yield();
}

// --- At a fixed clock

// The tags of a phase are those of its half of them: the others are at rest, and lose their entry.
std::size_t FirstTagOf(std::int64_t phase) { return phase / 4 % 2 == 0 ? 0 : kTags / 2; }

// Counts what was admitted in the phase, and sets the clock for the next one.
void EndPhase(const Race& race, std::mt19937_64& random, Arena& arena) {
  const std::int64_t now_ns = arena.now_ns;
  const std::int64_t interval_ns = race.limit.interval_ns;
  const std::size_t first = FirstTagOf(arena.phase);
  for (std::size_t i = first; i < first + kTags / 2; ++i) {
    const std::int64_t word = std::max(arena.words[i], now_ns);
    const std::int64_t units = race.limit.burst - (word - now_ns + interval_ns - 1) / interval_ns;
    arena.words[i] = word + units * interval_ns;
    if (arena.admitted[i].exchange(0) != units) arena.wrong.fetch_add(1);
  }
  const bool turns = FirstTagOf(arena.phase + 1) != first;
  const auto burst = static_cast<std::uint64_t>(race.limit.burst);
  const auto step = static_cast<std::int64_t>(turns ? burst + 1 : random() % (burst + 2));
  arena.now_ns = now_ns + step * interval_ns + static_cast<std::int64_t>(random() % 2);
}

// Spends until every tag of the phase refuses one unit; of a larger table some claim other tags,
// which make it grow.
void RunPhases(LeaseTable& table, const Race& race, std::uint64_t seed, Arena& arena) {
  std::mt19937_64 random(seed);
  const auto clock = [&arena] { return arena.now_ns.load(); };
  for (std::int64_t phase = 0; phase < race.phases; ++phase) {
    const std::size_t first = FirstTagOf(phase);
    for (std::size_t refused = 0, i = random() % 8; refused < kTags / 2;) {
      const std::size_t tag = first + i % (kTags / 2);
      const std::int64_t cost = random() % 4 == 0 ? 2 : 1;
      const RateAnswer answer = SpendRate(table, race.tags[tag], race.limit, clock(), clock, cost);
      if (answer.admitted) arena.admitted[tag].fetch_add(cost);
      if (!answer.status.ok()) arena.failed.fetch_add(1);
      // Where two units are refused, one may still fit.
      if (!answer.admitted && cost > 1) continue;
      refused = answer.admitted ? 0 : refused + 1;
      ++i;
    }
    for (int i = 0; i < (race.rates_max > 1024 ? 3 : 0); ++i) {
      const Gcra slow{.interval_ns = 3'600'000 * kMsNs};
      const RateAnswer answer = SpendRate(table, random() | 1, slow, clock(), clock);
      if (!answer.status.ok()) arena.failed.fetch_add(1);
    }
    Meet(race, arena, [&] { EndPhase(race, random, arena); });
  }
}

TEST_CASE("at a fixed clock exactly what a limit has left is admitted, in processes on one file") {
  const std::int64_t rounds = Scaled(70);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const TempDir directory;
    const Race race{.processes = static_cast<int>(1 + round % 4),
                    .threads = round % 10 == 9 ? 8 : static_cast<int>(1 + round % 3),
                    .phases = 40,
                    .limit = {.burst = 1 + round % 5},
                    .rates_max = round % 3 == 0 ? 1024 : 1 << 16,
                    .seed = seed + static_cast<std::uint64_t>(round) * 1000};
    Arena* const arena = NewArena();
    const bool ok = RunProcesses(directory.File("t-lease"), race, RunPhases, *arena);
    const std::int64_t failed = arena->failed;
    const std::int64_t wrong = arena->wrong;
    const std::int64_t phases = arena->phase;
    munmap(arena, sizeof(Arena));
    REQUIRE(ok);
    REQUIRE(failed == 0);
    REQUIRE(wrong == 0);
    REQUIRE(phases == race.phases);
  }
}

// --- While the clock goes on

void RunOn(LeaseTable& table, const Race& race, std::uint64_t seed, Arena& arena) {
  std::mt19937_64 random(seed);
  Meet(race, arena, [] {});
  std::int64_t read_ns = arena.now_ns;
  for (std::int64_t i = 0; i < race.phases; ++i) {
    const std::uint64_t dice = random() % 16;
    // Long enough for some tags to come to rest, and seldom for all.
    if (dice == 0) arena.now_ns.fetch_add(race.limit.interval_ns / 2);
    if (dice == 1) arena.now_ns.fetch_add(race.limit.interval_ns * race.limit.burst * 2);
    std::int64_t used_ns = 0;
    const auto clock = [&] { return used_ns = arena.now_ns; };
    // A reading of some requests ago, as that of a thread that was not scheduled since.
    used_ns = read_ns;
    if (dice % 4 != 0) clock();
    read_ns = dice % 4 == 3 ? arena.now_ns.load() : read_ns;
    const std::size_t tag = random() % kTags;
    const RateAnswer answer = SpendRate(table, race.tags[tag], race.limit, used_ns, clock);
    if (answer.admitted) {
      const auto at = static_cast<std::size_t>(arena.admitted[tag].fetch_add(1));
      if (at < kAdmissionsKept) arena.admitted_ns[tag][at] = used_ns;
    } else if (absl::IsResourceExhausted(answer.status)) {
      arena.exhausted.fetch_add(1);
    } else if (!answer.status.ok()) {
      arena.failed.fetch_add(1);
    }
  }
}

TEST_CASE("no stretch of time admits more than the burst and the rate, with clocks that lag") {
  const std::int64_t rounds = Scaled(60);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::int64_t admitted = 0;
  std::int64_t exhausted = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    const TempDir directory;
    const Race race{.processes = static_cast<int>(1 + round % 4),
                    .threads = round % 10 == 9 ? 8 : static_cast<int>(1 + round % 3),
                    .phases = 600,
                    .limit = {.burst = 1 + round % 5},
                    .rates_max = round % 4 == 0 ? 2048 : 1024,
                    .seed = seed + static_cast<std::uint64_t>(round) * 1000};
    Arena* const arena = NewArena();
    REQUIRE(RunProcesses(directory.File("t-lease"), race, RunOn, *arena));
    REQUIRE(arena->failed == 0);
    for (std::size_t tag = 0; tag < kTags; ++tag) {
      const auto count = static_cast<std::size_t>(arena->admitted[tag].load());
      REQUIRE(count > 0);
      const auto begin = arena->admitted_ns[tag].begin();
      REQUIRE(count <= kAdmissionsKept);
      const bool keeps =
          LeastWord({begin, begin + static_cast<std::ptrdiff_t>(count)}, race.limit).has_value();
      REQUIRE(keeps);
      admitted += arena->admitted[tag];
    }
    exhausted += arena->exhausted;
    munmap(arena, sizeof(Arena));
  }
  CHECK(exhausted > 0);
  MESSAGE(absl::StrCat(admitted, " admitted, ", exhausted, " exhausted"));
}

}  // namespace
}  // namespace throttl::testing
