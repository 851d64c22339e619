#include "benchmarks/bench_world.h"

#include <filesystem>
#include <utility>

#include "throttl/memory_store.h"
#include "throttl/sqlite_store.h"

namespace throttl::benchmarks {
namespace {

std::unique_ptr<Engine> EngineOn(std::shared_ptr<QuotaStore> store,
                                 std::shared_ptr<Clock> clock = nullptr) {
  EngineOptions options;
  options.settle_thread = false;
  options.clock = std::move(clock);
  auto engine = Engine::Create(std::move(store), std::move(options));
  Require(engine.ok(), engine.status().ToString());
  return *std::move(engine);
}

std::shared_ptr<QuotaStore> OpenFile(const std::string& path) {
  auto store = OpenSqliteStore({.path = path});
  Require(store.ok(), store.status().ToString());
  return *std::move(store);
}

}  // namespace

BenchWorld::BenchWorld()
    : clock_(std::make_shared<ManualClock>(absl::FromUnixSeconds(1'767'225'600))) {}

BenchWorld::~BenchWorld() = default;

const BenchKeys& BenchWorld::keys() {
  const std::lock_guard lock(mutex_);
  if (keys_ == nullptr) keys_ = std::make_unique<BenchKeys>(kWarmKeysMax + kColdKeys);
  return *keys_;
}

const Floor& BenchWorld::FloorOf(std::size_t count) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Floor>& floor = floors_[count];
  if (floor == nullptr) floor = std::make_unique<Floor>(keys(), count);
  return *floor;
}

std::shared_ptr<QuotaStore> BenchWorld::StoreOf(StoreKind kind) {
  std::shared_ptr<QuotaStore>& store = stores_[kind];
  if (store != nullptr) return store;
  if (kind == StoreKind::kMemory) {
    store = MakeMemoryStore();
    keys().PutInto(*store, kWarmKeysMax);
    return store;
  }
  const std::string path = dir_.File("warm.db");
  store = OpenFile(path);
  keys().PutInto(*store, keys().size());
  return store;
}

Engine& BenchWorld::WarmEngine(StoreKind kind, std::size_t count) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Engine>& engine = engines_[{kind, count}];
  if (engine != nullptr) return *engine;
  engine = EngineOn(StoreOf(kind));
  for (std::size_t number = 0; number < count; ++number) {
    Require(engine->Validate(keys().secret(number)).allowed(), "a key was refused");
  }
  return *engine;
}

std::unique_ptr<Engine> BenchWorld::ColdEngine() {
  const std::lock_guard lock(mutex_);
  return EngineOn(StoreOf(StoreKind::kSqlite));
}

Engine& BenchWorld::ClockEngine() {
  const std::lock_guard lock(mutex_);
  if (clock_engine_ != nullptr) return *clock_engine_;
  auto store = OpenFile(dir_.File("clock.db"));
  keys().PutInto(*store, kClockKeys);
  clock_engine_ = EngineOn(std::move(store), clock_);
  for (std::size_t number = 0; number < kClockKeys; ++number) {
    Require(clock_engine_->Validate(keys().secret(number)).allowed(), "a key was refused");
  }
  Require(clock_engine_->Flush().ok(), "settling failed");
  return *clock_engine_;
}

std::string BenchWorld::ClosedStore() {
  const std::lock_guard lock(mutex_);
  const std::string path = dir_.File("closed.db");
  if (std::filesystem::exists(path)) return path;
  const auto backup = StoreOf(StoreKind::kSqlite)->Backup(path);
  Require(backup.ok(), backup.ToString());
  return path;
}

}  // namespace throttl::benchmarks
