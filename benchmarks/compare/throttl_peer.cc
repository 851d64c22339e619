// Throttl itself: Validate on 1,000 keys, with the options that Engine has by default.
//
// throttl_peer quota|rate|file CALLS
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "throttl/engine.h"
#include "throttl/memory_store.h"
#include "throttl/sqlite_store.h"

#include "tests/temp_dir.h"

#include "benchmarks/bench_keys.h"
#include "benchmarks/compare/peer.h"

namespace throttl::benchmarks {
namespace {

constexpr Request kRequest{.method = "GET", .endpoint = "/v1/search/items/123"};

struct Limits {
  std::int64_t quota = 1'000'000'000'000;
  std::optional<std::int64_t> rate = std::nullopt;  // units a minute, on all requests
};

// An engine that has seen none of the keys yet; in a file, unless `path` is empty.
std::unique_ptr<Engine> EngineWith(const BenchKeys& keys, const std::string& path, Limits limits) {
  std::shared_ptr<QuotaStore> store;
  if (path.empty()) {
    store = MakeMemoryStore();
  } else {
    auto opened = OpenSqliteStore({.path = path});
    Require(opened.ok(), opened.status().ToString());
    store = *std::move(opened);
  }
  keys.PutInto(*store, keys.size());
  auto engine = Engine::Create(std::move(store));
  Require(engine.ok(), engine.status().ToString());
  auto plan = (*engine)->GetPlan(BenchKeys::kPlanId);
  Require(plan.ok(), plan.status().ToString());
  plan->quota = Quota{.limit = limits.quota, .period = Period::kLifetime};
  if (limits.rate.has_value()) {
    plan->rate_limits = {
        {.name = "all", .limit = *limits.rate, .window = absl::Seconds(kPeerWindowSeconds)}};
  }
  const auto put = (*engine)->PutPlan(*plan, {}, CarryOver::kReset);
  Require(put.ok(), put.status().ToString());
  return *std::move(engine);
}

void Run(const PeerArguments& arguments) {
  const bool rate = arguments.row != "quota";
  Require(!rate || arguments.row == "rate" || arguments.row == "file", "no such row");
  const BenchKeys keys(kPeerKeys);
  const testing::TempDir dir;
  const auto path_of = [&](const char* name) {
    return arguments.row == "file" ? dir.File(name) : std::string();
  };
  {
    const auto three =
        EngineWith(keys, path_of("three.db"), rate ? Limits{.rate = 3} : Limits{.quota = 3});
    RequireThreeAllowed([&] { return three->Validate(keys.secret(0), kRequest).allowed(); });
    std::string wrong(keys.secret(1));
    wrong.back() = wrong.back() == 'a' ? 'b' : 'a';
    Require(!three->Validate(wrong, kRequest).allowed(), "a wrong secret was allowed");
  }
  const auto engine =
      EngineWith(keys, path_of("all.db"), rate ? Limits{.rate = kPeerLimit} : Limits{});
  PrintNsPerCheck(arguments.calls, [&](std::size_t number) {
    return engine->Validate(keys.secret(number), kRequest).allowed();
  });
}

}  // namespace
}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  throttl::benchmarks::Run(throttl::benchmarks::PeerArguments(argc, argv));
}
