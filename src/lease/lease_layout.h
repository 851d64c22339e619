// The layout of a lease table in memory: what the processes of a machine share.
//
// Everything is a 64-bit word that is read and written atomically, in the order of bytes of the
// machine, at the offsets that this header gives; another kLeaseLayoutVersion for any change. The
// file is sparse: it is as long as the table may grow, and what the table uses of it is allocated.
//
// Thread safety: words are atomic; LeaseTable says what guards which.
//
//   header->generation.load(std::memory_order_acquire);
#ifndef THROTTL_SRC_LEASE_LEASE_LAYOUT_H_
#define THROTTL_SRC_LEASE_LEASE_LAYOUT_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "src/lease/slot_state.h"

namespace throttl::internal {

inline constexpr std::uint64_t kLeaseMagic = 0x317361656C726874;  // "thrleas1"
inline constexpr std::uint64_t kLeaseLayoutVersion = 4;

using Word = std::atomic<std::uint64_t>;
using SignedWord = std::atomic<std::int64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8 && sizeof(SignedWord) == 8);

// A value of 64-bit words, kept as words that may be read while they are written: the reader then
// finds the slot's epoch changed, and forgets what it read.
template <typename Value>
class SharedValue {
 public:
  Value Load() const {
    std::array<std::uint64_t, kWords> words;
    for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
    return std::bit_cast<Value>(words);
  }
  void Store(const Value& value) {
    const auto words = std::bit_cast<std::array<std::uint64_t, kWords>>(value);
    for (std::size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
  }

 private:
  static_assert(sizeof(Value) % 8 == 0);
  static constexpr std::size_t kWords = sizeof(Value) / 8;
  std::array<Word, kWords> words_;
};

// A text of less than kBytes bytes without NUL, with zeros after it.
template <std::size_t kBytes>
struct PlainText {
  std::array<char, kBytes> bytes = {};

  static PlainText Of(std::string_view text) {
    PlainText plain;
    std::memcpy(plain.bytes.data(), text.data(), std::min(text.size(), kBytes - 1));
    return plain;
  }
  std::string_view view() const { return {bytes.data(), strnlen(bytes.data(), kBytes)}; }
  friend bool operator==(const PlainText&, const PlainText&) = default;
};

inline constexpr std::size_t kSubjectBytesMax = 111;
inline constexpr std::size_t kOwnerBytesMax = 63;

// Whom a slot counts.
struct SlotIdentity {
  PlainText<kSubjectBytesMax + 1> subject = {};
  PlainText<kOwnerBytesMax + 1> owner_id = {};
};

// What every request touches: one cache line. All but `consumed`, `last_used_ms` and `settled`
// change only while the epoch is odd.
struct alignas(64) HotSlot {
  Word consumed;              // {16-bit epoch, 48-bit units}; an odd epoch is closed
  SignedWord granted;         // units that may have been spent when the next is refused
  SignedWord fresh_until_ms;  // then the period or the hour ends
  Word claim;                 // number of this use of the slot, never used again; 0: free
  SignedWord base;            // units of the period that others used
  Word period;                // a PackedPeriod
  SignedWord last_used_ms;    // of the last request that was allowed; 0: none yet
  Word settled;               // `consumed` as the store has it; kUnsettled: settle in any case
};
static_assert(sizeof(HotSlot) == 64);

struct alignas(64) ColdSlot {
  SignedWord surplus;  // as in SlotTotals
  std::array<SignedWord, kRefusalKinds> refused;
  Word quota_turn;  // as in SlotTotals
  SharedValue<SlotIdentity> identity;
  SharedValue<SlotState> state;
};
static_assert(sizeof(ColdSlot) == 512);

// The top bit of RateEntry::word: the entry is being claimed, or the table is growing.
inline constexpr std::uint64_t kRateFrozen = std::uint64_t{1} << 63;

// The word of one rate limit of one key. All but `word` change only while it is frozen.
struct alignas(32) RateEntry {
  Word word;
  Word tag;              // of the key and limit; 0: nobody's
  SignedWord window_ns;  // as RateClaim says it
  SignedWord since_ns;   // when the entry was claimed
};
static_assert(sizeof(RateEntry) == 32);

// Of the rate table, under the table lock; `size` is read by every request with a rate limit.
struct RateWords {
  Word size;               // entries that are in use; 0: none yet
  Word growing;            // 1: entries are frozen for a growth, and thawed if that ends here
  SignedWord freed_to_ns;  // when all entries that were freed had come to say nothing
};

// A change of a slot, written before it is made, so that who finds it half made can finish it.
struct SlotIntent {
  std::uint64_t slot = 0;
  std::uint64_t epoch = 0;         // before the change: even
  std::uint64_t claim = 0;         // afterwards
  std::uint64_t begins = 0;        // 1: another subject's from now on
  std::uint64_t reuses_slot = 0;   // 1: it was some subject's before
  std::uint64_t reuses_after = 0;  // of the header
  std::uint64_t old_hash = 0;      // of the subject before
  SlotState old_state = {};
  SlotTotals totals = {};  // all but the units, which are in `consumed`
  SlotAim aim = {};
  SlotIdentity identity = {};  // when it begins
};

inline constexpr std::size_t kChangesKept = 1024;
inline constexpr std::size_t kReusesKept = 1024;

// In groups of lines by what guards them, which costs padding.
struct LeaseHeader {  // NOLINT(clang-analyzer-optin.performance.Padding)
  Word magic;
  Word layout_version;
  SharedValue<PlainText<64>> store_id;
  SharedValue<PlainText<64>> boot_id;
  Word holder;
  Word seed;  // of the index
  Word slots_max;
  Word rates_max;  // entries that the rate table may have
  Word ready;      // 1: everything before it is written

  // Under the table lock.
  alignas(64) Word slots_usable;  // allocated
  Word slots_begun;               // slots that were ever used
  Word index_size;                // entries, a power of two; 0: to be made
  Word index_changing;            // 1: the index is being written, and made anew if that ends here
  Word next_claim;
  Word reuses;           // how often a slot went to another subject
  SignedWord hour_min;   // of slots that begin: the newest hour in which a slot was reused
  Word reuse_hand;       // where the search for one goes on
  SignedWord newest_ms;  // no period that began later was ever counted; kNever: not known
  Word intent_valid;
  SharedValue<SlotIntent> intent;
  // By the hash of a subject, modulo kReusesKept: `reuses` when one of them last lost its slot.
  std::array<Word, kReusesKept> reused;
  alignas(64) RateWords rates;

  // Under the commit lock.
  alignas(64) Word changing;  // 1: a change of keys or plans is under way
  Word settle_seq;
  // Read by every request, written by changes only.
  alignas(64) Word generation;
  // The key that generation g changed, at g % kChangesKept; empty: perhaps everything.
  alignas(64) std::array<SharedValue<PlainText<40>>, kChangesKept> changes;
};

// Offsets in the file.
inline constexpr std::size_t kHeaderBytes = 57344;
static_assert(sizeof(LeaseHeader) <= kHeaderBytes);

inline constexpr std::uint64_t kEpochShift = 48;
inline constexpr std::uint64_t kUnitsMask = (std::uint64_t{1} << kEpochShift) - 1;
// No slot has this in `consumed` when it is open.
inline constexpr std::uint64_t kUnsettled = ~std::uint64_t{0};

inline std::uint64_t EpochOf(std::uint64_t consumed) { return consumed >> kEpochShift; }
inline bool IsClosed(std::uint64_t consumed) { return (EpochOf(consumed) & 1) != 0; }
inline std::int64_t UnitsOf(std::uint64_t consumed) {
  return static_cast<std::int64_t>(consumed & kUnitsMask);
}
inline std::uint64_t ConsumedOf(std::uint64_t epoch, std::int64_t units) {
  return (epoch << kEpochShift) | static_cast<std::uint64_t>(units);
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_LEASE_LAYOUT_H_
