// A CachedKey is what Validate must know of a key, for one of its secrets; a LocatorKey is what a
// request's secret finds it by.
//
// Thread safety: values.
//
//   CachedKey key = {.ids = {.key_id = "key_1", .owner_id = "acme", .plan_id = "free"}};
//   index.Insert(LocatorKey::Own(parts.locator), key, as_of);
#ifndef THROTTL_SRC_ENGINE_CACHED_KEY_H_
#define THROTTL_SRC_ENGINE_CACHED_KEY_H_

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "throttl/decision.h"
#include "throttl/fixed_string.h"
#include "throttl/plan.h"
#include "throttl/secret.h"

#include "src/lease/slot_ref.h"
#include "src/lease/slot_state.h"

namespace throttl::internal {

// Bits of KeyFacts::flags.
enum KeyFlag : std::uint8_t {
  kKeyInactive = 1 << 0,  // revoked or disabled
  kSecretRetiring = 1 << 1,
  kHasAddresses = 1 << 2,
  kHasScopes = 1 << 3,
  kHasRateLimits = 1 << 4,
  kQuotaOfOwner = 1 << 5,  // shared by all keys of the owner on the plan
  kQuotaHasLimit = 1 << 6,
};

struct KeyIds {
  FixedString<kKeyIdBytesMax> key_id = {};
  FixedString<kOwnerIdBytesMax> owner_id = {};
  FixedString<kPlanIdBytesMax> plan_id = {};
};

// Not initialised by itself, but as a part of a CachedKey: then it is all zeros, and has expired.
struct KeyFacts {
  std::array<std::uint64_t, 2> secret_tag;  // SipHash-128 of the whole secret
  std::int64_t secret_expires_at_ms;        // kNever: does not
  std::int64_t key_expires_at_ms;
  std::int64_t limit;  // units a period; without meaning unless kQuotaHasLimit
  std::int64_t limit_version;
  SlotRef key_slot;     // of the key itself
  SlotRef quota_slot;   // of what the quota counts
  std::uint64_t rules;  // the id of its KeyRule; 0: it has none
  // Ascending, 1..1000; zeroes after the last.
  std::array<std::int16_t, kAlertPercentsMax> alert_percents;
  std::int16_t soft_percent;  // as in Quota
  std::uint8_t flags;         // of KeyFlag
  Period period;

  bool Has(KeyFlag flag) const { return (flags & flag) != 0; }
};

struct CachedKey {
  KeyIds ids = {};
  KeyFacts facts = {};
};

static_assert(std::is_trivially_copyable_v<CachedKey>);
static_assert(std::endian::native == std::endian::little, "the highest byte of a word is its last");

// 16 bytes, the last of which tells the two kinds apart, so that no locator equals a digest.
class LocatorKey {
 public:
  LocatorKey() = default;  // equal to that of no secret

  // REQUIRES: 12 characters, as in the secrets that Throttl issues.
  static LocatorKey Own(std::string_view locator) {
    assert(locator.size() == kOwnBytes);
    return LocatorKey(locator.data(), kOwnBytes, kOwnKind);
  }
  // The first 120 bits of the SHA-256 of a secret that was imported. Two secrets that share them
  // are still told apart by their tags.
  static LocatorKey Imported(const Sha256Digest& digest) {
    return LocatorKey(digest.data(), kImportedBytes, kImportedKind);
  }

  const std::array<std::uint64_t, 2>& words() const { return words_; }
  std::string_view bytes() const& {
    return {reinterpret_cast<const char*>(words_.data()), sizeof(words_)};
  }
  std::string_view bytes() && = delete;

  friend bool operator==(const LocatorKey&, const LocatorKey&) = default;

 private:
  friend class CachedRecord;
  static constexpr std::size_t kOwnBytes = 12;
  static constexpr std::size_t kImportedBytes = 15;
  static constexpr std::uint64_t kOwnKind = 'o';
  static constexpr std::uint64_t kImportedKind = 'i';

  explicit LocatorKey(const std::array<std::uint64_t, 2>& words) : words_(words) {}
  // Each word is put together by itself: to read back as words what was just written as bytes, the
  // processor waits for the writes.
  LocatorKey(const void* bytes, std::size_t size, std::uint64_t kind) {
    constexpr std::size_t kWord = sizeof(std::uint64_t);
    std::memcpy(&words_[0], bytes, kWord);
    std::memcpy(&words_[1], static_cast<const char*>(bytes) + kWord, size - kWord);
    words_[1] |= kind << 56;
  }

  std::array<std::uint64_t, 2> words_ = {};
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_CACHED_KEY_H_
