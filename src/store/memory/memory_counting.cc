#include "src/store/memory/memory_counting.h"

#include <algorithm>
#include <iterator>

namespace throttl::internal {
namespace {

void Add(const UsageBucket& row, UsageBucket& sum) {
  sum.allowed += row.allowed;
  sum.units += row.units;
  sum.rate_limited += row.rate_limited;
  sum.quota_exceeded += row.quota_exceeded;
  sum.refused_otherwise += row.refused_otherwise;
}

}  // namespace

MemoryCounting::MemoryCounting(const MemoryStoreOptions& options) : options_(options) {}

SettleReply MemoryCounting::Settle(const SettleRow& row, const SettleBatch& batch,
                                   std::vector<Event>& events) {
  now_ = std::max(now_, batch.now);
  // Copies: a row that is refused must not leave an empty counter behind.
  Counter counter;
  Lease lease;
  const auto it = counters_.find(row.counter);
  if (it != counters_.end()) {
    counter = it->second.counter;
    const auto stored = it->second.leases.find(batch.holder);
    if (stored != it->second.leases.end()) lease = stored->second;
  }
  const std::int64_t seq_before = lease.seq;
  const SettleReply reply = ApplySettle(row, batch.now, batch.lease_ttl, counter, lease, events);
  if (lease.seq != seq_before) {
    CounterRow& stored = counters_[row.counter];
    stored.counter = counter;
    stored.leases[batch.holder] = lease;
    now_ = std::max(now_, row.counter.period_start);
    NoteDue(row.counter, counter);
  }
  return reply;
}

void MemoryCounting::CarryOver(const std::vector<CarryRow>& rows) {
  for (const CarryRow& row : rows) {
    const auto it = counters_.find(row.counter);
    Counter counter = it == counters_.end() ? Counter{} : it->second.counter;
    if (!ApplyCarryOver(row, counter)) continue;
    counters_[row.counter].counter = counter;
    now_ = std::max(now_, row.counter.period_start);
    NoteDue(row.counter, counter);
  }
}

void MemoryCounting::NoteDue(const CounterId& id, const Counter& counter) {
  if (counter.ended || counter.used + counter.forfeited <= 0 || !counter.period_end) return;
  due_.emplace(*counter.period_end, id);
}

std::int64_t MemoryCounting::EndPeriods(absl::Time now, std::int64_t rows_max,
                                        std::vector<Event>& events) {
  std::int64_t rows = 0;
  while (rows < rows_max && !due_.empty() && due_.begin()->first <= now) {
    const CounterId id = due_.begin()->second;
    due_.erase(due_.begin());
    const auto it = counters_.find(id);
    // It may have been forgotten, or have got another end or less usage since.
    if (it != counters_.end() && ApplyPeriodEnd(id, now, it->second.counter, events)) ++rows;
    now_ = std::max(now_, now);
  }
  return rows;
}

std::vector<Counter> MemoryCounting::ReadCounters(std::span<const CounterId> ids) const {
  std::vector<Counter> found;
  found.reserve(ids.size());
  for (const CounterId& id : ids) {
    const auto it = counters_.find(id);
    found.push_back(it == counters_.end() ? Counter{} : it->second.counter);
  }
  return found;
}

void MemoryCounting::RetireHolder(HolderId holder, LeaseState end) {
  for (auto& [id, row] : counters_) {
    const auto lease = row.leases.find(holder);
    if (lease == row.leases.end()) continue;
    ApplyRetire(end, row.counter, lease->second);
    NoteDue(id, row.counter);
  }
}

void MemoryCounting::PutUsage(const UsageRow& row, HolderId holder) {
  const auto [it, is_new] = usage_[row.hour.start][row.key_id].insert_or_assign(holder, row.hour);
  if (!is_new) return;
  ++usage_rows_;
  while (usage_rows_ > options_.usage_rows_max) ForgetOldestUsage();
}

std::vector<UsageBucket> MemoryCounting::ReadUsage(const UsageQuery& query,
                                                   const MemoryRecords& records) const {
  std::map<absl::Time, UsageBucket> sums;
  const auto begin =
      query.from ? usage_.lower_bound(BucketStart(*query.from, query.bucket)) : usage_.begin();
  for (auto hour = begin; hour != usage_.end(); ++hour) {
    if (query.to && hour->first >= *query.to) break;
    const absl::Time start = BucketStart(hour->first, query.bucket);
    const auto add = [&](const std::string& key_id,
                         const std::map<HolderId, UsageBucket>& holders) {
      if (!query.owner_id.empty() && records.OwnerOf(key_id) != query.owner_id) return;
      UsageBucket& sum = sums[start];
      sum.start = start;
      for (const auto& [holder, row] : holders) Add(row, sum);
    };
    if (query.key_id.empty()) {
      for (const auto& [key_id, holders] : hour->second) add(key_id, holders);
    } else if (const auto it = hour->second.find(query.key_id); it != hour->second.end()) {
      add(it->first, it->second);
    }
  }
  std::vector<UsageBucket> buckets;
  buckets.reserve(sums.size());
  for (const auto& [start, sum] : sums) buckets.push_back(sum);
  return buckets;
}

std::int64_t MemoryCounting::PruneCounters(absl::Time before, std::int64_t rows_max) {
  std::int64_t rows = 0;
  for (auto it = counters_.begin(); it != counters_.end() && rows < rows_max;) {
    const Counter& counter = it->second.counter;
    const bool over = counter.period_end && *counter.period_end < before &&
                      *counter.period_end <= now_ && counter.open_leases == 0;
    if (over) ++rows;
    it = over ? counters_.erase(it) : std::next(it);
  }
  return rows;
}

std::int64_t MemoryCounting::PruneUsage(absl::Time before, std::int64_t rows_max) {
  std::int64_t rows = 0;
  while (rows < rows_max && !usage_.empty() && usage_.begin()->first < before) {
    ForgetOldestUsage();
    ++rows;
  }
  return rows;
}

void MemoryCounting::ForgetOldestUsage() {
  const auto hour = usage_.begin();
  const auto key = hour->second.begin();
  key->second.erase(key->second.begin());
  --usage_rows_;
  if (key->second.empty()) hour->second.erase(key);
  if (hour->second.empty()) usage_.erase(hour);
}

}  // namespace throttl::internal
