// Requests, claims and growths of one bucket of a rate table, with their steps in random orders,
// and killed at any of them. All in one thread, which changes between them at the fault points, so
// that tens of thousands of orders are tried.
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "src/lease/fault_point.h"
#include "tests/lease/rate_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

using internal::FoundRate;
using internal::RateClaim;
using internal::RateClaimed;
using internal::RateEntry;
using internal::RateFreeAt;
using internal::RateLookup;
using internal::RateTable;
using internal::RateWords;

constexpr std::size_t kActors = 5;
constexpr std::size_t kStackBytes = 128 * 1024;
constexpr std::uint64_t kEntriesMax = 4096;
constexpr std::size_t kNobody = kActors;

// Runs functions in turns: each until it comes to a fault point.
class Turns {
 public:
  explicit Turns(std::mt19937_64& random) : random_(random) {
    turns_ = this;
    internal::fault_hook = [](const char* point) { turns_->AtPoint(point); };
  }
  ~Turns() { internal::fault_hook = nullptr; }
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  // Each one ends, or is killed, of which `killed` is told.
  void Run(std::vector<std::function<void()>> acts,
           const std::function<void(std::size_t actor)>& killed) {
    acts_ = std::move(acts);
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < acts_.size(); ++i) {
      getcontext(&actors_[i]);
      actors_[i].uc_stack.ss_sp = stacks_[i].data();
      actors_[i].uc_stack.ss_size = kStackBytes;
      actors_[i].uc_link = nullptr;
      makecontext(&actors_[i], &Turns::Act, 0);
      left.push_back(i);
    }
    const std::uint64_t kills_in = random_() % 3 == 0 ? 1'000'000 : 20 + random_() % 60;
    while (!left.empty()) {
      const std::size_t i = random_() % left.size();
      running_ = left[i];
      ended_ = false;
      swapcontext(&main_, &actors_[running_]);
      const bool kills = !ended_ && random_() % kills_in == 0;
      if (kills) killed(running_);
      if (kills || ended_) left.erase(left.begin() + static_cast<std::ptrdiff_t>(i));
      running_ = kNobody;
    }
  }

  std::size_t running() const { return running_; }
  // Others may act now.
  void Yield() { swapcontext(&actors_[running_], &main_); }

 private:
  static void Act() {
    turns_->acts_[turns_->running_]();
    turns_->ended_ = true;
    turns_->Yield();
  }
  void AtPoint(std::string_view point) {
    if (running_ == kNobody) return;
    // Passed for each of a thousand entries.
    const bool often = point == "rate.freezes" || point == "rate.thawed";
    if (random_() % (often ? 300 : 2) == 0) Yield();
  }

  static inline Turns* turns_ = nullptr;
  std::mt19937_64& random_;
  std::vector<std::function<void()>> acts_;
  std::array<ucontext_t, kActors> actors_ = {};
  std::array<std::vector<char>, kActors> stacks_ = {
      std::vector<char>(kStackBytes), std::vector<char>(kStackBytes),
      std::vector<char>(kStackBytes), std::vector<char>(kStackBytes),
      std::vector<char>(kStackBytes)};
  ucontext_t main_ = {};
  std::size_t running_ = kNobody;
  bool ended_ = false;
};

// A rate table with a lock that changes turns where it waits.
class OneTable {
 public:
  explicit OneTable(Turns& turns) : turns_(turns), entries_(2 * kEntriesMax) {}

  void Clear(std::uint64_t entries_max) {
    rates_.Attach(words_, entries_.data(), entries_max,
                  [](std::size_t, std::size_t) { return absl::OkStatus(); });
    std::memset(static_cast<void*>(&words_), 0, sizeof(words_));
    std::memset(static_cast<void*>(entries_.data()), 0, entries_.size() * sizeof(RateEntry));
  }
  const RateTable& rates() const { return rates_; }
  absl::StatusOr<RateClaimed> ClaimRate(const RateClaim& claim, RateFreeAt free_at) {
    while (holder_ != kNobody) turns_.Yield();
    // Outside of turns, nobody else asks for it.
    holder_ = turns_.running();
    rates_.Recover();
    absl::StatusOr<RateClaimed> claimed = rates_.Claim(claim, free_at);
    holder_ = kNobody;
    return claimed;
  }
  // As the kernel does.
  void GiveBackLockOf(std::size_t actor) {
    if (holder_ == actor) holder_ = kNobody;
  }

 private:
  Turns& turns_;
  RateWords words_ = {};
  std::vector<RateEntry> entries_;
  RateTable rates_;
  std::size_t holder_ = kNobody;
};

constexpr Gcra kLimit{.interval_ns = kMsNs, .burst = 2};
constexpr std::int64_t kCrowdedToNs = kStartNs + 1'000'000 * kMsNs;

class Order {
 public:
  Order(OneTable& table, Turns& turns, std::mt19937_64& random)
      : table_(table), turns_(turns), random_(random) {}

  // Returns what is wrong afterwards; empty: nothing.
  std::string Run() {
    table_.Clear(random_() % 2 == 0 ? kEntriesMax : RateTable::kEntriesMin);
    now_ns_ = kStartNs;
    // Then all tags want one place, and take it from each other where the table may not grow.
    crowded_ = random_() % 2 == 0;
    if (crowded_ && !Crowd(table_, RateTable::kEntriesMin, kCrowdedToNs)) return "no crowd";
    for (std::vector<std::int64_t>& times : admitted_ns_) times.clear();
    // Some at rest and some not, in none, some or all places.
    const std::uint64_t count = random_() % 10;
    for (std::size_t i = 0; i < count; ++i) {
      Spend(i % kTags);
      if (random_() % 4 == 0) Advance();
    }
    kills_ = 0;
    std::vector<std::function<void()>> acts;
    for (std::size_t actor = 0; actor < kActors; ++actor) acts.emplace_back([this] { Act(); });
    turns_.Run(acts, [this](std::size_t actor) {
      ++kills_;
      table_.GiveBackLockOf(actor);
    });
    return Check();
  }

  std::int64_t kills() const { return kills_; }

 private:
  static constexpr std::size_t kTags = 10;

  void Advance() {
    now_ns_ += random_() % 2 == 0 ? kLimit.interval_ns / 2 : 3 * kLimit.interval_ns;
  }

  // Mostly one of two tags that want the same place.
  void Act() {
    for (int i = 0; i < 3; ++i) {
      Spend(random_() % 4 != 0 ? random_() % 2 * 4 : random_() % kTags);
      if (random_() % 4 == 0) Advance();
    }
  }

  void Spend(std::size_t tag) {
    std::int64_t used_ns = now_ns_;
    const auto clock = [&] { return used_ns = now_ns_; };
    const RateAnswer answer = SpendRate(table_, tags_[tag], kLimit, used_ns, clock);
    if (answer.admitted) admitted_ns_[tag].push_back(used_ns);
    if (!answer.status.ok() && !absl::IsResourceExhausted(answer.status)) failed_ = true;
  }

  std::string Check() {
    // Finishes what a growth has left.
    static_cast<void>(table_.ClaimRate(ClaimOf(1'000'000, kLimit, now_ns_), WordFreeAt));
    if (crowded_) {
      for (const std::uint64_t tag : CrowdOf(RateTable::kEntriesMin)) {
        if (table_.rates().Find(tag).word != kCrowdedToNs) return "one of the crowd is lost";
      }
    }
    for (std::size_t tag = 0; tag < kTags; ++tag) {
      const auto least = LeastWord(admitted_ns_[tag], kLimit);
      if (!least.has_value()) return absl::StrCat("tag ", tag, " was admitted too often");
      if (*least >= now_ns_) {
        const FoundRate found = table_.rates().Find(tags_[tag]);
        if (found.state != RateLookup::kFound) return absl::StrCat("tag ", tag, " is lost");
        if (static_cast<std::int64_t>(found.word) < *least) {
          return absl::StrCat("a unit of tag ", tag, " is lost");
        }
      }
      for (int i = 0; i < 4; ++i) Spend(tag);
      if (failed_) return absl::StrCat("a request of tag ", tag, " or of an actor failed");
      if (!LeastWord(admitted_ns_[tag], kLimit).has_value()) {
        return absl::StrCat("tag ", tag, " is admitted too often");
      }
    }
    return "";
  }

  OneTable& table_;
  Turns& turns_;
  std::mt19937_64& random_;
  const std::vector<std::uint64_t> tags_ = TagsOfOneBucket(RateTable::kEntriesMin, kTags);
  std::array<std::vector<std::int64_t>, kTags> admitted_ns_;
  std::int64_t now_ns_ = kStartNs;
  std::int64_t kills_ = 0;
  bool crowded_ = false;
  bool failed_ = false;
};

TEST_CASE("in no order of their steps, and killed at any of them, is a unit lost or doubled") {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  MESSAGE("skipped: the sanitizer does not follow a thread that changes its stack");
#else
  const std::int64_t orders = Scaled(60'000);
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  Turns turns(random);
  OneTable table(turns);
  Order order(table, turns, random);
  std::int64_t kills = 0;
  for (std::int64_t i = 0; i < orders; ++i) {
    INFO("order " << i);
    const std::string wrong = order.Run();
    REQUIRE(wrong == "");
    kills += order.kills();
  }
  MESSAGE(absl::StrCat(orders, " orders, ", kills, " kills"));
#endif
}

}  // namespace
}  // namespace throttl::testing
