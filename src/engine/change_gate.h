// The ChangeGate applies changes of keys and plans to the store so that every process on this
// machine decides by them when it returns.
//
// Thread safety: all methods from any thread.
//
//   THROTTL_RETURN_IF_ERROR(changes_.Apply(changes));
#ifndef THROTTL_SRC_ENGINE_CHANGE_GATE_H_
#define THROTTL_SRC_ENGINE_CHANGE_GATE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

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

  // Apply, with rows for changes.carry_overs that `make_rows` reads while no other change or settle
  // is under way. `subject` is whose usage they carry over; empty: perhaps anybody's. Errors of
  // make_rows: nothing was changed.
  using MakeCarryRows = std::function<absl::StatusOr<std::vector<CarryRow>>()>;
  absl::Status Apply(ChangeSet changes, std::string_view subject, const MakeCarryRows& make_rows);

  // What Apply does after the store, once more: for a change that the store has already, when the
  // call that made it may have failed after that.
  absl::Status Confirm(const std::string& key_id);

 private:
  // REQUIRES: the commit lock, and BeginChange.
  absl::Status ApplyAndTell(const ChangeSet& changes);
  absl::Status Tell(const ChangeSet& changes);

  QuotaStore& store_;
  LeaseTable& table_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_CHANGE_GATE_H_
