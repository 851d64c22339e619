// A Clock tells the time to an engine, so that a test can put it at the end of a month.
//
// Thread safety: implementations are safe from any thread.
//
//   auto clock = std::make_shared<throttl::ManualClock>(
//       absl::FromUnixSeconds(1769903940));  // 31 January 2026, 23:59 UTC
//   auto engine = throttl::Engine::Open("memory:", {.settle_thread = false, .clock = clock});
//   clock->Advance(absl::Minutes(1));  // a new month
#ifndef THROTTL_CLOCK_H_
#define THROTTL_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace throttl {

class Clock {
 public:
  struct Reading {
    absl::Time wall;  // for calendar periods and expiry; may jump
    // For rate limits; never goes back. Of one origin in all processes that share a store on a
    // machine, and until it starts again: the system's counts from its start.
    absl::Duration monotonic;
  };
  virtual ~Clock() = default;
  // Called once a decision, and again where requests race for a rate limit. Must not block or
  // throw.
  virtual Reading Read() = 0;
};

class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time wall);  // the monotonic time begins at the same number
  Reading Read() override;
  void Advance(absl::Duration by);  // both times; by >= 0
  void JumpTo(absl::Time wall);     // the wall time only, also back: what NTP does

 private:
  std::atomic<std::int64_t> wall_ns_;
  std::atomic<std::int64_t> monotonic_ns_;
};

}  // namespace throttl

#endif  // THROTTL_CLOCK_H_
