// The lock that a store's gate is made of, between threads, processes and forks.

#include "src/base/kernel_lock.h"

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"

#include "src/base/fork_registry.h"
#include "tests/faults/fault_parts.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

using testing::InChild;
using testing::Scaled;
using testing::ScratchDirectory;
using testing::SharedWithChildren;
using testing::StartChild;
using testing::WaitForChild;
using testing::WaitUntil;

constexpr absl::Duration kLong = absl::Seconds(30);

// What only a holder touches: two that are inside at once are seen.
struct Inside {
  std::atomic<int> holders = 0;
  std::atomic<int> overlaps = 0;
  std::atomic<std::int64_t> times = 0;
  std::atomic<bool> held = false;
  std::atomic<bool> leave = false;
};

void Visit(Inside& inside) {
  if (++inside.holders != 1) ++inside.overlaps;
  sched_yield();
  inside.times.store(inside.times.load() + 1);
  --inside.holders;
}

// 0 when each of `times` visits was under the lock.
int VisitLocked(KernelLock& lock, std::int64_t times, Inside& inside) {
  for (std::int64_t i = 0; i < times; ++i) {
    if (!lock.Acquire(kLong).ok()) return 1;
    Visit(inside);
    lock.Release();
  }
  return 0;
}

// A child that holds the lock at `path` until it is told to leave.
pid_t StartHolder(const std::string& path, Inside& inside) {
  const pid_t child = StartChild([&] {
    KernelLock lock(path);
    if (!lock.Acquire(kLong).ok()) return 1;
    inside.held = true;
    while (!inside.leave) usleep(1000);
    lock.Release();
    return 0;
  });
  REQUIRE(WaitUntil([&] { return inside.held.load(); }));
  return child;
}

TEST_CASE("it excludes other processes, and other KernelLocks of this process") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  const SharedWithChildren<Inside> inside;
  const std::int64_t times = Scaled(2000);
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(StartChild([&] {
      KernelLock lock(path);
      return VisitLocked(lock, times, *inside);
    }));
  }
  KernelLock first(path);
  KernelLock second(path);
  std::vector<std::thread> threads;
  for (KernelLock* lock : {&first, &first, &second, &second}) {
    threads.emplace_back([&, lock] { CHECK(VisitLocked(*lock, times, *inside) == 0); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const pid_t child : children) CHECK(WaitForChild(child) == "exit 0");
  CHECK(inside->overlaps == 0);
  CHECK(inside->times == 8 * times);
}

TEST_CASE("waits at most `timeout`; Unavailable: another process kept it so long") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  const SharedWithChildren<Inside> inside;
  const pid_t holder = StartHolder(path, *inside);
  KernelLock lock(path);
  const absl::Time start = absl::Now();
  const absl::Status status = lock.Acquire(absl::Milliseconds(50));
  const absl::Duration waited = absl::Now() - start;
  CHECK(status.ToString() ==
        absl::StrCat("UNAVAILABLE: another process has held ", path, " for 50ms"));
  CHECK(waited >= absl::Milliseconds(50));
  CHECK(waited < absl::Seconds(5));
  inside->leave = true;
  CHECK(WaitForChild(holder) == "exit 0");
  REQUIRE(lock.Acquire(absl::Milliseconds(50)).ok());
  lock.Release();
}

TEST_CASE("waits at most `timeout`; Unavailable: another thread kept it so long") {
  const ScratchDirectory scratch;
  KernelLock lock(scratch / "lock");
  REQUIRE(lock.Acquire(kLong).ok());
  absl::Status status;
  std::thread([&] { status = lock.Acquire(absl::Milliseconds(20)); }).join();
  CHECK(status.ToString() ==
        absl::StrCat("UNAVAILABLE: another thread has held ", lock.path(), " for 20ms"));
  lock.Release();
  std::thread([&] {
    status = lock.Acquire(absl::Milliseconds(20));
    if (status.ok()) lock.Release();
  }).join();
  CHECK(status.ok());
}

TEST_CASE("the kernel releases it when its holder dies") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  KernelLock lock(path);
  for (int i = 0; i < 10; ++i) {
    const SharedWithChildren<Inside> inside;
    const pid_t holder = StartHolder(path, *inside);
    CHECK(absl::IsUnavailable(lock.Acquire(absl::Milliseconds(1))));
    REQUIRE(kill(holder, SIGKILL) == 0);
    CHECK(WaitForChild(holder) == "signal 9");
    const absl::Status status = lock.Acquire(absl::Milliseconds(1));
    CHECK_MESSAGE(status.ok(), status.ToString());
    if (status.ok()) lock.Release();
  }
}

TEST_CASE("a stopped holder, or one that waits in the queue, hangs nobody beyond the timeout") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  const SharedWithChildren<Inside> inside;
  const pid_t holder = StartHolder(path, *inside);
  // It stands in the queue, before the lock itself, when it is stopped.
  const pid_t waiting = StartChild([&] {
    KernelLock lock(path);
    return lock.Acquire(kLong).ok() ? 0 : 1;
  });
  for (const pid_t child : {holder, waiting}) REQUIRE(kill(child, SIGSTOP) == 0);
  KernelLock lock(path);
  const absl::Time start = absl::Now();
  CHECK(absl::IsUnavailable(lock.Acquire(absl::Milliseconds(30))));
  CHECK(absl::Now() - start < absl::Seconds(5));
  inside->leave = true;
  for (const pid_t child : {holder, waiting}) REQUIRE(kill(child, SIGCONT) == 0);
  for (const pid_t child : {holder, waiting}) CHECK(WaitForChild(child) == "exit 0");
  REQUIRE(lock.Acquire(kLong).ok());
  lock.Release();
}

TEST_CASE("CloseForFork: a child neither shares the lock nor drops it") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  const SharedWithChildren<Inside> inside;
  KernelLock lock(path);
  REQUIRE(lock.Acquire(kLong).ok());
  lock.Release();
  lock.CloseForFork();
  const pid_t child = fork();
  REQUIRE(child >= 0);
  lock.ResumeAfterFork();
  if (child == 0) {
    // The parent has the lock by then, and this process must not get in or let others in.
    while (!inside->held) usleep(100);
    if (!absl::IsUnavailable(lock.Acquire(absl::Milliseconds(20)))) _exit(1);
    inside->leave = true;
    if (!lock.Acquire(kLong).ok()) _exit(2);
    if (inside->held) _exit(3);
    lock.Release();
    _exit(0);
  }
  REQUIRE(lock.Acquire(kLong).ok());
  inside->held = true;
  CHECK(WaitUntil([&] { return inside->leave.load(); }));
  CHECK(InChild([&] {
          KernelLock other(path);
          return other.Acquire(absl::Milliseconds(1)).ok() ? "got in" : "kept out";
        }) == "kept out");
  inside->held = false;
  lock.Release();
  CHECK(WaitForChild(child) == "exit 0");
}

TEST_CASE("CloseForFork waits until no thread of this process holds the lock") {
  const ScratchDirectory scratch;
  KernelLock lock(scratch / "lock");
  REQUIRE(lock.Acquire(kLong).ok());
  std::atomic<bool> begun = false;
  std::atomic<bool> closed = false;
  std::thread forking([&] {
    begun = true;
    lock.CloseForFork();
    closed = true;
    lock.ResumeAfterFork();
  });
  while (!begun) sched_yield();
  bool early = false;
  for (int i = 0; i < 2000; ++i) {
    sched_yield();
    early = early || closed;
  }
  CHECK(!early);
  lock.Release();
  forking.join();
  CHECK(closed);
}

TEST_CASE("a lock file that was removed or replaced is noticed: the new one is locked") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  KernelLock lock(path);
  for (const bool replaced : {false, true}) {
    REQUIRE(lock.Acquire(kLong).ok());
    lock.Release();
    REQUIRE(unlink(path.c_str()) == 0);
    if (replaced) testing::WriteBytes(path, "");
    REQUIRE(lock.Acquire(kLong).ok());
    CHECK(std::filesystem::exists(path));
    KernelLock other(path);
    CHECK(absl::IsUnavailable(other.Acquire(absl::Milliseconds(1))));
    lock.Release();
  }
}

TEST_CASE("the file is made with mode 0600; one that cannot be made is an error that names it") {
  const ScratchDirectory scratch;
  const mode_t mask = umask(0);
  KernelLock lock(scratch / "lock");
  REQUIRE(lock.Acquire(kLong).ok());
  lock.Release();
  umask(mask);
  struct stat info = {};
  REQUIRE(stat(lock.path().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);

  REQUIRE(symlink("lock", (scratch / "link").c_str()) == 0);
  KernelLock through_link(scratch / "link");
  const absl::Status status = through_link.Acquire(kLong);
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(status.message(), scratch / "link"));
  KernelLock nowhere(scratch / "missing/lock");
  CHECK(absl::IsNotFound(nowhere.Acquire(kLong)));
}

TEST_CASE("a lock that is gone leaves no descriptor open") {
  const ScratchDirectory scratch;
  const auto open_files = [] {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  const auto before = open_files();
  {
    KernelLock lock(scratch / "lock");
    REQUIRE(lock.Acquire(kLong).ok());
    lock.Release();
    CHECK(open_files() == before + 1);
  }
  CHECK(open_files() == before);
}

// One byte of a lock's file, as another process sees it.
class QueueByte {
 public:
  QueueByte(const std::string& path, off_t byte)
      : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)), byte_(byte) {
    REQUIRE(file_ >= 0);
  }
  ~QueueByte() { close(file_); }
  QueueByte(const QueueByte&) = delete;
  QueueByte& operator=(const QueueByte&) = delete;

  bool IsTaken() const { return Ask(F_OFD_GETLK).l_type != F_UNLCK; }
  void Take() const { Ask(F_OFD_SETLK); }

 private:
  struct flock Ask(int command) const {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte_;
    lock.l_len = 1;
    CHECK(fcntl(file_, command, &lock) == 0);
    return lock;
  }

  const int file_;
  const off_t byte_;
};

TEST_CASE("a place in the queue is left only when the next one is held, so nobody is overtaken") {
  const ScratchDirectory scratch;
  KernelLock lock(scratch / "lock");
  REQUIRE(lock.Acquire(kLong).ok());
  const QueueByte first(lock.path(), 1);
  const QueueByte second(lock.path(), 2);
  const QueueByte third(lock.path(), 3);
  std::atomic<int> acquired = 0;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back([&] {
      KernelLock mine(lock.path());
      if (!mine.Acquire(2 * kLong).ok()) return;
      ++acquired;
      mine.Release();
    });
  }
  CHECK(WaitUntil([&] { return first.IsTaken() && second.IsTaken() && third.IsTaken(); }));
  CHECK(acquired == 0);
  lock.Release();
  for (std::thread& waiter : waiters) waiter.join();
  CHECK(acquired == 3);
  for (const QueueByte* place : {&first, &second, &third}) CHECK(!place->IsTaken());
}

TEST_CASE("whoever finds others waiting queues up; half of the timeout later it tries the lock") {
  const ScratchDirectory scratch;
  KernelLock lock(scratch / "lock");
  REQUIRE(lock.Acquire(kLong).ok());
  lock.Release();
  // Somebody who was stopped at the head of the queue, without the lock.
  const QueueByte stopped(lock.path(), 1);
  stopped.Take();
  constexpr absl::Duration kTimeout = absl::Seconds(1);
  const absl::Time start = absl::Now();
  CHECK(lock.Acquire(kTimeout).ok());
  const absl::Duration waited = absl::Now() - start;
  CHECK(waited >= kTimeout / 2);
  CHECK(waited < kTimeout);
  lock.Release();
}

TEST_CASE("nobody starves: each of 4 processes gets in while all want in all the time") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  struct Turns {
    std::array<std::atomic<std::int64_t>, 4> of = {};
    std::atomic<std::int64_t> all = 0;
  };
  const SharedWithChildren<Turns> turns;
  const std::int64_t total = Scaled(4000);
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < 4; ++i) {
    children.push_back(StartChild([&, i] {
      KernelLock lock(path);
      while (turns->all < total) {
        if (!lock.Acquire(kLong).ok()) return 1;
        ++turns->of[i];
        ++turns->all;
        for (const absl::Time end = absl::Now() + absl::Microseconds(200); absl::Now() < end;) {
        }
        lock.Release();
      }
      return 0;
    }));
  }
  for (const pid_t child : children) CHECK(WaitForChild(child) == "exit 0");
  std::string text = "turns:";
  for (const auto& of : turns->of) {
    absl::StrAppend(&text, " ", of.load());
    CHECK(of > total / 4 / 4);
  }
  MESSAGE(text);
}

}  // namespace
}  // namespace throttl::internal
