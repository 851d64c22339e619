#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "throttl/http.h"

#include "src/http/limit_policy.h"

namespace throttl {
namespace {

using nlohmann::ordered_json;

struct ProblemType {
  std::string_view uri;
  std::string_view title;
};

// Sections 5.1 and 5.2 of draft-ietf-httpapi-ratelimit-headers-10; RFC 9457, section 4.2.1.
ProblemType TypeOf(int status) {
  switch (status) {
    case 400:
      return {"about:blank", "Bad Request"};
    case 401:
      return {"about:blank", "Unauthorized"};
    case 403:
      return {"about:blank", "Forbidden"};
    case 429:
      return {"https://iana.org/assignments/http-problem-types#quota-exceeded",
              "Request cannot be satisfied as assigned quota has been exceeded"};
    default:
      return {"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
              "Request cannot be satisfied due to temporary server capacity constraints"};
  }
}

std::string RetryText(const Decision& decision) {
  const std::optional<std::int64_t> retry = internal::RetryAfterSeconds(decision);
  return retry.has_value() ? absl::StrCat("retry after ", *retry, " s") : "waiting does not help";
}

std::string RateText(const Decision& decision) {
  const RateState& rate = decision.rate;
  return absl::StrCat("Rate limit \"", internal::ViolatedPolicyName(decision), "\" allows ",
                      rate.limit, " units in ", absl::FormatDuration(rate.window),
                      ", and this request takes more than the ", rate.remaining, " that are left; ",
                      RetryText(decision));
}

std::string QuotaText(const Decision& decision) {
  const QuotaState& quota = decision.quota;
  std::string text = absl::StrCat("Quota \"", internal::ViolatedPolicyName(decision), "\"");
  if (quota.limit.has_value()) {
    absl::StrAppend(&text, " allows ", *quota.limit, " units, ", quota.used,
                    " are used, and this request takes more than the ",
                    quota.remaining().value_or(0), " that are left; ");
  } else {
    absl::StrAppend(&text, " is used up; ");
  }
  const absl::Time resets_at = quota.resets_at.value_or(absl::InfiniteFuture());
  if (resets_at == absl::InfiniteFuture()) return text + "it never resets";
  if (!internal::RetryAfterSeconds(decision).has_value()) return text + "waiting does not help";
  return absl::StrCat(text, "it resets at ",
                      absl::FormatTime("%E4Y-%m-%dT%H:%M:%SZ", resets_at, absl::UTCTimeZone()));
}

std::string DetailOf(const Decision& decision) {
  switch (decision.code) {
    case DecisionCode::kMissing:
      return "No API key was given: send it as \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\"";
    case DecisionCode::kMalformed:
    case DecisionCode::kNotFound:
      return "The API key is not valid";
    case DecisionCode::kInactive:
      return "The API key is revoked or disabled";
    case DecisionCode::kExpired:
      return "The API key has expired";
    case DecisionCode::kForbidden:
      return "The API key may not be used from this address";
    case DecisionCode::kScopeMissing:
      return "The API key lacks a scope that this request needs";
    case DecisionCode::kRateLimited:
      return RateText(decision);
    case DecisionCode::kQuotaExceeded:
      return QuotaText(decision);
    case DecisionCode::kInvalidRequest:
      return absl::StrCat("The cost of this request is outside of 0 to ", kCostMax, " units");
    case DecisionCode::kValid:
    case DecisionCode::kStoreUnavailable:
      break;
  }
  return absl::StrCat("API keys cannot be checked at the moment; ", RetryText(decision));
}

}  // namespace

std::string ProblemJson(const Decision& decision) {
  if (decision.allowed()) return {};
  const int status = decision.http_status();
  const ProblemType type = TypeOf(status);
  ordered_json problem = {{"type", type.uri},
                          {"title", type.title},
                          {"status", status},
                          {"detail", DetailOf(decision)},
                          {"code", PublicCodeName(decision.code)}};
  const std::string violated = internal::ViolatedPolicyName(decision);
  if (!violated.empty()) problem["violated-policies"] = ordered_json::array({violated});
  // All texts are ASCII; the handler is what keeps dump from throwing if one ever is not UTF-8.
  return problem.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace throttl
