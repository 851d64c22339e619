// The system's clock, as a Clock.
//
// Thread safety: as Clock.
//
//   std::shared_ptr<Clock> clock = MakeSystemClock();
#ifndef THROTTL_SRC_BASE_SYSTEM_CLOCK_H_
#define THROTTL_SRC_BASE_SYSTEM_CLOCK_H_

#include <memory>

#include "throttl/clock.h"

namespace throttl::internal {

std::shared_ptr<Clock> MakeSystemClock();

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_SYSTEM_CLOCK_H_
