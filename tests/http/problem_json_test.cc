#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "throttl/http.h"

namespace throttl {
namespace {

using nlohmann::json;

constexpr std::string_view kRegistry = "https://iana.org/assignments/http-problem-types#";

Decision OverQuota() {
  Decision decision{.code = DecisionCode::kQuotaExceeded,
                    .key_id = "key_1",
                    .owner_id = "acme",
                    .plan_id = "pro",
                    .quota = {.limit = 50'000,
                              .used = 49'990,
                              .starts_at = absl::FromUnixSeconds(1'785'542'400),
                              .resets_at = absl::FromUnixSeconds(1'788'220'800),
                              .period = Period::kMonth}};
  decision.decided_at = absl::FromUnixSeconds(1'786'536'000);
  decision.retry_after = *decision.quota.resets_at - decision.decided_at;
  return decision;
}

Decision RateLimited() {
  Decision decision{.code = DecisionCode::kRateLimited, .key_id = "key_1"};
  decision.rate = {.name = "search", .limit = 20, .remaining = 2, .window = absl::Minutes(1)};
  decision.retry_after = absl::Milliseconds(7'500);
  return decision;
}

TEST_CASE("the body over quota is exactly this") {
  CHECK(ProblemJson(OverQuota()) ==
        R"({"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",)"
        R"("title":"Request cannot be satisfied as assigned quota has been exceeded",)"
        R"("status":429,"detail":"Quota \"month\" allows 50000 units, 49990 are used, and this )"
        R"(request takes more than the 10 that are left; it resets at 2026-09-01T00:00:00Z",)"
        R"("code":"quota_exceeded","violated-policies":["month"]})");
}

TEST_CASE("the body of a rate limit that refused tells value and bound, and when to retry") {
  const json body = json::parse(ProblemJson(RateLimited()));
  CHECK(body["type"] == std::string(kRegistry) + "quota-exceeded");
  CHECK(body["detail"] ==
        "Rate limit \"search\" allows 20 units in 1m, and this request takes more than the 2 that "
        "are left; retry after 8 s");
  CHECK(body["violated-policies"] == json::array({"search"}));
}

TEST_CASE("the body says when waiting does not help, and when a quota never resets") {
  Decision decision = RateLimited();
  decision.retry_after = std::nullopt;
  const auto ends_with = [&](const std::string& end) {
    const std::string detail = json::parse(ProblemJson(decision))["detail"];
    return detail.size() > end.size() && detail.substr(detail.size() - end.size()) == end;
  };
  CHECK(ends_with("; waiting does not help"));
  decision = OverQuota();
  decision.retry_after = std::nullopt;
  CHECK(ends_with("; waiting does not help"));
  decision.quota.resets_at = std::nullopt;
  CHECK(ends_with("; it never resets"));
}

TEST_CASE("status is http_status(), code is PublicCodeName, and type and title are those of it") {
  const std::string exceeded = "Request cannot be satisfied as assigned quota has been exceeded";
  const std::string reduced =
      "Request cannot be satisfied due to temporary server capacity constraints";
  for (int code = 0; code <= 255; ++code) {
    if (code == 1) continue;
    Decision decision{.code = static_cast<DecisionCode>(code)};
    decision.rate.name = "search";
    decision.quota.period = Period::kMonth;
    const json body = json::parse(ProblemJson(decision));
    CHECK(body["status"] == decision.http_status());
    CHECK(body["code"] == PublicCodeName(decision.code));
    CHECK(!body["detail"].get<std::string>().empty());
    const int status = decision.http_status();
    const bool registered = status == 429 || status == 503;
    CHECK(body["type"] == (!registered ? "about:blank"
                           : status == 429
                               ? std::string(kRegistry) + "quota-exceeded"
                               : std::string(kRegistry) + "temporary-reduced-capacity"));
    CHECK(body["title"] == (status == 400   ? "Bad Request"
                            : status == 401 ? "Unauthorized"
                            : status == 403 ? "Forbidden"
                            : status == 429 ? exceeded
                                            : reduced));
    CHECK(body.contains("violated-policies") == (status == 429));
    CHECK(body.size() == (status == 429 ? 6 : 5));
  }
}

TEST_CASE("503 says when to retry, as the header does") {
  CHECK(json::parse(ProblemJson(Decision{}))["detail"] ==
        "API keys cannot be checked at the moment; retry after 1 s");
}

TEST_CASE("it is empty for a decision that allows") {
  CHECK(ProblemJson({.code = DecisionCode::kValid}).empty());
}

TEST_CASE("the media type is that of RFC 9457") {
  CHECK(std::string_view(kProblemContentType) == "application/problem+json");
}

TEST_CASE("a name is in the body as it is in the headers, also one that is not UTF-8") {
  Decision decision = RateLimited();
  decision.rate.name = "a\"b\\\xff\n";
  const json body = json::parse(ProblemJson(decision));
  CHECK(body["violated-policies"] == json::array({"a\"b\\??"}));
  CHECK(HttpHeaders(decision).at(1).value.substr(0, 12) == "\"a\\\"b\\\\??\";r");
}

TEST_CASE("the same bytes come of kMalformed and kNotFound, whatever else the decision holds") {
  Decision not_found = OverQuota();
  not_found.rate = RateLimited().rate;
  not_found.code = DecisionCode::kNotFound;
  const Decision malformed{.code = DecisionCode::kMalformed};
  CHECK(ProblemJson(not_found) == ProblemJson(malformed));
  const auto bytes = [](const Decision& decision) {
    std::string text;
    for (const HttpHeader& header : HttpHeaders(decision, {.legacy_fields = true})) {
      text += std::string(header.name) + ": " + header.value + "\n";
    }
    return text;
  };
  CHECK(bytes(not_found) == bytes(malformed));
  CHECK(not_found.http_status() == malformed.http_status());
}

}  // namespace
}  // namespace throttl
