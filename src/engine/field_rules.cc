#include "src/engine/field_rules.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"

#include "throttl/quota_store.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/base/text_check.h"
#include "src/calendar/quota_calendar.h"
#include "src/key/secret_format.h"
#include "src/policy/cidr.h"
#include "src/policy/endpoint_pattern.h"
#include "src/policy/gcra.h"
#include "src/policy/scope.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kMetadataBytesMax = 4096;
constexpr std::size_t kActorBytesMax = 127;
constexpr std::size_t kLocatorBytesMax = 39;
constexpr std::size_t kCursorBytesMax = 1024;
constexpr std::size_t kScopesMax = 64;
constexpr std::size_t kAddressesMax = 64;
constexpr std::int32_t kAlertPercentMax = 1000;
constexpr std::int32_t kSoftPercentMax = 1000;
constexpr std::int32_t kPageSizeMax = 1000;
constexpr std::int64_t kTableSizeMax = std::int64_t{1} << 30;
constexpr absl::Duration kOverlapMax = absl::Hours(24 * 400);
constexpr absl::Duration kWindowMin = absl::Milliseconds(1);
constexpr absl::Duration kWindowMax = absl::Hours(24 * 31);
constexpr absl::Duration kBurstReturnMax = absl::Nanoseconds(kGcraToleranceMaxNs);
constexpr absl::Duration kSettleIntervalMin = absl::Milliseconds(10);
constexpr absl::Duration kSettleIntervalMax = absl::Seconds(60);
constexpr absl::Duration kHistoryKeptMin = absl::Hours(24);
constexpr absl::Duration kEventsKeptMin = absl::Hours(1);

// Puts the path of a struct before the field that `status` names.
absl::Status Inside(absl::string_view path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(path, status.message()));
}

absl::Status FieldError(absl::string_view field, absl::string_view value, absl::string_view bound) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", ", bound));
}

struct IntegerRange {
  std::int64_t min = 0;
  std::int64_t max = 0;
};

absl::Status CheckInteger(absl::string_view field, std::int64_t value, IntegerRange range) {
  if (value >= range.min && value <= range.max) return absl::OkStatus();
  return FieldError(field, absl::StrCat(value),
                    absl::StrCat(range.min, " to ", range.max, " are allowed"));
}

struct DurationRange {
  absl::Duration min;
  absl::Duration max;
};

absl::Status CheckDuration(absl::string_view field, absl::Duration value, DurationRange range) {
  if (value >= range.min && value <= range.max) return absl::OkStatus();
  return FieldError(field, absl::FormatDuration(value),
                    absl::StrCat(absl::FormatDuration(range.min), " to ",
                                 absl::FormatDuration(range.max), " are allowed"));
}

absl::Status CheckCount(absl::string_view field, std::size_t count, std::size_t count_max) {
  if (count <= count_max) return absl::OkStatus();
  return FieldError(field, absl::StrCat("a list of ", count),
                    absl::StrCat("at most ", count_max, " are allowed"));
}

enum class ControlCharacters : std::uint8_t { kRefused = 1, kAllButNul = 2 };

struct TextRule {
  std::size_t bytes_min = 0;
  std::size_t bytes_max = 0;
  ControlCharacters control_characters = ControlCharacters::kRefused;
};

absl::Status CheckText(absl::string_view field, std::string_view text, const TextRule& rule) {
  if (text.size() < rule.bytes_min) {
    return FieldError(field, "empty",
                      absl::StrCat(rule.bytes_min, " to ", rule.bytes_max, " bytes are required"));
  }
  if (text.size() > rule.bytes_max) {
    return FieldError(field, absl::StrCat(text.size(), " bytes long"),
                      absl::StrCat("at most ", rule.bytes_max, " bytes are allowed"));
  }
  if (!IsUtf8(text)) return FieldError(field, Quoted(text), "UTF-8 is required");
  if (text.find('\0') != std::string_view::npos) {
    return FieldError(field, Quoted(text), "NUL is not allowed");
  }
  if (rule.control_characters == ControlCharacters::kRefused && HasControlCharacter(text)) {
    return FieldError(field, Quoted(text), "control characters are not allowed");
  }
  return absl::OkStatus();
}

bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

// The form of plan ids and rate limit names, which appear in headers, URLs and metrics.
absl::Status CheckName(absl::string_view field, std::string_view name, std::size_t bytes_max) {
  THROTTL_RETURN_IF_ERROR(CheckText(field, name, {.bytes_min = 1, .bytes_max = bytes_max}));
  if (std::all_of(name.begin(), name.end(), IsNameByte)) return absl::OkStatus();
  return FieldError(field, Quoted(name), "only a-z, 0-9, '_', '.' and '-' are allowed");
}

absl::Status CheckOwner(std::string_view owner_id) {
  return CheckText("owner_id", owner_id, {.bytes_min = 1, .bytes_max = kOwnerIdBytesMax});
}

absl::Status CheckDisplayName(std::string_view name) {
  return CheckText(
      "name", name,
      {.bytes_max = kNameBytesMax, .control_characters = ControlCharacters::kAllButNul});
}

absl::Status CheckId(absl::string_view field, std::string_view id) {
  return CheckText(field, id, {.bytes_min = 1, .bytes_max = kKeyIdBytesMax});
}

absl::Status CheckSecretPrefix(std::string_view prefix) {
  THROTTL_RETURN_IF_ERROR(
      CheckText("secret_prefix", prefix, {.bytes_min = 1, .bytes_max = kPrefixSizeMax}));
  if (IsSecretPrefix(prefix)) return absl::OkStatus();
  return FieldError("secret_prefix", Quoted(prefix),
                    absl::StrCat(kPrefixSizeMin, " to ", kPrefixSizeMax,
                                 " characters of a-z, 0-9 and '_' are required"));
}

absl::Status CheckExpiry(absl::Time expires_at) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  if (expires_at >= absl::UnixEpoch() &&
      expires_at < absl::FromCivil(absl::CivilSecond(10'000, 1, 1), utc)) {
    return absl::OkStatus();
  }
  return FieldError("expires_at", absl::FormatTime(absl::RFC3339_full, expires_at, utc),
                    "the years 1970 to 9999 are allowed");
}

absl::Status CheckWindow(absl::Duration window) {
  THROTTL_RETURN_IF_ERROR(CheckDuration("window", window, {.min = kWindowMin, .max = kWindowMax}));
  if (window == absl::Floor(window, absl::Milliseconds(1))) return absl::OkStatus();
  return FieldError("window", absl::FormatDuration(window), "whole milliseconds are required");
}

// REQUIRES: the window is checked.
absl::Status CheckUnitsOfWindow(const RateLimit& limit) {
  const std::int64_t max = absl::ToInt64Milliseconds(limit.window) * (kRatePerSecondMax / 1000);
  if (limit.limit < 1 || limit.limit > max) {
    return FieldError(
        "limit", absl::StrCat(limit.limit),
        absl::StrCat("1 to ", max, " are allowed in ", absl::FormatDuration(limit.window), ", ",
                     kRatePerSecondMax, " a second"));
  }
  if (limit.algorithm == RateAlgorithm::kSlidingWindow && limit.limit > kSlidingWindowLimitMax) {
    return FieldError(
        "limit", absl::StrCat(limit.limit),
        absl::StrCat("at most ", kSlidingWindowLimitMax, " is allowed with kSlidingWindow"));
  }
  return absl::OkStatus();
}

// REQUIRES: the limit and the window are checked. The limit itself is always a good burst.
absl::Status CheckBurst(const RateLimit& limit) {
  if (!limit.burst.has_value()) return absl::OkStatus();
  if (limit.algorithm == RateAlgorithm::kSlidingWindow) {
    return FieldError("burst", absl::StrCat(*limit.burst), "kSlidingWindow has none");
  }
  const std::int64_t unit_ns =
      (absl::ToInt64Nanoseconds(limit.window) + limit.limit - 1) / limit.limit;
  const std::int64_t max = std::min(kLimitMax, absl::ToInt64Nanoseconds(kBurstReturnMax) / unit_ns);
  if (*limit.burst >= 1 && *limit.burst <= max) return absl::OkStatus();
  return FieldError("burst", absl::StrCat(*limit.burst),
                    absl::StrCat("1 to ", max, " are allowed with ", limit.limit, " in ",
                                 absl::FormatDuration(limit.window)));
}

absl::Status CheckRateLimit(const RateLimit& limit) {
  THROTTL_RETURN_IF_ERROR(CheckName("name", limit.name, kRateLimitNameBytesMax));
  THROTTL_RETURN_IF_ERROR(
      CheckInteger("algorithm", static_cast<std::int64_t>(limit.algorithm), {.min = 1, .max = 2}));
  THROTTL_RETURN_IF_ERROR(
      CheckInteger("counts", static_cast<std::int64_t>(limit.counts), {.min = 1, .max = 2}));
  THROTTL_RETURN_IF_ERROR(CheckWindow(limit.window));
  THROTTL_RETURN_IF_ERROR(CheckUnitsOfWindow(limit));
  THROTTL_RETURN_IF_ERROR(CheckBurst(limit));
  return CheckEndpointPattern(limit.endpoint);
}

absl::Status CheckRateLimits(const std::vector<RateLimit>& limits) {
  THROTTL_RETURN_IF_ERROR(CheckCount("rate_limits", limits.size(), kRateLimitsMax));
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const std::string path = absl::StrCat("rate_limits[", i, "].");
    THROTTL_RETURN_IF_ERROR(Inside(path, CheckRateLimit(limits[i])));
    for (std::size_t j = 0; j < i; ++j) {
      if (limits[j].name == limits[i].name) {
        return FieldError(absl::StrCat(path, "name"), Quoted(limits[i].name),
                          absl::StrCat("which rate_limits[", j, "] has: names must differ"));
      }
    }
  }
  return absl::OkStatus();
}

// REQUIRES: the limit is checked.
absl::Status CheckSoftPercent(const Quota& quota) {
  THROTTL_RETURN_IF_ERROR(
      CheckInteger("soft_percent", quota.soft_percent, {.min = 0, .max = kSoftPercentMax}));
  const std::int64_t with_soft = quota.limit * (100 + std::int64_t{quota.soft_percent}) / 100;
  if (with_soft <= kLimitMax) return absl::OkStatus();
  return FieldError("soft_percent", absl::StrCat(quota.soft_percent),
                    absl::StrCat("which makes ", with_soft, " of limit ", quota.limit, ", at most ",
                                 kLimitMax, " are allowed"));
}

absl::Status CheckAlertPercents(const std::vector<std::int32_t>& percents) {
  THROTTL_RETURN_IF_ERROR(CheckCount("alert_percents", percents.size(), kAlertPercentsMax));
  for (std::size_t i = 0; i < percents.size(); ++i) {
    const std::string field = absl::StrCat("alert_percents[", i, "]");
    THROTTL_RETURN_IF_ERROR(CheckInteger(field, percents[i], {.min = 1, .max = kAlertPercentMax}));
    if (i > 0 && percents[i] <= percents[i - 1]) {
      return FieldError(field, absl::StrCat(percents[i]),
                        absl::StrCat("more than the ", percents[i - 1], " before it is required"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckScopes(const std::vector<std::string>& scopes) {
  THROTTL_RETURN_IF_ERROR(CheckCount("scopes", scopes.size(), kScopesMax));
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    THROTTL_RETURN_IF_ERROR(Inside(absl::StrCat("scopes[", i, "]: "), CheckScope(scopes[i])));
    for (std::size_t j = 0; j < i; ++j) {
      if (scopes[j] == scopes[i]) {
        return FieldError(absl::StrCat("scopes[", i, "]"), Quoted(scopes[i]),
                          absl::StrCat("which scopes[", j, "] is: scopes must differ"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAddresses(const std::vector<std::string>& addresses) {
  THROTTL_RETURN_IF_ERROR(CheckCount("addresses", addresses.size(), kAddressesMax));
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    THROTTL_RETURN_IF_ERROR(
        Inside(absl::StrCat("addresses[", i, "]: "), Cidr::Parse(addresses[i]).status()));
  }
  return absl::OkStatus();
}

absl::Status CheckSeedPlans(const std::vector<Plan>& plans) {
  THROTTL_RETURN_IF_ERROR(
      CheckCount("seed_plans", plans.size(), static_cast<std::size_t>(kStoreBatchMax)));
  absl::flat_hash_set<absl::string_view> ids;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const std::string path = absl::StrCat("seed_plans[", i, "].");
    THROTTL_RETURN_IF_ERROR(Inside(path, CheckPlan(plans[i])));
    if (!ids.insert(AbslView(plans[i].id)).second) {
      return FieldError(absl::StrCat(path, "id"), Quoted(plans[i].id),
                        "which an earlier plan has: ids must differ");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckKeyId(std::string_view key_id) { return CheckId("key_id", key_id); }

absl::Status CheckPlanId(std::string_view plan_id) {
  return CheckName("plan_id", plan_id, kPlanIdBytesMax);
}

absl::Status CheckQuota(const Quota& quota, QuotaHolder holder) {
  THROTTL_RETURN_IF_ERROR(CheckInteger("limit", quota.limit, {.min = 0, .max = kLimitMax}));
  THROTTL_RETURN_IF_ERROR(CheckSoftPercent(quota));
  THROTTL_RETURN_IF_ERROR(
      QuotaCalendar::Create(quota.period, quota.anchor_day, quota.time_zone).status());
  THROTTL_RETURN_IF_ERROR(
      CheckInteger("scope", static_cast<std::int64_t>(quota.scope), {.min = 1, .max = 2}));
  if (holder == QuotaHolder::kKey && quota.scope != QuotaScope::kKey) {
    return FieldError("scope", "kOwner", "a key's own quota can only have kKey");
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const Plan& plan) {
  THROTTL_RETURN_IF_ERROR(CheckName("id", plan.id, kPlanIdBytesMax));
  THROTTL_RETURN_IF_ERROR(CheckDisplayName(plan.name));
  if (plan.quota.has_value()) {
    THROTTL_RETURN_IF_ERROR(Inside("quota.", CheckQuota(*plan.quota, QuotaHolder::kPlan)));
  }
  THROTTL_RETURN_IF_ERROR(CheckRateLimits(plan.rate_limits));
  return CheckAlertPercents(plan.alert_percents);
}

absl::Status CheckKey(const Key& key) {
  THROTTL_RETURN_IF_ERROR(CheckOwner(key.owner_id));
  THROTTL_RETURN_IF_ERROR(CheckPlanId(key.plan_id));
  if (!key.id.empty()) THROTTL_RETURN_IF_ERROR(CheckId("id", key.id));
  THROTTL_RETURN_IF_ERROR(CheckDisplayName(key.name));
  if (key.expires_at.has_value()) THROTTL_RETURN_IF_ERROR(CheckExpiry(*key.expires_at));
  THROTTL_RETURN_IF_ERROR(CheckScopes(key.scopes));
  THROTTL_RETURN_IF_ERROR(CheckAddresses(key.addresses));
  if (key.quota.has_value()) {
    THROTTL_RETURN_IF_ERROR(Inside("quota.", CheckQuota(*key.quota, QuotaHolder::kKey)));
  }
  THROTTL_RETURN_IF_ERROR(CheckRateLimits(key.rate_limits));
  THROTTL_RETURN_IF_ERROR(CheckText(
      "metadata", key.metadata,
      {.bytes_max = kMetadataBytesMax, .control_characters = ControlCharacters::kAllButNul}));
  if (!key.secret_prefix.empty()) THROTTL_RETURN_IF_ERROR(CheckSecretPrefix(key.secret_prefix));
  return absl::OkStatus();
}

absl::Status CheckImportedKey(const ImportedKey& imported) {
  THROTTL_RETURN_IF_ERROR(Inside("key.", CheckId("id", imported.key.id)));
  THROTTL_RETURN_IF_ERROR(Inside("key.", CheckKey(imported.key)));
  return CheckInteger("used", imported.used, {.min = 0, .max = kLimitMax});
}

absl::Status CheckKeyQuery(const KeyQuery& query) {
  if (!query.owner_id.empty()) THROTTL_RETURN_IF_ERROR(CheckOwner(query.owner_id));
  if (!query.plan_id.empty()) THROTTL_RETURN_IF_ERROR(CheckPlanId(query.plan_id));
  THROTTL_RETURN_IF_ERROR(CheckText("locator", query.locator, {.bytes_max = kLocatorBytesMax}));
  THROTTL_RETURN_IF_ERROR(CheckText("cursor", query.cursor, {.bytes_max = kCursorBytesMax}));
  return CheckInteger("count_max", query.count_max, {.min = 1, .max = kPageSizeMax});
}

absl::Status CheckUsageQuery(const UsageQuery& query) {
  if (!query.key_id.empty()) THROTTL_RETURN_IF_ERROR(CheckKeyId(query.key_id));
  if (!query.owner_id.empty()) THROTTL_RETURN_IF_ERROR(CheckOwner(query.owner_id));
  if (!query.key_id.empty() && !query.owner_id.empty()) {
    return absl::InvalidArgumentError("key_id and owner_id are both given, one of them is allowed");
  }
  if (query.bucket == Period::kHour || query.bucket == Period::kDay ||
      query.bucket == Period::kMonth) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("bucket is ", static_cast<int>(query.bucket),
                                                 ", kHour, kDay or kMonth is allowed"));
}

absl::Status CheckCaller(const Caller& caller) {
  if (!caller.owner_id.empty()) {
    THROTTL_RETURN_IF_ERROR(Inside("caller.", CheckOwner(caller.owner_id)));
  }
  return CheckText("caller.actor", caller.actor, {.bytes_max = kActorBytesMax});
}

absl::Status CheckRotateOptions(const RotateOptions& options) {
  return CheckDuration("overlap", options.overlap,
                       {.min = absl::ZeroDuration(), .max = kOverlapMax});
}

absl::Status CheckEngineOptions(const EngineOptions& options) {
  THROTTL_RETURN_IF_ERROR(CheckInteger("on_store_failure",
                                       static_cast<std::int64_t>(options.on_store_failure),
                                       {.min = 1, .max = 2}));
  THROTTL_RETURN_IF_ERROR(CheckDuration("settle_interval", options.settle_interval,
                                        {.min = kSettleIntervalMin, .max = kSettleIntervalMax}));
  THROTTL_RETURN_IF_ERROR(CheckDuration("history_kept", options.history_kept,
                                        {.min = kHistoryKeptMin, .max = absl::InfiniteDuration()}));
  THROTTL_RETURN_IF_ERROR(CheckDuration("events_kept", options.events_kept,
                                        {.min = kEventsKeptMin, .max = absl::InfiniteDuration()}));
  THROTTL_RETURN_IF_ERROR(CheckSecretPrefix(options.secret_prefix));
  const IntegerRange table = {.min = 1, .max = kTableSizeMax};
  THROTTL_RETURN_IF_ERROR(CheckInteger("cached_keys_max", options.cached_keys_max, table));
  THROTTL_RETURN_IF_ERROR(CheckInteger("active_subjects_max", options.active_subjects_max, table));
  THROTTL_RETURN_IF_ERROR(CheckInteger("rate_slots_max", options.rate_slots_max, table));
  return CheckSeedPlans(options.seed_plans);
}

}  // namespace throttl::internal
