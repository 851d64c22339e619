// A BenchWorld has the stores and engines that the benchmarks of one run share, each made when it
// is first asked for.
//
// Thread safety: all methods from any thread. What they return lives as long as the world.
//
//   BenchWorld world;
//   Engine& engine = world.WarmEngine(StoreKind::kMemory, 1'000);
#ifndef THROTTL_BENCHMARKS_BENCH_WORLD_H_
#define THROTTL_BENCHMARKS_BENCH_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "throttl/clock.h"
#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "tests/temp_dir.h"

#include "benchmarks/bench_keys.h"
#include "benchmarks/floor.h"

namespace throttl::benchmarks {

enum class StoreKind : std::uint8_t { kMemory = 1, kSqlite = 2 };

// Keys that warm engines may know, and behind them those that no engine has ever seen.
inline constexpr std::size_t kWarmKeysMax = 1'000'000;
inline constexpr std::size_t kColdKeys = 40'000;
// Keys of the store whose time is set by hand.
inline constexpr std::size_t kClockKeys = 100'000;

class BenchWorld {
 public:
  // With a directory of its own under TMPDIR.
  BenchWorld();
  ~BenchWorld();

  const BenchKeys& keys();
  const Floor& FloorOf(std::size_t count);

  // An engine that has validated the first `count` keys once. It settles only when Flush is called,
  // so that nothing runs beside what is measured.
  Engine& WarmEngine(StoreKind kind, std::size_t count);
  // On the SQLite store, with an empty cache.
  std::unique_ptr<Engine> ColdEngine();

  // On a SQLite store of kClockKeys keys, all of them validated and settled.
  Engine& ClockEngine();
  ManualClock& clock() { return *clock_; }

  // A SQLite store of kWarmKeysMax keys that nobody has open.
  std::string ClosedStore();

 private:
  std::shared_ptr<QuotaStore> StoreOf(StoreKind kind);

  const testing::TempDir dir_;
  std::recursive_mutex mutex_;
  std::unique_ptr<BenchKeys> keys_;
  std::map<std::size_t, std::unique_ptr<Floor>> floors_;
  std::map<StoreKind, std::shared_ptr<QuotaStore>> stores_;
  std::map<std::pair<StoreKind, std::size_t>, std::unique_ptr<Engine>> engines_;
  std::shared_ptr<ManualClock> clock_;
  std::unique_ptr<Engine> clock_engine_;
};

}  // namespace throttl::benchmarks

#endif  // THROTTL_BENCHMARKS_BENCH_WORLD_H_
