// What others do to an entry of the rate table between two steps of a request or a claim: each
// order is forced.
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "src/lease/fault_point.h"
#include "tests/lease/lease_parts.h"
#include "tests/lease/rate_parts.h"

namespace throttl::testing {
namespace {

using internal::FoundRate;
using internal::LeaseTable;
using internal::RateClaimed;
using internal::RateLookup;
using internal::RateTable;

// Acts that are done one after the other, each when the table next comes to its point.
class Script {
 public:
  Script() {
    internal::fault_hook = [](const char* reached) {
      if (steps_.empty() || steps_.front().point != reached) return;
      const std::function<void()> act = std::move(steps_.front().act);
      steps_.pop_front();
      act();
    };
  }
  ~Script() {
    internal::fault_hook = nullptr;
    steps_.clear();
  }
  Script(const Script&) = delete;
  Script& operator=(const Script&) = delete;

  void Then(std::string_view point, std::function<void()> act) {
    steps_.push_back({point, std::move(act)});
  }
  // Ends `act` at `point` as a kill does, but for the lock, which the kernel gives back.
  static void DieAt(std::string_view point, const std::function<void()>& act) {
    struct Death {};
    steps_.push_front({point, [] { throw Death(); }});
    bool died = false;
    try {
      act();
    } catch (const Death&) {
      died = true;
    }
    REQUIRE(died);
  }
  static bool done() { return steps_.empty(); }

 private:
  struct Step {
    std::string_view point;
    std::function<void()> act;
  };
  static inline std::deque<Step> steps_;
};

constexpr Gcra kLimit{.interval_ns = kMsNs, .burst = 4};
// What is claimed again two seconds later has long come to rest, so that no table grows for it.
constexpr std::int64_t kCrowdedToNs = kStartNs + 10'000 * kMsNs;
constexpr std::array<std::string_view, 4> kClaimPoints = {"rate.free", "rate.frozen", "rate.tagged",
                                                          "rate.claimed"};

std::unique_ptr<LeaseTable> MustOpen() {
  auto table = OpenTable("");
  REQUIRE_MESSAGE(table.ok(), table.status().ToString());
  return *std::move(table);
}

RateClaimed MustClaim(LeaseTable& table, std::uint64_t tag, std::int64_t now_ns) {
  const auto claimed = table.ClaimRate(ClaimOf(tag, kLimit, now_ns), WordFreeAt);
  REQUIRE_MESSAGE(claimed.ok(), claimed.status().ToString());
  return *claimed;
}

void ClaimAndDie(LeaseTable& table, std::uint64_t tag, std::int64_t now_ns,
                 std::string_view point) {
  Script::DieAt(point, [&] { MustClaim(table, tag, now_ns); });
}

RateAnswer SpendAt(LeaseTable& table, std::uint64_t tag, std::int64_t now_ns) {
  RateAnswer answer = SpendRate(table, tag, kLimit, now_ns, [now_ns] { return now_ns; });
  REQUIRE_MESSAGE(answer.status.ok(), answer.status.ToString());
  return answer;
}

TEST_CASE("a swap fails whose word is that of an entry which a killed claimer left") {
  // Tags of one bucket that are looked for from the same place on.
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, 9);
  const std::uint64_t one = tags[0];
  const std::uint64_t two = tags[4];
  const std::unique_ptr<LeaseTable> table = MustOpen();
  Script script;
  ClaimAndDie(*table, one, kStartNs, "rate.tagged");
  // Its tag is seen, then its entry is freed, and claimed by another one that is killed.
  script.Then("rate.look", [&] { ClaimAndDie(*table, two, kStartNs, "rate.free"); });
  script.Then("rate.read", [&] { ClaimAndDie(*table, one, kStartNs, "rate.tagged"); });
  const FoundRate found = table->rates().Find(one);
  REQUIRE(script.done());
  ClaimAndDie(*table, two, kStartNs, "rate.free");
  // Nobody has claimed the entry: what is stored there would be lost.
  const bool swapped = found.state == RateLookup::kFound &&
                       RateTable::Swap(found, static_cast<std::uint64_t>(kStartNs + kMsNs));
  CHECK_FALSE(swapped);
  std::int64_t admitted = 0;
  for (int i = 0; i < 10; ++i) admitted += SpendAt(*table, one, kStartNs).admitted ? 1 : 0;
  CHECK(admitted == kLimit.burst);
}

TEST_CASE("a growth that ends half way gives no entry back that a killed claimer left") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, 9);
  const std::vector<std::uint64_t> others = TagsOfOneBucket(RateTable::kEntriesMin, 9, 100);
  const std::int64_t later_ns = kStartNs + 2'000 * kMsNs;
  const std::unique_ptr<LeaseTable> table = MustOpen();
  REQUIRE(Crowd(*table, RateTable::kEntriesMin, kCrowdedToNs));
  REQUIRE(MustClaim(*table, tags[0], kStartNs) == RateClaimed::kClaimed);
  Script script;
  // Its word is read; then it is freed by one that is killed, and claimed by another that is.
  script.Then("rate.read", [&] {
    ClaimAndDie(*table, tags[4], later_ns, "rate.frozen");
    ClaimAndDie(*table, tags[0], later_ns, "rate.tagged");
  });
  const FoundRate found = table->rates().Find(tags[0]);
  REQUIRE(found.state == RateLookup::kFound);
  for (std::size_t i = 0; i < 8; ++i) MustClaim(*table, others[i], later_ns);
  ClaimAndDie(*table, others[8], later_ns, "rate.copied");
  REQUIRE(MustClaim(*table, 200, later_ns) == RateClaimed::kClaimed);
  CHECK_FALSE(RateTable::Swap(found, *NextWord(kLimit, found.word, later_ns, 1)));
  std::int64_t admitted = 0;
  for (int i = 0; i < 10; ++i) admitted += SpendAt(*table, tags[0], later_ns).admitted ? 1 : 0;
  CHECK(admitted == kLimit.burst);
}

TEST_CASE("LookAgain: false if it was claimed again since, also at the time of a killed claimer") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, 9);
  const std::uint64_t one = tags[0];
  const std::uint64_t two = tags[4];
  // All later readings are the same, as those of a coarse clock are.
  const std::int64_t later_ns = kStartNs + 2'000 * kMsNs;
  const std::unique_ptr<LeaseTable> table = MustOpen();
  REQUIRE(Crowd(*table, RateTable::kEntriesMin, kCrowdedToNs));
  REQUIRE(MustClaim(*table, one, kStartNs) == RateClaimed::kClaimed);
  Script script;
  // Its word is read; then it is freed by one that is killed, and claimed by another that is.
  script.Then("rate.read", [&] {
    ClaimAndDie(*table, two, later_ns, "rate.frozen");
    ClaimAndDie(*table, one, later_ns, "rate.tagged");
  });
  FoundRate found = table->rates().Find(one);
  REQUIRE(script.done());
  REQUIRE(found.state == RateLookup::kFound);
  CHECK(MustClaim(*table, two, later_ns) == RateClaimed::kClaimed);
  REQUIRE(table->rates().Find(two).entry == found.entry);
  CHECK_FALSE(RateTable::LookAgain(found));
}

TEST_CASE("a request is admitted once or told no, whatever a claimer of its entry has come to") {
  const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, 9);
  for (const std::string_view point : kClaimPoints) {
    for (const bool killed : {false, true}) {
      INFO("at " << std::string(point) << (killed ? ", killed" : ""));
      const std::unique_ptr<LeaseTable> table = MustOpen();
      REQUIRE(Crowd(*table, RateTable::kEntriesMin, kCrowdedToNs));
      Script script;
      REQUIRE(MustClaim(*table, tags[0], kStartNs) == RateClaimed::kClaimed);
      const std::int64_t later_ns = kStartNs + 2'000 * kMsNs;
      // Found at rest, before another claims its entry at a later time.
      const FoundRate found = table->rates().Find(tags[0]);
      bool swapped = false;
      std::uint64_t word = 0;
      const auto swap = [&] {
        word = *NextWord(kLimit, found.word, later_ns, 1);
        swapped = RateTable::Swap(found, word);
      };
      if (killed) {
        ClaimAndDie(*table, tags[4], later_ns, point);
        swap();
      } else {
        script.Then(point, swap);
        MustClaim(*table, tags[4], later_ns);
      }
      CHECK(swapped == (point == "rate.free"));
      std::int64_t admitted = swapped ? 1 : 0;
      for (int i = 0; i < 10; ++i) admitted += SpendAt(*table, tags[0], later_ns).admitted ? 1 : 0;
      CHECK(admitted == kLimit.burst);
      const FoundRate other = table->rates().Find(tags[4]);
      if (!killed || point == "rate.claimed") {
        REQUIRE(other.state == RateLookup::kFound);
        CHECK(other.word == ClaimOf(tags[4], kLimit, later_ns).word);
      }
    }
  }
}

TEST_CASE("a growth that ends at any step loses no word, and the next one completes it") {
  for (const std::string_view point :
       {"rate.grows", "rate.copied", "rate.grown", "rate.recovers", "rate.thawed"}) {
    INFO("at " << std::string(point));
    const std::unique_ptr<LeaseTable> table = MustOpen();
    Script script;
    const std::vector<std::uint64_t> tags = TagsOfOneBucket(RateTable::kEntriesMin, 9);
    for (std::size_t i = 0; i < 8; ++i) MustClaim(*table, tags[i], kStartNs);
    const FoundRate before = table->rates().Find(tags[3]);
    const bool recovers = point == "rate.recovers" || point == "rate.thawed";
    ClaimAndDie(*table, tags[8], kStartNs, recovers ? "rate.copied" : point);
    if (recovers) ClaimAndDie(*table, tags[8], kStartNs, point);
    // What was found before is not swapped while its copy may be in use.
    if (point == "rate.grown") {
      CHECK_FALSE(RateTable::Swap(before, before.word + 1));
      FoundRate again = before;
      CHECK_FALSE(RateTable::LookAgain(again));
    }
    for (std::size_t i = 0; i < 9; ++i) {
      std::int64_t admitted = i < 8 ? 1 : 0;
      for (int n = 0; n < 10; ++n) admitted += SpendAt(*table, tags[i], kStartNs).admitted ? 1 : 0;
      CHECK(admitted == kLimit.burst);
    }
  }
}

}  // namespace
}  // namespace throttl::testing
