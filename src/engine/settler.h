// A Settler writes to the store what was counted in the lease table.
//
// Thread safety: all methods from any thread; settlers of all processes take turns.
//
//   THROTTL_RETURN_IF_ERROR(settler.Settle());
#ifndef THROTTL_SRC_ENGINE_SETTLER_H_
#define THROTTL_SRC_ENGINE_SETTLER_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"

#include "throttl/quota_store.h"

#include "src/engine/engine_context.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {

class Settler {
 public:
  // Both outlive this.
  Settler(const EngineContext& context, LeaseTable& table) : context_(context), table_(table) {}

  // When it returns OK, the store has everything that was counted before the call. Unavailable: the
  // store, or the turn, was not to be had; nothing is lost.
  absl::Status Settle();
  // The same for who holds the commit lock.
  absl::Status SettleHoldingCommitLock();

  std::int64_t settles() const { return settles_.load(std::memory_order_relaxed); }
  std::int64_t failures() const { return failures_.load(std::memory_order_relaxed); }
  // Of the engine's clock; 0: never.
  std::int64_t last_settled_ms() const { return last_settled_ms_.load(std::memory_order_relaxed); }

 private:
  absl::Status SettleAll();
  absl::Status Note(absl::Status status);
  absl::Status SettleSome(const std::vector<UnsettledSlot>& slots);

  const EngineContext& context_;
  LeaseTable& table_;
  std::atomic<std::int64_t> settles_ = 0;
  std::atomic<std::int64_t> failures_ = 0;
  std::atomic<std::int64_t> last_settled_ms_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_SETTLER_H_
