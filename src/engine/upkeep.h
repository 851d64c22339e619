// Upkeep does what falls due by time alone: it tells of periods that have ended, and forgets what
// has been kept long enough.
//
// A clock that jumps ahead must not cost what is still needed. So nothing is forgotten until the
// clock has run for an hour without a jump: until then it may be wrong.
//
// Thread safety: all methods from any thread; callers take turns.
//
//   THROTTL_RETURN_IF_ERROR(upkeep.Run(Upkeep::Pace::kWhenDue));
#ifndef THROTTL_SRC_ENGINE_UPKEEP_H_
#define THROTTL_SRC_ENGINE_UPKEEP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "throttl/clock.h"

#include "src/base/mutex.h"
#include "src/engine/engine_context.h"

namespace throttl::internal {

class Upkeep {
 public:
  enum class Pace : std::uint8_t {
    kWhenDue = 1,  // ends periods once in each minute of the clock
    kNow = 2,      // ends them in any case
  };

  // `context` outlives this.
  explicit Upkeep(const EngineContext& context);

  // After a settle, so that what a period used is known when its end is told. Forgets at most once
  // an hour, at either pace. Errors: those of the store; what was not done is done the next time.
  absl::Status Run(Pace pace);

 private:
  absl::Status EndPeriods(Pace pace, absl::Time now) THROTTL_REQUIRES(mutex_);
  absl::Status Forget(const Clock::Reading& now) THROTTL_REQUIRES(mutex_);
  bool MayForget(const Clock::Reading& now) THROTTL_REQUIRES(mutex_);

  const EngineContext& context_;
  Mutex mutex_;
  std::int64_t minute_ THROTTL_GUARDED_BY(mutex_) = 0;  // of the last time periods were ended
  Clock::Reading steady_since_ THROTTL_GUARDED_BY(mutex_);
  absl::Duration forget_at_ THROTTL_GUARDED_BY(mutex_);  // by the monotonic time
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_UPKEEP_H_
