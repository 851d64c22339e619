#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "throttl/http.h"

namespace throttl {
namespace {

using Headers = std::map<std::string, std::string>;

const absl::Time kNow = absl::FromUnixMillis(1'786'536'000'250);  // 2026-08-12T12:00:00.250Z
const absl::Time kAugust = absl::FromUnixSeconds(1'785'542'400);
const absl::Time kSeptember = absl::FromUnixSeconds(1'788'220'800);

// "Each name stands there once."
Headers HeadersOf(const Decision& decision, const HttpOptions& options = {}) {
  Headers headers;
  for (const HttpHeader& header : HttpHeaders(decision, options)) {
    CHECK(headers.emplace(header.name, header.value).second);
  }
  return headers;
}

std::optional<std::string> Header(const Decision& decision, const std::string& name,
                                  const HttpOptions& options = {}) {
  const Headers headers = HeadersOf(decision, options);
  const auto found = headers.find(name);
  return found == headers.end() ? std::nullopt : std::optional(found->second);
}

// A key that has used a month's 50,000 but for 41,230, and 3 of 20 searches a minute.
Decision Allowed() {
  Decision decision{.code = DecisionCode::kValid, .decided_at = kNow};
  decision.quota = {.limit = 50'000,
                    .used = 8'770,
                    .starts_at = kAugust,
                    .resets_at = kSeptember,
                    .period = Period::kMonth};
  decision.rate = {.name = "search",
                   .limit = 20,
                   .remaining = 17,
                   .window = absl::Minutes(1),
                   .resets_at = kNow + absl::Milliseconds(8'500)};
  return decision;
}

Decision OverQuota() {
  Decision decision = Allowed();
  decision.code = DecisionCode::kQuotaExceeded;
  decision.quota.used = 50'000;
  decision.retry_after = kSeptember - kNow;
  return decision;
}

Decision RateLimited() {
  Decision decision = Allowed();
  decision.code = DecisionCode::kRateLimited;
  decision.rate.remaining = 2;
  decision.rate.resets_at = kNow + absl::Milliseconds(52'500);
  decision.retry_after = absl::Milliseconds(7'500);  // for a cost of 5
  return decision;
}

Decision Refused(DecisionCode code) {
  Decision decision = Allowed();
  decision.code = code;
  return decision;
}

TEST_CASE("draft 10 tells of the rate limit first and the quota second, in both fields") {
  CHECK(HeadersOf(Allowed()) ==
        Headers{{"RateLimit-Policy", "\"search\";q=20;w=60, \"month\";q=50000;w=2678400"},
                {"RateLimit", "\"search\";r=17;t=3, \"month\";r=41230;t=1684800"}});
}

TEST_CASE("draft 8 differs in t, which is when all is there again") {
  CHECK(HeadersOf(Allowed(), {.fields = RateLimitFields::kDraft8}) ==
        Headers{{"RateLimit-Policy", "\"search\";q=20;w=60, \"month\";q=50000;w=2678400"},
                {"RateLimit", "\"search\";r=17;t=9, \"month\";r=41230;t=1684800"}});
}

TEST_CASE("t of a rate limit is when the next unit is there, rounded up") {
  Decision decision = Allowed();
  decision.quota = {};
  const auto field = [&](absl::Duration until_all) {
    decision.rate.resets_at = kNow + until_all;
    return Header(decision, "RateLimit").value_or("");
  };
  CHECK(field(absl::Seconds(9)) == "\"search\";r=17;t=3");  // 3 missing, one each 3 s
  CHECK(field(absl::Seconds(9) - absl::Milliseconds(1)) == "\"search\";r=17;t=3");
  CHECK(field(absl::Seconds(7)) == "\"search\";r=17;t=1");
  CHECK(field(absl::Milliseconds(6'002)) == "\"search\";r=17;t=1");
  CHECK(field(absl::ZeroDuration()) == "\"search\";r=17;t=0");
  CHECK(field(-absl::Seconds(5)) == "\"search\";r=17;t=0");
  // An error of rounding in the engine does not bring the next unit forward, nor back.
  CHECK(field(absl::Seconds(9) + absl::Nanoseconds(7)) == "\"search\";r=17;t=3");
  CHECK(field(absl::Seconds(9) - absl::Nanoseconds(7)) == "\"search\";r=17;t=3");
}

TEST_CASE("w is left out where it is not a positive whole number, or the beginning is not known") {
  Decision decision = Allowed();
  decision.rate.window = absl::Milliseconds(1'500);
  decision.quota.starts_at = absl::InfinitePast();
  CHECK(Header(decision, "RateLimit-Policy") == "\"search\";q=20, \"month\";q=50000");
  decision.rate.window = absl::Milliseconds(500);
  decision.quota.starts_at = kSeptember;
  CHECK(Header(decision, "RateLimit-Policy") == "\"search\";q=20, \"month\";q=50000");
  for (const RateLimitFields fields : {RateLimitFields::kDraft6, RateLimitFields::kDraft7}) {
    CHECK(Header(Allowed(), "RateLimit-Policy", {.fields = fields}) == "50000;w=2678400");
    decision.quota.starts_at = absl::InfinitePast();
    CHECK(Header(decision, "RateLimit-Policy", {.fields = fields}) == std::nullopt);
  }
}

TEST_CASE("t is left out where nothing ever comes back") {
  Decision decision = Allowed();
  decision.rate = {};
  decision.quota.resets_at = std::nullopt;
  decision.quota.starts_at = absl::InfinitePast();
  decision.quota.period = Period::kLifetime;
  CHECK(HeadersOf(decision) == Headers{{"RateLimit-Policy", "\"lifetime\";q=50000"},
                                       {"RateLimit", "\"lifetime\";r=41230"}});
}

TEST_CASE("drafts 6 and 7 and the X-RateLimit fields tell of the one with the smallest part left") {
  // 41,230 of 50,000 are less than 17 of 20.
  CHECK(HeadersOf(Allowed(), {.fields = RateLimitFields::kDraft6}) ==
        Headers{{"RateLimit-Policy", "50000;w=2678400"},
                {"RateLimit-Limit", "50000"},
                {"RateLimit-Remaining", "41230"},
                {"RateLimit-Reset", "1684800"}});
  CHECK(HeadersOf(Allowed(), {.fields = RateLimitFields::kDraft7}) ==
        Headers{{"RateLimit-Policy", "50000;w=2678400"},
                {"RateLimit", "limit=50000, remaining=41230, reset=1684800"}});
  CHECK(HeadersOf(Allowed(), {.fields = RateLimitFields::kNone, .legacy_fields = true}) ==
        Headers{{"X-RateLimit-Limit", "50000"},
                {"X-RateLimit-Remaining", "41230"},
                {"X-RateLimit-Reset", "1788220800"}});
  Decision decision = Allowed();
  decision.rate.remaining = 16;
  CHECK(HeadersOf(decision, {.fields = RateLimitFields::kDraft7, .legacy_fields = true}) ==
        Headers{{"RateLimit-Policy", "20;w=60"},
                {"RateLimit", "limit=20, remaining=16, reset=9"},
                {"X-RateLimit-Limit", "20"},
                {"X-RateLimit-Remaining", "16"},
                {"X-RateLimit-Reset", "1786536009"}});  // 8.75 s after 12:00:00
}

TEST_CASE("products of units that do not fit 64 bits are compared all the same") {
  Decision decision = Allowed();
  decision.rate.limit = std::int64_t{1} << 41;
  decision.rate.remaining = std::int64_t{1} << 40;
  decision.quota.limit = std::int64_t{1} << 24;
  decision.quota.used = *decision.quota.limit - 1;
  CHECK(Header(decision, "X-RateLimit-Limit", {.legacy_fields = true}) == "16777216");
}

TEST_CASE("drafts 6 and 7 and the X-RateLimit fields tell of the one that refused") {
  // The rate limit has nothing left either.
  Decision over_quota = OverQuota();
  over_quota.rate.remaining = 0;
  over_quota.quota.used = 49'999;
  CHECK(HeadersOf(over_quota, {.fields = RateLimitFields::kDraft6, .legacy_fields = true}) ==
        Headers{{"RateLimit-Policy", "50000;w=2678400"},
                {"RateLimit-Limit", "50000"},
                {"RateLimit-Remaining", "1"},
                {"RateLimit-Reset", "1684800"},
                {"X-RateLimit-Limit", "50000"},
                {"X-RateLimit-Remaining", "1"},
                {"X-RateLimit-Reset", "1788220800"},
                {"Retry-After", "1684800"},
                {"Cache-Control", "no-store"}});
}

TEST_CASE("they tell of nothing where the one that refused is not known") {
  Decision decision = RateLimited();
  decision.rate.name = "";
  CHECK(HeadersOf(decision, {.fields = RateLimitFields::kDraft6, .legacy_fields = true}) ==
        Headers{{"Retry-After", "8"}, {"Cache-Control", "no-store"}});
}

TEST_CASE("a limit that never resets is not told by drafts 6 and 7, which require a reset") {
  Decision decision = Allowed();
  decision.quota.resets_at = std::nullopt;
  decision.quota.used = 50'000;
  const HttpOptions draft7 = {.fields = RateLimitFields::kDraft7, .legacy_fields = true};
  CHECK(HeadersOf(decision, draft7) == Headers{{"RateLimit-Policy", "20;w=60"},
                                               {"RateLimit", "limit=20, remaining=17, reset=9"},
                                               {"X-RateLimit-Limit", "50000"},
                                               {"X-RateLimit-Remaining", "0"}});
  decision.code = DecisionCode::kQuotaExceeded;
  CHECK(HeadersOf(decision, draft7) == Headers{{"X-RateLimit-Limit", "50000"},
                                               {"X-RateLimit-Remaining", "0"},
                                               {"Cache-Control", "no-store"}});
}

TEST_CASE("the limit that refused is never said to be there later than Retry-After") {
  // The next unit is there in 1.5 s, all of them in 52.5 s, the 5 that were asked for in 7.5 s.
  const Decision decision = RateLimited();
  CHECK(Header(decision, "Retry-After") == "8");
  CHECK(Header(decision, "RateLimit") == "\"search\";r=2;t=2, \"month\";r=41230;t=1684800");
  CHECK(Header(decision, "RateLimit", {.fields = RateLimitFields::kDraft8}) ==
        "\"search\";r=2;t=8, \"month\";r=41230;t=1684800");
  CHECK(Header(decision, "RateLimit", {.fields = RateLimitFields::kDraft7}) ==
        "limit=20, remaining=2, reset=8");
  CHECK(Header(decision, "X-RateLimit-Reset", {.legacy_fields = true}) == "1786536008");
  Decision sooner = decision;
  sooner.retry_after = absl::Milliseconds(500);
  CHECK(Header(sooner, "Retry-After") == "1");
  CHECK(Header(sooner, "RateLimit") == "\"search\";r=2;t=1, \"month\";r=41230;t=1684800");
}

TEST_CASE("Retry-After is whole seconds, rounded up, at least 1") {
  const auto retry = [](absl::Duration after) {
    Decision decision = OverQuota();
    decision.retry_after = after;
    return Header(decision, "Retry-After").value_or("");
  };
  CHECK(retry(absl::ZeroDuration()) == "1");
  CHECK(retry(-absl::Seconds(3)) == "1");
  CHECK(retry(absl::Nanoseconds(1)) == "1");
  CHECK(retry(absl::Seconds(1)) == "1");
  CHECK(retry(absl::Seconds(1) + absl::Nanoseconds(1)) == "2");
  CHECK(retry(absl::Hours(24 * 366)) == "31622400");
}

TEST_CASE(
    "there is no Retry-After with 429 when waiting does not help, nor with 400, 401 and 403") {
  Decision decision = OverQuota();
  decision.retry_after = std::nullopt;
  CHECK(Header(decision, "Retry-After") == std::nullopt);
  decision.retry_after = absl::InfiniteDuration();
  CHECK(Header(decision, "Retry-After") == std::nullopt);
  for (int code = 0; code <= 11; ++code) {
    Decision refused = Refused(static_cast<DecisionCode>(code));
    refused.retry_after = absl::Seconds(7);
    const bool waits = refused.http_status() == 429 || refused.http_status() == 503;
    CHECK(Header(refused, "Retry-After").has_value() == waits);
  }
}

TEST_CASE("503 says kRetryWhenUnavailable where the decision does not know better") {
  CHECK(kRetryWhenUnavailable == absl::Seconds(1));
  const Headers headers = {{"Retry-After", "1"}, {"Cache-Control", "no-store"}};
  CHECK(HeadersOf(Decision{}) == headers);
  CHECK(HeadersOf(Refused(static_cast<DecisionCode>(200))) == headers);
  CHECK(HeadersOf(Decision{.retry_after = absl::Seconds(9)}) ==
        Headers{{"Retry-After", "9"}, {"Cache-Control", "no-store"}});
}

TEST_CASE("whoever was refused for another reason is not told what a key has left") {
  const HttpOptions all = {.legacy_fields = true};
  for (int code = 0; code <= 11; ++code) {
    const Decision decision = Refused(static_cast<DecisionCode>(code));
    const bool told = code == 1 || code == 9 || code == 10;
    CHECK(Header(decision, "RateLimit", all).has_value() == told);
    CHECK(Header(decision, "RateLimit-Policy", all).has_value() == told);
    CHECK(Header(decision, "X-RateLimit-Remaining", all).has_value() == told);
  }
}

TEST_CASE(
    "no item stands for a quota without a limit, of an unmetered decision, or no rate limit") {
  Decision decision = Allowed();
  decision.unmetered = true;
  CHECK(Header(decision, "RateLimit") == "\"search\";r=17;t=3");
  decision.unmetered = false;
  decision.quota.limit = std::nullopt;
  CHECK(Header(decision, "RateLimit") == "\"search\";r=17;t=3");
  decision.rate.name = "";
  CHECK(HeadersOf(decision, {.legacy_fields = true}).empty());
  CHECK(HeadersOf(decision, {.fields = RateLimitFields::kDraft6}).empty());
}

TEST_CASE("what is left is never negative, and a limit of 0 has nothing left") {
  Decision decision = Allowed();
  decision.rate.remaining = -1;
  CHECK(Header(decision, "RateLimit") == "\"search\";r=0;t=3, \"month\";r=41230;t=1684800");
  decision.rate = {};
  decision.quota.limit = 0;
  CHECK(Header(decision, "RateLimit") == "\"month\";r=0;t=1684800");
  CHECK(Header(decision, "RateLimit-Policy") == "\"month\";q=0;w=2678400");
  decision.quota.limit = 10;
  decision.quota.used = 12;
  CHECK(Header(decision, "RateLimit") == "\"month\";r=0;t=1684800");
}

TEST_CASE("kNone has no field of a draft") {
  CHECK(HeadersOf(Allowed(), {.fields = RateLimitFields::kNone}).empty());
}

TEST_CASE("401 has a challenge without an error for kMissing, with invalid_token else") {
  CHECK(HeadersOf(Refused(DecisionCode::kMissing)) ==
        Headers{{"WWW-Authenticate", "Bearer realm=\"api\""}, {"Cache-Control", "no-store"}});
  for (const DecisionCode code : {DecisionCode::kMalformed, DecisionCode::kNotFound,
                                  DecisionCode::kInactive, DecisionCode::kExpired}) {
    CHECK(HeadersOf(Refused(code), {.scope = "read"}) ==
          Headers{{"WWW-Authenticate", "Bearer realm=\"api\", error=\"invalid_token\""},
                  {"Cache-Control", "no-store"}});
  }
}

TEST_CASE("kScopeMissing has insufficient_scope and the scope, if there is one") {
  const Decision decision = Refused(DecisionCode::kScopeMissing);
  CHECK(Header(decision, "WWW-Authenticate", {.scope = "read write"}) ==
        "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read write\"");
  CHECK(Header(decision, "WWW-Authenticate", {.scope = " read   write "}) ==
        "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read write\"");
  CHECK(Header(decision, "WWW-Authenticate", {.scope = "  "}) ==
        "Bearer realm=\"api\", error=\"insufficient_scope\"");
}

TEST_CASE("kForbidden, 400, 429 and 503 have no challenge, and every refusal has no-store") {
  for (int code = 0; code <= 11; ++code) {
    const Decision decision = Refused(static_cast<DecisionCode>(code));
    const bool challenged =
        decision.http_status() == 401 || decision.code == DecisionCode::kScopeMissing;
    CHECK(Header(decision, "WWW-Authenticate").has_value() == challenged);
    CHECK(Header(decision, "Cache-Control").value_or("") == (code == 1 ? "" : "no-store"));
  }
}

TEST_CASE("'?' stands for each byte of a realm, a scope or a name that cannot stand there") {
  CHECK(Header(Refused(DecisionCode::kMissing), "WWW-Authenticate",
               {.realm = "a\"b\\c\r\nd\x7f\xc3\xa9\t"}) == "Bearer realm=\"a\\\"b\\\\c??d????\"");
  CHECK(Header(Refused(DecisionCode::kScopeMissing), "WWW-Authenticate",
               {.scope = "a\"b\\c\r\nd \xc3\xa9"}) ==
        "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"a?b?c??d ??\"");
  Decision decision = RateLimited();
  decision.quota = {};
  decision.rate.name = "a\"b\\c\r\nd\xc3\xa9";
  CHECK(Header(decision, "RateLimit") == "\"a\\\"b\\\\c??d??\";r=2;t=2");
  CHECK(Header(decision, "RateLimit-Policy") == "\"a\\\"b\\\\c??d??\";q=20;w=60");
}

TEST_CASE("numbers of a structured field have at most 15 digits") {
  Decision decision = Allowed();
  decision.rate.limit = 1'000'000'000'000'000;
  decision.rate.remaining = decision.rate.limit;
  decision.quota.resets_at = kNow + absl::Seconds(1'000'000'000'000'000);
  decision.quota.starts_at = kNow;
  CHECK(Header(decision, "RateLimit-Policy") ==
        "\"search\";q=999999999999999;w=60, \"month\";q=50000;w=999999999999999");
  CHECK(Header(decision, "RateLimit") ==
        "\"search\";r=999999999999999;t=1, \"month\";r=41230;t=999999999999999");
}

}  // namespace
}  // namespace throttl
