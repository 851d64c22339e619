#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "throttl/decision.h"

namespace throttl {

std::string_view CodeName(DecisionCode code) {
  switch (code) {
    case DecisionCode::kStoreUnavailable:
      break;
    case DecisionCode::kValid:
      return "valid";
    case DecisionCode::kMissing:
      return "missing";
    case DecisionCode::kMalformed:
      return "malformed";
    case DecisionCode::kNotFound:
      return "not_found";
    case DecisionCode::kInactive:
      return "inactive";
    case DecisionCode::kExpired:
      return "expired";
    case DecisionCode::kForbidden:
      return "forbidden";
    case DecisionCode::kScopeMissing:
      return "scope_missing";
    case DecisionCode::kRateLimited:
      return "rate_limited";
    case DecisionCode::kQuotaExceeded:
      return "quota_exceeded";
    case DecisionCode::kInvalidRequest:
      return "invalid_request";
  }
  // A code that is not known refuses like one that nobody filled in.
  return "store_unavailable";
}

std::string_view PublicCodeName(DecisionCode code) {
  // An outsider must not learn whether a well-formed secret exists.
  if (code == DecisionCode::kMalformed || code == DecisionCode::kNotFound) return "invalid_key";
  return CodeName(code);
}

int HttpStatus(DecisionCode code) {
  switch (code) {
    case DecisionCode::kValid:
      return 200;
    case DecisionCode::kInvalidRequest:
      return 400;
    case DecisionCode::kMissing:
    case DecisionCode::kMalformed:
    case DecisionCode::kNotFound:
    case DecisionCode::kInactive:
    case DecisionCode::kExpired:
      return 401;
    case DecisionCode::kForbidden:
    case DecisionCode::kScopeMissing:
      return 403;
    case DecisionCode::kRateLimited:
    case DecisionCode::kQuotaExceeded:
      return 429;
    case DecisionCode::kStoreUnavailable:
      break;
  }
  return 503;
}

std::optional<std::int64_t> QuotaState::remaining() const {
  if (!limit.has_value()) return std::nullopt;
  const std::int64_t spent = std::max<std::int64_t>(used, 0);
  return spent >= *limit ? 0 : *limit - spent;
}

std::string_view Decision::violated_policy() const& {
  if (code == DecisionCode::kRateLimited) return rate.name.view();
  if (code == DecisionCode::kQuotaExceeded) return PeriodName(quota.period);
  return {};
}

}  // namespace throttl
