// BenchKeys are keys with their secrets, for stores that a benchmark makes.
//
// Thread safety: immutable.
//
//   const BenchKeys keys(1'000'000);
//   keys.PutInto(*store);
#ifndef THROTTL_BENCHMARKS_BENCH_KEYS_H_
#define THROTTL_BENCHMARKS_BENCH_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "throttl/quota_store.h"

#include "src/lease/huge_pages.h"

namespace throttl::benchmarks {

// What a benchmark cannot go on without: prints `what` and exits unless `holds`.
void Require(bool holds, std::string_view what);

class BenchKeys {
 public:
  // The same keys whenever they are made.
  explicit BenchKeys(std::size_t count);

  std::size_t size() const { return size_; }
  std::string_view secret(std::size_t number) const {
    return {secrets_[number].text.data(), secrets_[number].size};
  }
  // A request has just read its secret, so that it is in the cache: asks for it ahead.
  void Prefetch(std::size_t number) const { __builtin_prefetch(&secrets_[number]); }

  static std::string IdOf(std::size_t number);
  static std::string OwnerOf(std::size_t number);
  static constexpr const char* kPlanId = "benchmark";

  // Puts the first `count` of them on a plan with a monthly quota that no benchmark uses up.
  void PutInto(QuotaStore& store, std::size_t count) const;

 private:
  struct alignas(64) Text {
    std::array<char, 63> text = {};
    std::uint8_t size = 0;
  };
  KeyRecord RecordOf(std::size_t number) const;

  std::size_t size_;
  internal::HugeArray<Text> secrets_;
};

// Numbers below `count` at random, the same ones whenever they are drawn.
class Picker {
 public:
  Picker(std::size_t count, std::uint64_t seed) : count_(count), state_(seed * 2 + 1) {}

  // xorshift64* (Vigna, 2016): some 2 ns.
  std::size_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    const std::uint64_t drawn = (state_ * 0x2545F4914F6CDD1D) >> 32;
    return static_cast<std::size_t>((drawn * count_) >> 32);
  }

 private:
  const std::uint64_t count_;
  std::uint64_t state_;
};

}  // namespace throttl::benchmarks

#endif  // THROTTL_BENCHMARKS_BENCH_KEYS_H_
