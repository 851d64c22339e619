// Engines on SQLite are killed while they spend from rate limits, claim places in the rate table
// and make it grow, beside others that go on; a ledger of what was allowed decides.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
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

#include "src/lease/fault_point.h"
#include "tests/crash/crash_parts.h"
#include "tests/crash/shared_clock.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kKeys = 1600;
constexpr std::size_t kKeysAtOnce = 800;  // of an episode: half, so that places change hands
constexpr std::size_t kWorkers = 2;
constexpr std::int64_t kNarrow = 2;  // a minute
constexpr std::int64_t kWide = 3;    // half a minute, sliding
constexpr std::int64_t kMinuteMs = 60'000;
constexpr int kWaitsMax = 100;
constexpr std::string_view kAnywhere = "";

// Each is hit by the victims, in this order, before anybody looks.
struct Episode {
  std::vector<std::string_view> points = {};
  bool bystander = false;  // a process that goes on beside them
};

std::vector<Episode> AllEpisodes() {
  return {
      {.points = {"rate.grows", "rate.recovers", "rate.recovers", "rate.copied", "rate.recovers",
                  "rate.grown", "rate.recovers"}},
      {.points = {"rate.frozen", "rate.forgotten", "rate.forgotten", "rate.tagged",
                  "rate.forgotten", "rate.free", "rate.claimed", "rates.spent"}},
      {.points = {"rate.free", "rates.spent", "rate.claimed", "rate.read", kAnywhere},
       .bystander = true},
      {.points = {"rate.frozen", "rate.tagged", kAnywhere, "rates.spent"}, .bystander = true},
  };
}

constexpr std::array<std::string_view, 11> kPoints = {
    "rate.grows",  "rate.recovers", "rate.copied", "rate.grown",   "rate.frozen", "rate.forgotten",
    "rate.tagged", "rate.free",     "rates.spent", "rate.claimed", "rate.read"};

struct KillLedger {
  std::array<std::atomic<std::int64_t>, kKeys> narrow = {};  // allowed of the narrow endpoint
  std::array<std::atomic<std::int64_t>, kKeys> other = {};
  // By worker: the key of the request under way, plus one; 0: none.
  std::array<std::atomic<std::size_t>, kWorkers> under_way = {};
  std::array<std::atomic<std::int64_t>, kPoints.size()> hits = {};
  std::atomic<std::int64_t> now_ms = 1'790'000'010'000;
  std::atomic<bool> stop = false;
  Report report;
};

// What this process dies of.
std::string_view fatal_point = kAnywhere;
std::atomic<std::int64_t> passes_left = 0;
KillLedger* fatal_ledger = nullptr;

void AtFaultPoint(const char* name) {
  if (fatal_point != name || passes_left.fetch_sub(1) != 0) return;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    if (kPoints[i] == fatal_point) fatal_ledger->hits[i].fetch_add(1);
  }
  kill(getpid(), SIGKILL);
}

class Killing {
 public:
  Killing(const std::string& path, KillLedger& ledger, std::mt19937_64& random)
      : path_(path), ledger_(ledger), random_(random) {
    const auto engine = OpenOrReport();
    REQUIRE_MESSAGE(engine != nullptr, ledger_.report.Text());
    const Plan plan{.id = "limited",
                    .rate_limits = {{.name = "narrow", .limit = kNarrow, .endpoint = "/narrow"},
                                    {.name = "wide",
                                     .limit = kWide,
                                     .window = absl::Seconds(30),
                                     .algorithm = RateAlgorithm::kSlidingWindow}}};
    REQUIRE(engine->PutPlan(plan).ok());
    for (std::size_t i = 0; i < kKeys; ++i) {
      const auto issued = engine->CreateKey({.owner_id = "acme", .plan_id = "limited"});
      REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
      secrets_.emplace_back(issued->secret.Reveal());
    }
    // Then the growth that victims die of is not the first one, and has something to copy.
    if (random_() % 2 == 0) Spend(*engine, 0, /*narrow=*/true);
  }

  void Run(const Episode& episode) {
    BeginAnew();
    group_ = group_ == 0 ? kKeysAtOnce : 0;
    pid_t bystander = 0;
    if (episode.bystander) bystander = StartChild([&] { return Work(1, kAnywhere, 0); });
    for (const std::string_view point : episode.points) {
      const bool rare = point == "rate.grows" || point == "rate.copied" || point == "rate.grown" ||
                        point == "rate.recovers" || point == "rate.forgotten";
      const auto passes = static_cast<std::int64_t>(rare ? 0 : random_() % 40);
      const pid_t victim = StartChild([&, passes] { return Work(0, point, passes); });
      if (point == kAnywhere) {
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 30'000));
        kill(victim, SIGKILL);
      }
      const std::string end = WaitForChild(victim);
      const bool killed = end == "signal 9";
      REQUIRE_MESSAGE((killed || end.empty()), absl::StrCat(end, ledger_.report.Text()));
      const std::size_t key = ledger_.under_way[0].exchange(0);
      if (key != 0) ++stranded_[key - 1];
    }
    ledger_.stop = true;
    if (bystander != 0) CHECK(WaitForChild(bystander) == "");
    REQUIRE_MESSAGE(ledger_.report.count() == 0, ledger_.report.Text());
    Check();
  }

 private:
  std::unique_ptr<Engine> OpenOrReport() {
    auto engine = Engine::Open(
        path_, {.settle_thread = false, .clock = std::make_shared<SharedClock>(ledger_.now_ms)});
    if (engine.ok()) return *std::move(engine);
    ledger_.report.Add("open: " + engine.status().ToString());
    return nullptr;
  }

  // All limits have come to rest.
  void BeginAnew() {
    ledger_.now_ms.fetch_add(kMinuteMs);
    for (auto& allowed : ledger_.narrow) allowed = 0;
    for (auto& allowed : ledger_.other) allowed = 0;
    stranded_.assign(kKeys, 0);
    ledger_.stop = false;
  }

  // False: refused.
  bool Spend(Engine& engine, std::size_t key, bool narrow) {
    for (int waits = 0; waits < kWaitsMax; ++waits) {
      const Decision d =
          engine.Validate(secrets_[key], {.endpoint = narrow ? "/narrow" : "/other"});
      if (d.allowed()) (narrow ? ledger_.narrow : ledger_.other)[key].fetch_add(1);
      if (d.code != DecisionCode::kStoreUnavailable) return d.allowed();
      // A lock was not to be had in time, which a host repeats.
    }
    ledger_.report.Add("unavailable: " + engine.stats().last_store_error.ToString());
    return false;
  }

  int Work(std::size_t worker, std::string_view point, std::int64_t passes) {
    fatal_point = point;
    passes_left = passes;
    fatal_ledger = &ledger_;
    if (point != kAnywhere) internal::fault_hook = AtFaultPoint;
    const auto engine = OpenOrReport();
    if (engine == nullptr) return 1;
    std::mt19937_64 random(random_() + worker);
    const std::size_t first = random() % kKeysAtOnce;
    const bool goes_on = worker != 0 || point == kAnywhere;
    for (std::size_t i = 0; goes_on ? !ledger_.stop.load() : i < kKeysAtOnce; ++i) {
      const std::size_t key = group_ + (first + i) % kKeysAtOnce;
      ledger_.under_way[worker] = key + 1;
      Spend(*engine, key, random() % 2 == 0);
      ledger_.under_way[worker] = 0;
    }
    return 0;
  }

  std::int64_t NarrowOf(std::size_t key) const { return ledger_.narrow[key]; }
  std::int64_t AllOf(std::size_t key) const { return ledger_.narrow[key] + ledger_.other[key]; }

  void SpendTheRest(Engine& engine, std::size_t key) {
    while (Spend(engine, key, /*narrow=*/true)) {
    }
    while (Spend(engine, key, /*narrow=*/false)) {
    }
  }

  void Check() {
    const auto engine = OpenOrReport();
    REQUIRE_MESSAGE(engine != nullptr, ledger_.report.Text());
    for (std::size_t key = group_; key < group_ + kKeysAtOnce; ++key) {
      CAPTURE(key);
      SpendTheRest(*engine, key);
      REQUIRE(NarrowOf(key) <= kNarrow);
      REQUIRE(AllOf(key) <= kWide);
      REQUIRE(AllOf(key) >= kWide - stranded_[key]);
    }
    // Nothing stays spent for longer than a window.
    BeginAnew();
    for (std::size_t key = group_; key < group_ + kKeysAtOnce; ++key) {
      CAPTURE(key);
      SpendTheRest(*engine, key);
      REQUIRE(NarrowOf(key) == kNarrow);
      REQUIRE(AllOf(key) == kWide);
    }
    REQUIRE_MESSAGE(ledger_.report.count() == 0, ledger_.report.Text());
  }

  const std::string path_;
  KillLedger& ledger_;
  std::mt19937_64& random_;
  std::vector<std::string> secrets_;
  std::size_t group_ = 0;               // the first key of the episode
  std::vector<std::int64_t> stranded_;  // requests that died, by key
};

TEST_CASE(
    "Processes killed while they spend from rate limits admit no more than the limits, and lock no "
    "key for longer than a window") {
  const std::uint64_t seed = RunSeed();
  std::mt19937_64 random(seed);
  INFO("seed " << seed);
  const Shared<KillLedger> ledger;
  const std::int64_t stores = Scaled(4);
  for (std::int64_t store = 0; store < stores; ++store) {
    CAPTURE(store);
    const ScratchDirectory scratch;
    Killing killing(scratch.File("throttl.db"), *ledger, random);
    for (const Episode& episode : AllEpisodes()) killing.Run(episode);
  }
  std::string table;
  for (std::size_t i = 0; i < kPoints.size(); ++i) {
    absl::StrAppend(&table, "  ", std::string(kPoints[i]), " ", ledger->hits[i].load());
    CHECK_MESSAGE(ledger->hits[i].load() > 0, std::string(kPoints[i]));
  }
  MESSAGE("kills at points:" << table);
}

}  // namespace
}  // namespace throttl::testing
