// A QuotaLedger is the tests' own account of what engines allowed, by key and period, in memory
// that their processes share, so that it outlives any of them.
//
// Its keys: some with a quota of an hour, as many with one of a day, and rare ones, more than a
// lease table has slots, with a few units for life.
//
// Thread safety: the ledger from any thread and process; the functions that check belong to a test.
//
//   const Shared<QuotaLedger> ledger;
//   MakeQuotaKeys(*engine, *ledger);
//   SpendOnce(*engine, *ledger, key, ledger->spending[worker][thread]);
//   CheckLedger(*engine, *ledger, in_flight);
#ifndef THROTTL_TESTS_CRASH_QUOTA_LEDGER_H_
#define THROTTL_TESTS_CRASH_QUOTA_LEDGER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "throttl/engine.h"

#include "tests/crash/crash_parts.h"

namespace throttl::testing {

inline constexpr std::size_t kHourlyKeys = 12;
inline constexpr std::size_t kSteadyKeys = 2 * kHourlyKeys;  // the others have a quota of a day
inline constexpr std::size_t kRareKeys = 2600;
inline constexpr std::size_t kQuotaKeys = kSteadyKeys + kRareKeys;
inline constexpr std::size_t kQuotaPeriods = 4096;
inline constexpr std::size_t kQuotaWorkers = 3;
inline constexpr std::size_t kThreadsOfWorker = 2;
inline constexpr std::int64_t kQuotaSlots = 2048;
inline constexpr std::int64_t kQuotaStartMs = 1'767'225'600'000;  // the first of January 2026

struct QuotaLedger {
  std::atomic<std::int64_t> now_ms = kQuotaStartMs;
  // What was acknowledged: of steady keys by their hours or days.
  std::array<std::array<std::atomic<std::int64_t>, kQuotaPeriods>, kSteadyKeys> steady = {};
  std::array<std::atomic<std::int64_t>, kRareKeys> rare = {};
  std::array<std::array<char, 64>, kQuotaKeys> secrets = {};
  // Of each thread: the key that it may be spending on, plus one.
  std::array<std::array<std::atomic<std::int64_t>, kThreadsOfWorker>, kQuotaWorkers> spending = {};
  Report report;

  std::string_view Secret(std::size_t key) const { return secrets[key].data(); }
  // The clock of all processes moves on, but not beyond what the ledger has room for.
  void Advance(std::int64_t ms);
};

std::string QuotaKeyId(std::size_t key);
std::int64_t QuotaLimit(std::size_t key);

// Opens the store by the ledger's clock, with kQuotaSlots; nullptr, and a report, when it cannot.
std::unique_ptr<Engine> OpenQuotaEngine(const std::string& path, QuotaLedger& ledger);

void MakeQuotaKeys(Engine& engine, QuotaLedger& ledger);

// Validates once, and enters what was allowed. False, and a report, when the answer is neither that
// nor that the quota is used up, nor one that a host repeats.
bool SpendOnce(Engine& engine, QuotaLedger& ledger, std::size_t key,
               std::atomic<std::int64_t>& spending);

// Counts, by keys, what the threads of a process that is dead may have been spending.
void AddInFlight(QuotaLedger& ledger, std::size_t worker, std::span<std::int64_t> in_flight);

struct QuotaTotals {
  std::int64_t units = 0;      // in the store
  std::int64_t in_flight = 0;  // requests that nobody knows the outcome of
};

// When all workers are dead: what is stored is what was acknowledged, and at most what was in
// flight more; never more than the limit; and the history says the same.
QuotaTotals CheckLedger(Engine& engine, const QuotaLedger& ledger,
                        std::span<const std::int64_t> in_flight);

// What is left of the running period can still be spent: all of it, and no more. Of each
// `rare_step`th rare key too.
void CheckNothingStranded(Engine& engine, QuotaLedger& ledger, std::size_t rare_step);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_QUOTA_LEDGER_H_
