#include "src/lease/rate_table.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

// A tag that came to rest so lately will most probably come back. To claim an entry takes the table
// lock, so it keeps its own where the table may grow instead.
constexpr std::int64_t kKeptNs = 1'000'000'000;

// Whether the entry may go to another tag. Until its window begins a word of a clock that was ahead
// counts as one in use.
bool IsFree(const RateEntry& entry, std::uint64_t word, RateFreeAt free_at, std::int64_t now_ns) {
  if (entry.tag.load(std::memory_order_acquire) == 0) return true;
  return free_at(word, entry.window_ns.load(std::memory_order_acquire), now_ns) < now_ns;
}

}  // namespace

void RateTable::Attach(RateWords& words, RateEntry* entries, std::uint64_t entries_max,
                       std::function<absl::Status(std::size_t, std::size_t)> allocate) {
  words_ = &words;
  entries_ = entries;
  entries_max_ = entries_max;
  allocate_ = std::move(allocate);
}

absl::StatusOr<RateClaimed> RateTable::Claim(const RateClaim& claim, RateFreeAt free_at) {
  if (claim.clock_went_back && claim.now_ns < words_->freed_to_ns.load()) {
    words_->freed_to_ns.store(claim.now_ns);
  }
  for (;;) {
    const std::uint64_t size = words_->size.load(std::memory_order_acquire);
    if (size != 0) {
      if (HasTag(size, claim.tag)) return RateClaimed::kThere;
      // Who comes late must not find its limit at rest, because others saw it come to rest since.
      if (claim.now_ns < words_->freed_to_ns.load()) return RateClaimed::kLags;
      const Pick pick = PickPlace(size, claim, free_at);
      const bool is_kept = pick.free_at_ns >= claim.now_ns - kKeptNs && 2 * size <= entries_max_;
      if (is_kept && Grow(claim, free_at).ok()) continue;
      if (pick.entry != nullptr && Take(*pick.entry, claim, free_at)) return RateClaimed::kClaimed;
      // Somebody has spent from it since.
      if (pick.entry != nullptr) continue;
    }
    THROTTL_RETURN_IF_ERROR(Grow(claim, free_at));
  }
}

// Frees what killed claimers left, and looks whether the tag is there. What they left stays frozen
// until it is claimed: a swap in flight must not find an earlier word in it again.
bool RateTable::HasTag(std::uint64_t size, std::uint64_t tag) {
  bool has = false;
  for (int which = 0; which < 2; ++which) {
    for (std::uint64_t place = 0; place < kPlaces; ++place) {
      RateEntry& entry = At(size, BucketOf(size, tag, which), place);
      if ((entry.word.load(std::memory_order_acquire) & kRateFrozen) != 0) {
        entry.tag.store(0, std::memory_order_release);
        THROTTL_FAULT_POINT("rate.forgotten");
      }
      has |= entry.tag.load(std::memory_order_acquire) == tag;
    }
  }
  return has;
}

// The bucket that a tag is put into if it has a place: the first, where it is found sooner, unless
// that is half full and the second is less so.
std::size_t RateTable::EmptierBucket(std::uint64_t taken_in_first, std::uint64_t taken_in_second) {
  return taken_in_first >= kPlaces / 2 && taken_in_second < taken_in_first ? 1 : 0;
}

RateTable::Pick RateTable::PickIn(std::uint64_t size, int which, const RateClaim& claim,
                                  RateFreeAt free_at) const {
  Pick pick;
  for (std::uint64_t i = 0; i < kPlaces; ++i) {
    RateEntry& entry = At(size, BucketOf(size, claim.tag, which), PlaceOf(claim.tag) + i);
    const std::uint64_t word = entry.word.load(std::memory_order_acquire);
    if (!IsFree(entry, word, free_at, claim.now_ns)) {
      ++pick.taken;
      continue;
    }
    const bool is_nobodys = entry.tag.load(std::memory_order_acquire) == 0;
    const std::int64_t free_at_ns =
        is_nobodys ? kNobodys : free_at(word, entry.window_ns.load(), claim.now_ns);
    if (pick.entry != nullptr && free_at_ns >= pick.free_at_ns) continue;
    pick.entry = &entry;
    pick.free_at_ns = free_at_ns;
  }
  return pick;
}

// Of the free places one that is nobody's, else the one that came to rest first: the others are the
// more likely to be looked up again, and to be claimed back.
RateTable::Pick RateTable::PickPlace(std::uint64_t size, const RateClaim& claim,
                                     RateFreeAt free_at) const {
  const std::array<Pick, 2> picks = {PickIn(size, 0, claim, free_at),
                                     PickIn(size, 1, claim, free_at)};
  const std::size_t emptier = EmptierBucket(picks[0].taken, picks[1].taken);
  const Pick& first = picks[emptier];
  const Pick& second = picks[1 - emptier];
  if (first.entry == nullptr) return second;
  const bool second_is_better =
      second.entry != nullptr && second.taken < kPlaces / 2 && second.free_at_ns < first.free_at_ns;
  return second_is_better ? second : first;
}

bool RateTable::Take(RateEntry& entry, const RateClaim& claim, RateFreeAt free_at) {
  std::uint64_t word = entry.word.load(std::memory_order_acquire);
  if (!IsFree(entry, word, free_at, claim.now_ns)) return false;
  if (entry.tag.load() != 0) {
    // Before it is free, so that no lagging clock finds it at rest if this process ends here.
    NoteFreed(free_at(word, entry.window_ns.load(), claim.now_ns));
  }
  THROTTL_FAULT_POINT("rate.free");
  // Somebody may have spent from it since, unless it was frozen and is nobody's.
  if ((word & kRateFrozen) == 0 &&
      !entry.word.compare_exchange_strong(word, word | kRateFrozen, std::memory_order_acq_rel)) {
    return false;
  }
  THROTTL_FAULT_POINT("rate.frozen");
  entry.tag.store(claim.tag, std::memory_order_release);
  entry.window_ns.store(claim.window_ns, std::memory_order_release);
  entry.since_ns.store(claim.now_ns, std::memory_order_release);
  THROTTL_FAULT_POINT("rate.tagged");
  entry.word.store(claim.word, std::memory_order_release);
  THROTTL_FAULT_POINT("rate.claimed");
  return true;
}

void RateTable::NoteFreed(std::int64_t free_at_ns) {
  if (free_at_ns >= words_->freed_to_ns.load()) words_->freed_to_ns.store(free_at_ns + 1);
}

absl::Status RateTable::Grow(const RateClaim& claim, RateFreeAt free_at) {
  const std::uint64_t old = words_->size.load();
  for (std::uint64_t size = old == 0 ? kEntriesMin : 2 * old; size <= entries_max_; size *= 2) {
    THROTTL_RETURN_IF_ERROR(allocate_(size * sizeof(RateEntry), size * sizeof(RateEntry)));
    // An earlier try may have left something.
    for (std::uint64_t i = 0; i < size; ++i) {
      entries_[size + i].tag.store(0, std::memory_order_relaxed);
      entries_[size + i].word.store(0, std::memory_order_relaxed);
    }
    for (std::uint64_t i = 0; i < old; ++i) {  // those of killed claimers
      RateEntry& entry = entries_[old + i];
      if ((entry.word.load(std::memory_order_acquire) & kRateFrozen) == 0) continue;
      entry.tag.store(0, std::memory_order_release);
    }
    words_->growing.store(1, std::memory_order_release);
    THROTTL_FAULT_POINT("rate.grows");
    bool all = true;
    for (std::uint64_t i = 0; i < old && all; ++i) {
      RateEntry& entry = entries_[old + i];
      const std::uint64_t word = entry.word.fetch_or(kRateFrozen, std::memory_order_acq_rel);
      const std::uint64_t tag = entry.tag.load(std::memory_order_acquire);
      if (tag == 0) continue;
      THROTTL_FAULT_POINT("rate.freezes");
      if (!IsFree(entry, word, free_at, claim.now_ns)) {
        all = CopyTo(size, tag, entry);
        continue;
      }
      NoteFreed(free_at(word, entry.window_ns.load(), claim.now_ns));
    }
    THROTTL_FAULT_POINT("rate.copied");
    if (all) {
      words_->size.store(size, std::memory_order_release);
      THROTTL_FAULT_POINT("rate.grown");
      words_->growing.store(0, std::memory_order_release);
      return absl::OkStatus();
    }
    Thaw(old);
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the rate table has no place left among ", entries_max_, " at most"));
}

bool RateTable::CopyTo(std::uint64_t size, std::uint64_t tag, const RateEntry& from) {
  std::array<std::uint64_t, 2> taken = {};
  for (const int which : {0, 1}) {
    for (std::uint64_t i = 0; i < kPlaces; ++i) {
      const RateEntry& entry = At(size, BucketOf(size, tag, which), i);
      if (entry.tag.load(std::memory_order_relaxed) != 0) ++taken[static_cast<std::size_t>(which)];
    }
  }
  const auto emptier = static_cast<int>(EmptierBucket(taken[0], taken[1]));
  for (const int which : {emptier, 1 - emptier}) {
    for (std::uint64_t i = 0; i < kPlaces; ++i) {
      RateEntry& entry = At(size, BucketOf(size, tag, which), PlaceOf(tag) + i);
      if (entry.tag.load(std::memory_order_relaxed) != 0) continue;
      entry.window_ns.store(from.window_ns.load(), std::memory_order_relaxed);
      entry.since_ns.store(from.since_ns.load(), std::memory_order_relaxed);
      entry.word.store(from.word.load() & ~kRateFrozen, std::memory_order_relaxed);
      entry.tag.store(tag, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

// What is nobody's stays frozen, as in HasTag.
void RateTable::Thaw(std::uint64_t size) {
  for (std::uint64_t i = 0; i < size; ++i) {
    RateEntry& entry = entries_[size + i];
    if (entry.tag.load(std::memory_order_acquire) == 0) continue;
    entry.word.fetch_and(~kRateFrozen, std::memory_order_acq_rel);
    THROTTL_FAULT_POINT("rate.thawed");
  }
  words_->growing.store(0, std::memory_order_release);
}

void RateTable::Recover() {
  if (words_->growing.load(std::memory_order_acquire) == 0) return;
  THROTTL_FAULT_POINT("rate.recovers");
  Thaw(words_->size.load());
}

}  // namespace throttl::internal
