// Eight processes that write as fast as they can, at the same time, through the gate of one file.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "src/base/kernel_lock.h"
#include "tests/crash/crash_parts.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kProcesses = 8;

struct Race {
  std::atomic<std::size_t> ready = 0;
  std::atomic<bool> started = false;
  std::atomic<bool> ended = false;
  std::array<std::atomic<std::int64_t>, kProcesses> written = {};
  Report report;
};

void WaitUntil(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::yield();
}

int WriteUntilEnd(const std::string& url, Race& race, std::size_t number) {
  auto engine = Engine::Open(url, {.settle_thread = false});
  if (!engine.ok()) {
    race.report.Add("open: " + engine.status().ToString());
    return 1;
  }
  ++race.ready;
  WaitUntil(race.started);
  while (!race.ended.load()) {
    const auto issued = (*engine)->CreateKey({.owner_id = "owner"});
    if (!issued.ok()) race.report.Add("create: " + issued.status().ToString());
    if (issued.ok()) ++race.written[number];
  }
  return 0;
}

// How many keys the file holds, counted by a process that has not seen them made.
std::int64_t CountKeys(const std::string& url) {
  const Shared<std::atomic<std::int64_t>> count;
  const pid_t child = StartChild([&] {
    auto engine = Engine::Open(url, {.settle_thread = false});
    if (!engine.ok()) return 1;
    KeyQuery query{.count_max = 1000};
    do {
      const auto page = (*engine)->ListKeys(query);
      if (!page.ok()) return 1;
      *count += static_cast<std::int64_t>(page->items.size());
      query.cursor = page->next_cursor;
    } while (!query.cursor.empty());
    return 0;
  });
  REQUIRE(WaitForChild(child) == "");
  return count->load();
}

void CheckFairness(const std::string& durability) {
  const ScratchDirectory directory;
  const std::string url = "sqlite:" + directory.File("fair.db") + "?durability=" + durability;
  // A second at least: a share of a few writes says nothing.
  const std::chrono::milliseconds length(std::max<std::int64_t>(1000, Scaled(5000)));
  const Shared<Race> race;
  std::vector<pid_t> children;
  for (std::size_t i = 0; i < kProcesses; ++i) {
    children.push_back(StartChild([&, i] { return WriteUntilEnd(url, *race, i); }));
  }
  while (race->ready.load() < kProcesses && race->report.count() == 0) std::this_thread::yield();
  race->started = true;
  std::this_thread::sleep_for(length);
  race->ended = true;
  for (const pid_t child : children) CHECK(WaitForChild(child) == "");

  CHECK_MESSAGE(race->report.count() == 0, race->report.Text());
  std::int64_t total = 0;
  for (const auto& written : race->written) total += written.load();
  REQUIRE(total > 0);
  std::string text = "durability=" + durability + ": " + std::to_string(total) + " keys in " +
                     std::to_string(length.count()) + " ms; percent of a fair share:";
  for (const auto& written : race->written) {
    const std::int64_t percent =
        written.load() * 100 * static_cast<std::int64_t>(kProcesses) / total;
    text += " " + std::to_string(percent);
    CHECK(percent >= 50);
  }
  MESSAGE(text);
  CHECK(CountKeys(url) == total);
}

TEST_CASE("eight processes that write for 5 s each get half of their fair share, and no error") {
  CheckFairness("process");
}

TEST_CASE("the same with durability=power") { CheckFairness("power"); }

// Whether anybody waits for the lock at `path`, seen from outside.
bool SomebodyWaits(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(file >= 0);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 1;
  const bool asked = fcntl(file, F_OFD_GETLK, &lock) == 0;
  close(file);
  return asked && lock.l_type != F_UNLCK;
}

TEST_CASE("a process that is stopped while it waits for the gate does not keep it from others") {
  const ScratchDirectory directory;
  const std::string path = directory.File("gate");
  internal::KernelLock gate(path);
  REQUIRE(gate.Acquire(absl::Seconds(1)).ok());
  const pid_t waiter = StartChild([&] {
    internal::KernelLock own(path);
    if (!own.Acquire(absl::Minutes(1)).ok()) return 1;
    own.Release();
    return 0;
  });
  while (!SomebodyWaits(path)) std::this_thread::yield();
  REQUIRE(kill(waiter, SIGSTOP) == 0);
  int status = 0;
  REQUIRE(waitpid(waiter, &status, WUNTRACED) == waiter);
  gate.Release();
  const absl::Status acquired = gate.Acquire(absl::Seconds(4));
  CHECK_MESSAGE(acquired.ok(), acquired.ToString());
  if (acquired.ok()) gate.Release();
  REQUIRE(kill(waiter, SIGCONT) == 0);
  CHECK(WaitForChild(waiter) == "");
}

}  // namespace
}  // namespace throttl::testing
