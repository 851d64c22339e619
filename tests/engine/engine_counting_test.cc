// What stands between Validate and the store: wrong secrets of known keys, a store that is away,
// and counters that others or earlier periods left.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/memory_store.h"
#include "throttl/quota_store.h"
#include "throttl/sqlite_store.h"

#include "src/base/base62.h"
#include "src/base/crc32.h"
#include "src/key/secret_format.h"
#include "src/lease/lease_table.h"
#include "tests/engine/engine_on_stores.h"
#include "tests/engine/forwarding_store.h"

namespace throttl::testing {
namespace {

EngineOptions ByHand() { return {.settle_thread = false}; }

// Another secret with the same locator and a right checksum, as anybody could make it who saw one.
std::string WithOtherRandom(std::string secret) {
  const std::size_t body = secret.size() - internal::kBodySize;
  char& random = secret[body + internal::kLocatorSize];
  random = random == 'a' ? 'b' : 'a';
  const std::uint32_t crc = internal::Crc32(
      std::string_view(secret).substr(body, internal::kLocatorSize + internal::kRandomSize));
  const std::array<std::uint8_t, 4> bytes = {
      static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
      static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
  std::array<char, internal::kChecksumSize> digits = {};
  internal::WriteBase62(bytes, digits);
  secret.replace(secret.size() - digits.size(), digits.size(), digits.data(), digits.size());
  return secret;
}

// A store that can be away.
struct SometimesAway : ForwardingStore {
  using ForwardingStore::ForwardingStore;
  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    ++looked_up;
    if (away) return absl::UnavailableError("away");
    return ForwardingStore::FindKeys(locators);
  }
  absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) override {
    if (counters_away) return absl::UnavailableError("away");
    return ForwardingStore::ReadCounters(ids);
  }
  std::atomic<bool> away = false;
  std::atomic<bool> counters_away = false;
  std::atomic<int> looked_up = 0;
};

struct EngineOnAway {
  explicit EngineOnAway(StoreFailure policy) {
    auto opened = Engine::Create(
        store, {.on_store_failure = policy,
                .settle_thread = false,
                .clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000))});
    REQUIRE(opened.ok());
    engine = *std::move(opened);
  }
  std::string NewSecret() {
    auto issued = engine->CreateKey({.owner_id = "acme"});
    REQUIRE(issued.ok());
    return std::string(issued->secret.Reveal());
  }
  std::shared_ptr<SometimesAway> store = std::make_shared<SometimesAway>();
  std::unique_ptr<Engine> engine;
};

TEST_CASE(
    "a secret with a known locator and a right checksum, but another random part, is refused") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme");
        const std::string secret(issued.secret.Reveal());
        const std::string forged = WithOtherRandom(secret);
        REQUIRE(internal::ParseSecret(forged).has_value());
        // Before the process knows the key, and when it has it in hand.
        for (int i = 0; i < 2; ++i) {
          const Decision d = t.engine().Validate(forged);
          CHECK(d.code == DecisionCode::kNotFound);
          CHECK(d.key_id == "");
          REQUIRE(t.engine().Validate(secret).allowed());
        }
        CHECK(t.engine().GetUsage(issued.key.id)->quota.used == 2);
      },
      ByHand());
}

TEST_CASE("failing open concerns counting, never identity") {
  EngineOnAway open(StoreFailure::kAllow);
  const std::string known = open.NewSecret();
  open.store->counters_away = true;
  const Decision unmetered = open.engine->Validate(known);
  CHECK(unmetered.allowed());
  CHECK(unmetered.unmetered);
  CHECK(unmetered.spent == 0);
  open.store->away = true;
  const std::string unknown = open.NewSecret();
  CHECK(open.engine->Validate(unknown).code == DecisionCode::kStoreUnavailable);
  CHECK(open.engine->Validate(WithOtherRandom(known)).code == DecisionCode::kNotFound);
  open.store->away = false;
  open.store->counters_away = false;
  CHECK(open.engine->Validate(known).quota.used == 1);
  CHECK_FALSE(open.engine->Validate(known).unmetered);

  EngineOnAway closed(StoreFailure::kRefuse);
  const std::string secret = closed.NewSecret();
  closed.store->counters_away = true;
  CHECK(closed.engine->Validate(secret).code == DecisionCode::kStoreUnavailable);
  CHECK(absl::IsUnavailable(closed.engine->stats().last_store_error));
}

TEST_CASE(
    "a request that is let pass unmetered still spends its rate limits, and is refused by them") {
  EngineOnAway t(StoreFailure::kAllow);
  const std::string secret = t.NewSecret();  // ten a minute
  t.store->counters_away = true;
  for (int i = 1; i <= 10; ++i) {
    const Decision d = t.engine->Validate(secret);
    CHECK(d.allowed());
    CHECK(d.unmetered);
    CHECK(d.rate.remaining == 10 - i);
  }
  CHECK(t.engine->Peek(secret).code == DecisionCode::kRateLimited);
  const Decision refused = t.engine->Validate(secret);
  CHECK(refused.code == DecisionCode::kRateLimited);
  CHECK_FALSE(refused.unmetered);
  CHECK(refused.retry_after == absl::Seconds(6));
}

// Counts its readings.
struct CountingClock final : Clock {
  Reading Read() override {
    ++readings;
    return manual.Read();
  }
  ManualClock manual{absl::FromUnixSeconds(1'790'000'000)};
  int readings = 0;
};

TEST_CASE("a host's clock is read once a decision, also with rate limits") {
  const auto clock = std::make_shared<CountingClock>();
  const auto engine = Engine::Open("memory:", {.settle_thread = false, .clock = clock});
  REQUIRE(engine.ok());
  const auto issued = (*engine)->CreateKey(
      {.owner_id = "acme",
       .rate_limits = {{.name = "short", .limit = 9, .window = absl::Milliseconds(9)}}});
  REQUIRE(issued.ok());
  REQUIRE((*engine)->Validate(issued->secret.Reveal()).allowed());
  clock->readings = 0;
  CHECK((*engine)->Validate(issued->secret.Reveal()).allowed());
  CHECK(clock->readings == 1);
}

TEST_CASE(
    "10,000 well-formed secrets of no key: none is allowed, and few of them reach the store") {
  for (const bool away : {false, true}) {
    EngineOnAway t(StoreFailure::kAllow);
    t.store->away = away;
    const int before = t.store->looked_up;
    int not_found = 0;
    for (int i = 0; i < 10'000; ++i) {
      const auto secret = internal::GenerateSecret("thr_live", nullptr);
      REQUIRE(secret.ok());
      const Decision d = t.engine->Validate(secret->Reveal());
      REQUIRE_FALSE(d.allowed());
      REQUIRE((d.code == DecisionCode::kNotFound || d.code == DecisionCode::kStoreUnavailable));
      not_found += d.code == DecisionCode::kNotFound ? 1 : 0;
    }
    if (away) {
      CHECK(not_found == 0);
    } else {
      // A second's worth, since the clock stands still.
      CHECK(not_found >= 1000);
      CHECK(not_found <= 1001);
      CHECK(t.store->looked_up - before <= 1001);
    }
  }
}

// Counts what it is asked for, and passes on whether there is an imported secret.
struct CountingStore : ForwardingStore {
  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    ++looked_up;
    return ForwardingStore::FindKeys(locators);
  }
  absl::StatusOr<bool> HasImportedSecrets() override {
    ++asked;
    return to()->HasImportedSecrets();
  }
  std::atomic<int> looked_up = 0;
  std::atomic<int> asked = 0;
};

TEST_CASE("a text that is not of our format is looked up only while there is an imported secret") {
  const auto store = std::make_shared<CountingStore>();
  const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  const EngineOptions options{.settle_thread = false, .clock = clock};
  const auto engine = Engine::Create(store, options);
  REQUIRE(engine.ok());
  const auto issued = (*engine)->CreateKey({.owner_id = "acme"});
  REQUIRE(issued.ok());
  const auto guess = [&](int i) {
    return (*engine)->Validate("tk_0123456789abcdefghijklm" + std::to_string(100'000 + i)).code;
  };
  // More than unknown secrets may be looked up in a second: a known key is not held up by them.
  for (int i = 0; i < 3000; ++i) REQUIRE(guess(i) == DecisionCode::kMalformed);
  CHECK(store->looked_up == 0);
  CHECK(store->asked == 1);
  CHECK((*engine)->Validate(issued->secret.Reveal()).allowed());
  // Another process imports one.
  const auto other = Engine::Create(store, options);
  REQUIRE(other.ok());
  const std::string secret = "tk_0123456789abcdefghijklm100007";
  const std::vector<ImportedKey> keys = {
      {.key = {.owner_id = "acme", .id = "old"}, .digest = Sha256(secret)}};
  REQUIRE((*other)->ImportKeys(keys)->imported == 1);
  store->looked_up = 0;
  CHECK(guess(7) == DecisionCode::kValid);
  CHECK(store->asked == 2);
  CHECK(guess(8) == DecisionCode::kMalformed);
  CHECK(store->looked_up == 2);
}

TEST_CASE("a request under an owner's quota that must start again spends once") {
  ForEachStore(
      [](EngineUnderTest& t) {
        REQUIRE(
            t.engine()
                .PutPlan({.id = "team", .quota = Quota{.limit = 100, .scope = QuotaScope::kOwner}})
                .ok());
        const auto a = t.engine().CreateKey({.owner_id = "acme", .plan_id = "team"});
        const auto b = t.engine().CreateKey({.owner_id = "acme", .plan_id = "team"});
        REQUIRE(t.engine().Validate(a->secret.Reveal()).quota.used == 1);
        REQUIRE(t.engine().Validate(b->secret.Reveal()).quota.used == 2);
        // In the next hour the slot of the owner is turned by b, that of a is not yet.
        t.clock().Advance(absl::Hours(1));
        CHECK(t.engine().Validate(b->secret.Reveal()).quota.used == 3);
        CHECK(t.engine().Validate(a->secret.Reveal()).quota.used == 4);
        CHECK(t.engine().GetUsage(a->key.id)->quota.used == 4);
      },
      ByHand());
}

TEST_CASE("a quota that changes its period and back begins at nothing each time, and loses none") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const auto put = [&](Period period) {
          const Plan plan{.id = "p", .quota = Quota{.limit = 10, .period = period}};
          REQUIRE(t.engine().PutPlan(plan, {}, CarryOver::kReset).ok());
        };
        put(Period::kMonth);
        const auto issued = t.engine().CreateKey({.owner_id = "acme", .plan_id = "p"});
        const auto used = [&] { return t.engine().Validate(issued->secret.Reveal()).quota.used; };
        for (int i = 1; i <= 4; ++i) REQUIRE(used() == i);
        put(Period::kDay);
        CHECK(used() == 1);
        put(Period::kMonth);
        CHECK(used() == 1);
        put(Period::kDay);
        CHECK(used() == 1);
        REQUIRE(t.engine().Flush().ok());
        const CounterId month{.subject = "k:" + issued->key.id,
                              .period_start = absl::FromUnixSeconds(1'788'220'800)};
        const auto counters = t.store().ReadCounters(std::vector<CounterId>{month});
        REQUIRE(counters.ok());
        CHECK(counters->front().used == 5);
        CHECK(counters->front().forgiven == 4);
      },
      ByHand());
}

TEST_CASE("what another holder used counts after a settle, and a period that ended is closed") {
  ForEachStore(
      [](EngineUnderTest& t) {
        const IssuedKey issued = t.Issue("acme", "key_1");
        REQUIRE(t.engine().Validate(issued.secret.Reveal()).quota.used == 1);
        const absl::Time start = t.engine().GetUsage("key_1")->period_start;
        const CounterId counter{.subject = "k:key_1", .period_start = start};
        const SettleRow row{.counter = counter, .seq = 1, .used = 5, .keep = 5, .sole = true};
        REQUIRE(t.store().Settle({.holder = HolderId{77}, .now = t.Now(), .rows = {row}}).ok());
        REQUIRE(t.engine().Flush().ok());
        CHECK(t.engine().Validate(issued.secret.Reveal()).quota.used == 7);
        t.clock().Advance(absl::Hours(24 * 31));
        REQUIRE(t.engine().Validate(issued.secret.Reveal()).quota.used == 1);
        REQUIRE(t.engine().Flush().ok());
        const auto counters = t.store().ReadCounters(std::vector<CounterId>{counter});
        REQUIRE(counters.ok());
        CHECK(counters->front().used == 7);
        CHECK(counters->front().open_leases == 1);  // of holder 77
      },
      ByHand());
}

TEST_CASE(
    "each threshold raises one event per subject, period and limit: not after a rename, nor "
    "when the lease table is made anew") {
  const TempDir dir;
  const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  for (int opening = 0; opening < 3; ++opening) {
    auto engine = Engine::Open(dir.File("throttl.db"), {.settle_thread = false, .clock = clock});
    REQUIRE(engine.ok());
    if (opening == 0) {
      REQUIRE(
          (*engine)->CreateKey({.owner_id = "acme", .quota = Quota{.limit = 10}, .id = "k"}).ok());
    }
    const auto issued = (*engine)->RotateKey("k");
    REQUIRE(issued.ok());
    REQUIRE((*engine)->Validate(issued->secret.Reveal(), {.cost = opening == 0 ? 9 : 0}).allowed());
    REQUIRE((*engine)->Flush().ok());
    // With the slot in use, and, at the next opening, without one.
    auto key = (*engine)->GetKey("k");
    REQUIRE(key.ok());
    key->name = "name " + std::to_string(opening);
    REQUIRE((*engine)->UpdateKey(*key).ok());
    REQUIRE((*engine)->Validate(issued->secret.Reveal(), {.cost = 0}).allowed());
    REQUIRE((*engine)->Flush().ok());
    const auto events = (*engine)->ReadEvents(0, 1000);
    REQUIRE(events.ok());
    int raised = 0;
    for (const Event& event : *events) {
      raised += event.type == std::string(event_type::kQuotaThreshold) ? 1 : 0;
    }
    CHECK(raised == 1);
    REQUIRE((*engine)->Close().ok());
    std::filesystem::remove(dir.File("throttl.db-lease"));
  }
}

TEST_CASE("Engines may share one store: they then act like processes that share a file") {
  const std::shared_ptr<QuotaStore> store = MakeMemoryStore();
  auto a = Engine::Create(store, ByHand());
  auto b = Engine::Create(store, ByHand());
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  const auto issued = (*a)->CreateKey({.owner_id = "acme", .quota = Quota{.limit = 5}});
  int allowed = 0;
  for (int i = 0; i < 5; ++i) {
    allowed += (*a)->Validate(issued->secret.Reveal()).allowed() ? 1 : 0;
    allowed += (*b)->Validate(issued->secret.Reveal()).allowed() ? 1 : 0;
  }
  CHECK(allowed == 5);
}

TEST_CASE("When a change returns, every swap under way on what it changed fails") {
  const TempDir dir;
  auto engine = Engine::Open(dir.File("throttl.db"), ByHand());
  REQUIRE(engine.ok());
  const auto issued = (*engine)->CreateKey({.owner_id = "acme", .id = "k"});
  REQUIRE((*engine)->Validate(issued->secret.Reveal()).allowed());
  const StoreInfo& info = (*engine)->store()->info();
  const auto table =
      internal::LeaseTable::Open({.path = info.lease_path, .store_id = info.store_id});
  REQUIRE(table.ok());
  // A swap compares all of this word, in which the epoch is.
  const auto word = [&] { return (*(*table)->Read("k:k"))->consumed; };
  const std::uint64_t first = word();
  auto plan = (*engine)->GetPlan("free");
  REQUIRE(plan.ok());
  plan->quota->limit = 900;
  REQUIRE((*engine)->PutPlan(*plan).ok());
  const std::uint64_t second = word();
  CHECK(second != first);
  REQUIRE((*engine)->RevokeKey("k").ok());
  const std::uint64_t third = word();
  CHECK(third != second);
  // Once more: the first call may have failed after the store had it.
  REQUIRE((*engine)->RevokeKey("k").ok());
  CHECK(word() != third);
}

}  // namespace
}  // namespace throttl::testing
