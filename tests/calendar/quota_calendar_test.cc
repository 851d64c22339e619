#include "src/calendar/quota_calendar.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "src/base/absl_string.h"

namespace throttl::internal {
namespace {

QuotaCalendar Calendar(Period period, std::int32_t anchor_day, const std::string& zone) {
  const absl::StatusOr<QuotaCalendar> calendar = QuotaCalendar::Create(period, anchor_day, zone);
  REQUIRE_MESSAGE(calendar.ok(), calendar.status().ToString());
  return *calendar;
}

absl::Time Utc(const std::string& text) {
  absl::Time time;
  std::string error;
  REQUIRE_MESSAGE(absl::ParseTime("%Y-%m-%d %H:%M:%E*S", text, &time, &error), error);
  return time;
}

// "start .. end" of the period of `now`, all in UTC.
std::string PeriodOf(const QuotaCalendar& calendar, const std::string& now) {
  const PeriodBounds bounds = calendar.At(Utc(now));
  const auto show = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%d %H:%M", time, absl::UTCTimeZone());
  };
  return absl::StrCat(show(bounds.start), " .. ",
                      bounds.end.has_value() ? show(*bounds.end) : "never");
}

std::string Refusal(Period period, std::int32_t anchor_day, std::string_view zone) {
  const absl::Status status = QuotaCalendar::Create(period, anchor_day, zone).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_CASE(
    "a month anchored on the 31st starts on the last day of shorter months, and does not drift") {
  const QuotaCalendar calendar = Calendar(Period::kMonth, 31, "UTC");
  CHECK(PeriodOf(calendar, "2023-02-10 00:00:00") == "2023-01-31 00:00 .. 2023-02-28 00:00");
  CHECK(PeriodOf(calendar, "2023-02-28 00:00:00") == "2023-02-28 00:00 .. 2023-03-31 00:00");
  CHECK(PeriodOf(calendar, "2023-03-31 00:00:00") == "2023-03-31 00:00 .. 2023-04-30 00:00");
  CHECK(PeriodOf(calendar, "2024-02-10 00:00:00") == "2024-01-31 00:00 .. 2024-02-29 00:00");
  CHECK(PeriodOf(calendar, "2024-03-01 00:00:00") == "2024-02-29 00:00 .. 2024-03-31 00:00");
  CHECK(PeriodOf(Calendar(Period::kMonth, 30, "UTC"), "2100-03-01 00:00:00") ==
        "2100-02-28 00:00 .. 2100-03-30 00:00");
  CHECK(PeriodOf(Calendar(Period::kMonth, 29, "UTC"), "2000-03-01 00:00:00") ==
        "2000-02-29 00:00 .. 2000-03-29 00:00");
}

TEST_CASE("a period includes its start and excludes its end") {
  const QuotaCalendar calendar = Calendar(Period::kMonth, 1, "UTC");
  CHECK(PeriodOf(calendar, "2026-01-31 23:59:59.999999999") ==
        "2026-01-01 00:00 .. 2026-02-01 00:00");
  CHECK(PeriodOf(calendar, "2026-02-01 00:00:00") == "2026-02-01 00:00 .. 2026-03-01 00:00");
}

TEST_CASE("a week starts on Monday by default, and on any other day when anchored there") {
  // 1 January 2026 was a Thursday.
  CHECK(PeriodOf(Calendar(Period::kWeek, 1, "UTC"), "2026-01-01 12:00:00") ==
        "2025-12-29 00:00 .. 2026-01-05 00:00");
  CHECK(PeriodOf(Calendar(Period::kWeek, 4, "UTC"), "2026-01-01 00:00:00") ==
        "2026-01-01 00:00 .. 2026-01-08 00:00");
  CHECK(PeriodOf(Calendar(Period::kWeek, 5, "UTC"), "2026-01-01 23:59:59") ==
        "2025-12-26 00:00 .. 2026-01-02 00:00");
  CHECK(PeriodOf(Calendar(Period::kWeek, 7, "UTC"), "1970-01-01 00:00:00") ==
        "1969-12-28 00:00 .. 1970-01-04 00:00");
}

TEST_CASE("a year starts on January's anchor day") {
  CHECK(PeriodOf(Calendar(Period::kYear, 1, "UTC"), "2024-12-31 23:59:59") ==
        "2024-01-01 00:00 .. 2025-01-01 00:00");
  CHECK(PeriodOf(Calendar(Period::kYear, 31, "UTC"), "2024-01-30 23:59:59") ==
        "2023-01-31 00:00 .. 2024-01-31 00:00");
}

TEST_CASE("hours are aligned to the epoch in every zone") {
  // Kathmandu is 5 h 45 min ahead.
  CHECK(PeriodOf(Calendar(Period::kHour, 1, "Asia/Kathmandu"), "2026-03-01 10:59:59") ==
        "2026-03-01 10:00 .. 2026-03-01 11:00");
  CHECK(PeriodOf(Calendar(Period::kHour, 1, "UTC"), "1969-12-31 23:00:00.5") ==
        "1969-12-31 23:00 .. 1970-01-01 00:00");
}

TEST_CASE("a lifetime starts at the epoch and never ends") {
  const QuotaCalendar calendar = Calendar(Period::kLifetime, 1, "Pacific/Apia");
  CHECK(PeriodOf(calendar, "2026-03-01 10:59:59") == "1970-01-01 00:00 .. never");
  CHECK(PeriodOf(calendar, "1960-01-01 00:00:00") == "1970-01-01 00:00 .. never");
}

TEST_CASE("a day has 23 or 25 hours when the clock changes") {
  const QuotaCalendar london = Calendar(Period::kDay, 1, "Europe/London");
  CHECK(PeriodOf(london, "2024-03-31 12:00:00") == "2024-03-31 00:00 .. 2024-03-31 23:00");
  CHECK(PeriodOf(london, "2024-10-27 12:00:00") == "2024-10-26 23:00 .. 2024-10-28 00:00");
}

TEST_CASE("a midnight that is skipped means the transition") {
  // Beirut put its clock on at 00:00 of 27 March 2022; Sao Paulo at 00:00 of 4 November 2018;
  // Havana at 00:00 of 10 March 2024; and Toronto at 23:30 of 30 March 1919.
  CHECK(PeriodOf(Calendar(Period::kDay, 1, "Asia/Beirut"), "2022-03-27 12:00:00") ==
        "2022-03-26 22:00 .. 2022-03-27 21:00");
  CHECK(PeriodOf(Calendar(Period::kMonth, 4, "America/Sao_Paulo"), "2018-11-04 03:00:00") ==
        "2018-11-04 03:00 .. 2018-12-04 02:00");
  CHECK(PeriodOf(Calendar(Period::kDay, 1, "America/Havana"), "2024-03-10 05:00:00") ==
        "2024-03-10 05:00 .. 2024-03-11 04:00");
  CHECK(PeriodOf(Calendar(Period::kDay, 1, "America/Toronto"), "1919-03-31 04:45:00") ==
        "1919-03-31 04:30 .. 1919-04-01 04:00");
}

TEST_CASE("a midnight that comes twice means the first, and the day that has begun goes on") {
  // Havana put its clock back from 01:00 to 00:00 of 3 November 2024.
  const QuotaCalendar havana = Calendar(Period::kDay, 1, "America/Havana");
  CHECK(PeriodOf(havana, "2024-11-03 04:30:00") == "2024-11-03 04:00 .. 2024-11-04 05:00");
  CHECK(PeriodOf(havana, "2024-11-03 05:00:00") == "2024-11-03 04:00 .. 2024-11-04 05:00");
  // St John's from 00:01 to 23:01 of the day before, 29 October 2006: 30 minutes past the first
  // midnight its clock shows 28 October again.
  const QuotaCalendar st_johns = Calendar(Period::kDay, 1, "America/St_Johns");
  CHECK(PeriodOf(st_johns, "2006-10-29 02:29:59") == "2006-10-28 02:30 .. 2006-10-29 02:30");
  CHECK(PeriodOf(st_johns, "2006-10-29 02:30:00") == "2006-10-29 02:30 .. 2006-10-30 03:30");
  CHECK(PeriodOf(st_johns, "2006-10-29 03:00:00") == "2006-10-29 02:30 .. 2006-10-30 03:30");
}

TEST_CASE("a clock that goes back from midnight reaches it an hour later") {
  // Sao Paulo from 00:00 of 18 February 2018 to 23:00; Beirut from 00:00 of 29 October 2023.
  CHECK(PeriodOf(Calendar(Period::kDay, 1, "America/Sao_Paulo"), "2018-02-18 02:00:00") ==
        "2018-02-17 02:00 .. 2018-02-18 03:00");
  CHECK(PeriodOf(Calendar(Period::kDay, 1, "Asia/Beirut"), "2023-10-28 21:30:00") ==
        "2023-10-27 21:00 .. 2023-10-28 22:00");
}

TEST_CASE("a day that a zone skips is never a period") {
  // Samoa had no 30 December 2011: 29 December ended at 10:00 UTC of the 30th.
  const QuotaCalendar days = Calendar(Period::kDay, 1, "Pacific/Apia");
  CHECK(PeriodOf(days, "2011-12-30 09:59:59") == "2011-12-29 10:00 .. 2011-12-30 10:00");
  CHECK(PeriodOf(days, "2011-12-30 10:00:00") == "2011-12-30 10:00 .. 2011-12-31 10:00");
  const QuotaCalendar months = Calendar(Period::kMonth, 30, "Pacific/Apia");
  CHECK(PeriodOf(months, "2011-12-30 10:00:00") == "2011-12-30 10:00 .. 2012-01-29 10:00");
}

TEST_CASE("a time outside the years 1 to 9999 counts as the nearest inside") {
  const QuotaCalendar calendar = Calendar(Period::kMonth, 1, "UTC");
  const PeriodBounds last = calendar.At(Utc("9999-12-31 23:59:59"));
  CHECK(calendar.At(absl::InfiniteFuture()).start == last.start);
  CHECK(calendar.At(Utc("10000-02-01 00:00:00")).end == last.end);
  const PeriodBounds first =
      calendar.At(absl::FromCivil(absl::CivilDay(1, 1, 1), absl::UTCTimeZone()));
  CHECK(calendar.At(absl::InfinitePast()).start == first.start);
  CHECK(first.start == absl::FromCivil(absl::CivilDay(1, 1, 1), absl::UTCTimeZone()));
  const QuotaCalendar hours = Calendar(Period::kHour, 1, "UTC");
  CHECK(hours.At(absl::InfiniteFuture()).start == Utc("9999-12-31 23:00:00"));
}

TEST_CASE("periods follow each other without a gap or an overlap, in any zone") {
  static const std::array<const char*, 14> kZones = {"UTC",
                                                     "Africa/Casablanca",
                                                     "America/Havana",
                                                     "America/Sao_Paulo",
                                                     "America/St_Johns",
                                                     "Asia/Beirut",
                                                     "Asia/Gaza",
                                                     "Asia/Tehran",
                                                     "Europe/Dublin",
                                                     "Europe/London",
                                                     "America/Nuuk",
                                                     "Pacific/Apia",
                                                     "Asia/Manila",
                                                     "Australia/Lord_Howe"};
  CHECK(rc::check([] {
    const std::string zone = kZones[*rc::gen::inRange<std::size_t>(0, kZones.size())];
    const auto period = static_cast<Period>(*rc::gen::inRange(1, 6));
    const auto anchor = *rc::gen::inRange<std::int32_t>(1, period == Period::kWeek ? 8 : 32);
    const auto ms = *rc::gen::inRange<std::int64_t>(-62'000'000'000'000, 250'000'000'000'000);
    const absl::Time now = absl::FromUnixMillis(ms);
    const QuotaCalendar calendar = *QuotaCalendar::Create(period, anchor, zone);
    const PeriodBounds bounds = calendar.At(now);
    RC_ASSERT(bounds.start <= now);
    RC_ASSERT(now < *bounds.end);
    // Every instant of it says the same.
    RC_ASSERT(calendar.At(bounds.start).end == bounds.end);
    RC_ASSERT(calendar.At(*bounds.end - absl::Nanoseconds(1)).start == bounds.start);
    // The neighbours begin and end where it does.
    RC_ASSERT(calendar.At(*bounds.end).start == *bounds.end);
    RC_ASSERT(calendar.At(bounds.start - absl::Nanoseconds(1)).end == bounds.start);
  }));
}

TEST_CASE("an anchor outside its bound is refused with the value and the bound") {
  CHECK(Refusal(Period::kMonth, 0, "UTC") == "anchor_day is 0, 1 to 31 are allowed for a month");
  CHECK(Refusal(Period::kMonth, 32, "UTC") == "anchor_day is 32, 1 to 31 are allowed for a month");
  CHECK(Refusal(Period::kWeek, 8, "UTC") == "anchor_day is 8, 1 to 7 are allowed for a week");
  CHECK(Refusal(Period::kWeek, -1, "UTC") == "anchor_day is -1, 1 to 7 are allowed for a week");
  CHECK(Refusal(static_cast<Period>(0), 1, "UTC") == "period is 0, 1 to 6 are allowed");
  CHECK(Refusal(static_cast<Period>(7), 1, "UTC") == "period is 7, 1 to 6 are allowed");
}

TEST_CASE("a zone that is not one is refused, and the message says why") {
  using namespace std::string_view_literals;
  CHECK(Refusal(Period::kMonth, 1, "") == "time_zone is empty, 1 to 64 bytes are required");
  CHECK(Refusal(Period::kMonth, 1, std::string(65, 'a')) ==
        "time_zone is 65 bytes long, at most 64 bytes are allowed");
  CHECK(Refusal(Period::kMonth, 1, "UTC\0"sv) ==
        "time_zone is \"UTC\\x00\", control characters are not allowed");
  CHECK(Refusal(Period::kMonth, 1, "UTC\xff") == "time_zone is \"UTC\\xff\", UTF-8 is required");
  CHECK(Refusal(Period::kMonth, 1, "Mars/Olympus") ==
        "time_zone is \"Mars/Olympus\", no zone of this name is installed on this machine (the "
        "package is tzdata)");
}

TEST_CASE("a zone name cannot leave the zone directory or mean what this machine is set to") {
  for (const char* const name :
       {"/usr/share/zoneinfo/UTC", "../zoneinfo/UTC", "Europe/../UTC", "./UTC", ".",
        "Europe//London", "Europe/London/", "file:UTC", "libc:localtime", "localtime", "posixrules",
        "UTC0", "Fixed/UTC", "Fixed/UTC+01:00:00", "Fixed/UTC+01", "posix/UTC", "right/UTC",
        "Europe London", "Europe/Z\xc3\xbcrich"}) {
    CAPTURE(std::string(name));
    const std::string message = Refusal(Period::kMonth, 1, name);
    CHECK(message.find("an IANA name such as \"Europe/Berlin\" is required") != std::string::npos);
  }
}

}  // namespace
}  // namespace throttl::internal
