#include "src/engine/key_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"

namespace throttl::internal {
namespace {

// At most 3 places of 5 are in use and 1 is erased, so that few lines are full, and a search ends.
constexpr std::size_t kLineEntriesMax = 3;
constexpr std::size_t kLineErasedMax = 1;
constexpr std::size_t kLinesAtFirst = 512;

// Where all entries were used lately, an eviction that asked each of them would hold up others.
constexpr int kSecondChancesMax = 1024;

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

KeyIndex::Table::Table(std::size_t line_count)
    : mask(line_count - 1), lines(line_count, PageKind::kHuge) {}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline std::uint64_t KeyIndex::TagOf(const LocatorKey& locator) const {
  return static_cast<std::uint32_t>(FastHash(seed_, locator.bytes())) | kTagHighest;
}

std::uint32_t KeyIndex::HashOfId(std::string_view key_id) const {
  return static_cast<std::uint32_t>(FastHash(seed_, key_id));
}

void KeyIndex::Aim(LocatorKey locator, Target& target) const {
  const std::uint64_t tag = TagOf(locator);
  const Table& table = *table_.load(std::memory_order_acquire);
  __builtin_prefetch(&table.lines[tag & table.mask]);
  target.locator = locator;
  target.tag = tag;
  target.guess = 0;
}

bool KeyIndex::Search(const Target& target, Found& found) const {
  for (;;) {
    const std::uint64_t tables_before = tables_before_.load(std::memory_order_acquire);
    const Table& table = *table_.load(std::memory_order_acquire);
    bool passed_by = true;
    for (std::size_t at = target.tag & table.mask; passed_by; at = (at + 1) & table.mask) {
      for (const auto& word : table.lines[at].places) {
        const std::uint64_t place = word.load(std::memory_order_acquire);
        if (place == kEmpty) passed_by = false;
        if (TagIn(place) != target.tag) continue;
        RecordAt(NumberIn(place)).Prefetch();
        if (IsThere(NumberIn(place), target, found)) return true;
      }
    }
    // A table that is no longer in use may be cleared while it is looked through.
    if (tables_before_.load(std::memory_order_acquire) == tables_before) return false;
  }
}

bool KeyIndex::Insert(const LocatorKey& locator, const CachedKey& key, std::uint64_t as_of) {
  const Target target = {.locator = locator, .tag = TagOf(locator)};
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
  if (!found.record->WriteSlots(found.version, key_slot, quota_slot)) return false;
  const Spot spot = SpotOf(TagOf(found.record->locator()), found.number);
  spot.line->slots[spot.place].store(quota_slot.slot, std::memory_order_relaxed);
  return true;
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
  const auto put = [&table](std::uint64_t place, std::uint32_t slot) {
    for (std::size_t at = TagIn(place) & table.mask;; at = (at + 1) & table.mask) {
      Line& line = table.lines[at];
      for (std::size_t n = 0; n < Line::kPlaces; ++n) {
        if (line.places[n].load(std::memory_order_relaxed) != kEmpty) continue;
        line.slots[n].store(slot, std::memory_order_relaxed);
        line.places[n].store(place, std::memory_order_release);
        return;
      }
    }
  };
  for (std::size_t at = 0; at <= before.mask; ++at) {
    const Line& line = before.lines[at];
    for (std::size_t n = 0; n < Line::kPlaces; ++n) {
      const std::uint64_t place = line.places[n].load(std::memory_order_relaxed);
      if (IsTaken(place)) put(place, line.slots[n].load(std::memory_order_relaxed));
    }
  }
  erased_ = 0;
  table_.store(&table, std::memory_order_release);
  tables_before_.fetch_add(1, std::memory_order_release);
}

void KeyIndex::Place(std::uint64_t tag, std::uint32_t number) {
  Table& table = *table_.load(std::memory_order_relaxed);
  for (std::size_t at = tag & table.mask;; at = (at + 1) & table.mask) {
    for (auto& word : table.lines[at].places) {
      const std::uint64_t place = word.load(std::memory_order_relaxed);
      if (IsTaken(place)) continue;
      if (place == kErased) --erased_;
      word.store(PlaceOf(tag, number), std::memory_order_release);
      return;
    }
  }
}

KeyIndex::Spot KeyIndex::SpotOf(std::uint64_t tag, std::uint32_t number) const {
  const Table& table = *table_.load(std::memory_order_relaxed);
  for (std::size_t at = tag & table.mask;; at = (at + 1) & table.mask) {
    Spot spot{.line = &table.lines[at], .passed_by = true};
    bool is_here = false;
    for (std::size_t n = 0; n < Line::kPlaces; ++n) {
      const std::uint64_t place = spot.line->places[n].load(std::memory_order_relaxed);
      if (place == kEmpty) spot.passed_by = false;
      if (place != PlaceOf(tag, number)) continue;
      spot.place = n;
      is_here = true;
    }
    if (is_here) return spot;
  }
}

void KeyIndex::Displace(std::uint64_t tag, std::uint32_t number) {
  const Spot spot = SpotOf(tag, number);
  spot.line->places[spot.place].store(spot.passed_by ? kErased : kEmpty, std::memory_order_release);
  if (spot.passed_by) ++erased_;
}

std::uint32_t KeyIndex::TakeRecord() {
  if (free_ != 0) {
    const std::uint32_t number = free_ - 1;
    free_ = LinkAt(number).next;
    return number;
  }
  if (records_ == capacity_max_) return Evict();
  if (chunks_[records_ / kChunkRecords].links == nullptr) AddChunk();
  return records_++;
}

void KeyIndex::AddChunk() {
  // The first one is often the only one, and little of it used.
  const PageKind kind = records_ == 0 ? PageKind::kPlain : PageKind::kHuge;
  Chunk chunk{.records = HugeArray<CachedRecord>(kChunkRecords, kind),
              .links = std::make_unique<Link[]>(kChunkRecords)};
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
