#include "tests/crash/quota_ledger.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/quota_store.h"
#include "throttl/secret.h"

#include "tests/crash/shared_clock.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kMinuteMs = 60'000;
constexpr std::int64_t kHourMs = 60 * kMinuteMs;
constexpr std::int64_t kHourLimit = 3000;
constexpr std::int64_t kDayLimit = 40'000;
constexpr std::int64_t kRareLimit = 3;
// Of one process: a lock that was not to be had in time, which a host repeats.
constexpr int kWaitsMax = 1000;

std::int64_t PeriodMs(std::size_t key) { return key < kHourlyKeys ? kHourMs : 24 * kHourMs; }

// Where the ledger has what a decision spent.
std::atomic<std::int64_t>* PlaceOf(QuotaLedger& ledger, std::size_t key, const Decision& d) {
  if (key >= kSteadyKeys) return &ledger.rare[key - kSteadyKeys];
  if (!d.quota.resets_at.has_value()) return nullptr;
  const std::int64_t end = absl::ToUnixMillis(*d.quota.resets_at) - kQuotaStartMs;
  const std::int64_t period = end / PeriodMs(key) - 1;
  if (period < 0 || period >= static_cast<std::int64_t>(kQuotaPeriods)) return nullptr;
  return &ledger.steady[key][static_cast<std::size_t>(period)];
}

CounterId CounterOf(std::size_t key, std::size_t period) {
  const std::int64_t start_ms =
      key >= kSteadyKeys ? 0 : kQuotaStartMs + static_cast<std::int64_t>(period) * PeriodMs(key);
  return {.subject = absl::StrCat("k:", QuotaKeyId(key)),
          .period_start = absl::FromUnixMillis(start_ms)};
}

std::vector<std::int64_t> StoredOf(QuotaStore& store, std::size_t key, std::size_t periods) {
  std::vector<std::int64_t> stored;
  while (stored.size() < periods) {
    std::vector<CounterId> ids;
    const std::size_t count = std::min<std::size_t>(periods - stored.size(), kStoreBatchMax);
    for (std::size_t i = 0; i < count; ++i) ids.push_back(CounterOf(key, stored.size() + i));
    const auto counters = store.ReadCounters(ids);
    REQUIRE_MESSAGE(counters.ok(), counters.status().ToString());
    for (const Counter& counter : *counters) stored.push_back(counter.used);
  }
  return stored;
}

// Units in the hours of the key's history.
std::int64_t HistoryOf(QuotaStore& store, std::size_t key) {
  const auto hours = store.ReadUsage({.key_id = QuotaKeyId(key), .bucket = Period::kHour});
  REQUIRE_MESSAGE(hours.ok(), hours.status().ToString());
  std::int64_t units = 0;
  for (const UsageBucket& hour : *hours) {
    CHECK(hour.allowed == hour.units);
    units += hour.units;
  }
  return units;
}

}  // namespace

void QuotaLedger::Advance(std::int64_t ms) {
  constexpr std::int64_t kEnd =
      kQuotaStartMs + static_cast<std::int64_t>(kQuotaPeriods - 1) * kHourMs;
  std::int64_t now = now_ms.load();
  while (now + ms < kEnd && !now_ms.compare_exchange_weak(now, now + ms)) {
  }
}

std::string QuotaKeyId(std::size_t key) { return absl::StrCat("key_", key); }

std::int64_t QuotaLimit(std::size_t key) {
  if (key >= kSteadyKeys) return kRareLimit;
  return key < kHourlyKeys ? kHourLimit : kDayLimit;
}

std::unique_ptr<Engine> OpenQuotaEngine(const std::string& path, QuotaLedger& ledger) {
  auto engine = Engine::Open(path, {.settle_interval = absl::Milliseconds(10),
                                    .active_subjects_max = kQuotaSlots,
                                    .clock = std::make_shared<SharedClock>(ledger.now_ms)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

void MakeQuotaKeys(Engine& engine, QuotaLedger& ledger) {
  const auto put = [&](const char* id, Period period, std::int64_t limit) {
    REQUIRE(engine.PutPlan({.id = id, .quota = Quota{.limit = limit, .period = period}}).ok());
  };
  put("hourly", Period::kHour, kHourLimit);
  put("daily", Period::kDay, kDayLimit);
  put("rare", Period::kLifetime, kRareLimit);
  for (std::size_t key = 0; key < kSteadyKeys; ++key) {
    const auto issued = engine.CreateKey({.owner_id = "acme",
                                          .plan_id = key < kHourlyKeys ? "hourly" : "daily",
                                          .id = QuotaKeyId(key)});
    REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
    issued->secret.Reveal().copy(ledger.secrets[key].data(), ledger.secrets[key].size() - 1);
  }
  std::vector<ImportedKey> imported;
  for (std::size_t key = kSteadyKeys; key < kQuotaKeys; ++key) {
    const std::string secret = absl::StrCat("tk_", absl::Dec(key, absl::kZeroPad16));
    secret.copy(ledger.secrets[key].data(), ledger.secrets[key].size() - 1);
    imported.push_back({.key = {.owner_id = "acme", .plan_id = "rare", .id = QuotaKeyId(key)},
                        .digest = Sha256(secret)});
  }
  const auto report = engine.ImportKeys(imported);
  REQUIRE_MESSAGE(report.ok(), report.status().ToString());
  REQUIRE(report->imported == static_cast<std::int64_t>(kRareKeys));
}

bool SpendOnce(Engine& engine, QuotaLedger& ledger, std::size_t key,
               std::atomic<std::int64_t>& spending) {
  static std::atomic<int> waits = 0;
  spending = static_cast<std::int64_t>(key) + 1;
  const Decision d = engine.Validate(ledger.Secret(key));
  if (d.allowed()) {
    std::atomic<std::int64_t>* const place = PlaceOf(ledger, key, d);
    if (place == nullptr || d.quota.used > QuotaLimit(key)) {
      ledger.report.Add(absl::StrCat("allowed unit ", d.quota.used, " of key ", key));
      return false;
    }
    place->fetch_add(1);
  }
  spending = 0;
  if (d.allowed() || d.code == DecisionCode::kQuotaExceeded) return true;
  const absl::Status error = engine.stats().last_store_error;
  if (d.code == DecisionCode::kStoreUnavailable) {
    // All slots are in use in this hour: in the next one they are not.
    if (absl::IsResourceExhausted(error)) ledger.Advance(10 * kMinuteMs);
    if (waits.fetch_add(1) < kWaitsMax || absl::IsResourceExhausted(error)) return true;
  }
  ledger.report.Add(
      absl::StrCat("code ", static_cast<int>(d.code), " of key ", key, " ", error.ToString()));
  return false;
}

void AddInFlight(QuotaLedger& ledger, std::size_t worker, std::span<std::int64_t> in_flight) {
  for (std::atomic<std::int64_t>& spending : ledger.spending[worker]) {
    const std::int64_t key = spending.exchange(0);
    if (key != 0) ++in_flight[static_cast<std::size_t>(key - 1)];
  }
}

QuotaTotals CheckLedger(Engine& engine, const QuotaLedger& ledger,
                        std::span<const std::int64_t> in_flight) {
  REQUIRE_MESSAGE(ledger.report.count() == 0, ledger.report.Text());
  REQUIRE(engine.Flush().ok());
  QuotaStore& store = *engine.store();
  QuotaTotals totals;
  for (std::size_t key = 0; key < kQuotaKeys; ++key) {
    CAPTURE(key);
    const std::int64_t now = (ledger.now_ms - kQuotaStartMs) / PeriodMs(key);
    const std::size_t periods = key < kSteadyKeys ? static_cast<std::size_t>(now + 1) : 1;
    const std::vector<std::int64_t> stored = StoredOf(store, key, periods);
    std::int64_t stored_sum = 0;
    std::int64_t acknowledged_sum = 0;
    for (std::size_t period = 0; period < periods; ++period) {
      CAPTURE(period);
      const std::int64_t acknowledged = key < kSteadyKeys ? ledger.steady[key][period].load()
                                                          : ledger.rare[key - kSteadyKeys].load();
      CHECK(stored[period] <= QuotaLimit(key));
      CHECK(stored[period] >= acknowledged);
      stored_sum += stored[period];
      acknowledged_sum += acknowledged;
    }
    CHECK(stored_sum <= acknowledged_sum + in_flight[key]);
    CHECK(HistoryOf(store, key) == stored_sum);
    totals.units += stored_sum;
    totals.in_flight += in_flight[key];
  }
  return totals;
}

void CheckNothingStranded(Engine& engine, QuotaLedger& ledger, std::size_t rare_step) {
  for (std::size_t key = 0; key < kQuotaKeys; key += key < kSteadyKeys ? 1 : rare_step) {
    CAPTURE(key);
    Decision d = engine.Validate(ledger.Secret(key));
    while (d.code != DecisionCode::kQuotaExceeded) {
      if (!d.allowed()) {
        REQUIRE(absl::IsResourceExhausted(engine.stats().last_store_error));
        ledger.Advance(kHourMs);
      }
      d = engine.Validate(ledger.Secret(key));
    }
    CHECK(d.quota.used == QuotaLimit(key));
    REQUIRE(engine.Flush().ok());
    std::size_t period = 0;
    if (key < kSteadyKeys) {
      const std::int64_t end = absl::ToUnixMillis(*d.quota.resets_at) - kQuotaStartMs;
      period = static_cast<std::size_t>(end / PeriodMs(key) - 1);
    }
    const CounterId id = CounterOf(key, period);
    const auto counters = engine.store()->ReadCounters(std::span(&id, 1));
    REQUIRE(counters.ok());
    CHECK(counters->front().used == QuotaLimit(key));
  }
}

}  // namespace throttl::testing
