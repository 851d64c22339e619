#include "src/lease/lease_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"
#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

constexpr std::uint64_t kSlotsAtFirst = 1024;
// How many slots are looked at for one to reuse before the table grows instead.
constexpr std::uint64_t kReuseTries = 64;
constexpr std::int64_t kHourMs = 3'600'000;

// Marks a slot of which the store had all when it was closed as settled in its new epoch. With the
// last units of the old one, and in one step, so that a spend or a refusal until then is not lost.
// Otherwise what is there stays: `opened`, from an earlier attempt, or what `consumed` cannot come
// to again, also when epochs go round: units only grow, and what takes some back marks the slot.
void KeepSettled(HotSlot& hot, std::uint64_t closed_at, std::uint64_t opened) {
  hot.settled.compare_exchange_strong(closed_at, opened);
}

// A longer text would be cut, and then be found by nobody or as somebody else's.
absl::Status CheckFits(const SlotTarget& target) {
  if (target.subject.empty() || target.subject.size() > kSubjectBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the subject has ", target.subject.size(),
                                                   " bytes, 1 to ", kSubjectBytesMax,
                                                   " are allowed"));
  }
  if (target.owner_id.size() > kOwnerBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the owner id has ", target.owner_id.size(),
                                                   " bytes, at most ", kOwnerBytesMax,
                                                   " are allowed"));
  }
  if (target.subject.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("the subject has a byte NUL");
  }
  return absl::OkStatus();
}

absl::Status NotSettled() {
  return absl::AbortedError("a period that has ended is not settled yet");
}

}  // namespace

HolderId LeaseTable::holder() const { return HolderId{header_->holder.load()}; }

// --- The request path

std::int64_t LeaseTable::AddedOf(std::uint32_t slot) const noexcept {
  return cold_[slot].state.Load().added;
}

std::int64_t LeaseTable::Correct(SlotRef ref, std::int64_t period_end_ms,
                                 std::int64_t units) noexcept {
  if (ref.claim == 0 || !IsUsable(ref.slot)) return 0;
  HotSlot& hot = hot_[ref.slot];
  for (;;) {
    std::uint64_t consumed = hot.consumed.load(std::memory_order_acquire);
    if (IsClosed(consumed) || hot.claim.load(std::memory_order_acquire) != ref.claim ||
        PackedPeriod(hot.period.load(std::memory_order_acquire)).end_ms() != period_end_ms) {
      return 0;
    }
    const std::int64_t granted = hot.granted.load(std::memory_order_acquire) & ~kAdds;
    const std::int64_t before = UnitsOf(consumed);
    const std::int64_t change =
        units < 0 ? std::max(units, -before) : std::clamp<std::int64_t>(granted - before, 0, units);
    const std::uint64_t after = consumed + static_cast<std::uint64_t>(change);
    if (hot.consumed.compare_exchange_weak(consumed, after, std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {
      if (change != 0) {
        cold_[ref.slot].surplus.fetch_add(change);
        // The units may be those that the store has, and yet a request be new.
        hot.settled.store(kUnsettled);
      }
      return change;
    }
  }
}

void LeaseTable::CountSurplus(SlotRef ref, std::int64_t surplus) noexcept {
  if (ref.claim == 0 || !IsUsable(ref.slot) || surplus == 0) return;
  if (hot_[ref.slot].claim.load(std::memory_order_acquire) != ref.claim) return;
  cold_[ref.slot].surplus.fetch_add(surplus);
  hot_[ref.slot].settled.store(kUnsettled);
}

void LeaseTable::CountRefusal(SlotRef ref, RefusalKind kind) noexcept {
  if (ref.claim == 0 || !IsUsable(ref.slot)) return;
  if (hot_[ref.slot].claim.load(std::memory_order_acquire) != ref.claim) return;
  cold_[ref.slot].refused[static_cast<std::size_t>(kind)].fetch_add(1);
  // After the count: a settle that missed it finds this, and leaves the slot unsettled.
  hot_[ref.slot].settled.store(kUnsettled);
}

void LeaseTable::NoteQuotaRefusal(SlotRef ref, std::uint64_t quota_turn) noexcept {
  if (!IsUsable(ref.slot)) return;
  // Fails when the period or the limit is another one by now, or it was noted before.
  if (QuotaRefused(quota_turn)) return;
  if (!cold_[ref.slot].quota_turn.compare_exchange_strong(quota_turn, quota_turn + 1)) return;
  hot_[ref.slot].settled.store(kUnsettled);
}

// --- The table lock, and what its last holder left

absl::Status LeaseTable::CheckOwn() const {
  if (header_->ready.load(std::memory_order_acquire) == 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a memory store belongs to the process that opened it, and this is a child of that process");
}

absl::StatusOr<LeaseLock::Hold> LeaseTable::AcquireTableLock() {
  absl::StatusOr<LeaseLock::Hold> hold = table_lock_.Acquire(options_.lock_timeout);
  if (!hold.ok()) return hold;
  THROTTL_RETURN_IF_ERROR(CheckOwn());
  Recover();
  // Touching others could fail when the disk is full. Written only when it changes, for requests
  // read what lies beside it.
  const std::uint64_t usable = header_->slots_usable.load();
  if (usable != slots_known_.load()) slots_known_.store(usable);
  return hold;
}

void LeaseTable::Recover() {
  if (header_->intent_valid.load(std::memory_order_acquire) != 0) {
    THROTTL_FAULT_POINT("recover.intent");
    FinishIntent();
  }
  rates_.Recover();
  if (header_->index_changing.load(std::memory_order_acquire) == 0) return;
  THROTTL_FAULT_POINT("recover.index");
  MakeIndex();
}

SlotTotals LeaseTable::CountersOf(std::uint64_t slot) const {
  SlotTotals totals;
  totals.surplus = cold_[slot].surplus.load();
  for (std::size_t i = 0; i < kRefusalKinds; ++i) totals.refused[i] = cold_[slot].refused[i].load();
  totals.quota_turn = cold_[slot].quota_turn.load();
  return totals;
}

// Closes the slot of the intent, if `consumed` is `exactly` that (kUnsettled: whatever it is).
bool LeaseTable::CloseSlot(const SlotIntent& intent, std::uint64_t exactly) {
  Word& consumed = hot_[intent.slot].consumed;
  std::uint64_t seen = consumed.load(std::memory_order_acquire);
  for (;;) {
    if (exactly != kUnsettled && seen != exactly) return false;
    const std::uint64_t closed = ConsumedOf((intent.epoch + 1) & 0xFFFF, UnitsOf(seen));
    if (consumed.compare_exchange_weak(seen, closed, std::memory_order_acq_rel)) return true;
  }
}

// The slot's new subject, and that the old one has lost it.
void LeaseTable::NameSlot(const SlotIntent& intent) {
  cold_[intent.slot].identity.Store(intent.identity);
  hot_[intent.slot].last_used_ms.store(0, std::memory_order_release);
  if (intent.reuses_slot != 0) {
    header_->reuses.store(intent.reuses_after, std::memory_order_release);
    ReusedBefore(intent.old_hash).store(intent.reuses_after, std::memory_order_release);
  }
  header_->next_claim.store(intent.claim + 1, std::memory_order_release);
}

// Makes the change that the intent says, if its slot was closed for it; from the intent and the
// frozen units alone, so that it may be done again from any point of an earlier time.
void LeaseTable::FinishIntent() {
  const SlotIntent intent = header_->intent.Load();
  HotSlot& hot = hot_[intent.slot];
  ColdSlot& cold = cold_[intent.slot];
  const std::uint64_t frozen = hot.consumed.load(std::memory_order_acquire);
  if (EpochOf(frozen) != ((intent.epoch + 1) & 0xFFFF)) {
    // It was not closed, or is open again: nothing was begun, or all is done.
    header_->intent_valid.store(0, std::memory_order_release);
    return;
  }
  THROTTL_FAULT_POINT("change.closed");
  // By an earlier attempt: then the index is no longer what it was before the change.
  const bool index_is_torn = header_->index_changing.load(std::memory_order_acquire) != 0;
  SlotTotals totals = intent.totals;
  totals.units = UnitsOf(frozen);
  const SlotTurn turn = intent.begins != 0 ? BeginSlot(totals, intent.aim)
                                           : TurnSlot(intent.old_state, totals, intent.aim);
  const std::uint64_t opened = ConsumedOf((intent.epoch + 2) & 0xFFFF, turn.units);
  // Only a slot that stays what it was may stay settled.
  const bool may_stay_settled = turn.state.carried_period.present == 0 &&
                                turn.state.carried_hour.present == 0 &&
                                turn.state.limit_version == intent.old_state.limit_version &&
                                turn.state.period_version == intent.old_state.period_version;
  cold.state.Store(turn.state);
  // One that stays may be marked by a refusal just now.
  if (turn.quota_turn != intent.totals.quota_turn) {
    cold.quota_turn.store(turn.quota_turn, std::memory_order_release);
  }
  THROTTL_FAULT_POINT("change.state");
  if (intent.begins != 0) {
    NameSlot(intent);
    THROTTL_FAULT_POINT("change.identity");
    header_->index_changing.store(1, std::memory_order_release);
    if (intent.slot >= header_->slots_begun.load()) {
      header_->slots_begun.store(intent.slot + 1, std::memory_order_release);
    }
  }
  hot.granted.store(turn.granted | (turn.state.added != 0 ? kAdds : 0), std::memory_order_release);
  hot.fresh_until_ms.store(turn.fresh_until_ms, std::memory_order_release);
  hot.base.store(turn.state.base - turn.state.forgiven, std::memory_order_release);
  hot.period.store(PackedPeriod::Of(turn.state.period_start_s, turn.state.period_end_ms).word(),
                   std::memory_order_release);
  hot.claim.store(intent.claim, std::memory_order_release);
  if (intent.begins != 0) {
    hot.settled.store(opened, std::memory_order_release);
  } else if (may_stay_settled) {
    KeepSettled(hot, ConsumedOf(intent.epoch, totals.units), opened);
  } else {
    hot.settled.store(kUnsettled, std::memory_order_release);
  }
  THROTTL_FAULT_POINT("change.fields");
  if (intent.begins != 0) {
    if (index_is_torn) {
      MakeIndex();
    } else {
      if (intent.reuses_slot != 0) RemoveFromIndex(intent.old_hash, intent.slot);
      AddToIndex(intent.slot);
    }
    THROTTL_FAULT_POINT("change.indexed");
    header_->index_changing.store(0, std::memory_order_release);
  }
  hot.consumed.store(opened, std::memory_order_release);
  THROTTL_FAULT_POINT("change.opened");
  header_->intent_valid.store(0, std::memory_order_release);
}

// --- Slots

void LeaseTable::WriteIntent(const SlotIntent& intent) {
  header_->intent.Store(intent);
  THROTTL_FAULT_POINT("change.written");
  header_->intent_valid.store(1, std::memory_order_release);
  THROTTL_FAULT_POINT("change.valid");
}

void LeaseTable::ChangeSlot(std::uint64_t slot, const SlotAim& aim) {
  const std::uint64_t consumed = hot_[slot].consumed.load(std::memory_order_acquire);
  const SlotIntent intent{.slot = slot,
                          .epoch = EpochOf(consumed),
                          .claim = hot_[slot].claim.load(),
                          .old_state = cold_[slot].state.Load(),
                          .totals = CountersOf(slot),
                          .aim = aim};
  WriteIntent(intent);
  CloseSlot(intent, kUnsettled);
  FinishIntent();
}

absl::Status LeaseTable::NoteNewest(std::int64_t newest_ms) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::int64_t known = header_->newest_ms.load();
  header_->newest_ms.store(known == kNever ? newest_ms : std::max(known, newest_ms));
  return absl::OkStatus();
}

void LeaseTable::NoteNewestOf(const SlotAim& aim) {
  const std::int64_t newest = std::max(aim.period_start_s * 1000, aim.hour * kHourMs);
  if (newest > header_->newest_ms.load()) header_->newest_ms.store(newest);
}

absl::StatusOr<FoundSlot> LeaseTable::Find(const SlotTarget& target) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::uint64_t hash = HashOf(target.subject);
  FoundSlot found;
  found.reuses = ReusedBefore(hash).load();
  found.period_start_s = target.aim.period_start_s;
  // In this order: with a carry-over under way the store may have been asked too early for it.
  found.carries = static_cast<std::int64_t>(CarriesOf(hash).load());
  THROTTL_FAULT_POINT("find.counted");
  const bool changing = header_->changing.load() != 0;
  found.carries_seen = found.carries - (changing ? 1 : 0);
  const std::optional<std::uint64_t> slot = FindInIndex(target.subject);
  if (!slot.has_value()) {
    found.counted_before = found.reuses > 0;
    return found;
  }
  SlotAim aim = target.aim;
  aim.carries = found.carries;
  const SlotPlan plan = PlanSlot(cold_[*slot].state.Load(), aim);
  if (plan.need == SlotNeed::kStore) {
    found.counted_before = true;
    found.period_start_s = plan.aim.period_start_s;
    return found;
  }
  if (plan.need == SlotNeed::kSettle) return NotSettled();
  if (plan.need == SlotNeed::kTurn) {
    NoteNewestOf(plan.aim);
    ChangeSlot(*slot, plan.aim);
  }
  found.ref = SlotRef{.slot = static_cast<std::uint32_t>(*slot), .claim = hot_[*slot].claim.load()};
  return found;
}

absl::StatusOr<std::optional<SlotRef>> LeaseTable::Begin(const SlotTarget& target,
                                                         std::uint64_t reuses) {
  THROTTL_RETURN_IF_ERROR(CheckFits(target));
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::uint64_t hash = HashOf(target.subject);
  if (ReusedBefore(hash).load() != reuses) return std::nullopt;
  // What the store said may go with another limit.
  if (static_cast<std::int64_t>(CarriesOf(hash).load()) != target.aim.carries) return std::nullopt;
  const std::optional<std::uint64_t> own = FindInIndex(target.subject);
  if (own.has_value()) {
    const SlotState state = cold_[*own].state.Load();
    const SlotPlan plan = PlanSlot(state, target.aim);
    if (plan.need != SlotNeed::kStore) return std::nullopt;
    if (state.carried_period.present != 0) return NotSettled();
    NoteNewestOf(plan.aim);
    ChangeSlot(*own, plan.aim);
    return SlotRef{.slot = static_cast<std::uint32_t>(*own), .claim = hot_[*own].claim.load()};
  }
  THROTTL_ASSIGN_OR_RETURN(const std::uint64_t slot, PickSlot(target.aim.hour));
  THROTTL_FAULT_POINT("begin.picked");
  const std::uint64_t consumed = hot_[slot].consumed.load(std::memory_order_acquire);
  const bool in_use = hot_[slot].claim.load() != 0;
  // It was spent from since it was picked.
  if (in_use && hot_[slot].settled.load() != consumed) return std::nullopt;
  SlotAim aim = target.aim;
  aim.hour = std::max(aim.hour, header_->hour_min.load());
  if (in_use) header_->hour_min.store(aim.hour);
  aim.known_to_ms = header_->newest_ms.load();
  NoteNewestOf(aim);
  const SlotIntent intent{
      .slot = slot,
      .epoch = EpochOf(consumed),
      .claim = header_->next_claim.load(),
      .begins = 1,
      .reuses_slot = in_use ? std::uint64_t{1} : std::uint64_t{0},
      .reuses_after = header_->reuses.load() + (in_use ? 1 : 0),
      .old_hash = in_use ? HashOf(cold_[slot].identity.Load().subject.view()) : 0,
      .totals = CountersOf(slot),
      .aim = aim,
      .identity = {.subject = PlainText<kSubjectBytesMax + 1>::Of(target.subject),
                   .owner_id = PlainText<kOwnerBytesMax + 1>::Of(target.owner_id)}};
  WriteIntent(intent);
  // Only as it was found: settled.
  if (!CloseSlot(intent, consumed)) {
    header_->intent_valid.store(0, std::memory_order_release);
    return std::nullopt;
  }
  FinishIntent();
  return SlotRef{.slot = static_cast<std::uint32_t>(slot), .claim = intent.claim};
}

bool LeaseTable::IsReusable(std::uint64_t slot, std::int64_t hour) const {
  const std::uint64_t consumed = hot_[slot].consumed.load(std::memory_order_acquire);
  if (IsClosed(consumed) || hot_[slot].settled.load() != consumed) return false;
  const SlotState state = cold_[slot].state.Load();
  // What a table says of an hour replaces what it said before: so an hour has one use of a slot.
  return state.hour < hour && state.carried_period.present == 0 && state.carried_hour.present == 0;
}

std::optional<std::uint64_t> LeaseTable::PickReusable(std::uint64_t count, std::int64_t hour) {
  const std::uint64_t begun = header_->slots_begun.load();
  std::uint64_t hand = header_->reuse_hand.load();
  for (std::uint64_t i = 0; i < std::min(count, begun); ++i) {
    const std::uint64_t slot = hand % begun;
    hand = slot + 1;
    if (!IsReusable(slot, hour)) continue;
    header_->reuse_hand.store(hand);
    return slot;
  }
  header_->reuse_hand.store(hand);
  return std::nullopt;
}

// A slot that was never used, one whose subject was idle for all of the last hour, one of a grown
// table, or one that is idle in this hour, in this order: just after the hour has turned everybody
// is idle in it, and would lose its slot to come back for another.
absl::StatusOr<std::uint64_t> LeaseTable::PickSlot(std::int64_t hour) {
  const std::uint64_t begun = header_->slots_begun.load();
  if (begun < header_->slots_usable.load()) return begun;
  std::optional<std::uint64_t> slot = PickReusable(kReuseTries, hour - 1);
  if (slot.has_value()) return *slot;
  if (begun < slots_max_) {
    THROTTL_RETURN_IF_ERROR(Grow());
    return begun;
  }
  slot = PickReusable(begun, hour);
  if (slot.has_value()) return *slot;
  return absl::ResourceExhaustedError(
      absl::StrCat("all ", slots_max_, " slots of the lease table are in use in this hour"));
}

absl::Status LeaseTable::Grow() {
  const std::uint64_t old = header_->slots_usable.load();
  const std::uint64_t now = old == 0 ? kSlotsAtFirst : std::min(2 * old, slots_max_);
  const auto offset = [this](const void* place) {
    return static_cast<std::size_t>(static_cast<const char*>(place) - memory_.data());
  };
  const std::uint64_t index_size = 2 * now;
  THROTTL_RETURN_IF_ERROR(memory_.Allocate(offset(hot_ + old), (now - old) * sizeof(HotSlot)));
  THROTTL_RETURN_IF_ERROR(memory_.Allocate(offset(cold_ + old), (now - old) * sizeof(ColdSlot)));
  THROTTL_RETURN_IF_ERROR(
      memory_.Allocate(offset(index_ + index_size), index_size * sizeof(std::uint32_t)));
  THROTTL_FAULT_POINT("grow.allocated");
  header_->index_changing.store(1, std::memory_order_release);
  header_->index_size.store(index_size, std::memory_order_release);
  THROTTL_FAULT_POINT("grow.sized");
  MakeIndex();
  THROTTL_FAULT_POINT("grow.indexed");
  header_->slots_usable.store(now, std::memory_order_release);
  slots_known_.store(now);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SlotRef>> LeaseTable::Lookup(std::string_view subject) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::optional<std::uint64_t> slot = FindInIndex(subject);
  if (!slot.has_value()) return std::nullopt;
  return SlotRef{.slot = static_cast<std::uint32_t>(*slot), .claim = hot_[*slot].claim.load()};
}

absl::Status LeaseTable::Interrupt(std::string_view subject) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  const std::optional<std::uint64_t> slot = FindInIndex(subject);
  if (slot.has_value()) InterruptSlot(*slot);
  return absl::OkStatus();
}

absl::Status LeaseTable::InterruptAll() {
  constexpr std::uint64_t kSlotsAtOnce = 10'000;
  for (std::uint64_t slot = 0;;) {
    THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
    const std::uint64_t begun = header_->slots_begun.load();
    for (std::uint64_t i = 0; i < kSlotsAtOnce && slot < begun; ++i) InterruptSlot(slot++);
    if (slot >= begun) return absl::OkStatus();
  }
}

// The next even epoch at once: nothing of the slot changes but that swaps under way fail.
void LeaseTable::InterruptSlot(std::uint64_t slot) {
  Word& consumed = hot_[slot].consumed;
  std::uint64_t seen = consumed.load(std::memory_order_acquire);
  while (!consumed.compare_exchange_weak(
      seen, ConsumedOf((EpochOf(seen) + 2) & 0xFFFF, UnitsOf(seen)), std::memory_order_acq_rel)) {
  }
}

// --- Rate limits

// With the zeros, since texts of known sizes take half the time.
std::uint64_t LeaseTable::RateKeyOf(const FixedString<kRateKeyIdBytesMax>& key_id) const noexcept {
  constexpr std::size_t kShort = 32;
  const std::uint64_t seed = header_->seed.load(std::memory_order_relaxed);
  const char* const bytes = key_id.c_str();
  if (bytes[kShort - 1] == '\0') return FastHash(seed, {bytes, kShort});
  return FastHash(seed, {bytes, kRateKeyIdBytesMax + 1});
}

absl::StatusOr<RateClaimed> LeaseTable::ClaimRate(const RateClaim& claim, RateFreeAt free_at) {
  THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, AcquireTableLock());
  return rates_.Claim(claim, free_at);
}

absl::Status LeaseTable::AwaitTableLock() { return AcquireTableLock().status(); }

// --- The index: slot numbers plus one, 0 where there is none; linear probing

std::uint64_t LeaseTable::HashOf(std::string_view subject) const {
  return FastHash(header_->seed.load(std::memory_order_relaxed), subject);
}

std::optional<std::uint64_t> LeaseTable::FindInIndex(std::string_view subject) const {
  const std::uint64_t size = header_->index_size.load();
  if (size == 0) return std::nullopt;
  const std::atomic<std::uint32_t>* const entries = index_ + size;
  for (std::uint64_t at = HashOf(subject);; ++at) {
    const std::uint32_t entry = entries[at & (size - 1)].load(std::memory_order_relaxed);
    if (entry == 0) return std::nullopt;
    if (cold_[entry - 1].identity.Load().subject.view() == subject) return entry - 1;
  }
}

void LeaseTable::AddToIndex(std::uint64_t slot) {
  const std::uint64_t size = header_->index_size.load();
  std::atomic<std::uint32_t>* const entries = index_ + size;
  const auto entry = static_cast<std::uint32_t>(slot + 1);
  for (std::uint64_t at = HashOf(cold_[slot].identity.Load().subject.view());; ++at) {
    std::atomic<std::uint32_t>& place = entries[at & (size - 1)];
    const std::uint32_t there = place.load(std::memory_order_relaxed);
    if (there == entry) return;
    if (there != 0) continue;
    place.store(entry, std::memory_order_relaxed);
    return;
  }
}

// Takes out the slot's entry, and moves up those behind it that it may have pushed away.
void LeaseTable::RemoveFromIndex(std::uint64_t hash, std::uint64_t slot) {
  const std::uint64_t size = header_->index_size.load();
  const std::uint64_t mask = size - 1;
  std::atomic<std::uint32_t>* const entries = index_ + size;
  std::uint64_t hole = hash & mask;
  for (;; hole = (hole + 1) & mask) {
    const std::uint32_t entry = entries[hole].load(std::memory_order_relaxed);
    if (entry == 0) return;
    if (entry == slot + 1) break;
  }
  for (std::uint64_t at = (hole + 1) & mask;; at = (at + 1) & mask) {
    const std::uint32_t entry = entries[at].load(std::memory_order_relaxed);
    if (entry == 0) break;
    const std::uint64_t home = HashOf(cold_[entry - 1].identity.Load().subject.view()) & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    entries[hole].store(entry, std::memory_order_relaxed);
    hole = at;
  }
  entries[hole].store(0, std::memory_order_relaxed);
}

// Makes the index anew from the slots.
void LeaseTable::MakeIndex() {
  const std::uint64_t size = header_->index_size.load();
  header_->index_changing.store(1, std::memory_order_release);
  for (std::uint64_t i = 0; i < size; ++i) index_[size + i].store(0, std::memory_order_relaxed);
  THROTTL_FAULT_POINT("index.cleared");
  for (std::uint64_t slot = 0; slot < header_->slots_begun.load(); ++slot) {
    if (hot_[slot].claim.load() != 0) AddToIndex(slot);
  }
  header_->index_changing.store(0, std::memory_order_release);
}

}  // namespace throttl::internal
