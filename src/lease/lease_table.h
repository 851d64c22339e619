// A LeaseTable holds the live counters of every active subject on this machine.
//
// Processes that open one path share one table. A request spends by one compare-and-swap on the
// subject's slot, with no lock; everything else about a slot changes under the table lock, with the
// slot closed (its epoch odd) and the change written down first, so that a process may be killed
// between any two instructions and the next one finishes what it began. lease_layout.h
// says which word is guarded by what.
//
// Without a path the table is in private memory, for the process that opened it: in a forked child
// its generation is 0 and every other call answers FailedPrecondition.
//
// Two locks, taken in this order and never twice: the commit lock (one settler or changer of keys
// and plans), which the caller holds, and the table lock, which the calls take. Both have a bound.
// Who holds the commit lock of any table opens and destroys no table: both wait for a fork that is
// under way in another thread, and the fork waits for the lock.
//
// Thread safety: all methods from any thread and process, and after fork in parent and child.
//
//   SpendAnswer answer = table.TrySpend(ref, {.cost = 1, .now_ms = now, .generation = current});
//   if (answer.code == SpendCode::kStale) { ... table.Find(target) ... }
#ifndef THROTTL_SRC_LEASE_LEASE_TABLE_H_
#define THROTTL_SRC_LEASE_LEASE_TABLE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/fixed_string.h"
#include "throttl/settle.h"

#include "src/base/fork_registry.h"
#include "src/lease/fault_point.h"
#include "src/lease/lease_layout.h"
#include "src/lease/lease_lock.h"
#include "src/lease/lease_memory.h"
#include "src/lease/rate_table.h"
#include "src/lease/slot_ref.h"

namespace throttl::internal {

inline constexpr std::size_t kRateKeyIdBytesMax = 39;

struct LeaseTableOptions {
  std::string path = {};      // of the lease file; empty: private memory
  std::string store_id = {};  // 1..63 bytes: a file of another store is not trusted
  // 1..2^30, rounded up to a power of two from 1024 on; 576 bytes each when in use. What a file has
  // stays while anybody uses it or anything in it is not settled.
  std::int64_t slots_max = 1'000'000;
  // 1..2^30, rounded up as slots_max; 32 bytes each when in use, of keys that are limited.
  std::int64_t rates_max = 1'000'000;
  absl::Duration lock_timeout = absl::Seconds(1);  // of the table lock
};

enum class SpendCode : std::uint8_t {
  kSpent = 1,
  kRefused = 2,  // so many units are not left
  kStale = 3,    // the slot is not this subject's, is being changed, or is of a past hour: Find
  kChanged = 4,  // the generation is another one: CatchUp
};

struct UnitSpend {
  std::int64_t cost = 0;  // 0..kCostMax
  std::int64_t now_ms = 0;
  std::uint64_t generation = 0;  // that the caller knows everything up to
};

struct SpendAnswer {
  SpendCode code = SpendCode::kStale;
  std::int64_t used = 0;     // of the period by everybody, afterwards
  std::int64_t granted = 0;  // units this table may spend in all
  std::int64_t base = 0;     // of `used`, by others, less what is forgiven
  std::int64_t added = 0;    // to the limit of this period
  PackedPeriod period = {};
  std::uint64_t quota_turn = 0;  // of a refusal, for NoteQuotaRefusal
  std::uint64_t consumed = 0;    // of a Probe, for SpendSeen
};

// A subject, and what its slot shall be.
struct SlotTarget {
  std::string_view subject = {};   // 1..kSubjectBytesMax bytes without NUL
  std::string_view owner_id = {};  // at most kOwnerBytesMax bytes
  SlotAim aim = {};
};

// The answer of Find.
struct FoundSlot {
  // std::nullopt: the store must say what was used in the period: then Begin.
  std::optional<SlotRef> ref = std::nullopt;
  // This table may have counted the subject in this period before: then the store must also say how
  // much of that it was.
  bool counted_before = false;
  std::uint64_t reuses = 0;  // for Begin: when a subject like this one last lost its slot
  // For the store and Begin: the period to ask for, and SlotAim's numbers of these names.
  std::int64_t period_start_s = 0;
  std::int64_t carries = 0;
  std::int64_t carries_seen = 0;
};

// A slot whose counters the store does not have yet.
struct UnsettledSlot {
  SlotRef ref = {};
  std::uint64_t consumed = 0;  // as in HotSlot
  SlotIdentity identity = {};
  SlotState state = {};
  SlotTotals totals = {};
  std::int64_t last_used_ms = 0;  // 0: never
  // As in SlotAim; more than state.carries_seen: what was forgiven and added must be asked for.
  std::int64_t carries = 0;
};

// What was changed since a generation.
struct ChangesSince {
  std::uint64_t generation = 0;  // that the caller is current to when it has applied the changes
  bool everything = false;       // they are too many, or not known one by one
  std::vector<std::string> key_ids = {};  // as given to Publish
};

class LeaseTable final : public ForkParticipant {
 public:
  // Opens the table, or makes one with a new HolderId: where there is none, or the one that is
  // there is of an earlier boot, another store or another layout. FailedPrecondition: others use
  // such a one; or the file is not ours to open. ResourceExhausted: the disk is full.
  static absl::StatusOr<std::unique_ptr<LeaseTable>> Open(LeaseTableOptions options);
  ~LeaseTable() override;

  // Random, made with the table.
  HolderId holder() const;

  // --- The request path: no lock, no system call, no allocation.

  // Has the processor fetch the slot, which the request may turn out to need.
  void Prefetch(std::uint32_t slot) const noexcept {
    if (IsUsable(slot)) __builtin_prefetch(&hot_[slot], 1);
  }

  // Spends `cost` units if all of them fit; otherwise changes nothing. A process killed inside
  // leaves the counter exact. `ref` may be of any table.
  SpendAnswer TrySpend(SlotRef ref, const UnitSpend& spend) noexcept;
  // What TrySpend would answer; `used` is what was used before.
  SpendAnswer Probe(SlotRef ref, const UnitSpend& spend) const noexcept;
  // TrySpend after a Probe of the same, which answered kSpent: looks at the slot again only if it
  // has changed since.
  SpendAnswer SpendSeen(SlotRef ref, const UnitSpend& spend, const SpendAnswer& seen) noexcept;

  // Changes by `units` what was spent in the period that ends at `period_end_ms`: negative gives
  // back, at most what is spent; positive spends as far as the grant allows. Returns the change
  // made: 0 when the slot is another subject's, of another period, or being changed.
  std::int64_t Correct(SlotRef ref, std::int64_t period_end_ms, std::int64_t units) noexcept;

  // Counts a request that spent another number of units than 1: `surplus` is that number less one.
  void CountSurplus(SlotRef ref, std::int64_t surplus) noexcept;
  void CountRefusal(SlotRef ref, RefusalKind kind) noexcept;
  // A spend was refused with this `quota_turn`: its period and limit have had a refusal. That of
  // another answer changes nothing.
  void NoteQuotaRefusal(SlotRef ref, std::uint64_t quota_turn) noexcept;

  // Bumped by every change of a key or plan; never 0 while the table is usable.
  std::uint64_t generation() const noexcept {
    return header_->generation.load(std::memory_order_acquire);
  }

  // --- Rate limits

  // Find, Look and Swap of it need no lock.
  const RateTable& rates() const noexcept { return rates_; }
  // A hash of the key that is the same in every process, and with it the tag of one of its limits:
  // `limit_hash` is a hash of what tells that from the key's others.
  // REQUIRES: zeros follow the id, as where it was assigned.
  std::uint64_t RateKeyOf(const FixedString<kRateKeyIdBytesMax>& key_id) const noexcept;
  static std::uint64_t RateTagOf(std::uint64_t rate_key, std::uint64_t limit_hash) noexcept {
    // The multiplier and the shifts of MurmurHash3's 64-bit finalizer.
    std::uint64_t tag = (rate_key ^ limit_hash) * 0xFF51AFD7ED558CCDu;
    tag = (tag ^ (tag >> 33)) * 0xC4CEB9FE1A85EC53u;
    tag ^= tag >> 33;
    return tag == 0 ? 1 : tag;
  }
  // RateTable::Claim under the table lock. Errors as there, and Unavailable: the lock was not to be
  // had in time.
  absl::StatusOr<RateClaimed> ClaimRate(const RateClaim& claim, RateFreeAt free_at);
  // Waits for whoever makes the rate table grow. Unavailable: the lock was not to be had.
  absl::Status AwaitTableLock();

  // --- Slots: under the table lock. Unavailable: it was not to be had in time. Aborted: the slot
  // still carries a period that has ended: settle, and call again.

  // No period that began after `newest_ms` was counted before this table was made, as far as the
  // store knows; kNever: that is not known. Until it is told, nothing is known.
  absl::Status NoteNewest(std::int64_t newest_ms);

  // The subject's slot, turned to what `target` says: a period that began later, an hour that
  // began later, a newer limit. A slot that is ahead of `target` stays as it is.
  absl::StatusOr<FoundSlot> Find(const SlotTarget& target);
  // Begins to count the subject with aim.units and aim.base, as read from the store after Find.
  // std::nullopt: somebody else did, or may have, or a carry-over has begun meanwhile: Find again.
  // ResourceExhausted: all slots are in use, or the disk is full. InvalidArgument: a bound of
  // SlotTarget is not kept.
  absl::StatusOr<std::optional<SlotRef>> Begin(const SlotTarget& target, std::uint64_t reuses);
  // The subject's slot as it is, if it has one.
  absl::StatusOr<std::optional<SlotRef>> Lookup(std::string_view subject);
  // What the subject's slot counts now, if it has one.
  absl::StatusOr<std::optional<UnsettledSlot>> Read(std::string_view subject);
  // Makes every TrySpend on the subject that has begun fail. OK when it has no slot.
  absl::Status Interrupt(std::string_view subject);
  // The same for all subjects.
  absl::Status InterruptAll();

  // --- Settling and changing: the caller holds the commit lock.

  absl::StatusOr<LeaseLock::Hold> AcquireCommitLock(absl::Duration timeout);
  // Larger than any before.
  std::int64_t NextSettleSeq();
  // Slots from `first` on that are to be settled, at most `count_max`; `next` is where to go on,
  // 0 at the end. Each is read as of one moment, whatever is under way.
  absl::StatusOr<std::vector<UnsettledSlot>> ReadUnsettled(std::size_t count_max,
                                                           std::uint64_t first,
                                                           std::uint64_t& next);
  // The store has all of `slots`. What was counted since stays unsettled.
  absl::Status MarkSettled(std::span<const UnsettledSlot> slots);
  // Others have used `base` units of the slot's period, as far as the store knows.
  absl::Status SetBase(const UnsettledSlot& slot, std::int64_t base);

  // Before the store is asked to change keys or plans. If the process ends before Publish, the next
  // BeginChange or settle publishes that everything may be changed.
  void BeginChange();
  // Then, if the change carries usage over: of one subject, or of all (empty).
  void NoteCarries(std::string_view subject);
  // The store did not change anything.
  void AbandonChange();
  // The store may have changed these keys, of ids of at most 39 bytes; an empty id stands for
  // everything. The generation grows by one for each.
  void Publish(std::span<const std::string> key_ids);

  // What was published after `generation`.
  ChangesSince CatchUp(std::uint64_t generation) const;

  void BeforeFork() override;
  void AfterFork() override;

 private:
  explicit LeaseTable(LeaseTableOptions options);

  absl::Status OpenMemory();
  // FailedPrecondition in a forked child of the process that has the table in private memory.
  absl::Status CheckOwn() const;
  absl::StatusOr<std::string> WhyUntrusted(std::size_t file_bytes, std::string_view boot_id);
  bool WantsOtherSize() const;
  absl::Status MakeNew(const std::string& boot_id);
  void SetPointers();

  absl::StatusOr<LeaseLock::Hold> AcquireTableLock();
  // All of these: REQUIRES the table lock.
  void Recover();
  void FinishIntent();
  void NameSlot(const SlotIntent& intent);
  void WriteIntent(const SlotIntent& intent);
  bool CloseSlot(const SlotIntent& intent, std::uint64_t exactly);
  void ChangeSlot(std::uint64_t slot, const SlotAim& aim);
  void InterruptSlot(std::uint64_t slot);
  void NoteNewestOf(const SlotAim& aim);
  absl::StatusOr<std::uint64_t> PickSlot(std::int64_t hour);
  std::optional<std::uint64_t> PickReusable(std::uint64_t count, std::int64_t hour);
  bool IsReusable(std::uint64_t slot, std::int64_t hour) const;
  absl::Status Grow();
  std::optional<std::uint64_t> FindInIndex(std::string_view subject) const;
  void AddToIndex(std::uint64_t slot);
  void RemoveFromIndex(std::uint64_t hash, std::uint64_t slot);
  void MakeIndex();

  bool IsUsable(std::uint64_t slot) const noexcept {
    return slot < slots_known_.load(std::memory_order_relaxed);
  }
  static void NoteUse(HotSlot& hot, std::int64_t now_ms) noexcept {
    if (hot.last_used_ms.load(std::memory_order_relaxed) == now_ms) return;
    hot.last_used_ms.store(now_ms, std::memory_order_relaxed);
  }
  std::uint64_t HashOf(std::string_view subject) const;
  // What the slot adds to its limit; out of the way of the slots that add nothing.
  std::int64_t AddedOf(std::uint32_t slot) const noexcept;
  Word& CarriesOf(std::uint64_t hash) const { return header_->carries[hash % kCarriesKept]; }
  Word& ReusedBefore(std::uint64_t hash) { return header_->reused[hash % kReusesKept]; }
  SlotTotals CountersOf(std::uint64_t slot) const;
  std::optional<UnsettledSlot> ReadSlot(std::uint64_t slot) const;

  const LeaseTableOptions options_;
  LeaseMemory memory_;
  RateTable rates_;
  LeaseLock commit_lock_;
  LeaseLock table_lock_;
  LeaseHeader* header_ = nullptr;
  std::atomic<std::uint32_t>* index_ = nullptr;
  HotSlot* hot_ = nullptr;
  ColdSlot* cold_ = nullptr;
  std::uint64_t slots_max_ = 0;
  std::uint64_t rates_max_ = 0;
  // Slots that are allocated, as far as this process knows: at least those that it was ever told.
  std::atomic<std::uint64_t> slots_known_ = 0;
};

// The inline parts follow: they are what a request costs.

ABSL_ATTRIBUTE_ALWAYS_INLINE inline SpendAnswer LeaseTable::TrySpend(
    SlotRef ref, const UnitSpend& spend) noexcept {
  SpendAnswer answer;
  if (ref.claim == 0 || !IsUsable(ref.slot)) return answer;
  HotSlot& hot = hot_[ref.slot];
  for (;;) {
    std::uint64_t consumed = hot.consumed.load(std::memory_order_acquire);
    THROTTL_FAULT_POINT("spend.read");
    if (IsClosed(consumed) || hot.claim.load(std::memory_order_acquire) != ref.claim ||
        spend.now_ms >= hot.fresh_until_ms.load(std::memory_order_acquire)) {
      answer.code = SpendCode::kStale;
      return answer;
    }
    answer.granted = hot.granted.load(std::memory_order_acquire);
    if ((answer.granted & kAdds) != 0) [[unlikely]] {
      answer.granted ^= kAdds;
      answer.added = AddedOf(ref.slot);
    }
    answer.period = PackedPeriod(hot.period.load(std::memory_order_acquire));
    answer.base = hot.base.load(std::memory_order_acquire);
    // After `consumed`: a change that returned before is seen here, one that returns later finds
    // the epoch that the swap needs.
    if (generation() != spend.generation) {
      answer.code = SpendCode::kChanged;
      return answer;
    }
    const std::int64_t units = UnitsOf(consumed);
    if (units + spend.cost > answer.granted) {
      answer.quota_turn = cold_[ref.slot].quota_turn.load(std::memory_order_acquire);
      // What was read belongs together only if the epoch is still the same.
      const std::uint64_t again = hot.consumed.load(std::memory_order_acquire);
      if (EpochOf(again) != EpochOf(consumed)) continue;
      answer.used = answer.base + units;
      answer.code = SpendCode::kRefused;
      return answer;
    }
    const std::uint64_t spent = consumed + static_cast<std::uint64_t>(spend.cost);
    THROTTL_FAULT_POINT("spend.fits");
    if (!hot.consumed.compare_exchange_weak(consumed, spent, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
      continue;
    }
    THROTTL_FAULT_POINT("spend.swapped");
    NoteUse(hot, spend.now_ms);
    answer.used = answer.base + units + spend.cost;
    answer.code = SpendCode::kSpent;
    return answer;
  }
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline SpendAnswer LeaseTable::Probe(
    SlotRef ref, const UnitSpend& spend) const noexcept {
  SpendAnswer answer;
  if (ref.claim == 0 || !IsUsable(ref.slot)) return answer;
  const HotSlot& hot = hot_[ref.slot];
  for (;;) {
    const std::uint64_t consumed = hot.consumed.load(std::memory_order_acquire);
    THROTTL_FAULT_POINT("probe.read");
    if (IsClosed(consumed) || hot.claim.load(std::memory_order_acquire) != ref.claim ||
        spend.now_ms >= hot.fresh_until_ms.load(std::memory_order_acquire)) {
      return answer;
    }
    answer.granted = hot.granted.load(std::memory_order_acquire);
    if ((answer.granted & kAdds) != 0) [[unlikely]] {
      answer.granted ^= kAdds;
      answer.added = AddedOf(ref.slot);
    }
    answer.period = PackedPeriod(hot.period.load(std::memory_order_acquire));
    answer.base = hot.base.load(std::memory_order_acquire);
    answer.used = answer.base + UnitsOf(consumed);
    answer.consumed = consumed;
    if (generation() != spend.generation) {
      answer.code = SpendCode::kChanged;
      return answer;
    }
    const bool fits = UnitsOf(consumed) + spend.cost <= answer.granted;
    answer.quota_turn = fits ? 0 : cold_[ref.slot].quota_turn.load(std::memory_order_acquire);
    const std::uint64_t again = hot.consumed.load(std::memory_order_acquire);
    if (EpochOf(again) != EpochOf(consumed)) continue;
    answer.code = fits ? SpendCode::kSpent : SpendCode::kRefused;
    return answer;
  }
}

// The swap fails if the slot was closed since the Probe, as in TrySpend: `consumed` was read before
// everything else.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline SpendAnswer LeaseTable::SpendSeen(
    SlotRef ref, const UnitSpend& spend, const SpendAnswer& seen) noexcept {
  HotSlot& hot = hot_[ref.slot];
  std::uint64_t consumed = seen.consumed;
  const std::uint64_t spent = consumed + static_cast<std::uint64_t>(spend.cost);
  THROTTL_FAULT_POINT("spend.fits");
  if (!hot.consumed.compare_exchange_strong(consumed, spent, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
    return TrySpend(ref, spend);
  }
  THROTTL_FAULT_POINT("spend.swapped");
  NoteUse(hot, spend.now_ms);
  SpendAnswer answer = seen;
  answer.used += spend.cost;
  return answer;
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_LEASE_TABLE_H_
