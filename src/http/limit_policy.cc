#include "src/http/limit_policy.h"

#include <algorithm>

#include "throttl/http.h"

namespace throttl::internal {
namespace {

// What the arithmetic of a rate limit may be off by in all: windows are whole milliseconds.
constexpr absl::Duration kRateTolerance = absl::Milliseconds(1);

bool IsFinite(absl::Duration time) {
  return time < absl::InfiniteDuration() && time > -absl::InfiniteDuration();
}

std::optional<absl::Duration> Until(absl::Time moment, const Decision& decision) {
  const absl::Duration left = moment - decision.decided_at;
  if (!IsFinite(left)) return std::nullopt;
  return std::max(left, absl::ZeroDuration());
}

std::optional<std::int64_t> WindowSeconds(absl::Duration window) {
  if (window <= absl::ZeroDuration() || !IsFinite(window) ||
      window != absl::Floor(window, absl::Seconds(1))) {
    return std::nullopt;
  }
  return WholeSeconds(window);
}

// Units come back one at a time, each `window / limit` after the one before, the last of them when
// all is there again.
absl::Duration UntilNextUnit(const RateState& rate, absl::Duration until_all) {
  if (until_all <= absl::ZeroDuration()) return absl::ZeroDuration();
  const absl::Duration step =
      std::max(rate.window / std::max<std::int64_t>(rate.limit, 1), absl::Nanoseconds(1));
  // Where a unit is due at once but for an error of rounding, the one after it is what is next.
  absl::Duration rest;
  absl::IDivDuration(std::max(until_all - kRateTolerance, absl::ZeroDuration()), step, &rest);
  return std::min({until_all, step, rest + kRateTolerance});
}

// Retry-After names the moment when the same request can succeed, which may take more than the next
// unit and less than all of them.
void SayNoLaterThan(std::optional<absl::Duration> retry_after, LimitPolicy& policy) {
  if (!policy.refused || !retry_after.has_value() || !IsFinite(*retry_after)) return;
  const absl::Duration retry = std::max(*retry_after, absl::ZeroDuration());
  policy.until_more = std::min(policy.until_more.value_or(retry), retry);
  policy.until_reset = retry;
}

std::optional<LimitPolicy> RatePolicy(const Decision& decision) {
  const RateState& rate = decision.rate;
  if (rate.name.empty()) return std::nullopt;
  LimitPolicy policy{.name = PrintableAscii(rate.name),
                     .limit = std::max<std::int64_t>(rate.limit, 0),
                     .remaining = std::max<std::int64_t>(rate.remaining, 0),
                     .window_s = WindowSeconds(rate.window),
                     .until_reset = Until(rate.resets_at, decision),
                     .refused = decision.code == DecisionCode::kRateLimited};
  if (policy.until_reset.has_value()) {
    policy.until_more = UntilNextUnit(rate, *policy.until_reset);
  }
  SayNoLaterThan(decision.retry_after, policy);
  return policy;
}

std::optional<LimitPolicy> QuotaPolicy(const Decision& decision) {
  const QuotaState& quota = decision.quota;
  const std::string_view name = PeriodName(quota.period);
  if (!quota.limit.has_value() || decision.unmetered || name.empty()) return std::nullopt;
  LimitPolicy policy{.name = std::string(name),
                     .limit = std::max<std::int64_t>(*quota.limit, 0),
                     .remaining = std::max<std::int64_t>(quota.remaining().value_or(0), 0),
                     .refused = decision.code == DecisionCode::kQuotaExceeded};
  if (quota.resets_at.has_value()) {
    policy.until_reset = Until(*quota.resets_at, decision);
    policy.until_more = policy.until_reset;
    policy.window_s = WindowSeconds(*quota.resets_at - quota.starts_at);
  }
  SayNoLaterThan(decision.retry_after, policy);
  return policy;
}

}  // namespace

std::vector<LimitPolicy> PoliciesOf(const Decision& decision) {
  std::vector<LimitPolicy> policies;
  if (decision.code != DecisionCode::kValid && decision.code != DecisionCode::kRateLimited &&
      decision.code != DecisionCode::kQuotaExceeded) {
    return policies;
  }
  if (std::optional<LimitPolicy> rate = RatePolicy(decision)) policies.push_back(*rate);
  if (std::optional<LimitPolicy> quota = QuotaPolicy(decision)) policies.push_back(*quota);
  return policies;
}

std::string ViolatedPolicyName(const Decision& decision) {
  return PrintableAscii(decision.violated_policy());
}

std::int64_t WholeSeconds(absl::Duration time) {
  // Before rounding: what an absl::Duration can hold rounds to what it cannot.
  if (time >= absl::Seconds(kSecondsMax)) return kSecondsMax;
  if (time <= absl::ZeroDuration()) return 0;
  return absl::ToInt64Seconds(absl::Ceil(time, absl::Seconds(1)));
}

std::optional<std::int64_t> RetryAfterSeconds(const Decision& decision) {
  const int status = decision.http_status();
  if (status != 429 && status != 503) return std::nullopt;
  std::optional<absl::Duration> retry = decision.retry_after;
  if (retry.has_value() && !IsFinite(*retry)) retry = std::nullopt;
  if (!retry.has_value() && status == 503) retry = kRetryWhenUnavailable;
  if (!retry.has_value()) return std::nullopt;
  return std::max<std::int64_t>(WholeSeconds(*retry), 1);
}

std::string PrintableAscii(std::string_view text) {
  std::string printable(text);
  std::replace_if(
      printable.begin(), printable.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return printable;
}

}  // namespace throttl::internal
