// Processes that spend, settle, turn and grow on one lease file are killed between any two steps;
// a ledger of what they were told decides whether anything was lost or admitted twice.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "src/lease/fault_point.h"
#include "tests/lease/lease_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::FoundSlot;
using internal::HourTotal;
using internal::LeaseLock;
using internal::LeaseTable;
using internal::PeriodTotal;
using internal::SlotAim;
using internal::SlotRef;
using internal::SlotTarget;
using internal::SpendAnswer;
using internal::SpendCode;
using internal::UnsettledSlot;

// A period is five hours, so that both kinds of turn come often and not together.
constexpr std::int64_t kPeriodMs = 5 * kHourMs;
constexpr std::size_t kSubjects = 24;
constexpr std::size_t kPeriods = 4096;
constexpr std::size_t kWorkers = 3;
constexpr std::size_t kThreads = 2;
constexpr std::int64_t kLimit = 2000;
constexpr std::int64_t kSlotsMax = 65'536;

constexpr std::array kPoints = {
    "spend.swapped",   "change.written", "change.valid",   "change.closed",  "change.state",
    "change.identity", "change.fields",  "change.indexed", "change.opened",  "grow.allocated",
    "grow.sized",      "grow.indexed",   "index.cleared",  "settle.read",    "settle.stored",
    "settle.cleared",  "publish.noted",  "publish.bumped", "recover.intent", "recover.index"};

// The last ones, which are passed only where another process died.
constexpr std::size_t kRecoverPoints = 2;
constexpr std::size_t kFirstGrowPoint = 9;
constexpr std::size_t kGrowPoints = 4;

using Counts = std::array<std::array<std::atomic<std::int64_t>, kPeriods>, kSubjects>;
using HourCounts = std::array<std::array<std::atomic<std::int64_t>, kPeriods * 5>, kSubjects>;

// What outlives the processes: the clock, the store (absolute totals of the one table), and what
// was acknowledged.
struct World {
  std::atomic<std::int64_t> now_ms = kStart;
  Counts stored;
  HourCounts stored_allowed;  // requests, by hours since kStart
  HourCounts stored_units;
  Counts acknowledged;
  // Of each thread: the subject that it may be spending on, plus one.
  std::array<std::array<std::atomic<std::int64_t>, kThreads>, kWorkers> spending;
  std::array<std::atomic<std::int64_t>, kPoints.size()> hits;
  std::atomic<std::int64_t> newcomers = 0;  // subjects that only make the table grow
  std::atomic<std::int64_t> errors = 0;
};

World* NewWorld() {
  void* place =
      mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  return new (place) World();
}

World* world = nullptr;
const char* fatal_point = nullptr;
std::atomic<int> passes_left = 0;
bool wants_growth = false;  // to come to a fault point of growing

// Kills this process at its fatal point, after it has passed there some times.
void AtFaultPoint(const char* point) {
  if (fatal_point == nullptr || std::strcmp(point, fatal_point) != 0) return;
  if (passes_left.fetch_sub(1) != 0) return;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    if (std::strcmp(kPoints[i], point) == 0) world->hits[i].fetch_add(1);
  }
  kill(getpid(), SIGKILL);
}

std::string SubjectName(std::size_t subject) { return absl::StrCat("k:", subject); }

SlotAim AimAt(std::int64_t now_ms) {
  const std::int64_t period = (now_ms - kStart) / kPeriodMs;
  return {.period_start_s = (kStart + period * kPeriodMs) / 1000,
          .period_end_ms = kStart + (period + 1) * kPeriodMs,
          .limit = kLimit,
          .limit_version = 1,
          .hour = now_ms / kHourMs};
}

std::size_t PeriodOfStart(std::int64_t start_s) {
  return static_cast<std::size_t>((start_s * 1000 - kStart) / kPeriodMs);
}

void StoreHour(std::size_t subject, const HourTotal& hour) {
  const auto at = static_cast<std::size_t>(hour.hour - kStart / kHourMs);
  world->stored_allowed[subject][at] = hour.allowed;
  world->stored_units[subject][at] = hour.units;
}

// What a store does with the totals of one slot.
void StoreSlot(const UnsettledSlot& slot) {
  const std::string name(slot.identity.subject.view().substr(2));
  if (name[0] == 'n') return;
  const auto subject = static_cast<std::size_t>(std::stoi(name));
  const PeriodTotal& carried = slot.state.carried_period;
  if (carried.present != 0) world->stored[subject][PeriodOfStart(carried.start_s)] = carried.used;
  world->stored[subject][PeriodOfStart(slot.state.period_start_s)] = slot.totals.units;
  if (slot.state.carried_hour.present != 0) StoreHour(subject, slot.state.carried_hour);
  StoreHour(subject, RunningHour(slot.state, slot.totals));
}

bool SettleAll(LeaseTable& table) {
  const absl::StatusOr<LeaseLock::Hold> hold = table.AcquireCommitLock(absl::Seconds(30));
  if (!hold.ok()) return false;
  for (std::uint64_t next = 0;;) {
    const absl::StatusOr<std::vector<UnsettledSlot>> slots = table.ReadUnsettled(100, next, next);
    if (!slots.ok()) return false;
    THROTTL_FAULT_POINT("settle.read");
    for (const UnsettledSlot& slot : *slots) StoreSlot(slot);
    THROTTL_FAULT_POINT("settle.stored");
    if (!table.MarkSettled(*slots).ok()) return false;
    if (next == 0) return true;
  }
}

// The slot of a subject; what it used in the period is read from the store when it begins.
bool FindSlot(LeaseTable& table, std::size_t subject, std::int64_t now_ms, SlotRef& ref) {
  const std::string name = SubjectName(subject);
  SlotTarget target{.subject = name, .owner_id = "acme", .aim = AimAt(now_ms)};
  for (;;) {
    const absl::StatusOr<FoundSlot> found = table.Find(target);
    if (absl::IsAborted(found.status())) {
      if (!SettleAll(table)) return false;
      continue;
    }
    if (!found.ok()) return false;
    if (found->ref.has_value()) {
      ref = *found->ref;
      return true;
    }
    target.aim.units = world->stored[subject][PeriodOfStart(target.aim.period_start_s)];
    const absl::StatusOr<std::optional<SlotRef>> begun = table.Begin(target, found->reuses);
    if (!begun.ok()) return false;
    if (begun->has_value()) {
      ref = **begun;
      return true;
    }
  }
}

bool SpendOne(LeaseTable& table, std::size_t subject, std::atomic<std::int64_t>& spending,
              SlotRef& ref, SpendCode& code) {
  for (;;) {
    const std::int64_t now_ms = world->now_ms;
    spending = static_cast<std::int64_t>(subject) + 1;
    const SpendAnswer answer =
        table.TrySpend(ref, {.cost = 1, .now_ms = now_ms, .generation = table.generation()});
    if (answer.code == SpendCode::kSpent) {
      const std::int64_t end = (answer.period.end_ms() - kStart) / kPeriodMs;
      world->acknowledged[subject][static_cast<std::size_t>(end - 1)].fetch_add(1);
    }
    spending = 0;
    code = answer.code;
    if (code == SpendCode::kSpent || code == SpendCode::kRefused) return true;
    if (code == SpendCode::kStale && !FindSlot(table, subject, now_ms, ref)) return false;
  }
}

// Begins subjects of its own, which make the table grow.
bool AddNewcomers(LeaseTable& table) {
  for (int i = 0; i < 8; ++i) {
    const std::string name = absl::StrCat("k:n", world->newcomers.fetch_add(1));
    const absl::StatusOr<SlotRef> ref = SlotOf(table, name, AimAt(world->now_ms));
    if (!ref.ok() && !absl::IsResourceExhausted(ref.status())) return false;
  }
  return true;
}

bool PublishChange(LeaseTable& table, std::size_t subject) {
  const absl::StatusOr<LeaseLock::Hold> hold = table.AcquireCommitLock(absl::Seconds(30));
  if (!hold.ok()) return false;
  table.BeginChange();
  const std::string name = SubjectName(subject);
  table.Publish(std::span(&name, 1));
  return table.Interrupt(name).ok();
}

bool Step(LeaseTable& table, std::mt19937_64& random, std::atomic<std::int64_t>& spending,
          std::array<SlotRef, kSubjects>& refs) {
  const std::uint64_t dice = random() % 1000;
  const std::size_t subject = random() % kSubjects;
  SpendCode code;
  if (dice < 10) return SettleAll(table);
  if (dice < (wants_growth ? 400 : 20)) return AddNewcomers(table);
  if (dice < 400) return SpendOne(table, subject, spending, refs[subject], code);
  if (dice < 410) return PublishChange(table, subject);
  if (dice < 414) world->now_ms.fetch_add(kHourMs / 7);
  return SpendOne(table, subject, spending, refs[subject], code);
}

[[noreturn]] void RunWorker(const std::string& path, std::size_t worker, std::uint64_t seed) {
  const auto table = OpenTable(path, kSlotsMax);
  if (!table.ok()) {
    world->errors.fetch_add(1);
    _exit(1);
  }
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&table, worker, thread, seed] {
      std::mt19937_64 random(seed + thread);
      std::array<SlotRef, kSubjects> refs;
      while (Step(**table, random, world->spending[worker][thread], refs)) {
      }
      world->errors.fetch_add(1);
      _exit(1);
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
  Killing(std::string path, std::uint64_t seed) : path_(std::move(path)), random_(seed) {}

  // The first workers of a table die while it grows. Of the others three in four die at a fault
  // point, and a third of these while they finish what another left, since they must find it first.
  void Start(std::size_t worker, bool grows = false) {
    const bool recovers = random_() % 3 == 0;
    const std::size_t point = grows      ? kFirstGrowPoint + random_() % kGrowPoints
                              : recovers ? kPoints.size() - 1 - random_() % kRecoverPoints
                                         : random_() % (kPoints.size() - kRecoverPoints);
    const bool at_point = grows || random_() % 4 != 0;
    const auto passes = static_cast<int>(grows || recovers ? 0 : random_() % 3);
    const std::uint64_t seed = random_();
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      passes_left = passes;
      fatal_point = at_point ? kPoints[point] : nullptr;
      wants_growth = grows;
      RunWorker(path_, worker, seed);
    }
    workers_[worker] = {.pid = pid, .at_point = at_point};
  }

  // Waits a little for one that dies by itself, and kills it then.
  void End(std::size_t worker) {
    const Worker& ended = workers_[worker];
    int status = 0;
    pid_t dead = 0;
    for (int i = 0; i < (ended.at_point ? 200 : 0) && dead == 0; ++i) {
      dead = waitpid(ended.pid, &status, WNOHANG);
      if (dead == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (dead == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 3000));
      kill(ended.pid, SIGKILL);
      REQUIRE(waitpid(ended.pid, &status, 0) == ended.pid);
    }
    REQUIRE(WIFSIGNALED(status));
    for (std::atomic<std::int64_t>& spending : world->spending[worker]) {
      const std::int64_t subject = spending.exchange(0);
      if (subject != 0) ++uncertain_[static_cast<std::size_t>(subject - 1)];
    }
  }

  std::int64_t uncertain(std::size_t subject) const { return uncertain_[subject]; }

 private:
  const std::string path_;
  std::mt19937_64 random_;
  std::array<Worker, kWorkers> workers_;
  std::array<std::int64_t, kSubjects> uncertain_ = {};
};

std::int64_t Sum(const auto& counts) {
  std::int64_t sum = 0;
  for (const std::atomic<std::int64_t>& count : counts) sum += count;
  return sum;
}

void CheckSubject(std::size_t subject, std::int64_t uncertain) {
  INFO("subject " << subject);
  const auto& stored = world->stored[subject];
  const auto& acknowledged = world->acknowledged[subject];
  for (std::size_t period = 0; period < kPeriods; ++period) {
    if (stored[period] == 0 && acknowledged[period] == 0) continue;
    INFO("period " << period);
    REQUIRE(stored[period] <= kLimit);
    REQUIRE(stored[period] >= acknowledged[period]);
  }
  REQUIRE(Sum(stored) <= Sum(acknowledged) + uncertain);
  REQUIRE(Sum(world->stored_units[subject]) == Sum(stored));
  REQUIRE(Sum(world->stored_allowed[subject]) == Sum(stored));
}

using Hits = std::array<std::int64_t, kPoints.size()>;

struct Toll {
  std::int64_t kills = 0;
  std::int64_t units = 0;
  std::int64_t in_flight = 0;
  std::int64_t newcomers = 0;
  Hits hits = {};
};

// What is left of the running period must still be there to be spent.
void CheckNothingStranded(LeaseTable& table) {
  std::atomic<std::int64_t> spending;
  for (std::size_t subject = 0; subject < kSubjects; ++subject) {
    SlotRef ref;
    SpendCode code = SpendCode::kSpent;
    while (code == SpendCode::kSpent) REQUIRE(SpendOne(table, subject, spending, ref, code));
  }
  REQUIRE(SettleAll(table));
  const std::size_t now = PeriodOfStart(AimAt(world->now_ms).period_start_s);
  for (std::size_t subject = 0; subject < kSubjects; ++subject) {
    REQUIRE(world->stored[subject][now] == kLimit);
  }
}

// One table, from its making on.
void RunRound(std::int64_t kills, std::uint64_t seed, Toll& toll) {
  const TempDir directory;
  const std::string path = directory.File("throttl.db-lease");
  world = NewWorld();
  Killing killing(path, seed);
  for (std::size_t worker = 0; worker < kWorkers; ++worker) killing.Start(worker, true);
  for (std::int64_t i = 0; i < kills; ++i) {
    const std::size_t worker = static_cast<std::size_t>(i) % kWorkers;
    killing.End(worker);
    killing.Start(worker);
    REQUIRE(world->errors == 0);
  }
  for (std::size_t worker = 0; worker < kWorkers; ++worker) killing.End(worker);
  const auto table = OpenTable(path, kSlotsMax);
  REQUIRE(table.ok());
  REQUIRE(SettleAll(**table));
  for (std::size_t subject = 0; subject < kSubjects; ++subject) {
    CheckSubject(subject, killing.uncertain(subject));
    toll.in_flight += killing.uncertain(subject);
    toll.units += Sum(world->stored[subject]);
  }
  CheckNothingStranded(**table);
  toll.kills += kills + static_cast<std::int64_t>(kWorkers);
  toll.newcomers += world->newcomers;
  for (std::size_t i = 0; i < kPoints.size(); ++i) toll.hits[i] += world->hits[i];
  munmap(world, sizeof(World));
}

TEST_CASE(
    "Killed at any instruction, a process loses nothing, admits nothing twice and strands no "
    "unit") {
  constexpr std::int64_t kKillsARound = 25;
  const std::int64_t kills = Scaled(1000);
  const std::int64_t hits_wanted = Scaled(20);
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
  MESSAGE(absl::StrCat(toll.kills, " kills, ", toll.units, " units, ", toll.in_flight,
                       " in flight, ", toll.newcomers, " newcomers; at points:", hits));
}

}  // namespace
}  // namespace throttl::testing
