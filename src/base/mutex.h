// Mutexes with the annotations that clang's thread-safety analysis checks. They are std mutexes
// inside, because ThreadSanitizer reports false races in a prebuilt absl::Mutex.
//
// Thread safety: that is their purpose.
//
//   Mutex mutex_;
//   int count_ THROTTL_GUARDED_BY(mutex_) = 0;
//   const MutexLock lock(mutex_);
#ifndef THROTTL_SRC_BASE_MUTEX_H_
#define THROTTL_SRC_BASE_MUTEX_H_

#include <chrono>
#include <mutex>
#include <shared_mutex>

#include "absl/base/thread_annotations.h"

#define THROTTL_GUARDED_BY(mutex) ABSL_GUARDED_BY(mutex)
#define THROTTL_REQUIRES(mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex)

namespace throttl::internal {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A mutex that is waited for up to a bound. The bound is taken by the system clock, because the
// ThreadSanitizer of g++ 12 does not see a lock that was taken by the steady one.
class ABSL_LOCKABLE TimedMutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  bool TryLockFor(std::chrono::nanoseconds timeout) ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    return mutex_.try_lock_until(
        std::chrono::system_clock::now() +
        std::chrono::duration_cast<std::chrono::system_clock::duration>(timeout));
  }

 private:
  std::timed_mutex mutex_;
};

class ABSL_LOCKABLE SharedMutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  void LockShared() ABSL_SHARED_LOCK_FUNCTION() { mutex_.lock_shared(); }
  void UnlockShared() ABSL_UNLOCK_FUNCTION() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_MUTEX_H_
