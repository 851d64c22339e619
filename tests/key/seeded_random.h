// SeededRandom is a source of randomness that a test can repeat.
//
// Thread safety: each function that it gives belongs to one thread.
//
//   auto secret = GenerateSecret("thr_live", SeededRandom(seed));
#ifndef THROTTL_TESTS_KEY_SEEDED_RANDOM_H_
#define THROTTL_TESTS_KEY_SEEDED_RANDOM_H_

#include <cstdint>
#include <random>
#include <span>

#include "src/base/random_bytes.h"

namespace throttl::testing {

inline internal::RandomBytes SeededRandom(std::uint64_t seed) {
  return [generator = std::mt19937_64(seed)](std::span<std::uint8_t> bytes) mutable {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
  };
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_KEY_SEEDED_RANDOM_H_
