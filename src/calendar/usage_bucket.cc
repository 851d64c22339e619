#include <cassert>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"

#include "throttl/usage.h"

namespace throttl {

absl::Time BucketStart(absl::Time time, Period bucket) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  const absl::CivilSecond civil = utc.At(time).cs;
  if (bucket == Period::kHour) return absl::FromCivil(absl::CivilHour(civil), utc);
  if (bucket == Period::kMonth) return absl::FromCivil(absl::CivilMonth(civil), utc);
  assert(bucket == Period::kDay);
  return absl::FromCivil(absl::CivilDay(civil), utc);
}

}  // namespace throttl
