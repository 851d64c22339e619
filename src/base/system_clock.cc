#include "src/base/system_clock.h"

#include <ctime>

namespace throttl::internal {
namespace {

class SystemClock final : public Clock {
 public:
  Reading Read() override {
    timespec wall = {};
    timespec monotonic = {};
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    return {absl::TimeFromTimespec(wall), absl::DurationFromTimespec(monotonic)};
  }
};

}  // namespace

std::shared_ptr<Clock> MakeSystemClock() { return std::make_shared<SystemClock>(); }

}  // namespace throttl::internal
