// What objects of the library are told about a fork, in the parent and in the child.

#include "src/base/fork_registry.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

constexpr unsigned kHangSeconds = 60;

// Takes part in forks while it lives; says to `told` what it is told.
class Part final : public ForkParticipant {
 public:
  Part(std::string name, std::string& told) : name_(std::move(name)), told_(told) {
    AddForkParticipant(this);
  }
  ~Part() override { RemoveForkParticipant(this); }

  void BeforeFork() override {
    told_ += " before " + name_;
    if (before != nullptr) before();
  }
  void AfterFork() override { told_ += " after " + name_; }

  std::function<void()> before = nullptr;

 private:
  const std::string name_;
  std::string& told_;
};

// Whether `holds` is true in a forked child, which is ended when it hangs.
bool HoldsInChild(const std::function<bool()>& holds) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(kHangSeconds);
    _exit(holds() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The first case, before anybody has joined.
TEST_CASE("a child has one fork more than its parent, also when nobody takes part") {
  const std::uint64_t own = ForkGeneration();
  for (int i = 0; i < 2; ++i) {
    CHECK(HoldsInChild([&] {
      return ForkGeneration() == own + 1 &&
             HoldsInChild([&] { return ForkGeneration() == own + 2; });
    }));
    CHECK(ForkGeneration() == own);
  }
}

TEST_CASE("BeforeFork is called in the reverse order of Add, AfterFork in the order of Add") {
  std::string told;
  const Part one("1", told);
  auto two = std::make_unique<Part>("2", told);
  const Part three("3", told);
  const std::string all = " before 3 before 2 before 1 after 1 after 2 after 3";
  CHECK(HoldsInChild([&] { return told == all; }));
  CHECK(told == all);
  told.clear();
  two.reset();
  const std::string left = " before 3 before 1 after 1 after 3";
  CHECK(HoldsInChild([&] { return told == left; }));
  CHECK(told == left);
}

TEST_CASE("who joins or leaves while a fork is under way waits for its end") {
  std::string told;
  std::string told_late;
  std::atomic<bool> begun = false;
  std::atomic<bool> joined = false;
  std::thread late;
  const Part last("last", told);
  Part first("first", told);
  first.before = [&] {
    late = std::thread([&] {
      begun = true;
      const Part part("late", told_late);
      joined = true;
    });
    while (!begun) sched_yield();
    for (int i = 0; i < 2000 && !joined; ++i) sched_yield();
    told += joined ? " joined" : " waits";
  };
  const std::string before = " before first waits before last";
  CHECK(HoldsInChild([&] {
    std::string told_child;
    const Part part("child", told_child);  // the lock is free here, too
    return told == before + " after last after first" && !joined;
  }));
  late.join();
  CHECK(told == before + " after last after first");
  CHECK(joined);
  CHECK(told_late.empty());
}

}  // namespace
}  // namespace throttl::internal
