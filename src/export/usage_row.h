// A usage row is the usage of one key in its running period, as a line of CSV or an object of JSON.
//
// Thread safety: pure functions.
//
//   std::string text(kUsageCsvHeader);
//   AppendUsageCsv(usage, plan.name, text);
#ifndef THROTTL_SRC_EXPORT_USAGE_ROW_H_
#define THROTTL_SRC_EXPORT_USAGE_ROW_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "throttl/decision.h"
#include "throttl/usage.h"

namespace throttl::internal {

// The first six columns are those of the original Throttl service.
inline constexpr std::string_view kUsageCsvHeader =
    "Key ID,Key Name,Plan,Current Usage,Monthly Quota,Percent Used,"
    "Owner ID,Plan ID,Period,Period Start,Resets At,Remaining,Last Used At\r\n";

// How much of its limit `quota` has used, in whole percent, rounded down: 100 is not said before
// the limit is reached, and n exactly from when an alert threshold of n is. It exceeds 100 when the
// limit was lowered. A limit of 0 is reached from the beginning: 100. std::nullopt: no limit.
std::optional<std::int64_t> PercentUsed(const QuotaState& quota);

// Append one row. Where there is no limit, reset or last use, a CSV cell is empty and a JSON value
// is null, never 0. Times are RFC 3339 in UTC, rounded down to seconds; one that RFC 3339 cannot
// write is left out likewise. Numbers stay numbers; the percentage in CSV ends in '%'.
//
// "Monthly Quota" and monthlyQuota are the limit in whatever period "Period" and period name.
void AppendUsageCsv(const Usage& usage, std::string_view plan_name, std::string& out);
// An object without line ends. U+FFFD stands for what is not UTF-8; any other text is exact.
void AppendUsageJson(const Usage& usage, std::string_view plan_name, std::string& out);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_EXPORT_USAGE_ROW_H_
