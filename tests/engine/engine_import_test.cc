#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "src/engine/subject.h"
#include "src/key/secret_format.h"
#include "tests/engine/engine_on_stores.h"
#include "tests/engine/forwarding_store.h"

namespace throttl::testing {
namespace {

ImportedKey Foreign(const std::string& id, const std::string& secret, std::int64_t used = 0) {
  return {.key = {.owner_id = "acme", .plan_id = "free", .name = "old", .id = id},
          .digest = Sha256(secret),
          .used = used};
}

Counter CounterOf(EngineUnderTest& t, const Key& key) {
  const auto plan = t.engine().GetPlan(key.plan_id);
  REQUIRE(plan.ok());
  const auto counted = internal::SubjectOf(key, *plan, t.Now());
  REQUIRE(counted.ok());
  const auto counters = t.store().ReadCounters(std::span(&counted->counter, 1));
  REQUIRE(counters.ok());
  return counters->front();
}

TEST_CASE("imported keys are known by their digests, and importing them again is harmless") {
  ForEachStore([](EngineUnderTest& t) {
    std::vector<ImportedKey> keys;
    for (int i = 0; i < 2500; ++i) {  // more than one batch
      keys.push_back(Foreign("old-" + std::to_string(i), "tk_" + std::to_string(i)));
    }
    const auto report = t.engine().ImportKeys(keys, {.actor = "migration"});
    REQUIRE_MESSAGE(report.ok(), report.status().ToString());
    CHECK(report->imported == 2500);
    CHECK(report->unchanged == 0);
    CHECK(report->conflicts.empty());
    const std::size_t events = t.Events().size();
    const auto again = t.engine().ImportKeys(keys);
    REQUIRE(again.ok());
    CHECK(again->imported == 0);
    CHECK(again->unchanged == 2500);
    CHECK(t.Events().size() == events);
    const auto found =
        t.store().FindKeys(std::vector<std::string>{internal::ImportedLocator(Sha256("tk_2499"))});
    REQUIRE(found.ok());
    REQUIRE(found->size() == 1);
    CHECK(found->front().key.id == "old-2499");
    CHECK(found->front().secrets.at(0).info.last4.empty());
  });
}

TEST_CASE("an id or digest of another key is a conflict, and nothing of it is changed") {
  ForEachStore([](EngineUnderTest& t) {
    REQUIRE(t.engine().ImportKeys(std::vector{Foreign("a", "tk_a")}).ok());
    const auto report = t.engine().ImportKeys(std::vector{
        Foreign("a", "tk_other"),  // the id is taken
        Foreign("b", "tk_a"),      // the digest is taken
        Foreign("c", "tk_c"), Foreign("c", "tk_d"), Foreign("d", "tk_c"), Foreign("c", "tk_c")});
    REQUIRE(report.ok());
    CHECK(report->imported == 1);
    CHECK(report->unchanged == 1);
    CHECK(report->conflicts == std::vector<std::string>{"a", "b", "c", "d"});
    CHECK(t.engine().ListKeys()->items.size() == 2);
  });
}

TEST_CASE("one bad key in a list is an error that names it, and none is imported") {
  ForEachStore([](EngineUnderTest& t) {
    std::vector<ImportedKey> keys{Foreign("a", "tk_a"), Foreign("b", "tk_b"), Foreign("", "tk_c")};
    const std::string before = t.State();
    auto status = t.engine().ImportKeys(keys).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK(absl::StrContains(status.message(), "keys[2]"));
    keys[2] = Foreign("c", "tk_c");
    keys[2].key.plan_id = "gold";
    status = t.engine().ImportKeys(keys).status();
    CHECK(absl::StrContains(status.message(), "keys[2]: plan_id is \"gold\""));
    keys[2] = Foreign("c", "tk_c", kLimitMax + 1);
    CHECK(absl::IsInvalidArgument(t.engine().ImportKeys(keys).status()));
    CHECK(t.State() == before);
  });
}

TEST_CASE("what was used before the import counts in the running period, once") {
  ForEachStore([](EngineUnderTest& t) {
    const ImportedKey key = Foreign("a", "tk_a", 400);
    REQUIRE(t.engine().ImportKeys(std::vector{key}).ok());
    REQUIRE(t.engine().ImportKeys(std::vector{key}).ok());
    const Counter counter = CounterOf(t, key.key);
    CHECK(counter.used == 400);
    CHECK(counter.charged == 400);
    CHECK(counter.open_leases == 0);
    CHECK(t.engine().ImportKeys(std::vector{Foreign("b", "tk_b", 5000)}).ok());
    CHECK(CounterOf(t, Foreign("b", "").key).used == 5000);  // more than the limit is told as it is
  });
}

TEST_CASE("a quota that keys share counts what all of them had used") {
  ForEachStore([](EngineUnderTest& t) {
    REQUIRE(t.engine()
                .PutPlan({.id = "team", .quota = Quota{.limit = 100, .scope = QuotaScope::kOwner}})
                .ok());
    ImportedKey a = Foreign("a", "tk_a", 30);
    ImportedKey b = Foreign("b", "tk_b", 40);
    a.key.plan_id = "team";
    b.key.plan_id = "team";
    REQUIRE(t.engine().ImportKeys(std::vector{a, b}).ok());
    CHECK(CounterOf(t, a.key).used == 70);
  });
}

TEST_CASE("the key's own quota stands in for the plan's, also for one that keys share") {
  ForEachStore([](EngineUnderTest& t) {
    REQUIRE(t.engine()
                .PutPlan({.id = "team", .quota = Quota{.limit = 100, .scope = QuotaScope::kOwner}})
                .ok());
    ImportedKey own = Foreign("own", "tk_own", 30);
    ImportedKey sharing = Foreign("sharing", "tk_sharing", 40);
    own.key.plan_id = "team";
    own.key.quota = Quota{.limit = 50};
    sharing.key.plan_id = "team";
    REQUIRE(t.engine().ImportKeys(std::vector{own, sharing}).ok());
    CHECK(CounterOf(t, own.key).used == 30);
    CHECK(CounterOf(t, sharing.key).used == 40);
  });
}

// A store whose Apply fails, as if the process had been killed before it, until it is told
// otherwise.
class StoppingStore final : public ForwardingStore {
 public:
  absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes) override {
    const bool makes_keys = !changes.put_keys.empty();
    if (stopped && makes_keys) return absl::UnavailableError("stopped");
    return ForwardingStore::Apply(changes);
  }
  bool stopped = true;
};

TEST_CASE("an import that stopped between usage and key is completed by its repetition") {
  auto store = std::make_shared<StoppingStore>();
  auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  auto engine = Engine::Create(store, {.clock = clock});
  REQUIRE(engine.ok());
  const auto used_now = [&](const ImportedKey& key) {
    const auto plan = (*engine)->GetPlan("free");
    const auto counted = internal::SubjectOf(key.key, *plan, clock->Read().wall);
    return store->ReadCounters(std::span(&counted->counter, 1))->front().used;
  };
  CHECK(absl::IsUnavailable((*engine)->ImportKeys(std::vector{Foreign("a", "tk", 100)}).status()));
  CHECK(used_now(Foreign("a", "tk")) == 100);
  CHECK(absl::IsUnavailable((*engine)->ImportKeys(std::vector{Foreign("a", "tk", 120)}).status()));
  CHECK(used_now(Foreign("a", "tk")) == 120);
  store->stopped = false;
  CHECK((*engine)->ImportKeys(std::vector{Foreign("a", "tk", 110)})->imported == 1);
  CHECK(used_now(Foreign("a", "tk")) == 120);  // usage never goes down by an import
}

TEST_CASE("digests of other systems are taken as hex, base64 and base64url") {
  ForEachStore([](EngineUnderTest& t) {
    const auto hex = ParseSha256Digest(
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");  // "hello"
    const auto base64 = ParseSha256Digest("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
    const auto url = ParseSha256Digest("LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
    REQUIRE(hex.ok());
    REQUIRE(base64.ok());
    REQUIRE(url.ok());
    CHECK(*hex == Sha256("hello"));
    CHECK(*base64 == *hex);
    CHECK(*url == *hex);
    ImportedKey key = Foreign("a", "");
    key.digest = *url;
    CHECK(t.engine().ImportKeys(std::vector{key})->imported == 1);
    CHECK(t.engine().ImportKeys(std::vector{Foreign("a", "hello")})->unchanged == 1);
  });
}

TEST_CASE("an imported digest is peppered when there is a pepper, and known again later") {
  EngineOptions options;
  options.peppers.push_back({.version = 3, .value = Secret("0123456789abcdef")});
  ForEachStore(
      [](EngineUnderTest& t) {
        const ImportedKey key = Foreign("a", "tk_a");
        REQUIRE(t.engine().ImportKeys(std::vector{key}).ok());
        const auto record = t.store().ReadKeys(std::vector<std::string>{"a"});
        REQUIRE(record.ok());
        CHECK(record->at(0).secrets.at(0).pepper_version == 3);
        CHECK(record->at(0).secrets.at(0).digest != key.digest);
        CHECK(t.engine().ImportKeys(std::vector{key})->unchanged == 1);
      },
      options);
}

}  // namespace
}  // namespace throttl::testing
