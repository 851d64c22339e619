// Scale sizes the long suites: THROTTL_TEST_SCALE is a percentage of the full size, 100 by default.
//
// Thread safety: pure but for the environment.
//
//   for (int i = 0; i < throttl::testing::Scaled(100'000); ++i) ...
#ifndef THROTTL_TESTS_SCALE_H_
#define THROTTL_TESTS_SCALE_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace throttl::testing {

// `full` times the scale, at least 1.
inline std::int64_t Scaled(std::int64_t full) {
  const char* text = std::getenv("THROTTL_TEST_SCALE");
  const std::int64_t percent = text == nullptr ? 100 : std::atoll(text);
  return std::max<std::int64_t>(1, full * percent / 100);
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_SCALE_H_
