// Runs one body of a test on an engine over each store, with a clock in hand.
//
// Thread safety: a test's.
//
//   ForEachStore([](EngineUnderTest& t) { CHECK(t.engine().ListPlans()->size() == 3); });
#ifndef THROTTL_TESTS_ENGINE_ENGINE_ON_STORES_H_
#define THROTTL_TESTS_ENGINE_ENGINE_ON_STORES_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "tests/temp_dir.h"

namespace throttl::testing {

class EngineUnderTest {
 public:
  explicit EngineUnderTest(const std::string& store, EngineOptions options = {})
      : clock_(std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000))) {
    options.clock = clock_;
    // Most tests are of quotas, at one moment.
    for (Plan& plan : options.seed_plans) plan.rate_limits.clear();
    auto engine = Engine::Open(store == "memory" ? "memory:" : dir_.File("throttl.db"), options);
    REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
    engine_ = *std::move(engine);
  }

  Engine& engine() { return *engine_; }
  QuotaStore& store() { return *engine_->store(); }
  ManualClock& clock() { return *clock_; }
  absl::Time Now() { return clock_->Read().wall; }
  const TempDir& dir() const { return dir_; }

  // A key of `owner` on free.
  IssuedKey Issue(const std::string& owner, const std::string& id = "") {
    auto issued = engine_->CreateKey({.owner_id = owner, .plan_id = "free", .id = id});
    REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
    return *std::move(issued);
  }

  std::vector<Event> Events(const Caller& caller = {}) {
    auto events = engine_->ReadEvents(0, 1000, caller);
    REQUIRE_MESSAGE(events.ok(), events.status().ToString());
    return *std::move(events);
  }

  // Everything that a change could have changed, as text.
  std::string State();

 private:
  TempDir dir_;
  std::shared_ptr<ManualClock> clock_;
  std::unique_ptr<Engine> engine_;
};

inline std::string EngineUnderTest::State() {
  std::string text;
  const auto plans = engine_->ListPlans();
  const auto keys = engine_->ListKeys({.count_max = 1000});
  REQUIRE(plans.ok());
  REQUIRE(keys.ok());
  for (const Plan& plan : *plans) text += plan.id + "@" + std::to_string(plan.version) + " ";
  for (const Key& key : keys->items) {
    text += key.id + "@" + std::to_string(key.version) + "=" + key.name + ":" +
            std::to_string(key.secrets.size()) + (key.revoked_at ? "-" : "+") + " ";
  }
  return text + "events " + std::to_string(Events().size());
}

inline void ForEachStore(const std::function<void(EngineUnderTest&)>& body,
                         const EngineOptions& options = {}) {
  for (const char* const store : {"memory", "sqlite"}) {
    INFO("store: ", std::string(store));
    EngineUnderTest under_test(store, options);
    body(under_test);
  }
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_ENGINE_ENGINE_ON_STORES_H_
