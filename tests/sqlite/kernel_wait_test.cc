// How a KernelLock waits, by a clock that only its own sleeps move.

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"

#include "src/base/kernel_lock.h"
#include "tests/faults/fault_parts.h"

namespace {

constexpr std::int64_t kMs = 1'000'000;

// What the system is to the code of this program, while there is one.
struct System {
  std::int64_t now_ns = 1000 * kMs;  // of the steady clock
  struct Sleep {
    std::int64_t at_ns = 0;
    std::int64_t ns = 0;
  };
  std::vector<Sleep> sleeps = {};
  // What the next attempts to lock a byte end with; 0: as they do.
  std::vector<int> errors = {};
};
System* fake = nullptr;

class Faking {
 public:
  explicit Faking(System& system) { fake = &system; }
  ~Faking() { fake = nullptr; }
  Faking(const Faking&) = delete;
  Faking& operator=(const Faking&) = delete;
};

}  // namespace

// In the place of the C library's, also for the C++ library.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (fake == nullptr || clock != CLOCK_MONOTONIC) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  }
  *now = {fake->now_ns / (1000 * kMs), fake->now_ns % (1000 * kMs)};
  return 0;
}

extern "C" int nanosleep(const timespec* wanted, timespec* left) {
  if (fake == nullptr) return static_cast<int>(syscall(SYS_nanosleep, wanted, left));
  const std::int64_t ns = wanted->tv_sec * 1000 * kMs + wanted->tv_nsec;
  fake->sleeps.push_back({.at_ns = fake->now_ns, .ns = ns});
  fake->now_ns += ns;
  return 0;
}

extern "C" int fcntl(int file, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (fake != nullptr && command == F_OFD_SETLK && !fake->errors.empty()) {
    errno = fake->errors.front();
    fake->errors.erase(fake->errors.begin());
    if (errno != 0) return -1;
  }
  return static_cast<int>(syscall(SYS_fcntl, file, command, argument));
}

namespace throttl::internal {
namespace {

using testing::ScratchDirectory;

constexpr absl::Duration kTimeout = absl::Seconds(10);

TEST_CASE("a lock is waited for up to `timeout`, asked for often at first and then less often") {
  const ScratchDirectory scratch;
  KernelLock holder(scratch / "lock");
  REQUIRE(holder.Acquire(kTimeout).ok());
  KernelLock waiting(scratch / "lock");
  System system;
  const std::int64_t start_ns = system.now_ns;
  absl::Status status;
  {
    const Faking faking(system);
    status = waiting.Acquire(kTimeout);
  }
  CHECK(absl::IsUnavailable(status));
  // No sleep goes on beyond the deadline.
  const std::int64_t waited_ns = system.now_ns - start_ns;
  CHECK(waited_ns <= 10'000 * kMs);
  CHECK(waited_ns >= 9'000 * kMs);
  std::int64_t before_ns = 0;
  bool often_at_first = true;
  bool ever_less_often = true;
  system.sleeps.pop_back();  // what was left
  for (const System::Sleep& sleep : system.sleeps) {
    if (sleep.at_ns - start_ns < 20 * kMs) often_at_first &= sleep.ns == kMs / 25;
    ever_less_often &= sleep.ns >= before_ns;
    before_ns = sleep.ns;
  }
  CHECK(often_at_first);
  CHECK(ever_less_often);
  CHECK(system.sleeps.front().ns == kMs / 25);
  CHECK(system.sleeps.back().ns == 2 * kMs);
  holder.Release();
}

// Whether anybody has any byte of the file.
bool IsLockedAnywhere(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  const bool asked = fcntl(file, F_OFD_GETLK, &lock) == 0;
  close(file);
  return !asked || lock.l_type != F_UNLCK;
}

TEST_CASE("an attempt that a signal interrupted is made again, and another error ends the wait") {
  const ScratchDirectory scratch;
  KernelLock lock(scratch / "lock");
  // The first is of the lock itself, then come the places of the queue.
  System system;
  system.errors = {EINTR, EINTR, EAGAIN, EINTR};
  {
    const Faking faking(system);
    CHECK(lock.Acquire(kTimeout).ok());
  }
  CHECK(system.errors.empty());
  CHECK(IsLockedAnywhere(lock.path()));
  lock.Release();
  for (const int error : {EACCES, ENOLCK, EIO}) {
    system.errors = {EAGAIN, 0, error};
    const std::int64_t before_ns = system.now_ns;
    absl::Status status;
    {
      const Faking faking(system);
      status = lock.Acquire(kTimeout);
    }
    CHECK(status.code() == (error == EACCES ? absl::StatusCode::kFailedPrecondition
                                            : absl::StatusCode::kUnavailable));
    CHECK(absl::StartsWith(status.message(), absl::StrCat("locking ", lock.path(), ": ")));
    CHECK(system.now_ns - before_ns < 20 * kMs);
    CHECK(system.errors.empty());
    CHECK(!IsLockedAnywhere(lock.path()));
  }
}

}  // namespace
}  // namespace throttl::internal
