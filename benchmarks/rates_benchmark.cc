// How much longer does Validate take with rate limits than with a quota alone?
//
// rates_benchmark --benchmark_enable_random_interleaving=true --benchmark_repetitions=7
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "throttl/engine.h"
#include "throttl/memory_store.h"

#include "benchmarks/bench_keys.h"

namespace throttl::benchmarks {
namespace {

using benchmark::State;

constexpr std::size_t kKeys = 1'000;
// As fast as a rate limit may be: a thousandth of it is not reached.
constexpr std::int64_t kLimit = kRatePerSecondMax;
constexpr Request kRequest{.method = "GET", .endpoint = "/v1/search/items/123"};

// The coarse clock will do where the burst lasts a second.
RateLimit Coarse(const std::string& name, const std::string& endpoint = "") {
  return {.name = name, .limit = kLimit, .window = absl::Seconds(1), .endpoint = endpoint};
}

RateLimit Fine(const std::string& name, const std::string& endpoint = "") {
  RateLimit limit = Coarse(name, endpoint);
  limit.burst = kLimit / 2;
  return limit;
}

struct Case {
  std::string name = {};
  std::vector<RateLimit> limits = {};
};

std::vector<Case> Cases() {
  return {{.name = "quota_alone"},
          {.name = "general", .limits = {Coarse("all")}},
          {.name = "pattern", .limits = {Coarse("search", "GET /v1/search/**")}},
          {.name = "general_fine", .limits = {Fine("all")}},
          {.name = "pattern_fine", .limits = {Fine("search", "GET /v1/search/**")}},
          {.name = "five",
           .limits = {Coarse("all"), Coarse("v1", "/v1/**"), Coarse("get", "GET /v1/**"),
                      Coarse("search", "/v1/search/**"), Coarse("item", "/v1/search/items/*")}}};
}

// An engine in memory that has validated each key once, and settles nothing.
std::unique_ptr<Engine> EngineWith(const BenchKeys& keys, const std::vector<RateLimit>& limits) {
  std::shared_ptr<QuotaStore> store = MakeMemoryStore();
  keys.PutInto(*store, kKeys);
  auto engine = Engine::Create(std::move(store), {.settle_thread = false});
  Require(engine.ok(), engine.status().ToString());
  auto plan = (*engine)->GetPlan(BenchKeys::kPlanId);
  Require(plan.ok(), plan.status().ToString());
  plan->rate_limits = limits;
  const auto put = (*engine)->PutPlan(*plan);
  Require(put.ok(), put.status().ToString());
  for (std::size_t number = 0; number < kKeys; ++number) {
    Require((*engine)->Validate(keys.secret(number), kRequest).allowed(), "a key was refused");
  }
  return *std::move(engine);
}

void Validate(State& state, const BenchKeys& keys, Engine& engine) {
  Picker picker(kKeys, 1);
  std::size_t next = picker.Next();
  for (auto _ : state) {
    const std::size_t number = next;
    next = picker.Next();
    keys.Prefetch(next);
    Decision decision = engine.Validate(keys.secret(number), kRequest);
    if (!decision.allowed()) state.SkipWithError("a key was refused");
    benchmark::DoNotOptimize(decision);
  }
}

}  // namespace

void RunRates() {
  const BenchKeys keys(kKeys);
  std::vector<std::unique_ptr<Engine>> engines;
  for (const Case& one : Cases()) {
    engines.push_back(EngineWith(keys, one.limits));
    Engine& engine = *engines.back();
    benchmark::RegisterBenchmark(absl::StrCat("Validate_rates/", one.name).c_str(),
                                 [&keys, &engine](State& state) { Validate(state, keys, engine); });
  }
  benchmark::RunSpecifiedBenchmarks();
}

}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  throttl::benchmarks::RunRates();
  benchmark::Shutdown();
}
