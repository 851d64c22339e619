// Victims are processes that kill themselves at a fault point, which says how often it did.
//
// Beside the points of the lease table and the engine there are some inside of a store's
// transaction, by SQLite's own hooks, and some of a recovery: "recover.intent+change.state" is
// passed where "change.state" is while a process finishes what a dead one began.
//
// Thread safety: a victim arms itself before it starts threads; the toll is for all processes.
//
//   StartChild([&] { ArmFaultPoint({.name = "settle.stored"}, *toll); return Work(); });
#ifndef THROTTL_TESTS_CRASH_FAULT_VICTIM_H_
#define THROTTL_TESTS_CRASH_FAULT_VICTIM_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace throttl::testing {

// Every fault point, in the order in which a table lists them.
std::span<const std::string_view> FaultPoints();

struct FaultToll {
  std::array<std::atomic<std::int64_t>, 64> hits = {};  // in the order of FaultPoints

  std::int64_t HitsOf(std::string_view point) const;
  // Points that were hit, and how often; a few in a line.
  std::string Table() const;
};

struct FatalPoint {
  std::string_view name = {};  // one of FaultPoints
  std::int64_t passes = 0;     // before the one that kills
};

// This process kills itself there, and counts it in `toll`, which outlives it.
void ArmFaultPoint(const FatalPoint& point, FaultToll& toll);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_FAULT_VICTIM_H_
