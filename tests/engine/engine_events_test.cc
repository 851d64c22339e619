// What the event log says of quotas, and what is forgotten: on each store, by an engine whose clock
// is in hand.
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "tests/engine/engine_on_stores.h"
#include "tests/engine/forwarding_store.h"

namespace throttl::testing {
namespace {

EngineOptions ByHand() { return {.settle_thread = false}; }

void MustFlush(EngineUnderTest& t) {
  const absl::Status status = t.engine().Flush();
  REQUIRE_MESSAGE(status.ok(), status.ToString());
}

std::vector<Event> EventsOf(EngineUnderTest& t, const char* type, const Caller& caller = {}) {
  std::vector<Event> found;
  std::int64_t after = 0;
  for (;;) {
    const auto events = t.engine().ReadEvents(after, 1000, caller);
    REQUIRE(events.ok());
    if (events->empty()) return found;
    after = events->back().seq;
    for (const Event& event : *events) {
      if (event.type == type) found.push_back(event);
    }
  }
}

std::string NewKey(EngineUnderTest& t, const std::string& id, std::int64_t limit) {
  const auto issued = t.engine().CreateKey(
      {.owner_id = "acme", .quota = Quota{.limit = limit, .period = Period::kDay}, .id = id});
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return std::string(issued->secret.Reveal());
}

void SetLimit(EngineUnderTest& t, const std::string& id, std::int64_t limit) {
  auto key = t.engine().GetKey(id);
  REQUIRE(key.ok());
  key->quota->limit = limit;
  REQUIRE(t.engine().UpdateKey(*key).ok());
}

TEST_CASE("quota.exceeded when used reaches the limit, once, after the thresholds of that settle") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = NewKey(t, "k", 10);
        for (int i = 0; i < 9; ++i) REQUIRE(t.engine().Validate(secret).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).empty());
        for (int i = 0; i < 3; ++i) {
          CHECK(t.engine().Validate(secret).allowed() == (i == 0));
          MustFlush(t);
          CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 1);
        }
        const std::vector<Event> events = t.Events();
        REQUIRE(events.size() >= 2);
        CHECK(events[events.size() - 2].type == event_type::kQuotaThreshold);
        CHECK(events.back().type == event_type::kQuotaExceeded);
        CHECK(events.back().key_id == "k");
        CHECK(events.back().owner_id == "acme");
        CHECK(events.back().data == "{\"used\":10,\"limit\":10}");
      },
      ByHand());
}

TEST_CASE("quota.exceeded at the first refusal for quota, when that is first") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = NewKey(t, "k", 10);
        REQUIRE(t.engine().Validate(secret, {.cost = 7}).allowed());
        CHECK_FALSE(t.engine().Peek(secret, {.cost = 4}).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).empty());
        CHECK_FALSE(t.engine().Validate(secret, {.cost = 4}).allowed());
        MustFlush(t);
        REQUIRE(EventsOf(t, event_type::kQuotaExceeded).size() == 1);
        CHECK(EventsOf(t, event_type::kQuotaExceeded)[0].data == "{\"used\":7,\"limit\":10}");
        // Used reaches the limit later: that is the same event.
        REQUIRE(t.engine().Validate(secret, {.cost = 3}).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 1);
        // Another limit, and another period, have their own.
        SetLimit(t, "k", 20);
        REQUIRE(t.engine().Validate(secret).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 1);
        CHECK_FALSE(t.engine().Validate(secret, {.cost = 10}).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 2);
        t.clock().Advance(absl::Hours(24));
        CHECK_FALSE(t.engine().Validate(secret, {.cost = 21}).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 3);
      },
      ByHand());
}

TEST_CASE("quota.exceeded: a limit of 0 is exceeded by the first refusal, not by being there") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = NewKey(t, "k", 0);
        REQUIRE(t.engine().Validate(secret, {.cost = 0}).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).empty());
        CHECK_FALSE(t.engine().Validate(secret).allowed());
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaExceeded).size() == 1);
      },
      ByHand());
}

TEST_CASE("a refusal that was not settled before its period ended is told of that period") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = NewKey(t, "k", 10);
        const Decision refused = t.engine().Validate(secret, {.cost = 11});
        REQUIRE_FALSE(refused.allowed());
        t.clock().Advance(absl::Hours(24));
        REQUIRE(t.engine().Validate(secret).allowed());
        MustFlush(t);
        const std::vector<Event> events = EventsOf(t, event_type::kQuotaExceeded);
        REQUIRE(events.size() == 1);
        const std::int64_t start = absl::ToUnixSeconds(*refused.quota.resets_at - absl::Hours(24));
        CHECK(absl::StartsWith(events[0].id, absl::StrCat("k:k.", start, ".exceeded.")));
      },
      ByHand());
}

TEST_CASE("an owner's quota is exceeded once for all of its keys, and the event names the owner") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const auto plan = t.engine().PutPlan(
            {.id = "team",
             .quota = Quota{.limit = 5, .period = Period::kDay, .scope = QuotaScope::kOwner}});
        REQUIRE(plan.ok());
        std::vector<std::string> secrets;
        for (const char* id : {"one", "two"}) {
          const auto issued =
              t.engine().CreateKey({.owner_id = "acme", .plan_id = "team", .id = id});
          REQUIRE(issued.ok());
          secrets.emplace_back(issued->secret.Reveal());
        }
        REQUIRE(t.engine().Validate(secrets[0], {.cost = 3}).allowed());
        REQUIRE_FALSE(t.engine().Validate(secrets[1], {.cost = 3}).allowed());
        REQUIRE_FALSE(t.engine().Validate(secrets[0], {.cost = 3}).allowed());
        MustFlush(t);
        const std::vector<Event> events = EventsOf(t, event_type::kQuotaExceeded);
        REQUIRE(events.size() == 1);
        CHECK(events[0].owner_id == "acme");
        CHECK(events[0].key_id.empty());
        CHECK(EventsOf(t, event_type::kQuotaExceeded, {.owner_id = "globex"}).empty());
        t.clock().Advance(absl::Hours(24));
        MustFlush(t);
        // Of the owner's counter; a key's own has no period.
        REQUIRE(EventsOf(t, event_type::kQuotaReset).size() == 1);
        CHECK(EventsOf(t, event_type::kQuotaReset)[0].owner_id == "acme");
      },
      ByHand());
}

TEST_CASE("quota.reset for subjects that had usage, once, whether or not they are used again") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string busy = NewKey(t, "busy", 10);
        const std::string idle = NewKey(t, "idle", 10);
        const std::string unused = NewKey(t, "unused", 10);
        const std::string settled = NewKey(t, "settled", 10);
        REQUIRE(t.engine().Validate(settled).allowed());
        MustFlush(t);
        REQUIRE(t.engine().Validate(busy, {.cost = 4}).allowed());
        const Decision last = t.engine().Validate(idle);
        REQUIRE(last.allowed());
        CHECK_FALSE(t.engine().Validate(unused, {.cost = 11}).allowed());
        t.clock().Advance(*last.quota.resets_at - t.Now() - absl::Milliseconds(1));
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaReset).empty());
        t.clock().Advance(absl::Milliseconds(1));
        REQUIRE(t.engine().Validate(busy).allowed());
        for (int i = 0; i < 3; ++i) MustFlush(t);
        std::map<std::string, std::string> data;
        for (const Event& event : EventsOf(t, event_type::kQuotaReset)) {
          CHECK(data.emplace(event.key_id, event.data).second);
          CHECK(event.owner_id == "acme");
        }
        CHECK(data.size() == 3);
        CHECK(absl::StartsWith(data["busy"], "{\"used\":4,\"limit\":10,\"period_start\":"));
        CHECK(absl::StartsWith(data["idle"], "{\"used\":1,"));
        CHECK(absl::StartsWith(data["settled"], "{\"used\":1,"));
        // The next day too, and only for who was there.
        t.clock().Advance(absl::Hours(24));
        MustFlush(t);
        CHECK(EventsOf(t, event_type::kQuotaReset).size() == 4);
      },
      ByHand());
}

TEST_CASE("the settle thread tells of periods that have ended, without a request") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = NewKey(t, "k", 10);
        REQUIRE(t.engine().Validate(secret).allowed());
        t.clock().Advance(absl::Hours(25));
        // The bound only ends a test that has failed.
        for (int i = 0; i < 6000 && EventsOf(t, event_type::kQuotaReset).empty(); ++i) {
          absl::SleepFor(absl::Milliseconds(10));
        }
        CHECK(EventsOf(t, event_type::kQuotaReset).size() == 1);
      },
      {.settle_interval = absl::Milliseconds(10)});
}

// A key that was used on the first day, and what the store has of that day `later`.
struct OldDay {
  explicit OldDay(EngineUnderTest& under) : t(under) {
    const std::string secret = NewKey(t, "k", 10);
    const Decision decision = t.engine().Validate(secret);
    REQUIRE(decision.allowed());
    counter = {.subject = "k:k", .period_start = *decision.quota.resets_at - absl::Hours(24)};
    MustFlush(t);
  }
  bool HasUsage() {
    const auto usage = t.engine().UsageHistory({.key_id = "k", .bucket = Period::kHour});
    REQUIRE(usage.ok());
    return !usage->empty();
  }
  bool HasCounter() {
    const auto counters = t.store().ReadCounters(std::vector<CounterId>{counter});
    REQUIRE(counters.ok());
    return counters->front().used == 1;
  }
  bool HasEvents() { return !EventsOf(t, event_type::kKeyCreated).empty(); }

  EngineUnderTest& t;
  CounterId counter;
};

// Runs the clock, with a settle in each hour of the last two.
void RunClock(EngineUnderTest& t, absl::Duration time) {
  t.clock().Advance(time - absl::Hours(2));
  MustFlush(t);
  for (int i = 0; i < 2; ++i) {
    t.clock().Advance(absl::Hours(1));
    MustFlush(t);
  }
}

TEST_CASE(
    "history is kept for history_kept and events for events_kept, by default 400 and 30 days") {
  ForEachStore(
      [](EngineUnderTest& t) {
        OldDay day(t);
        RunClock(t, absl::Hours(24 * 29));
        CHECK(day.HasEvents());
        RunClock(t, absl::Hours(24 * 2));
        CHECK_FALSE(day.HasEvents());
        CHECK(day.HasUsage());
        RunClock(t, absl::Hours(24 * 368));
        CHECK(day.HasUsage());
        CHECK(day.HasCounter());
        RunClock(t, absl::Hours(24 * 3));
        CHECK_FALSE(day.HasUsage());
        CHECK_FALSE(day.HasCounter());
      },
      ByHand());
}

TEST_CASE("history_kept and events_kept: what is given holds, and infinite is for ever") {
  EngineOptions options = ByHand();
  options.history_kept = absl::Hours(48);
  options.events_kept = absl::InfiniteDuration();
  ForEachStore(
      [](EngineUnderTest& t) {
        OldDay day(t);
        RunClock(t, absl::Hours(40));
        CHECK(day.HasUsage());
        RunClock(t, absl::Hours(24 * 3));
        CHECK_FALSE(day.HasUsage());
        CHECK_FALSE(day.HasCounter());
        RunClock(t, absl::Hours(24 * 4000));
        CHECK(day.HasEvents());
      },
      options);
  options.history_kept = absl::InfiniteDuration();
  options.events_kept = absl::Hours(1);
  ForEachStore(
      [](EngineUnderTest& t) {
        OldDay day(t);
        RunClock(t, absl::Hours(24 * 4000));
        CHECK(day.HasUsage());
        CHECK(day.HasCounter());
        CHECK_FALSE(day.HasEvents());
      },
      options);
}

// Remembers what it is asked to forget.
struct PrunedStore : ForwardingStore {
  absl::StatusOr<std::int64_t> Prune(const PruneLimits& limits) override {
    asked = limits;
    return 0;
  }
  PruneLimits asked = {};
};

// Counts how often it is asked to end periods.
struct EndingStore : ForwardingStore {
  absl::StatusOr<std::int64_t> EndPeriods(absl::Time now, std::int32_t rows_max) override {
    ++asked;
    return to()->EndPeriods(now, rows_max);
  }
  std::atomic<int> asked = 0;
};

TEST_CASE("Flush ends periods each time, and the settle thread once in each minute of the clock") {
  const auto store = std::make_shared<EndingStore>();
  const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  const auto by_hand = Engine::Create(store, {.settle_thread = false, .clock = clock});
  REQUIRE(by_hand.ok());
  for (int i = 1; i <= 3; ++i) {
    REQUIRE((*by_hand)->Flush().ok());
    CHECK(store->asked == i);
  }
  const auto engine =
      Engine::Create(store, {.settle_interval = absl::Milliseconds(10), .clock = clock});
  REQUIRE(engine.ok());
  REQUIRE_FALSE((*engine)->Validate("starts the thread").allowed());
  for (int minute = 1; minute <= 3; ++minute) {
    // Several settles: the first of them may have read the clock before it was moved.
    const std::int64_t settles = (*engine)->stats().settles;
    for (int i = 0; i < 6000 && (*engine)->stats().settles < settles + 5; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    CHECK(store->asked == 3 + minute);
    clock->Advance(absl::Minutes(1));
  }
}

TEST_CASE("a store is asked to forget only what is not kept for ever") {
  for (const bool history : {false, true}) {
    const auto store = std::make_shared<PrunedStore>();
    const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
    EngineOptions options{.settle_thread = false, .clock = clock};
    (history ? options.history_kept : options.events_kept) = absl::InfiniteDuration();
    const auto engine = Engine::Create(store, options);
    REQUIRE(engine.ok());
    clock->Advance(absl::Hours(2));
    REQUIRE((*engine)->Flush().ok());
    const absl::Time now = clock->Read().wall;
    const auto kept = [&](bool ever, int days) {
      return ever ? std::nullopt : std::optional(now - absl::Hours(24 * days));
    };
    CHECK(store->asked.usage_before == kept(history, 400));
    CHECK(store->asked.counters_before == kept(history, 400));
    CHECK(store->asked.events_before == kept(!history, 30));
    CHECK_FALSE(store->asked.deliveries_before.has_value());
  }
}

TEST_CASE("a clock that jumps ahead costs no history: nothing is forgotten within an hour of it") {
  ForEachStore(
      [](EngineUnderTest& t) {
        OldDay day(t);
        // Nearly an hour after something might have been forgotten.
        RunClock(t, absl::Hours(4));
        t.clock().Advance(absl::Minutes(59));
        const absl::Time before = t.Now();
        t.clock().JumpTo(before + absl::Hours(24 * 365 * 80));
        MustFlush(t);
        t.clock().Advance(absl::Minutes(59));
        MustFlush(t);
        CHECK(day.HasUsage());
        CHECK(day.HasCounter());
        CHECK(day.HasEvents());
        // Back, and for hours.
        t.clock().JumpTo(before);
        RunClock(t, absl::Hours(3));
        CHECK(day.HasUsage());
        CHECK(day.HasCounter());
        CHECK(day.HasEvents());
        // Ahead, and it stays.
        t.clock().JumpTo(before + absl::Hours(24 * 365 * 80));
        RunClock(t, absl::Hours(3));
        CHECK_FALSE(day.HasUsage());
        CHECK_FALSE(day.HasCounter());
        CHECK_FALSE(day.HasEvents());
      },
      ByHand());
}

TEST_CASE("an engine that was just opened forgets nothing for an hour: its clock may be wrong") {
  ForEachStore(
      [](EngineUnderTest& t) {
        OldDay day(t);
        const auto clock = std::make_shared<ManualClock>(t.Now() + absl::Hours(24 * 365 * 80));
        const auto other =
            Engine::Create(t.engine().store(), {.settle_thread = false, .clock = clock});
        REQUIRE(other.ok());
        for (int i = 0; i < 3; ++i) {
          REQUIRE((*other)->Flush().ok());
          clock->Advance(absl::Minutes(29));
        }
        CHECK(day.HasUsage());
        CHECK(day.HasEvents());
        clock->Advance(absl::Minutes(29));
        REQUIRE((*other)->Flush().ok());
        CHECK_FALSE(day.HasUsage());
        CHECK_FALSE(day.HasEvents());
      },
      ByHand());
}

}  // namespace
}  // namespace throttl::testing
