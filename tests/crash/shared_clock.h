// A SharedClock reads a time that processes share, so that a test moves the clocks of all of them.
//
// Thread safety: from any thread.
//
//   options.clock = std::make_shared<SharedClock>(ledger->now_ms);
#ifndef THROTTL_TESTS_CRASH_SHARED_CLOCK_H_
#define THROTTL_TESTS_CRASH_SHARED_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

#include "throttl/clock.h"

namespace throttl::testing {

class SharedClock final : public Clock {
 public:
  // In milliseconds since the epoch; outlives this.
  explicit SharedClock(const std::atomic<std::int64_t>& now_ms) : now_ms_(now_ms) {}
  Reading Read() override {
    const std::int64_t ms = now_ms_.load(std::memory_order_relaxed);
    return {absl::FromUnixMillis(ms), absl::Milliseconds(ms)};
  }

 private:
  const std::atomic<std::int64_t>& now_ms_;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_SHARED_CLOCK_H_
