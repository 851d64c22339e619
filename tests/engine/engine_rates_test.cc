// Rate limits in decisions, on every store.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

EngineOptions ByHand() { return {.settle_thread = false}; }

IssuedKey IssueOn(EngineUnderTest& t, const Plan& plan, const Key& key = {}) {
  const auto put = t.engine().PutPlan(plan);
  REQUIRE_MESSAGE(put.ok(), put.status().ToString());
  Key made = key;
  made.owner_id = "acme";
  made.plan_id = plan.id;
  auto issued = t.engine().CreateKey(made);
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return *std::move(issued);
}

Decision Validate(EngineUnderTest& t, const IssuedKey& issued, const Request& request = {}) {
  return t.engine().Validate(issued.secret.Reveal(), request);
}

// Requests that are allowed in a row, at most 1,000.
int Burst(EngineUnderTest& t, const IssuedKey& issued, const Request& request = {}) {
  for (int allowed = 0; allowed < 1000; ++allowed) {
    if (!Validate(t, issued, request).allowed()) return allowed;
  }
  return 1000;
}

Plan Minute(std::int64_t limit) {
  return {.id = "minute", .rate_limits = {{.name = "minute", .limit = limit}}};
}

std::string NameOf(const Decision& d) { return std::string(d.rate.name.view()); }

TEST_CASE("free: ten at once, then one each 6 s; pro and enterprise 100 and 1,000") {
  for (const auto& [plan, limit, interval_ms] : std::vector<std::tuple<std::string, int, int>>{
           {"free", 10, 6000}, {"pro", 100, 600}, {"enterprise", 1000, 60}}) {
    const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
    const auto engine = Engine::Open("memory:", {.settle_thread = false, .clock = clock});
    REQUIRE(engine.ok());
    const auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = plan});
    REQUIRE(issued.ok());
    const auto validate = [&] { return (*engine)->Validate(issued->secret.Reveal()); };
    for (int i = 0; i < limit; ++i) REQUIRE(validate().allowed());
    for (int i = 0; i < 3; ++i) {
      const Decision refused = validate();
      CHECK(refused.code == DecisionCode::kRateLimited);
      CHECK(std::string(refused.violated_policy()) == "requests");
      CHECK(refused.retry_after == absl::Milliseconds(interval_ms));
      CHECK(refused.quota.used == limit + i);
      CHECK(refused.http_status() == 429);
      clock->Advance(*refused.retry_after - absl::Nanoseconds(1));
      CHECK(validate().code == DecisionCode::kRateLimited);
      clock->Advance(absl::Nanoseconds(1));
      CHECK(validate().allowed());
    }
  }
}

TEST_CASE("the decision describes the limit that refused, else the one with the smallest part") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.id = "two",
                        .rate_limits = {{.name = "second", .limit = 5, .window = absl::Seconds(1)},
                                        {.name = "hour", .limit = 10, .window = absl::Hours(1)}}});
        const Decision first = Validate(t, issued);
        CHECK(NameOf(first) == "second");
        CHECK(first.rate.limit == 5);
        CHECK(first.rate.remaining == 4);
        CHECK(first.rate.window == absl::Seconds(1));
        CHECK(first.rate.resets_at == t.Now() + absl::Milliseconds(200));
        CHECK_FALSE(first.retry_after.has_value());
        CHECK(Burst(t, issued) == 4);
        CHECK(NameOf(Validate(t, issued)) == "second");
        t.clock().Advance(absl::Seconds(1));
        CHECK(Burst(t, issued) == 5);
        // Both refuse: the request fits when the slower one has room.
        const Decision both = Validate(t, issued);
        CHECK(NameOf(both) == "hour");
        CHECK(both.rate.remaining == 0);
        CHECK(both.retry_after == absl::Seconds(359));
        t.clock().Advance(absl::Seconds(359));
        CHECK(NameOf(Validate(t, issued)) == "hour");
      },
      ByHand());
}

TEST_CASE("every matching limit applies, and paths do not multiply a counter") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.id = "routes",
                        .rate_limits = {{.name = "all", .limit = 20},
                                        {.name = "search", .limit = 4, .endpoint = "/search/**"},
                                        {.name = "post", .limit = 2, .endpoint = "POST /**"}}});
        const auto go = [&](std::string_view method, std::string_view endpoint) {
          return Validate(t, issued, {.method = method, .endpoint = endpoint});
        };
        CHECK(go("GET", "/search/a").allowed());
        CHECK(go("GET", "/search//b/").allowed());
        CHECK(go("GET", "/search?q=c").allowed());
        CHECK(go("POST", "/search/d").allowed());
        CHECK(NameOf(go("GET", "/search/e")) == "search");
        CHECK(go("POST", "/other").allowed());
        CHECK(NameOf(go("POST", "/more")) == "post");
        CHECK(go("GET", "/more").allowed());
        CHECK(go("", "").allowed());
        // A refusal by a narrow limit spent nothing of the wide one: 7 were allowed.
        CHECK(Burst(t, issued) == 13);
        CHECK(NameOf(go("GET", "/more")) == "all");
      },
      ByHand());
}

TEST_CASE("a key's limit of the same name replaces the plan's, others come on top") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const Key own{.rate_limits = {{.name = "minute", .limit = 3},
                                      {.name = "slow", .limit = 2, .endpoint = "/slow"}}};
        const IssuedKey special = IssueOn(t, Minute(5), own);
        const IssuedKey plain = IssueOn(t, Minute(5));
        CHECK(Burst(t, special, {.endpoint = "/slow"}) == 2);
        CHECK(Burst(t, special) == 1);
        CHECK(Burst(t, plain, {.endpoint = "/slow"}) == 5);
      },
      ByHand());
}

TEST_CASE("two secrets of one key spend one rate limit") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey old = IssueOn(t, Minute(5));
        const auto fresh = t.engine().RotateKey(old.key.id, {.overlap = absl::Hours(1)});
        REQUIRE(fresh.ok());
        CHECK(Burst(t, old) == 5);
        CHECK(Validate(t, *fresh).code == DecisionCode::kRateLimited);
      },
      ByHand());
}

TEST_CASE("costs: units or requests, a cost above the burst never fits, 0 checks and spends none") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.id = "costs",
                        .rate_limits = {{.name = "units", .limit = 100, .endpoint = "/units"},
                                        {.name = "requests",
                                         .limit = 3,
                                         .endpoint = "/requests",
                                         .counts = RateCost::kRequests}}});
        const auto go = [&](std::int64_t cost, std::string_view endpoint) {
          return Validate(t, issued, {.cost = cost, .endpoint = endpoint});
        };
        CHECK(go(60, "/units").rate.remaining == 40);
        const Decision refused = go(41, "/units");
        CHECK(refused.code == DecisionCode::kRateLimited);
        CHECK(refused.spent == 0);
        CHECK(refused.retry_after == absl::Milliseconds(600));
        CHECK(refused.quota.used == 60);
        CHECK_FALSE(go(101, "/units").retry_after.has_value());
        CHECK(go(40, "/units").rate.remaining == 0);
        CHECK(go(0, "/units").allowed());
        for (int i = 0; i < 3; ++i) CHECK(go(1'000'000, "/requests").allowed());
        CHECK(go(0, "/requests").allowed());
        CHECK(go(1, "/requests").code == DecisionCode::kRateLimited);
      },
      ByHand());
}

TEST_CASE("a shadow limit is evaluated and counted, and never refuses") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.id = "shadow",
                        .rate_limits = {{.name = "new", .limit = 3, .shadow = true},
                                        {.name = "old", .limit = 6}}});
        CHECK(Burst(t, issued) == 6);
        // Of seven requests three fitted the shadow limit.
        CHECK(t.engine().stats().shadow_refusals == 4);
        CHECK(NameOf(Validate(t, issued)) == "old");
        CHECK(t.engine().Peek(issued.secret.Reveal()).code == DecisionCode::kRateLimited);
        CHECK(t.engine().stats().shadow_refusals == 5);
      },
      ByHand());
}

TEST_CASE("Peek makes the decision that Validate would make, and spends nothing") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = IssueOn(t, Minute(3));
        const auto peek = [&] { return t.engine().Peek(issued.secret.Reveal()); };
        for (int i = 0; i < 9; ++i) CHECK(peek().allowed());
        CHECK(peek().rate.remaining == 3);
        CHECK(Burst(t, issued) == 3);
        for (int i = 0; i < 9; ++i) CHECK(peek().code == DecisionCode::kRateLimited);
        CHECK(peek().rate.remaining == 0);
        CHECK(peek().retry_after == absl::Seconds(20));
        t.clock().Advance(absl::Seconds(20));
        CHECK(peek().allowed());
        CHECK(peek().rate.remaining == 1);
      },
      ByHand());
}

TEST_CASE("a refusal for quota spends no rate limit, and tells the longer wait") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Plan plan = Minute(5);
        plan.quota = Quota{.limit = 3, .period = Period::kHour};
        const IssuedKey issued = IssueOn(t, plan);
        CHECK(Burst(t, issued) == 3);
        for (int i = 0; i < 9; ++i) {
          const Decision refused = Validate(t, issued);
          CHECK(refused.code == DecisionCode::kQuotaExceeded);
          CHECK(refused.retry_after == *refused.quota.resets_at - t.Now());
          CHECK(refused.rate.remaining == 2);
        }
        // When both refuse, it is the one that makes the request wait longer.
        plan.rate_limits[0].limit = 3;
        CHECK(Burst(t, IssueOn(t, plan)) == 3);
        CHECK(Validate(t, issued).code == DecisionCode::kQuotaExceeded);
        plan.id = "slow";
        plan.rate_limits[0].window = absl::Hours(48);
        const IssuedKey slow = IssueOn(t, plan);
        CHECK(Burst(t, slow) == 3);
        const Decision refused = Validate(t, slow);
        CHECK(refused.code == DecisionCode::kRateLimited);
        CHECK(refused.retry_after == absl::Hours(16));
        CHECK(refused.quota.used == 3);
      },
      ByHand());
}

TEST_CASE("a changed limit holds at once, and what was spent stays spent") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = IssueOn(t, Minute(60));
        CHECK(Burst(t, issued) == 60);
        REQUIRE(t.engine().PutPlan(Minute(120)).ok());
        CHECK(Validate(t, issued).retry_after == absl::Milliseconds(500));
        t.clock().Advance(absl::Seconds(30));
        CHECK(Burst(t, issued) == 60);
        REQUIRE(t.engine().PutPlan(Minute(6)).ok());
        CHECK(Validate(t, issued).retry_after == absl::Seconds(10));
      },
      ByHand());
}

TEST_CASE("a wall clock that jumps neither locks a key nor frees it") {
  for (const RateAlgorithm algorithm : {RateAlgorithm::kGcra, RateAlgorithm::kSlidingWindow}) {
    Plan plan = Minute(6);
    plan.rate_limits[0].algorithm = algorithm;
    ForEachStore(
        [&](EngineUnderTest& t) {
          const IssuedKey issued = IssueOn(t, plan);
          CHECK(Burst(t, issued) == 6);
          // The wall clock says nothing to a rate limit.
          t.clock().JumpTo(t.Now() - absl::Hours(24));
          CHECK(Validate(t, issued).code == DecisionCode::kRateLimited);
          t.clock().JumpTo(t.Now() + absl::Hours(72));
          CHECK(Validate(t, issued).code == DecisionCode::kRateLimited);
          t.clock().Advance(absl::Minutes(2));
          CHECK(Burst(t, issued) == 6);
        },
        ByHand());
  }
}

TEST_CASE("a sliding window: at most `limit` in the window, and room again as it slides") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Plan plan = Minute(60);
        plan.rate_limits[0].algorithm = RateAlgorithm::kSlidingWindow;
        const IssuedKey issued = IssueOn(t, plan);
        t.clock().Advance(absl::Seconds(40));  // a window begins
        CHECK(Burst(t, issued) == 60);
        const Decision refused = Validate(t, issued);
        REQUIRE(refused.code == DecisionCode::kRateLimited);
        t.clock().Advance(*refused.retry_after - absl::Nanoseconds(1));
        CHECK_FALSE(Validate(t, issued).allowed());
        t.clock().Advance(absl::Nanoseconds(1));
        CHECK(Validate(t, issued).allowed());
        CHECK_FALSE(Validate(t, issued).allowed());
      },
      ByHand());
}

TEST_CASE(
    "rate limits hold without a quota, with an owner's, and for keys with rules of their own") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Plan plan = Minute(5);
        plan.quota = Quota{.limit = 1000, .scope = QuotaScope::kOwner};
        const IssuedKey first = IssueOn(t, plan);
        const IssuedKey second =
            IssueOn(t, plan, {.scopes = {"read"}, .addresses = {"10.0.0.0/8"}});
        CHECK(Burst(t, first) == 5);
        const Request request{.address = "10.1.2.3", .scope = "read"};
        CHECK(Burst(t, second, request) == 5);
        CHECK(t.engine().GetUsage(first.key.id)->quota.used == 10);
        CHECK(Validate(t, second, {.address = "10.1.2.3", .scope = "write"}).code ==
              DecisionCode::kScopeMissing);
      },
      ByHand());
}

TEST_CASE("a soft quota allows a percentage beyond its limit, and says so") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.id = "soft", .quota = Quota{.limit = 50, .soft_percent = 10}});
        for (int i = 0; i < 50; ++i) {
          const Decision d = Validate(t, issued);
          CHECK(d.allowed());
          CHECK_FALSE(d.over_quota);
        }
        for (int i = 51; i <= 55; ++i) {
          const Decision d = Validate(t, issued);
          CHECK(d.allowed());
          CHECK(d.over_quota);
          CHECK(d.quota.limit == 50);
          CHECK(d.quota.used == i);
          CHECK(d.quota.remaining() == 0);
          CHECK(d.alert_percent == 100);
        }
        const Decision refused = Validate(t, issued);
        CHECK(refused.code == DecisionCode::kQuotaExceeded);
        CHECK_FALSE(refused.over_quota);
        CHECK(refused.retry_after == *refused.quota.resets_at - t.Now());
        // A cost that only the soft part makes room for can succeed in the next period.
        CHECK(Validate(t, issued, {.cost = 55}).retry_after.has_value());
        CHECK_FALSE(Validate(t, issued, {.cost = 56}).retry_after.has_value());
        // The event is about the limit, and raised once.
        REQUIRE(t.engine().Flush().ok());
        int exceeded = 0;
        for (const Event& event : t.Events()) {
          exceeded += event.type == event_type::kQuotaExceeded ? 1 : 0;
        }
        CHECK(exceeded == 1);
        // A change of the soft part holds at once.
        REQUIRE(t.engine()
                    .PutPlan({.id = "soft", .quota = Quota{.limit = 50, .soft_percent = 20}})
                    .ok());
        CHECK(Burst(t, issued) == 5);
        REQUIRE(t.engine().PutPlan({.id = "soft", .quota = Quota{.limit = 50}}).ok());
        CHECK(Validate(t, issued).code == DecisionCode::kQuotaExceeded);
      },
      ByHand());
}

TEST_CASE("the quota of a decision says when its period began") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const absl::TimeZone utc = absl::UTCTimeZone();
        const Decision month = Validate(t, t.Issue("acme"));
        CHECK(month.quota.starts_at == absl::FromCivil(absl::CivilMonth(2026, 9), utc));
        CHECK(*month.quota.resets_at - month.quota.starts_at == absl::Hours(30 * 24));
        const Decision year = Validate(
            t, IssueOn(t, {.id = "year", .quota = Quota{.limit = 9, .period = Period::kYear}}));
        CHECK(year.quota.starts_at == absl::FromCivil(absl::CivilYear(2026), utc));
        const Decision none = Validate(t, IssueOn(t, {.id = "none"}));
        CHECK(none.quota.starts_at == absl::InfinitePast());
        const auto usage = t.engine().GetUsage(month.key_id.view());
        REQUIRE(usage.ok());
        CHECK(usage->quota.starts_at == month.quota.starts_at);
      },
      ByHand());
}

TEST_CASE("refusals by rate limits stand in the history of the key") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = IssueOn(t, Minute(5));
        CHECK(Burst(t, issued) == 5);
        REQUIRE(t.engine().Flush().ok());
        const auto history = t.engine().UsageHistory({.key_id = issued.key.id});
        REQUIRE(history.ok());
        REQUIRE(history->size() == 1);
        CHECK(history->front().allowed == 5);
        CHECK(history->front().rate_limited == 1);
        CHECK(history->front().quota_exceeded == 0);
      },
      ByHand());
}

}  // namespace
}  // namespace throttl::testing
