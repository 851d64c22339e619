// A TickClock reads the coarse clock of the system, which ticks every 4 ms or so: the wall and the
// monotonic time of one tick, for the price of one reading.
//
// The kernel sets both at once, and the monotonic time of a tick never comes again, so it stands
// for the wall time too: that is read anew only when the former is another one.
//
// Thread safety: Read from any thread, and after fork in parent and child.
//
//   const TickClock::Tick tick = clock.Read();
#ifndef THROTTL_SRC_BASE_TICK_CLOCK_H_
#define THROTTL_SRC_BASE_TICK_CLOCK_H_

#include <time.h>

#include <atomic>
#include <cstdint>

namespace throttl::internal {

// In nanoseconds; 0 for a clock that the system does not have.
inline std::int64_t ReadSystemNs(clockid_t clock) {
  constexpr std::int64_t kSecondNs = 1'000'000'000;
  timespec now = {};
  clock_gettime(clock, &now);
  return now.tv_sec * kSecondNs + now.tv_nsec;
}

class TickClock {
 public:
  struct Tick {
    std::int64_t wall_ns = 0;       // since the epoch
    std::int64_t monotonic_ns = 0;  // of CLOCK_MONOTONIC
  };

  Tick Read() {
    const std::int64_t now_ns = ReadSystemNs(CLOCK_MONOTONIC_COARSE);
    const std::uint64_t sequence = sequence_.load(std::memory_order_acquire);
    const Tick last = {.wall_ns = wall_ns_.load(std::memory_order_acquire),
                       .monotonic_ns = monotonic_ns_.load(std::memory_order_acquire)};
    const bool is_whole =
        (sequence & 1) == 0 && sequence_.load(std::memory_order_acquire) == sequence;
    return is_whole && last.monotonic_ns == now_ns ? last : ReadAnew();
  }

 private:
  Tick ReadAnew();

  // Odd while a writer is inside, as in a CachedRecord.
  alignas(64) std::atomic<std::uint64_t> sequence_ = 0;
  std::atomic<std::int64_t> wall_ns_ = 0;
  std::atomic<std::int64_t> monotonic_ns_ = -1;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_TICK_CLOCK_H_
