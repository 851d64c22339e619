// Parts of the tests of the lease table: subjects, aims, and opening a slot as an engine would.
//
// Thread safety: pure functions; the table's own.
//
//   const SlotRef ref = SlotOf(*table, "k:one", AimOf({.limit = 10}));
#ifndef THROTTL_TESTS_LEASE_LEASE_PARTS_H_
#define THROTTL_TESTS_LEASE_LEASE_PARTS_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "src/lease/lease_table.h"

namespace throttl::testing {

inline constexpr std::int64_t kHourMs = 3'600'000;
inline constexpr std::int64_t kStart = 1'767'225'600'000;  // 2026-01-01, in ms
inline constexpr std::int64_t kMonthMs = 31 * 24 * kHourMs;

struct Aiming {
  std::int64_t limit = internal::kNoLimit;
  std::int64_t limit_version = 1;
  std::int64_t now_ms = kStart;
};

// A period of 31 days that holds `now_ms`, counted from kStart.
inline internal::SlotAim AimOf(const Aiming& aiming) {
  const std::int64_t months = (aiming.now_ms - kStart) / kMonthMs;
  return {.period_start_s = (kStart + months * kMonthMs) / 1000,
          .period_end_ms = kStart + (months + 1) * kMonthMs,
          .limit = aiming.limit,
          .limit_version = aiming.limit_version,
          .hour = aiming.now_ms / kHourMs};
}

inline absl::StatusOr<std::unique_ptr<internal::LeaseTable>> OpenTable(
    const std::string& path, std::int64_t slots_max = 1024) {
  auto table = internal::LeaseTable::Open({.path = path,
                                           .store_id = "store-of-the-test",
                                           .slots_max = slots_max,
                                           .lock_timeout = absl::Seconds(30)});
  if (!table.ok()) return table;
  // No period was counted before.
  const absl::Status told = (*table)->NoteNewest(std::numeric_limits<std::int64_t>::min());
  if (!told.ok()) return told;
  return table;
}

// Publishes one change, of a key of this id.
inline void PublishKey(internal::LeaseTable& table, const std::string& key_id) {
  table.Publish(std::span(&key_id, 1));
}

// The subject's slot, begun from zero where it has none.
inline absl::StatusOr<internal::SlotRef> SlotOf(internal::LeaseTable& table,
                                                std::string_view subject,
                                                const internal::SlotAim& aim) {
  const internal::SlotTarget target{.subject = subject, .owner_id = "acme", .aim = aim};
  for (;;) {
    absl::StatusOr<internal::FoundSlot> found = table.Find(target);
    if (!found.ok()) return found.status();
    if (found->ref.has_value()) return *found->ref;
    absl::StatusOr<std::optional<internal::SlotRef>> begun = table.Begin(target, found->reuses);
    if (!begun.ok()) return begun.status();
    if (begun->has_value()) return **begun;
  }
}

// Spends, finding the slot again where it must be.
inline internal::SpendAnswer SpendOn(internal::LeaseTable& table, std::string_view subject,
                                     const Aiming& aiming, internal::SlotRef& ref,
                                     std::int64_t cost = 1) {
  for (;;) {
    const internal::SpendAnswer answer = table.TrySpend(
        ref, {.cost = cost, .now_ms = aiming.now_ms, .generation = table.generation()});
    if (answer.code != internal::SpendCode::kStale) return answer;
    const absl::StatusOr<internal::SlotRef> found = SlotOf(table, subject, AimOf(aiming));
    if (!found.ok()) return answer;
    ref = *found;
  }
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_LEASE_LEASE_PARTS_H_
