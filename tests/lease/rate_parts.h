// Parts of the tests of the rate table: a limit whose word is the theoretical arrival time of GCRA
// in nanoseconds, and a request that finds, claims and swaps as an engine would.
//
// Thread safety: pure functions; the table's own.
//
//   const RateAnswer answer = SpendRate(*table, tag, {.burst = 4}, [] { return kStartNs; });
#ifndef THROTTL_TESTS_LEASE_RATE_PARTS_H_
#define THROTTL_TESTS_LEASE_RATE_PARTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "src/lease/lease_table.h"
#include "src/lease/rate_table.h"

namespace throttl::testing {

inline constexpr std::int64_t kStartNs = 1'767'225'600'000'000'000;  // 2026-01-01
inline constexpr std::int64_t kMsNs = 1'000'000;

inline absl::StatusOr<std::unique_ptr<internal::LeaseTable>> OpenRates(
    const std::string& path, std::int64_t rates_max = 1024) {
  return internal::LeaseTable::Open({.path = path,
                                     .store_id = "store-of-the-test",
                                     .slots_max = 1024,
                                     .rates_max = rates_max,
                                     .lock_timeout = absl::Seconds(30)});
}

struct Gcra {
  std::int64_t interval_ns = kMsNs;  // of one unit
  std::int64_t burst = 1;
};

inline std::int64_t WordFreeAt(std::uint64_t word, std::int64_t /*window_ns*/,
                               std::int64_t /*now_ns*/) {
  return static_cast<std::int64_t>(word);
}

// The word after `cost` units at `now_ns`, if they fit. `word` 0 is a limit at rest.
inline std::optional<std::uint64_t> NextWord(const Gcra& limit, std::uint64_t word,
                                             std::int64_t now_ns, std::int64_t cost) {
  const std::int64_t next =
      std::max(static_cast<std::int64_t>(word), now_ns) + cost * limit.interval_ns;
  if (next - now_ns > limit.burst * limit.interval_ns) return std::nullopt;
  return static_cast<std::uint64_t>(next);
}

inline internal::RateClaim ClaimOf(std::uint64_t tag, const Gcra& limit, std::int64_t now_ns,
                                   std::int64_t cost = 1) {
  return {.tag = tag,
          .word = static_cast<std::uint64_t>(now_ns + cost * limit.interval_ns),
          .window_ns = limit.burst * limit.interval_ns,
          .now_ns = now_ns};
}

inline constexpr int kTriesMax = 1'000'000;

struct RateAnswer {
  bool admitted = false;
  std::uint64_t word = 0;  // that was stored
  absl::Status status = absl::OkStatus();
};

// One request of `cost` units. `first_ns` is what its clock read some time ago; `clock` reads it
// again, after an answer that it lags.
// `table` is a LeaseTable, or has its rates() and ClaimRate().
RateAnswer SpendRate(auto& table, std::uint64_t tag, const Gcra& limit, std::int64_t first_ns,
                     const auto& clock, std::int64_t cost = 1) {
  using internal::RateTable;
  internal::RateClaim claim = ClaimOf(tag, limit, first_ns, cost);
  if (cost > limit.burst) return {};
  for (int tries = 0; tries < kTriesMax; ++tries) {
    internal::FoundRate found = table.rates().Find(tag);
    if (found.state == internal::RateLookup::kFound) {
      const std::uint64_t seen = found.word;
      const std::optional<std::uint64_t> next = NextWord(limit, seen, claim.now_ns, cost);
      THROTTL_FAULT_POINT("rate.decided");
      if (next.has_value() && RateTable::Swap(found, *next)) {
        return {.admitted = true, .word = *next};
      }
      // A refusal is of a word that was read together with its tag.
      if (!next.has_value() && RateTable::LookAgain(found) && found.word == seen) return {};
      continue;
    }
    const absl::StatusOr<internal::RateClaimed> claimed = table.ClaimRate(claim, WordFreeAt);
    if (!claimed.ok()) return {.status = claimed.status()};
    if (*claimed == internal::RateClaimed::kClaimed) return {.admitted = true, .word = claim.word};
    if (*claimed == internal::RateClaimed::kThere) continue;
    // In this order: a clock that reads less than what was seen before has gone back.
    const std::int64_t freed_to_ns = table.rates().freed_to_ns();
    claim = ClaimOf(tag, limit, clock(), cost);
    claim.clock_went_back = claim.now_ns < freed_to_ns;
  }
  return {.status = absl::InternalError("there is no end to it")};
}

// The least word after one unit at each of these times, in whatever order they were admitted;
// std::nullopt: in some stretch of time they are more than the burst and what came back in it.
inline std::optional<std::int64_t> LeastWord(std::vector<std::int64_t> admitted_ns,
                                             const Gcra& limit) {
  std::ranges::sort(admitted_ns);
  std::int64_t word = 0;
  for (const std::int64_t now_ns : admitted_ns) {
    word = std::max(word, now_ns) + limit.interval_ns;
    if (word - now_ns > limit.burst * limit.interval_ns) return std::nullopt;
  }
  return word;
}

// Tags that have the same eight places in a table of up to `size` entries: two buckets of four.
// In a larger table they differ in one of the two.
inline std::vector<std::uint64_t> TagsOfOneBucket(std::uint64_t size, std::size_t count,
                                                  std::uint64_t bucket = 5) {
  std::vector<std::uint64_t> tags;
  for (std::uint64_t i = 0; i < count; ++i) {
    tags.push_back(((i % 4) << 62) | ((bucket + 1) << 32) | (bucket + i * (size / 4)));
  }
  return tags;
}

// Seven more tags of those places.
inline std::vector<std::uint64_t> CrowdOf(std::uint64_t size) {
  std::vector<std::uint64_t> tags = TagsOfOneBucket(size, 107);
  tags.erase(tags.begin(), tags.end() - 7);
  return tags;
}

// Takes seven of the eight places of TagsOfOneBucket(size, ...) until `until_ns`: what the bucket's
// other tags claim is the one that is left. False: a claim failed.
bool Crowd(auto& table, std::uint64_t size, std::int64_t until_ns) {
  for (const std::uint64_t tag : CrowdOf(size)) {
    const Gcra limit{.interval_ns = until_ns - kStartNs};
    const auto claimed = table.ClaimRate(ClaimOf(tag, limit, kStartNs), WordFreeAt);
    if (!claimed.ok() || *claimed != internal::RateClaimed::kClaimed) return false;
  }
  return true;
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_LEASE_RATE_PARTS_H_
