// Entries for the tests of the key index: everything in one follows from a number.
//
// Thread safety: pure functions.
//
//   index.Insert(LocatorOf(7), KeyOf({.number = 7, .edition = 2}), index.invalidations());
#ifndef THROTTL_TESTS_ENGINE_KEY_INDEX_FIXTURE_H_
#define THROTTL_TESTS_ENGINE_KEY_INDEX_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "src/engine/cached_key.h"
#include "src/engine/key_index.h"

namespace throttl::internal {

// Numbers are below 2^40. Odd ones are imported secrets.
inline LocatorKey LocatorOf(std::uint64_t number) {
  if (number % 2 == 0) {
    std::string text = std::to_string(number);
    return LocatorKey::Own(std::string(12 - text.size(), '0') + text);
  }
  Sha256Digest digest = {};
  for (std::size_t i = 0; i < 8; ++i) digest[i] = static_cast<std::uint8_t>(number >> (8 * i));
  return LocatorKey::Imported(digest);
}

// Two secrets a key.
inline std::string KeyIdOf(std::uint64_t number) { return absl::StrCat("key_", number / 2); }

struct Entry {
  std::uint64_t number = 0;
  std::uint64_t edition = 0;  // below 2^20: grows when the entry is replaced

  friend bool operator==(const Entry&, const Entry&) = default;
};

inline CachedKey KeyOf(const Entry& entry) {
  const std::uint64_t mixed = entry.number << 20 | entry.edition;
  const std::int64_t n = static_cast<std::int64_t>(mixed);
  CachedKey key;
  // The longest possible, so that a mixture of two would show.
  key.ids.key_id = std::string_view(KeyIdOf(entry.number));
  key.ids.owner_id = std::string_view(absl::StrCat(mixed, std::string(25, 'o'), mixed));
  key.ids.plan_id = std::string_view(absl::StrCat("plan_", mixed));
  KeyFacts& facts = key.facts;
  facts.secret_tag = {mixed, ~mixed};
  facts.secret_expires_at_ms = n + 1;
  facts.key_expires_at_ms = n + 2;
  facts.limit = n + 3;
  facts.limit_version = -n;
  facts.key_slot = {static_cast<std::uint32_t>(mixed + 5), mixed + 6};
  facts.quota_slot = {static_cast<std::uint32_t>(mixed + 7), mixed + 8};
  facts.rules = mixed + 9;
  for (std::size_t i = 0; i < facts.alert_percents.size(); ++i) {
    facts.alert_percents[i] = static_cast<std::int16_t>(mixed + i);
  }
  facts.flags = static_cast<std::uint8_t>(mixed % 128);
  facts.period = static_cast<Period>(1 + mixed % 6);
  return key;
}

// The entry that these facts follow from, all of them; std::nullopt: from no single one.
inline std::optional<Entry> EntryOf(const KeyFacts& facts) {
  const std::uint64_t mixed = facts.secret_tag[0];
  const Entry entry = {mixed >> 20, mixed & ((std::uint64_t{1} << 20) - 1)};
  const KeyFacts whole = KeyOf(entry).facts;
  const bool same = facts.secret_tag == whole.secret_tag &&
                    facts.secret_expires_at_ms == whole.secret_expires_at_ms &&
                    facts.key_expires_at_ms == whole.key_expires_at_ms &&
                    facts.limit == whole.limit && facts.limit_version == whole.limit_version &&
                    facts.key_slot == whole.key_slot && facts.quota_slot == whole.quota_slot &&
                    facts.rules == whole.rules && facts.alert_percents == whole.alert_percents &&
                    facts.flags == whole.flags && facts.period == whole.period;
  return same ? std::optional(entry) : std::nullopt;
}

inline std::unique_ptr<KeyIndex> IndexOf(std::int64_t capacity_max) {
  auto index = KeyIndex::Create({.capacity_max = capacity_max, .seed = 0x5eed});
  REQUIRE(index.ok());
  return *std::move(index);
}

inline bool InsertInto(KeyIndex& index, const Entry& entry) {
  return index.Insert(LocatorOf(entry.number), KeyOf(entry), index.invalidations());
}

inline KeyIndex::Target TargetOf(const KeyIndex& index, const LocatorKey& locator) {
  KeyIndex::Target target;
  index.Aim(locator, target);
  return target;
}

inline bool FindIn(const KeyIndex& index, std::uint64_t number, KeyIndex::Found& found) {
  return index.Find(TargetOf(index, LocatorOf(number)), found);
}

}  // namespace throttl::internal

#endif  // THROTTL_TESTS_ENGINE_KEY_INDEX_FIXTURE_H_
