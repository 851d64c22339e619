// The tests of a host: an engine in memory, and a clock that is moved by hand. A decision is a
// plain value, so what a host does with one needs no engine at all.
//
//   host_test
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include <throttl/engine.h>

namespace {

// The part of the host that is tested.
std::string Greeting(const throttl::Decision& d) {
  if (!d.allowed()) return std::string("no: ") + std::string(throttl::CodeName(d.code));
  return "hello " + d.owner_id.str() + ", " + std::to_string(d.quota.remaining().value_or(0)) +
         " left";
}

// In place of a test framework.
class Checks {
 public:
  void Check(const std::string& what, bool holds) {
    std::cout << (holds ? "passed: " : "FAILED: ") << what << '\n';
    failed_ |= !holds;
  }
  bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

void TestGreetings(Checks& checks) {
  checks.Check("a refusal is told by its reason",
               Greeting({.code = throttl::DecisionCode::kQuotaExceeded}) == "no: quota_exceeded");
  checks.Check("what is left is told",
               Greeting({.code = throttl::DecisionCode::kValid,
                         .owner_id = "acme",
                         .quota = {.limit = 10, .used = 4}}) == "hello acme, 6 left");
}

std::int64_t Count(throttl::Engine& engine, const char* type) {
  const auto events = engine.ReadEvents(0, 100);
  if (!events.ok()) return -1;
  return std::count_if(events->begin(), events->end(),
                       [&](const throttl::Event& event) { return event.type == type; });
}

absl::Status TestMonthEnd(Checks& checks) {
  const auto clock = std::make_shared<throttl::ManualClock>(
      absl::FromUnixSeconds(1769903940));  // 31 January 2026, 23:59 UTC
  auto engine = throttl::Engine::Open(
      "memory:", {.settle_thread = false,
                  .seed_plans = {{.id = "tiny", .quota = throttl::Quota{.limit = 1}}},
                  .clock = clock});
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "tiny"});
  if (!issued.ok()) return issued.status();

  const std::string secret(issued->secret.Reveal());
  checks.Check("the first request is allowed", (*engine)->Validate(secret).allowed());
  const throttl::Decision refused = (*engine)->Validate(secret);
  checks.Check("the second is refused, until the month ends",
               refused.code == throttl::DecisionCode::kQuotaExceeded &&
                   refused.retry_after == absl::Seconds(60));
  clock->Advance(absl::Seconds(60));
  checks.Check("the quota is whole again on the first of the month",
               (*engine)->Validate(secret).allowed());

  if (absl::Status status = (*engine)->Flush(); !status.ok()) return status;
  // 90 % and 100 %, in both months.
  checks.Check("four thresholds are told of",
               Count(**engine, throttl::event_type::kQuotaThreshold) == 4);
  checks.Check("both months are told of as used up",
               Count(**engine, throttl::event_type::kQuotaExceeded) == 2);
  checks.Check("the end of the first is told of",
               Count(**engine, throttl::event_type::kQuotaReset) == 1);
  return absl::OkStatus();
}

}  // namespace

int main() {
  Checks checks;
  TestGreetings(checks);
  const absl::Status status = TestMonthEnd(checks);
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() && !checks.failed() ? 0 : 1;
}
