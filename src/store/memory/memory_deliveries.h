// MemoryDeliveries are the deliveries of a memory store: events on their way to webhooks.
//
// Thread safety: none; the store's mutex guards it.
//
//   MemoryDeliveries deliveries(options);
//   THROTTL_RETURN_IF_ERROR(deliveries.Put(planned, planned_seq));
#ifndef THROTTL_SRC_STORE_MEMORY_MEMORY_DELIVERIES_H_
#define THROTTL_SRC_STORE_MEMORY_MEMORY_DELIVERIES_H_

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/memory_store.h"
#include "throttl/quota_store.h"

namespace throttl::internal {

// At most MemoryStoreOptions::events_max deliveries are kept: finished ones are forgotten, the
// oldest first, and when all are pending more are refused.
class MemoryDeliveries {
 public:
  explicit MemoryDeliveries(const MemoryStoreOptions& options);

  QuotaStore::Claimed Claim(const DeliveryClaim& claim);
  absl::Status Put(std::span<const Delivery> deliveries, std::int64_t planned_seq);
  absl::StatusOr<Page<Delivery>> List(const DeliveryQuery& query) const;
  // Forgets finished deliveries of events from before `before`; returns how many.
  std::int64_t Prune(absl::Time before, std::int64_t rows_max);

 private:
  using Age = std::pair<std::int64_t, std::string>;  // seq of the event, id of the delivery
  struct Row {
    Delivery delivery;
    absl::Time claimed_until = absl::InfinitePast();
  };

  void Store(const Delivery& delivery, absl::Time claimed_until);
  void Forget(const Age& age);

  const MemoryStoreOptions options_;
  std::map<Age, Row> rows_;
  std::unordered_map<std::string, std::int64_t> seq_of_id_;
  std::set<std::pair<absl::Time, Age>> pending_;  // by due_at
  std::set<Age> finished_;
  std::int64_t planned_seq_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_MEMORY_MEMORY_DELIVERIES_H_
