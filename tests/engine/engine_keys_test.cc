#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "src/key/secret_format.h"
#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

Sha256Digest StoredDigest(EngineUnderTest& t, const std::string& key_id) {
  const auto records = t.store().ReadKeys(std::vector<std::string>{key_id});
  REQUIRE(records.ok());
  REQUIRE(records->size() == 1);
  return records->front().secrets.front().digest;
}

TEST_CASE("a new key has its settings, a secret that is shown once, and one event") {
  ForEachStore([](EngineUnderTest& t) {
    const Key wanted{.owner_id = "acme",
                     .plan_id = "pro",
                     .name = "prod",
                     .expires_at = t.Now() + absl::Hours(1) + absl::Microseconds(7),
                     .scopes = {"search", "write"},
                     .addresses = {"10.0.0.0/8"},
                     .quota = Quota{.limit = 0, .time_zone = "Europe/Berlin"},
                     .rate_limits = {{.name = "all", .limit = 7, .window = absl::Seconds(3)}},
                     .metadata = "{\"team\": \"ü\"}",
                     .secret_prefix = "acme_test"};
    const auto issued = t.engine().CreateKey(wanted, {.actor = "alice"});
    REQUIRE(issued.ok());
    const auto parts = internal::ParseSecret(issued->secret.Reveal());
    REQUIRE(parts.has_value());
    CHECK(std::string(parts->prefix) == "acme_test");

    const auto stored = t.engine().GetKey(issued->key.id);
    REQUIRE(stored.ok());
    CHECK(stored->owner_id == "acme");
    CHECK(stored->plan_id == "pro");
    CHECK(stored->name == "prod");
    CHECK(stored->expires_at == t.Now() + absl::Hours(1));  // whole milliseconds
    CHECK(stored->scopes == wanted.scopes);
    CHECK(stored->addresses == wanted.addresses);
    CHECK(stored->quota->limit == 0);
    CHECK(stored->quota->time_zone == "Europe/Berlin");
    CHECK(stored->rate_limits.at(0).window == absl::Seconds(3));
    CHECK(stored->metadata == wanted.metadata);
    CHECK(stored->created_at == t.Now());
    CHECK(stored->version == 1);
    REQUIRE(stored->secrets.size() == 1);
    CHECK(stored->secrets[0].locator == std::string(parts->locator));
    CHECK(stored->secrets[0].last4 == std::string(parts->last4));
    CHECK(StoredDigest(t, stored->id) == Sha256(issued->secret.Reveal()));

    const std::vector<Event> events = t.Events();
    CHECK(events.back().type == event_type::kKeyCreated);
    CHECK(events.back().key_id == stored->id);
    CHECK(events.back().owner_id == "acme");
    CHECK(events.back().actor == "alice");
  });
}

TEST_CASE("an id that is taken is AlreadyExists, and the key that has it stays as it was") {
  ForEachStore([](EngineUnderTest& t) {
    t.Issue("acme", "one");
    const std::string before = t.State();
    const auto again = t.engine().CreateKey({.owner_id = "acme", .plan_id = "free", .id = "one"});
    CHECK(again.status().code() == absl::StatusCode::kAlreadyExists);
    CHECK(t.State() == before);
  });
}

TEST_CASE("rotation at once ends the old secret; with an overlap both work until it ends") {
  ForEachStore([](EngineUnderTest& t) {
    const IssuedKey first = t.Issue("acme");
    const std::string id = first.key.id;
    const auto second = t.engine().RotateKey(id, {.overlap = absl::Hours(24)});
    REQUIRE(second.ok());
    REQUIRE(second->key.secrets.size() == 2);
    CHECK(second->key.secrets[0].last4 == second->secret.Reveal().substr(53));
    CHECK(second->key.secrets[1].locator == first.key.secrets[0].locator);
    CHECK(second->key.secrets[1].expires_at == t.Now() + absl::Hours(24));
    CHECK(second->key.version == 2);

    // "A key has at most two secrets: rotating again ends the older one at once."
    const auto third = t.engine().RotateKey(id, {.overlap = absl::Hours(1)});
    REQUIRE(third.ok());
    REQUIRE(third->key.secrets.size() == 2);
    CHECK(third->key.secrets[1].locator == second->key.secrets[0].locator);

    const auto fourth = t.engine().RotateKey(id);
    REQUIRE(fourth.ok());
    CHECK(fourth->key.secrets.size() == 1);
    CHECK(StoredDigest(t, id) == Sha256(fourth->secret.Reveal()));
    const auto found = t.store().FindKeys(
        std::vector<std::string>{first.key.secrets[0].locator, third->key.secrets[0].locator});
    REQUIRE(found.ok());
    CHECK(found->empty());
  });
}

// Gives the newest secret of a key an end, which no call of an engine does.
void EndNewestSecret(EngineUnderTest& t, const std::string& id, absl::Time end) {
  auto records = t.store().ReadKeys(std::vector<std::string>{id});
  REQUIRE(records.ok());
  KeyRecord record = records->at(0);
  record.secrets.at(0).info.expires_at = end;
  ++record.key.version;
  REQUIRE(t.store().Apply({.id = "end of " + id, .put_keys = {record}}).ok());
}

TEST_CASE("an overlap never makes the old secret live longer than it had") {
  ForEachStore([](EngineUnderTest& t) {
    const std::string id = t.Issue("acme").key.id;
    const absl::Time end = t.Now() + absl::Hours(1);
    EndNewestSecret(t, id, end);
    const auto rotated = t.engine().RotateKey(id, {.overlap = absl::Hours(24)});
    REQUIRE(rotated.ok());
    REQUIRE(rotated->key.secrets.size() == 2);
    CHECK(rotated->key.secrets[1].expires_at == end);

    const std::string longer = t.Issue("acme").key.id;
    EndNewestSecret(t, longer, t.Now() + absl::Hours(48));
    const auto shortened = t.engine().RotateKey(longer, {.overlap = absl::Hours(24)});
    REQUIRE(shortened.ok());
    CHECK(shortened->key.secrets.at(1).expires_at == t.Now() + absl::Hours(24));

    const std::string ended = t.Issue("acme").key.id;
    EndNewestSecret(t, ended, t.Now());
    const auto after = t.engine().RotateKey(ended, {.overlap = absl::Hours(24)});
    REQUIRE(after.ok());
    CHECK(after->key.secrets.size() == 1);
  });
}

TEST_CASE("an update with an old version is Aborted and changes nothing") {
  ForEachStore([](EngineUnderTest& t) {
    Key key = t.Issue("acme").key;
    key.name = "first";
    const auto updated = t.engine().UpdateKey(key);
    REQUIRE(updated.ok());
    CHECK(updated->version == 2);
    const std::string before = t.State();
    key.name = "second";
    CHECK(absl::IsAborted(t.engine().UpdateKey(key).status()));
    CHECK(t.State() == before);
    CHECK(t.Events().back().data == R"({"version":2,"changed":["name"]})");
  });
}

TEST_CASE("an update of any one field of a quota or rate limit is stored and told") {
  const std::vector<std::function<void(Key&)>> changes = {
      [](Key& k) { k.quota->limit = 11; },
      [](Key& k) { k.quota->period = Period::kDay; },
      [](Key& k) { k.quota->anchor_day = 2; },
      [](Key& k) { k.quota->time_zone = "Europe/Berlin"; },
      [](Key& k) { k.quota->soft_percent = 20; },
      [](Key& k) { k.quota.reset(); },
      [](Key& k) { k.rate_limits[0].name = "other"; },
      [](Key& k) { k.rate_limits[0].limit = 21; },
      [](Key& k) { k.rate_limits[0].window = absl::Milliseconds(7); },
      [](Key& k) { k.rate_limits[0].burst = 20; },
      [](Key& k) { k.rate_limits[0].endpoint = "/v1"; },
      [](Key& k) { k.rate_limits[0].algorithm = RateAlgorithm::kSlidingWindow; },
      [](Key& k) { k.rate_limits[0].counts = RateCost::kRequests; },
      [](Key& k) { k.rate_limits[0].shadow = true; },
      [](Key& k) { k.rate_limits.clear(); },
  };
  constexpr std::size_t kOfQuota = 6;
  ForEachStore([&](EngineUnderTest& t) {
    for (std::size_t i = 0; i < changes.size(); ++i) {
      CAPTURE(i);
      const auto issued = t.engine().CreateKey({.owner_id = "acme",
                                                .quota = Quota{.limit = 10},
                                                .rate_limits = {{.name = "calls", .limit = 20}}});
      REQUIRE(issued.ok());
      Key key = issued->key;
      changes[i](key);
      // Another calendar needs a reset.
      const bool resets = i >= 1 && i <= 3;
      CHECK(t.engine().UpdateKey(key).ok() != resets);
      if (resets) REQUIRE(t.engine().UpdateKey(key, {}, CarryOver::kReset).ok());
      const std::string told = i >= kOfQuota ? R"(["rate_limits"]})"
                               : resets      ? R"(["quota"],"carry_over":"reset"})"
                                             : R"(["quota"]})";
      CHECK(t.Events().back().data == R"({"version":2,"changed":)" + told);
      const auto stored = t.engine().GetKey(key.id);
      REQUIRE(stored.ok());
      CHECK(stored->quota == key.quota);
      CHECK(stored->rate_limits == key.rate_limits);
    }
  });
}

TEST_CASE("an update keeps what Throttl sets: secrets, times and revocation") {
  ForEachStore([](EngineUnderTest& t) {
    Key key = t.Issue("acme").key;
    t.clock().Advance(absl::Hours(1));
    const Key before = key;
    key.created_at = t.Now();
    key.revoked_at = t.Now();
    key.last_used_at = t.Now();
    key.secrets.clear();
    key.enabled = false;
    const auto updated = t.engine().UpdateKey(key);
    REQUIRE(updated.ok());
    CHECK(updated->created_at == before.created_at);
    CHECK_FALSE(updated->revoked_at.has_value());
    CHECK_FALSE(updated->last_used_at.has_value());
    CHECK(updated->secrets.size() == 1);
    CHECK_FALSE(updated->enabled);
  });
}

TEST_CASE("the owner of a key is fixed for life") {
  ForEachStore([](EngineUnderTest& t) {
    Key key = t.Issue("acme").key;
    key.owner_id = "globex";
    CHECK(absl::IsInvalidArgument(t.engine().UpdateKey(key).status()));
    CHECK(t.engine().GetKey(key.id)->owner_id == "acme");
  });
}

TEST_CASE("a revoked key stays listed and never comes back; revoking again is OK, with one event") {
  ForEachStore([](EngineUnderTest& t) {
    Key key = t.Issue("acme").key;
    REQUIRE(t.engine().RevokeKey(key.id).ok());
    const std::string after = t.State();
    CHECK(t.engine().RevokeKey(key.id).ok());
    CHECK(t.State() == after);
    const auto revoked = t.engine().GetKey(key.id);
    REQUIRE(revoked.ok());
    CHECK(revoked->revoked_at == t.Now());
    CHECK(absl::IsFailedPrecondition(t.engine().RotateKey(key.id).status()));
    CHECK(absl::IsFailedPrecondition(t.engine().UpdateKey(*revoked).status()));
    CHECK(t.engine().ListKeys()->items.size() == 1);
    CHECK(t.engine().ListKeys({.include_revoked = false})->items.empty());
    CHECK(t.State() == after);
  });
}

TEST_CASE("pages list every key once, oldest first, and filters hold") {
  ForEachStore([](EngineUnderTest& t) {
    std::vector<std::string> ids;
    for (int i = 0; i < 25; ++i) {
      ids.push_back(t.Issue(i % 2 == 0 ? "acme" : "globex", "k" + std::to_string(99 - i)).key.id);
      t.clock().Advance(absl::Seconds(1));
    }
    std::vector<std::string> listed;
    KeyQuery query{.count_max = 4};
    do {
      const auto page = t.engine().ListKeys(query);
      REQUIRE(page.ok());
      for (const Key& key : page->items) listed.push_back(key.id);
      query.cursor = page->next_cursor;
    } while (!query.cursor.empty());
    CHECK(listed == ids);
    CHECK(t.engine().ListKeys({.owner_id = "globex"})->items.size() == 12);
    CHECK(t.engine().ListKeys({.plan_id = "pro"})->items.empty());
    const std::string locator = t.engine().GetKey(ids[3])->secrets[0].locator;
    const auto found = t.engine().ListKeys({.locator = locator});
    REQUIRE(found.ok());
    REQUIRE(found->items.size() == 1);
    CHECK(found->items[0].id == ids[3]);
  });
}

TEST_CASE("rotations and revocations of one key by many threads each happen once") {
  ForEachStore([](EngineUnderTest& t) {
    const std::string id = t.Issue("acme").key.id;
    constexpr int kThreads = 4;
    constexpr int kRotations = 10;
    std::vector<std::thread> threads;
    std::vector<std::set<std::string>> locators(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&t, &id, &seen = locators[static_cast<std::size_t>(i)]] {
        for (int n = 0; n < kRotations;) {
          const auto rotated = t.engine().RotateKey(id, {.overlap = absl::Hours(1)});
          if (!rotated.ok()) continue;  // lost kConflictTriesMax races: told, and tried again
          seen.insert(rotated->key.secrets[0].locator);
          ++n;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::set<std::string> all;
    for (const std::set<std::string>& seen : locators) all.insert(seen.begin(), seen.end());
    CHECK(all.size() == kThreads * kRotations);
    CHECK(t.engine().GetKey(id)->version == 1 + kThreads * kRotations);
    const std::vector<Event> events = t.Events();
    CHECK(std::count_if(events.begin(), events.end(), [](const Event& e) {
            return e.type == event_type::kKeyRotated;
          }) == kThreads * kRotations);
  });
}

TEST_CASE(
    "with peppers a new digest uses the highest version, and older ones still open the store") {
  const TempDir dir;
  const std::string url = dir.File("throttl.db");
  const Pepper one{.version = 1, .value = Secret("0123456789abcdef")};
  const Pepper two{.version = 2, .value = Secret("fedcba9876543210")};
  std::string id;
  {
    auto engine = Engine::Open(url, {.peppers = {one}});
    REQUIRE(engine.ok());
    id = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "free"})->key.id;
  }
  {
    auto engine = Engine::Open(url, {.peppers = {two, one}});
    REQUIRE(engine.ok());
    const auto rotated = (*engine)->RotateKey(id, {.overlap = absl::Hours(1)});
    REQUIRE(rotated.ok());
    const auto record = (*engine)->store()->ReadKeys(std::vector<std::string>{id});
    REQUIRE(record.ok());
    CHECK(record->at(0).secrets.at(0).pepper_version == 2);
    CHECK(record->at(0).secrets.at(1).pepper_version == 1);
    CHECK(record->at(0).secrets.at(0).digest != Sha256(rotated->secret.Reveal()));
  }
  // "opening fails if a live secret needs a pepper that was not given"
  const auto without = Engine::Open(url, {.peppers = {two}});
  CHECK(absl::IsFailedPrecondition(without.status()));
  CHECK(absl::StrContains(without.status().message(), "pepper version 1"));
  {
    auto engine = Engine::Open(url, {.peppers = {one, two}});
    REQUIRE(engine.ok());
    REQUIRE((*engine)->RevokeKey(id).ok());
  }
  CHECK(Engine::Open(url).ok());  // a revoked key needs no pepper
}

}  // namespace
}  // namespace throttl::testing
