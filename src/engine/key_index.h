// A KeyIndex is a process's cache from the locator of a secret to what Validate must know of its
// key.
//
// Thread safety: Find and CopyIds take no lock, allocate nothing and run beside any other call; a
// key that is there is found, whatever comes, goes or grows meanwhile. All other methods are safe
// from any thread and take turns.
//
// Fork: a child gets a copy of its own. REQUIRES: no thread is inside a method that takes turns
// while the process forks (the engine's CallGate sees to it), since its lock would stay locked in
// the child.
//
// Memory: 256 bytes a record, 12 to 16 by which the records of a key id are found, and 21.3 to 42.7
// for places: 289 to 315 bytes an entry when full. It grows with use, 8,192 records at a time: the
// first ones page by page, the others in huge pages. Arrays of places that were outgrown stay
// allocated, together less than the one in use; so does a second one of the final size, once erased
// places had to be cleared away. At once it takes 24 bytes for 8,192 entries of capacity_max.
//
//   KeyIndex::Target target;
//   index.Aim(LocatorKey::Own(parts.locator), target);
//   index.Lead(target);
//   const SipTag tag = SipHash128(sip_key, secret);  // meanwhile the memory is on its way
//   KeyIndex::Found found;
//   do {
//     if (!index.Find(target, found)) return AskTheStore();
//     if (!EqualInConstantTime(found.facts.secret_tag, tag)) return not_found;
//   } while (!index.CopyIds(found, decision.key_id, decision.owner_id, decision.plan_id));
#ifndef THROTTL_SRC_ENGINE_KEY_INDEX_H_
#define THROTTL_SRC_ENGINE_KEY_INDEX_H_

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"

#include "throttl/decision.h"

#include "src/base/mutex.h"
#include "src/engine/cached_key.h"
#include "src/engine/cached_record.h"
#include "src/lease/huge_pages.h"

namespace throttl::internal {

inline constexpr std::int64_t kKeyIndexCapacityMax = std::int64_t{1} << 30;

struct KeyIndexOptions {
  std::int64_t capacity_max = 1'000'000;  // secrets, 1..kKeyIndexCapacityMax
  std::uint64_t seed = 0;                 // random, else strangers can fill one place of the index
};

class KeyIndex {
 public:
  // InvalidArgument: capacity_max is out of its bounds.
  static absl::StatusOr<std::unique_ptr<KeyIndex>> Create(const KeyIndexOptions& options);

  KeyIndex(const KeyIndex&) = delete;
  KeyIndex& operator=(const KeyIndex&) = delete;

  // Where to look for a locator.
  struct Target {
    LocatorKey locator = {};
    std::uint64_t tag = 0;    // of the hash; what the places of the index hold
    std::uint32_t guess = 0;  // the number of the record, + 1, if Lead has seen to it; else 0
  };

  // The facts are a copy, whole and of one moment. The 136 bytes of ids are left to CopyIds, which
  // copies them once, to where they are wanted, and only for a secret that was recognised.
  struct Found {
    Found() {}       // leaves the facts to Find: clearing them first costs a request 10 ns
    KeyFacts facts;  // NOLINT(readability-redundant-member-init)
    CachedRecord* record = nullptr;
    std::uint32_t number = 0;  // of the record
    std::uint64_t version = 0;
  };

  // Has the processor fetch the memory that Find will read first. What is done between the two does
  // not wait for it.
  void Aim(LocatorKey locator, Target& target) const;
  // Has the processor fetch what is read next, the record, as soon as the first is there. Returns
  // the quota's slot as UpdateSlots last said, to be fetched beside it: without this, a request
  // would wait for one after the other. Any number if there is no such entry.
  std::uint32_t Lead(Target& target) const;
  // False: not here; `found` is then unspecified.
  bool Find(const Target& target, Found& found) const {
    return (target.guess != 0 && IsThere(target.guess - 1, target, found)) || Search(target, found);
  }
  // The ids that belong to `found.facts`. False: the entry has changed since; call Find again.
  bool CopyIds(const Found& found, FixedString<kKeyIdBytesMax>& key_id,
               FixedString<kOwnerIdBytesMax>& owner_id,
               FixedString<kPlanIdBytesMax>& plan_id) const {
    return found.record->CopyIds(found.version, key_id, owner_id, plan_id);
  }

  // How often InvalidateKey and InvalidateAll have been called.
  std::uint64_t invalidations() const { return invalidations_.load(std::memory_order_acquire); }

  // Inserts or replaces. `as_of` is what invalidations() said before `key` was read from the store:
  // if something was invalidated since, `key` may be out of date, so nothing changes and the answer
  // is false. A full index gives up an entry that was not found lately. May throw std::bad_alloc,
  // and is then unchanged.
  bool Insert(const LocatorKey& locator, const CachedKey& key, std::uint64_t as_of);

  // False, and changes nothing, if the entry has changed since it was found.
  bool UpdateSlots(const Found& found, const SlotRef& key_slot, const SlotRef& quota_slot);

  // Removes the entries of all secrets of the key, and with a probability of 2^-32 each others that
  // are then read from the store again. Without memory to allocate.
  void InvalidateKey(std::string_view key_id);
  void InvalidateAll();

  // Entries.
  std::int64_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  // A place is empty, erased, or holds the tag of a locator and the number of its record. Lines are
  // looked through from that of the tag on; an entry stands in the first that had room, and never
  // moves within its table. A line that was once full is never given an empty place again: a reader
  // may stop at the first line that has one, since no entry ever had to pass it by.
  //
  // A place: 33 bits of tag, whose highest is set, so that no tag equals an empty or erased place;
  // 31 bits of the number of the record, + 1.
  static constexpr int kNumberBits = 31;
  static constexpr std::uint64_t kNumberMask = (std::uint64_t{1} << kNumberBits) - 1;
  static constexpr std::uint64_t kTagHighest = std::uint64_t{1} << 32;
  static constexpr std::uint64_t kEmpty = 0;
  static constexpr std::uint64_t kErased = 1;

  static std::uint64_t PlaceOf(std::uint64_t tag, std::uint32_t number) {
    return tag << kNumberBits | (std::uint64_t{number} + 1);
  }
  static std::uint64_t TagIn(std::uint64_t place) { return place >> kNumberBits; }
  static std::uint32_t NumberIn(std::uint64_t place) {
    return static_cast<std::uint32_t>((place & kNumberMask) - 1);
  }
  static bool IsTaken(std::uint64_t place) { return place != kEmpty && place != kErased; }

  struct alignas(64) Line {
    static constexpr std::size_t kPlaces = 5;
    std::array<std::atomic<std::uint64_t>, kPlaces> places = {};
    std::array<std::atomic<std::uint32_t>, kPlaces> slots = {};  // of the quotas, for Lead
  };
  struct Table {
    explicit Table(std::size_t line_count);
    const std::size_t mask;
    const HugeArray<Line> lines;
  };

  // Of each record, for writers: the chain of records whose key ids share a bucket, or of those
  // that are free.
  struct Link {
    std::uint32_t id_hash = 0;
    std::uint32_t next = 0;  // number of a record + 1; 0: the last
  };
  // Records of a huge page. Those that were never handed out are not touched either.
  static constexpr std::size_t kChunkRecords = kHugePageBytes / sizeof(CachedRecord);
  struct Chunk {
    HugeArray<CachedRecord> records;
    std::unique_ptr<Link[]> links;
  };

  explicit KeyIndex(const KeyIndexOptions& options);

  std::uint64_t TagOf(const LocatorKey& locator) const;
  std::uint32_t HashOfId(std::string_view key_id) const;
  CachedRecord& RecordAt(std::uint32_t number) const {
    return chunks_[number / kChunkRecords].records[number % kChunkRecords];
  }
  Link& LinkAt(std::uint32_t number) const {
    return chunks_[number / kChunkRecords].links[number % kChunkRecords];
  }

  bool Search(const Target& target, Found& found) const;
  // Fills `found` if the record of this number is that of `target`.
  bool IsThere(std::uint32_t number, const Target& target, Found& found) const;

  // The number of the record of `target`, if it is there.
  std::optional<std::uint32_t> NumberOf(const Target& target) const THROTTL_REQUIRES(mutex_);
  void MakePlaces() THROTTL_REQUIRES(mutex_);
  void MoveTo(Table& table) THROTTL_REQUIRES(mutex_);
  void Place(std::uint64_t tag, std::uint32_t number) THROTTL_REQUIRES(mutex_);
  // Where the record stands in the table.
  struct Spot {
    Line* line = nullptr;
    std::size_t place = 0;
    bool passed_by = false;  // another entry may stand behind because the line was full
  };
  Spot SpotOf(std::uint64_t tag, std::uint32_t number) const THROTTL_REQUIRES(mutex_);
  void Displace(std::uint64_t tag, std::uint32_t number) THROTTL_REQUIRES(mutex_);
  // A record of no locator, unlinked.
  std::uint32_t TakeRecord() THROTTL_REQUIRES(mutex_);
  void AddChunk() THROTTL_REQUIRES(mutex_);
  std::uint32_t Evict() THROTTL_REQUIRES(mutex_);
  void Remove(std::uint32_t number) THROTTL_REQUIRES(mutex_);
  void PutLink(std::uint32_t number, std::uint32_t id_hash) THROTTL_REQUIRES(mutex_);
  void TakeLink(std::uint32_t number) THROTTL_REQUIRES(mutex_);
  std::uint32_t& HeadOf(std::uint32_t id_hash) THROTTL_REQUIRES(mutex_) {
    return heads_[id_hash & (heads_.size() - 1)];
  }

  const std::uint64_t seed_;
  const std::size_t capacity_max_;
  const std::size_t lines_max_;

  // The table in use, and how many came before it: a table is used again, so that its address does
  // not tell whether a reader who found nothing looked into the right one.
  std::atomic<Table*> table_ = nullptr;
  std::atomic<std::uint64_t> tables_before_ = 0;

  // Its size never changes. Readers come here by a place, which is published after its chunk.
  std::vector<Chunk> chunks_;

  alignas(64) Mutex mutex_;
  std::atomic<std::uint64_t> invalidations_ = 0;
  std::atomic<std::int64_t> size_ = 0;
  std::vector<std::unique_ptr<Table>> tables_ THROTTL_GUARDED_BY(mutex_);  // readers may be in any
  Table* spare_ THROTTL_GUARDED_BY(mutex_) = nullptr;     // of the final size, not in use
  std::size_t erased_ THROTTL_GUARDED_BY(mutex_) = 0;     // places of the table in use
  std::uint32_t records_ THROTTL_GUARDED_BY(mutex_) = 0;  // handed out so far
  std::uint32_t free_ THROTTL_GUARDED_BY(mutex_) = 0;     // the first of the chain, + 1
  std::uint32_t hand_ THROTTL_GUARDED_BY(mutex_) = 0;  // the next record to consider for eviction
  std::vector<std::uint32_t> heads_ THROTTL_GUARDED_BY(mutex_);  // of the chains, + 1
};

// The inline parts follow: they are what a request costs.

ABSL_ATTRIBUTE_ALWAYS_INLINE inline std::uint32_t KeyIndex::Lead(Target& target) const {
  const Table& table = *table_.load(std::memory_order_acquire);
  const Line& line = table.lines[target.tag & table.mask];
  const auto bit = [&](std::size_t n) {
    const std::uint64_t place = line.places[n].load(std::memory_order_acquire);
    return static_cast<unsigned>(TagIn(place) == target.tag) << n;
  };
  static_assert(Line::kPlaces == 5);
  // All places, whichever it is: a branch that is guessed wrong would undo what is done meanwhile.
  const unsigned matching = bit(0) | bit(1) | bit(2) | bit(3) | bit(4);
  if (matching == 0) return 0;
  const auto n = static_cast<std::size_t>(std::countr_zero(matching));
  const std::uint64_t place = line.places[n].load(std::memory_order_acquire);
  if (!IsTaken(place)) return 0;  // it has gone since
  const std::uint32_t number = NumberIn(place);
  RecordAt(number).Prefetch();
  target.guess = number + 1;
  return line.slots[n].load(std::memory_order_relaxed);
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool KeyIndex::IsThere(std::uint32_t number,
                                                           const Target& target,
                                                           Found& found) const {
  CachedRecord& record = RecordAt(number);
  if (!record.Read(target.locator, found.facts, found.version)) return false;
  found.record = &record;
  found.number = number;
  return true;
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_INDEX_H_
