// The slot's state machine, explored exhaustively: in every order of the steps of two admitters, a
// settler and a changer, with a kill before every step, what was promised holds. slot_model.h says
// what a step is.
#include "tests/lease/slot_model.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/scale.h"

namespace throttl::testing {
namespace {

Exploration ExploreOf(const Scenario& scenario) {
  SlotModel model(scenario);
  return Explore(model);
}

// From the smallest to the largest, so that a small scale takes the first ones.
std::vector<Scenario> Scenarios() {
  return {
      {.name = "a limit", .settles = 2},
      {.name = "a limit, settled read first", .settles = 2, .settled_first = true},
      {.name = "others have used a unit", .limit = 3, .settles = 2, .used_by_others = 1},
      {.name = "a revocation", .change = Change::kRevoke},
      {.name = "a period ends", .hours = {0, 1}},
      {.name = "a key is revoked as its period ends",
       .requests = 1,
       .change = Change::kRevoke,
       .hours = {0, 1}},
      {.name = "a period ends, and two settles", .settles = 2, .hours = {0, 1}},
      {.name = "an hour ends", .settles = 2, .hours = {0, 1}, .period_hours = 2},
      {.name = "a revocation, threads of one process",
       .change = Change::kRevoke,
       .one_process = true},
      {.name = "a lower limit, threads of one process",
       .requests = 1,
       .change = Change::kLower,
       .one_process = true},
      {.name = "a lower limit, and two settles",
       .requests = 1,
       .settles = 2,
       .change = Change::kLower},
      {.name = "another subject takes the slot, and it is taken back",
       .requests = 1,
       .change = Change::kEvict,
       .hours = {0, 1, 2},
       .period_hours = 3},
      {.name = "a lower limit", .change = Change::kLower},
      {.name = "a lower limit as the period ends",
       .requests = 1,
       .change = Change::kLower,
       .hours = {0, 1}},
  };
}

TEST_CASE("in every order of steps and kills no limit is passed, and no unit lost or stranded") {
  const std::vector<Scenario> scenarios = Scenarios();
  std::int64_t states = 0;
  std::int64_t transitions = 0;
  std::string text;
  const auto count = std::min<std::size_t>(
      scenarios.size(),
      static_cast<std::size_t>(Scaled(static_cast<std::int64_t>(scenarios.size()))));
  for (std::size_t i = 0; i < count; ++i) {
    INFO(scenarios[i].name);
    const Exploration found = ExploreOf(scenarios[i]);
    REQUIRE_MESSAGE(found.violation.empty(), found.violation << found.path);
    REQUIRE(found.ends > 0);
    states += found.states;
    transitions += found.transitions;
    absl::StrAppend(&text, "\n  ", found.states, " states, ", found.transitions,
                    " transitions: ", scenarios[i].name);
  }
  MESSAGE(states << " states, " << transitions << " transitions" << text);
}

TEST_CASE("the orders that are left out lead to the same ends") {
  for (const Change change : {Change::kNone, Change::kRevoke}) {
    for (const bool one_process : {false, true}) {
      Scenario scenario{.requests = 1, .change = change, .one_process = one_process};
      if (change == Change::kNone) scenario.hours = {0, 1};
      const Exploration reduced = ExploreOf(scenario);
      scenario.explores_all = true;
      const Exploration all = ExploreOf(scenario);
      CHECK(reduced.ends == all.ends);
      CHECK(reduced.states < all.states);
    }
  }
}

struct Mutant {
  std::string what;
  Scenario scenario;
  bool Rules::*rule;
};

std::vector<Mutant> Mutants() {
  const Scenario plain;
  const Scenario rollover{.requests = 1, .hours = {0, 1}};
  const Scenario rollovers{.settles = 2, .hours = {0, 1}};
  const Scenario shared{.limit = 3, .settles = 2, .used_by_others = 1};
  const Scenario lower{.requests = 1, .change = Change::kLower};
  const Scenario revoke{.requests = 1, .change = Change::kRevoke};
  const Scenario threads{.requests = 1, .change = Change::kRevoke, .one_process = true};
  const Scenario narrow{.limit = 1, .hours = {0, 1}};
  const Scenario evict{
      .requests = 1, .change = Change::kEvict, .hours = {0, 1, 2}, .period_hours = 3};
  return {
      {"a slot is changed without closing it", rollover, &Rules::closes_before_change},
      {"the intent is written after the slot is closed", rollover, &Rules::writes_intent_first},
      {"nobody recovers", rollover, &Rules::recovers},
      {"who recovers turns the slot's own state", rollover, &Rules::turns_from_intent},
      {"a revocation leaves the epoch", revoke, &Rules::interrupt_moves_epoch},
      {"the generation is not read between the read and the swap", revoke,
       &Rules::reads_generation_again},
      {"the epoch is moved before the generation", revoke, &Rules::publishes_before_interrupt},
      {"a key that was read before a change is kept", threads, &Rules::checks_invalidations},
      {"what a dead changer did is not published", lower, &Rules::recovers_publication},
      {"a refusal does not look at the epoch again", narrow, &Rules::compares_epoch},
      {"a request does not look whose the slot is", evict, &Rules::compares_claim},
      {"a change keeps a mark that was not compared", shared, &Rules::keeps_settled_compared},
      {"a settle marks without comparing", plain, &Rules::marks_settled_compared},
      {"a settle reads before it takes the mark away", plain, &Rules::exchanges_before_reading},
      {"a settle marks before the store has it", plain, &Rules::stores_before_marking},
      {"a settle does not look at the epoch again", rollovers, &Rules::reads_slot_twice},
      {"a slot is taken that was spent from", evict, &Rules::begins_exactly},
      {"a slot begins without what the store has", evict, &Rules::begins_from_store},
  };
}

TEST_CASE("the model can fail: without any one of its rules something is found") {
  for (const Mutant& mutant : Mutants()) {
    INFO(mutant.what);
    Scenario scenario = mutant.scenario;
    scenario.rules.*mutant.rule = false;
    const Exploration found = ExploreOf(scenario);
    CHECK_MESSAGE(!found.violation.empty(), found.states);
    MESSAGE(mutant.what << ": " << found.violation << ", among " << found.states << " states");
  }
}

}  // namespace
}  // namespace throttl::testing
