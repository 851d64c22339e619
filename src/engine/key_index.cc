#include "src/engine/key_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"

namespace throttl::internal {
namespace {

// A place: 33 bits of tag, whose highest is set, so that no tag equals an empty or erased place; 31
// bits of the number of the record, + 1.
constexpr int kNumberBits = 31;
constexpr std::uint64_t kNumberMask = (std::uint64_t{1} << kNumberBits) - 1;
constexpr std::uint64_t kTagHighest = std::uint64_t{1} << 32;
constexpr std::uint64_t kEmpty = 0;
constexpr std::uint64_t kErased = 1;

constexpr std::size_t kLinePlaces = 8;
// At most 5 places of 8 are in use and 1 is erased, so that few lines are full, and a search ends.
constexpr std::size_t kLineEntriesMax = 5;
constexpr std::size_t kLineErasedMax = 1;
constexpr std::size_t kLinesAtFirst = 256;

// Where all entries were used lately, an eviction that asked each of them would hold up others.
constexpr int kSecondChancesMax = 1024;

std::uint64_t PlaceOf(std::uint64_t tag, std::uint32_t number) {
  return tag << kNumberBits | (std::uint64_t{number} + 1);
}
std::uint64_t TagIn(std::uint64_t place) { return place >> kNumberBits; }
std::uint32_t NumberIn(std::uint64_t place) {
  return static_cast<std::uint32_t>((place & kNumberMask) - 1);
}
bool IsTaken(std::uint64_t place) { return place != kEmpty && place != kErased; }

// The place of a line to look at first: bits of the tag that no table uses to choose the line.
std::size_t FirstPlace(std::uint64_t tag) { return (tag >> 29) % kLinePlaces; }

}  // namespace

absl::StatusOr<std::unique_ptr<KeyIndex>> KeyIndex::Create(const KeyIndexOptions& options) {
  if (options.capacity_max < 1 || options.capacity_max > kKeyIndexCapacityMax) {
    return absl::InvalidArgumentError(absl::StrCat("the capacity of a key index is ",
                                                   options.capacity_max, ", 1 to ",
                                                   kKeyIndexCapacityMax, " are allowed"));
  }
  return std::unique_ptr<KeyIndex>(new KeyIndex(options));
}

KeyIndex::KeyIndex(const KeyIndexOptions& options)
    : seed_(options.seed),
      capacity_max_(static_cast<std::size_t>(options.capacity_max)),
      lines_max_(std::bit_ceil((capacity_max_ + kLineEntriesMax - 1) / kLineEntriesMax)),
      chunks_((capacity_max_ + kChunkRecords - 1) / kChunkRecords) {
  tables_.push_back(std::make_unique<Table>(std::min(kLinesAtFirst, lines_max_)));
  table_.store(tables_.back().get(), std::memory_order_release);
  heads_.resize(kChunkRecords);
}

std::uint64_t KeyIndex::TagOf(const LocatorKey& locator) const {
  return static_cast<std::uint32_t>(FastHash(seed_, locator.bytes())) | kTagHighest;
}

std::uint32_t KeyIndex::HashOfId(std::string_view key_id) const {
  return static_cast<std::uint32_t>(FastHash(seed_, key_id));
}

KeyIndex::Target KeyIndex::Aim(const LocatorKey& locator) const {
  const Target target = {locator, TagOf(locator)};
  const Table& table = *table_.load(std::memory_order_acquire);
  __builtin_prefetch(&table.lines[target.tag & table.mask]);
  return target;
}

bool KeyIndex::Find(const Target& target, Found& found) const {
  const std::size_t first = FirstPlace(target.tag);
  for (;;) {
    const std::uint64_t tables_before = tables_before_.load(std::memory_order_acquire);
    const Table& table = *table_.load(std::memory_order_acquire);
    bool passed_by = true;
    for (std::size_t at = target.tag & table.mask; passed_by; at = (at + 1) & table.mask) {
      for (std::size_t n = 0; n < kLinePlaces; ++n) {
        const std::uint64_t place =
            table.lines[at].places[(first + n) % kLinePlaces].load(std::memory_order_acquire);
        if (place == kEmpty) passed_by = false;
        if (TagIn(place) != target.tag) continue;
        CachedRecord& record = RecordAt(NumberIn(place));
        record.Prefetch();
        if (const auto version = record.Read(target.locator, found.facts)) {
          found.record = &record;
          found.version = *version;
          return true;
        }
      }
    }
    // A table that is no longer in use may be cleared while it is looked through.
    if (tables_before_.load(std::memory_order_acquire) == tables_before) return false;
  }
}

bool KeyIndex::CopyIds(const Found& found, FixedString<kKeyIdBytesMax>& key_id,
                       FixedString<kOwnerIdBytesMax>& owner_id,
                       FixedString<kPlanIdBytesMax>& plan_id) const {
  return found.record->CopyIds(found.version, key_id, owner_id, plan_id);
}

bool KeyIndex::Insert(const LocatorKey& locator, const CachedKey& key, std::uint64_t as_of) {
  const Target target = {locator, TagOf(locator)};
  const std::uint32_t id_hash = HashOfId(key.ids.key_id.view());
  const MutexLock lock(mutex_);
  if (as_of != invalidations_.load(std::memory_order_relaxed)) return false;
  if (const auto known = NumberOf(target)) {
    TakeLink(*known);
    RecordAt(*known).Write(locator, key);
    PutLink(*known, id_hash);
    return true;
  }
  MakePlaces();
  const std::uint32_t number = TakeRecord();
  RecordAt(number).Write(locator, key);
  PutLink(number, id_hash);
  Place(target.tag, number);
  size_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool KeyIndex::UpdateSlots(const Found& found, const SlotRef& key_slot, const SlotRef& quota_slot) {
  const MutexLock lock(mutex_);
  return found.record->WriteSlots(found.version, key_slot, quota_slot);
}

void KeyIndex::InvalidateKey(std::string_view key_id) {
  const std::uint32_t id_hash = HashOfId(key_id);
  const MutexLock lock(mutex_);
  invalidations_.fetch_add(1, std::memory_order_release);
  for (std::uint32_t next = HeadOf(id_hash); next != 0;) {
    const std::uint32_t number = next - 1;
    next = LinkAt(number).next;
    if (LinkAt(number).id_hash != id_hash) continue;
    Remove(number);
    LinkAt(number).next = std::exchange(free_, number + 1);
  }
}

void KeyIndex::InvalidateAll() {
  const MutexLock lock(mutex_);
  invalidations_.fetch_add(1, std::memory_order_release);
  Table& table = *table_.load(std::memory_order_relaxed);
  // Nothing is left that must be found, so no place needs to be marked as erased.
  for (std::size_t at = 0; at <= table.mask; ++at) {
    for (auto& place : table.lines[at].places) place.store(kEmpty, std::memory_order_release);
  }
  for (std::uint32_t number = 0; number < records_; ++number) RecordAt(number).Clear();
  std::fill(heads_.begin(), heads_.end(), 0);
  erased_ = 0;
  records_ = 0;
  free_ = 0;
  hand_ = 0;
  size_.store(0, std::memory_order_relaxed);
}

std::optional<std::uint32_t> KeyIndex::NumberOf(const Target& target) const {
  const Table& table = *table_.load(std::memory_order_relaxed);
  for (std::size_t at = target.tag & table.mask;; at = (at + 1) & table.mask) {
    bool passed_by = true;
    for (const auto& word : table.lines[at].places) {
      const std::uint64_t place = word.load(std::memory_order_relaxed);
      if (place == kEmpty) passed_by = false;
      if (TagIn(place) != target.tag) continue;
      if (RecordAt(NumberIn(place)).locator() == target.locator) return NumberIn(place);
    }
    if (!passed_by) return std::nullopt;
  }
}

// Sees to it that one more entry leaves the table as empty as it must be.
void KeyIndex::MakePlaces() {
  const std::size_t lines = table_.load(std::memory_order_relaxed)->mask + 1;
  const std::size_t entries = static_cast<std::size_t>(size_.load(std::memory_order_relaxed));
  if (lines < lines_max_) {
    if (entries < lines * kLineEntriesMax && erased_ <= lines * kLineErasedMax) return;
    tables_.push_back(std::make_unique<Table>(lines * 2));
    MoveTo(*tables_.back());
  } else if (erased_ > lines * kLineErasedMax) {
    if (spare_ == nullptr) {
      tables_.push_back(std::make_unique<Table>(lines));
      spare_ = tables_.back().get();
    }
    Table& next = *spare_;
    spare_ = table_.load(std::memory_order_relaxed);
    MoveTo(next);
  }
}

void KeyIndex::MoveTo(Table& table) {
  for (std::size_t at = 0; at <= table.mask; ++at) {
    for (auto& place : table.lines[at].places) place.store(kEmpty, std::memory_order_release);
  }
  const Table& before = *table_.load(std::memory_order_relaxed);
  // Readers may still be in the new table, from when it was in use before; they find what they
  // find, or see below that they have to start again.
  const auto put = [&table](std::uint64_t place) {
    for (std::size_t at = TagIn(place) & table.mask;; at = (at + 1) & table.mask) {
      for (auto& word : table.lines[at].places) {
        if (word.load(std::memory_order_relaxed) != kEmpty) continue;
        word.store(place, std::memory_order_release);
        return;
      }
    }
  };
  for (std::size_t at = 0; at <= before.mask; ++at) {
    for (const auto& word : before.lines[at].places) {
      const std::uint64_t place = word.load(std::memory_order_relaxed);
      if (IsTaken(place)) put(place);
    }
  }
  erased_ = 0;
  table_.store(&table, std::memory_order_release);
  tables_before_.fetch_add(1, std::memory_order_release);
}

void KeyIndex::Place(std::uint64_t tag, std::uint32_t number) {
  Table& table = *table_.load(std::memory_order_relaxed);
  const std::size_t first = FirstPlace(tag);
  for (std::size_t at = tag & table.mask;; at = (at + 1) & table.mask) {
    for (std::size_t n = 0; n < kLinePlaces; ++n) {
      auto& word = table.lines[at].places[(first + n) % kLinePlaces];
      const std::uint64_t place = word.load(std::memory_order_relaxed);
      if (IsTaken(place)) continue;
      if (place == kErased) --erased_;
      word.store(PlaceOf(tag, number), std::memory_order_release);
      return;
    }
  }
}

void KeyIndex::Displace(std::uint64_t tag, std::uint32_t number) {
  Table& table = *table_.load(std::memory_order_relaxed);
  for (std::size_t at = tag & table.mask;; at = (at + 1) & table.mask) {
    bool passed_by = true;
    std::atomic<std::uint64_t>* own = nullptr;
    for (auto& word : table.lines[at].places) {
      const std::uint64_t place = word.load(std::memory_order_relaxed);
      if (place == kEmpty) passed_by = false;
      if (place == PlaceOf(tag, number)) own = &word;
    }
    if (own == nullptr) continue;
    own->store(passed_by ? kErased : kEmpty, std::memory_order_release);
    if (passed_by) ++erased_;
    return;
  }
}

std::uint32_t KeyIndex::TakeRecord() {
  if (free_ != 0) {
    const std::uint32_t number = free_ - 1;
    free_ = LinkAt(number).next;
    return number;
  }
  if (records_ == capacity_max_) return Evict();
  if (chunks_[records_ / kChunkRecords] == nullptr) AddChunk();
  return records_++;
}

void KeyIndex::AddChunk() {
  auto chunk = std::make_unique<Chunk>();
  if (records_ == heads_.size()) {
    std::vector<std::uint32_t> longer(heads_.size() * 2);
    heads_.swap(longer);
    for (std::uint32_t number = 0; number < records_; ++number) {
      PutLink(number, LinkAt(number).id_hash);
    }
  }
  chunks_[records_ / kChunkRecords] = std::move(chunk);
}

std::uint32_t KeyIndex::Evict() {
  for (int chances = 0;; ++chances) {
    const std::uint32_t number = hand_;
    hand_ = (hand_ + 1) % records_;
    if (chances < kSecondChancesMax && RecordAt(number).TakeUsed()) continue;
    Remove(number);
    return number;
  }
}

void KeyIndex::Remove(std::uint32_t number) {
  CachedRecord& record = RecordAt(number);
  Displace(TagOf(record.locator()), number);
  record.Clear();
  TakeLink(number);
  size_.fetch_sub(1, std::memory_order_relaxed);
}

void KeyIndex::PutLink(std::uint32_t number, std::uint32_t id_hash) {
  LinkAt(number) = {id_hash, std::exchange(HeadOf(id_hash), number + 1)};
}

void KeyIndex::TakeLink(std::uint32_t number) {
  std::uint32_t* next = &HeadOf(LinkAt(number).id_hash);
  while (*next != number + 1) next = &LinkAt(*next - 1).next;
  *next = LinkAt(number).next;
}

}  // namespace throttl::internal
