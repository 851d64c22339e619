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
// Memory: 256 bytes a record, 12 to 16 by which the records of a key id are found, and 12.8 to 25.6
// for places: 281 to 298 bytes an entry when full. It grows with use, 1,024 records at a time.
// Arrays of places that were outgrown stay allocated, together less than the one in use; so does a
// second one of the final size, once erased places had to be cleared away. At once it takes 8 bytes
// for 1,024 entries of capacity_max.
//
//   const KeyIndex::Target target = index.Aim(LocatorKey::Own(parts.locator));
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
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "throttl/decision.h"

#include "src/base/mutex.h"
#include "src/engine/cached_key.h"
#include "src/engine/cached_record.h"

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
    std::uint64_t tag = 0;  // of the hash; what the places of the index hold
  };

  // The facts are a copy, whole and of one moment. The 136 bytes of ids are left to CopyIds, which
  // copies them once, to where they are wanted, and only for a secret that was recognised.
  struct Found {
    KeyFacts facts = {};
    CachedRecord* record = nullptr;
    std::uint64_t version = 0;
  };

  // Has the processor fetch the memory that Find will read first. What is done between the two does
  // not wait for it.
  Target Aim(const LocatorKey& locator) const;
  // False: not here; `found` is then unspecified.
  bool Find(const Target& target, Found& found) const;
  // The ids that belong to `found.facts`. False: the entry has changed since; call Find again.
  bool CopyIds(const Found& found, FixedString<kKeyIdBytesMax>& key_id,
               FixedString<kOwnerIdBytesMax>& owner_id,
               FixedString<kPlanIdBytesMax>& plan_id) const;

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
  struct alignas(64) Line {
    std::array<std::atomic<std::uint64_t>, 8> places = {};
  };
  struct Table {
    explicit Table(std::size_t line_count)
        : mask(line_count - 1), lines(std::make_unique<Line[]>(line_count)) {}
    const std::size_t mask;
    const std::unique_ptr<Line[]> lines;
  };

  // Of each record, for writers: the chain of records whose key ids share a bucket, or of those
  // that are free.
  struct Link {
    std::uint32_t id_hash = 0;
    std::uint32_t next = 0;  // number of a record + 1; 0: the last
  };
  static constexpr std::size_t kChunkRecords = 1024;
  struct Chunk {
    std::array<CachedRecord, kChunkRecords> records = {};
    std::array<Link, kChunkRecords> links = {};
  };

  explicit KeyIndex(const KeyIndexOptions& options);

  std::uint64_t TagOf(const LocatorKey& locator) const;
  std::uint32_t HashOfId(std::string_view key_id) const;
  CachedRecord& RecordAt(std::uint32_t number) const {
    return chunks_[number / kChunkRecords]->records[number % kChunkRecords];
  }
  Link& LinkAt(std::uint32_t number) const {
    return chunks_[number / kChunkRecords]->links[number % kChunkRecords];
  }

  // The number of the record of `target`, if it is there.
  std::optional<std::uint32_t> NumberOf(const Target& target) const THROTTL_REQUIRES(mutex_);
  void MakePlaces() THROTTL_REQUIRES(mutex_);
  void MoveTo(Table& table) THROTTL_REQUIRES(mutex_);
  void Place(std::uint64_t tag, std::uint32_t number) THROTTL_REQUIRES(mutex_);
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
  std::vector<std::unique_ptr<Chunk>> chunks_;

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

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_INDEX_H_
