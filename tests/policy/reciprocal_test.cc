#include "src/policy/reciprocal.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "tests/scale.h"

namespace throttl::internal {
namespace {

using testing::Scaled;

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST_CASE("divides as the processor would: around powers of two and multiples of the divisor") {
  std::vector<std::int64_t> edges = {2, 3, 1'000, kMax - 1, kMax};
  for (int bits = 2; bits < 63; ++bits) {
    for (const std::int64_t by : {-1, 0, 1}) edges.push_back((std::int64_t{1} << bits) + by);
  }
  std::int64_t wrong = 0;
  for (const std::int64_t divisor : edges) {
    const Reciprocal reciprocal(divisor);
    const auto check = [&](std::int64_t dividend) {
      if (reciprocal.Divide(dividend) != dividend / divisor) ++wrong;
    };
    for (const std::int64_t dividend : {std::int64_t{0}, std::int64_t{1}}) check(dividend);
    for (const std::int64_t dividend : edges) {
      check(dividend);
      const std::int64_t multiple = dividend / divisor * divisor;
      check(multiple);
      check(std::max<std::int64_t>(0, multiple - 1));
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("divides as the processor would: any numbers of any size") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const auto draw = [&] { return static_cast<std::int64_t>(random() >> (1 + random() % 62)); };
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < Scaled(3'000'000); ++i) {
    const std::int64_t divisor = std::max<std::int64_t>(2, draw());
    const Reciprocal reciprocal(divisor);
    const std::int64_t dividend = draw();
    const std::int64_t multiple = dividend / divisor * divisor;
    for (const std::int64_t each : {dividend, multiple, std::max<std::int64_t>(0, multiple - 1)}) {
      if (reciprocal.Divide(each) != each / divisor) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace throttl::internal
