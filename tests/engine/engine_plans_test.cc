#include <string>

#include "absl/strings/match.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/memory_store.h"

#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

TEST_CASE("free, pro and enterprise are seeded when a store is first opened") {
  const TempDir dir;
  for (const std::string& url : {std::string("memory:"), dir.File("throttl.db")}) {
    const auto engine = Engine::Open(url);
    REQUIRE(engine.ok());
    const auto plans = (*engine)->ListPlans();
    REQUIRE(plans.ok());
    REQUIRE(plans->size() == 3);
    CHECK((*plans)[0].id == "enterprise");
    CHECK((*plans)[1].id == "free");
    CHECK((*plans)[2].id == "pro");
    CHECK((*plans)[1].quota->limit == 1000);
    CHECK((*plans)[1].rate_limits.at(0).limit == 10);
    CHECK((*engine)->ReadEvents(0, 1000)->size() == 3);
  }
}

TEST_CASE("seed plans are never overwritten later, and a removed one does not come back") {
  const TempDir dir;
  {
    auto engine = Engine::Open(dir.File("a.db"));
    REQUIRE(engine.ok());
    REQUIRE((*engine)->PutPlan({.id = "free", .quota = Quota{.limit = 5}}).ok());
    REQUIRE((*engine)->DeletePlan("pro").ok());
    REQUIRE((*engine)->DeletePlan("enterprise").ok());
  }
  {
    auto engine = Engine::Open(dir.File("a.db"));
    REQUIRE(engine.ok());
    REQUIRE((*engine)->ListPlans()->size() == 1);
    CHECK((*engine)->GetPlan("free")->quota->limit == 5);
    REQUIRE((*engine)->DeletePlan("free").ok());
  }
  auto engine = Engine::Open(dir.File("a.db"));
  REQUIRE(engine.ok());
  CHECK((*engine)->ListPlans()->empty());
}

TEST_CASE("a plan is made, replaced by version or whatever its version, and removed") {
  ForEachStore([](EngineUnderTest& t) {
    Plan team{.id = "team", .quota = Quota{.limit = 10}, .alert_percents = {50, 120}};
    const auto made = t.engine().PutPlan(team);
    REQUIRE(made.ok());
    CHECK(made->version == 1);
    team.quota->limit = 20;
    CHECK(t.engine().PutPlan(team)->version == 2);  // 0: whatever is stored
    team.version = 1;
    CHECK(absl::IsAborted(t.engine().PutPlan(team).status()));
    team.version = 2;
    team.quota.reset();
    CHECK(t.engine().PutPlan(team)->version == 3);
    CHECK_FALSE(t.engine().GetPlan("team")->quota.has_value());
    CHECK(t.engine().GetPlan("team")->alert_percents == team.alert_percents);
    CHECK(t.engine().DeletePlan("team").ok());
    CHECK(absl::IsNotFound(t.engine().DeletePlan("team")));
    CHECK(absl::IsNotFound(t.engine().GetPlan("team").status()));
    Plan late{.id = "late", .version = 4};
    CHECK(absl::IsAborted(t.engine().PutPlan(late).status()));
  });
}

TEST_CASE("a plan with keys is not removed until they are revoked") {
  ForEachStore([](EngineUnderTest& t) {
    const std::string id = t.Issue("acme").key.id;
    const std::string before = t.State();
    CHECK(absl::IsFailedPrecondition(t.engine().DeletePlan("free")));
    CHECK(t.State() == before);
    REQUIRE(t.engine().RevokeKey(id).ok());
    CHECK(t.engine().DeletePlan("free").ok());
    CHECK(t.engine().GetKey(id).ok());
  });
}

TEST_CASE("engines that share a store see each other's changes at once") {
  auto store = MakeMemoryStore();
  auto first = Engine::Create(store);
  auto second = Engine::Create(store);
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  CHECK((*second)->ListPlans()->size() == 3);
  const auto issued = (*first)->CreateKey({.owner_id = "acme", .plan_id = "free"});
  REQUIRE(issued.ok());
  CHECK((*second)->GetKey(issued->key.id).ok());
  REQUIRE((*first)->Close().ok());
  CHECK((*second)->RevokeKey(issued->key.id).ok());
}

TEST_CASE("after Close every call is FailedPrecondition, and closing again is OK") {
  ForEachStore([](EngineUnderTest& t) {
    const Key key = t.Issue("acme").key;
    Engine& engine = t.engine();
    CHECK(engine.Close().ok());
    CHECK(engine.Close().ok());
    const auto refused = [](const absl::Status& status) {
      return absl::IsFailedPrecondition(status) &&
             absl::StrContains(status.message(), "the engine is closed");
    };
    CHECK(refused(engine.CreateKey({.owner_id = "a"}).status()));
    CHECK(refused(engine.ImportKeys({}).status()));
    CHECK(refused(engine.RotateKey(key.id).status()));
    CHECK(refused(engine.UpdateKey(key).status()));
    CHECK(refused(engine.RevokeKey(key.id)));
    CHECK(refused(engine.GetKey(key.id).status()));
    CHECK(refused(engine.ListKeys().status()));
    CHECK(refused(engine.PutPlan({.id = "x"}).status()));
    CHECK(refused(engine.DeletePlan("x")));
    CHECK(refused(engine.GetPlan("free").status()));
    CHECK(refused(engine.ListPlans().status()));
    CHECK(refused(engine.ReadEvents(0, 1).status()));
    CHECK(refused(engine.Backup(t.dir().File("b.db"))));
  });
}

TEST_CASE("a backup is a whole store of its own, taken while in use") {
  EngineUnderTest t("sqlite");
  const IssuedKey issued = t.Issue("acme");
  const std::string copy = t.dir().File("copy.db");
  REQUIRE(t.engine().Backup(copy).ToString() == "OK");
  CHECK(t.engine().Backup(copy).code() == absl::StatusCode::kAlreadyExists);
  t.Issue("acme");
  auto restored = Engine::Open(copy);
  REQUIRE_MESSAGE(restored.ok(), restored.status().ToString());
  CHECK((*restored)->ListKeys()->items.size() == 1);
  CHECK((*restored)->GetKey(issued.key.id).ok());
  // "another one means another, or a restored, store"
  CHECK((*restored)->store()->info().store_id != t.store().info().store_id);
  CHECK(absl::IsUnimplemented(EngineUnderTest("memory").engine().Backup(copy)));
  CHECK(absl::IsNotFound(t.engine().Backup("/nonexistent-directory/copy.db")));
}

}  // namespace
}  // namespace throttl::testing
