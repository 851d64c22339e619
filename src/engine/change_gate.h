// The ChangeGate applies changes of keys and plans to the store so that every process on this
// machine decides by them when it returns.
//
// Thread safety: all methods from any thread.
//
//   THROTTL_RETURN_IF_ERROR(changes_.Apply(changes));
#ifndef THROTTL_SRC_ENGINE_CHANGE_GATE_H_
#define THROTTL_SRC_ENGINE_CHANGE_GATE_H_

#include <string>

#include "absl/status/status.h"

#include "throttl/quota_store.h"

#include "src/lease/lease_table.h"

namespace throttl::internal {

class ChangeGate {
 public:
  // Both outlive this.
  ChangeGate(QuotaStore& store, LeaseTable& table) : store_(store), table_(table) {}

  // QuotaStore::Apply, and then: no request that began before is allowed by what was there before.
  // Unavailable also when the commit lock was not to be had, or the store has the change and the
  // lease table was not told: repeating the call is harmless.
  absl::Status Apply(const ChangeSet& changes);

  // What Apply does after the store, once more: for a change that the store has already, when the
  // call that made it may have failed after that.
  absl::Status Confirm(const std::string& key_id);

 private:
  absl::Status Tell(const ChangeSet& changes);

  QuotaStore& store_;
  LeaseTable& table_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_CHANGE_GATE_H_
