// A Reciprocal divides by one number as the processor would, by a multiplication in its place.
//
// Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994: with 2^s <
// divisor <= 2^(s+1) and m = ceil(2^(64+s) / divisor), the quotient is m * dividend / 2^(64+s)
// rounded down. It is exact, as m * divisor exceeds 2^(64+s) by less than the divisor, and the
// dividend is below 2^63.
//
// Thread safety: a value.
//
//   const Reciprocal per_interval(interval_ns);
//   const std::int64_t units = per_interval.Divide(room_ns);
#ifndef THROTTL_SRC_POLICY_RECIPROCAL_H_
#define THROTTL_SRC_POLICY_RECIPROCAL_H_

#include <bit>
#include <cstdint>

namespace throttl::internal {

__extension__ using Unsigned128 = unsigned __int128;

class Reciprocal {
 public:
  Reciprocal() : Reciprocal(2) {}
  // REQUIRES: 2 <= divisor.
  explicit Reciprocal(std::int64_t divisor)
      : shift_(static_cast<int>(std::bit_width(static_cast<std::uint64_t>(divisor) - 1)) - 1) {
    const Unsigned128 below = (Unsigned128{1} << (64 + shift_)) - 1;
    multiplier_ = static_cast<std::uint64_t>(below / static_cast<std::uint64_t>(divisor)) + 1;
  }

  // REQUIRES: 0 <= dividend.
  std::int64_t Divide(std::int64_t dividend) const {
    const Unsigned128 product = Unsigned128{multiplier_} * static_cast<std::uint64_t>(dividend);
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(product >> 64) >> shift_);
  }

 private:
  int shift_;
  std::uint64_t multiplier_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_RECIPROCAL_H_
