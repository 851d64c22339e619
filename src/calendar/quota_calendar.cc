#include "src/calendar/quota_calendar.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kTimeZoneBytesMax = 64;
constexpr std::int64_t kHourSeconds = 3600;

constexpr absl::CivilDay kEpochDay(1970, 1, 1);
constexpr absl::CivilDay kFirstMonday(1970, 1, 5);
constexpr absl::CivilMonth kEpochMonth(1970, 1);
constexpr absl::CivilYear kEpochYear(1970);

std::int64_t FloorDivide(std::int64_t dividend, std::int64_t divisor) {
  const std::int64_t quotient = dividend / divisor;
  return dividend % divisor < 0 ? quotient - 1 : quotient;
}

absl::CivilDay AnchorDay(absl::CivilMonth month, std::int32_t anchor_day) {
  const absl::CivilDay first(month);
  const absl::CivilDay last = absl::CivilDay(month + 1) - 1;
  return std::min(first + (anchor_day - 1), last);
}

absl::Time FirstInstant(absl::CivilDay day, absl::TimeZone zone) {
  const absl::TimeZone::TimeInfo info = zone.At(absl::CivilSecond(day));
  return info.kind == absl::TimeZone::TimeInfo::SKIPPED ? info.trans : info.pre;
}

absl::Time ClampToSupportedYears(absl::Time time) {
  const absl::Time first = absl::FromCivil(absl::CivilSecond(1, 1, 1), absl::UTCTimeZone());
  const absl::Time last =
      absl::FromCivil(absl::CivilSecond(9999, 12, 31, 23, 59, 59), absl::UTCTimeZone());
  return std::clamp(time, first, last);
}

// Words separated by '/'. No '.' and no ':', so that a name never leaves the zone directory and
// never chooses another loader ("file:", "libc:").
bool HasZoneForm(std::string_view name) {
  if (name.front() == '/' || name.back() == '/') return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (c == '/' && name[i - 1] == '/') return false;
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '/' && c != '_' && c != '-' &&
        c != '+') {
      return false;
    }
  }
  return true;
}

// Names that load on some machines and mean what that machine was set to, or a form that only one
// library knows: a stored quota must mean the same everywhere.
bool IsLocalName(std::string_view name) {
  return name == "localtime" || name == "posixrules" || name == "UTC0" || name == "Fixed" ||
         name.substr(0, 6) == "Fixed/" || name.substr(0, 6) == "posix/" ||
         name.substr(0, 6) == "right/";
}

absl::Status ZoneError(std::string_view name, absl::string_view bound) {
  return absl::InvalidArgumentError(absl::StrCat("time_zone is ", Quoted(name), ", ", bound));
}

absl::StatusOr<absl::TimeZone> LoadZone(std::string_view name) {
  if (name.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("time_zone is empty, 1 to ", kTimeZoneBytesMax, " bytes are required"));
  }
  if (name.size() > kTimeZoneBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("time_zone is ", name.size(),
                                                   " bytes long, at most ", kTimeZoneBytesMax,
                                                   " bytes are allowed"));
  }
  if (!IsUtf8(name)) return ZoneError(name, "UTF-8 is required");
  if (HasControlCharacter(name)) return ZoneError(name, "control characters are not allowed");
  if (!HasZoneForm(name) || IsLocalName(name)) {
    return ZoneError(name, "an IANA name such as \"Europe/Berlin\" is required");
  }
  absl::TimeZone zone;
  if (!absl::LoadTimeZone(AbslView(name), &zone)) {
    return ZoneError(name,
                     "no zone of this name is installed on this machine (the package is tzdata)");
  }
  return zone;
}

}  // namespace

absl::StatusOr<QuotaCalendar> QuotaCalendar::Create(Period period, std::int32_t anchor_day,
                                                    std::string_view time_zone) {
  if (period < Period::kHour || period > Period::kLifetime) {
    return absl::InvalidArgumentError(
        absl::StrCat("period is ", static_cast<int>(period), ", 1 to 6 are allowed"));
  }
  const std::int32_t anchor_day_max = period == Period::kWeek ? 7 : 31;
  if (anchor_day < 1 || anchor_day > anchor_day_max) {
    return absl::InvalidArgumentError(absl::StrCat("anchor_day is ", anchor_day, ", 1 to ",
                                                   anchor_day_max, " are allowed for a ",
                                                   AbslView(PeriodName(period))));
  }
  THROTTL_ASSIGN_OR_RETURN(const absl::TimeZone zone, LoadZone(time_zone));
  return QuotaCalendar(period, anchor_day, zone);
}

PeriodBounds QuotaCalendar::At(absl::Time now) const {
  if (period_ == Period::kLifetime) return {};
  now = ClampToSupportedYears(now);
  if (period_ == Period::kHour) {
    const std::int64_t hour = FloorDivide(absl::ToUnixSeconds(now), kHourSeconds);
    return {absl::FromUnixSeconds(hour * kHourSeconds),
            absl::FromUnixSeconds((hour + 1) * kHourSeconds)};
  }
  std::int64_t index = IndexOf(absl::CivilDay(zone_.At(now).cs));
  // The clock may show a day that is over, after it went back across midnight: then a later period
  // has begun. And the period after this one may be empty, when the zone skips a whole day.
  while (Start(index + 1) <= now) ++index;
  while (Start(index) > now) --index;
  return {Start(index), Start(index + 1)};
}

// The period that starts in the week, month or year of `day`, or on it: the one that `day` is in or
// the one after.
std::int64_t QuotaCalendar::IndexOf(absl::CivilDay day) const {
  switch (period_) {
    case Period::kWeek:
      return FloorDivide(day - (kFirstMonday + (anchor_day_ - 1)), 7);
    case Period::kMonth:
      return absl::CivilMonth(day) - kEpochMonth;
    case Period::kYear:
      return absl::CivilYear(day) - kEpochYear;
    case Period::kHour:
    case Period::kDay:
    case Period::kLifetime:
      break;
  }
  return day - kEpochDay;
}

absl::CivilDay QuotaCalendar::FirstDay(std::int64_t index) const {
  switch (period_) {
    case Period::kWeek:
      return kFirstMonday + (anchor_day_ - 1) + 7 * index;
    case Period::kMonth:
      return AnchorDay(kEpochMonth + index, anchor_day_);
    case Period::kYear:
      return AnchorDay(absl::CivilMonth(kEpochYear + index), anchor_day_);
    case Period::kHour:
    case Period::kDay:
    case Period::kLifetime:
      break;
  }
  return kEpochDay + index;
}

absl::Time QuotaCalendar::Start(std::int64_t index) const {
  return FirstInstant(FirstDay(index), zone_);
}

}  // namespace throttl::internal
