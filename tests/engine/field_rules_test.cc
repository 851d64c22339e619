#include "src/engine/field_rules.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "src/policy/gcra.h"

namespace throttl::internal {
namespace {

Key GoodKey() {
  return {.owner_id = "acme",
          .plan_id = "free",
          .name = "prod",
          .expires_at = absl::FromCivil(absl::CivilDay(2030, 1, 1), absl::UTCTimeZone()),
          .scopes = {"search:read", "search:write"},
          .addresses = {"10.0.0.0/8", "2001:db8::/32"},
          .quota = Quota{.limit = 100},
          .rate_limits = {{.name = "search", .limit = 20, .burst = 5, .endpoint = "GET /v1/**"}},
          .metadata = "{\"a\": 1}",
          .secret_prefix = "acme_live",
          .id = "key-1"};
}

Plan GoodPlan() {
  return {.id = "team",
          .name = "Team",
          .quota = Quota{.limit = 200'000},
          .rate_limits = {{.name = "search", .limit = 20, .endpoint = "GET /v1/**"}}};
}

// The With functions change one field of a good value, and return what is then wrong with it.
std::string Message(const absl::Status& status) {
  if (status.ok()) return "OK";
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

std::string WithKey(const std::function<void(Key&)>& change) {
  Key key = GoodKey();
  change(key);
  return Message(CheckKey(key));
}

std::string WithPlan(const std::function<void(Plan&)>& change) {
  Plan plan = GoodPlan();
  change(plan);
  return Message(CheckPlan(plan));
}

std::string WithQuota(const std::function<void(Quota&)>& change) {
  return WithPlan([&](Plan& plan) { change(*plan.quota); });
}

std::string WithRateLimit(const std::function<void(RateLimit&)>& change) {
  return WithPlan([&](Plan& plan) { change(plan.rate_limits[0]); });
}

std::string WithOptions(const std::function<void(EngineOptions&)>& change) {
  EngineOptions options;
  change(options);
  return Message(CheckEngineOptions(options));
}

std::string WithQuery(const std::function<void(KeyQuery&)>& change) {
  KeyQuery query;
  change(query);
  return Message(CheckKeyQuery(query));
}

std::string WithCaller(const std::function<void(Caller&)>& change) {
  Caller caller;
  change(caller);
  return Message(CheckCaller(caller));
}

TEST_CASE("good values of every struct are accepted") {
  CHECK(Message(CheckKey(GoodKey())) == "OK");
  CHECK(Message(CheckKey({.owner_id = "acme"})) == "OK");
  CHECK(Message(CheckPlan(GoodPlan())) == "OK");
  CHECK(Message(CheckPlan({.id = "x"})) == "OK");
  CHECK(Message(CheckImportedKey({.key = GoodKey()})) == "OK");
  CHECK(Message(CheckKeyQuery({})) == "OK");
  CHECK(Message(CheckCaller({})) == "OK");
  CHECK(Message(CheckRotateOptions({})) == "OK");
  CHECK(Message(CheckEngineOptions({})) == "OK");
}

// --- Texts: every text field x {empty, bound, bound + 1, huge, NUL, control character, not UTF-8}

struct TextField {
  std::string field;  // as messages name it
  bool may_be_empty;
  std::size_t bytes_max;
  bool control_allowed;                                  // but for NUL
  std::string good;                                      // a longest text is made by repeating it
  std::function<std::string(const std::string&)> check;  // the message for this text
};

std::vector<TextField> IdFields() {
  return {
      {"key_id", false, 39, false, "k",
       [](const std::string& t) { return Message(CheckKeyId(t)); }},
      {"plan_id", false, 31, false, "p",
       [](const std::string& t) { return Message(CheckPlanId(t)); }},
      {"owner_id", true, 63, false, "o",
       [](const std::string& t) { return WithQuery([&](KeyQuery& q) { q.owner_id = t; }); }},
      {"plan_id", true, 31, false, "p",
       [](const std::string& t) { return WithQuery([&](KeyQuery& q) { q.plan_id = t; }); }},
      {"locator", true, 39, false, "l",
       [](const std::string& t) { return WithQuery([&](KeyQuery& q) { q.locator = t; }); }},
      {"cursor", true, 1024, false, "c",
       [](const std::string& t) { return WithQuery([&](KeyQuery& q) { q.cursor = t; }); }},
      {"caller.owner_id", true, 63, false, "o",
       [](const std::string& t) { return WithCaller([&](Caller& c) { c.owner_id = t; }); }},
      {"caller.actor", true, 127, false, "a",
       [](const std::string& t) { return WithCaller([&](Caller& c) { c.actor = t; }); }},
      {"secret_prefix", false, 32, false, "ab",
       [](const std::string& t) {
         return WithOptions([&](EngineOptions& o) { o.secret_prefix = t; });
       }},
      {"key.id", false, 39, false, "k",
       [](const std::string& t) {
         ImportedKey imported = {.key = GoodKey()};
         imported.key.id = t;
         return Message(CheckImportedKey(imported));
       }},
  };
}

std::vector<TextField> KeyFields() {
  return {
      {"owner_id", false, 63, false, "o",
       [](const std::string& t) { return WithKey([&](Key& k) { k.owner_id = t; }); }},
      {"plan_id", false, 31, false, "p",
       [](const std::string& t) { return WithKey([&](Key& k) { k.plan_id = t; }); }},
      {"id", true, 39, false, "i",
       [](const std::string& t) { return WithKey([&](Key& k) { k.id = t; }); }},
      {"name", true, 255, true, "n",
       [](const std::string& t) { return WithKey([&](Key& k) { k.name = t; }); }},
      {"metadata", true, 4096, true, "m",
       [](const std::string& t) { return WithKey([&](Key& k) { k.metadata = t; }); }},
      {"secret_prefix", true, 32, false, "ab",
       [](const std::string& t) { return WithKey([&](Key& k) { k.secret_prefix = t; }); }},
      {"rate_limits[0].name", false, 31, false, "r",
       [](const std::string& t) { return WithKey([&](Key& k) { k.rate_limits[0].name = t; }); }},
      {"scopes[1]: scope", false, 127, false, "s",
       [](const std::string& t) { return WithKey([&](Key& k) { k.scopes[1] = t; }); }},
  };
}

std::vector<TextField> PlanFields() {
  return {
      {"id", false, 31, false, "i",
       [](const std::string& t) { return WithPlan([&](Plan& p) { p.id = t; }); }},
      {"name", true, 255, true, "n",
       [](const std::string& t) { return WithPlan([&](Plan& p) { p.name = t; }); }},
      {"rate_limits[0].name", false, 31, false, "r",
       [](const std::string& t) { return WithRateLimit([&](RateLimit& r) { r.name = t; }); }},
      {"seed_plans[1].id", false, 31, false, "i",
       [](const std::string& t) {
         return WithOptions([&](EngineOptions& o) { o.seed_plans[1].id = t; });
       }},
  };
}

std::string Longest(const TextField& field) {
  std::string text;
  while (text.size() + field.good.size() <= field.bytes_max) text += field.good;
  return text;
}

void CheckTextField(const TextField& field) {
  const std::string is = field.field + " is ";
  const std::string at_most = absl::StrCat(", at most ", field.bytes_max, " bytes are allowed");
  CAPTURE(field.field);
  CHECK(field.check("") == (field.may_be_empty ? "OK"
                                               : absl::StrCat(is, "empty, 1 to ", field.bytes_max,
                                                              " bytes are required")));
  const std::string longest = Longest(field);
  REQUIRE(longest.size() == field.bytes_max);
  CHECK(field.check(longest) == "OK");
  CHECK(field.check(longest + "a") ==
        absl::StrCat(is, field.bytes_max + 1, " bytes long", at_most));
  CHECK(field.check(std::string(10'000'000, 'a')) == is + "10000000 bytes long" + at_most);
  const std::string nul = field.check(std::string("a\0z", 3));
  CHECK((nul == is + "\"a\\x00z\", NUL is not allowed" ||
         nul == is + "\"a\\x00z\", control characters are not allowed"));
  CHECK(field.check("a\x7f") ==
        (field.control_allowed ? "OK" : is + "\"a\\x7f\", control characters are not allowed"));
  CHECK(field.check("a\xc3(") == is + "\"a\\xc3(\", UTF-8 is required");
}

TEST_CASE("every text: empty, longest, too long, huge, NUL, control characters, not UTF-8") {
  for (const TextField& field : IdFields()) CheckTextField(field);
  for (const TextField& field : KeyFields()) CheckTextField(field);
  for (const TextField& field : PlanFields()) CheckTextField(field);
}

TEST_CASE("plan ids and rate limit names are of a-z, 0-9, '_', '.' and '-'") {
  for (int byte = 1; byte < 128; ++byte) {
    CAPTURE(byte);
    const auto c = static_cast<char>(byte);
    const bool allowed =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    const std::string text = "x" + std::string(1, c);
    CHECK(CheckPlanId(text).ok() == allowed);
    CHECK((WithRateLimit([&](RateLimit& r) { r.name = text; }) == "OK") == allowed);
  }
  CHECK(Message(CheckPlanId("Free")) ==
        "plan_id is \"Free\", only a-z, 0-9, '_', '.' and '-' are allowed");
}

TEST_CASE("a secret prefix is 2 to 32 characters of a-z, 0-9 and '_'") {
  const std::string bound = ", 2 to 32 characters of a-z, 0-9 and '_' are required";
  CHECK(WithOptions([](EngineOptions& o) { o.secret_prefix = "ab"; }) == "OK");
  CHECK(WithOptions([](EngineOptions& o) { o.secret_prefix = "a"; }) ==
        "secret_prefix is \"a\"" + bound);
  CHECK(WithKey([](Key& k) { k.secret_prefix = "Acme"; }) == "secret_prefix is \"Acme\"" + bound);
}

TEST_CASE("a text that is too long is not shown, since it may be a secret in the wrong place") {
  const std::string secret = "thr_live_" + std::string(48, 'z');
  CHECK(Message(CheckKeyId(secret)).find("zz") == std::string::npos);
  CHECK(Message(CheckPlanId(secret)).find("zz") == std::string::npos);
  CHECK(WithQuery([&](KeyQuery& q) { q.locator = secret; }).find("zz") == std::string::npos);
  CHECK(WithKey([&](Key& k) { k.secret_prefix = secret; }).find("zz") == std::string::npos);
}

// --- Numbers, durations and times: bound and bound + 1

TEST_CASE("a quota's limit is 0 to 2^48 - 1") {
  const auto limit = [](std::int64_t value) {
    return WithQuota([&](Quota& q) { q.limit = value; });
  };
  const std::string bound = ", 0 to 281474976710655 are allowed";
  CHECK(limit(0) == "OK");
  CHECK(limit(kLimitMax) == "OK");
  CHECK(limit(-1) == "quota.limit is -1" + bound);
  CHECK(limit(kLimitMax + 1) == "quota.limit is 281474976710656" + bound);
  CHECK(limit(std::numeric_limits<std::int64_t>::max()) ==
        "quota.limit is 9223372036854775807" + bound);
  CHECK(WithKey([](Key& k) { k.quota->limit = -1; }) == "quota.limit is -1" + bound);
}

TEST_CASE("a quota's period, anchor, zone and scope are checked") {
  CHECK(WithQuota([](Quota& q) { q.period = static_cast<Period>(9); }) ==
        "quota.period is 9, 1 to 6 are allowed");
  CHECK(WithQuota([](Quota& q) { q.anchor_day = 31; }) == "OK");
  CHECK(WithQuota([](Quota& q) { q.anchor_day = 32; }) ==
        "quota.anchor_day is 32, 1 to 31 are allowed for a month");
  CHECK(WithQuota([](Quota& q) {
          q.time_zone = "Mars/Olympus";
        }).find("quota.time_zone is \"Mars/Olympus\", no zone of this name") == 0);
  CHECK(WithQuota([](Quota& q) { q.time_zone = ""; }) ==
        "quota.time_zone is empty, 1 to 64 bytes are required");
  CHECK(WithQuota([](Quota& q) { q.scope = static_cast<QuotaScope>(3); }) ==
        "quota.scope is 3, 1 to 2 are allowed");
  CHECK(WithQuota([](Quota& q) { q.scope = QuotaScope::kOwner; }) == "OK");
  CHECK(WithKey([](Key& k) { k.quota->scope = QuotaScope::kOwner; }) ==
        "quota.scope is kOwner, a key's own quota can only have kKey");
}

TEST_CASE("soft_percent is 0 to 1000, and the limit with it is at most 2^48 - 1") {
  const auto soft = [](std::int64_t limit, std::int32_t percent) {
    return WithQuota([&](Quota& q) {
      q.limit = limit;
      q.soft_percent = percent;
    });
  };
  const std::string bound = ", 0 to 1000 are allowed";
  CHECK(soft(100, 1) == "OK");
  CHECK(soft(100, 1000) == "OK");
  CHECK(soft(0, 1000) == "OK");
  CHECK(soft(100, -1) == "quota.soft_percent is -1" + bound);
  CHECK(soft(100, 1001) == "quota.soft_percent is 1001" + bound);
  CHECK(soft(100, INT32_MAX) == "quota.soft_percent is 2147483647" + bound);
  // 25588634246423 is floor(kLimitMax / 11): with 1000 percent more it is kLimitMax - 2.
  CHECK(soft(25'588'634'246'423, 1000) == "OK");
  CHECK(soft(25'588'634'246'424, 1000) ==
        "quota.soft_percent is 1000, which makes 281474976710664 of limit 25588634246424, at most "
        "281474976710655 are allowed");
  CHECK(soft(kLimitMax, 0) == "OK");
  CHECK(soft(kLimitMax, 1) ==
        "quota.soft_percent is 1, which makes 284289726477761 of limit 281474976710655, at most "
        "281474976710655 are allowed");
  CHECK(soft(kLimitMax, 1000).find("which makes 3096224743817205 of") != std::string::npos);
  CHECK(WithKey([](Key& k) { k.quota->soft_percent = 1001; }) ==
        "quota.soft_percent is 1001" + bound);
}

TEST_CASE("a rate limit's algorithm and what it counts are one of two") {
  CHECK(WithRateLimit([](RateLimit& r) { r.algorithm = RateAlgorithm::kSlidingWindow; }) == "OK");
  CHECK(WithRateLimit([](RateLimit& r) { r.counts = RateCost::kRequests; }) == "OK");
  CHECK(WithRateLimit([](RateLimit& r) { r.shadow = true; }) == "OK");
  for (const int value : {0, 3, 255}) {
    const std::string is = absl::StrCat(" is ", value, ", 1 to 2 are allowed");
    CHECK(WithRateLimit([&](RateLimit& r) { r.algorithm = static_cast<RateAlgorithm>(value); }) ==
          "rate_limits[0].algorithm" + is);
    CHECK(WithRateLimit([&](RateLimit& r) { r.counts = static_cast<RateCost>(value); }) ==
          "rate_limits[0].counts" + is);
  }
}

TEST_CASE("a rate limit's units: 1 or more, and at most 1,000,000 a second") {
  const auto limit = [](std::int64_t units, absl::Duration window) {
    return WithRateLimit([&](RateLimit& r) {
      r.limit = units;
      r.window = window;
    });
  };
  const auto bound = [](std::int64_t most, const std::string& window) {
    return absl::StrCat(", 1 to ", most, " are allowed in ", window, ", 1000000 a second");
  };
  const std::string field = "rate_limits[0].limit is ";
  CHECK(limit(1, absl::Hours(744)) == "OK");
  CHECK(limit(1, absl::Milliseconds(1)) == "OK");
  CHECK(limit(0, absl::Minutes(1)) == field + "0" + bound(60'000'000, "1m"));
  CHECK(limit(-1, absl::Minutes(1)) == field + "-1" + bound(60'000'000, "1m"));
  CHECK(limit(60'000'000, absl::Minutes(1)) == "OK");
  CHECK(limit(60'000'001, absl::Minutes(1)) == field + "60000001" + bound(60'000'000, "1m"));
  CHECK(limit(1000, absl::Milliseconds(1)) == "OK");
  CHECK(limit(1001, absl::Milliseconds(1)) == field + "1001" + bound(1000, "1ms"));
  CHECK(limit(2'678'400'000'000, absl::Hours(744)) == "OK");
  CHECK(limit(2'678'400'000'001, absl::Hours(744)) ==
        field + "2678400000001" + bound(2'678'400'000'000, "744h"));
  CHECK(limit(std::numeric_limits<std::int64_t>::max(), absl::Minutes(1)) ==
        field + "9223372036854775807" + bound(60'000'000, "1m"));
}

TEST_CASE("a sliding window has at most 2^24 - 1 units, and no burst") {
  const auto sliding = [](std::int64_t units, std::optional<std::int64_t> burst) {
    return WithRateLimit([&](RateLimit& r) {
      r.algorithm = RateAlgorithm::kSlidingWindow;
      r.limit = units;
      r.burst = burst;
    });
  };
  CHECK(sliding(16'777'215, std::nullopt) == "OK");
  CHECK(sliding(16'777'216, std::nullopt) ==
        "rate_limits[0].limit is 16777216, at most 16777215 is allowed with kSlidingWindow");
  CHECK(sliding(20, 20) == "rate_limits[0].burst is 20, kSlidingWindow has none");
  CHECK(WithRateLimit([](RateLimit& r) { r.limit = 16'777'216; }) == "OK");
}

TEST_CASE("a burst is 1 or more, and comes back within 366 days") {
  struct Units {
    std::int64_t limit;
    absl::Duration window;
  };
  const auto burst = [](const Units& units, std::int64_t value) {
    return WithRateLimit([&](RateLimit& r) {
      r.limit = units.limit;
      r.window = units.window;
      r.burst = value;
    });
  };
  const std::string field = "rate_limits[0].burst is ";
  const Units plain = {.limit = 20, .window = absl::Minutes(1)};  // a unit in 3 s
  const std::string bound = ", 1 to 10540800 are allowed with 20 in 1m";
  CHECK(burst(plain, 1) == "OK");
  CHECK(burst(plain, 0) == field + "0" + bound);
  CHECK(burst(plain, -1) == field + "-1" + bound);
  CHECK(burst(plain, 10'540'800) == "OK");
  CHECK(burst(plain, 10'540'801) == field + "10540801" + bound);
  CHECK(burst(plain, std::numeric_limits<std::int64_t>::max()) ==
        field + "9223372036854775807" + bound);
  const Units slowest = {.limit = 1, .window = absl::Hours(744)};
  CHECK(burst(slowest, 11) == "OK");
  CHECK(burst(slowest, 12) == field + "12, 1 to 11 are allowed with 1 in 744h");
  const Units fastest = {.limit = 1000, .window = absl::Milliseconds(1)};
  CHECK(burst(fastest, 31'622'400'000'000) == "OK");
  CHECK(burst(fastest, 31'622'400'000'001) ==
        field + "31622400000001, 1 to 31622400000000 are allowed with 1000 in 1ms");
  // A unit in 333,333.3 ns counts as one in 333,334.
  const Units uneven = {.limit = 3, .window = absl::Milliseconds(1)};
  const std::int64_t most = 31'622'400'000'000'000 / 333'334;
  CHECK(burst(uneven, most) == "OK");
  CHECK(burst(uneven, most + 1).find(absl::StrCat("1 to ", most, " are")) != std::string::npos);
}

TEST_CASE("the times of every burst that is allowed, and now, add up to less than 2^62 ns") {
  constexpr std::int64_t kNow = 4'102'444'800'000'000'000;  // the year 2100
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  for (const absl::Duration window :
       {absl::Milliseconds(1), absl::Milliseconds(7), absl::Seconds(1), absl::Hours(744)}) {
    const std::int64_t window_ns = absl::ToInt64Nanoseconds(window);
    for (const std::int64_t limit :
         {std::int64_t{1}, std::int64_t{3}, window_ns / 1001, window_ns / 1000}) {
      const std::int64_t unit_ns = (window_ns + limit - 1) / limit;
      std::int64_t allowed = 0;
      for (std::int64_t step = std::int64_t{1} << 48; step > 0; step /= 2) {
        const std::string message = WithRateLimit([&](RateLimit& r) {
          r.limit = limit;
          r.window = window;
          r.burst = allowed + step;
        });
        if (message == "OK") allowed += step;
      }
      CAPTURE(limit);
      CHECK(allowed >= limit);  // so the default is always good
      CHECK(allowed <= (kMost - kNow) / unit_ns);
      CHECK(internal::CheckGcra({.limit = limit, .window_ns = window_ns, .burst = allowed}).ok());
    }
  }
}

TEST_CASE("a rate limit's window and endpoint are checked") {
  CHECK(WithRateLimit([](RateLimit& r) { r.endpoint = "v1"; }) ==
        "rate_limits[0].endpoint is \"v1\", a path must start with '/'");
  const auto window = [](absl::Duration value) {
    return WithRateLimit([&](RateLimit& r) { r.window = value; });
  };
  CHECK(window(absl::Milliseconds(1)) == "OK");
  CHECK(window(absl::Hours(24 * 31)) == "OK");
  CHECK(window(absl::ZeroDuration()) == "rate_limits[0].window is 0, 1ms to 744h are allowed");
  CHECK(window(absl::Hours(24 * 31) + absl::Milliseconds(1)) ==
        "rate_limits[0].window is 744h0.001s, 1ms to 744h are allowed");
  CHECK(window(absl::InfiniteDuration()) ==
        "rate_limits[0].window is inf, 1ms to 744h are allowed");
  CHECK(window(absl::Microseconds(1500)) ==
        "rate_limits[0].window is 1.5ms, whole milliseconds are required");
}

TEST_CASE("there are at most 8 rate limits, and their names differ") {
  const auto rate_limits = [](std::size_t count) {
    std::vector<RateLimit> limits;
    for (std::size_t i = 0; i < count; ++i) {
      limits.push_back({.name = absl::StrCat("limit", i), .limit = 1});
    }
    return limits;
  };
  CHECK(WithPlan([&](Plan& p) { p.rate_limits = rate_limits(8); }) == "OK");
  CHECK(WithPlan([&](Plan& p) { p.rate_limits = rate_limits(9); }) ==
        "rate_limits is a list of 9, at most 8 are allowed");
  CHECK(WithKey([&](Key& k) { k.rate_limits = rate_limits(9); }) ==
        "rate_limits is a list of 9, at most 8 are allowed");
  CHECK(WithKey([&](Key& k) {
          k.rate_limits = rate_limits(3);
          k.rate_limits[2].name = "limit1";
        }) == "rate_limits[2].name is \"limit1\", which rate_limits[1] has: names must differ");
}

TEST_CASE("alert percents are at most 8, ascending, 1 to 1000") {
  const auto percents = [](std::vector<std::int32_t> values) {
    return WithPlan([&](Plan& p) { p.alert_percents = values; });
  };
  CHECK(percents({}) == "OK");
  CHECK(percents({1, 2, 3, 4, 5, 6, 7, 1000}) == "OK");
  CHECK(percents({1, 2, 3, 4, 5, 6, 7, 8, 9}) ==
        "alert_percents is a list of 9, at most 8 are allowed");
  CHECK(percents({0}) == "alert_percents[0] is 0, 1 to 1000 are allowed");
  CHECK(percents({90, 1001}) == "alert_percents[1] is 1001, 1 to 1000 are allowed");
  CHECK(percents({90, 90}) == "alert_percents[1] is 90, more than the 90 before it is required");
  CHECK(percents({100, 90}) == "alert_percents[1] is 90, more than the 100 before it is required");
}

TEST_CASE("a key expires in the years 1970 to 9999") {
  const auto expiry = [](absl::Time value) {
    return WithKey([&](Key& k) { k.expires_at = value; });
  };
  const absl::Time end = absl::FromCivil(absl::CivilDay(10'000, 1, 1), absl::UTCTimeZone());
  const std::string bound = ", the years 1970 to 9999 are allowed";
  CHECK(expiry(absl::UnixEpoch()) == "OK");
  CHECK(expiry(end - absl::Nanoseconds(1)) == "OK");
  CHECK(expiry(end) == "expires_at is 10000-01-01T00:00:00+00:00" + bound);
  CHECK(expiry(absl::UnixEpoch() - absl::Seconds(1)) ==
        "expires_at is 1969-12-31T23:59:59+00:00" + bound);
  CHECK(expiry(absl::InfiniteFuture()) == "expires_at is infinite-future" + bound);
  CHECK(expiry(absl::InfinitePast()) == "expires_at is infinite-past" + bound);
}

TEST_CASE("a key has at most 64 scopes, which differ") {
  const auto scopes = [](int count) {
    std::vector<std::string> values;
    for (int i = 0; i < count; ++i) values.push_back(absl::StrCat("scope", i));
    return values;
  };
  CHECK(WithKey([&](Key& k) { k.scopes = scopes(64); }) == "OK");
  CHECK(WithKey([&](Key& k) { k.scopes = scopes(65); }) ==
        "scopes is a list of 65, at most 64 are allowed");
  CHECK(WithKey([&](Key& k) {
          k.scopes = {"a", "b", "a"};
        }) == "scopes[2] is \"a\", which scopes[0] is: scopes must differ");
  CHECK(WithKey([&](Key& k) {
          k.scopes = {"a", "b c"};
        }).find("scopes[1]: scope is \"b c\", only printable ASCII") == 0);
}

TEST_CASE("a key has at most 64 addresses, which are blocks") {
  CHECK(WithKey([](Key& k) { k.addresses.assign(64, "10.0.0.1"); }) == "OK");
  CHECK(WithKey([](Key& k) { k.addresses.assign(65, "10.0.0.1"); }) ==
        "addresses is a list of 65, at most 64 are allowed");
  CHECK(WithKey([](Key& k) {
          k.addresses = {"10.0.0.1", ""};
        }) == "addresses[1]: address is empty, 1 to 49 bytes are required");
  CHECK(WithKey([](Key& k) {
          k.addresses = {"10.0.0.1/8"};
        }).find("addresses[0]: address is \"10.0.0.1/8\", no bit after the prefix") == 0);
}

TEST_CASE("an imported key has an id, and has used 0 to 2^48 - 1 units") {
  ImportedKey imported = {.key = GoodKey()};
  imported.used = kLimitMax;
  CHECK(Message(CheckImportedKey(imported)) == "OK");
  imported.used = kLimitMax + 1;
  CHECK(Message(CheckImportedKey(imported)) ==
        "used is 281474976710656, 0 to 281474976710655 are allowed");
  imported.used = -1;
  CHECK(Message(CheckImportedKey(imported)) == "used is -1, 0 to 281474976710655 are allowed");
  imported = {.key = GoodKey()};
  imported.key.owner_id = "";
  CHECK(Message(CheckImportedKey(imported)) == "key.owner_id is empty, 1 to 63 bytes are required");
}

TEST_CASE("a page has 1 to 1000 items") {
  CHECK(WithQuery([](KeyQuery& q) { q.count_max = 1; }) == "OK");
  CHECK(WithQuery([](KeyQuery& q) { q.count_max = 1000; }) == "OK");
  CHECK(WithQuery([](KeyQuery& q) { q.count_max = 0; }) == "count_max is 0, 1 to 1000 are allowed");
  CHECK(WithQuery([](KeyQuery& q) { q.count_max = 1001; }) ==
        "count_max is 1001, 1 to 1000 are allowed");
}

TEST_CASE("an overlap is 0 to 400 days") {
  CHECK(Message(CheckRotateOptions({.overlap = absl::Hours(24 * 400)})) == "OK");
  CHECK(Message(CheckRotateOptions({.overlap = absl::Hours(24 * 400) + absl::Nanoseconds(1)}))
            .find("overlap is 9600h0.000000001s, 0 to 9600h are allowed") == 0);
  CHECK(Message(CheckRotateOptions({.overlap = -absl::Nanoseconds(1)})) ==
        "overlap is -1ns, 0 to 9600h are allowed");
}

TEST_CASE("the bounds of the engine's options are kept") {
  const std::string table = ", 1 to 1073741824 are allowed";
  const std::int64_t most = std::int64_t{1} << 30;
  CHECK(WithOptions([&](EngineOptions& o) {
          o.cached_keys_max = o.active_subjects_max = o.rate_slots_max = most;
          o.settle_interval = absl::Seconds(60);
        }) == "OK");
  CHECK(WithOptions([](EngineOptions& o) { o.cached_keys_max = 0; }) ==
        "cached_keys_max is 0" + table);
  CHECK(WithOptions([&](EngineOptions& o) { o.cached_keys_max = most + 1; }) ==
        "cached_keys_max is 1073741825" + table);
  CHECK(WithOptions([](EngineOptions& o) { o.active_subjects_max = 0; }) ==
        "active_subjects_max is 0" + table);
  CHECK(WithOptions([](EngineOptions& o) { o.rate_slots_max = -1; }) ==
        "rate_slots_max is -1" + table);
  CHECK(WithOptions([](EngineOptions& o) { o.settle_interval = absl::Milliseconds(10); }) == "OK");
  CHECK(WithOptions([](EngineOptions& o) { o.settle_interval = absl::Milliseconds(9); }) ==
        "settle_interval is 9ms, 10ms to 1m are allowed");
  CHECK(WithOptions([](EngineOptions& o) { o.history_kept = absl::Hours(23); }) ==
        "history_kept is 23h, 24h to inf are allowed");
  CHECK(WithOptions([](EngineOptions& o) { o.history_kept = absl::InfiniteDuration(); }) == "OK");
  CHECK(WithOptions([](EngineOptions& o) { o.events_kept = absl::Minutes(59); }) ==
        "events_kept is 59m, 1h to inf are allowed");
  CHECK(WithOptions([](EngineOptions& o) { o.events_kept = absl::Hours(1); }) == "OK");
  CHECK(WithOptions([](EngineOptions& o) { o.settle_interval = absl::InfiniteDuration(); }) ==
        "settle_interval is inf, 10ms to 1m are allowed");
  CHECK(WithOptions([](EngineOptions& o) { o.on_store_failure = static_cast<StoreFailure>(0); }) ==
        "on_store_failure is 0, 1 to 2 are allowed");
}

TEST_CASE("seed plans are each checked, and their ids differ") {
  CHECK(WithOptions([](EngineOptions& o) { o.seed_plans.clear(); }) == "OK");
  CHECK(
      WithOptions([](EngineOptions& o) { o.seed_plans[2].rate_limits[0].limit = 0; }) ==
      "seed_plans[2].rate_limits[0].limit is 0, 1 to 60000000 are allowed in 1m, 1000000 a second");
  CHECK(WithOptions([](EngineOptions& o) { o.seed_plans[2].id = "free"; }) ==
        "seed_plans[2].id is \"free\", which an earlier plan has: ids must differ");
  CHECK(WithOptions([](EngineOptions& o) { o.seed_plans.assign(1001, GoodPlan()); }) ==
        "seed_plans is a list of 1001, at most 1000 are allowed");
}

}  // namespace
}  // namespace throttl::internal
