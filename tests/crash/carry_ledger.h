// A CarryLedger is the tests' own account of what engines allowed while quotas change with each
// CarryOver, in memory that their processes share: of each request, between which two changes it
// surely lay. From that it says what must count as used: exactly, where no request overlapped a
// change, and else from the least to the most that the order of the two may come to.
//
// Its subjects: keys on one plan, of which one is idle and one has a quota of its own; a key that
// moves between two plans; and an owner whose two keys share a quota.
//
// Thread safety: Spend from any thread and process, each with a lane of its own; ChangeOnce by one
// at a time; the rest belongs to a test, while all lanes rest.
//
//   MakeCarrySubjects(*engine, *ledger);
//   ledger->mode = CarryMode::kSpend;
//   REQUIRE(ChangeOnce(*engine, *ledger, CarryOver::kReset, random) == "");
//   RestAll(*ledger);
//   CheckCarryAtRest(*engine, *ledger);
#ifndef THROTTL_TESTS_CRASH_CARRY_LEDGER_H_
#define THROTTL_TESTS_CRASH_CARRY_LEDGER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"

namespace throttl::testing {

inline constexpr std::size_t kCarrySubjects = 8;
inline constexpr std::size_t kIdleSubject = 4;    // of the plan "team"; spent by drains alone
inline constexpr std::size_t kOwnSubject = 5;     // on "team", with a quota of its own
inline constexpr std::size_t kMovingSubject = 6;  // on "team" or on "spare"
inline constexpr std::size_t kPoolSubject = 7;    // an owner with two keys on "pool"
inline constexpr std::size_t kCarryPlans = 3;
inline constexpr std::size_t kCarryChangesMax = 31;  // between two checks
inline constexpr std::size_t kCarryLanes = 40;
inline constexpr std::int64_t kCarryStartMs = 1'767'225'600'000;  // the first of January 2026

enum class CarryMode : std::uint8_t { kRest, kSpend, kDrain, kStop };

struct CarryRange {
  std::int64_t lo = 0;
  std::int64_t hi = 0;
};

// What a subject was known to be at the last check.
struct CarryBase {
  std::int64_t limit = 0;  // of the plan, or its own
  std::int64_t used = 0;
  std::int64_t added = 0;
  std::int64_t total = 0;  // units that were ever allowed
  // Of them, those that the history of the keys lacks: spent for the owner by a process that died
  // before it spent them for the key.
  std::int64_t unseen = 0;
};

struct CarryChange {
  CarryOver carry_over = CarryOver::kDifference;
  std::uint32_t concerned = 0;  // a bit for each subject
  std::size_t plan = 0;         // that is put; kCarryPlans: a key is updated
  std::size_t subject = 0;      // whose key
  std::size_t moves_to = 0;     // the plan of the moving key afterwards
  std::int64_t version = 0;     // of the plan or key, if the change happened
  std::int64_t limit = 0;       // of those that it concerns, afterwards
  bool happened = false;
};

// One thread that spends.
struct CarryLane {
  std::atomic<bool> busy = false;
  std::atomic<std::int64_t> drained = 0;  // the last drain that it finished
  // Of the request under way, whose thread may die in it.
  std::atomic<std::int64_t> subject = 0;  // plus one; 0: none
  std::atomic<std::int64_t> cost = 0;
  std::atomic<std::size_t> ended_before = 0;
};

struct CarryLedger {
  std::atomic<std::int64_t> now_ms = kCarryStartMs;
  std::atomic<CarryMode> mode = CarryMode::kRest;
  std::atomic<std::int64_t> drains = 0;
  // Changes since the last check, by their numbers from 1 on.
  std::atomic<std::size_t> begun = 0;
  std::atomic<std::size_t> ended = 0;
  std::array<CarryChange, kCarryChangesMax + 1> changes = {};
  // Units that were allowed, by subject, the changes that had ended before and those that had begun
  // afterwards.
  using Units =
      std::array<std::array<std::atomic<std::int64_t>, kCarryChangesMax + 1>, kCarryChangesMax + 1>;
  std::array<Units, kCarrySubjects> units = {};
  // Those of requests whose process died, and which may not have happened.
  std::array<Units, kCarrySubjects> perhaps = {};
  std::array<CarryLane, kCarryLanes> lanes = {};
  std::array<CarryBase, kCarrySubjects> bases = {};
  std::array<std::int64_t, kCarryPlans> limits = {};
  std::array<std::int64_t, kCarryPlans> versions = {};
  std::size_t moving_on = 0;  // the plan of the moving key
  // By key: of the subjects, and the pool's other one.
  std::array<std::array<char, 64>, kCarrySubjects + 1> secrets = {};
  Report report;
};

// Opens the store by the ledger's clock; nullptr, and a report, when it cannot.
std::unique_ptr<Engine> OpenCarryEngine(const std::string& path, CarryLedger& ledger,
                                        bool settle_thread = true);

void MakeCarrySubjects(Engine& engine, CarryLedger& ledger);

// Validates once, and enters what was allowed. False, and a report, when the answer is neither that
// nor that the quota is used up, nor one that a host repeats. `secret` may be kCarrySubjects: the
// pool's other.
struct CarrySpend {
  std::size_t secret = 0;
  std::int64_t cost = 1;
};
bool SpendCarry(Engine& engine, CarryLedger& ledger, CarryLane& lane, const CarrySpend& spend,
                bool* allowed = nullptr);

// Spends, rests and drains as the ledger's mode says, until it says stop.
void SpendByMode(Engine& engine, CarryLedger& ledger, CarryLane& lane, std::uint64_t seed);

// Draws a change with this CarryOver, and makes it; empty, or what went wrong.
std::string ChangeOnce(Engine& engine, CarryLedger& ledger, CarryOver carry_over,
                       std::mt19937_64& random);

// Waits until no lane spends.
void RestAll(CarryLedger& ledger);

// Of lanes whose process is dead: what they may have spent.
void BuryLane(CarryLedger& ledger, CarryLane& lane);
// Of a process that died in a change: whether that is in the store.
void ResolveChange(Engine& engine, CarryLedger& ledger);

// What must count as used of the subject, and what must be added to its limit.
struct CarryState {
  std::int64_t limit = 0;
  CarryRange used = {};
  CarryRange added = {};
  CarryRange total = {};
};
CarryState CarryStateOf(const CarryLedger& ledger, std::size_t subject);

struct CarryTotals {
  std::int64_t units = 0;    // that were allowed since the last check
  std::int64_t overlap = 0;  // of them, by requests that overlapped a change
  std::int64_t inexact = 0;  // subjects whose usage the ledger knows within bounds only
};

// While all lanes rest: the usage, the store's counters and the history are what the ledger says.
// What is found is what the ledger goes on from.
CarryTotals CheckCarryAtRest(Engine& engine, CarryLedger& ledger);

// All `lanes` spend what remains of every subject: exactly that is allowed. Ends at rest, checked.
CarryTotals DrainCarry(Engine& engine, CarryLedger& ledger, std::size_t lanes);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_CARRY_LEDGER_H_
