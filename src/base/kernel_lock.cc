#include "src/base/kernel_lock.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/errno_status.h"
#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

using Nanoseconds = std::chrono::nanoseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

// Counted from the lock's first byte.
constexpr off_t kLockByte = 0;
constexpr off_t kQueueFirst = 1;
constexpr off_t kQueueLast = 16;

// The bytes of one lock in its file.
struct LockBytes {
  int file = -1;
  off_t first = 0;
};
constexpr int kSpins = 16;
constexpr Nanoseconds kPollMin = std::chrono::microseconds(40);
constexpr Nanoseconds kPatience = std::chrono::milliseconds(20);
constexpr Nanoseconds kPollMax = std::chrono::milliseconds(2);

// Whether `bytes.file` now has the byte locked. errno is EAGAIN when another one has it.
bool TryLockByte(LockBytes bytes, off_t byte) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = bytes.first + byte;
  lock.l_len = 1;
  return fcntl(bytes.file, F_OFD_SETLK, &lock) == 0;
}

void UnlockByte(LockBytes bytes, off_t byte) {
  struct flock lock = {};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = bytes.first + byte;
  lock.l_len = 1;
  static_cast<void>(fcntl(bytes.file, F_OFD_SETLK, &lock));  // cannot fail for a lock that is held
}

// Whether anybody stands in the queue, as far as can be told.
bool IsQueued(LockBytes bytes) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = bytes.first + kQueueFirst;
  lock.l_len = kQueueLast - kQueueFirst + 1;
  return fcntl(bytes.file, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

// Linux says EAGAIN where POSIX has EACCES too, which here is a security module that forbids it.
bool MayPass(int error) { return error == EAGAIN || error == EINTR; }

// How long to sleep before asking again: equally often for everybody while commits are what is
// waited for, so that who has waited longer has no smaller chance; less often when the holder seems
// stopped.
Nanoseconds PollInterval(Nanoseconds waited) {
  return waited < kPatience ? kPollMin : std::clamp<Nanoseconds>(waited / 64, kPollMin, kPollMax);
}

// 0: locked; EAGAIN: not by the deadline; else an errno.
int WaitForByte(LockBytes bytes, off_t byte, SteadyTime deadline) {
  const SteadyTime start = std::chrono::steady_clock::now();
  for (int tries = 0;; ++tries) {
    if (TryLockByte(bytes, byte)) return 0;
    if (!MayPass(errno)) return errno;
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now >= deadline) return EAGAIN;
    if (tries < kSpins) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::min<Nanoseconds>(PollInterval(now - start), deadline - now));
    }
  }
}

// Takes places in the queue from the last to the first, and then the lock. A place is left only
// when the next one is held, so nobody is overtaken there. The same results.
int QueueForLock(LockBytes bytes, SteadyTime deadline) {
  if (!IsQueued(bytes) && TryLockByte(bytes, kLockByte)) return 0;
  // Then the lock is tried from wherever this is: somebody ahead may be stopped, without having it.
  const SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime patience = now + (deadline - now) / 2;
  int error = 0;
  off_t place = kQueueLast + 1;
  while (place > kQueueFirst) {
    error = WaitForByte(bytes, place - 1, patience);
    if (error != 0) break;
    if (place <= kQueueLast) UnlockByte(bytes, place);
    --place;
  }
  if (error == 0 || error == EAGAIN) error = WaitForByte(bytes, kLockByte, deadline);
  if (place <= kQueueLast) UnlockByte(bytes, place);
  return error;
}

}  // namespace

KernelLock::KernelLock(std::string path, std::int64_t first_byte)
    : path_(std::move(path)), first_byte_(first_byte) {}

KernelLock::~KernelLock() { CloseFile(); }

void KernelLock::CloseFile() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

absl::Status KernelLock::OpenFile() {
  if (file_ >= 0) return absl::OkStatus();
  file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file_ < 0) return ErrnoStatus(errno, absl::StrCat("opening the lock file ", path_));
  return absl::OkStatus();
}

// False when the file was removed or replaced: another process would lock another file then.
bool KernelLock::IsStillThere() const {
  struct stat mine = {};
  struct stat there = {};
  return fstat(file_, &mine) == 0 && stat(path_.c_str(), &there) == 0 &&
         mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

absl::Status KernelLock::AcquireFile(absl::Time deadline, absl::Duration timeout) {
  const SteadyTime steady_deadline =
      std::chrono::steady_clock::now() +
      absl::ToChronoNanoseconds(std::max(deadline - absl::Now(), absl::ZeroDuration()));
  for (;;) {
    THROTTL_RETURN_IF_ERROR(OpenFile());
    const int error = QueueForLock({file_, first_byte_}, steady_deadline);
    if (error == EAGAIN) {
      return absl::UnavailableError(
          absl::StrCat("another process has held ", path_, " for ", absl::FormatDuration(timeout)));
    }
    if (error != 0) return ErrnoStatus(error, absl::StrCat("locking ", path_));
    if (IsStillThere()) return absl::OkStatus();
    CloseFile();
  }
}

absl::Status KernelLock::Acquire(absl::Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const absl::Time deadline = absl::Now() + timeout;
  if (!mutex_.TryLockFor(absl::ToChronoNanoseconds(timeout))) {
    return absl::UnavailableError(
        absl::StrCat("another thread has held ", path_, " for ", absl::FormatDuration(timeout)));
  }
  absl::Status status = AcquireFile(deadline, timeout);
  if (!status.ok()) mutex_.Unlock();
  return status;
}

void KernelLock::Release() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  UnlockByte({file_, first_byte_}, kLockByte);
  mutex_.Unlock();
}

void KernelLock::CloseForFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  mutex_.Lock();
  CloseFile();
}

void KernelLock::ResumeAfterFork() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Unlock(); }

}  // namespace throttl::internal
