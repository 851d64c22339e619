#include "src/engine/subject.h"

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/calendar/quota_calendar.h"

namespace throttl::internal {

bool IsOfOwner(const Key& key, const Plan& plan) {
  return !key.quota.has_value() && plan.quota.has_value() &&
         plan.quota->scope == QuotaScope::kOwner;
}

std::string SubjectNameOf(const Key& key, const Plan& plan) {
  if (IsOfOwner(key, plan)) return absl::StrCat("o:", plan.id, ":", key.owner_id);
  return absl::StrCat("k:", key.id);
}

absl::StatusOr<CountedAs> SubjectOf(const Key& key, const Plan& plan, absl::Time now) {
  CountedAs counted{.quota = key.quota.has_value() ? key.quota : plan.quota};
  counted.counter.subject = SubjectNameOf(key, plan);
  if (!counted.quota.has_value()) return counted;
  THROTTL_ASSIGN_OR_RETURN(const QuotaCalendar calendar,
                           QuotaCalendar::Create(counted.quota->period, counted.quota->anchor_day,
                                                 counted.quota->time_zone));
  const PeriodBounds bounds = calendar.At(now);
  counted.counter.period_start = bounds.start;
  counted.period_end = bounds.end;
  return counted;
}

}  // namespace throttl::internal
