#include "src/export/usage_row.h"

#include <algorithm>
#include <limits>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "src/export/csv_text.h"

namespace throttl::internal {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

std::optional<std::string> Rfc3339(std::optional<absl::Time> time) {
  if (!time.has_value()) return std::nullopt;
  const absl::TimeZone utc = absl::UTCTimeZone();
  const absl::CivilSecond civil = utc.At(*time).cs;
  if (civil.year() < 0 || civil.year() > 9999) return std::nullopt;  // infinite times as well
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%SZ", *time, utc);
}

void AppendCsvNumber(std::optional<std::int64_t> number, std::string& out) {
  if (number.has_value()) absl::StrAppend(&out, *number);
}

template <typename T>
ordered_json OrNull(const std::optional<T>& value) {
  return value.has_value() ? ordered_json(*value) : ordered_json(nullptr);
}

}  // namespace

std::optional<std::int64_t> PercentUsed(const QuotaState& quota) {
  if (!quota.limit.has_value()) return std::nullopt;
  if (*quota.limit <= 0) return 100;
  const absl::uint128 used(std::max<std::int64_t>(quota.used, 0));
  const absl::uint128 percent = used * 100 / absl::uint128(*quota.limit);
  return static_cast<std::int64_t>(std::min(percent, absl::uint128(kInt64Max)));
}

void AppendUsageCsv(const Usage& usage, std::string_view plan_name, std::string& out) {
  const auto text = [&](std::string_view value) {
    AppendCsvText(value, out);
    out.push_back(',');
  };
  const auto number = [&](std::optional<std::int64_t> value, std::string_view end) {
    AppendCsvNumber(value, out);
    out.append(end);
  };
  const std::optional<std::int64_t> percent = PercentUsed(usage.quota);
  text(usage.key_id);
  text(usage.key_name);
  text(plan_name);
  number(usage.quota.used, ",");
  number(usage.quota.limit, ",");
  number(percent, percent.has_value() ? "%," : ",");
  text(usage.owner_id);
  text(usage.plan_id);
  text(PeriodName(usage.quota.period));
  text(Rfc3339(usage.period_start).value_or(""));
  text(Rfc3339(usage.quota.resets_at).value_or(""));
  number(usage.quota.remaining(), ",");
  out.append(Rfc3339(usage.last_used_at).value_or(""));
  out.append("\r\n");
}

void AppendUsageJson(const Usage& usage, std::string_view plan_name, std::string& out) {
  const ordered_json row = {
      {"keyId", usage.key_id},
      {"keyName", usage.key_name},
      {"planName", plan_name},
      {"currentUsage", usage.quota.used},
      {"monthlyQuota", OrNull(usage.quota.limit)},
      {"percentUsed", OrNull(PercentUsed(usage.quota))},
      {"ownerId", usage.owner_id},
      {"planId", usage.plan_id},
      {"period", PeriodName(usage.quota.period)},
      {"periodStart", OrNull(Rfc3339(usage.period_start))},
      {"resetsAt", OrNull(Rfc3339(usage.quota.resets_at))},
      {"remaining", OrNull(usage.quota.remaining())},
      {"lastUsedAt", OrNull(Rfc3339(usage.last_used_at))},
  };
  // Without the handler, a text that is not UTF-8 throws.
  out.append(row.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

}  // namespace throttl::internal
