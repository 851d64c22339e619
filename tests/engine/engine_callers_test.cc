// The matrix: every management call x {own, foreign, unknown id} x {operator, owner}. For an owner
// a foreign id answers exactly as an unknown one, and changes nothing.

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

struct KeyCall {
  std::string name;
  std::function<absl::Status(Engine&, const std::string& id, const Caller&)> call;
};

std::vector<KeyCall> CallsOnAKey() {
  return {
      {"GetKey",
       [](Engine& e, const std::string& id, const Caller& c) { return e.GetKey(id, c).status(); }},
      {"RotateKey", [](Engine& e, const std::string& id,
                       const Caller& c) { return e.RotateKey(id, {}, c).status(); }},
      {"RotateKey with overlap",
       [](Engine& e, const std::string& id, const Caller& c) {
         return e.RotateKey(id, {.overlap = absl::Hours(1)}, c).status();
       }},
      {"UpdateKey, the owner's own name in it",
       [](Engine& e, const std::string& id, const Caller& c) {
         Key key{.owner_id = "acme", .plan_id = "free", .name = "new", .id = id, .version = 1};
         return e.UpdateKey(key, c).status();
       }},
      {"UpdateKey, the other owner's name in it",
       [](Engine& e, const std::string& id, const Caller& c) {
         Key key{.owner_id = "globex", .plan_id = "free", .name = "new", .id = id, .version = 1};
         return e.UpdateKey(key, c).status();
       }},
      {"UpdateKey, with a field that is wrong",
       [](Engine& e, const std::string& id, const Caller& c) {
         Key key{.owner_id = "acme", .plan_id = "NO PLAN", .id = id, .version = 7};
         return e.UpdateKey(key, c).status();
       }},
      {"RevokeKey",
       [](Engine& e, const std::string& id, const Caller& c) { return e.RevokeKey(id, c); }},
  };
}

// An answer without the id in it.
std::string Answer(const absl::Status& status, const std::string& id) {
  return absl::StrReplaceAll(status.ToString(), {{id, "ID"}});
}

TEST_CASE("for an owner, a foreign key answers every call exactly as an unknown one") {
  ForEachStore([](EngineUnderTest& t) {
    t.Issue("globex", "foreign");
    REQUIRE(t.engine().RotateKey("foreign", {.overlap = absl::Hours(1)}).ok());
    t.Issue("globex", "foreign-revoked");
    REQUIRE(t.engine().RevokeKey("foreign-revoked").ok());
    const Caller owner{.owner_id = "acme", .actor = "owner"};
    const std::string before = t.State();
    for (const KeyCall& call : CallsOnAKey()) {
      INFO("call: ", call.name);
      const absl::Status unknown = call.call(t.engine(), "unknown", owner);
      CHECK(absl::IsNotFound(unknown));
      for (const std::string id : {"foreign", "foreign-revoked"}) {
        CHECK(Answer(call.call(t.engine(), id, owner), id) == Answer(unknown, "unknown"));
      }
    }
    CHECK(t.State() == before);
  });
}

TEST_CASE("an owner may do everything with its own keys, and the operator with all") {
  for (const bool as_operator : {false, true}) {
    INFO("operator: ", as_operator);
    ForEachStore([as_operator](EngineUnderTest& t) {
      const Caller caller{.owner_id = as_operator ? "" : "acme", .actor = "me"};
      const auto made = t.engine().CreateKey({.owner_id = "acme", .id = "own"}, caller);
      REQUIRE(made.ok());
      CHECK(t.engine().GetKey("own", caller).ok());
      CHECK(t.engine().RotateKey("own", {}, caller).ok());
      Key key = *t.engine().GetKey("own", caller);
      key.name = "new";
      CHECK(t.engine().UpdateKey(key, caller).ok());
      CHECK(t.engine().ListKeys({}, caller)->items.size() == 1);
      ImportedKey imported{.key = {.owner_id = "acme", .id = "old"}, .digest = Sha256("x")};
      CHECK(t.engine().ImportKeys(std::vector{imported}, caller)->imported == 1);
      CHECK(t.engine().RevokeKey("own", caller).ok());
      CHECK(t.Events().back().actor == "me");
      if (!as_operator) return;
      const auto other = t.engine().CreateKey({.owner_id = "globex", .id = "other"}, caller);
      CHECK(other.ok());
      CHECK(t.engine().RevokeKey("other", caller).ok());
    });
  }
}

TEST_CASE("an owner cannot make or import a key of another owner, known or not") {
  ForEachStore([](EngineUnderTest& t) {
    t.Issue("globex");
    const Caller owner{.owner_id = "acme"};
    const std::string before = t.State();
    for (const std::string other : {"globex", "nobody"}) {
      const auto made = t.engine().CreateKey({.owner_id = other}, owner);
      CHECK(Answer(made.status(), other) == "NOT_FOUND: no owner has the id \"ID\"");
      ImportedKey imported{.key = {.owner_id = other, .id = "old"}, .digest = Sha256("x")};
      const auto report = t.engine().ImportKeys(std::vector{imported}, owner);
      CHECK(Answer(report.status(), other) == "NOT_FOUND: keys[0]: no owner has the id \"ID\"");
    }
    CHECK(t.State() == before);
  });
}

TEST_CASE("an owner lists its own keys only, whatever it asks for") {
  ForEachStore([](EngineUnderTest& t) {
    const Key foreign = t.Issue("globex", "foreign").key;
    const Key own = t.Issue("acme", "own").key;
    const Caller owner{.owner_id = "acme"};
    const auto ids = [&](const KeyQuery& query) {
      const auto page = t.engine().ListKeys(query, owner);
      REQUIRE(page.ok());
      CHECK(page->next_cursor.empty());
      std::string text;
      for (const Key& key : page->items) text += key.id + " ";
      return text;
    };
    CHECK(ids({}) == "own ");
    CHECK(ids({.owner_id = "acme"}) == "own ");
    CHECK(ids({.owner_id = "globex"}) == "");
    CHECK(ids({.owner_id = "nobody"}) == "");
    CHECK(ids({.locator = foreign.secrets[0].locator}) == "");
    CHECK(ids({.locator = "000000000000"}) == "");
    CHECK(ids({.locator = own.secrets[0].locator}) == "own ");
    CHECK(ids({.plan_id = "free"}) == "own ");
  });
}

TEST_CASE("an owner sees the events of its own keys only, and gets as many as it asked for") {
  ForEachStore([](EngineUnderTest& t) {
    for (int i = 0; i < 600; ++i) t.Issue(i % 3 == 0 ? "acme" : "globex");
    const Caller owner{.owner_id = "acme"};
    std::vector<Event> own = t.Events(owner);
    CHECK(own.size() == 200);
    for (const Event& event : own) CHECK(event.owner_id == "acme");
    const auto some = t.engine().ReadEvents(own[9].seq, 7, owner);
    REQUIRE(some.ok());
    REQUIRE(some->size() == 7);
    CHECK(some->front().seq == own[10].seq);
    CHECK(t.Events({.owner_id = "nobody"}).empty());
  });
}

TEST_CASE("plans are PermissionDenied for an owner, whether they exist or not") {
  ForEachStore([](EngineUnderTest& t) {
    const Caller owner{.owner_id = "acme"};
    const std::string before = t.State();
    for (const std::string id : {"free", "unknown"}) {
      CHECK(absl::IsPermissionDenied(t.engine().PutPlan({.id = id}, owner).status()));
      CHECK(absl::IsPermissionDenied(t.engine().DeletePlan(id, owner)));
    }
    CHECK(t.State() == before);
    CHECK(t.engine().GetPlan("free").ok());
    CHECK(t.engine().ListPlans().ok());
  });
}

}  // namespace
}  // namespace throttl::testing
