#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "throttl/decision.h"

namespace throttl {
namespace {

struct CodeText {
  int number;
  std::string name;
  std::string public_name;
  int http_status;
};

const std::vector<CodeText>& CodeTexts() {
  static const std::vector<CodeText> texts = {
      {0, "store_unavailable", "store_unavailable", 503},
      {1, "valid", "valid", 200},
      {2, "missing", "missing", 401},
      {3, "malformed", "invalid_key", 401},
      {4, "not_found", "invalid_key", 401},
      {5, "inactive", "inactive", 401},
      {6, "expired", "expired", 401},
      {7, "forbidden", "forbidden", 403},
      {8, "scope_missing", "scope_missing", 403},
      {9, "rate_limited", "rate_limited", 429},
      {10, "quota_exceeded", "quota_exceeded", 429},
      {11, "invalid_request", "invalid_request", 400},
  };
  return texts;
}

TEST_CASE("each code has its name, its public name and its status") {
  for (const CodeText& text : CodeTexts()) {
    const auto code = static_cast<DecisionCode>(text.number);
    CHECK(CodeName(code) == text.name);
    CHECK(PublicCodeName(code) == text.public_name);
    CHECK(HttpStatus(code) == text.http_status);
  }
}

TEST_CASE("only kValid allows, and only it is a 200; a code that is not known refuses") {
  for (int number = 0; number <= 255; ++number) {
    Decision decision;
    decision.code = static_cast<DecisionCode>(number);
    CHECK(decision.allowed() == (number == 1));
    CHECK((decision.http_status() == 200) == (number == 1));
    if (number > 11) {
      CHECK(CodeName(decision.code) == "store_unavailable");
      CHECK(PublicCodeName(decision.code) == "store_unavailable");
      CHECK(decision.http_status() == 503);
    }
  }
}

TEST_CASE("a decision that nobody filled in refuses") {
  const Decision decision;
  CHECK(!decision.allowed());
  CHECK(decision.http_status() == 503);
  CHECK(decision.quota.starts_at == absl::InfinitePast());
}

TEST_CASE("units left, never negative; std::nullopt when there is no limit") {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  CHECK(QuotaState{.limit = std::nullopt, .used = 7}.remaining() == std::nullopt);
  CHECK(QuotaState{.limit = 10, .used = 7}.remaining() == 3);
  CHECK(QuotaState{.limit = 10, .used = 10}.remaining() == 0);
  CHECK(QuotaState{.limit = 10, .used = 11}.remaining() == 0);
  CHECK(QuotaState{.limit = 0, .used = kMax}.remaining() == 0);
  CHECK(QuotaState{.limit = kLimitMax, .used = 0}.remaining() == kLimitMax);
  CHECK(QuotaState{.limit = 10, .used = std::numeric_limits<std::int64_t>::min()}.remaining() ==
        10);
  CHECK(QuotaState{.limit = -10, .used = -20}.remaining() == 0);
}

TEST_CASE("the policy that refused is the rate limit, the quota's period, or none") {
  Decision decision;
  decision.rate.name = "search";
  decision.quota.period = Period::kMonth;
  for (const CodeText& text : CodeTexts()) {
    decision.code = static_cast<DecisionCode>(text.number);
    const std::string expected = decision.code == DecisionCode::kRateLimited     ? "search"
                                 : decision.code == DecisionCode::kQuotaExceeded ? "month"
                                                                                 : "";
    CHECK(decision.violated_policy() == expected);
  }
}

}  // namespace
}  // namespace throttl
