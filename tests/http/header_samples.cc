// Writes random decisions with their headers and bodies, one JSON object a line, for the oracles.
//
//   header_samples COUNT SEED > samples
//
// Times are in microseconds since 1970, and durations in microseconds.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "throttl/http.h"

#include "tests/http/decision_maker.h"

namespace throttl::testing {
namespace {

using nlohmann::json;

json Told(const Decision& decision, const HttpOptions& options) {
  json told = {{"fields", static_cast<int>(options.fields)},
               {"legacy", options.legacy_fields},
               {"code", static_cast<int>(decision.code)},
               {"unmetered", decision.unmetered},
               {"decided_us", absl::ToUnixMicros(decision.decided_at)},
               {"retry_us", nullptr},
               {"rate", nullptr},
               {"quota", nullptr}};
  if (decision.retry_after.has_value()) {
    told["retry_us"] = absl::ToInt64Microseconds(*decision.retry_after);
  }
  if (!decision.rate.name.empty()) {
    told["rate"] = {{"name", decision.rate.name.view()},
                    {"limit", decision.rate.limit},
                    {"remaining", decision.rate.remaining},
                    {"window_us", absl::ToInt64Microseconds(decision.rate.window)},
                    {"resets_us", absl::ToUnixMicros(decision.rate.resets_at)}};
  }
  const QuotaState& quota = decision.quota;
  if (quota.limit.has_value()) {
    told["quota"] = {{"name", PeriodName(quota.period)},
                     {"limit", *quota.limit},
                     {"used", quota.used},
                     {"starts_us", nullptr},
                     {"resets_us", nullptr}};
    if (quota.resets_at.has_value()) {
      told["quota"]["resets_us"] = absl::ToUnixMicros(*quota.resets_at);
    }
    if (quota.starts_at != absl::InfinitePast()) {
      told["quota"]["starts_us"] = absl::ToUnixMicros(quota.starts_at);
    }
  }
  for (const HttpHeader& header : HttpHeaders(decision, options)) {
    told["headers"][std::string(header.name)] = header.value;
  }
  told["status"] = decision.http_status();
  told["body"] = ProblemJson(decision);
  return told;
}

}  // namespace
}  // namespace throttl::testing

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: header_samples COUNT SEED\n";
    return 2;
  }
  throttl::testing::DecisionMaker maker(std::strtoull(argv[2], nullptr, 10));
  for (std::int64_t left = std::atoll(argv[1]); left > 0; --left) {
    const throttl::Decision decision = maker.Plausible();
    std::cout << throttl::testing::Told(decision, maker.AnyOptions()).dump() << '\n';
  }
  return std::cout.flush() ? 0 : 1;
}
