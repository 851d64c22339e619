#include "src/engine/upkeep.h"

#include "throttl/quota_store.h"

#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

// In one transaction, so that others get their turn in between.
constexpr std::int32_t kRowsAtOnce = 10'000;
constexpr absl::Duration kSteadyTime = absl::Hours(1);
constexpr absl::Duration kForgetInterval = absl::Hours(1);
// Between the two times of a clock: more is a jump. NTP slews by less than 2 s in an hour.
constexpr absl::Duration kDriftMax = absl::Minutes(1);

absl::Duration JumpBetween(const Clock::Reading& from, const Clock::Reading& to) {
  return absl::AbsDuration((to.wall - from.wall) - (to.monotonic - from.monotonic));
}

}  // namespace

Upkeep::Upkeep(const EngineContext& context)
    : context_(context), steady_since_(context.options.clock->Read()) {
  forget_at_ = steady_since_.monotonic + kSteadyTime;
}

absl::Status Upkeep::Run(Pace pace) {
  const MutexLock lock(mutex_);
  const Clock::Reading now = context_.options.clock->Read();
  THROTTL_RETURN_IF_ERROR(EndPeriods(pace, now.wall));
  return MayForget(now) ? Forget(now) : absl::OkStatus();
}

absl::Status Upkeep::EndPeriods(Pace pace, absl::Time now) {
  const std::int64_t minute = absl::ToUnixSeconds(now) / 60;
  if (pace == Pace::kWhenDue && minute == minute_) return absl::OkStatus();
  std::int64_t ended = kRowsAtOnce;
  while (ended >= kRowsAtOnce) {
    THROTTL_ASSIGN_OR_RETURN(ended, context_.store->EndPeriods(now, kRowsAtOnce));
  }
  minute_ = minute;
  return absl::OkStatus();
}

bool Upkeep::MayForget(const Clock::Reading& now) {
  if (JumpBetween(steady_since_, now) > kDriftMax) {
    steady_since_ = now;
    forget_at_ = now.monotonic + kSteadyTime;
  }
  return now.monotonic >= forget_at_;
}

absl::Status Upkeep::Forget(const Clock::Reading& now) {
  const EngineOptions& options = context_.options;
  PruneLimits limits{.rows_max = kRowsAtOnce};
  if (options.history_kept != absl::InfiniteDuration()) {
    limits.usage_before = now.wall - options.history_kept;
    limits.counters_before = limits.usage_before;
  }
  if (options.events_kept != absl::InfiniteDuration()) {
    limits.events_before = now.wall - options.events_kept;
  }
  std::int64_t forgotten = kRowsAtOnce;
  while (forgotten >= kRowsAtOnce) {
    THROTTL_ASSIGN_OR_RETURN(forgotten, context_.store->Prune(limits));
  }
  // From a jump of less than kDriftMax on, it is measured anew.
  steady_since_ = now;
  forget_at_ = now.monotonic + kForgetInterval;
  return absl::OkStatus();
}

}  // namespace throttl::internal
