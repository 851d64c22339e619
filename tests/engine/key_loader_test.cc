// What a process has in hand of a key's plan and rules fits what it has of the key itself.

#include "src/engine/key_loader.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "src/engine/key_rules.h"
#include "tests/engine/key_index_fixture.h"

namespace throttl::internal {
namespace {

struct LoaderUnderTest {
  void PutPlan(std::int64_t version, std::int64_t limit) {
    rules.PutPlan(
        *PlanRule::Create({.id = "team", .quota = Quota{.limit = limit}, .version = version}));
  }
  // The id of the rule of a key with a quota of its own.
  std::uint64_t PutRule(std::int64_t limit) {
    const auto rule = *KeyRule::Create({.quota = Quota{.limit = limit}, .id = "key_1"}, {});
    rules.PutRule(rule);
    return rule->id;
  }
  // The limit of a key that was found with these, by the quota of its rule or else the plan's.
  std::optional<std::int64_t> LimitOf(std::int64_t plan_version, std::uint64_t rule) {
    KeyIndex::Found found;
    found.facts.limit_version = (std::int64_t{5} << 31) + plan_version;
    found.facts.rules = rule;
    const std::optional<QuotaOfKey> quota = loader.QuotaOf(found, "team");
    if (!quota.has_value()) return std::nullopt;
    return quota->rule()->quota.limit;
  }

  const EngineContext context{.store = nullptr,
                              .options = {},
                              .peppers = *PepperSet::Create({}),
                              .table = nullptr,
                              .change_gate = nullptr};
  const std::unique_ptr<KeyIndex> index = IndexOf(16);
  RulesCache rules{16};
  KeyLoader loader{context, *index, rules, SipKey{}};
};

TEST_CASE("QuotaOf: a key on a plan that has changed since is loaded again") {
  LoaderUnderTest t;
  CHECK(t.LimitOf(1, 0) == std::nullopt);
  t.PutPlan(2, 200);
  CHECK(t.LimitOf(2, 0) == 200);
  // Of the plan before, with which the new limit would be taken for the old one.
  CHECK(t.LimitOf(1, 0) == std::nullopt);
  // Of the plan after, with which the old limit would be taken for the new one, and stay.
  CHECK(t.LimitOf(3, 0) == std::nullopt);
}

TEST_CASE("QuotaOf: a key has the rule that it was cached with, or is loaded again") {
  LoaderUnderTest t;
  t.PutPlan(2, 200);
  const std::uint64_t first = t.PutRule(50);
  const std::uint64_t second = t.PutRule(60);
  CHECK(t.LimitOf(2, first) == 50);
  CHECK(t.LimitOf(2, second) == 60);
  t.rules.Clear();
  t.PutPlan(2, 200);
  CHECK(t.LimitOf(2, first) == std::nullopt);
}

TEST_CASE("UseRule finds the rules of RulesCache, each by its id, also those that others replace") {
  LoaderUnderTest t;
  RulesCache rules(1000);
  std::vector<std::shared_ptr<const KeyRule>> made;
  for (std::int64_t i = 0; i < 300; ++i) {
    made.push_back(*KeyRule::Create({.quota = Quota{.limit = i}, .id = "key_1"}, {}));
    CHECK(rules.UseRule(made.back()->id) == nullptr);
    rules.PutRule(made.back());
  }
  for (int round = 0; round < 3; ++round) {
    for (const auto& rule : made) CHECK(rules.UseRule(rule->id) == rule.get());
  }
  std::thread([&] { CHECK(rules.UseRule(made[7]->id) == made[7].get()); }).join();
}

TEST_CASE("RulesCache keeps at most rules_max rules, and then forgets all") {
  RulesCache rules(3);
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 4; ++i) {
    const auto rule = *KeyRule::Create({.quota = Quota{.limit = i}, .id = "key_1"}, {});
    rules.PutRule(rule);
    ids.push_back(rule->id);
  }
  CHECK(rules.FindRule(ids[0]) == nullptr);
  CHECK(rules.FindRule(ids[3]) != nullptr);
}

}  // namespace
}  // namespace throttl::internal
