// A LeaseLock is one of the two locks of a lease table: between processes where the table is a
// file, else between the threads of one process.
//
// Thread safety: as KernelLock.
//
//   THROTTL_ASSIGN_OR_RETURN(const LeaseLock::Hold hold, lock.Acquire(absl::Milliseconds(50)));
#ifndef THROTTL_SRC_LEASE_LEASE_LOCK_H_
#define THROTTL_SRC_LEASE_LEASE_LOCK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "src/base/kernel_lock.h"
#include "src/base/mutex.h"

namespace throttl::internal {

class LeaseLock {
 public:
  // Gives the lock back when it is destroyed.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : lock_(other.lock_) { other.lock_ = nullptr; }
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (lock_ != nullptr) lock_->Release();
    }

   private:
    friend class LeaseLock;
    explicit Hold(LeaseLock* lock) : lock_(lock) {}
    LeaseLock* lock_ = nullptr;
  };

  // `path` of the file of locks, empty for a table of one process.
  LeaseLock(const std::string& path, std::int64_t first_byte)
      : kernel_(path.empty() ? nullptr : std::make_unique<KernelLock>(path, first_byte)) {}

  // Unavailable: another holder kept it for all of `timeout`. Not re-entrant.
  absl::StatusOr<Hold> Acquire(absl::Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (kernel_ != nullptr) {
      absl::Status status = kernel_->Acquire(timeout);
      if (!status.ok()) return status;
    } else if (!mutex_.TryLockFor(absl::ToChronoNanoseconds(timeout))) {
      return absl::UnavailableError("another thread has kept the lease table locked");
    }
    return Hold(this);
  }

  // Around a fork, as KernelLock's.
  void CloseForFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    kernel_ != nullptr ? kernel_->CloseForFork() : mutex_.Lock();
  }
  void ResumeAfterFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    kernel_ != nullptr ? kernel_->ResumeAfterFork() : mutex_.Unlock();
  }

 private:
  void Release() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    kernel_ != nullptr ? kernel_->Release() : mutex_.Unlock();
  }

  const std::unique_ptr<KernelLock> kernel_;
  TimedMutex mutex_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_LEASE_LOCK_H_
