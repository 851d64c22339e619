#include "src/engine/key_index.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include <doctest/doctest.h>

#include "tests/engine/key_index_fixture.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

bool Has(const KeyIndex& index, std::uint64_t number) {
  KeyIndex::Found found;
  return FindIn(index, number, found);
}

// What is found under a number, facts and ids; std::nullopt: nothing.
std::optional<Entry> Look(const KeyIndex& index, std::uint64_t number) {
  KeyIndex::Found found;
  if (!FindIn(index, number, found)) return std::nullopt;
  const std::optional<Entry> entry = EntryOf(found.facts);
  REQUIRE(entry.has_value());
  KeyIds ids;
  REQUIRE(index.CopyIds(found, ids.key_id, ids.owner_id, ids.plan_id));
  const KeyIds whole = KeyOf(*entry).ids;
  CHECK(ids.key_id.str() == whole.key_id.str());
  CHECK(ids.owner_id.str() == whole.owner_id.str());
  CHECK(ids.plan_id.str() == whole.plan_id.str());
  return entry;
}

TEST_CASE("a capacity out of its bounds is refused") {
  for (const std::int64_t capacity :
       {std::int64_t{0}, std::int64_t{-1}, kKeyIndexCapacityMax + 1}) {
    CAPTURE(capacity);
    CHECK(KeyIndex::Create({.capacity_max = capacity}).status().code() ==
          absl::StatusCode::kInvalidArgument);
  }
  CHECK(KeyIndex::Create({.capacity_max = 1}).ok());
}

TEST_CASE("a locator is never equal to a digest, and neither to that of no secret") {
  Sha256Digest digest = {};
  const std::string locator = "0123456789ab";
  std::copy(locator.begin(), locator.end(), digest.begin());
  CHECK_FALSE(LocatorKey::Own(locator) == LocatorKey::Imported(digest));
  CHECK_FALSE(LocatorKey::Imported(Sha256Digest{}) == LocatorKey());
  CHECK(LocatorKey::Own(locator) == LocatorKey::Own(locator));
  Sha256Digest other = digest;
  other[14] = 1;
  CHECK_FALSE(LocatorKey::Imported(digest) == LocatorKey::Imported(other));

  const auto index = IndexOf(10);
  const CachedKey key = KeyOf({.number = 0});
  REQUIRE(index->Insert(LocatorKey::Own(locator), key, index->invalidations()));
  KeyIndex::Found found;
  CHECK(index->Find(TargetOf(*index, LocatorKey::Own(locator)), found));
  CHECK_FALSE(index->Find(TargetOf(*index, LocatorKey::Imported(digest)), found));
  CHECK_FALSE(index->Find(TargetOf(*index, LocatorKey()), found));
}

// Beside the index, what it must hold: the number of each entry and its edition.
using Model = std::unordered_map<std::uint64_t, std::uint64_t>;

void CheckAgainst(const Model& model, const KeyIndex& index, std::uint64_t numbers) {
  CHECK(index.size() == static_cast<std::int64_t>(model.size()));
  for (std::uint64_t number = 0; number < numbers; ++number) {
    const auto known = model.find(number);
    const std::optional<Entry> entry = Look(index, number);
    REQUIRE(entry.has_value() == (known != model.end()));
    if (entry) REQUIRE(*entry == Entry{number, known->second});
  }
}

TEST_CASE("an index below its capacity holds what a map would hold") {
  constexpr std::uint64_t kNumbers = 6000;
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const auto index = IndexOf(kNumbers);
  Model model;
  for (std::int64_t step = 0; step < testing::Scaled(400'000); ++step) {
    const std::uint64_t number = random() % kNumbers;
    const std::uint64_t what = random() % 100'000;
    if (what < 60'000) {
      model[number] = random() % 1000;
      REQUIRE(InsertInto(*index, {number, model[number]}));
    } else if (what < 99'990) {
      index->InvalidateKey(KeyIdOf(number));
      model.erase(number);
      model.erase(number ^ 1);
    } else if (what < 99'994) {
      index->InvalidateAll();
      model.clear();
    } else {
      CheckAgainst(model, *index, kNumbers);
    }
  }
  CheckAgainst(model, *index, kNumbers);
}

TEST_CASE("an entry of the same locator is replaced, under its new key id too") {
  const auto index = IndexOf(10);
  const LocatorKey locator = LocatorOf(2);
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 1}));
  REQUIRE(index->Insert(locator, KeyOf({.number = 8, .edition = 2}), index->invalidations()));
  CHECK(index->size() == 1);
  CHECK(Look(*index, 2) == Entry{.number = 8, .edition = 2});
  index->InvalidateKey(KeyIdOf(2));
  CHECK(index->size() == 1);
  index->InvalidateKey(KeyIdOf(8));
  CHECK(index->size() == 0);
  CHECK_FALSE(Has(*index, 2));
}

TEST_CASE("invalidating a key removes all of its secrets and no other key's") {
  const auto index = IndexOf(10);
  for (const std::uint64_t number : {4U, 5U, 6U}) REQUIRE(InsertInto(*index, {.number = number}));
  index->InvalidateKey(KeyIdOf(4));
  CHECK_FALSE(Has(*index, 4));
  CHECK_FALSE(Has(*index, 5));
  CHECK(Has(*index, 6));
}

TEST_CASE("a key that was read before an invalidation is not inserted after it") {
  const auto index = IndexOf(10);
  const std::uint64_t before = index->invalidations();
  index->InvalidateKey("another");
  CHECK_FALSE(index->Insert(LocatorOf(2), KeyOf({.number = 2}), before));
  const std::uint64_t between = index->invalidations();
  index->InvalidateAll();
  CHECK_FALSE(index->Insert(LocatorOf(2), KeyOf({.number = 2}), between));
  CHECK_FALSE(Has(*index, 2));
  CHECK(index->Insert(LocatorOf(2), KeyOf({.number = 2}), index->invalidations()));
}

TEST_CASE("a full index gives up an entry that was not found lately") {
  constexpr std::uint64_t kCapacity = 100;
  const auto index = IndexOf(kCapacity);
  for (std::uint64_t number = 0; number < kCapacity; ++number) {
    REQUIRE(InsertInto(*index, {.number = number}));
  }
  // Ten entries stay in use while a thousand others pass through.
  for (std::uint64_t number = kCapacity; number < 1100; ++number) {
    for (std::uint64_t used = 30; used < 40; ++used) REQUIRE(Has(*index, used));
    REQUIRE(InsertInto(*index, {.number = number}));
    REQUIRE(index->size() == kCapacity);
    REQUIRE(Has(*index, number));
  }
  std::uint64_t held = 0;
  for (std::uint64_t number = 0; number < 1100; ++number) {
    if (Has(*index, number)) ++held;
  }
  CHECK(held == kCapacity);
}

TEST_CASE("an eviction ends when all entries are in use") {
  for (const std::uint64_t capacity : {1U, 5U, 8U, 5000U}) {
    CAPTURE(capacity);
    const auto index = IndexOf(static_cast<std::int64_t>(capacity));
    for (std::uint64_t number = 0; number < 3 * capacity; ++number) {
      REQUIRE(InsertInto(*index, {.number = number}));
      REQUIRE(Has(*index, number));
    }
    CHECK(index->size() == static_cast<std::int64_t>(capacity));
  }
}

TEST_CASE("an eviction asks at most 1,024 entries whether they are in use") {
  const auto index = IndexOf(3000);
  for (std::uint64_t number = 0; number < 3000; ++number) {
    REQUIRE(InsertInto(*index, {.number = number}));
    REQUIRE(Has(*index, number));
  }
  REQUIRE(InsertInto(*index, {.number = 3000}));
  CHECK(Has(*index, 0));
  CHECK_FALSE(Has(*index, 1024));
}

TEST_CASE("slots are updated in place, and not in an entry that has changed since it was found") {
  const auto index = IndexOf(10);
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 1}));
  KeyIndex::Found found;
  REQUIRE(FindIn(*index, 2, found));
  const KeyFacts before = found.facts;
  REQUIRE(index->UpdateSlots(found, {3, 33}, {4, 44}));

  KeyIndex::Found again;
  REQUIRE(FindIn(*index, 2, again));
  CHECK(again.facts.key_slot == SlotRef{3, 33});
  CHECK(again.facts.quota_slot == SlotRef{4, 44});
  again.facts.key_slot = before.key_slot;
  again.facts.quota_slot = before.quota_slot;
  CHECK(EntryOf(again.facts) == Entry{.number = 2, .edition = 1});

  CHECK_FALSE(index->UpdateSlots(found, {5, 55}, {6, 66}));  // as it was before the first update
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 2}));
  CHECK_FALSE(index->UpdateSlots(again, {5, 55}, {6, 66}));
  CHECK(Look(*index, 2) == Entry{.number = 2, .edition = 2});
}

TEST_CASE("Lead says which slot UpdateSlots last gave an entry, also after the index has grown") {
  constexpr std::uint32_t kNumbers = 20'000;
  const auto index = IndexOf(kNumbers);
  for (std::uint32_t number = 0; number < kNumbers; ++number) {
    REQUIRE(InsertInto(*index, {.number = number}));
    KeyIndex::Found found;
    REQUIRE(FindIn(*index, number, found));
    REQUIRE(index->UpdateSlots(found, {1, 1}, {number + 7, 1}));
  }
  std::uint32_t led = 0;
  for (std::uint32_t number = 0; number < kNumbers; ++number) {
    KeyIndex::Target target = TargetOf(*index, LocatorOf(number));
    const std::uint32_t slot = index->Lead(target);
    KeyIndex::Found found;
    REQUIRE(index->Find(target, found));
    REQUIRE(EntryOf(found.facts).has_value() == false);  // its slots are not those of its number
    REQUIRE(found.facts.quota_slot.slot == number + 7);
    if (target.guess == 0) continue;  // it stands in another line than its own
    ++led;
    CHECK(slot == number + 7);
  }
  CHECK(led > kNumbers * 9 / 10);
}

TEST_CASE("what Lead has seen to does not matter once the entry has gone, moved or changed") {
  const auto index = IndexOf(10);
  KeyIndex::Found found;
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 1}));
  KeyIndex::Target target = TargetOf(*index, LocatorOf(2));
  index->Lead(target);
  REQUIRE(target.guess != 0);
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 2}));
  REQUIRE(index->Find(target, found));
  CHECK(EntryOf(found.facts) == Entry{.number = 2, .edition = 2});

  index->InvalidateKey(KeyIdOf(2));
  CHECK_FALSE(index->Find(target, found));
  REQUIRE(InsertInto(*index, {.number = 4}));  // into the record that was freed
  CHECK_FALSE(index->Find(target, found));
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 3}));  // into another
  REQUIRE(index->Find(target, found));
  CHECK(EntryOf(found.facts) == Entry{.number = 2, .edition = 3});
  index->InvalidateAll();
  CHECK_FALSE(index->Find(target, found));
}

TEST_CASE("ids are not copied from an entry that has changed since it was found") {
  const auto index = IndexOf(10);
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 1}));
  KeyIndex::Found found;
  REQUIRE(FindIn(*index, 2, found));
  REQUIRE(InsertInto(*index, {.number = 2, .edition = 2}));
  KeyIds ids;
  CHECK_FALSE(index->CopyIds(found, ids.key_id, ids.owner_id, ids.plan_id));
}

TEST_CASE("locators whose hashes are equal are told apart") {
  constexpr std::uint64_t kNumbers = 400'000;  // 18 pairs of one 32-bit tag are to be expected
  const auto index = IndexOf(kNumbers);
  std::unordered_map<std::uint64_t, std::uint64_t> first_of_tag;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs;
  for (std::uint64_t number = 0; number < kNumbers; ++number) {
    const auto [at, is_new] = first_of_tag.emplace(TargetOf(*index, LocatorOf(number)).tag, number);
    if (!is_new) pairs.emplace_back(at->second, number);
  }
  REQUIRE_FALSE(pairs.empty());
  for (const auto& [a, b] : pairs) {
    REQUIRE(InsertInto(*index, {.number = a}));
    CHECK_FALSE(Has(*index, b));
    REQUIRE(InsertInto(*index, {.number = b}));
    CHECK(Look(*index, a) == Entry{.number = a});
    CHECK(Look(*index, b) == Entry{.number = b});
    index->InvalidateKey(KeyIdOf(a));
    CHECK_FALSE(Has(*index, a));
    CHECK(Look(*index, b) == Entry{.number = b});
  }
}

}  // namespace
}  // namespace throttl::internal
