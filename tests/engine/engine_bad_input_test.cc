// Bad input in every field of every call: a clear error that names the field and the bound, and
// nothing is written.

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

using namespace std::string_literals;  // texts with NUL in them

// One field of a key or plan, set to a text.
template <typename Settings>
struct TextField {
  std::string name;
  std::size_t bytes_max;
  std::function<void(Settings&, const std::string&)> set;
};

std::vector<TextField<Key>> KeyTexts() {
  return {
      {"owner_id", 63, [](Key& k, const std::string& v) { k.owner_id = v; }},
      {"plan_id", 31, [](Key& k, const std::string& v) { k.plan_id = v; }},
      {"name", 255, [](Key& k, const std::string& v) { k.name = v; }},
      {"scopes[0]", 127, [](Key& k, const std::string& v) { k.scopes = {v}; }},
      {"addresses[0]", 64, [](Key& k, const std::string& v) { k.addresses = {v}; }},
      {"metadata", 4096, [](Key& k, const std::string& v) { k.metadata = v; }},
      {"secret_prefix", 32, [](Key& k, const std::string& v) { k.secret_prefix = v; }},
      {"id", 39, [](Key& k, const std::string& v) { k.id = v; }},
      {"quota.time_zone", 64,
       [](Key& k, const std::string& v) { k.quota = Quota{.limit = 1, .time_zone = v}; }},
      {"rate_limits[0].name", 31,
       [](Key& k, const std::string& v) { k.rate_limits = {{.name = v, .limit = 1}}; }},
      {"rate_limits[0].endpoint", 1024,
       [](Key& k, const std::string& v) {
         k.rate_limits = {{.name = "a", .limit = 1, .endpoint = v}};
       }},
  };
}

std::vector<TextField<Plan>> PlanTexts() {
  return {
      {"id", 31, [](Plan& p, const std::string& v) { p.id = v; }},
      {"name", 255, [](Plan& p, const std::string& v) { p.name = v; }},
      {"quota.time_zone", 64,
       [](Plan& p, const std::string& v) { p.quota = Quota{.limit = 1, .time_zone = v}; }},
      {"rate_limits[0].name", 31,
       [](Plan& p, const std::string& v) { p.rate_limits = {{.name = v, .limit = 1}}; }},
      {"rate_limits[0].endpoint", 1024,
       [](Plan& p, const std::string& v) {
         p.rate_limits = {{.name = "a", .limit = 1, .endpoint = v}};
       }},
  };
}

struct BadText {
  std::string what;
  std::string text;
};

std::vector<BadText> BadTexts(std::size_t bytes_max) {
  return {{"one byte too long", std::string(bytes_max + 1, 'a')},
          {"huge", std::string(1 << 20, 'a')},
          {"NUL inside", "a\0b"s},
          {"not UTF-8",
           "a\xff"
           "b"},
          {"cut UTF-8", "a\xe2\x82"},
          {"an overlong slash", "/\xc0\xaf"}};
}

// InvalidArgument that names `field`, in a message of bounded size.
void CheckNames(const absl::Status& status, const std::string& field) {
  INFO("status: ", std::string(status.message().substr(0, 400)));
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(absl::StrContains(status.message(), field));
  CHECK(status.message().size() < 600);
}

TEST_CASE(
    "a text that is too long, NUL or not UTF-8 is refused in every field, and nothing written") {
  ForEachStore([](EngineUnderTest& t) {
    const Key stored = t.Issue("acme", "stored").key;
    const std::string before = t.State();
    for (const TextField<Key>& field : KeyTexts()) {
      for (const BadText& bad : BadTexts(field.bytes_max)) {
        INFO("field: ", field.name, ", ", bad.what);
        Key key{.owner_id = "acme", .plan_id = "free"};
        field.set(key, bad.text);
        CheckNames(t.engine().CreateKey(key).status(), field.name);
        key.id = key.id.empty() ? "imported" : key.id;
        CheckNames(t.engine().ImportKeys(std::vector{ImportedKey{.key = key}}).status(),
                   field.name);
        if (field.name == "id") continue;  // names no key: NotFound
        Key update = stored;
        field.set(update, bad.text);
        CheckNames(t.engine().UpdateKey(update).status(), field.name);
      }
    }
    for (const TextField<Plan>& field : PlanTexts()) {
      for (const BadText& bad : BadTexts(field.bytes_max)) {
        INFO("plan field: ", field.name, ", ", bad.what);
        Plan plan{.id = "team"};
        field.set(plan, bad.text);
        CheckNames(t.engine().PutPlan(plan).status(), field.name);
      }
    }
    for (const BadText& bad : BadTexts(127)) {
      CheckNames(t.engine().RevokeKey("stored", {.actor = bad.text}), "actor");
      CheckNames(t.engine().ListKeys({.owner_id = bad.text}).status(), "owner_id");
      CheckNames(t.engine().ListKeys({.plan_id = bad.text}).status(), "plan_id");
      CHECK(absl::IsNotFound(t.engine().GetKey(bad.text).status()));
      CHECK(absl::IsNotFound(t.engine().RevokeKey(bad.text)));
      CHECK(absl::IsNotFound(t.engine().GetPlan(bad.text).status()));
      CHECK(absl::IsNotFound(t.engine().DeletePlan(bad.text)));
    }
    CHECK(t.State() == before);
  });
}

struct BadNumber {
  std::string field;
  std::function<void(Key&)> set;
};

std::vector<BadNumber> BadNumbers() {
  std::vector<BadNumber> bad;
  for (const std::int64_t limit : {std::int64_t{-1}, kLimitMax + 1, INT64_MAX, INT64_MIN}) {
    bad.push_back({"quota.limit", [limit](Key& k) { k.quota = Quota{.limit = limit}; }});
    bad.push_back({"rate_limits[0].limit",
                   [limit](Key& k) { k.rate_limits = {{.name = "a", .limit = limit}}; }});
    bad.push_back({"rate_limits[0].burst", [limit](Key& k) {
                     k.rate_limits = {{.name = "a", .limit = 1, .burst = limit}};
                   }});
  }
  for (const std::int32_t percent : {-1, 1001, INT32_MAX, INT32_MIN}) {
    bad.push_back({"quota.soft_percent",
                   [percent](Key& k) { k.quota = Quota{.limit = 1, .soft_percent = percent}; }});
  }
  for (const int value : {0, 3, 255}) {
    bad.push_back({"rate_limits[0].algorithm", [value](Key& k) {
                     const auto algorithm = static_cast<RateAlgorithm>(value);
                     k.rate_limits = {{.name = "a", .limit = 1, .algorithm = algorithm}};
                   }});
    bad.push_back({"rate_limits[0].counts", [value](Key& k) {
                     const auto counts = static_cast<RateCost>(value);
                     k.rate_limits = {{.name = "a", .limit = 1, .counts = counts}};
                   }});
  }
  for (const std::int32_t day : {0, -1, 32, INT32_MAX}) {
    bad.push_back(
        {"quota.anchor_day", [day](Key& k) { k.quota = Quota{.limit = 1, .anchor_day = day}; }});
  }
  for (const int period : {0, 7, 255}) {
    bad.push_back({"quota.period", [period](Key& k) {
                     k.quota = Quota{.limit = 1, .period = static_cast<Period>(period)};
                   }});
  }
  for (const absl::Duration window :
       {absl::ZeroDuration(), absl::Microseconds(999), absl::Hours(24 * 31) + absl::Nanoseconds(1),
        absl::InfiniteDuration(), -absl::Seconds(1)}) {
    bad.push_back({"rate_limits[0].window", [window](Key& k) {
                     k.rate_limits = {{.name = "a", .limit = 1, .window = window}};
                   }});
  }
  bad.push_back(
      {"quota.scope", [](Key& k) { k.quota = Quota{.limit = 1, .scope = QuotaScope::kOwner}; }});
  bad.push_back({"rate_limits", [](Key& k) {
                   for (int i = 0; i < 9; ++i) {
                     k.rate_limits.push_back({.name = absl::StrCat("r", i), .limit = 1});
                   }
                 }});
  bad.push_back({"scopes", [](Key& k) { k.scopes.assign(65, "a"); }});
  bad.push_back({"addresses", [](Key& k) { k.addresses.assign(65, "10.0.0.0/8"); }});
  bad.push_back({"expires_at", [](Key& k) { k.expires_at = absl::InfiniteFuture(); }});
  bad.push_back({"expires_at", [](Key& k) { k.expires_at = absl::InfinitePast(); }});
  return bad;
}

TEST_CASE("a number out of its bounds is refused by name, and nothing written") {
  ForEachStore([](EngineUnderTest& t) {
    const Key stored = t.Issue("acme", "stored").key;
    const std::string before = t.State();
    for (const BadNumber& bad : BadNumbers()) {
      INFO("field: ", bad.field);
      Key key{.owner_id = "acme", .plan_id = "free"};
      bad.set(key);
      CheckNames(t.engine().CreateKey(key).status(), bad.field);
      Key update = stored;
      bad.set(update);
      CheckNames(t.engine().UpdateKey(update).status(), bad.field);
    }
    for (const std::int32_t count : {0, -1, 1001}) {
      CheckNames(t.engine().ListKeys({.count_max = count}).status(), "count_max");
      CheckNames(t.engine().ReadEvents(0, count).status(), "count_max");
    }
    CheckNames(t.engine().ReadEvents(-1, 1).status(), "after_seq");
    CheckNames(t.engine().ListKeys({.cursor = "not a cursor"}).status(), "cursor");
    for (const absl::Duration overlap :
         {-absl::Seconds(1), absl::Hours(24 * 400) + absl::Seconds(1), absl::InfiniteDuration()}) {
      CheckNames(t.engine().RotateKey("stored", {.overlap = overlap}).status(), "overlap");
    }
    CHECK(t.State() == before);
  });
}

TEST_CASE("an unknown plan and an unknown zone are refused by name; a quota of 0 is valid") {
  ForEachStore([](EngineUnderTest& t) {
    const std::string before = t.State();
    const auto unknown = t.engine().CreateKey({.owner_id = "acme", .plan_id = "gold"}).status();
    CHECK(unknown.ToString() == "INVALID_ARGUMENT: plan_id is \"gold\", which no plan has");
    const auto zone =
        t.engine()
            .PutPlan({.id = "team", .quota = Quota{.limit = 1, .time_zone = "Mars/Olympus"}})
            .status();
    CHECK(absl::IsInvalidArgument(zone));
    CHECK(absl::StrContains(zone.message(), "Mars/Olympus"));
    CHECK(t.State() == before);
    CHECK(t.engine().PutPlan({.id = "closed", .quota = Quota{.limit = 0}}).ok());
    CHECK(t.engine().PutPlan({.id = "most", .quota = Quota{.limit = kLimitMax}}).ok());
    const auto beyond =
        t.engine().PutPlan({.id = "beyond", .quota = Quota{.limit = std::int64_t{1} << 48}});
    CHECK(absl::StrContains(beyond.status().message(), absl::StrCat(kLimitMax)));
  });
}

TEST_CASE("an engine's own options are checked before a store is made") {
  const TempDir dir;
  const std::string file = dir.File("a.db");
  const auto status = [&](EngineOptions options) {
    return Engine::Create(nullptr, std::move(options)).status();
  };
  CHECK(absl::IsInvalidArgument(status({})));
  auto store = EngineUnderTest("memory").engine().store();
  const auto with = [&](EngineOptions options) {
    return std::string(Engine::Create(store, std::move(options)).status().message());
  };
  CHECK(absl::StrContains(with({.settle_interval = absl::Milliseconds(9)}), "settle_interval"));
  CHECK(absl::StrContains(with({.settle_interval = absl::Seconds(61)}), "settle_interval"));
  CHECK(absl::StrContains(with({.secret_prefix = "X"}), "secret_prefix"));
  CHECK(absl::StrContains(with({.secret_prefix = ""}), "secret_prefix"));
  CHECK(absl::StrContains(with({.seed_plans = {{.id = "A"}}}), "seed_plans"));
  CHECK(absl::StrContains(with({.cached_keys_max = 0}), "cached_keys_max"));
  CHECK(absl::StrContains(with({.active_subjects_max = 0}), "active_subjects_max"));
  CHECK(absl::StrContains(with({.rate_slots_max = -1}), "rate_slots_max"));
  const std::string pepper = with({.peppers = {{.version = 1, .value = Secret("too short")}}});
  CHECK(absl::StrContains(pepper, "16"));
  CHECK_FALSE(absl::StrContains(pepper, "too short"));
}

}  // namespace
}  // namespace throttl::testing
