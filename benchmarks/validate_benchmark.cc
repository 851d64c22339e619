// How long does Validate take, beside the least that any design must do in the same run, and what
// do the things around it take: a first validation, opening, settling, the end of a month?
//
// validate_benchmark --benchmark_enable_random_interleaving=true --benchmark_repetitions=5
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "throttl/engine.h"

#include "src/engine/cached_key.h"
#include "src/engine/key_index.h"

#include "benchmarks/bench_keys.h"
#include "benchmarks/bench_world.h"
#include "benchmarks/floor.h"

namespace throttl::benchmarks {
namespace {

using benchmark::State;

constexpr std::size_t kCounts[] = {1'000, 100'000, 1'000'000};

// --- The floor, and its parts

void DecideAtFloor(State& state, BenchWorld& world, std::size_t count) {
  const BenchKeys& keys = world.keys();
  const Floor& floor = world.FloorOf(count);
  Picker picker(count, 1);
  std::size_t next = picker.Next();
  for (auto _ : state) {
    const std::size_t number = next;
    next = picker.Next();
    keys.Prefetch(next);
    Floor::Answer answer;
    floor.Decide(keys.secret(number), answer);
    if (!answer.allowed) state.SkipWithError("the floor refused");
    benchmark::DoNotOptimize(answer);
  }
}

// Runs `part` on keys at random. Each waits for the result of the one before, as a request does.
template <typename Part>
void RunPart(State& state, BenchWorld& world, std::size_t count, const Part& part) {
  const BenchKeys& keys = world.keys();
  const Floor& floor = world.FloorOf(count);
  Picker picker(count, 2);
  std::uint64_t none = 0;
  std::uint64_t result = 0;
  std::size_t next = picker.Next();
  benchmark::DoNotOptimize(none);
  for (auto _ : state) {
    const std::size_t number = next;
    next = picker.Next();
    keys.Prefetch(next);
    result = part(floor, keys, number + (result & none));
    benchmark::DoNotOptimize(result);
  }
}

void RegisterParts(BenchWorld& world) {
  const auto add = [&world](const std::string& name, std::size_t count, const auto& part) {
    benchmark::RegisterBenchmark(
        absl::StrCat("Floor_part/", name).c_str(),
        [&world, count, part](State& state) { RunPart(state, world, count, part); });
  };
  add("pick", 1'000, [](const Floor&, const BenchKeys&, std::size_t number) { return number; });
  add("clock", 1'000, [](const Floor&, const BenchKeys&, std::size_t number) {
    return static_cast<std::uint64_t>(Floor::NowMs()) + number;
  });
  add("tag", 1'000, [](const Floor& floor, const BenchKeys& keys, std::size_t number) {
    return floor.TagOf(keys.secret(number))[0];
  });
  add("hash", 1'000, [](const Floor& floor, const BenchKeys& keys, std::size_t number) {
    return floor.HashOf(keys.secret(number));
  });
  for (const std::size_t count : kCounts) {
    add(absl::StrCat("hash_probe/", count), count,
        [](const Floor& floor, const BenchKeys& keys, std::size_t number) {
          return floor.SlotIn(*floor.Probe(floor.HashOf(keys.secret(number))));
        });
    add(absl::StrCat("hash_probe_ids/", count), count,
        [](const Floor& floor, const BenchKeys& keys, std::size_t number) {
          internal::KeyIds ids;
          const Floor::Entry& entry = *floor.Probe(floor.HashOf(keys.secret(number)));
          floor.CopyIds(entry, ids);
          benchmark::DoNotOptimize(ids);
          return floor.SlotIn(entry);
        });
    add(absl::StrCat("swap/", count), count,
        [](const Floor& floor, const BenchKeys&, std::size_t number) {
          std::int64_t used = 0;
          floor.Spend(static_cast<std::uint32_t>(number), used);
          return static_cast<std::uint64_t>(used);
        });
  }
}

// --- Validate

// Keys from `first` on, `count` of them.
void Validate(State& state, BenchWorld& world, Engine& engine, std::size_t first,
              std::size_t count) {
  const BenchKeys& keys = world.keys();
  Picker picker(count, 1);
  std::size_t next = first + picker.Next();
  for (auto _ : state) {
    const std::size_t number = next;
    next = first + picker.Next();
    keys.Prefetch(next);
    Decision decision = engine.Validate(keys.secret(number));
    if (!decision.allowed()) state.SkipWithError("a key was refused");
    benchmark::DoNotOptimize(decision);
  }
  state.SetItemsProcessed(state.iterations());
}

void RegisterValidate(BenchWorld& world) {
  for (const auto& [kind, name] :
       {std::pair(StoreKind::kMemory, "memory"), std::pair(StoreKind::kSqlite, "sqlite")}) {
    for (const std::size_t count : kCounts) {
      benchmark::RegisterBenchmark(absl::StrCat("Validate/", name, "/", count).c_str(),
                                   [&world, kind = kind, count](State& state) {
                                     Validate(state, world, world.WarmEngine(kind, count), 0,
                                              count);
                                   });
    }
  }
  const auto add_threads = [&world](const char* name, auto first_of, std::size_t count) {
    benchmark::RegisterBenchmark(
        name,
        [&world, first_of, count](State& state) {
          Engine& engine = world.WarmEngine(StoreKind::kMemory, 1'000);
          Validate(state, world, engine, first_of(static_cast<std::size_t>(state.thread_index())),
                   count);
        })
        ->Threads(1)
        ->Threads(2)
        ->UseRealTime();
  };
  add_threads(
      "Validate_threads/own_keys", [](std::size_t thread) { return thread * 500; }, 500);
  add_threads(
      "Validate_threads/one_key", [](std::size_t) { return std::size_t{7}; }, 1);
}

// --- Around it

void ValidateFirst(State& state, BenchWorld& world) {
  static std::size_t next = kWarmKeysMax;  // each repetition has keys that nobody has seen
  const BenchKeys& keys = world.keys();
  const std::unique_ptr<Engine> engine = world.ColdEngine();
  for (auto _ : state) {
    if (next == keys.size()) state.SkipWithError("all keys were validated before");
    if (!engine->Validate(keys.secret(next++)).allowed()) state.SkipWithError("a key was refused");
  }
}

void Open(State& state, BenchWorld& world) {
  const std::string path = world.ClosedStore();
  for (auto _ : state) {
    auto engine = Engine::Open(path, {.settle_thread = false});
    if (!engine.ok()) state.SkipWithError("opening failed");
    state.PauseTiming();
    engine = absl::CancelledError();  // closes
    state.ResumeTiming();
  }
}

void Flush(State& state, BenchWorld& world, std::size_t count) {
  const BenchKeys& keys = world.keys();
  Engine& engine = world.ClockEngine();
  for (auto _ : state) {
    state.PauseTiming();
    Require(engine.Flush().ok(), "settling failed");
    for (std::size_t i = 0; i < count; ++i) {
      Require(engine.Validate(keys.secret(i)).allowed(), "a key was refused");
    }
    state.ResumeTiming();
    Require(engine.Flush().ok(), "settling failed");
  }
  state.counters["ns_per_slot"] =
      benchmark::Counter(static_cast<double>(count), benchmark::Counter::kIsIterationInvariantRate |
                                                         benchmark::Counter::kInvert);
}

// An iteration is one request: the first one of a key in a new month.
void ValidateAfterMonth(State& state, BenchWorld& world) {
  const BenchKeys& keys = world.keys();
  Engine& engine = world.ClockEngine();
  Require(engine.Flush().ok(), "settling failed");
  world.clock().Advance(absl::Hours(31 * 24));
  std::size_t number = 0;
  for (auto _ : state) {
    if (!engine.Validate(keys.secret(number++)).allowed()) state.SkipWithError("a key was refused");
  }
  Require(engine.Flush().ok(), "settling failed");
}

std::int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t all = 0;
  std::int64_t resident = 0;
  statm >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// What the resident memory of the process grows by when an index comes to hold a million keys.
void FillIndex(State& state) {
  std::int64_t grown = 0;
  for (auto _ : state) {
    const std::int64_t before = ResidentBytes();
    auto index = internal::KeyIndex::Create({.capacity_max = kWarmKeysMax, .seed = 0x5eed});
    Require(index.ok(), "no index could be made");
    for (std::size_t number = 0; number < kWarmKeysMax; ++number) {
      const std::string locator = absl::StrCat(absl::Dec(number, absl::kZeroPad12));
      internal::CachedKey key;
      key.ids.key_id = std::string_view(BenchKeys::IdOf(number));
      (*index)->Insert(internal::LocatorKey::Own(locator), key, (*index)->invalidations());
    }
    grown = ResidentBytes() - before;
  }
  state.counters["bytes_per_key"] = static_cast<double>(grown) / kWarmKeysMax;
}

void RegisterOthers(BenchWorld& world) {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark("Validate_first/sqlite", [&world](State& state) {
    ValidateFirst(state, world);
  })->Iterations(4'000);
  RegisterBenchmark("Validate_after_month/sqlite/100000", [&world](State& state) {
    ValidateAfterMonth(state, world);
  })->Iterations(kClockKeys);
  RegisterBenchmark("Open/sqlite/1000000", [&world](State& state) { Open(state, world); })
      ->Iterations(3)
      ->Unit(benchmark::kMillisecond);
  for (const std::size_t count : {std::size_t{1'000}, std::size_t{10'000}, std::size_t{100'000}}) {
    RegisterBenchmark(absl::StrCat("Flush/sqlite/", count).c_str(),
                      [&world, count](State& state) { Flush(state, world, count); })
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  RegisterBenchmark("Fill_index/1000000", FillIndex)->Iterations(1)->Unit(benchmark::kMillisecond);
}

}  // namespace

void RegisterAll(BenchWorld& world) {
  for (const std::size_t count : kCounts) {
    benchmark::RegisterBenchmark(
        absl::StrCat("Floor/", count).c_str(),
        [&world, count](State& state) { DecideAtFloor(state, world, count); });
  }
  RegisterParts(world);
  RegisterValidate(world);
  RegisterOthers(world);
}

}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  throttl::benchmarks::BenchWorld world;
  throttl::benchmarks::RegisterAll(world);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
