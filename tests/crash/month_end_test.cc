// The end of a month, with 100,000 active keys: each starts again exactly once and nothing is lost,
// also when processes are killed inside of it.
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
#include "throttl/sqlite_store.h"

#include "tests/crash/crash_parts.h"
#include "tests/crash/fault_victim.h"
#include "tests/crash/shared_clock.h"
#include "tests/engine/forwarding_store.h"
#include "tests/scale.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kKeysMax = 100'000;
constexpr std::size_t kMonths = 3;
constexpr std::int64_t kLimit = 50;
// The first of January to April 2026.
constexpr std::array<std::int64_t, kMonths + 1> kMonthStartMs = {
    1'767'225'600'000, 1'769'904'000'000, 1'772'323'200'000, 1'775'001'600'000};

struct MonthLedger {
  std::atomic<std::int64_t> now_ms = kMonthStartMs[1] - 60'000;
  std::array<std::array<std::atomic<std::int32_t>, kKeysMax>, kMonths> spent = {};  // acknowledged
  std::atomic<std::size_t> next = 0;       // key of the crossing that goes on after a kill
  std::atomic<std::int64_t> spending = 0;  // key that may be being spent on, plus one
  Report report;
};

std::size_t KeyCount() { return static_cast<std::size_t>(Scaled(kKeysMax)); }
// Of those with which processes are killed: one transaction of all takes seconds.
std::size_t KilledCount() { return KeyCount() / 4; }
std::string SecretOf(std::size_t key) {
  return absl::StrCat("tk_", absl::Dec(key, absl::kZeroPad16));
}
std::string IdOf(std::size_t key) { return absl::StrCat("key_", key); }
std::int64_t CostOf(std::size_t key) { return static_cast<std::int64_t>(key % 7) + 1; }

// Counts what the engine asks of the store.
class CountingStore final : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;

  absl::StatusOr<std::vector<KeyRecord>> FindKeys(std::span<const std::string> locators) override {
    ++calls;
    return ForwardingStore::FindKeys(locators);
  }
  absl::StatusOr<std::vector<Counter>> ReadCounters(std::span<const CounterId> ids) override {
    ++calls;
    return ForwardingStore::ReadCounters(ids);
  }
  absl::StatusOr<std::vector<SettleReply>> Settle(const SettleBatch& batch) override {
    ++calls;
    ++settles;
    for (const SettleRow& row : batch.rows) {
      if (row.counter.period_start == absl::FromUnixMillis(kMonthStartMs[0])) ++old_rows;
    }
    return ForwardingStore::Settle(batch);
  }

  std::atomic<std::int64_t> calls = 0;  // that a request might make
  std::atomic<std::int64_t> settles = 0;
  std::atomic<std::int64_t> old_rows = 0;  // of January
};

std::shared_ptr<CountingStore> OpenStore(const std::string& path) {
  auto store = OpenSqliteStore({.path = path});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  return std::make_shared<CountingStore>(*std::move(store));
}

EngineOptions Options(const MonthLedger& ledger) {
  return {.settle_thread = false,
          .active_subjects_max = kKeysMax,
          .clock = std::make_shared<SharedClock>(ledger.now_ms)};
}

void MakeKeys(Engine& engine) {
  REQUIRE(engine.PutPlan({.id = "monthly", .quota = Quota{.limit = kLimit}}).ok());
  for (std::size_t first = 0; first < KeyCount(); first += kStoreBatchMax) {
    std::vector<ImportedKey> keys;
    for (std::size_t key = first; key < std::min(first + kStoreBatchMax, KeyCount()); ++key) {
      keys.push_back({.key = {.owner_id = "acme", .plan_id = "monthly", .id = IdOf(key)},
                      .digest = Sha256(SecretOf(key))});
    }
    REQUIRE(engine.ImportKeys(keys).ok());
  }
}

// Spends `cost` on the key; it must then have used `used` of the month.
struct Expected {
  std::size_t key = 0;
  std::size_t month = 0;
  std::int64_t used = 0;
};
void Spend(Engine& engine, MonthLedger& ledger, const Expected& expected) {
  const std::int64_t cost = CostOf(expected.key);
  const Decision d = engine.Validate(SecretOf(expected.key), {.cost = cost});
  const bool right = d.allowed() && d.quota.used == expected.used &&
                     d.quota.remaining() == kLimit - expected.used &&
                     d.quota.resets_at == absl::FromUnixMillis(kMonthStartMs[expected.month + 1]);
  if (right) {
    ledger.spent[expected.month][expected.key] += static_cast<std::int32_t>(cost);
  } else {
    ledger.report.Add(absl::StrCat("code ", static_cast<int>(d.code), " of key ", expected.key,
                                   ": used ", d.quota.used, " instead of ", expected.used));
  }
}

std::vector<std::int64_t> StoredOf(QuotaStore& store, std::size_t month) {
  std::vector<std::int64_t> stored;
  while (stored.size() < KeyCount()) {
    std::vector<CounterId> ids;
    const std::size_t count = std::min<std::size_t>(KeyCount() - stored.size(), kStoreBatchMax);
    for (std::size_t i = 0; i < count; ++i) {
      ids.push_back({.subject = "k:" + IdOf(stored.size() + i),
                     .period_start = absl::FromUnixMillis(kMonthStartMs[month])});
    }
    const auto counters = store.ReadCounters(ids);
    REQUIRE_MESSAGE(counters.ok(), counters.status().ToString());
    for (const Counter& counter : *counters) stored.push_back(counter.used);
  }
  return stored;
}

// The store has what the ledger has, and at most what was in flight more. Returns units.
std::int64_t CheckMonth(QuotaStore& store, const MonthLedger& ledger, std::size_t month,
                        std::span<const std::int64_t> in_flight = {}) {
  CAPTURE(month);
  const std::vector<std::int64_t> stored = StoredOf(store, month);
  std::int64_t units = 0;
  std::int64_t wrong = 0;
  for (std::size_t key = 0; key < KeyCount(); ++key) {
    const std::int64_t spent = ledger.spent[month][key];
    const std::int64_t more = in_flight.empty() ? 0 : in_flight[key];
    if (stored[key] < spent || stored[key] > spent + more) ++wrong;
    units += stored[key];
  }
  CHECK(wrong == 0);
  return units;
}

// Every key is validated before and after, and half of them once more just before, which nothing
// settles.
void CrossInPeace(const std::string& path, MonthLedger& ledger) {
  const std::shared_ptr<CountingStore> store = OpenStore(path);
  const auto engine = Engine::Create(store, Options(ledger));
  REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
  MakeKeys(**engine);
  const auto spend = [&](std::size_t month, std::int64_t times, std::size_t step) {
    for (std::size_t key = 0; key < KeyCount(); key += step) {
      Spend(**engine, ledger, {.key = key, .month = month, .used = times * CostOf(key)});
    }
    REQUIRE_MESSAGE(ledger.report.count() == 0, ledger.report.Text());
  };
  spend(0, 1, 1);
  REQUIRE((*engine)->Flush().ok());
  spend(0, 2, 2);

  ledger.now_ms = kMonthStartMs[1];
  store->calls = 0;
  store->settles = 0;
  store->old_rows = 0;
  const auto start = std::chrono::steady_clock::now();
  spend(1, 1, 1);
  const std::chrono::duration<double> crossing = std::chrono::steady_clock::now() - start;
  CHECK(store->calls == 0);
  REQUIRE((*engine)->Flush().ok());
  CHECK(store->settles == 1);
  CHECK(store->old_rows == static_cast<std::int64_t>(KeyCount()));
  // Once: not again by the next request, nor by a clock that goes back.
  spend(1, 2, 1);
  ledger.now_ms = kMonthStartMs[1] - 1;
  spend(1, 3, 2);
  ledger.now_ms = kMonthStartMs[1] + 1;
  REQUIRE((*engine)->Flush().ok());
  CHECK(store->settles == 2);
  CHECK(store->old_rows == static_cast<std::int64_t>(KeyCount()));
  const std::int64_t old_units = CheckMonth(*store, ledger, 0);
  const std::int64_t new_units = CheckMonth(*store, ledger, 1);
  MESSAGE(absl::StrCat(KeyCount(), " keys crossed in ", crossing.count(), " s, ", old_units,
                       " units of the old month and ", new_units, " of the new one"));
}

// The crossing of the next month, in processes of which all but the last one are killed.
class KilledCrossing {
 public:
  KilledCrossing(std::string path, MonthLedger& ledger, std::uint64_t seed)
      : path_(std::move(path)), ledger_(ledger), random_(seed) {}

  void Run() {
    ledger_.now_ms = kMonthStartMs[2];
    // Inside of the requests: where it has come to, at random, or at a point of a turn.
    constexpr std::array<std::string_view, 5> kTurnPoints = {
        "change.valid", "change.closed", "change.state", "change.fields", "change.opened"};
    constexpr std::size_t kStops = 24;
    for (std::size_t stop = 1; stop <= kStops; ++stop) {
      stop_at_ = stop * KilledCount() / (kStops + 1) + random_() % (KilledCount() / (kStops + 1));
      std::optional<FatalPoint> point;
      if (stop % 2 == 0) {
        point = FatalPoint{.name = kTurnPoints[stop / 2 % kTurnPoints.size()],
                           .passes = static_cast<std::int64_t>(random_() % 50)};
      }
      const pid_t child = StartCrosser(point);
      Kill(child);
    }
    // Inside of the one transaction with the old totals, and of what follows it.
    constexpr std::array<std::string_view, 5> kSettlePoints = {
        "store.row", "store.usage", "store.commit", "settle.stored", "settle.cleared"};
    stop_at_ = KilledCount();
    for (const std::string_view point : kSettlePoints) {
      const bool once = point == "store.commit" || point == "settle.stored";
      const auto passes = once ? 0 : static_cast<std::int64_t>(random_() % KilledCount());
      Kill(StartCrosser(FatalPoint{.name = point, .passes = passes}));
      CHECK(toll_->HitsOf(point) == 1);
    }
    const pid_t last = StartCrosser(std::nullopt);
    REQUIRE_MESSAGE(WaitForChild(last) == "", ledger_.report.Text());
  }

  std::int64_t kills() const { return kills_; }
  std::span<const std::int64_t> in_flight() const { return in_flight_; }
  const FaultToll& toll() const { return *toll_; }

 private:
  pid_t StartCrosser(const std::optional<FatalPoint>& point) {
    return StartChild([&] {
      if (point.has_value()) ArmFaultPoint(*point, *toll_);
      const auto engine = Engine::Open(path_, Options(ledger_));
      if (!engine.ok()) {
        ledger_.report.Add("open: " + engine.status().ToString());
        return 1;
      }
      while (ledger_.next < KilledCount() && ledger_.report.count() == 0) Cross(**engine);
      return ledger_.report.count() == 0 && (*engine)->Close().ok() ? 0 : 1;
    });
  }

  void Cross(Engine& engine) {
    const std::size_t key = ledger_.next;
    ledger_.spending = static_cast<std::int64_t>(key) + 1;
    // A killed request may have spent its units, and so is there twice.
    const Decision peek = engine.Peek(SecretOf(key));
    if (peek.quota.used != 0 && in_flight_[key] == 0) {
      ledger_.report.Add(absl::StrCat("key ", key, " did not start again: ", peek.quota.used));
    }
    Spend(engine, ledger_, {.key = key, .month = 2, .used = peek.quota.used + CostOf(key)});
    ledger_.spending = 0;
    ledger_.next = key + 1;
  }

  // Where it has come to its place, or dies by itself.
  void Kill(pid_t child) {
    int status = 0;
    pid_t dead = 0;
    while (dead == 0 && ledger_.report.count() == 0 && ledger_.next < stop_at_) {
      dead = waitpid(child, &status, WNOHANG);
      if (dead == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    if (dead == 0) {
      if (stop_at_ < KilledCount()) kill(child, SIGKILL);
      REQUIRE(waitpid(child, &status, 0) == child);
    }
    REQUIRE_MESSAGE(WIFSIGNALED(status), ledger_.report.Text());
    const std::int64_t key = ledger_.spending.exchange(0);
    if (key != 0)
      in_flight_[static_cast<std::size_t>(key - 1)] += CostOf(static_cast<std::size_t>(key - 1));
    ++kills_;
  }

  const std::string path_;
  MonthLedger& ledger_;
  std::mt19937_64 random_;
  const Shared<FaultToll> toll_;
  std::vector<std::int64_t> in_flight_ = std::vector<std::int64_t>(kKeysMax);
  std::size_t stop_at_ = 0;
  std::int64_t kills_ = 0;
};

TEST_CASE(
    "at the end of a month each of 100,000 keys starts again exactly once, without the store, and "
    "one transaction has all old totals; and nothing is lost by kills inside") {
  const std::uint64_t seed = RunSeed();
  INFO("seed " << seed);
  const ScratchDirectory scratch;
  const std::string path = scratch.File("throttl.db");
  const Shared<MonthLedger> ledger;
  CrossInPeace(path, *ledger);
  KilledCrossing crossing(path, *ledger, seed);
  crossing.Run();
  const auto store = OpenSqliteStore({.path = path});
  REQUIRE(store.ok());
  CheckMonth(**store, *ledger, 0);
  CheckMonth(**store, *ledger, 1);
  const std::int64_t units = CheckMonth(**store, *ledger, 2, crossing.in_flight());
  MESSAGE(absl::StrCat(crossing.kills(), " kills inside of a crossing of ", KilledCount(),
                       " keys, ", units,
                       " units of the new month; kills at points:", crossing.toll().Table()));
}

}  // namespace
}  // namespace throttl::testing
