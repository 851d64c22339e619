// Processes that spend from rate limits, claim their places and make the table grow are killed
// between any two steps; a ledger of what they were told decides whether anything was lost.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "src/lease/fault_point.h"
#include "tests/lease/rate_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::FoundRate;
using internal::LeaseTable;
using internal::RateLookup;
using internal::RateTable;

constexpr std::size_t kTags = 16;  // of one bucket
constexpr std::size_t kAdmissionsKept = 1 << 15;
constexpr std::size_t kFillersMax = 1 << 15;
constexpr std::size_t kWorkers = 3;
constexpr std::size_t kThreads = 2;
constexpr std::int64_t kRatesMax = 1 << 15;
constexpr Gcra kLimit{.interval_ns = kMsNs, .burst = 3};
constexpr Gcra kSlow{.interval_ns = 3'600'000 * kMsNs};

constexpr std::array kPoints = {"rate.look",   "rate.read",    "rate.free",      "rate.frozen",
                                "rate.tagged", "rate.claimed", "rate.grows",     "rate.freezes",
                                "rate.copied", "rate.grown",   "rate.forgotten", "rate.recovers",
                                "rate.thawed"};
constexpr std::size_t kFirstGrowPoint = 6;
constexpr std::size_t kGrowPoints = 4;
constexpr std::size_t kForgottenPoint = 10;
// The last ones, which are passed only where another process died in a growth.
constexpr std::size_t kRecoverPoints = 2;

using Hits = std::array<std::int64_t, kPoints.size()>;

// What outlives the processes of one file.
struct World {
  std::atomic<std::int64_t> now_ns = kStartNs;
  // Of each tag, the readings of the clock with which a unit was acknowledged.
  std::array<std::atomic<std::size_t>, kTags> count = {};
  std::array<std::array<std::atomic<std::int64_t>, kAdmissionsKept>, kTags> admitted_ns = {};
  // Tags that stay for an hour, and make the table grow: 1 for those that were acknowledged.
  std::atomic<std::size_t> fillers = 0;
  std::array<std::atomic<std::uint8_t>, kFillersMax> filled = {};
  std::array<std::atomic<std::int64_t>, kPoints.size()> hits = {};
  std::atomic<std::int64_t> errors = 0;
};

World* world = nullptr;
const char* fatal_point = nullptr;
std::atomic<int> passes_left = 0;
bool wants_growth = false;

// Kills this process at its fatal point, after it has passed there some times.
void AtFaultPoint(const char* point) {
  if (fatal_point == nullptr || std::strcmp(point, fatal_point) != 0) return;
  if (passes_left.fetch_sub(1) != 0) return;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    if (std::strcmp(kPoints[i], point) == 0) world->hits[i].fetch_add(1);
  }
  kill(getpid(), SIGKILL);
}

std::uint64_t FillerTag(std::size_t filler) { return LeaseTable::RateTagOf(4711, filler); }

bool SpendOne(LeaseTable& table, std::uint64_t tag_number, std::int64_t first_ns) {
  static const std::vector<std::uint64_t> kTagValues =
      TagsOfOneBucket(RateTable::kEntriesMin, kTags);
  std::int64_t used_ns = first_ns;
  const auto clock = [&] { return used_ns = world->now_ns; };
  const RateAnswer answer = SpendRate(table, kTagValues[tag_number], kLimit, first_ns, clock);
  if (answer.admitted) {
    const std::size_t at = world->count[tag_number].fetch_add(1);
    if (at < kAdmissionsKept) world->admitted_ns[tag_number][at] = used_ns;
  }
  if (!answer.status.ok() && !absl::IsResourceExhausted(answer.status)) world->errors.fetch_add(1);
  return answer.admitted;
}

void AddFiller(LeaseTable& table) {
  const std::size_t filler = world->fillers.fetch_add(1);
  if (filler >= kFillersMax) return;
  const auto clock = [] { return world->now_ns.load(); };
  const RateAnswer answer = SpendRate(table, FillerTag(filler), kSlow, clock(), clock);
  if (answer.admitted) world->filled[filler] = 1;
}

[[noreturn]] void RunWorker(const std::string& path, std::uint64_t seed) {
  const auto table = OpenRates(path, kRatesMax);
  if (!table.ok()) {
    world->errors.fetch_add(1);
    _exit(1);
  }
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&table, thread, seed] {
      std::mt19937_64 random(seed + thread);
      for (std::int64_t read_ns = world->now_ns;;) {
        const std::uint64_t dice = random() % 64;
        if (dice == 0) world->now_ns.fetch_add(kLimit.interval_ns / 2);
        if (dice == 1) world->now_ns.fetch_add(kLimit.interval_ns * kLimit.burst * 2);
        if (dice % 4 != 3) read_ns = world->now_ns;
        if (dice < (wants_growth ? 60 : 2)) {
          AddFiller(**table);
        } else {
          SpendOne(**table, random() % kTags, read_ns);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  _exit(0);
}

struct Worker {
  pid_t pid = -1;
  bool at_point = false;
};

class Killing {
 public:
  Killing(std::string path, std::uint64_t seed)
      : path_(std::move(path)), random_(seed), of_growth_(seed % 2 == 0) {}

  // Of growth: every second worker dies while the table grows, and the next one often while it
  // finishes that. Else many die where they claim, and where they find what a claimer left.
  void Start(std::size_t worker) {
    const bool grows = of_growth_ && starts_ % 2 == 0;
    const bool recovers = of_growth_ && !grows && random_() % 2 == 0;
    ++starts_;
    const std::size_t point = grows                ? kFirstGrowPoint + random_() % kGrowPoints
                              : recovers           ? kPoints.size() - 1 - random_() % kRecoverPoints
                              : of_growth_         ? random_() % (kPoints.size() - kRecoverPoints)
                              : random_() % 2 == 0 ? kForgottenPoint
                                                   : random_() % kFirstGrowPoint;
    const bool at_point = grows || recovers || random_() % 8 != 0;
    const auto passes = static_cast<int>(point == kFirstGrowPoint + 1 ? random_() % 500
                                         : grows || recovers          ? 0
                                                                      : random_() % 4);
    const std::uint64_t seed = random_();
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      passes_left = passes;
      fatal_point = at_point ? kPoints[point] : nullptr;
      wants_growth = grows;
      RunWorker(path_, seed);
    }
    workers_[worker] = {.pid = pid, .at_point = at_point};
  }

  // Waits a little for one that dies by itself, and kills it then.
  void End(std::size_t worker) {
    const Worker& ended = workers_[worker];
    int status = 0;
    pid_t dead = 0;
    for (int i = 0; i < (ended.at_point ? 50 : 0) && dead == 0; ++i) {
      dead = waitpid(ended.pid, &status, WNOHANG);
      if (dead == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (dead == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 2000));
      kill(ended.pid, SIGKILL);
      REQUIRE(waitpid(ended.pid, &status, 0) == ended.pid);
    }
    REQUIRE(WIFSIGNALED(status));
  }

 private:
  const std::string path_;
  std::mt19937_64 random_;
  const bool of_growth_;
  std::uint64_t starts_ = 0;
  std::array<Worker, kWorkers> workers_;
};

std::vector<std::int64_t> AdmittedOf(std::size_t tag) {
  const auto begin = world->admitted_ns[tag].begin();
  const auto count = static_cast<std::ptrdiff_t>(world->count[tag].load());
  REQUIRE(count <= static_cast<std::ptrdiff_t>(kAdmissionsKept));
  return {begin, begin + count};
}

// No tag is lost that says something, and none has more than its limit then.
void CheckTags(LeaseTable& table) {
  const std::int64_t now_ns = world->now_ns;
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, kTags);
  // Whatever was left by the last growth is finished by the first claim near it.
  REQUIRE(table.InterruptAll().ok());
  for (std::size_t tag = 0; tag < kTags; ++tag) {
    INFO("tag " << tag);
    const auto least = LeastWord(AdmittedOf(tag), kLimit);
    REQUIRE(least.has_value());
    if (*least >= now_ns) {
      const FoundRate found = table.rates().Find(tags[tag]);
      REQUIRE(found.state == RateLookup::kFound);
      REQUIRE(static_cast<std::int64_t>(found.word) >= *least);
    }
    for (int i = 0; i < 10; ++i) SpendOne(table, tag, now_ns);
    REQUIRE(LeastWord(AdmittedOf(tag), kLimit).has_value());
    REQUIRE(table.rates().Find(tags[tag]).state != RateLookup::kFrozen);
  }
  for (std::size_t filler = 0; filler < std::min(kFillersMax, world->fillers.load()); ++filler) {
    if (world->filled[filler] == 0) continue;
    const FoundRate found = table.rates().Find(FillerTag(filler));
    REQUIRE(found.state == RateLookup::kFound);
    REQUIRE(static_cast<std::int64_t>(found.word) >= kStartNs + kSlow.interval_ns);
  }
}

// It can still be claimed from and grow, as if nobody had been killed.
void CheckGrows(LeaseTable& table) {
  const std::size_t before = world->fillers;
  while (world->fillers < std::min(kFillersMax, before + 3000)) AddFiller(table);
  for (std::size_t filler = before; filler < std::min(kFillersMax, before + 3000); ++filler) {
    const RateLookup state = table.rates().Find(FillerTag(filler)).state;
    REQUIRE((state == RateLookup::kFound) == (world->filled[filler] == 1));
  }
  if (before + 3000 < kRatesMax / 4) REQUIRE(world->filled[before + 2999] == 1);
}

struct Toll {
  std::int64_t kills = 0;
  std::int64_t units = 0;
  std::int64_t fillers = 0;
  Hits hits = {};
};

void RunRound(std::int64_t kills, std::uint64_t seed, Toll& toll) {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  void* place =
      mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  world = new (place) World();
  Killing killing(path, seed);
  for (std::size_t worker = 0; worker < kWorkers; ++worker) killing.Start(worker);
  for (std::int64_t i = 0; i < kills; ++i) {
    const auto worker = static_cast<std::size_t>(i) % kWorkers;
    killing.End(worker);
    if (i + static_cast<std::int64_t>(kWorkers) < kills) killing.Start(worker);
  }
  const auto table = OpenRates(path, kRatesMax);
  REQUIRE_MESSAGE(table.ok(), table.status().ToString());
  CheckTags(**table);
  CheckGrows(**table);
  REQUIRE(world->errors == 0);
  toll.kills += kills;
  for (const std::atomic<std::size_t>& count : world->count) {
    toll.units += static_cast<std::int64_t>(count.load());
  }
  toll.fillers += static_cast<std::int64_t>(world->fillers);
  for (std::size_t i = 0; i < kPoints.size(); ++i) toll.hits[i] += world->hits[i];
  munmap(world, sizeof(World));
}

TEST_CASE("Killed at any instruction, a process takes no live tag with it and doubles none") {
  constexpr std::int64_t kKillsARound = 15;
  const std::int64_t kills = Scaled(360);
  const std::int64_t hits_wanted = Scaled(8);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  internal::fault_hook = AtFaultPoint;
  Toll toll;
  for (std::uint64_t round = 0; toll.kills < kills || std::ranges::min(toll.hits) < hits_wanted;
       ++round) {
    REQUIRE(round < 1000);
    RunRound(kKillsARound, seed + round, toll);
  }
  std::string hits;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    absl::StrAppend(&hits, " ", kPoints[i], "=", toll.hits[i]);
  }
  MESSAGE(absl::StrCat(toll.kills, " kills, ", toll.units, " units, ", toll.fillers,
                       " fillers; at points:", hits));
}

}  // namespace
}  // namespace throttl::testing
