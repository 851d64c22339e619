// SIGKILL at random instants of processes that create, rotate, update and revoke keys.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/crash/crash_parts.h"
#include "tests/crash/kill_check.h"
#include "tests/crash/kill_ledger.h"
#include "tests/crash/kill_worker.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

// SQLite's WAL_WRITE_LOCK: https://sqlite.org/walformat.html, "WAL Locks".
constexpr off_t kWriteLockByte = 120;
constexpr auto kHungAfter = std::chrono::seconds(30);

struct KillCounts {
  std::int64_t kills = 0;
  std::int64_t while_opening = 0;
  std::int64_t with_gate = 0;
  std::int64_t in_transaction = 0;
};

// Whether `process`, which is stopped, holds byte 0 of the gate. F_OFD_GETLK would say that it is
// held, and not by whom; the kernel lists the locks of each open file beside it.
bool HoldsGate(pid_t process, const std::string& path) {
  std::error_code ignored;
  const std::string of_process = absl::StrCat("/proc/", process);
  for (const auto& file : std::filesystem::directory_iterator(of_process + "/fd", ignored)) {
    if (std::filesystem::read_symlink(file.path(), ignored) != path + "-gate") continue;
    std::ifstream info(of_process + "/fdinfo/" + file.path().filename().string());
    for (std::string line; std::getline(info, line);) {
      if (absl::StartsWith(line, "lock:") && absl::EndsWith(line, " 0 0")) return true;
    }
  }
  return false;
}

// Whether `process`, which is stopped, is between BEGIN IMMEDIATE and the end of COMMIT.
bool HoldsTransaction(pid_t process, const std::string& path) {
  const int file = open((path + "-shm").c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return false;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kWriteLockByte;
  lock.l_len = 1;
  const bool asked = fcntl(file, F_GETLK, &lock) == 0;
  close(file);
  return asked && lock.l_type != F_UNLCK && lock.l_pid == process;
}

// Waits until `done`; false when that takes so long that something hangs.
template <typename Done>
bool WaitFor(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kHungAfter;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

struct Worker {
  std::size_t number = 0;
  std::int64_t life = 0;
  pid_t process = 0;
  bool dies_early = false;  // perhaps while it opens the store
};

class Killer {
 public:
  Killer(std::string path, KillLedger& ledger, std::uint64_t seed)
      : path_(std::move(path)), ledger_(ledger), draw_(seed) {}

  // Starts one to three workers and kills them one after the other.
  void RunRound() {
    std::vector<Worker> workers;
    const std::size_t count = 1 + draw_() % kWorkersMax;
    for (std::size_t number = 0; number < count; ++number) workers.push_back(Start(number));
    std::shuffle(workers.begin(), workers.end(), draw_);
    while (!workers.empty()) {
      const Worker worker = workers.back();
      workers.pop_back();
      WaitForInstant(worker);
      Kill(worker);
      const pid_t checker = StartChild([&] {
        return CheckAfterKill(path_, {.worker = worker.number, .life = worker.life}, ledger_);
      });
      REQUIRE_MESSAGE(WaitForChild(checker) == "", ledger_.report.Text());
      CheckGoOn(workers);
    }
  }

  const KillCounts& counts() const { return counts_; }

 private:
  Worker Start(std::size_t number) {
    Worker worker{.number = number, .life = ++lives_, .dies_early = draw_() % 10 == 0};
    const KillWorkerOptions options{.path = path_,
                                    .power = draw_() % 2 == 0,
                                    .worker = number,
                                    .life = worker.life,
                                    .seed = draw_()};
    ledger_.open[number] = false;
    worker.process = StartChild([&] { return RunKillWorker(options, ledger_); });
    REQUIRE(worker.process > 0);
    return worker;
  }

  void WaitForInstant(const Worker& worker) {
    const std::uint64_t microseconds_max = worker.dies_early ? 4000 : 20'000;
    if (!worker.dies_early) {
      const bool opened =
          WaitFor([&] { return ledger_.open[worker.number].load() || ledger_.report.count() > 0; });
      REQUIRE_MESSAGE(opened, "a worker hangs while it opens the store");
    }
    std::this_thread::sleep_for(std::chrono::microseconds(draw_() % microseconds_max));
  }

  // Stops it first, so that what it was doing can be seen.
  void Kill(const Worker& worker) {
    REQUIRE(kill(worker.process, SIGSTOP) == 0);
    int status = 0;
    REQUIRE(waitpid(worker.process, &status, WUNTRACED) == worker.process);
    REQUIRE_MESSAGE(WIFSTOPPED(status), ledger_.report.Text());
    ++counts_.kills;
    counts_.while_opening += ledger_.open[worker.number].load() ? 0 : 1;
    counts_.with_gate += HoldsGate(worker.process, path_) ? 1 : 0;
    counts_.in_transaction += HoldsTransaction(worker.process, path_) ? 1 : 0;
    REQUIRE(kill(worker.process, SIGKILL) == 0);
    REQUIRE(waitpid(worker.process, &status, 0) == worker.process);
  }

  std::int64_t Acknowledged(std::size_t worker) const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < kLanesOfWorker; ++i) {
      sum += ledger_.lanes[worker * kLanesOfWorker + i].acknowledged();
    }
    return sum;
  }

  // The workers that wait for the gate get it although its holder is dead.
  void CheckGoOn(const std::vector<Worker>& workers) {
    for (const Worker& worker : workers) {
      const std::int64_t before = Acknowledged(worker.number);
      const bool goes_on = WaitFor(
          [&] { return Acknowledged(worker.number) > before || ledger_.report.count() > 0; });
      REQUIRE_MESSAGE(goes_on, "a worker hangs after another one was killed");
    }
  }

  const std::string path_;
  KillLedger& ledger_;
  std::mt19937_64 draw_;
  std::int64_t lives_ = 0;
  KillCounts counts_;
};

TEST_CASE("1,000 SIGKILLs lose no acknowledged change of a key and leave none half made") {
  const ScratchDirectory directory;
  const std::string path = std::filesystem::canonical(directory.path()).string() + "/kill.db";
  const Shared<KillLedger> ledger;
  const std::uint64_t seed = RunSeed();
  const std::int64_t kills_min = Scaled(1000);
  const std::int64_t inside_min = Scaled(50);
  Killer killer(path, *ledger, seed);
  const KillCounts& counts = killer.counts();
  while (counts.kills < kills_min ||
         (std::min(counts.with_gate, counts.in_transaction) < inside_min &&
          counts.kills < 3 * kills_min)) {
    killer.RunRound();
    REQUIRE_MESSAGE(ledger->report.count() == 0,
                    (ledger->report.Text() + "seed " + std::to_string(seed)));
  }
  const pid_t checker = StartChild([&] { return CheckAllKeys(path, *ledger); });
  CHECK(WaitForChild(checker) == "");

  std::int64_t acknowledged = 0;
  std::size_t keys = 0;
  for (const Lane& lane : ledger->lanes) {
    acknowledged += lane.acknowledged();
    keys += lane.key_count();
  }
  MESSAGE(absl::StrCat(counts.kills, " kills: ", counts.with_gate, " with the gate held, ",
                       counts.in_transaction, " inside a transaction, ", counts.while_opening,
                       " while opening; ", acknowledged, " calls acknowledged on ", keys, " keys; ",
                       ledger->unacknowledged_whole, " others happened whole, ",
                       ledger->unacknowledged_absent, " not at all; ", ledger->lost, " lost, ",
                       ledger->half_made, " half made; integrity_check: ", ledger->integrity.data(),
                       "; seed ", seed));
  CHECK_MESSAGE(ledger->report.count() == 0, ledger->report.Text());
  CHECK(ledger->lost == 0);
  CHECK(ledger->half_made == 0);
  CHECK(counts.with_gate >= inside_min);
  CHECK(counts.in_transaction >= inside_min);
}

}  // namespace
}  // namespace throttl::testing
