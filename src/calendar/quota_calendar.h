// A QuotaCalendar says which period of a quota an instant falls in, in any time zone.
//
// A period is computed from its anchor and an index, never from the period before it. It starts at
// the first instant at which the zone's clock shows midnight of the anchor day or later: a midnight
// that is skipped means the transition, one that is repeated means the first. So periods follow
// each other without a gap or an overlap, whatever the zone's clock does.
//
// Thread safety: a value; cheap to copy.
//
//   auto calendar = QuotaCalendar::Create(Period::kMonth, 31, "Europe/Paris");
//   PeriodBounds bounds = calendar->At(absl::Now());
#ifndef THROTTL_SRC_CALENDAR_QUOTA_CALENDAR_H_
#define THROTTL_SRC_CALENDAR_QUOTA_CALENDAR_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"

#include "throttl/plan.h"

namespace throttl::internal {

struct PeriodBounds {
  absl::Time start = absl::UnixEpoch();          // inclusive; whole seconds
  std::optional<absl::Time> end = std::nullopt;  // exclusive; std::nullopt: never ends
};

class QuotaCalendar {
 public:
  // `anchor_day` is 1 (Monday)..7 for a week, else 1..31: for a month it is clamped to the month's
  // length, for a year it is a day of January, and the other periods do not use it. `time_zone` is
  // an IANA name; "UTC" is known without a time zone database. Hours are aligned to the epoch in
  // every zone.
  //
  // InvalidArgument: names the field, its value and the bound.
  static absl::StatusOr<QuotaCalendar> Create(Period period, std::int32_t anchor_day,
                                              std::string_view time_zone);

  // The period that `now` is in. When the zone's clock goes back over a start, the period that has
  // begun goes on. A time outside the years 1..9999 counts as the nearest time inside. A lifetime
  // starts at the epoch. No allocation, lock or system call.
  PeriodBounds At(absl::Time now) const;

 private:
  QuotaCalendar(Period period, std::int32_t anchor_day, absl::TimeZone zone)
      : period_(period), anchor_day_(anchor_day), zone_(zone) {}

  std::int64_t IndexOf(absl::CivilDay day) const;
  absl::CivilDay FirstDay(std::int64_t index) const;
  absl::Time Start(std::int64_t index) const;

  Period period_;
  std::int32_t anchor_day_;
  absl::TimeZone zone_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_CALENDAR_QUOTA_CALENDAR_H_
