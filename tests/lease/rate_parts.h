// Parts of the tests of the rate table: a limit whose word is the theoretical arrival time of GCRA
// in nanoseconds, and a request that finds, claims and swaps as an engine would.
//
// Thread safety: pure functions; the table's own.
//
//   const RateAnswer answer = SpendRate(*table, tag, {.burst = 4}, [] { return kStartNs; });
#ifndef THROTTL_TESTS_LEASE_RATE_PARTS_H_
#define THROTTL_TESTS_LEASE_RATE_PARTS_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "src/lease/lease_table.h"
#include "src/lease/rate_table.h"

namespace throttl::testing {

inline constexpr std::int64_t kStartNs = 1'767'225'600'000'000'000;  // 2026-01-01
inline constexpr std::int64_t kMsNs = 1'000'000;

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

struct RateAnswer {
  bool admitted = false;
  std::uint64_t word = 0;  // that was stored
  absl::Status status = absl::OkStatus();
};

// One request of `cost` units. `first_ns` is what its clock read some time ago; `clock` reads it
// again, after an answer that others were quicker or that it lags.
RateAnswer SpendRate(internal::LeaseTable& table, std::uint64_t tag, const Gcra& limit,
                     std::int64_t first_ns, const auto& clock, std::int64_t cost = 1) {
  using internal::RateTable;
  internal::RateClaim claim = ClaimOf(tag, limit, first_ns, cost);
  if (cost > limit.burst) return {};
  for (;;) {
    internal::FoundRate found = table.rates().Find(tag);
    if (found.state == internal::RateLookup::kFound) {
      const std::uint64_t seen = found.word;
      const std::optional<std::uint64_t> next = NextWord(limit, seen, claim.now_ns, cost);
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
}

// Tags whose eight places, in a table of `size` entries, are those of tag number 0: what is chosen
// here is what BucketOf of the table reads.
inline std::vector<std::uint64_t> TagsOfOneBucket(std::uint64_t size, std::size_t count,
                                                  std::uint64_t bucket = 5) {
  const std::uint64_t other = bucket + 1;
  std::vector<std::uint64_t> tags;
  for (std::uint64_t i = 0; i < count; ++i) {
    // Above the bits of the bucket, so that a larger table tells them apart.
    const std::uint64_t low = bucket + (i * (size / 4));
    tags.push_back(((i % 4) << 62) | (other << 32) | low);
  }
  return tags;
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_LEASE_RATE_PARTS_H_
