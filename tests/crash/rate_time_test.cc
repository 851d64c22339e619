// GCRA as a whole engine, while time passes and threads race: never more than burst and rate allow
// over any span, and the wait that a refusal tells is exact to the nanosecond.
#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kThreads = 4;

// Engines that share a store, each of which serves half of the threads.
struct Engines {
  ScratchDirectory scratch = {};
  std::shared_ptr<ManualClock> clock =
      std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  std::vector<std::unique_ptr<Engine>> all = {};

  Engine& Of(std::size_t thread) { return *all[thread % all.size()]; }
};

void Open(bool on_sqlite, Engines& engines) {
  for (int i = 0; i < (on_sqlite ? 2 : 1); ++i) {
    auto engine = Engine::Open(on_sqlite ? engines.scratch.File("throttl.db") : "memory:",
                               {.settle_thread = false, .clock = engines.clock});
    REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
    engines.all.push_back(*std::move(engine));
  }
}

std::string IssueOn(Engine& engine, const Plan& plan) {
  REQUIRE(engine.PutPlan(plan).ok());
  const auto issued = engine.CreateKey({.owner_id = "acme", .plan_id = plan.id});
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return std::string(issued->secret.Reveal());
}

struct Terms {
  std::int64_t limit = 0;
  absl::Duration window = absl::ZeroDuration();
  std::int64_t burst = 0;

  std::int64_t interval_ns() const {
    return (absl::ToInt64Nanoseconds(window) + limit - 1) / limit;
  }
};

Terms RandomTerms(std::mt19937_64& random) {
  return {.limit = static_cast<std::int64_t>(random() % 50) + 1,
          .window = absl::Milliseconds(random() % 5000 + 1),
          .burst = static_cast<std::int64_t>(random() % 12) + 1};
}

RateLimit LimitOf(const Terms& terms, const std::string& name, const std::string& endpoint) {
  return {.name = name,
          .limit = terms.limit,
          .window = terms.window,
          .burst = terms.burst,
          .endpoint = endpoint};
}

// A unit that was admitted, and a reading of the clock before and after.
struct Unit {
  std::int64_t from_ns = 0;
  std::int64_t to_ns = 0;
};

// Whether in every span there are at most burst + span / interval of them.
bool FitsInEverySpan(std::vector<Unit> units, const Terms& terms) {
  const std::int64_t interval_ns = terms.interval_ns();
  std::sort(units.begin(), units.end(),
            [](const Unit& a, const Unit& b) { return a.to_ns < b.to_ns; });
  for (const Unit& first : units) {
    std::int64_t count = 0;
    for (const Unit& unit : units) {
      if (unit.from_ns < first.from_ns) continue;
      ++count;
      if ((count - terms.burst) * interval_ns > unit.to_ns - first.from_ns) return false;
    }
  }
  return true;
}

struct Allowed {
  std::vector<Unit> narrow = {};
  std::vector<Unit> wide = {};
};

// Threads ask, and move the clock on by less and by more than an interval.
void RunSpan(Engines& engines, const std::string& secret, const Terms& wide, std::uint64_t seed,
             std::array<Allowed, kThreads>& allowed) {
  constexpr int kRequests = 250;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(seed + i);
      const auto now_ns = [&] { return absl::ToInt64Nanoseconds(engines.clock->Read().monotonic); };
      for (int request = 0; request < kRequests; ++request) {
        if (random() % 4 == 0) {
          const std::int64_t most =
              random() % 16 == 0 ? 20 * wide.interval_ns() : wide.interval_ns();
          engines.clock->Advance(absl::Nanoseconds(random() % static_cast<std::uint64_t>(most)));
        }
        const bool narrow = random() % 2 == 0;
        const std::int64_t cost = random() % 8 == 0 ? 2 : 1;
        const std::int64_t from_ns = now_ns();
        const Decision d = engines.Of(i).Validate(
            secret, {.cost = cost, .endpoint = narrow ? "/narrow" : "/other"});
        if (!d.allowed()) continue;
        const Unit spent{.from_ns = from_ns, .to_ns = now_ns()};
        for (std::int64_t unit = 0; unit < cost; ++unit) {
          if (narrow) allowed[i].narrow.push_back(spent);
          allowed[i].wide.push_back(spent);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("While time passes, in any span at most burst + span / interval units are admitted") {
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  std::int64_t units = 0;
  for (const bool on_sqlite : {false, true}) {
    CAPTURE(on_sqlite);
    Engines engines;
    Open(on_sqlite, engines);
    for (std::int64_t round = 0; round < Scaled(150); ++round) {
      CAPTURE(round);
      const Terms narrow = RandomTerms(random);
      const Terms wide = RandomTerms(random);
      const std::string secret = IssueOn(
          engines.Of(0),
          {.id = absl::StrCat("plan_", round),
           .rate_limits = {LimitOf(narrow, "narrow", "/narrow"), LimitOf(wide, "wide", "")}});
      std::array<Allowed, kThreads> allowed;
      RunSpan(engines, secret, wide, random(), allowed);
      Allowed all;
      for (const Allowed& some : allowed) {
        all.narrow.insert(all.narrow.end(), some.narrow.begin(), some.narrow.end());
        all.wide.insert(all.wide.end(), some.wide.begin(), some.wide.end());
      }
      CHECK(FitsInEverySpan(all.narrow, narrow));
      CHECK(FitsInEverySpan(all.wide, wide));
      units += static_cast<std::int64_t>(all.wide.size());
    }
  }
  MESSAGE(absl::StrCat(units, " units"));
}

// What all threads got at one moment.
struct Answers {
  std::int64_t allowed = 0;
  std::optional<absl::Duration> retry_after = std::nullopt;  // the same for all who were refused
  bool differ = false;
};

class AtOnce {
 public:
  AtOnce(Engines& engines, const std::string& secret) : engines_(engines), secret_(secret) {
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads_.emplace_back([this, i] {
        for (;;) {
          barrier_.arrive_and_wait();
          if (stop_) return;
          decisions_[i] = engines_.Of(i).Validate(secret_, request_);
          barrier_.arrive_and_wait();
        }
      });
    }
  }
  ~AtOnce() {
    stop_ = true;
    barrier_.arrive_and_wait();
    for (std::thread& thread : threads_) thread.join();
  }
  AtOnce(const AtOnce&) = delete;
  AtOnce& operator=(const AtOnce&) = delete;

  Answers Ask(const Request& request) {
    request_ = request;
    barrier_.arrive_and_wait();
    barrier_.arrive_and_wait();
    Answers answers;
    for (const Decision& d : decisions_) {
      if (d.allowed()) {
        ++answers.allowed;
        continue;
      }
      answers.differ |= answers.retry_after.has_value() && answers.retry_after != d.retry_after;
      answers.retry_after = d.retry_after;
    }
    return answers;
  }

 private:
  Engines& engines_;
  const std::string secret_;
  Request request_ = {};
  std::array<Decision, kThreads> decisions_ = {};
  std::atomic<bool> stop_ = false;
  std::barrier<> barrier_{static_cast<std::ptrdiff_t>(kThreads) + 1};
  std::vector<std::thread> threads_;
};

TEST_CASE("A refusal's wait is exact: a nanosecond earlier nobody gets in, then exactly one") {
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  for (const bool on_sqlite : {false, true}) {
    CAPTURE(on_sqlite);
    Engines engines;
    Open(on_sqlite, engines);
    for (std::int64_t round = 0; round < Scaled(100); ++round) {
      CAPTURE(round);
      const Terms narrow = RandomTerms(random);
      const Terms wide = RandomTerms(random);
      const std::string secret = IssueOn(
          engines.Of(0),
          {.id = absl::StrCat("plan_", round),
           .rate_limits = {LimitOf(narrow, "narrow", "/narrow"), LimitOf(wide, "wide", "")}});
      AtOnce at_once(engines, secret);
      const auto cost_max = static_cast<std::uint64_t>(std::min(narrow.burst, wide.burst));
      for (int turn = 0; turn < 20; ++turn) {
        CAPTURE(turn);
        const Request request{.cost = static_cast<std::int64_t>(random() % cost_max) + 1,
                              .endpoint = "/narrow"};
        while (at_once.Ask(request).allowed != 0) {
        }
        const Answers refused = at_once.Ask(request);
        REQUIRE(refused.allowed == 0);
        REQUIRE(refused.retry_after.has_value());
        REQUIRE_FALSE(refused.differ);
        engines.clock->Advance(*refused.retry_after - absl::Nanoseconds(1));
        REQUIRE(at_once.Ask(request).allowed == 0);
        engines.clock->Advance(absl::Nanoseconds(1));
        REQUIRE(at_once.Ask(request).allowed == 1);
      }
    }
  }
}

}  // namespace
}  // namespace throttl::testing
