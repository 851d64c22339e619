// Management and life through the C ABI.
#include <string>
#include <vector>

#include "tests/capi/capi_parts.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

const Json kOptions = {{"settle_thread", false}, {"clock", "2026-09-21T14:13:20Z"}};

TEST_CASE("a key is made, used until it is refused, and its usage told") {
  const CEngine engine("memory:", kOptions);
  engine.Call(throttl_plan_put, {{"id", "small"}, {"quota", {{"limit", 3}}}});
  const Json issued = engine.Call(throttl_key_create, {{"owner_id", "acme"}, {"plan_id", "small"}});
  const auto secret = issued.at("secret").get<std::string>();
  CHECK(secret.starts_with("thr_live_"));
  const std::string id = issued.at("key").at("id");
  for (int i = 1; i <= 3; ++i) {
    const throttl_decision d = engine.Validate(secret);
    CHECK(d.code == THROTTL_CODE_VALID);
    CHECK(d.http_status == 200);
    CHECK(d.quota_used == i);
    CHECK(d.quota_limit == 3);
    CHECK(d.quota_remaining == 3 - i);
    CHECK(d.quota_period == 4);
    CHECK(std::string(d.key_id) == id);
    CHECK(std::string(d.owner_id) == "acme");
    CHECK(std::string(d.plan_id) == "small");
    CHECK(d.rate_limit == -1);
    CHECK(d.decided_at_ms == 1'790'000'000'000);
    CHECK(d.quota_resets_at_ms == 1'790'812'800'000);
    CHECK(d.quota_starts_at_ms == 1'788'220'800'000);
    CHECK(d.secret_expires_at_ms == -1);
  }
  const throttl_decision refused = engine.Validate(secret);
  CHECK(refused.code == THROTTL_CODE_QUOTA_EXCEEDED);
  CHECK(refused.http_status == 429);
  CHECK(refused.retry_after_ms == 1'790'812'800'000 - 1'790'000'000'000);
  const Json usage = engine.Call(throttl_usage_get, {{"key_id", id}});
  CHECK(usage.at("quota") == Json({{"limit", 3},
                                   {"used", 3},
                                   {"remaining", 0},
                                   {"starts_at", "2026-09-01T00:00:00Z"},
                                   {"resets_at", "2026-10-01T00:00:00Z"},
                                   {"period", "month"}}));
  CHECK(throttl_clock_advance(engine.handle(), refused.retry_after_ms, nullptr) == THROTTL_OK);
  CHECK(engine.Validate(secret).quota_used == 1);
  const Json explained = engine.Call(throttl_key_explain, {{"id", id}, {"cost", 3}});
  CHECK(explained.at("code") == "quota_exceeded");
  CHECK(explained.at("limits").at(0).at("kind") == "quota");
}

TEST_CASE("what a document says of a key or plan is what is told of it") {
  const CEngine engine("memory:", kOptions);
  const Json limit = {{"name", "calls"},      {"limit", 5},        {"window_ms", 1500},
                      {"burst", 2},           {"endpoint", "/v1"}, {"algorithm", "gcra"},
                      {"counts", "requests"}, {"shadow", true}};
  const Json quota = {{"limit", 7},         {"period", "week"}, {"anchor_day", 3},
                      {"time_zone", "UTC"}, {"scope", "owner"}, {"soft_percent", 10}};
  const Json plan = {{"id", "team"},
                     {"name", "Team"},
                     {"quota", quota},
                     {"rate_limits", {limit}},
                     {"alert_percents", {50, 100}}};
  Json told = engine.Call(throttl_plan_put, plan);
  CHECK(told.at("version") == 1);
  CHECK(engine.Call(throttl_plan_get, {{"id", "team"}}) == told);
  told.erase("version");
  CHECK(told == plan);
  Json key = {{"owner_id", "acme"},
              {"plan_id", "team"},
              {"name", "K\u00fc"},
              {"enabled", false},
              {"expires_at", "2027-01-31T23:59:00.25Z"},
              {"scopes", {"read", "write"}},
              {"addresses", {"10.0.0.0/8"}},
              {"quota", nullptr},
              {"rate_limits", Json::array()},
              {"metadata", "{}"},
              {"secret_prefix", "acme"},
              {"id", "key_1"}};
  Json stored = engine.Call(throttl_key_create, key).at("key");
  CHECK(engine.Call(throttl_key_get, {{"id", "key_1"}}) == stored);
  CHECK(stored.at("secrets").size() == 1);
  CHECK(stored.at("created_at") == "2026-09-21T14:13:20Z");
  for (const char* const set : {"created_at", "revoked_at", "last_used_at", "secrets", "version"}) {
    stored.erase(set);
  }
  CHECK(stored == key);
}

TEST_CASE("an update changes what it names: null clears, objects merge, lists are replaced") {
  const CEngine engine("memory:", kOptions);
  engine.Call(throttl_key_create, {{"owner_id", "acme"},
                                   {"id", "key_1"},
                                   {"name", "old"},
                                   {"scopes", {"a", "b"}},
                                   {"quota", {{"limit", 5}, {"soft_percent", 10}}}});
  Json key = engine.Call(
      throttl_key_update,
      {{"id", "key_1"}, {"name", nullptr}, {"scopes", {"c"}}, {"quota", {{"limit", 8}}}});
  CHECK(key.at("name") == "");
  CHECK(key.at("scopes") == Json({"c"}));
  CHECK(key.at("quota").at("limit") == 8);
  CHECK(key.at("quota").at("soft_percent") == 10);
  CHECK(key.at("version") == 2);
  CHECK(engine.Fails(throttl_key_update, {{"id", "key_1"}, {"version", 1}}).starts_with("10 "));
  key = engine.Call(throttl_key_update, {{"id", "key_1"}, {"quota", nullptr}, {"version", 2}});
  CHECK(key.at("quota").is_null());
  CHECK(engine.Fails(throttl_key_update, {{"id", "key_1"}, {"nonsense", nullptr}}) ==
        "3 nonsense is not a member that is known here");
  engine.Call(throttl_plan_put,
              {{"id", "free"}, {"quota", {{"limit", 20}}}, {"carry_over", "reset"}});
  CHECK(engine.Call(throttl_event_list, {{"count_max", 1000}}).back().at("data").at("carry_over") ==
        "reset");
  CHECK(engine.Fails(throttl_plan_put, {{"id", "free"}, {"carry_over", "none"}}) ==
        "3 carry_over is \"none\", one of \"difference\", \"reset\", \"proportional\", "
        "\"additive\" is needed");
}

TEST_CASE("rotation, import, lists, history, export and statistics answer as their comments say") {
  const CEngine engine("memory:", kOptions);
  const std::string secret = engine.NewSecret({{"owner_id", "acme"}, {"id", "key_1"}});
  const Json rotated =
      engine.Call(throttl_key_rotate, {{"id", "key_1"}, {"overlap_ms", 86'400'000}});
  CHECK(rotated.at("secret") != secret);
  const throttl_decision retiring = engine.Validate(secret);
  CHECK(retiring.flags == THROTTL_FLAG_SECRET_RETIRING);
  CHECK(retiring.secret_expires_at_ms == 1'790'086'400'000);
  const Json imported = engine.Call(
      throttl_key_import,
      {{"keys",
        {{{"owner_id", "globex"},
          {"id", "old"},
          {"used", 4},
          {"sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}}}});
  CHECK(imported == Json({{"imported", 1}, {"unchanged", 0}, {"conflicts", Json::array()}}));
  const Json page = engine.Call(throttl_key_list, {{"count_max", 1}});
  CHECK(page.at("items").size() == 1);
  CHECK(page.at("next_cursor") != "");
  CHECK(engine.Call(throttl_usage_list, {{"owner_id", "globex"}})
            .at("items")
            .at(0)
            .at("quota")
            .at("used") == 4);
  CHECK(throttl_flush(engine.handle(), nullptr) == THROTTL_OK);
  const Json history = engine.Call(throttl_usage_history, {{"key_id", "key_1"}, {"bucket", "day"}});
  CHECK(history.at(0).at("units") == 1);
  const Json csv = engine.Call(throttl_usage_export, {{"owner_id", "acme"}});
  CHECK(csv.get<std::string>().find("key_1") != std::string::npos);
  CHECK(engine.Call(throttl_usage_export, {{"format", "json"}}).size() == 2);
  CHECK(engine.Call(throttl_stats, {}).at("allowed") == 1);
  CHECK(engine.Call(throttl_key_revoke, {{"id", "key_1"}}).is_null());
  CHECK(engine.Validate(secret).code == THROTTL_CODE_INACTIVE);
  CHECK(engine.Call(throttl_plan_delete, {{"id", "pro"}}).is_null());
  CHECK(engine.Call(throttl_plan_list, {}).size() == 2);
  CHECK(engine.Fails(throttl_webhook_list, Json::object()).starts_with("12 "));
}

TEST_CASE("with a caller, everything of other owners is not found, and plans are denied") {
  const CEngine engine("memory:", kOptions);
  engine.NewSecret({{"owner_id", "acme"}, {"id", "key_1"}});
  const Json other = {{"owner_id", "globex"}, {"actor", "somebody"}};
  CHECK(engine.Fails(throttl_key_get, {{"id", "key_1"}, {"caller", other}}).starts_with("5 "));
  CHECK(engine.Fails(throttl_plan_put, {{"id", "p"}, {"caller", other}}).starts_with("7 "));
  CHECK(engine.Fails(throttl_key_get, {{"id", "key_1"}, {"caller", {{"who", "me"}}}}) ==
        "3 caller.who is not a member that is known here");
}

TEST_CASE("a document of the wrong form is refused by name, and nothing is changed") {
  const CEngine engine("memory:", kOptions);
  struct Bad {
    std::string document;
    std::string message;
  };
  const std::vector<Bad> documents = {
      {"{", "json is not JSON"},
      {"[]", "json is an array of 0, an object is needed"},
      {"{\"owner_id\":\"a\xFF\"}", "json is not JSON"},
      {R"({"owner_id":"a","owner_id":"b"})", "json has the member \"owner_id\" twice"},
      {R"({"owner_id":5})", "owner_id is 5, a text is needed"},
      {R"({"enabled":"yes"})", "enabled is a text of 3 bytes, true or false is needed"},
      {R"({"expires_at":"soon"})",
       "expires_at is \"soon\", a time as 2026-01-31T23:59:00Z is needed"},
      {R"({"quota":{"limit":1.5}})", "quota.limit is 1.5, an integer is needed"},
      {R"({"quota":{"limit":9223372036854775808}})",
       "quota.limit is 9223372036854775808, a smaller integer is needed"},
      {R"({"quota":{"period":"moon"}})",
       "quota.period is \"moon\", one of \"hour\", \"day\", \"week\", \"month\", \"year\", "
       "\"lifetime\" is needed"},
      {R"({"quota":{"anchor_day":4294967296}})",
       "quota.anchor_day is 4294967296, which is outside of what 32 bits hold"},
      {R"({"rate_limits":[{"name":"a"},{"nam":"b"}]})",
       "rate_limits[1].nam is not a member that is known here"},
      {R"({"rate_limits":{}})", "rate_limits is an object, an array of objects is needed"},
      {R"({"scopes":["a",1]})", "scopes[1] is 1, a text is needed"},
      {R"({"owner_id":""})", "owner_id is"},
      {std::string(17, '[') + std::string(17, ']'), "json is deeper than 16 levels"},
      {R"({"a":)" + std::string(16, '[') + std::string(16, ']') + "}",
       "json is deeper than 16 levels"},
  };
  for (const Bad& bad : documents) {
    CAPTURE(bad.document);
    const std::string failed = engine.Fails(throttl_key_create, bad.document);
    CHECK_MESSAGE(failed.starts_with("3 " + bad.message), failed);
  }
  CHECK(engine.Call(throttl_key_list, {}).at("items").empty());
  // A secret in the wrong place is not repeated.
  const std::string failed =
      engine.Fails(throttl_key_create, Json({{"enabled", "thr_live_0123456789abcdefghij"}}));
  CHECK(failed.find("thr_live") == std::string::npos);
}

TEST_CASE("options of an engine are read strictly, and hold") {
  throttl_engine* engine = nullptr;
  throttl_error* error = nullptr;
  const auto fails = [&](const std::string& url, const std::string& options) {
    CHECK(throttl_open(TextOf(url), TextOf(options), &engine, &error) != THROTTL_OK);
    CHECK(engine == nullptr);
    return Take(error);
  };
  CHECK(fails("memory:", R"({"cloc":""})") == "options.cloc is not a member that is known here");
  CHECK(fails("memory:", R"({"cached_keys_max":0})").find("cached_keys_max") != std::string::npos);
  CHECK(fails("nowhere:", "").find("nowhere") != std::string::npos);
  CHECK(throttl_open(TextOf("memory:"), {nullptr, 0}, nullptr, nullptr) ==
        THROTTL_INVALID_ARGUMENT);
  CHECK(throttl_open({nullptr, 5}, {nullptr, 0}, &engine, nullptr) == THROTTL_INVALID_ARGUMENT);
  CHECK(throttl_open({"memory:", SIZE_MAX}, {nullptr, 0}, &engine, nullptr) ==
        THROTTL_INVALID_ARGUMENT);
  const CEngine made("memory:", {{"secret_prefix", "abc"},
                                 {"history_kept_ms", nullptr},
                                 {"peppers", {{{"version", 2}, {"value", "0123456789abcdef"}}}},
                                 {"seed_plans", {{{"id", "free"}, {"quota", nullptr}}}}});
  CHECK(made.NewSecret({{"owner_id", "acme"}}).starts_with("abc_"));
  CHECK(made.Call(throttl_plan_list, {}).at(0).at("quota").is_null());
  CHECK(throttl_clock_advance(made.handle(), 1, nullptr) == THROTTL_FAILED_PRECONDITION);
}

TEST_CASE("a store in a file outlives its engines, and is copied while it is in use") {
  const TempDir directory;
  std::string secret;
  {
    const CEngine engine(directory.File("throttl.db"));
    secret = engine.NewSecret({{"owner_id", "acme"}});
    CHECK(engine.Validate(secret).quota_used == 1);
    CHECK(throttl_backup(engine.handle(), TextOf(directory.File("copy.db")), nullptr) ==
          THROTTL_OK);
  }
  CHECK(CEngine(directory.File("throttl.db")).Validate(secret).quota_used == 2);
  CHECK(CEngine(directory.File("copy.db")).Validate(secret).code == THROTTL_CODE_VALID);
}

}  // namespace
}  // namespace throttl::testing
