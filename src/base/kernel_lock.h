// A KernelLock excludes other processes, and other KernelLocks of this process, while it is held;
// the kernel releases it when its holder dies.
//
// It is a byte-range lock of the open file description (fcntl F_OFD_SETLK) on a file for locks
// alone. Its first byte is the lock; the 16 bytes after it are the places of a queue, in which
// whoever finds others waiting moves up one place at a time. So sixteen processes have it in turn,
// and nobody starves however long each holds it; more than that wait by chance for the last place.
// The kernel's own waiting has no bound, so the bytes are polled.
//
// Thread safety: all methods from any thread; threads of one process exclude each other too.
// Clang's analysis does not know a lock that may answer with an absl::Status, so there are no
// annotations.
//
//   KernelLock gate("throttl.db-gate");
//   THROTTL_RETURN_IF_ERROR(gate.Acquire(absl::Seconds(5)));
//   ...
//   gate.Release();
#ifndef THROTTL_SRC_BASE_KERNEL_LOCK_H_
#define THROTTL_SRC_BASE_KERNEL_LOCK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "src/base/mutex.h"

namespace throttl::internal {

class KernelLock {
 public:
  // The file at `path` is made with mode 0600 by the first Acquire, and is never removed.
  // Locks of one file lie kBytes or more apart.
  static constexpr std::int64_t kBytes = 32;
  explicit KernelLock(std::string path, std::int64_t first_byte = 0);
  ~KernelLock();
  KernelLock(const KernelLock&) = delete;
  KernelLock& operator=(const KernelLock&) = delete;

  // Waits at most `timeout`. Unavailable: another holder kept it so long. FailedPrecondition,
  // ResourceExhausted: the file cannot be opened or made. Not re-entrant.
  absl::Status Acquire(absl::Duration timeout);

  // REQUIRES: this thread holds the lock.
  void Release();

  // Around a fork: CloseForFork waits until no thread of this process holds the lock, closes the
  // descriptor (a child would share the lock through it, and drop it) and keeps others out until
  // ResumeAfterFork.
  void CloseForFork();
  void ResumeAfterFork();

  const std::string& path() const { return path_; }

 private:
  absl::Status OpenFile();
  absl::Status AcquireFile(absl::Time deadline, absl::Duration timeout);
  bool IsStillThere() const;
  void CloseFile();

  const std::string path_;
  const std::int64_t first_byte_;
  TimedMutex mutex_;
  int file_ = -1;  // guarded by mutex_
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_KERNEL_LOCK_H_
