// RequestCounts counts the decisions of an engine, spread over lines so that threads do not wait
// for each other.
//
// Thread safety: all methods from any thread.
//
//   counts.Add(decision.allowed());
#ifndef THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_
#define THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace throttl::internal {

class RequestCounts {
 public:
  void Add(bool allowed) {
    const std::size_t own = LineOfThread();
    Line& line = lines_[own];
    std::atomic<std::int64_t>& count = allowed ? line.allowed : line.refused;
    if (own == kSharedLine) {
      count.fetch_add(1, std::memory_order_relaxed);
    } else {  // nobody else writes here, so the bus need not be locked
      count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
  void AddMiss() { misses_.fetch_add(1, std::memory_order_relaxed); }

  void AddShadowRefusals(std::int64_t count) {
    if (count != 0) shadow_refusals_.fetch_add(count, std::memory_order_relaxed);
  }

  std::int64_t shadow_refusals() const { return shadow_refusals_.load(std::memory_order_relaxed); }
  std::int64_t allowed() const {
    std::int64_t sum = 0;
    for (const Line& line : lines_) sum += line.allowed.load(std::memory_order_relaxed);
    return sum;
  }
  std::int64_t refused() const {
    std::int64_t sum = 0;
    for (const Line& line : lines_) sum += line.refused.load(std::memory_order_relaxed);
    return sum;
  }
  std::int64_t misses() const { return misses_.load(std::memory_order_relaxed); }

 private:
  // The first threads of a process have a line each, for good; the others share the last one.
  static constexpr std::size_t kLines = 32;
  static constexpr std::size_t kSharedLine = kLines - 1;
  struct alignas(64) Line {
    std::atomic<std::int64_t> allowed = 0;
    std::atomic<std::int64_t> refused = 0;
  };

  static std::size_t LineOfThread() {
    static std::atomic<std::size_t> next = 0;
    static thread_local const std::size_t kLine =
        std::min(next.fetch_add(1, std::memory_order_relaxed), kSharedLine);
    return kLine;
  }

  std::array<Line, kLines> lines_ = {};
  std::atomic<std::int64_t> misses_ = 0;
  std::atomic<std::int64_t> shadow_refusals_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_
