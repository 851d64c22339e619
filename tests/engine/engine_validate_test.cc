// Validate, Peek, Adjust and usage, on every store.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "src/base/sha256.h"
#include "tests/engine/engine_on_stores.h"
#include "tests/quota_plans.h"

namespace throttl::testing {
namespace {

EngineOptions ByHand() { return {.settle_thread = false}; }

void PutPlan(EngineUnderTest& t, const Plan& plan) {
  const auto put = t.engine().PutPlan(plan);
  REQUIRE_MESSAGE(put.ok(), put.status().ToString());
}

IssuedKey IssueOn(EngineUnderTest& t, const Key& key) {
  auto issued = t.engine().CreateKey(key);
  REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
  return *std::move(issued);
}

Decision Validate(EngineUnderTest& t, const IssuedKey& issued, const Request& request = {}) {
  return t.engine().Validate(issued.secret.Reveal(), request);
}

TEST_CASE("a valid secret is allowed, and the decision says what is left") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme", "key_1");
        const Decision d = Validate(t, issued);
        CHECK(d.allowed());
        CHECK(d.spent == 1);
        CHECK(d.key_id == "key_1");
        CHECK(d.owner_id == "acme");
        CHECK(d.plan_id == "free");
        CHECK(d.quota.limit == 1000);
        CHECK(d.quota.used == 1);
        CHECK(d.quota.remaining() == 999);
        CHECK(d.quota.period == Period::kMonth);
        // 21 September 2026; the month ends at its end.
        CHECK(d.quota.resets_at == absl::FromUnixSeconds(1'790'812'800));
        CHECK(d.decided_at == t.Now());
        CHECK_FALSE(d.unmetered);
        CHECK_FALSE(d.retry_after.has_value());
      },
      ByHand());
}

TEST_CASE("the limit is admitted exactly, then refused until the period ends, and again after it") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        for (int i = 0; i < 1000; ++i) REQUIRE(Validate(t, issued).allowed());
        const Decision refused = Validate(t, issued);
        CHECK(refused.code == DecisionCode::kQuotaExceeded);
        CHECK(refused.spent == 0);
        CHECK(refused.quota.used == 1000);
        CHECK(refused.quota.remaining() == 0);
        CHECK(refused.key_id == issued.key.id);
        CHECK(refused.retry_after == *refused.quota.resets_at - t.Now());
        CHECK(std::string(refused.violated_policy()) == "month");
        t.clock().Advance(*refused.retry_after - absl::Milliseconds(1));
        CHECK(Validate(t, issued).code == DecisionCode::kQuotaExceeded);
        t.clock().Advance(absl::Milliseconds(1));
        const Decision again = Validate(t, issued);
        CHECK(again.allowed());
        CHECK(again.quota.used == 1);
      },
      ByHand());
}

TEST_CASE(
    "costs are weighted; a cost that does not fit spends nothing; one above the limit never "
    "will") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        CHECK(Validate(t, issued, {.cost = 600}).quota.used == 600);
        const Decision refused = Validate(t, issued, {.cost = 401});
        CHECK(refused.code == DecisionCode::kQuotaExceeded);
        CHECK(refused.quota.used == 600);
        CHECK(refused.retry_after.has_value());
        CHECK_FALSE(Validate(t, issued, {.cost = 1001}).retry_after.has_value());
        CHECK(Validate(t, issued, {.cost = 400}).quota.remaining() == 0);
        CHECK(Validate(t, issued, {.cost = 0}).allowed());
        CHECK(Validate(t, issued, {.cost = -1}).code == DecisionCode::kInvalidRequest);
        CHECK(Validate(t, issued, {.cost = kCostMax + 1}).code == DecisionCode::kInvalidRequest);
      },
      ByHand());
}

TEST_CASE("all decisions are counted, also those of more threads than have counts of their own") {
  EngineUnderTest t("memory", ByHand());
  const IssuedKey issued = t.Issue("acme");
  const auto validate = [&](int times) {
    for (int i = 0; i < times; ++i) static_cast<void>(Validate(t, issued));
  };
  for (int i = 0; i < 50; ++i) std::thread(validate, 1).join();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(validate, 50'000);
  for (std::thread& thread : threads) thread.join();
  CHECK(t.engine().stats().allowed == 1000);
  CHECK(t.engine().stats().refused == 50 + 4 * 50'000 - 1000);
}

TEST_CASE(
    "a secret with the locator of a known key is read to its end where it is not that key's") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        REQUIRE(Validate(t, issued).allowed());
        std::string wrong_checksum(issued.secret.Reveal());
        wrong_checksum.back() = wrong_checksum.back() == 'a' ? 'b' : 'a';
        std::string wrong_alphabet(issued.secret.Reveal());
        wrong_alphabet.back() = '-';
        for (const std::string& secret : {wrong_checksum, wrong_alphabet}) {
          CHECK(t.engine().Validate(secret).code == DecisionCode::kMalformed);
          CHECK(t.engine().Validate(secret).key_id == "");
        }
        std::string wrong_in_any_format(issued.secret.Reveal());
        wrong_in_any_format.back() = ' ';
        CHECK(t.engine().Validate(wrong_in_any_format, {.cost = -1}).code ==
              DecisionCode::kMalformed);
        // Other systems may have issued it.
        const ImportedKey imported{.key = {.owner_id = "other", .id = "key_old"},
                                   .digest = Sha256(wrong_checksum)};
        REQUIRE(t.engine().ImportKeys(std::vector<ImportedKey>{imported})->imported == 1);
        CHECK(t.engine().Validate(wrong_checksum).key_id == "key_old");
        CHECK(t.engine().Validate(wrong_checksum).quota.used == 2);
        CHECK(Validate(t, issued).key_id == issued.key.id);
        CHECK(Validate(t, issued).quota.used == 3);
      },
      ByHand());
}

TEST_CASE("a secret that is missing, malformed or of no key is refused as such") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        const std::string secret(issued.secret.Reveal());
        CHECK(t.engine().Validate("").code == DecisionCode::kMissing);
        CHECK(t.engine().Validate("x").code == DecisionCode::kMalformed);
        CHECK(t.engine().Validate(std::string(5000, 'a')).code == DecisionCode::kMalformed);
        CHECK(t.engine().Validate(std::string("thr_live\0abc", 12)).code ==
              DecisionCode::kMalformed);
        CHECK(t.engine().Validate(secret.substr(1)).code == DecisionCode::kNotFound);
        CHECK(t.engine().Validate("other" + secret.substr(3)).code == DecisionCode::kNotFound);
        std::string changed = secret;
        changed.back() = changed.back() == 'a' ? 'b' : 'a';
        CHECK(t.engine().Validate(changed).code == DecisionCode::kMalformed);
        // Of another store, with a right checksum.
        EngineUnderTest other("memory", ByHand());
        const IssuedKey foreign = other.Issue("acme");
        const Decision d = Validate(t, foreign);
        CHECK(d.code == DecisionCode::kNotFound);
        CHECK(d.key_id == "");
        CHECK(Validate(t, issued).allowed());
      },
      ByHand());
}

TEST_CASE("a key that is disabled, revoked or expired is refused at once, and says which") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued =
            IssueOn(t, {.owner_id = "acme", .expires_at = t.Now() + absl::Hours(1)});
        REQUIRE(Validate(t, issued).allowed());
        auto key = t.engine().GetKey(issued.key.id);
        key->enabled = false;
        key = t.engine().UpdateKey(*key);
        REQUIRE(key.ok());
        CHECK(Validate(t, issued).code == DecisionCode::kInactive);
        key->enabled = true;
        REQUIRE(t.engine().UpdateKey(*key).ok());
        CHECK(Validate(t, issued).allowed());
        t.clock().Advance(absl::Hours(1) - absl::Milliseconds(1));
        CHECK(Validate(t, issued).allowed());
        t.clock().Advance(absl::Milliseconds(1));  // now >= expires_at
        CHECK(Validate(t, issued).code == DecisionCode::kExpired);
        REQUIRE(t.engine().RevokeKey(issued.key.id).ok());
        const Decision d = Validate(t, issued);
        CHECK(d.code == DecisionCode::kInactive);
        CHECK(d.key_id == issued.key.id);
      },
      ByHand());
}

TEST_CASE("two secrets of one key spend one counter during a rotation, and the old one ends") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey first = t.Issue("acme");
        REQUIRE(Validate(t, first).allowed());
        auto second = t.engine().RotateKey(first.key.id, {.overlap = absl::Hours(2)});
        REQUIRE(second.ok());
        CHECK(Validate(t, *second).quota.used == 2);
        const Decision old = Validate(t, first);
        CHECK(old.quota.used == 3);
        CHECK(old.secret_retiring);
        CHECK(old.secret_expires_at == t.Now() + absl::Hours(2));
        t.clock().Advance(absl::Hours(2));
        CHECK(Validate(t, first).code == DecisionCode::kExpired);
        CHECK(Validate(t, *second).quota.used == 4);
        auto third = t.engine().RotateKey(first.key.id);
        REQUIRE(third.ok());
        CHECK(Validate(t, *second).code == DecisionCode::kNotFound);
        CHECK(Validate(t, *third).quota.used == 5);
      },
      ByHand());
}

TEST_CASE("only the addresses and scopes of the key may use it") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme",
                                             .scopes = {"read", "write"},
                                             .addresses = {"10.0.0.0/8", "2001:db8::/32"}});
        const auto code = [&](const char* address, const char* scope) {
          return Validate(t, issued, {.address = address, .scope = scope}).code;
        };
        CHECK(code("10.1.2.3", "") == DecisionCode::kValid);
        CHECK(code("::ffff:10.1.2.3", "read") == DecisionCode::kValid);
        CHECK(code("2001:db8::1", "read write") == DecisionCode::kValid);
        CHECK(code("11.1.2.3", "") == DecisionCode::kForbidden);
        CHECK(code("", "") == DecisionCode::kForbidden);
        CHECK(code("not an address", "") == DecisionCode::kForbidden);
        CHECK(code("10.1.2.3", "admin") == DecisionCode::kScopeMissing);
        CHECK(code("10.1.2.3", "read admin") == DecisionCode::kScopeMissing);
        const IssuedKey plain = t.Issue("acme");
        CHECK(Validate(t, plain, {.address = "1.2.3.4"}).allowed());
        CHECK(Validate(t, plain, {.scope = "read"}).code == DecisionCode::kScopeMissing);
      },
      ByHand());
}

TEST_CASE("a quota of the owner is shared by all of its keys on the plan") {
  ForEachStore(
      [](EngineUnderTest& t) {
        PutPlan(t, {.id = "team", .quota = Quota{.limit = 3, .scope = QuotaScope::kOwner}});
        const IssuedKey a = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey b = IssueOn(t, {.owner_id = "acme", .plan_id = "team"});
        const IssuedKey other = IssueOn(t, {.owner_id = "other", .plan_id = "team"});
        CHECK(Validate(t, a).quota.used == 1);
        CHECK(Validate(t, b, {.cost = 2}).quota.used == 3);
        CHECK(Validate(t, a).code == DecisionCode::kQuotaExceeded);
        CHECK(Validate(t, other).quota.used == 1);
        REQUIRE(t.engine().Flush().ok());
        const auto history = t.engine().UsageHistory({.key_id = b.key.id});
        REQUIRE(history.ok());
        REQUIRE(history->size() == 1);
        CHECK(history->front().allowed == 1);
        CHECK(history->front().units == 2);
        CHECK(t.engine().GetUsage(a.key.id)->quota.used == 3);
      },
      ByHand());
}

TEST_CASE("a change of the plan holds at once: what was used stays used") {
  ForEachStore(
      [](EngineUnderTest& t) {
        PutPlan(t, {.id = "small", .quota = Quota{.limit = 5}});
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "small"});
        for (int i = 0; i < 5; ++i) REQUIRE(Validate(t, issued).allowed());
        REQUIRE(Validate(t, issued).code == DecisionCode::kQuotaExceeded);
        PutPlan(t, {.id = "small", .quota = Quota{.limit = 7}});
        CHECK(Validate(t, issued).quota.used == 6);
        PutPlan(t, {.id = "small", .quota = Quota{.limit = 2}});
        const Decision d = Validate(t, issued);
        CHECK(d.code == DecisionCode::kQuotaExceeded);
        CHECK(d.quota.used == 6);
        CHECK(d.quota.limit == 2);
        PutPlan(t, {.id = "small"});
        CHECK(Validate(t, issued).allowed());
      },
      ByHand());
}

TEST_CASE("Peek makes the same decision and spends nothing") {
  ForEachStore(
      [](EngineUnderTest& t) {
        PutPlan(t, {.id = "small", .quota = Quota{.limit = 2}});
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "small"});
        const auto peek = [&] { return t.engine().Peek(issued.secret.Reveal()); };
        CHECK(peek().quota.used == 0);
        CHECK(peek().allowed());
        REQUIRE(Validate(t, issued).allowed());
        REQUIRE(Validate(t, issued).allowed());
        CHECK(peek().code == DecisionCode::kQuotaExceeded);
        CHECK(peek().quota.used == 2);
        REQUIRE(t.engine().Flush().ok());
        CHECK(t.engine().UsageHistory({})->front().quota_exceeded == 0);
      },
      ByHand());
}

TEST_CASE("Adjust makes the cost of a decision what it was in fact") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        Decision d = Validate(t, issued, {.cost = 10});
        CHECK(t.engine().Adjust(d, 4) == 4);
        CHECK(d.spent == 4);
        CHECK(t.engine().Adjust(d, 4) == 4);
        CHECK(t.engine().GetUsage(issued.key.id)->quota.used == 4);
        CHECK(t.engine().Adjust(d, 2000) == 1000);  // as far as the limit allows
        CHECK(t.engine().Adjust(d, 0) == 0);
        CHECK(t.engine().GetUsage(issued.key.id)->quota.used == 0);
        // Also in another hour of the same period.
        t.clock().Advance(absl::Hours(3));
        REQUIRE(Validate(t, issued).allowed());
        CHECK(t.engine().Adjust(d, 9) == 9);
        CHECK(t.engine().GetUsage(issued.key.id)->quota.used == 10);
        Decision refused = Validate(t, issued, {.cost = 991});
        CHECK(t.engine().Adjust(refused, 5) == 0);
        Decision late = Validate(t, issued);
        t.clock().Advance(absl::Hours(24 * 31));
        CHECK(t.engine().Adjust(late, 0) == 1);
        REQUIRE(t.engine().Flush().ok());
        std::int64_t units = 0;
        const auto history = t.engine().UsageHistory({.key_id = issued.key.id});
        for (const UsageBucket& bucket : *history) units += bucket.units;
        CHECK(units == 11);
      },
      ByHand());
}

TEST_CASE("an alert shows in every decision past its threshold") {
  ForEachStore(
      [](EngineUnderTest& t) {
        PutPlan(t, {.id = "small", .quota = Quota{.limit = 10}, .alert_percents = {50, 90, 100}});
        const IssuedKey issued = IssueOn(t, {.owner_id = "acme", .plan_id = "small"});
        std::vector<std::int32_t> seen;
        for (int i = 0; i < 11; ++i) seen.push_back(Validate(t, issued).alert_percent);
        CHECK(seen == std::vector<std::int32_t>{0, 0, 0, 0, 50, 50, 50, 50, 90, 100, 100});
        REQUIRE(t.engine().Flush().ok());
        std::vector<std::string> told;
        for (const Event& event : t.Events()) {
          if (event.type == std::string(event_type::kQuotaThreshold)) told.push_back(event.data);
        }
        CHECK(told.size() == 3);
        REQUIRE(t.engine().Flush().ok());
        // Seeded plans, thresholds, the limit exceeded, the plan, the key.
        CHECK(t.Events().size() == 3 + 3 + 1 + 1 + 1);
      },
      ByHand());
}

TEST_CASE("a key imported from another system is found by its digest, and goes on with its usage") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const std::string secret = "tk_0123456789abcdefghijklmnopqrstuv";
        const ImportedKey imported{
            .key = {.owner_id = "acme", .id = "key_old"}, .digest = Sha256(secret), .used = 998};
        REQUIRE(t.engine().ImportKeys(std::vector<ImportedKey>{imported})->imported == 1);
        CHECK(t.engine().Validate(secret).quota.used == 999);
        CHECK(t.engine().Validate(secret).allowed());
        CHECK(t.engine().Validate(secret).code == DecisionCode::kQuotaExceeded);
        CHECK(t.engine().Validate("tk_0123456789abcdefghijklmnopqrstuw").code ==
              DecisionCode::kMalformed);
      },
      ByHand());
}

TEST_CASE("usage is live, and the history has each hour of each key") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme", "key_1");
        REQUIRE(Validate(t, issued, {.cost = 5}).allowed());
        auto usage = t.engine().GetUsage("key_1");
        REQUIRE(usage.ok());
        CHECK(usage->quota.used == 5);
        CHECK(usage->quota.limit == 1000);
        CHECK(usage->last_used_at == t.Now());
        t.clock().Advance(absl::Hours(1));
        REQUIRE(Validate(t, issued).allowed());
        REQUIRE(Validate(t, issued, {.cost = 999}).code == DecisionCode::kQuotaExceeded);
        const auto hours = t.engine().UsageHistory({.key_id = "key_1", .bucket = Period::kHour});
        REQUIRE(hours.ok());
        REQUIRE(hours->size() == 2);
        CHECK(hours->at(0).allowed == 1);
        CHECK(hours->at(0).units == 5);
        CHECK(hours->at(1).units == 1);
        CHECK(hours->at(1).quota_exceeded == 1);
        const auto listed = t.engine().ListUsage({.owner_id = "acme"});
        REQUIRE(listed->items.size() == 1);
        CHECK(listed->items[0].quota.used == 6);
        std::string csv;
        REQUIRE(t.engine()
                    .ExportUsage("acme", ExportFormat::kCsv,
                                 [&csv](std::string_view chunk) {
                                   csv += chunk;
                                   return absl::OkStatus();
                                 })
                    .ok());
        CHECK(csv.find("key_1") != std::string::npos);
        CHECK(t.engine().GetUsage("key_1", {.owner_id = "other"}).status().code() ==
              absl::StatusCode::kNotFound);
        CHECK(t.engine().UsageHistory({.key_id = "key_1"}, {.owner_id = "other"}).status().code() ==
              absl::StatusCode::kNotFound);
      },
      ByHand());
}

TEST_CASE("no host callback runs under a lock: an export may call the engine, and fork") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        int calls = 0;
        alarm(60);  // ends the test where the fork waits for the export to end
        const absl::Status exported =
            t.engine().ExportUsage("", ExportFormat::kJson, [&](std::string_view) {
              CHECK(Validate(t, issued).allowed());
              const pid_t child = fork();
              if (child == 0) _exit(0);
              int status = -1;
              CHECK(waitpid(child, &status, 0) == child);
              ++calls;
              return absl::OkStatus();
            });
        alarm(0);
        CHECK(exported.ok());
        CHECK(calls == 1);
      },
      ByHand());
}

TEST_CASE("what was flushed is there when the store is opened again, and not twice") {
  const TempDir dir;
  auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  const EngineOptions options{.settle_thread = false, .clock = clock};
  std::string secret;
  for (int i = 0; i < 3; ++i) {
    auto engine = Engine::Open(dir.File("throttl.db"), options);
    REQUIRE(engine.ok());
    if (i == 0) secret = (*engine)->CreateKey({.owner_id = "acme"})->secret.Reveal();
    CHECK((*engine)->Validate(secret).quota.used == i + 1);
    if (i == 1) std::filesystem::remove(dir.File("throttl.db-lease"));  // while it is in use
    REQUIRE((*engine)->Close().ok());
    CHECK((*engine)->Validate(secret).code == DecisionCode::kStoreUnavailable);
  }
}

TEST_CASE("two engines on one file are one counter, and a revocation holds in both at once") {
  const TempDir dir;
  const EngineOptions options{.settle_thread = false, .seed_plans = QuotaPlans()};
  auto a = Engine::Open(dir.File("throttl.db"), options);
  auto b = Engine::Open(dir.File("throttl.db"), options);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  const auto issued = (*a)->CreateKey({.owner_id = "acme"});
  const std::string secret(issued->secret.Reveal());
  for (int i = 0; i < 10; ++i) {
    CHECK((*a)->Validate(secret).quota.used == 2 * i + 1);
    CHECK((*b)->Validate(secret).quota.used == 2 * i + 2);
  }
  REQUIRE((*b)->RevokeKey(issued->key.id).ok());
  CHECK((*a)->Validate(secret).code == DecisionCode::kInactive);
  CHECK((*b)->Validate(secret).code == DecisionCode::kInactive);
}

TEST_CASE("threads that race for one key admit exactly its limit") {
  ForEachStore([](EngineUnderTest& t) {
    const IssuedKey issued = t.Issue("acme");
    std::atomic<int> allowed = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 300; ++j) allowed += Validate(t, issued).allowed() ? 1 : 0;
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(allowed == 1000);
    CHECK(t.engine().stats().allowed == 1000);
    CHECK(t.engine().stats().refused == 1400);
    REQUIRE(t.engine().Close().ok());
    CHECK(t.engine().stats().settle_failures == 0);
  });
}

}  // namespace
}  // namespace throttl::testing
