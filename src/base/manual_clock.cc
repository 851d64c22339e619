#include "throttl/clock.h"

namespace throttl {

// Clocks that begin at one wall time agree, in whatever process and whenever they are made.
ManualClock::ManualClock(absl::Time wall)
    : wall_ns_(absl::ToUnixNanos(wall)), monotonic_ns_(absl::ToUnixNanos(wall)) {}

Clock::Reading ManualClock::Read() {
  return {absl::FromUnixNanos(wall_ns_.load(std::memory_order_acquire)),
          absl::Nanoseconds(monotonic_ns_.load(std::memory_order_acquire))};
}

void ManualClock::Advance(absl::Duration by) {
  const std::int64_t ns = absl::ToInt64Nanoseconds(by);
  if (ns <= 0) return;
  monotonic_ns_.fetch_add(ns, std::memory_order_acq_rel);
  wall_ns_.fetch_add(ns, std::memory_order_acq_rel);
}

void ManualClock::JumpTo(absl::Time wall) {
  wall_ns_.store(absl::ToUnixNanos(wall), std::memory_order_release);
}

}  // namespace throttl
