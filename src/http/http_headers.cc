#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"

#include "throttl/http.h"

#include "src/http/limit_policy.h"

namespace throttl {
namespace {

using internal::LimitPolicy;
using internal::WholeSeconds;

// `text` as a String of RFC 9651 and as a quoted-string of RFC 9110: both escape '"' and '\' so.
std::string QuotedText(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : internal::PrintableAscii(text)) {
    if (c == '"' || c == '\\') quoted.push_back('\\');
    quoted.push_back(c);
  }
  quoted.push_back('"');
  return quoted;
}

// RFC 9651, section 3.3.1.
std::int64_t FieldInteger(std::int64_t value) { return std::min(value, internal::kSecondsMax); }

// The scope-tokens of RFC 6749, section 3.3, with one space between them.
std::string ScopeText(std::string_view scope) {
  std::string text;
  for (char c : internal::PrintableAscii(scope)) {
    if (c == '"' || c == '\\') c = '?';
    if (c == ' ' && (text.empty() || text.back() == ' ')) continue;
    text.push_back(c);
  }
  if (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

void AppendLists(std::span<const LimitPolicy> policies, RateLimitFields fields,
                 std::vector<HttpHeader>& headers) {
  std::string limits;
  std::string states;
  for (const LimitPolicy& policy : policies) {
    const char* const separator = limits.empty() ? "" : ", ";
    const std::string name = QuotedText(policy.name);
    absl::StrAppend(&limits, separator, name, ";q=", FieldInteger(policy.limit));
    if (policy.window_s.has_value()) absl::StrAppend(&limits, ";w=", *policy.window_s);
    absl::StrAppend(&states, separator, name, ";r=", FieldInteger(policy.remaining));
    const std::optional<absl::Duration>& until =
        fields == RateLimitFields::kDraft8 ? policy.until_reset : policy.until_more;
    if (until.has_value()) absl::StrAppend(&states, ";t=", WholeSeconds(*until));
  }
  if (policies.empty()) return;
  headers.push_back({"RateLimit-Policy", std::move(limits)});
  headers.push_back({"RateLimit", std::move(states)});
}

bool HasSmallerPart(const LimitPolicy& a, const LimitPolicy& b) {
  const auto part = [](const LimitPolicy& of, const LimitPolicy& other) {
    return absl::uint128(of.remaining) * absl::uint128(std::max<std::int64_t>(other.limit, 1));
  };
  return part(a, b) < part(b, a);
}

enum class Reset : std::uint8_t { kOptional = 1, kRequired = 2 };

// What the fields that tell of one limit tell of; nullptr: nothing.
const LimitPolicy* TheOne(std::span<const LimitPolicy> policies, bool allowed, Reset reset) {
  const LimitPolicy* one = nullptr;
  for (const LimitPolicy& policy : policies) {
    if (reset == Reset::kRequired && !policy.until_reset.has_value()) continue;
    if (!allowed && !policy.refused) continue;
    if (one == nullptr || HasSmallerPart(policy, *one)) one = &policy;
  }
  return one;
}

void AppendDraft6Or7(const LimitPolicy& policy, RateLimitFields fields,
                     std::vector<HttpHeader>& headers) {
  const std::string limit = absl::StrCat(FieldInteger(policy.limit));
  const std::string remaining = absl::StrCat(FieldInteger(policy.remaining));
  const std::string reset = absl::StrCat(WholeSeconds(*policy.until_reset));
  if (policy.window_s.has_value()) {
    headers.push_back({"RateLimit-Policy", absl::StrCat(limit, ";w=", *policy.window_s)});
  }
  if (fields == RateLimitFields::kDraft7) {
    headers.push_back(
        {"RateLimit", absl::StrCat("limit=", limit, ", remaining=", remaining, ", reset=", reset)});
    return;
  }
  headers.push_back({"RateLimit-Limit", limit});
  headers.push_back({"RateLimit-Remaining", remaining});
  headers.push_back({"RateLimit-Reset", reset});
}

void AppendLegacy(const LimitPolicy& policy, absl::Time decided_at,
                  std::vector<HttpHeader>& headers) {
  headers.push_back({"X-RateLimit-Limit", absl::StrCat(policy.limit)});
  headers.push_back({"X-RateLimit-Remaining", absl::StrCat(policy.remaining)});
  if (policy.until_reset.has_value()) {
    const absl::Duration since_1970 = decided_at + *policy.until_reset - absl::UnixEpoch();
    headers.push_back({"X-RateLimit-Reset", absl::StrCat(WholeSeconds(since_1970))});
  }
}

void AppendLimits(const Decision& decision, const HttpOptions& options,
                  std::vector<HttpHeader>& headers) {
  const std::vector<LimitPolicy> policies = internal::PoliciesOf(decision);
  switch (options.fields) {
    case RateLimitFields::kNone:
      break;
    case RateLimitFields::kDraft6:
    case RateLimitFields::kDraft7:
      if (const auto* const policy = TheOne(policies, decision.allowed(), Reset::kRequired)) {
        AppendDraft6Or7(*policy, options.fields, headers);
      }
      break;
    case RateLimitFields::kDraft8:
    case RateLimitFields::kDraft10:
      AppendLists(policies, options.fields, headers);
      break;
  }
  if (!options.legacy_fields) return;
  if (const auto* const policy = TheOne(policies, decision.allowed(), Reset::kOptional)) {
    AppendLegacy(*policy, decision.decided_at, headers);
  }
}

// RFC 6750, section 3; std::nullopt: the response asks for no credential.
std::optional<std::string> Challenge(const Decision& decision, const HttpOptions& options) {
  std::string challenge = absl::StrCat("Bearer realm=", QuotedText(options.realm));
  if (decision.code == DecisionCode::kScopeMissing) {
    absl::StrAppend(&challenge, ", error=\"insufficient_scope\"");
    const std::string scope = ScopeText(options.scope);
    if (!scope.empty()) absl::StrAppend(&challenge, ", scope=\"", scope, "\"");
    return challenge;
  }
  if (decision.http_status() != 401) return std::nullopt;
  if (decision.code != DecisionCode::kMissing) {
    absl::StrAppend(&challenge, ", error=\"invalid_token\"");
  }
  return challenge;
}

}  // namespace

std::vector<HttpHeader> HttpHeaders(const Decision& decision, const HttpOptions& options) {
  std::vector<HttpHeader> headers;
  AppendLimits(decision, options, headers);
  if (decision.allowed()) return headers;
  if (const std::optional<std::int64_t> retry = internal::RetryAfterSeconds(decision)) {
    headers.push_back({"Retry-After", absl::StrCat(*retry)});
  }
  if (std::optional<std::string> challenge = Challenge(decision, options)) {
    headers.push_back({"WWW-Authenticate", *std::move(challenge)});
  }
  headers.push_back({"Cache-Control", "no-store"});
  return headers;
}

}  // namespace throttl
