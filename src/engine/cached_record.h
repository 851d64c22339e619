// A CachedRecord holds one CachedKey in four cache lines, so that readers without a lock see either
// all of a value or know that they did not.
//
// It is a seqlock whose words are all atomic. Reads acquire and writes release, in place of fences:
// on x86-64 both are plain moves, and ThreadSanitizer knows them (Boehm, "Can seqlocks get along
// with programming language memory models?", 2012). A reader that meets a writer waits for it, some
// tens of nanoseconds.
//
// Thread safety: the const methods from any thread; the others by one thread at a time.
//
//   KeyFacts facts;
//   std::uint64_t version;
//   if (record.Read(locator, facts, version)) record.CopyIds(version, key_id, owner_id, plan_id);
#ifndef THROTTL_SRC_ENGINE_CACHED_RECORD_H_
#define THROTTL_SRC_ENGINE_CACHED_RECORD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/base/attributes.h"

#include "throttl/decision.h"

#include "src/engine/cached_key.h"

namespace throttl::internal {

class alignas(64) CachedRecord {
 public:
  // Asks the processor for all lines, so that they come at the same time.
  void Prefetch() const {
    for (std::size_t word = 0; word < kWords; word += kWordsInLine) {
      __builtin_prefetch(&words_[word]);
    }
  }

  // Fills `facts` and their `version` if this record is that of `locator`; otherwise both are
  // unspecified. Marks the record as used.
  bool Read(const LocatorKey& locator, KeyFacts& facts, std::uint64_t& version) const;

  // Copies the ids that belong to the facts of that version, each with the bytes after its NUL;
  // false, with the ids unspecified, if the record has changed since.
  bool CopyIds(std::uint64_t version, FixedString<kKeyIdBytesMax>& key_id,
               FixedString<kOwnerIdBytesMax>& owner_id,
               FixedString<kPlanIdBytesMax>& plan_id) const;

  void Write(const LocatorKey& locator, const CachedKey& key);
  // Changes nothing and returns false if the record has changed since that version.
  bool WriteSlots(std::uint64_t version, const SlotRef& key_slot, const SlotRef& quota_slot);
  // Makes this the record of no locator.
  void Clear();

  // For the writer, who sees no other.
  LocatorKey locator() const;
  // Whether it was used since the last call.
  bool TakeUsed();

 private:
  static constexpr std::size_t kWordsInLine = 8;
  // The head: 32 bits of sequence, odd while a writer is inside; 15 bits of the quota's soft
  // percent; the mark of use; the period; the flags. These are there because everything else fills
  // 31 words.
  static constexpr int kSequenceShift = 32;
  static constexpr int kPeriodShift = 8;
  static constexpr int kSoftShift = 17;
  static constexpr std::uint64_t kUsed = std::uint64_t{1} << 16;
  static constexpr std::uint64_t kWriting = std::uint64_t{1} << kSequenceShift;
  static constexpr std::size_t kHead = 0;
  static constexpr std::size_t kLocator = 1;
  static constexpr std::size_t kTag = 3;
  static constexpr std::size_t kSecretExpires = 5;
  static constexpr std::size_t kKeyExpires = 6;
  static constexpr std::size_t kLimit = 7;
  static constexpr std::size_t kLimitVersion = 8;
  static constexpr std::size_t kSlots = 9;  // the key's in the low half, the quota's in the high
  static constexpr std::size_t kKeyClaim = 10;
  static constexpr std::size_t kQuotaClaim = 11;
  static constexpr std::size_t kRules = 12;
  static constexpr std::size_t kAlertPercents = 13;
  static constexpr std::size_t kKeyId = 15;
  static constexpr std::size_t kOwnerId = 20;
  static constexpr std::size_t kPlanId = 28;
  static constexpr std::size_t kWords = 32;

  std::uint64_t Load(std::size_t word) const {
    return words_[word].load(std::memory_order_acquire);
  }
  void Store(std::size_t word, std::uint64_t value) {
    words_[word].store(value, std::memory_order_release);
  }
  std::int64_t LoadSigned(std::size_t word) const { return static_cast<std::int64_t>(Load(word)); }
  void StoreSigned(std::size_t word, std::int64_t value) {
    Store(word, static_cast<std::uint64_t>(value));
  }

  // Objects whose bytes fill whole words.
  template <typename T>
  void LoadBytes(std::size_t word, T& object) const {
    static_assert(sizeof(T) % sizeof(std::uint64_t) == 0);
    LoadWords(word, reinterpret_cast<char*>(&object),
              std::make_index_sequence<sizeof(T) / sizeof(std::uint64_t)>());
  }
  // Without a loop, whose counting takes longer than the copying.
  template <std::size_t... kAt>
  void LoadWords(std::size_t word, char* out, std::index_sequence<kAt...>) const {
    (..., LoadWord(word + kAt, out + kAt * sizeof(std::uint64_t)));
  }
  void LoadWord(std::size_t word, char* out) const {
    const std::uint64_t value = Load(word);
    std::memcpy(out, &value, sizeof(value));
  }
  template <typename T>
  void StoreBytes(std::size_t word, const T& object) {
    static_assert(sizeof(T) % sizeof(std::uint64_t) == 0);
    for (std::size_t at = 0; at < sizeof(T); at += sizeof(std::uint64_t)) {
      std::uint64_t value;
      std::memcpy(&value, reinterpret_cast<const char*>(&object) + at, sizeof(value));
      Store(word + at / sizeof(std::uint64_t), value);
    }
  }

  // The head without its mark of use, as soon as no writer is inside.
  std::uint64_t LoadQuietHead() const {
    const std::uint64_t head = Load(kHead);
    return (head & kWriting) == 0 ? head & ~kUsed : AwaitQuietHead();
  }
  std::uint64_t AwaitQuietHead() const;
  bool IsStill(std::uint64_t version) const { return (Load(kHead) & ~kUsed) == version; }
  void LoadFacts(std::uint64_t version, KeyFacts& facts) const;
  void StoreSlots(const SlotRef& key_slot, const SlotRef& quota_slot);
  // Begin returns what End wants.
  std::uint64_t BeginWriting();
  void EndWriting(std::uint64_t begun, std::uint64_t rest);

  // Mutable because readers leave their mark.
  mutable std::array<std::atomic<std::uint64_t>, kWords> words_ = {};
};

static_assert(sizeof(CachedRecord) == 256);

ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool CachedRecord::Read(const LocatorKey& locator,
                                                            KeyFacts& facts,
                                                            std::uint64_t& version) const {
  for (;;) {
    version = LoadQuietHead();
    // A record that becomes another's, or this one's, was not this one's all the while.
    if (Load(kLocator) != locator.words()[0] || Load(kLocator + 1) != locator.words()[1]) {
      return false;
    }
    LoadFacts(version, facts);
    std::uint64_t head = Load(kHead);
    if ((head & ~kUsed) != version) continue;
    // The mark shares a word with the sequence, which a plain store could set back. Most readers
    // find it there, and one that is lost costs nothing but a chance to stay.
    if (head == version) {
      words_[kHead].compare_exchange_strong(head, head | kUsed, std::memory_order_relaxed);
    }
    return true;
  }
}

inline bool CachedRecord::CopyIds(std::uint64_t version, FixedString<kKeyIdBytesMax>& key_id,
                                  FixedString<kOwnerIdBytesMax>& owner_id,
                                  FixedString<kPlanIdBytesMax>& plan_id) const {
  LoadBytes(kKeyId, key_id);
  LoadBytes(kOwnerId, owner_id);
  LoadBytes(kPlanId, plan_id);
  return IsStill(version);
}

inline void CachedRecord::LoadFacts(std::uint64_t version, KeyFacts& facts) const {
  LoadBytes(kTag, facts.secret_tag);
  facts.secret_expires_at_ms = LoadSigned(kSecretExpires);
  facts.key_expires_at_ms = LoadSigned(kKeyExpires);
  facts.limit = LoadSigned(kLimit);
  facts.limit_version = LoadSigned(kLimitVersion);
  const std::uint64_t slots = Load(kSlots);
  facts.key_slot = {static_cast<std::uint32_t>(slots), Load(kKeyClaim)};
  facts.quota_slot = {static_cast<std::uint32_t>(slots >> 32), Load(kQuotaClaim)};
  facts.rules = Load(kRules);
  LoadBytes(kAlertPercents, facts.alert_percents);
  facts.flags = static_cast<std::uint8_t>(version);
  facts.period = static_cast<Period>(static_cast<std::uint8_t>(version >> kPeriodShift));
  facts.soft_percent = static_cast<std::int16_t>((version >> kSoftShift) & 0x7FFF);
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_CACHED_RECORD_H_
