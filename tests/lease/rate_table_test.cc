// What rate_table.h promises to one thread, of a table in a file and of one in private memory.
#include "src/lease/rate_table.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/faults/private_mount.h"
#include "tests/lease/rate_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::FoundRate;
using internal::kRateFrozen;
using internal::LeaseTable;
using internal::RateClaim;
using internal::RateClaimed;
using internal::RateEntry;
using internal::RateLookup;
using internal::RateTable;

constexpr std::uint64_t kEntriesMin = RateTable::kEntriesMin;
constexpr Gcra kLimit{.interval_ns = kMsNs, .burst = 4};

std::unique_ptr<LeaseTable> MustOpen(const std::string& path = "", std::int64_t rates_max = 1024) {
  auto table = OpenRates(path, rates_max);
  REQUIRE_MESSAGE(table.ok(), table.status().ToString());
  return *std::move(table);
}

RateClaimed MustClaim(LeaseTable& table, const RateClaim& claim) {
  const auto claimed = table.ClaimRate(claim, WordFreeAt);
  REQUIRE_MESSAGE(claimed.ok(), claimed.status().ToString());
  return *claimed;
}

RateClaimed MustClaim(LeaseTable& table, std::uint64_t tag, std::int64_t now_ns = kStartNs) {
  return MustClaim(table, ClaimOf(tag, kLimit, now_ns));
}

// The word of a tag that must be there; 0: it is not.
std::uint64_t WordOf(const LeaseTable& table, std::uint64_t tag) {
  const FoundRate found = table.rates().Find(tag);
  return found.state == RateLookup::kFound ? found.word : 0;
}

absl::Status ClaimStatus(LeaseTable& table, std::uint64_t tag, std::int64_t now_ns = kStartNs) {
  return table.ClaimRate(ClaimOf(tag, kLimit, now_ns), WordFreeAt).status();
}

// Ends as `child` says, with 0 for true.
bool HoldsInChild(const std::function<bool()>& child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child() ? 0 : 1);
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_CASE("kAbsent: nothing is known of the tag; kFound: it is there with its word and time") {
  const TempDir directory;
  for (const std::string& path : {directory.File("t-lease"), std::string()}) {
    const auto table = MustOpen(path);
    const FoundRate none = table->rates().Find(7);
    CHECK(none.state == RateLookup::kAbsent);
    CHECK(none.entry == nullptr);
    CHECK(table->rates().Lead(7) == nullptr);
    CHECK(MustClaim(*table, 7) == RateClaimed::kClaimed);
    const FoundRate found = table->rates().Find(7);
    CHECK(found.state == RateLookup::kFound);
    CHECK(found.word == static_cast<std::uint64_t>(kStartNs + kMsNs));
    CHECK(found.since_ns == kStartNs);
    CHECK(found.entry->window_ns.load() == 4 * kMsNs);
    CHECK(table->rates().Find(8).state == RateLookup::kAbsent);
    CHECK(table->rates().Lead(7) == found.entry);
  }
}

TEST_CASE("FindLed finds what Find does, wherever Lead pointed to, also in an outgrown table") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen("", 2048);
  MustClaim(*table, 100);
  std::vector<RateEntry*> leads;
  for (const std::uint64_t tag : tags) leads.push_back(table->rates().Lead(tag));
  const auto agree = [&] {
    for (const std::uint64_t tag : tags) {
      const FoundRate found = table->rates().Find(tag);
      for (RateEntry* const lead : leads) {
        const FoundRate led = table->rates().FindLed(tag, lead);
        if (led.state != found.state || led.entry != found.entry || led.word != found.word) {
          return false;
        }
      }
    }
    return true;
  };
  CHECK(agree());
  for (const std::uint64_t tag : tags) {
    MustClaim(*table, tag);
    CHECK(agree());
  }
  // It has grown.
  CHECK(table->rates().Find(tags[0]).entry != leads[0]);
  leads[0] = nullptr;
  CHECK(agree());
}

TEST_CASE("RateKeyOf: ids that differ in any byte of theirs differ in it") {
  const auto table = MustOpen();
  std::set<std::uint64_t> keys;
  std::int64_t ids = 0;
  for (std::size_t size = 0; size <= 39; ++size) {
    std::string id(size, 'a');
    keys.insert(table->RateKeyOf(std::string_view(id)));
    ++ids;
    for (char& byte : id) {
      byte = 'b';
      keys.insert(table->RateKeyOf(std::string_view(id)));
      byte = 'a';
      ++ids;
    }
  }
  CHECK(static_cast<std::int64_t>(keys.size()) == ids);
}

TEST_CASE("kThere: somebody else has claimed the tag, and a tag has one entry") {
  const auto table = MustOpen();
  for (const std::uint64_t tag : TagsOfOneBucket(kEntriesMin, 8)) {
    CHECK(MustClaim(*table, tag) == RateClaimed::kClaimed);
    const std::uint64_t word = WordOf(*table, tag);
    CHECK(MustClaim(*table, tag) == RateClaimed::kThere);
    // Also when its word says nothing any more, and when the clock lags.
    CHECK(MustClaim(*table, tag, kStartNs + kMsNs * 9) == RateClaimed::kThere);
    CHECK(MustClaim(*table, tag, kStartNs - kMsNs * 9) == RateClaimed::kThere);
    CHECK(WordOf(*table, tag) == word);
  }
}

TEST_CASE("kFrozen: somebody is claiming it; Claim frees what one that was killed has left") {
  const auto table = MustOpen();
  MustClaim(*table, 7);
  FoundRate found = table->rates().Find(7);
  found.entry->word.fetch_or(kRateFrozen);
  CHECK(table->rates().Find(7).state == RateLookup::kFrozen);
  CHECK_FALSE(RateTable::Swap(found, found.word + 1));
  CHECK_FALSE(RateTable::LookAgain(found));
  // A neighbour's claim will do.
  CHECK(MustClaim(*table, 7 + kEntriesMin / 4) == RateClaimed::kClaimed);
  CHECK(table->rates().Find(7).state == RateLookup::kAbsent);
  CHECK(MustClaim(*table, 7) == RateClaimed::kClaimed);
  CHECK(WordOf(*table, 7) == static_cast<std::uint64_t>(kStartNs + kMsNs));
}

TEST_CASE("claimers that were killed in all eight places leave all eight to be claimed") {
  const auto table = MustOpen();
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 17);
  for (std::size_t i = 0; i < 8; ++i) MustClaim(*table, tags[i]);
  for (std::size_t i = 0; i < 8; ++i) {
    table->rates().Find(tags[i]).entry->word.fetch_or(kRateFrozen);
  }
  for (std::size_t i = 8; i < 16; ++i) {
    REQUIRE(MustClaim(*table, tags[i]) == RateClaimed::kClaimed);
    for (std::size_t j = 8; j <= i; ++j) CHECK(WordOf(*table, tags[j]) != 0);
  }
  CHECK(absl::IsResourceExhausted(ClaimStatus(*table, tags[16])));
}

TEST_CASE("ResourceExhausted: all places of the tag are taken and the table may not grow") {
  for (const bool on_file : {false, true}) {
    const TempDir directory;
    const auto table = MustOpen(on_file ? directory.File("t-lease") : "");
    const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
    for (std::size_t i = 0; i < 8; ++i)
      REQUIRE(MustClaim(*table, tags[i]) == RateClaimed::kClaimed);
    const std::int64_t last_ns = kStartNs + kMsNs;  // to which all words say something
    for (const std::int64_t now_ns : {kStartNs, last_ns - 1, last_ns}) {
      const absl::Status status = ClaimStatus(*table, tags[8], now_ns);
      CHECK(absl::IsResourceExhausted(status));
      CHECK(absl::StrContains(status.message(), "1024"));
      for (std::size_t i = 0; i < 8; ++i) {
        CHECK(WordOf(*table, tags[i]) == static_cast<std::uint64_t>(last_ns));
      }
      CHECK(table->rates().Find(tags[8]).state == RateLookup::kAbsent);
    }
    // Others are claimed as before, and swapped.
    CHECK(MustClaim(*table, 77) == RateClaimed::kClaimed);
    const FoundRate found = table->rates().Find(tags[3]);
    CHECK(RateTable::Swap(found, found.word + 1));
    // A word says nothing from then on, and its entry is free for another tag.
    CHECK(MustClaim(*table, tags[8], last_ns + 1) == RateClaimed::kClaimed);
    std::int64_t left = 0;
    for (std::size_t i = 0; i < 8; ++i) left += WordOf(*table, tags[i]) != 0 ? 1 : 0;
    CHECK(left == 7);
    CHECK(WordOf(*table, tags[3]) == found.word + 1);
  }
}

TEST_CASE("an entry that is not free is never taken away") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const auto table = MustOpen("", 4096);
  const std::int64_t rounds = 10'000 + Scaled(40'000);
  // Few buckets, so that their places are full most of the time.
  std::map<std::uint64_t, std::uint64_t> words;  // that say something
  std::int64_t now_ns = kStartNs;
  std::int64_t exhausted = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    now_ns += static_cast<std::int64_t>(random() % 100'000);
    std::erase_if(
        words, [&](const auto& entry) { return static_cast<std::int64_t>(entry.second) < now_ns; });
    const std::uint64_t tag =
        (random() % 4 << 62) | (random() % 4 << 32) | (random() % 8 * 4096) | (random() % 2 + 1);
    if (const auto known = words.find(tag); known != words.end()) {
      const FoundRate found = table->rates().Find(tag);
      REQUIRE(found.state == RateLookup::kFound);
      REQUIRE(found.word == known->second);
      REQUIRE(MustClaim(*table, tag, now_ns) == RateClaimed::kThere);
      known->second += random() % kMsNs;
      REQUIRE(RateTable::Swap(found, known->second));
    } else {
      const Gcra limit{.interval_ns = 3 * kMsNs};
      const auto claimed = table->ClaimRate(ClaimOf(tag, limit, now_ns), WordFreeAt);
      exhausted += absl::IsResourceExhausted(claimed.status()) ? 1 : 0;
      if (claimed.ok() && *claimed == RateClaimed::kClaimed) {
        words[tag] = ClaimOf(tag, limit, now_ns).word;
      }
    }
    for (const auto& [live, word] : words) REQUIRE(WordOf(*table, live) == word);
  }
  CHECK(exhausted > 0);
}

// Claims `old` of one bucket, lets it come to rest, and has another take its entry.
void FreeOne(LeaseTable& table, std::uint64_t old, std::uint64_t young, std::int64_t now_ns) {
  REQUIRE(Crowd(table, kEntriesMin, now_ns + 5 * kMsNs));
  REQUIRE(MustClaim(table, old) == RateClaimed::kClaimed);
  REQUIRE(MustClaim(table, young, now_ns) == RateClaimed::kClaimed);
  REQUIRE(table.rates().Find(old).state == RateLookup::kAbsent);
}

TEST_CASE("kLags: an entry was freed at a later time, perhaps that of the tag") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen();
  const std::int64_t rests_ns = kStartNs + kMsNs;
  FreeOne(*table, tags[0], tags[4], rests_ns + 10);
  CHECK(table->rates().freed_to_ns() > rests_ns);
  CHECK(table->rates().freed_to_ns() <= rests_ns + 10);
  for (const std::int64_t late_ns : {kStartNs, rests_ns - 1, rests_ns}) {
    CHECK(MustClaim(*table, tags[0], late_ns) == RateClaimed::kLags);
    CHECK(MustClaim(*table, 12345, late_ns) == RateClaimed::kLags);
    CHECK(MustClaim(*table, tags[4], late_ns) == RateClaimed::kThere);
  }
  CHECK(table->rates().Find(tags[0]).state == RateLookup::kAbsent);
  CHECK(MustClaim(*table, 12345, rests_ns + 1) == RateClaimed::kClaimed);
}

TEST_CASE("kLags: entries that a growth has dropped were freed too") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen("", 2048);
  MustClaim(*table, 100);
  const std::int64_t now_ns = kStartNs + kMsNs + 1;
  const Gcra slow{.interval_ns = 50 * kMsNs};
  for (std::size_t i = 0; i < 8; ++i) MustClaim(*table, ClaimOf(tags[i], slow, kStartNs));
  CHECK(MustClaim(*table, ClaimOf(tags[8], slow, now_ns)) == RateClaimed::kClaimed);
  CHECK(table->rates().Find(100).state == RateLookup::kAbsent);
  CHECK(MustClaim(*table, 100, now_ns - 1) == RateClaimed::kLags);
  CHECK(MustClaim(*table, 100, now_ns) == RateClaimed::kClaimed);
}

TEST_CASE("clock_went_back: it went back since an entry was freed, and tags are claimed again") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen();
  FreeOne(*table, tags[0], tags[4], kStartNs + 10 * kMsNs);
  const std::int64_t back_ns = kStartNs - 1000 * kMsNs;
  CHECK(MustClaim(*table, tags[0], back_ns) == RateClaimed::kLags);
  RateClaim claim = ClaimOf(12344, kLimit, back_ns);
  claim.clock_went_back = true;
  CHECK(MustClaim(*table, claim) == RateClaimed::kClaimed);
  CHECK(table->rates().freed_to_ns() == back_ns);
  // Once is enough for all, but not for those that lag behind it.
  CHECK(MustClaim(*table, 12345, back_ns) == RateClaimed::kClaimed);
  CHECK(MustClaim(*table, 12346, back_ns - 1) == RateClaimed::kLags);
  // A claim that does not lag says nothing by it.
  claim = ClaimOf(12347, kLimit, back_ns + 50);
  claim.clock_went_back = true;
  CHECK(MustClaim(*table, claim) == RateClaimed::kClaimed);
  CHECK(table->rates().freed_to_ns() == back_ns);
}

TEST_CASE("a clock that was read again and lags again has not gone back") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 12);
  const auto table = MustOpen();
  const std::int64_t first_ns = kStartNs + 10 * kMsNs;
  FreeOne(*table, tags[0], tags[4], first_ns);
  // To be read twice: the second time, nothing later was seen.
  std::int64_t reads = 0;
  // While it waits for the lock, others come to a later time and spend all of the tag's limit, and
  // it comes to rest.
  const auto clock = [&] {
    ++reads;
    const std::int64_t now_ns = first_ns + reads * 20 * kMsNs;
    if (reads > 1) return now_ns;
    const std::int64_t after_ns = now_ns + 5 * kMsNs;
    const auto same = [&] { return after_ns; };
    while (SpendRate(*table, tags[0], kLimit, after_ns - 1, same).admitted) {
    }
    // Then it is at rest, and others take its place.
    const std::int64_t free_ns = after_ns + 4 * kMsNs;
    for (std::size_t i = 4; i < 12; ++i) MustClaim(*table, tags[i], free_ns);
    REQUIRE(table->rates().Find(tags[0]).state == RateLookup::kAbsent);
    return now_ns;
  };
  const RateAnswer answer = SpendRate(*table, tags[0], kLimit, kStartNs, clock);
  CHECK(answer.status.ok());
  CHECK(answer.admitted);
  CHECK(reads == 2);
}

TEST_CASE("Swap stores `word` if the entry still has the word that was found; else false") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen("", 4096);
  REQUIRE(Crowd(*table, kEntriesMin, kStartNs + 10'000 * kMsNs));
  MustClaim(*table, tags[0]);
  const FoundRate found = table->rates().Find(tags[0]);
  CHECK(RateTable::Swap(found, found.word + kMsNs));
  CHECK(WordOf(*table, tags[0]) == found.word + kMsNs);
  // After another swap.
  CHECK_FALSE(RateTable::Swap(found, found.word + 2 * kMsNs));
  CHECK(WordOf(*table, tags[0]) == found.word + kMsNs);
  // After another claim.
  const FoundRate second = table->rates().Find(tags[0]);
  const std::int64_t later_ns = kStartNs + 2'000 * kMsNs;
  CHECK(MustClaim(*table, tags[4], later_ns) == RateClaimed::kClaimed);
  CHECK(table->rates().Find(tags[4]).entry == found.entry);
  CHECK_FALSE(RateTable::Swap(second, second.word + 2 * kMsNs));
  CHECK(WordOf(*table, tags[4]) == ClaimOf(tags[4], kLimit, later_ns).word);
  // After a growth.
  const FoundRate third = table->rates().Find(tags[4]);
  for (const std::size_t i : {0U, 1U, 2U, 3U, 5U, 6U, 7U, 8U}) MustClaim(*table, tags[i], later_ns);
  const FoundRate moved = table->rates().Find(tags[4]);
  CHECK(moved.entry != third.entry);
  CHECK_FALSE(RateTable::Swap(third, third.word + kMsNs));
  CHECK(moved.word == third.word);
  CHECK(moved.since_ns == third.since_ns);
  CHECK(RateTable::Swap(moved, third.word + kMsNs));
}

TEST_CASE("LookAgain: the word that the entry has now; false if it was claimed again, or frozen") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto table = MustOpen();
  REQUIRE(Crowd(*table, kEntriesMin, kStartNs + 100 * kMsNs));
  MustClaim(*table, tags[0]);
  FoundRate found = table->rates().Find(tags[0]);
  REQUIRE(RateTable::Swap(found, found.word + 5));
  FoundRate again = found;
  CHECK(RateTable::LookAgain(again));
  CHECK(again.word == found.word + 5);
  CHECK(RateTable::Swap(again, again.word + 5));
  again.entry->word.fetch_or(kRateFrozen);
  FoundRate frozen = found;
  CHECK_FALSE(RateTable::LookAgain(frozen));
  again.entry->word.fetch_and(~kRateFrozen);
  MustClaim(*table, tags[4], kStartNs + 10 * kMsNs);
  CHECK_FALSE(RateTable::LookAgain(again));
  // Claimed again by the tag itself, at another time.
  MustClaim(*table, tags[0] + 40 * kEntriesMin, kStartNs + 20 * kMsNs);
  CHECK(MustClaim(*table, tags[0], kStartNs + 30 * kMsNs) == RateClaimed::kClaimed);
  FoundRate earlier = table->rates().Find(tags[0]);
  earlier.since_ns = kStartNs;
  CHECK_FALSE(RateTable::LookAgain(earlier));
}

TEST_CASE("a growth keeps every word that says something, and drops what is free") {
  for (const bool on_file : {false, true}) {
    const TempDir directory;
    const std::uint64_t seed = std::random_device()();
    INFO("seed " << seed);
    const auto table = MustOpen(on_file ? directory.File("t-lease") : "", 1 << 16);
    std::vector<std::uint64_t> tags;
    const Gcra slow{.interval_ns = 1000 * kMsNs};
    while (tags.size() < 20'000) {
      const std::uint64_t tag = LeaseTable::RateTagOf(seed, tags.size());
      const std::int64_t now_ns = kStartNs + static_cast<std::int64_t>(tags.size());
      REQUIRE(MustClaim(*table, ClaimOf(tag, slow, now_ns)) == RateClaimed::kClaimed);
      tags.push_back(tag);
    }
    for (std::size_t i = 0; i < tags.size(); ++i) {
      const FoundRate found = table->rates().Find(tags[i]);
      REQUIRE(found.state == RateLookup::kFound);
      REQUIRE(found.since_ns == kStartNs + static_cast<std::int64_t>(i));
      REQUIRE(found.word == static_cast<std::uint64_t>(found.since_ns + slow.interval_ns));
      REQUIRE(found.entry->window_ns.load() == slow.interval_ns);
      // Nothing is left frozen.
      REQUIRE(RateTable::Swap(found, found.word));
    }
  }
}

TEST_CASE("a free entry that is nobody's is claimed first, then the one that came to rest first") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 18);
  const auto table = MustOpen();
  // All eight places, though some want the same one, and all are at rest when the next comes.
  for (std::size_t i = 0; i < 8; ++i) {
    const std::int64_t now_ns = kStartNs + static_cast<std::int64_t>(i) * 2 * kMsNs;
    REQUIRE(MustClaim(*table, tags[i], now_ns) == RateClaimed::kClaimed);
  }
  for (std::size_t i = 0; i < 8; ++i) REQUIRE(WordOf(*table, tags[i]) != 0);
  for (std::size_t i = 8; i < 18; ++i) {
    const std::int64_t now_ns = kStartNs + static_cast<std::int64_t>(i) * 2 * kMsNs;
    REQUIRE(MustClaim(*table, tags[i], now_ns) == RateClaimed::kClaimed);
    for (std::size_t k = 0; k <= i; ++k) REQUIRE((WordOf(*table, tags[k]) != 0) == (k + 8 > i));
  }
}

TEST_CASE("a tag that came to rest in the last second keeps its entry while the table may grow") {
  for (const std::int64_t rates_max : {1024, 2048}) {
    for (const std::int64_t rests_for_ns : {10 * kMsNs, 1'000 * kMsNs, 1'000 * kMsNs + 1}) {
      const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
      const auto table = MustOpen("", rates_max);
      REQUIRE(Crowd(*table, kEntriesMin, kStartNs + 10'000 * kMsNs));
      REQUIRE(MustClaim(*table, tags[0]) == RateClaimed::kClaimed);
      const RateEntry* const before = table->rates().Find(tags[0]).entry;
      const std::int64_t now_ns = kStartNs + kMsNs + rests_for_ns;
      REQUIRE(MustClaim(*table, tags[1], now_ns) == RateClaimed::kClaimed);
      const bool grows = rates_max > 1024 && rests_for_ns <= 1'000 * kMsNs;
      CHECK((table->rates().Find(tags[1]).entry != before) == grows);
    }
  }
}

TEST_CASE("the table doubles, and again where the tags still do not fit") {
  const auto table = MustOpen("", 1 << 15);
  // They have the same places in a table of 8192, and in one of 16384 two times four and four.
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(8192, 9);
  for (const std::uint64_t tag : tags) REQUIRE(MustClaim(*table, tag) == RateClaimed::kClaimed);
  for (const std::uint64_t tag : tags) CHECK(WordOf(*table, tag) == kStartNs + kMsNs);
  // Where they never fit nothing is lost by the tries, which another tag may need less of.
  const std::vector<std::uint64_t> more = TagsOfOneBucket(1 << 15, 9, 200);
  for (std::size_t i = 0; i < 8; ++i) REQUIRE(MustClaim(*table, more[i]) == RateClaimed::kClaimed);
  CHECK(absl::IsResourceExhausted(ClaimStatus(*table, more[8])));
  for (const std::uint64_t tag : tags) {
    const FoundRate found = table->rates().Find(tag);
    REQUIRE(found.state == RateLookup::kFound);
    CHECK(found.word == kStartNs + kMsNs);
    CHECK(RateTable::Swap(found, found.word));
  }
  CHECK(MustClaim(*table, 77) == RateClaimed::kClaimed);
}

TEST_CASE("all tables of a file, in this process and in others, see the same words") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  auto table = MustOpen(path, 4096);
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  const auto other = MustOpen(path, 4096);
  for (const std::uint64_t tag : tags) MustClaim(*table, tag);
  for (const std::uint64_t tag : tags) CHECK(WordOf(*other, tag) == kStartNs + kMsNs);
  CHECK(HoldsInChild([&] {
    const auto mine = OpenRates(path, 4096);
    if (!mine.ok() || (*mine)->RateKeyOf("k1") != table->RateKeyOf("k1")) return false;
    const FoundRate found = (*mine)->rates().Find(tags[2]);
    return found.word == kStartNs + kMsNs && RateTable::Swap(found, found.word + kMsNs);
  }));
  CHECK(HoldsInChild([&] {  // with the table that it was forked with
    const FoundRate found = table->rates().Find(tags[2]);
    return found.word == kStartNs + 2 * kMsNs && RateTable::Swap(found, found.word + kMsNs) &&
           *table->ClaimRate(ClaimOf(4711, kLimit, kStartNs), WordFreeAt) == RateClaimed::kClaimed;
  }));
  CHECK(WordOf(*other, tags[2]) == kStartNs + 3 * kMsNs);
  CHECK(WordOf(*other, 4711) == kStartNs + kMsNs);
  table = nullptr;
  table = MustOpen(path, 4096);
  CHECK(WordOf(*table, tags[2]) == kStartNs + 3 * kMsNs);
}

TEST_CASE("another rates_max is taken when the table is opened alone and all is settled") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  auto table = MustOpen(path);
  MustClaim(*table, 7);
  const auto holder = table->holder();
  auto same = MustOpen(path, 8192);
  CHECK(same->holder() == holder);
  CHECK(WordOf(*same, 7) != 0);
  // The size stays that of the file.
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
  for (std::size_t i = 0; i < 8; ++i) MustClaim(*same, tags[i]);
  CHECK(absl::IsResourceExhausted(ClaimStatus(*same, tags[8])));
  table = nullptr;
  CHECK(MustOpen(path)->holder() == holder);
  // Alone.
  same = nullptr;
  table = MustOpen(path, 8192);
  CHECK(table->holder() != holder);
  for (const std::uint64_t tag : tags) CHECK(MustClaim(*table, tag) == RateClaimed::kClaimed);
}

TEST_CASE("rates_max out of bounds is refused with the value and the bound; others are rounded") {
  for (const std::int64_t rates_max :
       {std::int64_t{-1}, std::int64_t{0}, (std::int64_t{1} << 30) + 1}) {
    const absl::Status status = OpenRates("", rates_max).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK(absl::StrContains(status.message(), absl::StrCat("rates_max is ", rates_max)));
    CHECK(absl::StrContains(status.message(), absl::StrCat(1 << 30)));
  }
  for (const std::int64_t rates_max : {1, 1024, 1025}) {
    const auto table = MustOpen("", rates_max);
    const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
    for (std::size_t i = 0; i < 8; ++i) MustClaim(*table, tags[i]);
    CHECK(ClaimStatus(*table, tags[8]).ok() == (rates_max > 1024));
  }
}

TEST_CASE("in a forked child a table of private memory knows no tag and claims none") {
  const auto table = MustOpen();
  MustClaim(*table, 7);
  const FoundRate found = table->rates().Find(7);
  CHECK(HoldsInChild([&] {
    FoundRate again = found;
    return table->rates().Lead(7) == nullptr &&
           table->rates().FindLed(7, found.entry).state == RateLookup::kAbsent &&
           table->rates().Find(7).state == RateLookup::kAbsent &&
           absl::IsFailedPrecondition(ClaimStatus(*table, 7)) &&
           !RateTable::Swap(found, found.word + 1) && !RateTable::LookAgain(again);
  }));
  CHECK(WordOf(*table, 7) == found.word);
  CHECK(RateTable::Swap(found, found.word + 1));
}

TEST_CASE("a table that may not grow holds more than a third of its entries in tags") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  const auto table = MustOpen("", 1 << 16);
  std::uint64_t count = 0;
  while (ClaimStatus(*table, LeaseTable::RateTagOf(seed, count)).ok()) ++count;
  CHECK(count > (1 << 16) / 3);
  for (std::uint64_t i = 0; i < count; ++i) {
    REQUIRE(WordOf(*table, LeaseTable::RateTagOf(seed, i)) == kStartNs + kMsNs);
  }
}

void FillDisk(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  const std::string bytes(4096, 'b');
  while (file.write(bytes.data(), 4096).flush()) {
  }
}

TEST_CASE("ResourceExhausted: the disk is full; all tags stay, and it grows when space returns") {
  const TempDir directory;
  PrivateMount mount;
  if (!mount.Tmpfs(directory.path(), "size=1m")) {
    MESSAGE(absl::StrCat("skipped: ", mount.refusal()));
    return;
  }
  const std::string path = directory.File("t-lease");
  const std::string ballast = directory.File("ballast");
  // In a child, which a signal would end.
  CHECK(HoldsInChild([&] {
    const auto table = OpenRates(path, 4096);
    if (!table.ok()) return false;
    const std::vector<std::uint64_t> tags = TagsOfOneBucket(kEntriesMin, 9);
    FillDisk(ballast);
    // Not even the first entries.
    if (!absl::IsResourceExhausted(ClaimStatus(**table, tags[0]))) return false;
    if ((*table)->rates().Find(tags[0]).state != RateLookup::kAbsent) return false;
    unlink(ballast.c_str());
    for (std::size_t i = 0; i < 8; ++i) {
      if (!ClaimStatus(**table, tags[i]).ok()) return false;
    }
    FillDisk(ballast);
    if (!absl::IsResourceExhausted(ClaimStatus(**table, tags[8]))) return false;
    for (std::size_t i = 0; i < 8; ++i) {
      const FoundRate found = (*table)->rates().Find(tags[i]);
      if (found.word != static_cast<std::uint64_t>(kStartNs + kMsNs)) return false;
      if (!RateTable::Swap(found, found.word + 1)) return false;
    }
    if (!ClaimStatus(**table, 77).ok()) return false;
    unlink(ballast.c_str());
    if (!ClaimStatus(**table, tags[8]).ok()) return false;
    for (std::size_t i = 0; i < 8; ++i) {
      if (WordOf(**table, tags[i]) != static_cast<std::uint64_t>(kStartNs + kMsNs + 1))
        return false;
    }
    return true;
  }));
}

TEST_CASE("RateTagOf: another key or another limit has another tag, spread over all places") {
  const TempDir directory;
  const auto table = MustOpen(directory.File("t-lease"));
  CHECK(LeaseTable::RateTagOf(5, 5) != 0);
  std::set<std::uint64_t> tags;
  std::array<std::int64_t, 4> places = {};
  std::array<std::int64_t, 256> first = {};
  std::array<std::int64_t, 256> second = {};
  for (int key = 0; key < 4096; ++key) {
    const FixedString<39> key_id = std::string_view(absl::StrCat(key));
    const std::uint64_t rate_key = table->RateKeyOf(key_id);
    for (std::uint64_t limit = 0; limit < 16; ++limit) {
      const std::uint64_t tag = LeaseTable::RateTagOf(rate_key, limit << 60);
      tags.insert(tag);
      ++places[tag >> 62];
      ++first[tag & 255];
      ++second[(tag >> 32) & 255];
    }
  }
  CHECK(tags.size() == 65'536);
  // 256 in each on average, of standard deviation 16.
  CHECK(std::ranges::min(first) > 150);
  CHECK(std::ranges::max(first) < 362);
  CHECK(std::ranges::min(second) > 150);
  CHECK(std::ranges::max(second) < 362);
  CHECK(std::ranges::min(places) > 15'000);
}

}  // namespace
}  // namespace throttl::testing
