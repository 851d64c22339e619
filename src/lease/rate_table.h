// A RateTable holds the words of rate limits, one for each key and limit that is not at rest.
//
// It is a part of a lease table, in the same memory: exact over the processes that share it. What a
// word means is the caller's: it computes the next word from the one that it found and its clock,
// and swaps the two, which is the whole admission. A word says nothing more after some time, and
// then its entry is free for another tag: so the table needs no sweeper, and is as large as there
// are keys that are limited within a second. An entry that is not free is never taken away.
//
// An entry is looked up and swapped without a lock. Claiming one is under the table lock, where it
// is looked up again: so a tag has one entry. A claimer freezes the entry first (the top bit of its
// word), so that every swap in flight fails; one that is killed leaves it frozen, and the next
// claimer that comes by makes it nobody's. To grow, all entries are frozen and copied, and the new
// place is published last; whoever finds a growth that was not finished thaws them.
//
// A tag has eight places: four neighbours in each of two buckets (Azar et al., "Balanced
// allocations", 1994), the second of which is for tags whose first is fuller. A claim gets one that
// is nobody's, else the one that has been free for longest. The table doubles when all eight are
// taken, or the one to be had became free in the last second, since its tag would soon claim
// another; one of 2^20 entries that may not double holds some 450,000 tags that are not at rest.
//
// Thread safety: Find, Look and Swap from any thread and process; Claim under the table lock.
//
//   FoundRate found = rates.Find(tag);
//   if (found.state == RateLookup::kFound) swapped = RateTable::Swap(found, next_word);
#ifndef THROTTL_SRC_LEASE_RATE_TABLE_H_
#define THROTTL_SRC_LEASE_RATE_TABLE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "src/lease/fault_point.h"
#include "src/lease/lease_layout.h"

namespace throttl::internal {

enum class RateLookup : std::uint8_t {
  kAbsent = 1,  // nothing is known of the tag: it is at rest
  kFound = 2,
  kFrozen = 3,  // somebody is claiming it or growing the table: Claim waits for that
};

struct FoundRate {
  RateLookup state = RateLookup::kAbsent;
  RateEntry* entry = nullptr;  // as long as the table
  std::uint64_t tag = 0;
  std::uint64_t word = 0;
  // Of the clock, in nanoseconds, when the entry was claimed. Two claims of a tag differ in it.
  std::int64_t since_ns = 0;
};

struct RateClaim {
  std::uint64_t tag = 0;  // not 0
  // The word after the request that claims, computed from one at rest, below 2^63; it stays
  // unequal to every earlier word of an entry that is free at now_ns.
  std::uint64_t word = 0;
  std::int64_t window_ns = 0;  // for RateFreeAt; 0 and more
  std::int64_t now_ns = 0;
  // The clock was read again after Claim answered kLags: it went back since an entry was freed.
  bool clock_went_back = false;
};

enum class RateClaimed : std::uint8_t {
  kClaimed = 1,  // and the word is stored
  kThere = 2,    // somebody else has claimed the tag: Find again
  // An entry was freed at a later time, perhaps that of the tag. Read the clock, and come back.
  kLags = 3,
};

// From when a word says nothing, in nanoseconds since the epoch, as seen from `now_ns`.
using RateFreeAt = std::int64_t (*)(std::uint64_t word, std::int64_t window_ns,
                                    std::int64_t now_ns);

class RateTable {
 public:
  static constexpr std::uint64_t kEntriesMin = 1024;

  // Bytes of the entries of a table that may have so many, a power of two.
  static std::size_t BytesFor(std::uint64_t entries_max) {
    return 2 * entries_max * sizeof(RateEntry);
  }

  // `entries` has room for BytesFor(entries_max). `allocate` makes sure that there is memory behind
  // a part of it, given as offset and bytes.
  void Attach(RateWords& words, RateEntry* entries, std::uint64_t entries_max,
              std::function<absl::Status(std::size_t offset, std::size_t bytes)> allocate);

  // Where the tag's entry most probably is, which the processor is to fetch; nullptr: nowhere yet.
  RateEntry* Lead(std::uint64_t tag) const noexcept {
    const std::uint64_t size = words_->size.load(std::memory_order_acquire);
    if (size == 0) return nullptr;
    RateEntry* const entry = &At(size, BucketOf(size, tag, 0), PlaceOf(tag));
    __builtin_prefetch(entry, 1);
    return entry;
  }
  // Find, which begins with what Lead said.
  FoundRate FindLed(std::uint64_t tag, RateEntry* entry) const noexcept {
    FoundRate found;
    // A table that has been outgrown is frozen.
    const bool is_there = entry != nullptr && entry->tag.load(std::memory_order_relaxed) == tag &&
                          Look(*entry, tag, found) && found.state == RateLookup::kFound;
    return is_there ? found : Find(tag);
  }

  FoundRate Find(std::uint64_t tag) const noexcept {
    FoundRate found;
    const std::uint64_t size = words_->size.load(std::memory_order_acquire);
    if (size == 0) return found;
    for (int which = 0; which < 2; ++which) {
      const std::uint64_t bucket = BucketOf(size, tag, which);
      for (std::uint64_t i = 0; i < kPlaces; ++i) {
        RateEntry& entry = At(size, bucket, PlaceOf(tag) + i);
        if (entry.tag.load(std::memory_order_relaxed) == tag && Look(entry, tag, found)) {
          return found;
        }
      }
    }
    return found;
  }

  // No earlier than this may a tag be claimed: by then the freed entries said nothing.
  std::int64_t freed_to_ns() const noexcept {
    return words_->freed_to_ns.load(std::memory_order_acquire);
  }

  // The word that the entry has now; false if it was claimed again since, or is frozen. Time alone
  // does not tell: that of a claimer that was killed may be that of the next one.
  static bool LookAgain(FoundRate& found) noexcept {
    found.word = found.entry->word.load(std::memory_order_acquire);
    return (found.word & kRateFrozen) == 0 &&
           found.entry->tag.load(std::memory_order_acquire) == found.tag &&
           found.entry->since_ns.load(std::memory_order_acquire) == found.since_ns;
  }

  // Stores `word`, below 2^63, if the entry still has the word that was found; else false.
  static bool Swap(FoundRate found, std::uint64_t word) noexcept {
    return found.entry->word.compare_exchange_strong(found.word, word, std::memory_order_acq_rel,
                                                     std::memory_order_relaxed);
  }

  // Puts the tag into the table. REQUIRES: the table lock. ResourceExhausted: all places of the tag
  // are taken and the table may not grow, or the disk is full.
  absl::StatusOr<RateClaimed> Claim(const RateClaim& claim, RateFreeAt free_at);

  // What a process that was killed while it made the table grow has left. REQUIRES: the table lock.
  void Recover();

 private:
  static constexpr std::uint64_t kPlaces = 4;

  // The entries of a table of `size` lie behind those of all smaller ones.
  RateEntry& At(std::uint64_t size, std::uint64_t bucket, std::uint64_t place) const noexcept {
    return entries_[size + bucket * kPlaces + place % kPlaces];
  }
  static std::uint64_t BucketOf(std::uint64_t size, std::uint64_t tag, int which) noexcept {
    const std::uint64_t mask = size / kPlaces - 1;
    const std::uint64_t first = tag & mask;
    if (which == 0) return first;
    const std::uint64_t second = (tag >> 32) & mask;
    return second == first ? first ^ 1 : second;
  }
  static std::uint64_t PlaceOf(std::uint64_t tag) noexcept { return tag >> 62; }

  // The word first: if it is then swapped, tag and time were of the same claim.
  static bool Look(RateEntry& entry, std::uint64_t tag, FoundRate& found) noexcept {
    THROTTL_FAULT_POINT("rate.look");
    found.word = entry.word.load(std::memory_order_acquire);
    THROTTL_FAULT_POINT("rate.read");
    found.since_ns = entry.since_ns.load(std::memory_order_acquire);
    if (entry.tag.load(std::memory_order_acquire) != tag) return false;
    found.entry = &entry;
    found.tag = tag;
    found.state = (found.word & kRateFrozen) != 0 ? RateLookup::kFrozen : RateLookup::kFound;
    return true;
  }

  bool HasTag(std::uint64_t size, std::uint64_t tag);
  static std::size_t EmptierBucket(std::uint64_t taken_in_first, std::uint64_t taken_in_second);
  // The free place that a claim gets.
  static constexpr std::int64_t kNobodys = std::numeric_limits<std::int64_t>::min();
  struct Pick {
    RateEntry* entry = nullptr;          // nullptr: all are taken
    std::int64_t free_at_ns = kNobodys;  // since when; kNobodys: always
    std::uint64_t taken = 0;             // places of the bucket
  };
  Pick PickIn(std::uint64_t size, int which, const RateClaim& claim, RateFreeAt free_at) const;
  Pick PickPlace(std::uint64_t size, const RateClaim& claim, RateFreeAt free_at) const;
  void NoteFreed(std::int64_t free_at_ns);
  bool Take(RateEntry& entry, const RateClaim& claim, RateFreeAt free_at);
  absl::Status Grow(const RateClaim& claim, RateFreeAt free_at);
  bool CopyTo(std::uint64_t size, std::uint64_t tag, const RateEntry& from);
  void Thaw(std::uint64_t size);

  RateWords* words_ = nullptr;
  RateEntry* entries_ = nullptr;
  std::uint64_t entries_max_ = 0;
  std::function<absl::Status(std::size_t offset, std::size_t bytes)> allocate_ = nullptr;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_RATE_TABLE_H_
