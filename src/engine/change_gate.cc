#include "src/engine/change_gate.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/lease/fault_point.h"

namespace throttl::internal {
namespace {

constexpr absl::Duration kCommitTimeout = absl::Seconds(10);

bool IsImported(const KeyRecord& record) {
  return !record.secrets.empty() && record.secrets.front().info.locator.starts_with("imp_");
}

// A record of version 1 is new: nobody decides by what was there before, but by whether there was
// an imported one at all. One is enough to say that there is.
std::vector<std::string> ChangedKeys(const ChangeSet& changes) {
  std::vector<std::string> key_ids;
  bool told_of_import = false;
  for (const KeyRecord& record : changes.put_keys) {
    const bool tells = record.key.version == 1 && !told_of_import && IsImported(record);
    told_of_import |= tells;
    if (tells || record.key.version > 1) key_ids.push_back(record.key.id);
  }
  return key_ids;
}

bool ChangesPlans(const ChangeSet& changes) {
  if (!changes.delete_plans.empty()) return true;
  for (const Plan& plan : changes.put_plans) {
    if (plan.version > 1) return true;
  }
  return false;
}

// Whether the store says that it did not change anything.
bool ChangedNothing(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsAlreadyExists(status) ||
         absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
}

}  // namespace

absl::Status ChangeGate::Apply(const ChangeSet& changes) {
  if (ChangedKeys(changes).empty() && !ChangesPlans(changes)) {
    return store_.Apply(changes).status();
  }
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, table_.AcquireCommitLock(kCommitTimeout));
  table_.BeginChange();
  return ApplyAndTell(changes);
}

absl::Status ChangeGate::Apply(ChangeSet changes, std::string_view subject,
                               const MakeCarryRows& make_rows) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, table_.AcquireCommitLock(kCommitTimeout));
  THROTTL_ASSIGN_OR_RETURN(changes.carry_overs, make_rows());
  table_.BeginChange();
  // Before the store: a slot that is turned from now on asks it again afterwards.
  table_.NoteCarries(subject);
  return ApplyAndTell(changes);
}

absl::Status ChangeGate::ApplyAndTell(const ChangeSet& changes) {
  THROTTL_FAULT_POINT("apply.begun");
  absl::Status status = store_.Apply(changes).status();
  THROTTL_FAULT_POINT("apply.stored");
  if (ChangedNothing(status)) {
    table_.AbandonChange();
    return status;
  }
  // Also when the outcome is not known.
  const absl::Status told = Tell(changes);
  return status.ok() ? told : status;
}

absl::Status ChangeGate::Confirm(const std::string& key_id) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, table_.AcquireCommitLock(kCommitTimeout));
  table_.Publish(std::span(&key_id, 1));
  return table_.Interrupt(absl::StrCat("k:", key_id));
}

absl::Status ChangeGate::Tell(const ChangeSet& changes) {
  if (ChangesPlans(changes)) {
    const std::string everything;
    table_.Publish(std::span(&everything, 1));
    return table_.InterruptAll();
  }
  const std::vector<std::string> key_ids = ChangedKeys(changes);
  table_.Publish(key_ids);
  THROTTL_FAULT_POINT("apply.published");
  for (const std::string& key_id : key_ids) {
    THROTTL_RETURN_IF_ERROR(table_.Interrupt(absl::StrCat("k:", key_id)));
  }
  return absl::OkStatus();
}

}  // namespace throttl::internal
