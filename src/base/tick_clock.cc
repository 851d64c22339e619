#include "src/base/tick_clock.h"

namespace throttl::internal {

TickClock::Tick TickClock::ReadAnew() {
  Tick tick;
  do {
    tick.monotonic_ns = ReadSystemNs(CLOCK_MONOTONIC_COARSE);
    tick.wall_ns = ReadSystemNs(CLOCK_REALTIME_COARSE);
  } while (ReadSystemNs(CLOCK_MONOTONIC_COARSE) != tick.monotonic_ns);
  std::uint64_t sequence = sequence_.load(std::memory_order_relaxed);
  // One that is written just now is as good. (A child that was forked while a thread of its parent
  // wrote reads anew each time.)
  if ((sequence & 1) != 0 ||
      !sequence_.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acq_rel)) {
    return tick;
  }
  wall_ns_.store(tick.wall_ns, std::memory_order_release);
  monotonic_ns_.store(tick.monotonic_ns, std::memory_order_release);
  sequence_.store(sequence + 2, std::memory_order_release);
  return tick;
}

}  // namespace throttl::internal
