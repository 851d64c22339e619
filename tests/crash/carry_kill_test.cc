// Processes are killed while they change quotas with each CarryOver, at every step of it, beside
// others that validate: a change is there whole or not at all, for every key.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "tests/crash/carry_ledger.h"
#include "tests/crash/crash_parts.h"
#include "tests/crash/fault_victim.h"
#include "tests/crash/shared_clock.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::array<std::string_view, 22> kPoints = {
    // Changing a quota.
    "carry.settled", "apply.begun", "store.commit", "apply.stored", "publish.noted",
    "publish.bumped", "apply.published",
    // Settling first, and in between.
    "settle.read", "store.row", "store.usage", "settle.stored", "settle.cleared", "settle.marked",
    // Turning slots to what was carried over.
    "change.written", "change.valid", "change.closed", "change.state", "change.fields",
    "change.opened",
    // Deciding.
    "spend.read", "spend.fits", "spend.swapped"};

constexpr std::size_t kBystanders = 2;  // processes, of two threads each
constexpr std::size_t kBystanderLanes = 2 * kBystanders;
constexpr std::size_t kChangerLane = kBystanderLanes;
constexpr std::size_t kSpenderLane = kBystanderLanes + 1;

class Killing {
 public:
  Killing(const std::string& path, CarryLedger& ledger, FaultToll& toll, std::mt19937_64& random)
      : path_(path), ledger_(ledger), toll_(toll), random_(random) {
    {
      const auto engine = OpenCarryEngine(path_, ledger_, /*settle_thread=*/false);
      REQUIRE_MESSAGE(engine != nullptr, ledger_.report.Text());
      MakeCarrySubjects(*engine, ledger_);
    }
    for (std::size_t i = 0; i < kBystanders; ++i) {
      const std::uint64_t seed = random_();
      bystanders_.push_back(StartChild([this, i, seed] { return StandBy(i, seed); }));
    }
    engine_ = OpenCarryEngine(path_, ledger_, /*settle_thread=*/false);
    REQUIRE_MESSAGE(engine_ != nullptr, ledger_.report.Text());
  }

  // In quiet ones nobody but the victim spends, and it never beside a change of its own.
  void Run(std::string_view point, bool quiet) {
    CAPTURE(std::string(point));
    CAPTURE(quiet);
    ledger_.mode = quiet ? CarryMode::kRest : CarryMode::kSpend;
    const FatalPoint fatal{.name = point, .passes = static_cast<std::int64_t>(random_() % 3)};
    const std::uint64_t seed = random_();
    const pid_t victim = StartChild([&] { return Change(fatal, seed); });
    Await(victim);
    ++kills_;
    for (const std::size_t lane : {kChangerLane, kSpenderLane}) {
      if (ledger_.lanes[lane].subject != 0) quiet = false;
      BuryLane(ledger_, ledger_.lanes[lane]);
    }
    RestAll(ledger_);
    // Whoever comes next goes on from what the dead one left.
    REQUIRE(engine_->Flush().ok());
    changes_ += static_cast<std::int64_t>(ledger_.begun);
    ResolveChange(*engine_, ledger_);
    const CarryTotals totals = CheckCarryAtRest(*engine_, ledger_);
    if (quiet) CHECK(totals.inexact == 0);
    units_ += totals.units;
    if (kills_ % 10 == 0) units_ += DrainCarry(*engine_, ledger_, kBystanderLanes).units;
  }

  void End() {
    DrainCarry(*engine_, ledger_, kBystanderLanes);
    ledger_.mode = CarryMode::kStop;
    for (const pid_t child : bystanders_) CHECK(WaitForChild(child) == "");
    REQUIRE_MESSAGE(ledger_.report.count() == 0, ledger_.report.Text());
  }

  std::int64_t kills() const { return kills_; }
  std::string Text() const {
    return absl::StrCat(kills_, " kills, ", changes_, " changes, ", units_, " units");
  }

 private:
  int StandBy(std::size_t bystander, std::uint64_t seed) {
    const auto engine = OpenCarryEngine(path_, ledger_);
    if (engine == nullptr) return 1;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      CarryLane& lane = ledger_.lanes[2 * bystander + i];
      threads.emplace_back([&, i] { SpendByMode(*engine, ledger_, lane, seed + i); });
    }
    for (std::thread& thread : threads) thread.join();
    return 0;
  }

  // The victim: spends and changes in turn, beside a thread that spends.
  int Change(const FatalPoint& fatal, std::uint64_t seed) {
    ArmFaultPoint(fatal, toll_);
    const auto engine = OpenCarryEngine(path_, ledger_);
    if (engine == nullptr) return 1;
    std::thread spender([&] { SpendByMode(*engine, ledger_, ledger_.lanes[kSpenderLane], seed); });
    std::mt19937_64 random(seed);
    while (ledger_.begun < kCarryChangesMax) {
      for (std::size_t i = 0; i < 5; ++i) {
        std::size_t secret = random() % kCarrySubjects;
        if (secret == kIdleSubject) secret = 0;
        const auto cost = static_cast<std::int64_t>(random() % 300);
        SpendCarry(*engine, ledger_, ledger_.lanes[kChangerLane], {secret, cost});
      }
      const auto kind = static_cast<CarryOver>(1 + random() % 4);
      const std::string fault = ChangeOnce(*engine, ledger_, kind, random);
      if (!fault.empty()) ledger_.report.Add(fault);
      if (!fault.empty()) return 1;
    }
    for (;;) pause();
  }

  // Waits a little for a victim that dies by itself, and kills it then.
  void Await(pid_t victim) {
    int status = 0;
    pid_t dead = 0;
    for (int i = 0; i < 4000 && dead == 0; ++i) {
      dead = waitpid(victim, &status, WNOHANG);
      if (dead == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (dead == 0) {
      kill(victim, SIGKILL);
      REQUIRE(waitpid(victim, &status, 0) == victim);
    }
    REQUIRE_MESSAGE(WIFSIGNALED(status), ledger_.report.Text());
  }

  const std::string path_;
  CarryLedger& ledger_;
  FaultToll& toll_;
  std::mt19937_64& random_;
  std::vector<pid_t> bystanders_;
  std::unique_ptr<Engine> engine_;
  std::int64_t kills_ = 0;
  std::int64_t changes_ = 0;
  std::int64_t units_ = 0;
};

std::string_view LeastHit(const FaultToll& toll, std::mt19937_64& random) {
  std::array<std::string_view, kPoints.size()> points = kPoints;
  std::shuffle(points.begin(), points.end(), random);
  return *std::min_element(points.begin(), points.end(),
                           [&](auto a, auto b) { return toll.HitsOf(a) < toll.HitsOf(b); });
}

TEST_CASE(
    "a change whose process is killed carries the usage of all keys over or of none; nothing is "
    "lost, nothing counts twice, and what remains is admitted to the unit") {
  const std::int64_t kills = Scaled(240);
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  const Shared<FaultToll> toll;
  constexpr std::int64_t kKillsOfStore = 60;
  std::string text;
  std::int64_t done = 0;
  while (done < kills || toll->HitsOf(LeastHit(*toll, random)) == 0) {
    REQUIRE_MESSAGE(done < kills + 200, toll->Table());
    const ScratchDirectory scratch;
    const Shared<CarryLedger> ledger;
    Killing killing(scratch.File("throttl.db"), *ledger, *toll, random);
    const std::int64_t kills_now = std::min(kKillsOfStore, std::max<std::int64_t>(kills - done, 5));
    while (killing.kills() < kills_now) {
      CAPTURE(killing.kills());
      killing.Run(LeastHit(*toll, random), /*quiet=*/random() % 2 == 0);
    }
    killing.End();
    done += killing.kills();
    absl::StrAppend(&text, "\n  ", killing.Text());
  }
  MESSAGE("stores:" << text << "\nkills at points:" << toll->Table());
}

// What remains of a limit of 1000, of which 900 were used, when it becomes 10.
struct Lowered {
  CarryOver carry_over = CarryOver::kReset;
  std::int64_t remaining = 0;
};
constexpr std::array<Lowered, 3> kLowered = {
    {{CarryOver::kReset, 10}, {CarryOver::kProportional, 1}, {CarryOver::kAdditive, 110}}};

TEST_CASE(
    "what a change forgives and adds goes with its limit, also while the store has it and nobody "
    "was told") {
  const Shared<FaultToll> toll;
  std::atomic<std::int64_t> now_ms = kCarryStartMs;
  for (const std::string_view point : {"apply.begun", "apply.stored"}) {
    for (const Lowered& lowered : kLowered) {
      CAPTURE(std::string(point));
      CAPTURE(static_cast<int>(lowered.carry_over));
      const ScratchDirectory scratch;
      const EngineOptions options{.settle_thread = false,
                                  .clock = std::make_shared<SharedClock>(now_ms)};
      const auto engine = Engine::Open(scratch.File("throttl.db"), options);
      REQUIRE(engine.ok());
      REQUIRE((*engine)->PutPlan({.id = "team", .quota = Quota{.limit = 1000}}).ok());
      const auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "team"});
      REQUIRE(issued.ok());
      const std::string secret(issued->secret.Reveal());
      REQUIRE((*engine)->Validate(secret, {.cost = 900}).allowed());
      const pid_t child = StartChild([&] {
        const auto own = Engine::Open(scratch.File("throttl.db"), options);
        if (!own.ok()) return 1;
        ArmFaultPoint({.name = point}, *toll);
        const Plan plan{.id = "team", .quota = Quota{.limit = 10}};
        return (*own)->PutPlan(plan, {}, lowered.carry_over).ok() ? 0 : 1;
      });
      CHECK(WaitForChild(child) == "signal 9");
      // In another hour the slot is turned.
      now_ms.fetch_add(3'600'000);
      const std::int64_t remaining = point == "apply.begun" ? 100 : lowered.remaining;
      const Decision refused = (*engine)->Validate(secret, {.cost = remaining + 1});
      CHECK(refused.code == DecisionCode::kQuotaExceeded);
      CHECK(refused.quota.remaining() == remaining);
      CHECK((*engine)->Validate(secret, {.cost = remaining}).allowed());
      CHECK_FALSE((*engine)->Validate(secret).allowed());
    }
  }
}

}  // namespace
}  // namespace throttl::testing
