// A process is stopped while it holds a lock; the keys that another process has in hand are decided
// on as before, and when the first one goes on, or is killed, nothing is lost.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "src/base/kernel_lock.h"
#include "src/lease/fault_point.h"
#include "tests/crash/crash_parts.h"
#include "tests/quota_plans.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kLimit = 2000;
constexpr std::size_t kKeys = 4;
// Units that the process to be stopped spends of each key before.
constexpr std::int64_t kSpentBefore = 10;
constexpr unsigned kHangSeconds = 120;

enum class Held : std::uint8_t { kCommitLock, kTableLock, kBothLocks, kGate };

struct Stop {
  Held held;
  const char* point;  // where the process stops itself; nullptr: with the gate in its hands
};
constexpr std::array kStops = {
    Stop{Held::kCommitLock, "publish.noted"},  // a key is changed: stored, and nobody told yet
    Stop{Held::kTableLock, "change.closed"},   // a slot of a new subject is being begun
    Stop{Held::kBothLocks, "settle.cleared"},  // a settle has written, and marks what it wrote
    Stop{Held::kGate, nullptr},
};

struct Stage {
  std::array<std::array<char, 128>, kKeys + 2> secrets = {};  // the last two are not in hand
  std::atomic<bool> ready = false;
  std::atomic<bool> go = false;
  Report report;

  std::string secret(std::size_t key) const { return secrets[key].data(); }
};

std::string IdOf(std::size_t key) { return absl::StrCat("key_", key); }

const char* stop_point = nullptr;

void StopAtPoint(const char* point) {
  if (stop_point == nullptr || std::strcmp(point, stop_point) != 0) return;
  stop_point = nullptr;
  raise(SIGSTOP);
}

std::unique_ptr<Engine> OpenOn(const std::string& path, Stage& stage) {
  // The clock stands still, so that no hour ends, for which a slot would need the table lock.
  const auto clock = std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  auto engine =
      Engine::Open(path, {.settle_thread = false, .seed_plans = QuotaPlans(), .clock = clock});
  if (engine.ok()) return *std::move(engine);
  stage.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

void MakeKeys(const std::string& path, Stage& stage) {
  const std::unique_ptr<Engine> engine = OpenOn(path, stage);
  REQUIRE_MESSAGE(engine != nullptr, stage.report.Text());
  for (std::size_t key = 0; key < stage.secrets.size(); ++key) {
    const auto issued =
        engine->CreateKey({.owner_id = "acme", .quota = Quota{.limit = kLimit}, .id = IdOf(key)});
    REQUIRE(issued.ok());
    const std::string secret(issued->secret.Reveal());
    secret.copy(stage.secrets[key].data(), stage.secrets[key].size() - 1);
  }
  REQUIRE(engine->Close().ok());
}

// Comes to hold what `stop` says, and stops there. True when it could go on as if nothing had been.
bool HoldAndStop(Engine& engine, const std::string& path, const Stop& stop, Stage& stage) {
  stop_point = stop.point;
  switch (stop.held) {
    case Held::kCommitLock: {
      auto key = engine.GetKey(IdOf(kKeys));
      if (!key.ok()) return false;
      key->name = "renamed";
      return engine.UpdateKey(*key).ok();
    }
    case Held::kTableLock:
      return engine.Validate(stage.secret(kKeys)).allowed();
    case Held::kBothLocks:
      return engine.Flush().ok();
    case Held::kGate: {
      internal::KernelLock gate(path + "-gate");
      if (!gate.Acquire(absl::Seconds(10)).ok()) return false;
      raise(SIGSTOP);
      gate.Release();
      return true;
    }
  }
  return false;
}

int RunHolder(const std::string& path, const Stop& stop, Stage& stage) {
  const std::unique_ptr<Engine> engine = OpenOn(path, stage);
  if (engine == nullptr) return 1;
  for (std::size_t key = 0; key < kKeys; ++key) {
    for (std::int64_t i = 0; i < kSpentBefore; ++i) {
      if (!engine->Validate(stage.secret(key)).allowed()) stage.report.Add("refused before");
    }
  }
  internal::fault_hook = StopAtPoint;
  stage.ready = true;
  while (!stage.go.load()) std::this_thread::yield();
  if (!HoldAndStop(*engine, path, stop, stage)) stage.report.Add("the holder failed");
  return engine->Close().ok() ? 0 : 1;
}

// Requests on keys in hand, up to their limits, by two threads: none waits for a lock, so none is
// answered with kStoreUnavailable.
void SpendAll(Engine& engine, Stage& stage, std::atomic<std::int64_t>& allowed) {
  const auto spend = [&] {
    for (std::int64_t i = 0; i < kLimit; ++i) {
      for (std::size_t key = 0; key < kKeys; ++key) {
        const Decision d = engine.Validate(stage.secret(key));
        allowed.fetch_add(d.allowed() ? 1 : 0);
        if (d.unmetered) stage.report.Add("unmetered");
        if (d.allowed() || d.code == DecisionCode::kQuotaExceeded) continue;
        stage.report.Add(std::string(CodeName(d.code)));
      }
    }
  };
  std::thread other(spend);
  spend();
  other.join();
}

// The server's process: its own engine on the file, with all keys but two in hand.
int RunServer(const std::string& path, const Stop& stop, bool is_killed, Stage& stage) {
  const pid_t holder =
      StartChild([&] { return RunHolder(path, stop, stage); }, {.seconds_max = kHangSeconds});
  const std::unique_ptr<Engine> engine = OpenOn(path, stage);
  if (engine == nullptr) return 1;
  std::atomic<std::int64_t> allowed = 0;
  for (std::size_t key = 0; key < kKeys; ++key) {
    allowed.fetch_add(engine->Validate(stage.secret(key)).allowed() ? 1 : 0);
  }
  while (!stage.ready.load() && stage.report.count() == 0) std::this_thread::yield();
  stage.go = true;
  int status = 0;
  if (waitpid(holder, &status, WUNTRACED) != holder || !WIFSTOPPED(status)) {
    stage.report.Add("the holder did not stop");
    return 1;
  }
  const std::int64_t misses = engine->stats().key_cache_misses;
  SpendAll(*engine, stage, allowed);
  const auto expected = static_cast<std::int64_t>(kKeys) * (kLimit - kSpentBefore);
  if (allowed != expected) stage.report.Add(absl::StrCat("allowed ", allowed.load()));
  if (engine->stats().key_cache_misses != misses) stage.report.Add("a key was not in hand");
  // What must have the table lock gives up in time.
  if (stop.held == Held::kTableLock || stop.held == Held::kBothLocks) {
    const Decision d = engine->Validate(stage.secret(kKeys + 1));
    if (d.code != DecisionCode::kStoreUnavailable) stage.report.Add("the lock was not held");
  }
  kill(holder, is_killed ? SIGKILL : SIGCONT);
  const std::string end = WaitForChild(holder);
  if (end != (is_killed ? absl::StrCat("signal ", SIGKILL) : "")) stage.report.Add(end);
  const absl::Status flushed = engine->Flush();
  if (!flushed.ok()) stage.report.Add("flush: " + flushed.ToString());
  for (std::size_t key = 0; key < kKeys; ++key) {
    const Decision d = engine->Validate(stage.secret(key));
    if (d.code != DecisionCode::kQuotaExceeded) stage.report.Add("after: more than the limit");
    if (d.quota.used != kLimit) stage.report.Add(absl::StrCat("after: used ", d.quota.used));
  }
  if (!engine->Validate(stage.secret(kKeys + 1)).allowed()) stage.report.Add("after: refused");
  return engine->Close().ok() ? 0 : 1;
}

TEST_CASE(
    "a stopped process that holds the commit lock, the table lock or the gate stops no other one "
    "from deciding exactly, and nothing is lost when it goes on or is killed") {
  for (const Stop& stop : kStops) {
    for (const bool is_killed : {false, true}) {
      CAPTURE(static_cast<int>(stop.held));
      CAPTURE(is_killed);
      const ScratchDirectory scratch;
      const std::string path = scratch.File("throttl.db");
      const Shared<Stage> stage;
      MakeKeys(path, *stage);
      const pid_t server = StartChild([&] { return RunServer(path, stop, is_killed, *stage); },
                                      {.seconds_max = kHangSeconds});
      CHECK(WaitForChild(server) == "");
      REQUIRE_MESSAGE(stage->report.count() == 0, stage->report.Text());
      // As the store has it, for who opens it next.
      const std::unique_ptr<Engine> engine = OpenOn(path, *stage);
      REQUIRE(engine != nullptr);
      for (std::size_t key = 0; key < kKeys; ++key) {
        CHECK(engine->GetUsage(IdOf(key))->quota.used == kLimit);
        const auto history = engine->UsageHistory({.key_id = IdOf(key)});
        REQUIRE(history.ok());
        REQUIRE(history->size() == 1);
        CHECK(history->front().units == kLimit);
        CHECK(history->front().allowed == kLimit);
      }
      // One that is killed is told nothing; the key is then renamed, or not.
      const auto renamed = engine->GetKey(IdOf(kKeys));
      REQUIRE(renamed.ok());
      CHECK(renamed->name == (stop.held == Held::kCommitLock ? "renamed" : ""));
    }
  }
}

}  // namespace
}  // namespace throttl::testing
