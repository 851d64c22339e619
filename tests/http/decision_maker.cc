#include "tests/http/decision_maker.h"

#include <algorithm>
#include <limits>
#include <string_view>

namespace throttl::testing {
namespace {

constexpr std::int64_t kMicrosMax = std::int64_t{31} * 86'400 * 1'000'000;  // of a window
constexpr std::int64_t kStart2020 = 1'577'836'800'000;
constexpr std::int64_t kTenYears = std::int64_t{3'652} * 86'400'000;

}  // namespace

std::int64_t DecisionMaker::Below(std::int64_t bound) {
  return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(bound));
}

std::string DecisionMaker::Bytes(std::int64_t size_max) {
  std::string bytes(static_cast<std::size_t>(Below(size_max + 1)), '\0');
  // Each half of all bytes, ends of lines and what quotes are made of are common.
  for (char& byte : bytes) {
    byte = OneIn(4) ? "\r\n\"\\"[Below(4)] : static_cast<char>(Below(256));
  }
  return bytes;
}

RateState DecisionMaker::PlausibleRate(absl::Time now) {
  RateState rate;
  std::string name = "s";
  for (std::int64_t more = Below(30); more > 0; --more) {
    name.push_back(OneIn(3) ? static_cast<char>(' ' + Below(95)) : "az09_.-"[Below(7)]);
  }
  rate.name = std::string_view(name);
  std::int64_t step_us = OneIn(3) ? 1'000 * (1 + Below(100'000)) : 1 + Below(2'000'000);
  rate.limit = 1 + Below(OneIn(4) ? 100'000 : 100);
  rate.limit = std::min(rate.limit, kMicrosMax / step_us);
  if (OneIn(2)) {  // whole seconds, in which the limit fits
    step_us = (1 + Below(60)) * 1'000'000 / 10;
    rate.limit = 10 * (1 + Below(100));
  }
  rate.window = absl::Microseconds(step_us * rate.limit);
  const std::int64_t missing = Below(rate.limit + 1);
  rate.remaining = rate.limit - missing;
  // The last unit may be on its way for some time.
  const std::int64_t gone_us = missing == 0 || OneIn(3) ? 0 : Below(step_us);
  rate.resets_at = now + absl::Microseconds(missing * step_us - gone_us);
  return rate;
}

QuotaState DecisionMaker::PlausibleQuota(absl::Time now) {
  QuotaState quota{.limit = OneIn(20) ? kLimitMax - Below(3) : Below(100'000)};
  quota.used = OneIn(4) ? Below(200'000) : Below(*quota.limit + 1);
  quota.period = static_cast<Period>(1 + Below(6));
  if (quota.period == Period::kLifetime) return quota;
  const absl::Time second = absl::FromUnixSeconds(absl::ToUnixSeconds(now));
  quota.resets_at = second + absl::Seconds(1 + Below(366 * 86'400));
  if (!OneIn(4)) quota.starts_at = second - absl::Seconds(Below(366 * 86'400));
  return quota;
}

Decision DecisionMaker::Plausible() {
  Decision decision;
  decision.code = OneIn(3) ? DecisionCode::kValid
                           : static_cast<DecisionCode>(OneIn(4) ? Below(12) : 9 + Below(2));
  decision.decided_at = absl::FromUnixMillis(kStart2020 + Below(kTenYears));
  if (!OneIn(4)) decision.rate = PlausibleRate(decision.decided_at);
  if (!OneIn(4)) decision.quota = PlausibleQuota(decision.decided_at);
  decision.unmetered = decision.allowed() && OneIn(20);
  const bool over_quota = decision.code == DecisionCode::kQuotaExceeded;
  if (over_quota && decision.quota.resets_at.has_value() && !OneIn(8)) {
    decision.retry_after = *decision.quota.resets_at - decision.decided_at;
  }
  if (decision.code == DecisionCode::kRateLimited && !OneIn(8)) {
    decision.retry_after = absl::Milliseconds(Below(100'000));
  }
  return decision;
}

std::int64_t DecisionMaker::AnyNumber() {
  constexpr std::int64_t kNumbers[] = {0,
                                       1,
                                       -1,
                                       kLimitMax,
                                       999'999'999'999'999,
                                       1'000'000'000'000'000,
                                       std::numeric_limits<std::int64_t>::max(),
                                       std::numeric_limits<std::int64_t>::min()};
  if (OneIn(2)) return kNumbers[Below(std::size(kNumbers))];
  return static_cast<std::int64_t>(random_());
}

absl::Duration DecisionMaker::AnyDuration() {
  if (OneIn(8)) return absl::InfiniteDuration();
  if (OneIn(8)) return -absl::InfiniteDuration();
  if (OneIn(4)) return absl::Seconds(AnyNumber());
  return absl::Nanoseconds(AnyNumber());
}

absl::Time DecisionMaker::AnyTime() { return absl::UnixEpoch() + AnyDuration(); }

Decision DecisionMaker::Anything() {
  Decision decision;
  decision.code = static_cast<DecisionCode>(OneIn(8) ? Below(256) : Below(12));
  decision.secret_retiring = OneIn(2);
  decision.unmetered = OneIn(8);
  decision.alert_percent = static_cast<std::int32_t>(AnyNumber());
  decision.spent = AnyNumber();
  decision.key_id = std::string_view(Bytes(kKeyIdBytesMax));
  decision.owner_id = std::string_view(Bytes(kOwnerIdBytesMax));
  decision.plan_id = std::string_view(Bytes(kPlanIdBytesMax));
  if (!OneIn(4)) decision.quota.limit = AnyNumber();
  decision.quota.used = AnyNumber();
  decision.quota.starts_at = AnyTime();
  if (!OneIn(4)) decision.quota.resets_at = AnyTime();
  decision.quota.period = static_cast<Period>(Below(8));
  decision.rate.name = std::string_view(Bytes(kRateLimitNameBytesMax));
  decision.rate.limit = AnyNumber();
  decision.rate.remaining = AnyNumber();
  decision.rate.window = AnyDuration();
  decision.rate.resets_at = AnyTime();
  decision.decided_at = AnyTime();
  if (OneIn(2)) decision.retry_after = AnyDuration();
  if (OneIn(2)) decision.secret_expires_at = AnyTime();
  return decision;
}

HttpOptions DecisionMaker::AnyOptions() {
  constexpr RateLimitFields kFields[] = {RateLimitFields::kNone, RateLimitFields::kDraft6,
                                         RateLimitFields::kDraft7, RateLimitFields::kDraft8,
                                         RateLimitFields::kDraft10};
  realm_ = Bytes(40);
  scope_ = Bytes(40);
  return {.fields = kFields[Below(std::size(kFields))],
          .legacy_fields = OneIn(2),
          .realm = realm_,
          .scope = scope_};
}

}  // namespace throttl::testing
