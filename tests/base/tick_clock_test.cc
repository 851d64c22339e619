#include "src/base/tick_clock.h"

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tests/scale.h"

namespace throttl::internal {
namespace {

using testing::Scaled;

TEST_CASE("the wall and the monotonic time of one tick, whichever thread reads it first") {
  TickClock clock;
  std::atomic<std::int64_t> compared = 0;
  std::atomic<std::int64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      std::int64_t last_ns = 0;
      for (std::int64_t n = 0; n < Scaled(300'000); ++n) {
        const std::int64_t before_ns = ReadSystemNs(CLOCK_MONOTONIC_COARSE);
        const std::int64_t wall_ns = ReadSystemNs(CLOCK_REALTIME_COARSE);
        const TickClock::Tick tick = clock.Read();
        const std::int64_t after_ns = ReadSystemNs(CLOCK_MONOTONIC_COARSE);
        if (tick.monotonic_ns < before_ns || tick.monotonic_ns > after_ns) ++wrong;
        if (tick.monotonic_ns < last_ns) ++wrong;
        last_ns = tick.monotonic_ns;
        if (before_ns != after_ns) continue;  // a tick came between
        ++compared;
        if (tick.wall_ns != wall_ns) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(compared > 0);
}

}  // namespace
}  // namespace throttl::internal
