// What the crash tests share: a directory that goes, memory that processes share, a report of what
// went wrong in any of them, and children.
//
// Thread safety: Report::Add from any thread and process; the rest belongs to one thread.
//
//   Shared<Report> report;
//   const pid_t child = StartChild([&] { return Work(*report); }, {.seconds_max = 60});
//   CHECK(WaitForChild(child) == "");
#ifndef THROTTL_TESTS_CRASH_CRASH_PARTS_H_
#define THROTTL_TESTS_CRASH_CRASH_PARTS_H_

#include <sys/mman.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

namespace throttl::testing {

// Goes, with everything in it, when the test ends.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const;

 private:
  std::string path_;
};

// A T in memory that this process shares with the children that it starts afterwards. T needs no
// destructor.
template <typename T>
class Shared {
 public:
  Shared() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    value_ = new (memory) T();
  }
  ~Shared() { munmap(value_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

// The first things that went wrong, in any process, and how many there were.
class Report {
 public:
  void Add(std::string_view problem);
  std::int64_t count() const { return count_.load(); }
  // One problem a line; empty when there was none.
  std::string Text() const;

 private:
  static constexpr std::size_t kKept = 16;
  std::atomic<std::int64_t> count_ = 0;
  std::array<std::array<char, 400>, kKept> problems_ = {};
};

struct ChildOptions {
  unsigned seconds_max = 120;  // afterwards SIGALRM ends it, which WaitForChild reports
};

// Runs `body` in a forked child, which ends with what it returns, and dies with its parent.
pid_t StartChild(const std::function<int()>& body, const ChildOptions& options = {});

// Empty when the child ended by itself with 0; else what became of it.
std::string WaitForChild(pid_t child);

// The seed of this run: THROTTL_TEST_SEED, or one drawn now.
std::uint64_t RunSeed();

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_CRASH_PARTS_H_
