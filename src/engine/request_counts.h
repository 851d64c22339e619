// RequestCounts counts the decisions of an engine, spread over lines so that threads do not wait
// for each other.
//
// Thread safety: all methods from any thread.
//
//   counts.Add(decision.allowed());
#ifndef THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_
#define THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace throttl::internal {

class RequestCounts {
 public:
  void Add(bool allowed) {
    Line& line = lines_[LineOfThread()];
    (allowed ? line.allowed : line.refused).fetch_add(1, std::memory_order_relaxed);
  }
  void AddMiss() { misses_.fetch_add(1, std::memory_order_relaxed); }

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
  static constexpr std::size_t kLines = 16;
  struct alignas(64) Line {
    std::atomic<std::int64_t> allowed = 0;
    std::atomic<std::int64_t> refused = 0;
  };

  static std::size_t LineOfThread() {
    static std::atomic<std::size_t> next = 0;
    static thread_local const std::size_t kLine =
        next.fetch_add(1, std::memory_order_relaxed) % kLines;
    return kLine;
  }

  std::array<Line, kLines> lines_ = {};
  std::atomic<std::int64_t> misses_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_REQUEST_COUNTS_H_
