// What a process has in hand of a key's plan and rules fits what it has of the key itself.

#include "src/engine/key_loader.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

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
  void PutKey(std::int64_t version, std::int64_t limit) {
    rules.PutKey("key_1", *KeyRule::Create(
                              {.quota = Quota{.limit = limit}, .id = "key_1", .version = version}));
  }
  // The limit of a key that was found with these versions, of its own quota or else the plan's.
  std::optional<std::int64_t> LimitOf(std::int64_t key_version, std::int64_t plan_version,
                                      bool own_quota) {
    KeyIndex::Found found;
    found.facts.limit_version = (key_version << 31) + plan_version;
    found.facts.rules = own_quota ? static_cast<std::uint64_t>(key_version) : 0;
    const std::optional<QuotaOfKey> quota = loader.QuotaOf(found, "key_1", "team");
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
  CHECK(t.LimitOf(5, 1, false) == std::nullopt);
  t.PutPlan(2, 200);
  CHECK(t.LimitOf(5, 2, false) == 200);
  // Of the plan before, with which the new limit would be taken for the old one.
  CHECK(t.LimitOf(5, 1, false) == std::nullopt);
  // Of the plan after, with which the old limit would be taken for the new one, and stay.
  CHECK(t.LimitOf(5, 3, false) == std::nullopt);
}

TEST_CASE("QuotaOf: a key whose own quota has changed since is loaded again") {
  LoaderUnderTest t;
  t.PutPlan(2, 200);
  CHECK(t.LimitOf(5, 2, true) == std::nullopt);
  t.PutKey(5, 50);
  CHECK(t.LimitOf(5, 2, true) == 50);
  CHECK(t.LimitOf(4, 2, true) == std::nullopt);
  CHECK(t.LimitOf(6, 2, true) == std::nullopt);
}

}  // namespace
}  // namespace throttl::internal
