// What becomes of usage when a quota changes in mid-period, on every store.
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"
#include "throttl/sqlite_store.h"

#include "tests/engine/engine_on_stores.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

EngineOptions ByHand() { return {.settle_thread = false}; }

Plan Team(std::int64_t limit, Period period = Period::kMonth) {
  return {.id = "team", .quota = Quota{.limit = limit, .period = period}};
}

void Put(EngineUnderTest& t, const Plan& plan, CarryOver carry_over = CarryOver::kDifference) {
  const auto put = t.engine().PutPlan(plan, {}, carry_over);
  REQUIRE_MESSAGE(put.ok(), put.status().ToString());
}

std::string WhyNot(EngineUnderTest& t, const Plan& plan, CarryOver carry_over) {
  const auto put = t.engine().PutPlan(plan, {}, carry_over);
  REQUIRE_FALSE(put.ok());
  CHECK(absl::IsInvalidArgument(put.status()));
  return std::string(put.status().message());
}

IssuedKey IssueOn(EngineUnderTest& t, const Key& key) {
  auto issued = t.engine().CreateKey(key);
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return *std::move(issued);
}

Decision Spend(EngineUnderTest& t, const IssuedKey& issued, std::int64_t cost = 1) {
  return t.engine().Validate(issued.secret.Reveal(), {.cost = cost});
}

// "used of limit", as a decision, Peek, the usage and Explain say it.
std::string StateOf(EngineUnderTest& t, const IssuedKey& issued) {
  const Decision peek = t.engine().Peek(issued.secret.Reveal(), {.cost = 0});
  const auto usage = t.engine().GetUsage(issued.key.id);
  REQUIRE_MESSAGE(usage.ok(), usage.status().ToString());
  CHECK(usage->quota.used == peek.quota.used);
  CHECK(usage->quota.limit == peek.quota.limit);
  const auto explanation = t.engine().Explain(issued.key.id, {.cost = 1});
  REQUIRE_MESSAGE(explanation.ok(), explanation.status().ToString());
  for (const ExplainedLimit& limit : explanation->limits) CHECK(limit.limit == peek.quota.limit);
  return absl::StrCat(peek.quota.used, " of ", peek.quota.limit.value_or(-1));
}

// How many more requests of one unit are allowed.
std::int64_t Left(EngineUnderTest& t, const IssuedKey& issued) {
  std::int64_t left = 0;
  while (Spend(t, issued).allowed()) ++left;
  return left;
}

TEST_CASE("difference, the default: what was used stays used") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, issued, 60).allowed());
        Put(t, Team(150));
        CHECK(StateOf(t, issued) == "60 of 150");
        // Below what is used: refused at once, and nothing is negative.
        Put(t, Team(50));
        const Decision refused = Spend(t, issued);
        CHECK(refused.code == DecisionCode::kQuotaExceeded);
        CHECK(refused.quota.remaining() == 0);
        CHECK(StateOf(t, issued) == "60 of 50");
        Put(t, Team(61));
        CHECK(Left(t, issued) == 1);
      },
      ByHand());
}

TEST_CASE("reset: nothing counts as used, also when the limit stays") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey settled = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey idle = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, settled, 70).allowed());
        REQUIRE(t.engine().Flush().ok());
        CHECK(Spend(t, settled, 10).allowed());
        Put(t, Team(100), CarryOver::kReset);
        CHECK(StateOf(t, settled) == "0 of 100");
        CHECK(StateOf(t, idle) == "0 of 100");
        CHECK(Spend(t, settled, 40).quota.used == 40);
        Put(t, Team(30), CarryOver::kReset);
        CHECK(StateOf(t, settled) == "0 of 30");
        CHECK(Left(t, settled) == 30);
        CHECK(Left(t, idle) == 30);
        // What was really used is in the history.
        const auto history = t.engine().UsageHistory({.key_id = settled.key.id});
        REQUIRE(history.ok());
        REQUIRE(history->size() == 1);
        CHECK(history->front().units == 150);
      },
      ByHand());
}

TEST_CASE("proportional: used becomes floor(used * new / old), up and down") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(1000));
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, issued, 333).allowed());
        Put(t, Team(100), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == "33 of 100");
        CHECK(Spend(t, issued, 7).quota.used == 40);
        Put(t, Team(1000), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == "400 of 1000");
        CHECK(Left(t, issued) == 600);
        Put(t, Team(3), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == "3 of 3");
        Put(t, Team(0), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == "0 of 0");
        // Of a limit of 0 there is no part.
        Put(t, Team(5), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == "0 of 5");
        Put(t, Team(kLimitMax), CarryOver::kProportional);
        Put(t, Team(kLimitMax - 1), CarryOver::kProportional);
        CHECK(StateOf(t, issued) == absl::StrCat("0 of ", kLimitMax - 1));
      },
      ByHand());
}

TEST_CASE("additive: what was left of the old limit comes on top, in the running period only") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey used = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey unused = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey over = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, used, 30).allowed());
        CHECK(Spend(t, over, 90).allowed());
        Put(t, Team(50));
        Put(t, Team(200), CarryOver::kAdditive);
        // 20 were left of 50, 50 of a key that used nothing, and nothing of the one that is over.
        CHECK(StateOf(t, used) == "30 of 250");
        CHECK(StateOf(t, unused) == "0 of 250");
        CHECK(StateOf(t, over) == "90 of 290");
        CHECK(Left(t, used) == 220);
        CHECK(Left(t, over) == 200);
        // Once more, of all that was left.
        Put(t, Team(10), CarryOver::kAdditive);
        CHECK(StateOf(t, unused) == "0 of 260");
        // Another limit does not take away what was added.
        Put(t, Team(20));
        CHECK(StateOf(t, unused) == "0 of 270");
        CHECK(Left(t, used) == 20);
        const Decision refused = Spend(t, used);
        REQUIRE(refused.quota.resets_at.has_value());
        CHECK(refused.retry_after == *refused.quota.resets_at - t.Now());
        t.clock().Advance(*refused.retry_after);
        CHECK(StateOf(t, used) == "0 of 20");
        CHECK(Left(t, used) == 20);
        CHECK(StateOf(t, unused) == "0 of 20");
      },
      ByHand());
}

TEST_CASE("a key that gets another plan or quota carries its usage over") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(300));
        const IssuedKey issued = t.Issue("acme");
        const IssuedKey other = t.Issue("acme");
        CHECK(Spend(t, issued, 500).allowed());
        CHECK(Spend(t, other, 500).allowed());
        Key key = *t.engine().GetKey(issued.key.id);
        key.plan_id = "team";
        const auto moved = t.engine().UpdateKey(key, {}, CarryOver::kProportional);
        REQUIRE_MESSAGE(moved.ok(), moved.status().ToString());
        CHECK(StateOf(t, issued) == "150 of 300");
        CHECK(StateOf(t, other) == "500 of 1000");
        key = *moved;
        key.quota = Quota{.limit = 400};
        const auto own = t.engine().UpdateKey(key, {}, CarryOver::kAdditive);
        REQUIRE_MESSAGE(own.ok(), own.status().ToString());
        CHECK(StateOf(t, issued) == "150 of 700");
        // It has a quota of its own: the plan's does not concern it.
        Put(t, Team(1), CarryOver::kReset);
        CHECK(StateOf(t, issued) == "150 of 700");
        const auto again = t.engine().UpdateKey(*own, {}, CarryOver::kReset);
        REQUIRE_MESSAGE(again.ok(), again.status().ToString());
        CHECK(StateOf(t, issued) == "0 of 400");
        CHECK(Left(t, issued) == 400);
        const std::vector<Event> events = t.Events();
        CHECK(events.back().data.find("\"carry_over\":\"reset\"") != std::string::npos);
      },
      ByHand());
}

TEST_CASE("a quota that the keys of an owner share is carried over for all of them, by its plan") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Plan shared = Team(100);
        shared.quota->scope = QuotaScope::kOwner;
        Put(t, shared);
        const IssuedKey one = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey two = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey foreign = IssueOn(t, {.owner_id = "globex", .plan_id = "team"});
        CHECK(Spend(t, one, 30).allowed());
        CHECK(Spend(t, two, 30).allowed());
        CHECK(Spend(t, foreign, 10).allowed());
        shared.quota->limit = 200;
        Put(t, shared, CarryOver::kProportional);
        CHECK(StateOf(t, one) == "120 of 200");
        CHECK(StateOf(t, two) == "120 of 200");
        CHECK(StateOf(t, foreign) == "20 of 200");
        CHECK(Left(t, one) == 80);
        CHECK(Left(t, two) == 0);
        Key key = *t.engine().GetKey(one.key.id);
        key.plan_id = "free";
        const auto refused = t.engine().UpdateKey(key, {}, CarryOver::kReset);
        CHECK(absl::IsInvalidArgument(refused.status()));
        CHECK(t.engine().UpdateKey(key).ok());
        CHECK(StateOf(t, one) == "0 of 1000");
      },
      ByHand());
}

TEST_CASE("another period, anchor, time zone or scope needs reset, and is said with both") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, issued, 60).allowed());
        const std::string before = t.State();
        for (const CarryOver carry_over :
             {CarryOver::kDifference, CarryOver::kProportional, CarryOver::kAdditive}) {
          CHECK(WhyNot(t, Team(100, Period::kDay), carry_over).find("month from day 1 in UTC") !=
                std::string::npos);
          Plan anchored = Team(100);
          anchored.quota->anchor_day = 5;
          CHECK(WhyNot(t, anchored, carry_over).find("day 5") != std::string::npos);
          Plan elsewhere = Team(100);
          elsewhere.quota->time_zone = "Europe/Berlin";
          CHECK(WhyNot(t, elsewhere, carry_over).find("Europe/Berlin") != std::string::npos);
          Plan shared = Team(100);
          shared.quota->scope = QuotaScope::kOwner;
          CHECK(WhyNot(t, shared, carry_over).find("for each owner") != std::string::npos);
        }
        for (const CarryOver carry_over : {CarryOver::kProportional, CarryOver::kAdditive}) {
          CHECK(WhyNot(t, {.id = "team"}, carry_over).find("the new one has no limit") !=
                std::string::npos);
        }
        CHECK(WhyNot(t, Team(100), static_cast<CarryOver>(5)) ==
              "carry_over is 5, 1 to 4 are allowed");
        CHECK(t.State() == before);
        Key key = *t.engine().GetKey(issued.key.id);
        key.quota = Quota{.limit = 5, .period = Period::kDay};
        CHECK(absl::IsInvalidArgument(t.engine().UpdateKey(key).status()));
        Put(t, Team(100, Period::kDay), CarryOver::kReset);
        CHECK(StateOf(t, issued) == "0 of 100");
        CHECK(Spend(t, issued, 100).quota.period == Period::kDay);
        // Back to the month, of which 60 were used: none of them counts.
        Put(t, Team(100), CarryOver::kReset);
        CHECK(StateOf(t, issued) == "0 of 100");
        CHECK(Left(t, issued) == 100);
      },
      ByHand());
}

TEST_CASE("from and to no quota only difference and reset go") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, {.id = "team"});
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, issued, 60).allowed());
        CHECK(WhyNot(t, Team(10), CarryOver::kAdditive).find("the old one has no limit") !=
              std::string::npos);
        Put(t, {.id = "team"}, CarryOver::kReset);
        CHECK(StateOf(t, issued) == "0 of -1");
        Put(t, Team(10, Period::kLifetime));
        CHECK(Left(t, issued) == 10);
      },
      ByHand());
}

TEST_CASE("alerts are raised anew after a change, by what counts then") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Spend(t, issued, 95).alert_percent == 90);
        REQUIRE(t.engine().Flush().ok());
        const auto alerts = [&t] {
          std::string all;
          for (const Event& event : t.Events()) {
            if (event.type == event_type::kQuotaThreshold ||
                event.type == event_type::kQuotaExceeded) {
              absl::StrAppend(&all, event.data, " ");
            }
          }
          return all;
        };
        std::string wanted = "{\"percent\":90,\"used\":95,\"limit\":100} ";
        CHECK(alerts() == wanted);
        // The same limit, and nothing used: nothing is raised, until it is.
        Put(t, Team(100), CarryOver::kReset);
        REQUIRE(t.engine().Flush().ok());
        CHECK(alerts() == wanted);
        CHECK(Spend(t, issued, 89).alert_percent == 0);
        CHECK(Spend(t, issued, 1).alert_percent == 90);
        REQUIRE(t.engine().Flush().ok());
        absl::StrAppend(&wanted, "{\"percent\":90,\"used\":90,\"limit\":100} ");
        CHECK(alerts() == wanted);
        CHECK_FALSE(Spend(t, issued, 11).allowed());
        REQUIRE(t.engine().Flush().ok());
        absl::StrAppend(&wanted, "{\"used\":90,\"limit\":100} ");
        CHECK(alerts() == wanted);
        Put(t, Team(100), CarryOver::kAdditive);
        CHECK(Spend(t, issued, 90).alert_percent == 90);
        REQUIRE(t.engine().Flush().ok());
        absl::StrAppend(&wanted, "{\"percent\":90,\"used\":180,\"limit\":200} ");
        CHECK(alerts() == wanted);
      },
      ByHand());
}

TEST_CASE("units that are given back after a reset are not counted below nothing") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Put(t, Team(100));
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        Decision early = Spend(t, issued, 50);
        Put(t, Team(100), CarryOver::kReset);
        CHECK(Spend(t, issued, 0).allowed());
        CHECK(t.engine().Adjust(early, 20) == 20);
        CHECK(StateOf(t, issued) == "0 of 100");
        CHECK(Spend(t, issued, 10).quota.used == 0);
        REQUIRE(t.engine().Flush().ok());
        CHECK(StateOf(t, issued) == "0 of 100");
        CHECK(Left(t, issued) == 120);
      },
      ByHand());
}

TEST_CASE("a soft quota goes beyond the limit of the period by its percent") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Plan soft = Team(100);
        soft.quota->soft_percent = 10;
        Put(t, soft);
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        CHECK(Left(t, issued) == 110);
        Put(t, soft, CarryOver::kAdditive);
        // 110 were used of 100, so nothing was left.
        CHECK(StateOf(t, issued) == "110 of 210");
        CHECK_FALSE(Spend(t, issued, 100).over_quota);
        CHECK(Spend(t, issued).over_quota);
        CHECK(Left(t, issued) == 231 - 211);
      },
      ByHand());
}

// --- Against a model

// A key, as the text of the header says that it counts.
struct ModelKey {
  IssuedKey issued = {};
  std::string subject = {};
};

struct ModelSubject {
  std::int64_t used = 0;
  std::int64_t added = 0;
};

// Two engines on one file, a clock, two plans, and what everything must come to.
class CarryModel {
 public:
  explicit CarryModel(std::uint64_t seed) : random_(seed) {
    clock_ = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
    for (std::size_t i = 0; i < engines_.size(); ++i) Open(i);
    limits_ = {{"one", 100}, {"two", 200}, {"shared", 300}};
    for (const auto& [id, limit] : limits_) Apply(id, CarryOver::kDifference);
    for (int i = 0; i < 6; ++i) {
      const std::string plan = i < 2 ? "one" : (i < 4 ? "two" : "shared");
      auto issued = engines_[0]->CreateKey({.owner_id = "acme", .plan_id = plan});
      REQUIRE(issued.ok());
      keys_.push_back({.issued = *std::move(issued)});
      keys_.back().subject = plan == "shared" ? "acme" : keys_.back().issued.key.id;
    }
  }

  void Step() {
    switch (Draw(12)) {
      case 0:
        return ChangePlan();
      case 1:
        return MoveKey();
      case 2:
        return AdvanceClock();
      case 3:
        REQUIRE(Engine1().Flush().ok());
        return;
      case 4:
        return Open(Draw(engines_.size()));
      default:
        return Request();
    }
  }

 private:
  std::size_t Draw(std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_);
  }
  Engine& Engine1() { return *engines_[Draw(engines_.size())]; }

  void Open(std::size_t i) {
    engines_[i].reset();
    EngineOptions options = ByHand();
    options.clock = clock_;
    auto engine = Engine::Open(dir_.File("throttl.db"), options);
    REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
    engines_[i] = *std::move(engine);
  }

  void Apply(const std::string& id, CarryOver carry_over) {
    Plan plan{.id = id, .quota = Quota{.limit = limits_[id]}};
    if (id == "shared") plan.quota->scope = QuotaScope::kOwner;
    const auto put = Engine1().PutPlan(plan, {}, carry_over);
    REQUIRE_MESSAGE(put.ok(), put.status().ToString());
  }

  static void Carry(CarryOver carry_over, std::int64_t old_limit, std::int64_t new_limit,
                    ModelSubject& subject) {
    const std::int64_t old = old_limit + subject.added;
    if (carry_over == CarryOver::kReset) subject = {};
    if (carry_over == CarryOver::kProportional) {
      if (old != 0) subject.used = subject.used * new_limit / old;
      subject.added = 0;
    }
    if (carry_over == CarryOver::kAdditive) {
      // What is left then is the new limit and what was left.
      const std::int64_t left = std::max<std::int64_t>(0, old - subject.used);
      subject.added = subject.used + left;
    }
  }

  CarryOver DrawCarryOver() { return static_cast<CarryOver>(1 + Draw(4)); }

  void ChangePlan() {
    const std::string id = std::vector<std::string>{"one", "two", "shared"}[Draw(3)];
    const CarryOver carry_over = DrawCarryOver();
    const std::int64_t old_limit = limits_[id];
    limits_[id] = Draw(5) == 0 ? old_limit : static_cast<std::int64_t>(Draw(400));
    Apply(id, carry_over);
    std::map<std::string, ModelSubject*> concerned;
    for (const ModelKey& key : keys_) {
      if (key.issued.key.plan_id == id) concerned[key.subject] = &subjects_[key.subject];
    }
    for (const auto& [name, subject] : concerned) {
      Carry(carry_over, old_limit, limits_[id], *subject);
    }
  }

  void MoveKey() {
    ModelKey& key = keys_[Draw(4)];
    const CarryOver carry_over = DrawCarryOver();
    const std::int64_t old_limit = limits_[key.issued.key.plan_id];
    Engine& engine = Engine1();
    Key changed = *engine.GetKey(key.issued.key.id);
    changed.plan_id = Draw(3) == 0 ? changed.plan_id : (changed.plan_id == "one" ? "two" : "one");
    const auto updated = engine.UpdateKey(changed, {}, carry_over);
    REQUIRE_MESSAGE(updated.ok(), updated.status().ToString());
    key.issued.key = *updated;
    Carry(carry_over, old_limit, limits_[changed.plan_id], subjects_[key.subject]);
  }

  // Mostly within the month.
  void AdvanceClock() {
    const absl::Duration by = Draw(6) == 0 ? absl::Hours(24 * 31) : absl::Minutes(Draw(90));
    const absl::TimeZone utc = absl::UTCTimeZone();
    const auto before = absl::ToCivilMonth(clock_->Read().wall, utc);
    clock_->Advance(by);
    if (absl::ToCivilMonth(clock_->Read().wall, utc) != before) subjects_.clear();
  }

  void Request() {
    const ModelKey& key = keys_[Draw(keys_.size())];
    ModelSubject& subject = subjects_[key.subject];
    const std::int64_t limit = limits_[key.issued.key.plan_id] + subject.added;
    const auto cost = static_cast<std::int64_t>(Draw(40));
    Engine& engine = Engine1();
    if (Draw(3) == 0) {
      const auto usage = engine.GetUsage(key.issued.key.id);
      REQUIRE(usage.ok());
      CHECK(usage->quota.used == subject.used);
      CHECK(usage->quota.limit == limit);
    }
    const Decision decision = engine.Validate(key.issued.secret.Reveal(), {.cost = cost});
    REQUIRE(decision.allowed() == (subject.used + cost <= limit));
    if (decision.allowed()) subject.used += cost;
    CHECK(decision.quota.used == subject.used);
    CHECK(decision.quota.limit == limit);
  }

  std::mt19937_64 random_;
  TempDir dir_;
  std::shared_ptr<ManualClock> clock_;
  std::vector<std::unique_ptr<Engine>> engines_ = std::vector<std::unique_ptr<Engine>>(2);
  std::map<std::string, std::int64_t> limits_;
  std::vector<ModelKey> keys_;
  std::map<std::string, ModelSubject> subjects_;
};

TEST_CASE("histories of changes, moves, requests, settles, months and restarts follow the model") {
  const std::int64_t histories = Scaled(60);
  for (std::int64_t seed = 1; seed <= histories; ++seed) {
    CAPTURE(seed);
    CarryModel model(static_cast<std::uint64_t>(seed));
    for (int i = 0; i < 400; ++i) {
      CAPTURE(i);
      model.Step();
    }
  }
}

}  // namespace
}  // namespace throttl::testing
