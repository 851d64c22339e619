// Processes race for limits while everything around them changes: engines open and close, keys are
// rotated, plans raised and lowered, slots evicted, the table grows, and the month ends.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"
#include "throttl/secret.h"

#include "tests/crash/crash_parts.h"
#include "tests/crash/shared_clock.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

// Keys that everybody wants: some with a limit of their own, some on a plan whose limit moves. And
// cold ones, with which there are more subjects than slots.
constexpr std::size_t kFixedKeys = 6;
constexpr std::size_t kHotKeys = kFixedKeys + 4;
constexpr std::size_t kColdKeys = 2200;
constexpr std::size_t kKeys = kHotKeys + kColdKeys;
constexpr std::int64_t kSlots = 2048;  // of which the table has half at first
constexpr std::int64_t kFixedLimit = 20'000;
constexpr std::int64_t kColdLimit = 2;
constexpr int kChanges = 12;  // of the plan in a round, each with two rotations

constexpr std::int64_t kHourMs = 3'600'000;
constexpr std::int64_t kMonthEndMs = 1'769'904'000'000;        // the first of February 2026
constexpr std::int64_t kNextEndMs = 1'772'323'200'000;         // the first of March
constexpr std::int64_t kStartMs = kMonthEndMs - 48 * kHourMs;  // room for hours that pass on demand

enum class Phase : int {
  kRace = 1,
  kDrainOld = 2,  // until everybody has been refused on all keys
  kCross = 3,     // the month ends somewhere in here
  kDrainNew = 4,
  kEnd = 5
};

struct ChurnLedger {
  std::atomic<std::int64_t> now_ms = kStartMs;
  std::atomic<Phase> phase = Phase::kRace;
  // By keys and months.
  std::array<std::array<std::atomic<std::int64_t>, 2>, kKeys> admitted = {};
  std::array<std::array<std::atomic<std::int64_t>, 2>, kKeys> refused = {};
  // Of hot keys, by rotations; how many were announced and how many are done.
  std::array<std::array<std::array<char, 64>, kChanges + 1>, kHotKeys> secrets = {};
  std::array<std::atomic<int>, kHotKeys> announced = {};
  std::array<std::atomic<int>, kHotKeys> rotations = {};
  // {changes, limit} of the plan that moves: the largest that a call of now may decide by.
  std::atomic<std::uint64_t> in_force = 0;
  std::atomic<int> changes_done = 0;
  std::atomic<std::size_t> drain_next = 0;
  std::atomic<int> drained = 0;  // threads
  std::atomic<bool> wants_hour = false;
  std::atomic<std::int64_t> decisions = 0;
  std::atomic<std::int64_t> lives = 0;
  Report report;
};

constexpr std::uint64_t InForce(int changes, std::int64_t limit) {
  return static_cast<std::uint64_t>(changes) << 32 | static_cast<std::uint64_t>(limit);
}
constexpr std::int64_t LimitOf(std::uint64_t in_force) {
  return static_cast<std::int64_t>(in_force & 0xFFFFFFFF);
}

bool IsMoving(std::size_t key) { return key >= kFixedKeys && key < kHotKeys; }
std::string IdOf(std::size_t key) { return absl::StrCat("key_", key); }
std::string ColdSecret(std::size_t key) {
  return absl::StrCat("tk_", absl::Dec(key, absl::kZeroPad16));
}

std::unique_ptr<Engine> OpenOrReport(const std::string& path, ChurnLedger& ledger) {
  auto engine = Engine::Open(path, {.settle_interval = absl::Milliseconds(10),
                                    .active_subjects_max = kSlots,
                                    .clock = std::make_shared<SharedClock>(ledger.now_ms)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

// One thread that validates, over the engines that its process opens one after the other.
class Churner {
 public:
  Churner(ChurnLedger& ledger, std::chrono::microseconds pause, std::uint64_t seed)
      : ledger_(ledger), pause_(pause), random_(seed) {}

  // Until the engine is to be closed, or the round ends.
  void Live(Engine& engine, std::atomic<std::int64_t>& steps_left) {
    while (steps_left.fetch_sub(1) > 0 && ledger_.report.count() == 0) {
      const Phase phase = ledger_.phase;
      if (phase == Phase::kEnd) return;
      if (phase != Phase::kDrainOld && phase != Phase::kDrainNew) drained_ = false;
      if (phase == Phase::kRace || phase == Phase::kCross || drained_) {
        Race(engine);
      } else {
        Drain(engine, phase);
      }
    }
  }

 private:
  enum class Answer { kAllowed, kRefused, kAgain };

  // Who is refused waits a little, as a client does: the others need the processor.
  void Race(Engine& engine) {
    const bool cold = random_() % 200 == 0;
    const std::size_t key = cold ? kHotKeys + random_() % kColdKeys : random_() % kHotKeys;
    if (Validate(engine, key) != Answer::kRefused) return;
    std::this_thread::sleep_for(pause_);
  }

  // The hot keys, with everybody; then its share of the cold ones.
  void Drain(Engine& engine, Phase phase) {
    for (; hot_ < kHotKeys; ++hot_) {
      if (!DrainKey(engine, phase, hot_)) return;
    }
    while (cold_ != 0 || (cold_ = kHotKeys + ledger_.drain_next.fetch_add(1)) < kKeys) {
      if (!DrainKey(engine, phase, cold_)) return;
      cold_ = 0;
    }
    cold_ = 0;
    hot_ = 0;
    drained_ = true;
    ledger_.drained.fetch_add(1);
  }

  // False when the phase ends before.
  bool DrainKey(Engine& engine, Phase phase, std::size_t key) {
    while (Validate(engine, key) != Answer::kRefused) {
      if (ledger_.phase != phase || ledger_.report.count() != 0) {
        hot_ = 0;
        cold_ = 0;
        return false;
      }
    }
    return true;
  }

  Answer Validate(Engine& engine, std::size_t key) {
    std::string secret;
    int rotation = 0;
    if (key < kHotKeys) {
      rotation = ledger_.rotations[key];
      // Both secrets of a rotated key spend from one counter.
      if (rotation > 0 && random_() % 2 == 0) --rotation;
      secret = ledger_.secrets[key][static_cast<std::size_t>(rotation)].data();
    } else {
      secret = ColdSecret(key);
    }
    const std::uint64_t before = ledger_.in_force;
    const Decision d = engine.Validate(secret);
    const std::uint64_t after = ledger_.in_force;
    ledger_.decisions.fetch_add(1, std::memory_order_relaxed);
    if (d.allowed() || d.code == DecisionCode::kQuotaExceeded) {
      return Enter(key, d, before, after);
    }
    // The one before the last ended with the rotation that is under way.
    const bool ended = key < kHotKeys && d.code == DecisionCode::kNotFound &&
                       ledger_.announced[key] >= rotation + 2;
    if (ended) return Answer::kAgain;
    const absl::Status error = engine.stats().last_store_error;
    if (d.code == DecisionCode::kStoreUnavailable) {
      // What is settled can be evicted in the next hour.
      if (absl::IsResourceExhausted(error) && engine.Flush().ok()) ledger_.wants_hour = true;
      if (absl::IsResourceExhausted(error) || ++waits_ < kWaitsMax) return Answer::kAgain;
    }
    ledger_.report.Add(
        absl::StrCat("code ", static_cast<int>(d.code), " of key ", key, " ", error.ToString()));
    return Answer::kAgain;
  }

  Answer Enter(std::size_t key, const Decision& d, std::uint64_t before, std::uint64_t after) {
    const std::int64_t end_ms = absl::ToUnixMillis(d.quota.resets_at.value_or(absl::UnixEpoch()));
    if (end_ms != kMonthEndMs && end_ms != kNextEndMs) {
      ledger_.report.Add(absl::StrCat("a month that ends at ", end_ms));
      return Answer::kAgain;
    }
    const std::size_t month = end_ms == kMonthEndMs ? 0 : 1;
    (d.allowed() ? ledger_.admitted : ledger_.refused)[key][month].fetch_add(1);
    if (!d.allowed()) return Answer::kRefused;
    const std::int64_t limit = IsMoving(key)    ? std::max(LimitOf(before), LimitOf(after))
                               : key < kHotKeys ? kFixedLimit
                                                : kColdLimit;
    // Of more than one change in between, one may have been larger.
    const bool knows_limit = !IsMoving(key) || (after >> 32) - (before >> 32) <= 1;
    if (knows_limit && d.quota.used > limit) {
      ledger_.report.Add(absl::StrCat("unit ", d.quota.used, " of key ", key, " with ", limit));
    }
    return Answer::kAllowed;
  }

  static constexpr int kWaitsMax = 1000;  // a lock was not to be had in time, which a host repeats
  ChurnLedger& ledger_;
  const std::chrono::microseconds pause_;
  std::mt19937_64 random_;
  bool drained_ = false;
  std::size_t hot_ = 0;   // where a drain that was interrupted by a closing goes on
  std::size_t cold_ = 0;  // 0: to be drawn
  int waits_ = 0;
};

struct Shape {
  int processes = 1;
  int threads = 1;
};

// Opens and closes the engine until the round ends.
int RunProcess(const std::string& path, const Shape& shape, std::uint64_t seed,
               ChurnLedger& ledger) {
  std::mt19937_64 random(seed);
  std::vector<Churner> churners;
  for (int i = 0; i < shape.threads; ++i) {
    const std::chrono::microseconds pause(25 * shape.processes * shape.threads);
    churners.emplace_back(ledger, pause, random());
  }
  while (ledger.phase != Phase::kEnd && ledger.report.count() == 0) {
    const std::unique_ptr<Engine> engine = OpenOrReport(path, ledger);
    if (engine == nullptr) return 1;
    ledger.lives.fetch_add(1);
    std::atomic<std::int64_t> steps_left =
        shape.threads * static_cast<std::int64_t>(1000 + random() % 20'000);
    std::vector<std::thread> threads;
    for (Churner& churner : churners) {
      threads.emplace_back([&] { churner.Live(*engine, steps_left); });
    }
    for (std::thread& thread : threads) thread.join();
    const absl::Status closed = engine->Close();
    if (!closed.ok()) ledger.report.Add("close: " + closed.ToString());
  }
  return 0;
}

// Raises and lowers the plan, and rotates the hot keys: half of it in the old month.
class Changer {
 public:
  Changer(Engine& engine, ChurnLedger& ledger, std::uint64_t seed)
      : engine_(engine), ledger_(ledger), random_(seed) {}

  int Run() {
    std::int64_t highest = 0;
    std::int64_t limit = LimitOf(ledger_.in_force);
    for (int change = 1; change <= kChanges && ledger_.report.count() == 0; ++change) {
      while (change > kChanges / 2 && ledger_.now_ms < kMonthEndMs && ledger_.report.count() == 0) {
        std::this_thread::yield();
      }
      limit = std::max(limit, highest) + static_cast<std::int64_t>(random_() % 3000);
      highest = limit;
      Raise(limit);
      limit -= static_cast<std::int64_t>(random_() % 2000);
      Lower(limit);
      // One key of each kind.
      Rotate(static_cast<std::size_t>(change) % kFixedKeys);
      Rotate(kFixedKeys + static_cast<std::size_t>(change) % (kHotKeys - kFixedKeys));
      ledger_.changes_done = change;
    }
    Raise(highest);
    return ledger_.report.count() == 0 ? 0 : 1;
  }

 private:
  void Put(std::int64_t limit) {
    const auto put = engine_.PutPlan({.id = "moving", .quota = Quota{.limit = limit}});
    if (!put.ok()) ledger_.report.Add("plan: " + put.status().ToString());
  }
  void Raise(std::int64_t limit) {
    ledger_.in_force = InForce(++moves_, limit);
    Put(limit);
  }
  void Lower(std::int64_t limit) {
    Put(limit);
    ledger_.in_force = InForce(++moves_, limit);
  }
  void Rotate(std::size_t key) {
    const int rotation = ++ledger_.announced[key];
    const auto issued = engine_.RotateKey(IdOf(key), {.overlap = absl::Hours(24 * 60)});
    if (!issued.ok()) return ledger_.report.Add("rotate: " + issued.status().ToString());
    std::array<char, 64>& secret = ledger_.secrets[key][static_cast<std::size_t>(rotation)];
    issued->secret.Reveal().copy(secret.data(), secret.size() - 1);
    ledger_.rotations[key] = rotation;
  }

  Engine& engine_;
  ChurnLedger& ledger_;
  std::mt19937_64 random_;
  int moves_ = 0;
};

class Round {
 public:
  Round(const Shape& shape, bool drains_old, std::uint64_t seed)
      : shape_(shape), drains_old_(drains_old), random_(seed) {}

  // Returns its row of the table.
  std::string Run() {
    MakeKeys();
    std::vector<pid_t> children;
    for (int i = 0; i < shape_.processes; ++i) {
      const std::uint64_t seed = random_();
      children.push_back(StartChild([&] { return RunProcess(path_, shape_, seed, *ledger_); }));
    }
    const std::uint64_t seed = random_();
    children.push_back(StartChild([&] {
      const auto engine = OpenOrReport(path_, *ledger_);
      return engine == nullptr ? 1 : Changer(*engine, *ledger_, seed).Run();
    }));
    Direct();
    for (const pid_t child : children) CHECK(WaitForChild(child) == "");
    REQUIRE_MESSAGE(ledger_->report.count() == 0, ledger_->report.Text());
    return Check();
  }

 private:
  void MakeKeys() {
    const auto engine = OpenOrReport(path_, *ledger_);
    REQUIRE_MESSAGE(engine != nullptr, ledger_->report.Text());
    const std::int64_t first = 2000;
    ledger_->in_force = InForce(0, first);
    REQUIRE(engine->PutPlan({.id = "moving", .quota = Quota{.limit = first}}).ok());
    REQUIRE(engine->PutPlan({.id = "fixed", .quota = Quota{.limit = kFixedLimit}}).ok());
    REQUIRE(engine->PutPlan({.id = "cold", .quota = Quota{.limit = kColdLimit}}).ok());
    for (std::size_t key = 0; key < kHotKeys; ++key) {
      const auto issued = engine->CreateKey(
          {.owner_id = "acme", .plan_id = IsMoving(key) ? "moving" : "fixed", .id = IdOf(key)});
      REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
      issued->secret.Reveal().copy(ledger_->secrets[key][0].data(), 63);
    }
    std::vector<ImportedKey> imported;
    for (std::size_t key = kHotKeys; key < kKeys; ++key) {
      imported.push_back({.key = {.owner_id = "acme", .plan_id = "cold", .id = IdOf(key)},
                          .digest = Sha256(ColdSecret(key))});
    }
    REQUIRE(engine->ImportKeys(imported).ok());
  }

  // Moves the clock and the phases. The month ends while all of them race.
  void Direct() {
    const std::int64_t race = 10'000;
    AwaitDecisions(race);
    if (drains_old_) AwaitDrain(Phase::kDrainOld);
    ledger_->phase = Phase::kCross;
    AwaitDecisions(race);
    ledger_->now_ms = kMonthEndMs + 1;
    Await([&] { return ledger_->changes_done == kChanges; });
    AwaitDecisions(race);
    AwaitDrain(Phase::kDrainNew);
    ledger_->phase = Phase::kEnd;
  }
  void AwaitDecisions(std::int64_t more) {
    const std::int64_t from = ledger_->decisions;
    Await([&] { return ledger_->decisions >= from + more; });
  }
  void AwaitDrain(Phase phase) {
    ledger_->drained = 0;
    ledger_->drain_next = 0;
    ledger_->phase = phase;
    Await([&] { return ledger_->drained == shape_.processes * shape_.threads; });
  }

  // Lets an hour pass when all slots are in use in this one, and now and then.
  template <typename Condition>
  void Await(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(100);
    for (int tick = 1; !condition() && ledger_->report.count() == 0; ++tick) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (std::chrono::steady_clock::now() > end) ledger_->report.Add("the round does not end");
      if (tick % 10 != 0) continue;
      const std::int64_t now = ledger_->now_ms;
      const std::int64_t month_end = now < kMonthEndMs ? kMonthEndMs : kNextEndMs;
      const std::int64_t spare = now < kMonthEndMs ? 40 * kHourMs : 400 * kHourMs;
      const bool chance = random_() % 5 == 0 && now + spare < month_end;
      const bool wanted = ledger_->wants_hour.exchange(false);
      if ((wanted || chance) && now + kHourMs < month_end) ledger_->now_ms = now + kHourMs;
    }
  }

  std::string Check() {
    const auto engine = OpenOrReport(path_, *ledger_);
    REQUIRE_MESSAGE(engine != nullptr, ledger_->report.Text());
    REQUIRE(engine->Flush().ok());
    std::array<std::int64_t, 2> units = {};
    std::array<std::int64_t, 2> full = {};
    for (std::size_t key = 0; key < kKeys; ++key) {
      CAPTURE(key);
      const std::int64_t limit = IsMoving(key)    ? LimitOf(ledger_->in_force)
                                 : key < kHotKeys ? kFixedLimit
                                                  : kColdLimit;
      for (const std::size_t month : {0U, 1U}) {
        CAPTURE(month);
        const std::int64_t admitted = ledger_->admitted[key][month];
        CHECK(admitted <= limit);
        // Enough was asked for. Where the plan moved, only of what it was in the end.
        const bool sufficed = month == 1 || (ledger_->refused[key][month] > 0 && !IsMoving(key));
        if (sufficed) CHECK(admitted == limit);
        CHECK(StoredOf(*engine, key, month) == admitted);
        units[month] += admitted;
        full[month] += sufficed ? 1 : 0;
      }
    }
    CHECK(full[1] == static_cast<std::int64_t>(kKeys));
    CHECK((!drains_old_ || full[0] == static_cast<std::int64_t>(kKeys - (kHotKeys - kFixedKeys))));
    return absl::StrCat(shape_.processes, "x", shape_.threads, ": ", ledger_->decisions.load(),
                        " decisions, units ", units[0], " + ", units[1], ", keys at their limit ",
                        full[0], " + ", full[1], ", ", ledger_->lives.load(), " openings, ",
                        2 * kChanges + 1, " moves of the plan, ", 2 * kChanges, " rotations, ",
                        (ledger_->now_ms - kStartMs) / kHourMs, " hours");
  }

  std::int64_t StoredOf(Engine& engine, std::size_t key, std::size_t month) {
    const CounterId id{
        .subject = "k:" + IdOf(key),
        .period_start = month == 0 ? absl::FromUnixMillis(kMonthEndMs) - absl::Hours(31 * 24)
                                   : absl::FromUnixMillis(kMonthEndMs)};
    const auto counters = engine.store()->ReadCounters(std::span(&id, 1));
    REQUIRE_MESSAGE(counters.ok(), counters.status().ToString());
    return counters->front().used;
  }

  const Shape shape_;
  const bool drains_old_;
  std::mt19937_64 random_;
  const ScratchDirectory scratch_;
  const std::string path_ = scratch_.File("throttl.db");
  const Shared<ChurnLedger> ledger_;
};

TEST_CASE(
    "Units admitted to a subject in a period never exceed its limit, and reach it, while engines "
    "open and close, keys rotate, plans move, slots are evicted and the month ends") {
  // Every other one drains the old month.
  constexpr std::array<Shape, 8> kShapes = {
      {{1, 2}, {8, 4}, {2, 4}, {2, 1}, {4, 2}, {8, 8}, {2, 1}, {4, 2}}};
  const std::int64_t rounds = Scaled(std::ssize(kShapes));
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  std::string table;
  for (std::int64_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const auto number = static_cast<std::size_t>(round);
    Round churn(kShapes[number % kShapes.size()], round % 2 == 0, seed + number);
    absl::StrAppend(&table, "\n  ", churn.Run());
  }
  MESSAGE("rounds by processes x threads:" << table);
}

}  // namespace
}  // namespace throttl::testing
