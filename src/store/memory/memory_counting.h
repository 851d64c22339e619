// MemoryCounting is what a memory store counts: counters with their leases, and hourly usage.
//
// Thread safety: none; the store's mutex guards it.
//
//   MemoryCounting counting(options);
//   const SettleReply reply = counting.Settle(row, batch, events);
#ifndef THROTTL_SRC_STORE_MEMORY_MEMORY_COUNTING_H_
#define THROTTL_SRC_STORE_MEMORY_MEMORY_COUNTING_H_

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "throttl/memory_store.h"
#include "throttl/quota_store.h"

#include "src/store/memory/memory_records.h"

namespace throttl::internal {

class MemoryCounting {
 public:
  explicit MemoryCounting(const MemoryStoreOptions& options);

  // Appends to `events` the threshold crossings to be logged.
  SettleReply Settle(const SettleRow& row, const SettleBatch& batch, std::vector<Event>& events);
  // As ChangeSet::carry_overs.
  void CarryOver(const std::vector<CarryRow>& rows);
  std::vector<Counter> ReadCounters(std::span<const CounterId> ids) const;
  absl::Time newest_time() const { return now_; }
  void RetireHolder(HolderId holder, LeaseState end);
  // As QuotaStore::EndPeriods, with the events in `events`.
  std::int64_t EndPeriods(absl::Time now, std::int64_t rows_max, std::vector<Event>& events);

  void PutUsage(const UsageRow& row, HolderId holder);
  // `records` tell the owner of a key.
  std::vector<UsageBucket> ReadUsage(const UsageQuery& query, const MemoryRecords& records) const;

  // Forget what is from before `before`, at most `rows_max` rows, and return how many. A counter
  // whose period has not ended by the newest time that a settle told, or that has an open lease, is
  // kept. A counter and its leases are one row.
  std::int64_t PruneCounters(absl::Time before, std::int64_t rows_max);
  std::int64_t PruneUsage(absl::Time before, std::int64_t rows_max);

 private:
  struct CounterRow {
    Counter counter;
    std::map<HolderId, Lease> leases;
  };
  // Of one hour, by key: few holders count for one key.
  using UsageOfKeys = std::unordered_map<std::string, std::map<HolderId, UsageBucket>>;

  void NoteDue(const CounterId& id, const Counter& counter);
  void ForgetOldestUsage();

  const MemoryStoreOptions options_;
  std::map<CounterId, CounterRow> counters_;
  // By their end: those with usage for which ApplyPeriodEnd has not been done.
  std::set<std::pair<absl::Time, CounterId>> due_;
  absl::Time now_ = absl::InfinitePast();  // the newest that was told
  std::map<absl::Time, UsageOfKeys> usage_;
  std::int64_t usage_rows_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_MEMORY_MEMORY_COUNTING_H_
