// A customer's plan changes in the middle of a month: four ways to carry over what was used.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include <throttl/engine.h>

namespace {

throttl::Plan PlanOf(const std::string& id, std::int64_t limit, throttl::Period period) {
  return {.id = id, .quota = throttl::Quota{.limit = limit, .period = period}};
}

absl::Status Show(throttl::Engine& engine, const std::string& key_id, const std::string& when) {
  const auto usage = engine.GetUsage(key_id);
  if (!usage.ok()) return usage.status();
  std::cout << when << ": " << usage->quota.used << " of " << usage->quota.limit.value_or(0)
            << " used, " << usage->quota.remaining().value_or(0) << " left\n";
  return absl::OkStatus();
}

// A new key that has used 400 of the 1,000 of "small", and then moves to `plan_id`.
absl::Status Upgrade(throttl::Engine& engine, const std::string& plan_id,
                     throttl::CarryOver carry_over, const std::string& when) {
  auto issued = engine.CreateKey({.owner_id = "acme", .plan_id = "small"});
  if (!issued.ok()) return issued.status();
  static_cast<void>(engine.Validate(issued->secret.Reveal(), {.cost = 400}));
  throttl::Key key = issued->key;
  key.plan_id = plan_id;
  const auto updated = engine.UpdateKey(key, {}, carry_over);
  if (!updated.ok()) return updated.status();
  return Show(engine, key.id, when);
}

absl::Status Upgrades(throttl::Engine& engine) {
  std::cout << "400 of 1000 a month are used, and the key gets 5000 a month:\n";
  struct Way {
    throttl::CarryOver carry_over;
    const char* name;
  };
  for (const Way way : {Way{throttl::CarryOver::kDifference, "  difference"},
                        Way{throttl::CarryOver::kReset, "  reset"},
                        Way{throttl::CarryOver::kProportional, "  proportional"},
                        Way{throttl::CarryOver::kAdditive, "  additive"}}) {
    const absl::Status status = Upgrade(engine, "large", way.carry_over, way.name);
    if (!status.ok()) return status;
  }
  std::cout << "another period needs a reset:\n";
  const absl::Status refused =
      Upgrade(engine, "daily", throttl::CarryOver::kDifference, "  difference");
  std::cout << "  " << refused << '\n';
  return Upgrade(engine, "daily", throttl::CarryOver::kReset, "  reset");
}

absl::Status Run() {
  // A clock that this program moves by hand, so that it always prints the same.
  const auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1786536000));
  auto engine = throttl::Engine::Open(
      "memory:", {.seed_plans = {PlanOf("small", 1'000, throttl::Period::kMonth),
                                 PlanOf("large", 5'000, throttl::Period::kMonth),
                                 PlanOf("daily", 300, throttl::Period::kDay)},
                  .clock = clock});
  if (!engine.ok()) return engine.status();
  absl::Status status = Upgrades(**engine);
  if (!status.ok()) return status;
  std::cout << "all keys of a plan at once:\n";
  auto issued = (*engine)->CreateKey({.owner_id = "globex", .plan_id = "small"});
  if (!issued.ok()) return issued.status();
  static_cast<void>((*engine)->Validate(issued->secret.Reveal(), {.cost = 900}));
  const auto put = (*engine)->PutPlan(PlanOf("small", 500, throttl::Period::kMonth), {},
                                      throttl::CarryOver::kProportional);
  if (!put.ok()) return put.status();
  status = Show(**engine, issued->key.id, "  900 of 1000, then 500 a month, proportional");
  if (!status.ok()) return status;
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
