// What a lease table tells the settler and the changers of keys, who hold the commit lock.
#include <algorithm>
#include <cassert>
#include <string>

#include "src/base/status_macros.h"
#include "src/lease/fault_point.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {
namespace {

// In HotSlot::settled while a settle is under way. Its epoch is odd too.
constexpr std::uint64_t kSettling = kUnsettled - 1;

}  // namespace

absl::StatusOr<LeaseLock::Hold> LeaseTable::AcquireCommitLock(absl::Duration timeout) {
  absl::StatusOr<LeaseLock::Hold> hold = commit_lock_.Acquire(timeout);
  if (!hold.ok()) return hold;
  THROTTL_RETURN_IF_ERROR(CheckOwn());
  // Somebody's change may be in the store, and nobody was told.
  if (header_->changing.load(std::memory_order_acquire) != 0) {
    const std::string everything;
    Publish(std::span(&everything, 1));
  }
  return hold;
}

std::int64_t LeaseTable::NextSettleSeq() {
  return static_cast<std::int64_t>(header_->settle_seq.fetch_add(1) + 1);
}

// The slot as of one moment; std::nullopt while it is being changed.
std::optional<UnsettledSlot> LeaseTable::ReadSlot(std::uint64_t slot) const {
  const HotSlot& hot = hot_[slot];
  UnsettledSlot read;
  read.consumed = hot.consumed.load(std::memory_order_acquire);
  read.ref = {.slot = static_cast<std::uint32_t>(slot),
              .claim = hot.claim.load(std::memory_order_acquire)};
  read.identity = cold_[slot].identity.Load();
  read.state = cold_[slot].state.Load();
  read.totals = CountersOf(slot);
  read.totals.units = UnitsOf(read.consumed);
  read.last_used_ms = hot.last_used_ms.load(std::memory_order_acquire);
  read.carries = static_cast<std::int64_t>(CarriesOf(HashOf(read.identity.subject.view())).load());
  const std::uint64_t again = hot.consumed.load(std::memory_order_acquire);
  if (IsClosed(read.consumed) || EpochOf(again) != EpochOf(read.consumed)) return std::nullopt;
  return read;
}

absl::StatusOr<std::optional<UnsettledSlot>> LeaseTable::Read(std::string_view subject) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::optional<std::uint64_t> slot = FindInIndex(subject);
  if (!slot.has_value()) return std::nullopt;
  return ReadSlot(*slot);
}

absl::StatusOr<std::vector<UnsettledSlot>> LeaseTable::ReadUnsettled(std::size_t count_max,
                                                                     std::uint64_t first,
                                                                     std::uint64_t& next) {
  // What a dead process left is finished first.
  { THROTTL_RETURN_IF_ERROR(AcquireTableLock().status()); }
  THROTTL_FAULT_POINT("settle.scans");
  std::vector<UnsettledSlot> slots;
  const std::uint64_t begun = header_->slots_begun.load(std::memory_order_acquire);
  next = 0;
  for (std::uint64_t slot = first; slot < begun; ++slot) {
    if (slots.size() == count_max) {
      next = slot;
      break;
    }
    HotSlot& hot = hot_[slot];
    if (hot.consumed.load(std::memory_order_acquire) == hot.settled.load()) continue;
    // Before the counters are read, so that a refusal counted meanwhile is found by MarkSettled.
    hot.settled.exchange(kSettling);
    std::optional<UnsettledSlot> read = ReadSlot(slot);
    if (!read.has_value()) {
      // It is being changed, which has an end where the lock is to be had.
      THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
      hot.settled.exchange(kSettling);
      read = ReadSlot(slot);
    }
    if (read.has_value() && read->ref.claim != 0) slots.push_back(*read);
  }
  return slots;
}

absl::Status LeaseTable::MarkSettled(std::span<const UnsettledSlot> slots) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  for (const UnsettledSlot& settled : slots) {
    HotSlot& hot = hot_[settled.ref.slot];
    if (hot.claim.load() != settled.ref.claim) continue;
    SharedValue<SlotState>& shared = cold_[settled.ref.slot].state;
    SlotState state = shared.Load();
    // Nothing is carried in place of what is: so what was read is what is there, or more.
    if (settled.state.carried_period.present != 0) state.carried_period = {};
    if (settled.state.carried_hour.present != 0) state.carried_hour = {};
    shared.Store(state);
    THROTTL_FAULT_POINT("settle.cleared");
    if (state.carried_period.present != 0 || state.carried_hour.present != 0) continue;
    std::uint64_t expected = kSettling;
    hot.settled.compare_exchange_strong(expected, settled.consumed);
  }
  return absl::OkStatus();
}

absl::Status LeaseTable::SetBase(const UnsettledSlot& slot, std::int64_t base) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  if (hot_[slot.ref.slot].claim.load() != slot.ref.claim) return absl::OkStatus();
  const SlotState state = cold_[slot.ref.slot].state.Load();
  if (state.period_start_s != slot.state.period_start_s || state.base == base) {
    return absl::OkStatus();
  }
  ChangeSlot(slot.ref.slot, {.period_start_s = state.period_start_s,
                             .period_end_ms = state.period_end_ms,
                             .limit = state.limit,
                             .soft_percent = state.soft_percent,
                             .limit_version = state.limit_version,
                             .period_version = state.period_version,
                             .alert_percents = state.alert_percents,
                             .base = base,
                             .forgiven = state.forgiven,
                             .added = state.added,
                             .carries_seen = state.carries_seen,
                             .units = 0,
                             .hour = state.hour});
  return absl::OkStatus();
}

void LeaseTable::BeginChange() { header_->changing.store(1, std::memory_order_release); }

void LeaseTable::NoteCarries(std::string_view subject) {
  if (!subject.empty()) {
    CarriesOf(HashOf(subject)).fetch_add(1);
    return;
  }
  for (Word& carries : header_->carries) carries.fetch_add(1);
}

void LeaseTable::AbandonChange() { header_->changing.store(0, std::memory_order_release); }

void LeaseTable::Publish(std::span<const std::string> key_ids) {
  for (const std::string& key_id : key_ids) {
    const std::uint64_t next = header_->generation.load() + 1;
    header_->changes[next % kChangesKept].Store(PlainText<40>::Of(key_id));
    THROTTL_FAULT_POINT("publish.noted");
    header_->generation.store(next, std::memory_order_release);
    THROTTL_FAULT_POINT("publish.bumped");
  }
  header_->changing.store(0, std::memory_order_release);
}

ChangesSince LeaseTable::CatchUp(std::uint64_t generation) const {
  // One may be written over while it is read.
  constexpr std::uint64_t kReadable = kChangesKept - 1;
  ChangesSince since;
  since.generation = this->generation();
  if (since.generation - generation > kReadable) {
    since.everything = true;
    return since;
  }
  for (std::uint64_t at = generation + 1; at <= since.generation; ++at) {
    const PlainText<40> key_id = header_->changes[at % kChangesKept].Load();
    since.everything |= key_id.view().empty();
    since.key_ids.emplace_back(key_id.view());
  }
  since.everything |= this->generation() - generation > kReadable;
  return since;
}

}  // namespace throttl::internal
