// How long does it take to find the patterns of 100 that match a request?
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

#include "src/policy/endpoint_matcher.h"

namespace throttl::benchmarks {
namespace {

using benchmark::State;
using internal::EndpointMatcher;
using internal::EndpointRequest;

constexpr std::size_t kPatterns = 100;

// The routes of an interface: 16 resources with six each, and four for more than one.
std::vector<std::string> Patterns() {
  std::vector<std::string> patterns = {"", "/**", "/v1/**", "GET /v1/**"};
  for (const char* const resource :
       {"search", "users", "orders", "items", "invoices", "payments", "reports", "sessions",
        "uploads", "exports", "webhooks", "projects", "teams", "messages", "documents",
        "subscriptions"}) {
    patterns.push_back(absl::StrCat("/v1/", resource, "/**"));
    patterns.push_back(absl::StrCat("GET /v1/", resource));
    patterns.push_back(absl::StrCat("POST /v1/", resource));
    patterns.push_back(absl::StrCat("GET /v1/", resource, "/*"));
    patterns.push_back(absl::StrCat("DELETE /v1/", resource, "/*"));
    patterns.push_back(absl::StrCat("GET /v1/", resource, "/items/*"));
  }
  return patterns;
}

EndpointMatcher MatcherOf(std::size_t count) {
  const std::vector<std::string> patterns = Patterns();
  std::vector<std::string_view> views(patterns.begin(), patterns.end());
  views.resize(count);
  auto matcher = EndpointMatcher::Create(views);
  if (matcher.ok()) return *std::move(matcher);
  std::fprintf(stderr, "%s\n", matcher.status().ToString().c_str());
  std::exit(1);
}

void Match(State& state, std::size_t count, const EndpointRequest& request) {
  const EndpointMatcher matcher = MatcherOf(count);
  std::vector<std::uint64_t> matched(matcher.words());
  const std::uint64_t none = 0;
  std::uint64_t before = 0;
  EndpointRequest next = request;
  for (auto _ : state) {
    // Waits for the answer before it, as a request does.
    const std::uint64_t zero = before & none;
    next.endpoint = request.endpoint.substr(static_cast<std::size_t>(zero));
    benchmark::DoNotOptimize(next);
    matcher.Match(next, matched);
    before = matched.front();
    benchmark::DoNotOptimize(before);
  }
}

void RegisterAll() {
  const auto add = [](const std::string& name, std::size_t count, const EndpointRequest& request) {
    benchmark::RegisterBenchmark(absl::StrCat("Endpoint/", count, "/", name).c_str(),
                                 [count, request](State& state) { Match(state, count, request); });
  };
  const std::string_view route = "/v1/search/items/123";
  add("normal", kPatterns, {.method = "GET", .endpoint = route});
  add("without_method", kPatterns, {.endpoint = route});
  add("query", kPatterns, {.method = "GET", .endpoint = "/v1/search/items/123?q=a&page=2"});
  add("encoded", kPatterns, {.method = "GET", .endpoint = "/v1/se%61rch//items/123/"});
  add("unknown", kPatterns, {.method = "GET", .endpoint = "/favicon.ico"});
  add("normal", 8, {.method = "GET", .endpoint = route});
  add("empty", 1, {});
  static const std::string kSlashes(1'024, '/');
  static const std::string kLong = absl::StrCat("/v1/", std::string(1 << 20, 'a'));
  add("slashes_1024", kPatterns, {.method = "GET", .endpoint = kSlashes});
  add("long_1MiB", kPatterns, {.method = "GET", .endpoint = kLong});
}

}  // namespace
}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  throttl::benchmarks::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
