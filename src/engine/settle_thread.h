// A SettleThread settles in the background, at an interval.
//
// Thread safety: Start and Stop from one thread at a time. A forked child has no such thread: the
// object that it inherits must not be destroyed there, and is to be abandoned.
//
//   SettleThread thread(absl::Milliseconds(250), [&] { settler.Settle().IgnoreError(); });
#ifndef THROTTL_SRC_ENGINE_SETTLE_THREAD_H_
#define THROTTL_SRC_ENGINE_SETTLE_THREAD_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/time/time.h"

namespace throttl::internal {

class SettleThread {
 public:
  // `settle` must not throw.
  SettleThread(absl::Duration interval, std::function<void()> settle)
      : interval_(absl::ToChronoNanoseconds(interval)), settle_(std::move(settle)) {
    thread_ = std::thread([this] { Run(); });
  }
  // Waits for the settle under way.
  ~SettleThread() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  SettleThread(const SettleThread&) = delete;
  SettleThread& operator=(const SettleThread&) = delete;

 private:
  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    // By the system's clock, as in mutex.h. A jump of it settles early or late, and loses nothing.
    while (!changed_.wait_until(lock, std::chrono::system_clock::now() + interval_,
                                [this] { return ends_; })) {
      lock.unlock();
      settle_();
      lock.lock();
    }
  }

  const std::chrono::nanoseconds interval_;
  const std::function<void()> settle_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_SETTLE_THREAD_H_
