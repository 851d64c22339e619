// A CallGate counts the calls under way in an object, so that a fork can wait for them and hold
// back others.
//
// It is made of plain mutexes, one of which each call holds: a read-write lock is not usable after
// a fork (glibc unlocks it by thread id, which a child does not share), and a condition variable
// keeps waiters that the child does not have. So at most kCalls calls run at once; more wait their
// turn.
//
// Thread safety: all methods from any thread.
//
//   const CallGate::Call call(gate_);
#ifndef THROTTL_SRC_BASE_CALL_GATE_H_
#define THROTTL_SRC_BASE_CALL_GATE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "src/base/mutex.h"

namespace throttl::internal {

class CallGate {
 public:
  static constexpr std::size_t kCalls = 16;

  class Call {
   public:
    explicit Call(CallGate& gate) : turn_(gate.Enter()) {}
    ~Call() ABSL_NO_THREAD_SAFETY_ANALYSIS { turn_.Unlock(); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Mutex& turn_;
  };

  // Waits for the calls under way, and keeps others out until Open.
  void Close() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    door_.Lock();
    closing_.store(true, std::memory_order_relaxed);
    for (Mutex& turn : turns_) turn.Lock();
  }
  void Open() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (Mutex& turn : turns_) turn.Unlock();
    closing_.store(false, std::memory_order_relaxed);
    door_.Unlock();
  }

 private:
  Mutex& Enter() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    // A turn that is given back goes to whoever comes first: Close would wait long for its last.
    while (closing_.load(std::memory_order_relaxed)) {
      door_.Lock();
      door_.Unlock();
    }
    const std::uint32_t first = next_.fetch_add(1, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < kCalls; ++i) {
      Mutex& turn = turns_[(first + i) % kCalls];
      if (turn.TryLock()) return turn;
    }
    Mutex& turn = turns_[first % kCalls];
    turn.Lock();
    return turn;
  }

  Mutex door_;  // held while closed
  std::atomic<bool> closing_ = false;
  std::array<Mutex, kCalls> turns_;
  std::atomic<std::uint32_t> next_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_CALL_GATE_H_
