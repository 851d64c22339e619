#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>

#include "throttl/http.h"

#include "src/base/absl_string.h"
#include "tests/http/decision_maker.h"

namespace throttl {
namespace {

using testing::DecisionMaker;

constexpr int kDecisionsPerCase = 100;

// Runs `check` on random decisions and options, 5,000 of each kind. rapidcheck prints its seed.
template <typename Check>
void ForEachDecision(const Check& check) {
  CHECK(rc::check([&] {
    DecisionMaker maker(*rc::gen::noShrink(rc::gen::arbitrary<std::uint64_t>()));
    for (int i = 0; i < kDecisionsPerCase; ++i) {
      const Decision decision = i % 2 == 0 ? maker.Anything() : maker.Plausible();
      check(decision, maker.AnyOptions());
    }
  }));
}

bool IsPrintableAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

std::optional<std::int64_t> SecondsOf(const std::vector<HttpHeader>& headers,
                                      std::string_view name) {
  for (const HttpHeader& header : headers) {
    std::int64_t seconds = 0;
    if (header.name == name && absl::SimpleAtoi(header.value, &seconds)) return seconds;
  }
  return std::nullopt;
}

TEST_CASE("no control character and nothing beyond ASCII can stand in a value; names stand once") {
  ForEachDecision([](const Decision& decision, const HttpOptions& options) {
    std::set<std::string> names;
    for (const HttpHeader& header : HttpHeaders(decision, options)) {
      RC_ASSERT(IsPrintableAscii(header.value));
      RC_ASSERT(!header.value.empty());
      RC_ASSERT(names.insert(std::string(header.name)).second);
    }
  });
}

TEST_CASE("a body is JSON of printable ASCII, and status and policy are those of the headers") {
  ForEachDecision([](const Decision& decision, const HttpOptions& options) {
    const std::string body = ProblemJson(decision);
    RC_ASSERT(body.empty() == decision.allowed());
    if (body.empty()) return;
    RC_ASSERT(IsPrintableAscii(body));
    const nlohmann::json problem = nlohmann::json::parse(body);
    RC_ASSERT(problem["status"] == decision.http_status());
    if (!problem.contains("violated-policies")) return;
    const std::string violated = problem["violated-policies"].at(0);
    RC_ASSERT(decision.http_status() == 429);
    const bool lists =
        options.fields == RateLimitFields::kDraft8 || options.fields == RateLimitFields::kDraft10;
    const bool told = decision.code == DecisionCode::kRateLimited ||
                      (decision.quota.limit.has_value() && !decision.unmetered);
    if (!lists || !told) return;
    std::string item = "\"";
    for (const char c : violated) {
      if (c == '"' || c == '\\') item.push_back('\\');
      item.push_back(c);
    }
    for (const HttpHeader& header : HttpHeaders(decision, options)) {
      if (header.name == "RateLimit") RC_ASSERT(header.value.find(item + "\";r=") != item.npos);
    }
  });
}

TEST_CASE("Retry-After is at least 1, and never earlier than the reset of the limit that refused") {
  ForEachDecision([](const Decision& decision, HttpOptions options) {
    options.fields = RateLimitFields::kDraft6;
    const std::vector<HttpHeader> headers = HttpHeaders(decision, options);
    const std::optional<std::int64_t> retry = SecondsOf(headers, "Retry-After");
    const std::optional<std::int64_t> reset = SecondsOf(headers, "RateLimit-Reset");
    if (retry.has_value()) RC_ASSERT(*retry >= 1);
    if (reset.has_value()) RC_ASSERT(*reset >= 0);
    if (retry.has_value() && reset.has_value()) RC_ASSERT(*reset <= *retry);
    // Draft 10 tells of the next unit: never later than all of them.
    options.fields = RateLimitFields::kDraft10;
    Decision only_rate = decision;
    only_rate.quota.limit = std::nullopt;
    for (const HttpHeader& header : HttpHeaders(only_rate, options)) {
      const std::size_t t = header.value.rfind(";t=");
      if (header.name != "RateLimit" || t == std::string::npos || !retry.has_value()) continue;
      std::int64_t seconds = -1;
      RC_ASSERT(absl::SimpleAtoi(header.value.substr(t + 3), &seconds));
      if (decision.code == DecisionCode::kRateLimited) RC_ASSERT(seconds <= *retry);
      RC_ASSERT(seconds >= 0);
    }
  });
}

TEST_CASE("an outsider cannot tell kMalformed from kNotFound, and learns no id") {
  ForEachDecision([](const Decision& decision, const HttpOptions& options) {
    const auto bytes = [&](DecisionCode code, const Decision& like) {
      Decision refused = like;
      refused.code = code;
      std::string text = absl::StrCat(refused.http_status(), "\n");
      for (const HttpHeader& header : HttpHeaders(refused, options)) {
        absl::StrAppend(&text, internal::AbslView(header.name), ": ", header.value, "\n");
      }
      return text + ProblemJson(refused);
    };
    RC_ASSERT(bytes(DecisionCode::kMalformed, decision) == bytes(DecisionCode::kNotFound, {}));
    Decision anonymous = decision;
    anonymous.key_id = "";
    anonymous.owner_id = "";
    anonymous.plan_id = "";
    RC_ASSERT(bytes(decision.code, decision) == bytes(decision.code, anonymous));
  });
}

TEST_CASE("any bytes in the headers of a request give a view into them, or a constant text") {
  CHECK(rc::check([] {
    DecisionMaker maker(*rc::gen::noShrink(rc::gen::arbitrary<std::uint64_t>()));
    for (int i = 0; i < kDecisionsPerCase; ++i) {
      const std::string authorization =
          maker.OneIn(2) ? absl::StrCat("Bearer ", maker.Bytes(20)) : maker.Bytes(20);
      const std::string x_api_key = maker.OneIn(2) ? maker.Bytes(20) : std::string();
      const std::string query = absl::StrCat("k=", maker.Bytes(20));
      const std::string_view secret = SecretFromHeaders({.authorization = authorization,
                                                         .x_api_key = x_api_key,
                                                         .query = query,
                                                         .query_parameter = "k"});
      const bool within = authorization.find(secret) != std::string::npos ||
                          x_api_key.find(secret) != std::string::npos ||
                          query.find(secret) != std::string::npos;
      RC_ASSERT((within || secret.find(' ') != std::string_view::npos));
    }
  }));
}

}  // namespace
}  // namespace throttl
