// A ForwardingStore passes every call on to another store: a base for stores that go wrong on
// purpose.
//
// Thread safety: as the other store.
//
//   struct Stopped : ForwardingStore { absl::StatusOr<std::int64_t> Apply(...) override {...} };
#ifndef THROTTL_TESTS_ENGINE_FORWARDING_STORE_H_
#define THROTTL_TESTS_ENGINE_FORWARDING_STORE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "throttl/memory_store.h"
#include "throttl/quota_store.h"

namespace throttl::testing {

class ForwardingStore : public QuotaStore {
 public:
  explicit ForwardingStore(std::shared_ptr<QuotaStore> to = MakeMemoryStore())
      : to_(std::move(to)) {}

  const StoreInfo& info() const override { return to_->info(); }
  absl::StatusOr<std::vector<Plan>> ReadPlans() override { return to_->ReadPlans(); }
  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    return to_->FindKeys(locators);
  }
  absl::StatusOr<std::vector<KeyRecord>> ReadKeys(std::span<const std::string> ids) override {
    return to_->ReadKeys(ids);
  }
  absl::StatusOr<Page<KeyRecord>> ListKeys(const KeyQuery& query) override {
    return to_->ListKeys(query);
  }
  absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes) override {
    return to_->Apply(changes);
  }
  absl::StatusOr<std::vector<Event>> ReadEvents(std::int64_t after, std::int32_t count) override {
    return to_->ReadEvents(after, count);
  }
  absl::StatusOr<std::vector<SettleReply>> Settle(const SettleBatch& batch) override {
    return to_->Settle(batch);
  }
  absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) override {
    return to_->ReadCounters(ids);
  }
  absl::StatusOr<absl::Time> ReadNewestTime() override { return to_->ReadNewestTime(); }
  absl::Status RetireHolder(HolderId holder, LeaseState end) override {
    return to_->RetireHolder(holder, end);
  }
  absl::StatusOr<std::vector<UsageBucket>> ReadUsage(const UsageQuery& query) override {
    return to_->ReadUsage(query);
  }

 protected:
  const std::shared_ptr<QuotaStore>& to() const { return to_; }

 private:
  const std::shared_ptr<QuotaStore> to_;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_ENGINE_FORWARDING_STORE_H_
