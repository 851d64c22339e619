#include "src/export/usage_row.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>

#include "tests/export/csv_parts.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

absl::Time At(int year, int month, int day, int hour = 0, int minute = 0, int second = 0) {
  return absl::FromCivil(absl::CivilSecond(year, month, day, hour, minute, second),
                         absl::UTCTimeZone());
}

Usage Sample() {
  return {
      .key_id = "key_1",
      .key_name = "prod",
      .owner_id = "acme",
      .plan_id = "free",
      .quota = {.limit = 1'000, .used = 905, .resets_at = At(2026, 3, 1), .period = Period::kMonth},
      .period_start = At(2026, 2, 1),
      .last_used_at = At(2026, 2, 17, 9, 8, 7) + absl::Milliseconds(999)};
}

std::string Csv(const Usage& usage, std::string_view plan_name = "Free") {
  std::string row;
  AppendUsageCsv(usage, plan_name, row);
  return row;
}

std::string Json(const Usage& usage, std::string_view plan_name = "Free") {
  std::string row;
  AppendUsageJson(usage, plan_name, row);
  return row;
}

std::optional<std::int64_t> Percent(std::optional<std::int64_t> limit, std::int64_t used) {
  return PercentUsed({.limit = limit, .used = used});
}

TEST_CASE("the CSV header begins with the six columns of the original service") {
  CHECK(kUsageCsvHeader.starts_with(
      "Key ID,Key Name,Plan,Current Usage,Monthly Quota,Percent Used,"));
  CHECK(kUsageCsvHeader.ends_with("\r\n"));
}

TEST_CASE("a CSV row holds ids, names, numbers, the percentage and times in UTC") {
  CHECK(Csv(Sample()) ==
        "key_1,prod,Free,905,1000,90%,acme,free,month,2026-02-01T00:00:00Z,2026-03-01T00:00:00Z,95,"
        "2026-02-17T09:08:07Z\r\n");
}

TEST_CASE("a JSON row begins with the six fields of the original service") {
  CHECK(Json(Sample()) ==
        R"({"keyId":"key_1","keyName":"prod","planName":"Free","currentUsage":905,)"
        R"("monthlyQuota":1000,"percentUsed":90,"ownerId":"acme","planId":"free","period":"month",)"
        R"("periodStart":"2026-02-01T00:00:00Z","resetsAt":"2026-03-01T00:00:00Z","remaining":95,)"
        R"("lastUsedAt":"2026-02-17T09:08:07Z"})");
}

TEST_CASE("without a limit, a reset or a last use a cell is empty and a value is null, never 0") {
  const Usage usage{.key_id = "key_2",
                    .key_name = "free for all",
                    .owner_id = "acme",
                    .plan_id = "open",
                    .quota = {.used = 7}};
  CHECK(Csv(usage, "Open") ==
        "key_2,free for all,Open,7,,,acme,open,lifetime,1970-01-01T00:00:00Z,,,\r\n");
  CHECK(Json(usage, "Open") ==
        R"({"keyId":"key_2","keyName":"free for all","planName":"Open","currentUsage":7,)"
        R"("monthlyQuota":null,"percentUsed":null,"ownerId":"acme","planId":"open",)"
        R"("period":"lifetime","periodStart":"1970-01-01T00:00:00Z","resetsAt":null,)"
        R"("remaining":null,"lastUsedAt":null})");
}

TEST_CASE("a limit of 0 is a number and not the absence of a limit") {
  Usage usage = Sample();
  usage.quota.limit = 0;
  usage.quota.used = 0;
  CHECK(Csv(usage).find(",Free,0,0,100%,acme,") != std::string::npos);
  CHECK(Json(usage).find(R"("currentUsage":0,"monthlyQuota":0,"percentUsed":100,)") !=
        std::string::npos);
  CHECK(Json(usage).find(R"("remaining":0,)") != std::string::npos);
}

TEST_CASE("a time that RFC 3339 cannot write is left out") {
  Usage usage = Sample();
  usage.period_start = absl::InfinitePast();
  usage.quota.resets_at = absl::InfiniteFuture();
  usage.last_used_at = At(10'000, 1, 1);
  CHECK(Csv(usage).ends_with(",month,,,95,\r\n"));
  usage.last_used_at = At(-1, 12, 31);
  CHECK(Csv(usage).ends_with(",month,,,95,\r\n"));
  const nlohmann::json row = nlohmann::json::parse(Json(usage));
  for (const char* name : {"periodStart", "resetsAt", "lastUsedAt"}) CHECK(row[name].is_null());
  usage.last_used_at = At(9'999, 12, 31, 23, 59, 59);
  CHECK(Csv(usage).ends_with(",9999-12-31T23:59:59Z\r\n"));
  usage.last_used_at = At(1969, 12, 31, 23, 59, 59) + absl::Milliseconds(500);
  CHECK(Csv(usage).ends_with(",1969-12-31T23:59:59Z\r\n"));
}

TEST_CASE("the percentage is rounded down, so that 100 is not said before the limit is reached") {
  CHECK(Percent(1'000, 0) == 0);
  CHECK(Percent(1'000, 9) == 0);
  CHECK(Percent(1'000, 10) == 1);
  CHECK(Percent(1'000, 899) == 89);
  CHECK(Percent(1'000, 900) == 90);
  CHECK(Percent(1'000, 999) == 99);
  CHECK(Percent(1'000, 1'000) == 100);
  CHECK(Percent(3, 2) == 66);
}

TEST_CASE("the percentage exceeds 100 when the limit was lowered") {
  CHECK(Percent(10, 25) == 250);
  CHECK(Percent(1, kLimitMax) == kLimitMax * 100);
}

TEST_CASE(
    "a limit of 0 is reached from the beginning, and without a limit there is no percentage") {
  CHECK(Percent(0, 0) == 100);
  CHECK(Percent(0, 5) == 100);
  CHECK(Percent(std::nullopt, 5) == std::nullopt);
}

TEST_CASE("the percentage is exact at any size, and the greatest number beyond it") {
  CHECK(Percent(kLimitMax, kLimitMax) == 100);
  CHECK(Percent(kLimitMax, kLimitMax - 1) == 99);
  CHECK(Percent(kInt64Max, kInt64Max) == 100);
  CHECK(Percent(kInt64Max, kInt64Max / 2) == 49);
  CHECK(Percent(1, kInt64Max) == kInt64Max);
  CHECK(Percent(10, -1) == 0);
}

TEST_CASE("the percentage is n or more exactly when an alert threshold of n is reached") {
  CHECK(rc::check([] {
    const auto limit = *rc::gen::inRange<std::int64_t>(1, 10'000);
    const auto used = *rc::gen::inRange<std::int64_t>(0, 20'000);
    const auto threshold = *rc::gen::inRange<std::int64_t>(1, 1'001);
    const bool reached = used >= (limit * threshold + 99) / 100;  // as settling has it
    RC_ASSERT((PercentUsed({.limit = limit, .used = used}).value() >= threshold) == reached);
  }));
}

TEST_CASE("text in JSON is escaped, and U+FFFD stands for what is not UTF-8") {
  Usage usage = Sample();
  usage.key_name = std::string("\"\\/\0\x1f\n\x7f", 7);
  CHECK(Json(usage).find(R"("keyName":"\"\\/\u0000\u001f\n)"
                         "\x7f\",") != std::string::npos);
  usage.key_name =
      "a\xff"
      "b\xe2\x82";
  CHECK(Json(usage).find("\"keyName\":\"a\xef\xbf\xbd"
                         "b\xef\xbf\xbd\",") != std::string::npos);
  usage.key_name = "=1+1";
  CHECK(Json(usage).find(R"("keyName":"=1+1",)") != std::string::npos);
}

TEST_CASE("any texts are read back from a row, exactly from JSON, but for apostrophes from CSV") {
  CHECK(rc::check("rows read back", [] {
    const auto texts = *rc::gen::container<std::vector<std::string>>(5, GenHardText());
    const Usage usage{
        .key_id = texts[0], .key_name = texts[1], .owner_id = texts[2], .plan_id = texts[3]};
    const auto rows = ReadCsv(Csv(usage, texts[4]));
    RC_ASSERT(rows.has_value());
    RC_ASSERT(rows->size() == 1U);
    RC_ASSERT(rows->front().size() == ReadCsv(kUsageCsvHeader)->front().size());
    const std::string json = Json(usage, texts[4]);
    RC_ASSERT(json.find_first_of("\r\n") == std::string::npos);
    const nlohmann::json row = nlohmann::json::parse(json);
    const struct {
      std::size_t column, text;
      const char* field;
    } places[] = {{0, 0, "keyId"},
                  {1, 1, "keyName"},
                  {2, 4, "planName"},
                  {6, 2, "ownerId"},
                  {7, 3, "planId"}};
    for (const auto& place : places) {
      RC_ASSERT(IsDefused(texts[place.text], rows->front()[place.column]));
      RC_ASSERT(IsReplaced(texts[place.text], row[place.field].get<std::string>()));
    }
  }));
}

}  // namespace
}  // namespace throttl::internal
