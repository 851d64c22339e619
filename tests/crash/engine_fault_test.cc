// Engines on SQLite are killed at every fault point of deciding, claiming, rolling, granting,
// growing, settling, changing and recovering; a ledger of what they acknowledged decides.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "tests/crash/crash_parts.h"
#include "tests/crash/fault_victim.h"
#include "tests/crash/quota_ledger.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kMinuteMs = 60'000;
constexpr std::size_t kFirstSlots = 1024;  // the table grows beyond them
constexpr std::array<std::string_view, 3> kGrowPoints = {"grow.allocated", "grow.sized",
                                                         "grow.indexed"};
constexpr std::array<std::string_view, 7> kIntentPoints = {"recover.intent",
                                                           "recover.intent+change.closed",
                                                           "recover.intent+change.state",
                                                           "recover.intent+change.identity",
                                                           "recover.intent+change.fields",
                                                           "recover.intent+change.indexed",
                                                           "recover.intent+change.opened"};

// What a worker does more often, to come to its point.
enum class Focus : std::uint8_t { kSpend, kPeek, kRare, kTurn, kFlush, kChange };

Focus FocusOf(std::string_view point) {
  if (point.starts_with("probe.")) return Focus::kPeek;
  if (point.starts_with("begin.") || point.starts_with("grow.") || point == "index.cleared" ||
      point == "change.identity" || point == "change.indexed") {
    return Focus::kRare;
  }
  if (point.starts_with("change.")) return Focus::kTurn;
  if (point.starts_with("settle.") || point.starts_with("store.")) return Focus::kFlush;
  if (point.starts_with("apply.") || point.starts_with("publish.") || point == "carry.settled") {
    return Focus::kChange;
  }
  return Focus::kSpend;
}

struct World {
  QuotaLedger ledger;
  std::atomic<std::size_t> rare_next = 0;
};

struct Work {
  Focus focus = Focus::kSpend;
  bool only_spends = false;  // no new subjects, and no time that passes
};

// Renames a key, which is a newer limit for its slot, or the plan of many, which may carry over
// their usage: in proportion to the same limit.
bool ChangeSomething(Engine& engine, QuotaLedger& ledger, std::uint64_t dice) {
  const auto repeatable = [&](const absl::Status& status) {
    if (status.ok() || absl::IsAborted(status) || absl::IsUnavailable(status)) return true;
    ledger.report.Add("change: " + status.ToString());
    return false;
  };
  const std::string name = absl::StrCat("name ", dice);
  if (dice % 4 == 0) {
    auto plan = engine.GetPlan("hourly");
    if (!plan.ok()) return repeatable(plan.status());
    plan->name = name;
    const bool carries = dice / 4 % 2 == 0;
    return repeatable(
        engine.PutPlan(*plan, {}, carries ? CarryOver::kProportional : CarryOver::kDifference)
            .status());
  }
  auto key = engine.GetKey(QuotaKeyId(dice / 4 % kSteadyKeys));
  if (!key.ok()) return repeatable(key.status());
  key->name = name;
  return repeatable(engine.UpdateKey(*key).status());
}

class Worker {
 public:
  Worker(Engine& engine, World& world, const Work& work, std::uint64_t seed,
         std::atomic<std::int64_t>& spending)
      : engine_(engine), world_(world), work_(work), random_(seed), spending_(spending) {}

  // False, and a report, when something went wrong.
  bool Step() {
    const auto falls = [&](Focus focus, std::uint64_t rarely, std::uint64_t often) {
      return random_() % (work_.focus == focus ? often : rarely) == 0;
    };
    if (falls(Focus::kFlush, 20'000, 50)) return Flush();
    if (falls(Focus::kChange, 20'000, 50)) {
      return ChangeSomething(engine_, world_.ledger, random_());
    }
    if (falls(Focus::kPeek, 200, 5)) {
      static_cast<void>(engine_.Peek(world_.ledger.Secret(random_() % kSteadyKeys)));
      return true;
    }
    const std::size_t steady = random_() % kSteadyKeys;
    if (work_.only_spends) return Spend(steady);
    if (falls(Focus::kTurn, 1000, 100)) world_.ledger.Advance(10 * kMinuteMs);
    if (falls(Focus::kRare, 500, 5)) {
      return Spend(kSteadyKeys + world_.rare_next.fetch_add(1) % kRareKeys);
    }
    return Spend(steady);
  }

 private:
  bool Spend(std::size_t key) { return SpendOnce(engine_, world_.ledger, key, spending_); }

  bool Flush() {
    const absl::Status status = engine_.Flush();
    if (status.ok() || absl::IsUnavailable(status)) return true;
    world_.ledger.report.Add("flush: " + status.ToString());
    return false;
  }

  Engine& engine_;
  World& world_;
  const Work work_;
  std::mt19937_64 random_;
  std::atomic<std::int64_t>& spending_;
};

// The processes of one store, from its making on.
class Killing {
 public:
  Killing(const ScratchDirectory& scratch, World& world, FaultToll& toll, std::mt19937_64& random)
      : path_(scratch.File("throttl.db")), world_(world), toll_(toll), random_(random) {
    const auto engine = OpenQuotaEngine(path_, world_.ledger);
    REQUIRE_MESSAGE(engine != nullptr, world_.ledger.report.Text());
    MakeQuotaKeys(*engine, world_.ledger);
  }

  // Starts a worker that dies at `point`, or when it is killed.
  void Start(std::size_t worker, const std::optional<FatalPoint>& point, Work work = {}) {
    if (point.has_value()) work.focus = FocusOf(point->name);
    const std::uint64_t seed = random_();
    workers_[worker] = StartChild([this, worker, seed, &point, &work] {
      if (point.has_value()) ArmFaultPoint(*point, toll_);
      const auto engine = OpenQuotaEngine(path_, world_.ledger);
      if (engine == nullptr) return 1;
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < kThreadsOfWorker; ++i) {
        threads.emplace_back([&, i] {
          Worker steps(*engine, world_, work, seed + i, world_.ledger.spending[worker][i]);
          while (steps.Step()) {
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      return 1;
    });
    waits_[worker] = point.has_value();
  }

  // Waits a little for one that dies by itself, and kills it then.
  void End(std::size_t worker) {
    int status = 0;
    pid_t dead = 0;
    for (int i = 0; i < (waits_[worker] ? 2000 : 0) && dead == 0; ++i) {
      dead = waitpid(workers_[worker], &status, WNOHANG);
      if (dead == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (dead == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 5000));
      kill(workers_[worker], SIGKILL);
      REQUIRE(waitpid(workers_[worker], &status, 0) == workers_[worker]);
    }
    REQUIRE_MESSAGE(WIFSIGNALED(status), world_.ledger.report.Text());
    AddInFlight(world_.ledger, worker, in_flight_);
    ++kills_;
  }

  void KillAt(std::string_view point, const Work& work = {}) {
    Start(0, FatalPoint{.name = point}, work);
    End(0);
  }

  // A process that only opens the store, which finishes what a dead one left. False when it passed
  // no such point.
  bool KillAtOpening(std::string_view point) {
    const pid_t child = StartChild([&] {
      ArmFaultPoint({.name = point}, toll_);
      return OpenQuotaEngine(path_, world_.ledger) == nullptr ? 1 : 3;
    });
    const std::string end = WaitForChild(child);
    if (end == "exit status 3") return false;
    REQUIRE_MESSAGE(end == "signal 9", world_.ledger.report.Text());
    ++kills_;
    return true;
  }

  // Every slot of the small table is some subject's.
  void FillFirstSlots() {
    const pid_t child = StartChild([&] {
      const auto engine = OpenQuotaEngine(path_, world_.ledger);
      if (engine == nullptr) return 1;
      for (std::size_t key = 0; key < kFirstSlots; ++key) {
        if (!SpendOnce(*engine, world_.ledger, key, world_.ledger.spending[0][0])) return 1;
      }
      world_.rare_next = kFirstSlots - kSteadyKeys;
      return 0;
    });
    REQUIRE_MESSAGE(WaitForChild(child) == "", world_.ledger.report.Text());
  }

  QuotaTotals Check() {
    const auto engine = OpenQuotaEngine(path_, world_.ledger);
    REQUIRE_MESSAGE(engine != nullptr, world_.ledger.report.Text());
    const QuotaTotals totals = CheckLedger(*engine, world_.ledger, in_flight_);
    CheckNothingStranded(*engine, world_.ledger, /*rare_step=*/25);
    return totals;
  }

  std::int64_t kills() const { return kills_; }

 private:
  const std::string path_;
  World& world_;
  FaultToll& toll_;
  std::mt19937_64& random_;
  std::array<pid_t, kQuotaWorkers> workers_ = {};
  std::array<bool, kQuotaWorkers> waits_ = {};
  std::vector<std::int64_t> in_flight_ = std::vector<std::int64_t>(kQuotaKeys);
  std::int64_t kills_ = 0;
};

// The index is left half made, and so it is by who makes it anew.
void KillRemakers(Killing& killing) {
  killing.KillAt("grow.sized");
  CHECK(killing.KillAtOpening("recover.index"));
  CHECK(killing.KillAtOpening("recover.index+index.cleared"));
}

// The table is made, and doubled while others spend.
void KillGrowers(Killing& killing) {
  KillRemakers(killing);
  killing.KillAt("index.cleared");
  for (const std::string_view point : kGrowPoints) killing.KillAt(point);
  killing.FillFirstSlots();
  KillRemakers(killing);
  for (const std::size_t worker : {1U, 2U}) {
    killing.Start(worker, std::nullopt, {.only_spends = true});
  }
  for (const std::string_view point : kGrowPoints) killing.KillAt(point);
  killing.KillAt("index.cleared");
  for (const std::size_t worker : {1U, 2U}) killing.End(worker);
}

// A slot is left closed, and so it is by each that finishes it, up to the last one.
void KillRecoverers(Killing& killing) {
  killing.KillAt("begin.picked");
  killing.KillAt("change.identity");
  for (const std::string_view point : kIntentPoints) killing.KillAtOpening(point);
  // Where the index was torn with it.
  killing.KillAt("change.indexed");
  killing.KillAtOpening("recover.intent+index.cleared");
  killing.KillAtOpening("recover.intent+change.indexed");
}

// Of what is passed under load, the point that was hit least.
std::string_view LeastHit(const FaultToll& toll, std::mt19937_64& random) {
  std::vector<std::string_view> points(FaultPoints().begin(), FaultPoints().end());
  std::erase_if(points, [](std::string_view point) {
    return point.starts_with("recover.") || point.starts_with("grow.") || point == "index.cleared";
  });
  std::shuffle(points.begin(), points.end(), random);
  return *std::min_element(points.begin(), points.end(),
                           [&](auto a, auto b) { return toll.HitsOf(a) < toll.HitsOf(b); });
}

void KillUnderLoad(Killing& killing, const FaultToll& toll, std::int64_t kills,
                   std::mt19937_64& random) {
  const auto start = [&](std::size_t worker) {
    if (random() % 6 == 0) return killing.Start(worker, std::nullopt);
    const auto passes = static_cast<std::int64_t>(random() % 3);
    killing.Start(worker, FatalPoint{.name = LeastHit(toll, random), .passes = passes});
  };
  for (std::size_t worker = 0; worker < kQuotaWorkers; ++worker) start(worker);
  for (std::int64_t i = 0; i < kills; ++i) {
    const std::size_t worker = static_cast<std::size_t>(i) % kQuotaWorkers;
    killing.End(worker);
    start(worker);
  }
  for (std::size_t worker = 0; worker < kQuotaWorkers; ++worker) killing.End(worker);
}

std::int64_t FewestHits(const FaultToll& toll) {
  std::int64_t fewest = toll.hits[0];
  for (const std::string_view point : FaultPoints()) {
    fewest = std::min(fewest, toll.HitsOf(point));
  }
  return fewest;
}

TEST_CASE(
    "killed at every step of claiming, granting, rolling, settling, growing and recovering, "
    "engines "
    "lose nothing, admit nothing twice and strand no unit") {
  constexpr std::int64_t kKillsUnderLoad = 60;
  const std::int64_t hits_wanted = Scaled(20);
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  const Shared<FaultToll> toll;
  std::int64_t kills = 0;
  std::int64_t hours = 0;
  QuotaTotals sum;
  for (int round = 0; FewestHits(*toll) < hits_wanted; ++round) {
    CAPTURE(round);
    REQUIRE_MESSAGE(round < 100, toll->Table());
    const ScratchDirectory scratch;
    const Shared<World> world;
    Killing killing(scratch, *world, *toll, random);
    KillGrowers(killing);
    KillUnderLoad(killing, *toll, kKillsUnderLoad, random);
    for (int i = 0; i < 2; ++i) KillRecoverers(killing);
    const QuotaTotals totals = killing.Check();
    kills += killing.kills();
    sum.units += totals.units;
    sum.in_flight += totals.in_flight;
    hours += (world->ledger.now_ms - kQuotaStartMs) / (60 * kMinuteMs);
  }
  MESSAGE(absl::StrCat(kills, " kills, ", sum.units, " units in ", hours, " hours, ", sum.in_flight,
                       " requests in flight; kills at points:", toll->Table()));
}

// Where a change is in the store when its process dies, and where it is not.
struct ChangePoint {
  std::string_view name = {};
  bool stored = false;
};
constexpr std::array<ChangePoint, 6> kChangePoints = {{{"apply.begun", false},
                                                       {"store.commit", false},
                                                       {"apply.stored", true},
                                                       {"publish.noted", true},
                                                       {"publish.bumped", true},
                                                       {"apply.published", true}}};

TEST_CASE(
    "a change whose process is killed is in the store or not, and the others decide by it from the "
    "next settle on") {
  const std::int64_t rounds = Scaled(20);
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  const auto engine = Engine::Open(path, {.settle_thread = false});
  REQUIRE(engine.ok());
  const Shared<FaultToll> toll;
  for (std::int64_t round = 0; round < rounds * std::ssize(kChangePoints); ++round) {
    const ChangePoint& point =
        kChangePoints[static_cast<std::size_t>(round) % kChangePoints.size()];
    CAPTURE(std::string(point.name));
    const auto issued = (*engine)->CreateKey({.owner_id = "acme", .quota = Quota{.limit = 100}});
    REQUIRE(issued.ok());
    const std::string secret(issued->secret.Reveal());
    REQUIRE((*engine)->Validate(secret).allowed());
    const auto change = [&](bool revoke) {
      const pid_t child = StartChild([&] {
        const auto own = Engine::Open(path, {.settle_thread = false});
        if (!own.ok()) return 1;
        ArmFaultPoint({.name = point.name}, *toll);
        // Its connections are made anew, with the hooks.
        (*own)->store()->Suspend();
        if (revoke) return (*own)->RevokeKey(issued->key.id).ok() ? 0 : 1;
        Key key = issued->key;
        key.quota->limit = 1;
        return (*own)->UpdateKey(key).ok() ? 0 : 1;
      });
      CHECK(WaitForChild(child) == "signal 9");
      REQUIRE((*engine)->Flush().ok());
    };
    change(/*revoke=*/false);
    CHECK((*engine)->GetKey(issued->key.id)->quota->limit == (point.stored ? 1 : 100));
    const Decision limited = (*engine)->Validate(secret);
    CHECK(limited.quota.limit == (point.stored ? 1 : 100));
    CHECK(limited.allowed() == !point.stored);
    change(/*revoke=*/true);
    CHECK((*engine)->GetKey(issued->key.id)->revoked_at.has_value() == point.stored);
    CHECK(((*engine)->Peek(secret).code == DecisionCode::kInactive) == point.stored);
  }
}

}  // namespace
}  // namespace throttl::testing
