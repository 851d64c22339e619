#include "throttl/memory_store.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "src/base/fork_registry.h"
#include "src/base/mutex.h"
#include "src/base/random_bytes.h"
#include "src/base/status_macros.h"
#include "src/store/memory/memory_counting.h"
#include "src/store/memory/memory_deliveries.h"
#include "src/store/memory/memory_records.h"

namespace throttl {
namespace internal {
namespace {

absl::Status CheckCount(std::int32_t count_max) {
  if (count_max >= 1 && count_max <= kStoreBatchMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("count_max is ", count_max, ", 1 to ", kStoreBatchMax, " is allowed"));
}

class MemoryStore final : public QuotaStore {
 public:
  explicit MemoryStore(const MemoryStoreOptions& options)
      : records_(options), counting_(options), deliveries_(options) {
    std::array<std::uint8_t, 16> id = {};
    usable_ = KernelRandom(id);
    info_ = {.kind = "memory",
             .store_id = absl::BytesToHexString(
                 absl::string_view(reinterpret_cast<const char*>(id.data()), id.size()))};
  }

  const StoreInfo& info() const override { return info_; }

  absl::StatusOr<std::vector<Plan>> ReadPlans() override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.ReadPlans();
  }

  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.FindKeys(locators);
  }

  absl::StatusOr<std::vector<std::int32_t>> ReadPepperVersions() override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.ReadPepperVersions();
  }

  absl::StatusOr<bool> HasImportedSecrets() override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.HasImportedSecrets();
  }

  absl::StatusOr<std::vector<KeyRecord>> ReadKeys(std::span<const std::string> key_ids) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.ReadKeys(key_ids);
  }

  absl::StatusOr<Page<KeyRecord>> ListKeys(const KeyQuery& query) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    THROTTL_RETURN_IF_ERROR(CheckCount(query.count_max));
    const MutexLock lock(mutex_);
    return records_.ListKeys(query);
  }

  absl::StatusOr<std::vector<WebhookRecord>> ListWebhooks(const WebhookQuery& query) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return records_.ListWebhooks(query);
  }

  absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    const bool was_applied = records_.WasApplied(changes.id);
    absl::StatusOr<std::int64_t> last_seq = records_.Apply(changes);
    if (last_seq.ok() && !was_applied) counting_.CarryOver(changes.carry_overs);
    return last_seq;
  }

  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after_seq,
                                                std::int32_t count_max) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    THROTTL_RETURN_IF_ERROR(CheckCount(count_max));
    const MutexLock lock(mutex_);
    return records_.ReadEvents(after_seq, count_max);
  }

  absl::StatusOr<std::vector<SettleReply>> Settle(const SettleBatch& batch) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    std::vector<SettleReply> replies;
    replies.reserve(batch.rows.size());
    std::vector<Event> events;
    const MutexLock lock(mutex_);
    for (const SettleRow& row : batch.rows) {
      replies.push_back(counting_.Settle(row, batch, events));
    }
    for (const Event& event : events) records_.AppendEvent(event);
    for (const UsageRow& row : batch.usage) counting_.PutUsage(row, batch.holder);
    for (const KeyActivity& activity : batch.activity) records_.Touch(activity);
    return replies;
  }

  absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return counting_.ReadCounters(ids);
  }

  absl::StatusOr<absl::Time> ReadNewestTime() override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return counting_.newest_time();
  }

  absl::Status RetireHolder(HolderId holder, LeaseState end) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    counting_.RetireHolder(holder, end);
    return absl::OkStatus();
  }

  absl::StatusOr<std::int64_t> EndPeriods(absl::Time now, std::int32_t rows_max) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    std::vector<Event> events;
    const MutexLock lock(mutex_);
    const std::int64_t rows = counting_.EndPeriods(now, rows_max, events);
    for (const Event& event : events) records_.AppendEvent(event);
    return rows;
  }

  absl::StatusOr<std::vector<UsageBucket>> ReadUsage(const UsageQuery& query) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return counting_.ReadUsage(query, records_);
  }

  absl::StatusOr<Claimed> ClaimDeliveries(const DeliveryClaim& claim) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    THROTTL_RETURN_IF_ERROR(CheckCount(claim.count_max));
    const MutexLock lock(mutex_);
    return deliveries_.Claim(claim);
  }

  absl::Status PutDeliveries(std::span<const Delivery> deliveries,
                             std::int64_t planned_seq) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    return deliveries_.Put(deliveries, planned_seq);
  }

  absl::StatusOr<Page<Delivery>> ListDeliveries(const DeliveryQuery& query) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    THROTTL_RETURN_IF_ERROR(CheckCount(query.count_max));
    const MutexLock lock(mutex_);
    return deliveries_.List(query);
  }

  absl::StatusOr<std::int64_t> Prune(const PruneLimits& limits) override {
    THROTTL_RETURN_IF_ERROR(CheckUsable());
    const MutexLock lock(mutex_);
    std::int64_t rows = 0;
    if (limits.counters_before) {
      rows += counting_.PruneCounters(*limits.counters_before, limits.rows_max - rows);
    }
    if (limits.usage_before) {
      rows += counting_.PruneUsage(*limits.usage_before, limits.rows_max - rows);
    }
    if (limits.events_before) {
      rows += records_.PruneEvents(*limits.events_before, limits.rows_max - rows);
    }
    if (limits.deliveries_before) {
      rows += deliveries_.Prune(*limits.deliveries_before, limits.rows_max - rows);
    }
    return rows;
  }

 private:
  // In a forked child the mutex may be held for ever by a thread that is not there, so this comes
  // before it.
  absl::Status CheckUsable() const {
    if (ForkGeneration() != fork_generation_) {
      return absl::FailedPreconditionError(
          "this memory store belongs to the process that opened it; a forked child must open its "
          "own");
    }
    return usable_;
  }

  const std::uint64_t fork_generation_ = ForkGeneration();
  absl::Status usable_;  // not OK: the kernel gave no random bytes for the store's id
  StoreInfo info_;
  Mutex mutex_;
  MemoryRecords records_ THROTTL_GUARDED_BY(mutex_);
  MemoryCounting counting_ THROTTL_GUARDED_BY(mutex_);
  MemoryDeliveries deliveries_ THROTTL_GUARDED_BY(mutex_);
};

}  // namespace
}  // namespace internal

std::shared_ptr<QuotaStore> MakeMemoryStore(const MemoryStoreOptions& options) {
  return std::make_shared<internal::MemoryStore>(options);
}

}  // namespace throttl
