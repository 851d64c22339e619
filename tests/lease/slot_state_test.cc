// The arithmetic of one slot: periods, hours, and what is carried over their ends.
#include "src/lease/slot_state.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "throttl/plan.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kHour = 3'600'000;  // ms
constexpr std::int64_t kDay = 24;          // hours

// The period of one day that holds `hour`.
SlotAim DayAim(std::int64_t hour, std::int64_t limit = kNoLimit) {
  const std::int64_t day = hour / kDay;
  return {.period_start_s = day * kDay * 3600,
          .period_end_ms = (day + 1) * kDay * kHour,
          .limit = limit,
          .limit_version = 1,
          .hour = hour};
}

SlotTotals Totals(std::int64_t units, std::int64_t surplus = 0) {
  return {.units = units, .surplus = surplus};
}

// --- Percents

TEST_CASE("up to eight thresholds of 1 to 1000 percent come back as they were packed") {
  CHECK(rc::check([] {
    const auto size = *rc::gen::inRange<std::size_t>(0, kAlertPercentsMax + 1);
    const auto percents = *rc::gen::container<std::vector<std::int32_t>>(
        size, rc::gen::oneOf(rc::gen::inRange(1, 1001), rc::gen::element(1, 255, 256, 1000)));
    RC_ASSERT(UnpackPercents(PackPercents(percents)) == percents);
  }));
}

TEST_CASE("thresholds are 16 bits each, 0 after the last one") {
  const std::vector<std::int32_t> five = {90, 100, 1, 1000, 7};
  const PackedPercents packed = PackPercents(five);
  CHECK(packed[0] == (1000ULL << 48 | 1ULL << 32 | 100ULL << 16 | 90ULL));
  CHECK(packed[1] == 7);
  CHECK(UnpackPercents({}).empty());
}

// --- What may be spent

TEST_CASE("what may be spent is the limit less what others have used, never negative") {
  SlotAim aim = DayAim(5, 100);
  CHECK(BeginSlot({}, aim).granted == 100);
  aim.base = 30;
  CHECK(BeginSlot({}, aim).granted == 70);
  aim.base = 100;
  CHECK(BeginSlot({}, aim).granted == 0);
  aim.base = 101;
  CHECK(BeginSlot({}, aim).granted == 0);
  aim.base = std::int64_t{1} << 62;
  CHECK(BeginSlot({}, aim).granted == 0);
  aim.limit = 0;
  aim.base = 0;
  CHECK(BeginSlot({}, aim).granted == 0);
}

TEST_CASE("without a limit as much may be spent as a counter holds, whatever others have used") {
  SlotAim aim = DayAim(5, kNoLimit);
  CHECK(BeginSlot({}, aim).granted == kLimitMax);
  aim.base = kLimitMax;
  CHECK(BeginSlot({}, aim).granted == kLimitMax);
}

TEST_CASE("a newer limit and base count from the turn on, and spent units stay") {
  const SlotTurn begun = BeginSlot({}, DayAim(5, 100));
  SlotAim aim = DayAim(5, 20);
  aim.limit_version = 2;
  aim.base = 4;
  const SlotTurn turn = TurnSlot(begun.state, Totals(50), aim);
  CHECK(turn.granted == 16);
  CHECK(turn.units == 50);
  CHECK(turn.state.limit_version == 2);
  CHECK(turn.state.base == 4);
  CHECK(turn.state.carried_period.present == 0);
  CHECK(turn.state.carried_hour.present == 0);
  CHECK(RunningHour(turn.state, Totals(50)).units == 50);
}

// --- When it must be turned again

TEST_CASE("a state is fresh until its hour ends, or its period when that is earlier") {
  CHECK(BeginSlot({}, DayAim(5)).fresh_until_ms == 6 * kHour);
  SlotAim aim = DayAim(5);
  aim.period_end_ms = 5 * kHour + 1;
  CHECK(BeginSlot({}, aim).fresh_until_ms == 5 * kHour + 1);
  aim.period_end_ms = kNever;
  CHECK(BeginSlot({}, aim).fresh_until_ms == 6 * kHour);
  // The old hour goes on while one is carried, and is not asked for again at each request.
  const SlotTurn one = TurnSlot(BeginSlot({}, DayAim(5)).state, {}, DayAim(6));
  const SlotTurn two = TurnSlot(one.state, {}, DayAim(7));
  CHECK(two.state.hour == 6);
  CHECK(two.fresh_until_ms == 8 * kHour);
}

// --- Beginning

TEST_CASE("a slot begins with the units of its aim, and an hour with nothing in it") {
  SlotAim aim = DayAim(5, 100);
  aim.units = 40;
  // The counters of the slot go on from the subject before.
  SlotTotals totals{.units = 40, .surplus = -7, .refused = {3, 4, 5}};
  const SlotTurn begun = BeginSlot(totals, aim);
  CHECK(begun.units == 40);
  CHECK(begun.state.carried_period.present == 0);
  CHECK(begun.state.carried_hour.present == 0);
  const HourTotal none = RunningHour(begun.state, totals);
  CHECK(none.present == 1);
  CHECK(none.hour == 5);
  CHECK(none.units == 0);
  CHECK(none.allowed == 0);
  CHECK(none.refused == std::array<std::int64_t, kRefusalKinds>{0, 0, 0});
  totals.units += 12;  // Three requests of 4 units.
  totals.surplus += 9;
  totals.refused = {4, 6, 8};
  const HourTotal some = RunningHour(begun.state, totals);
  CHECK(some.units == 12);
  CHECK(some.allowed == 3);
  CHECK(some.refused == std::array<std::int64_t, kRefusalKinds>{1, 2, 3});
}

// --- Hours and periods

TEST_CASE("an hour that ends is carried with what was counted in it, and the next one is empty") {
  const SlotTurn begun = BeginSlot({}, DayAim(5));
  const SlotTotals totals{.units = 10, .surplus = 6, .refused = {1, 0, 2}};
  const SlotTurn turn = TurnSlot(begun.state, totals, DayAim(8));
  const HourTotal& carried = turn.state.carried_hour;
  CHECK(carried.present == 1);
  CHECK(carried.hour == 5);
  CHECK(carried.units == 10);
  CHECK(carried.allowed == 4);
  CHECK(carried.refused == std::array<std::int64_t, kRefusalKinds>{1, 0, 2});
  CHECK(turn.units == 10);
  CHECK(turn.state.hour == 8);
  CHECK(RunningHour(turn.state, totals).units == 0);
  CHECK(RunningHour(turn.state, totals).allowed == 0);
}

TEST_CASE("a period that ends is carried with its limit and total, and its units start again") {
  SlotAim first = DayAim(5, 100);
  first.alert_percents = {90, 0};
  const SlotTurn begun = BeginSlot({}, first);
  SlotAim second = DayAim(24, 70);
  second.limit_version = 2;
  second.units = 3;
  second.base = 20;
  const SlotTurn turn = TurnSlot(begun.state, Totals(99), second);
  const PeriodTotal& carried = turn.state.carried_period;
  CHECK(carried.present == 1);
  CHECK(carried.start_s == 0);
  CHECK(carried.end_ms == kDay * kHour);
  CHECK(carried.limit == 100);
  CHECK(carried.limit_version == 1);
  CHECK(carried.alert_percents == PackedPercents{90, 0});
  CHECK(carried.used == 99);
  CHECK(turn.units == 3);
  CHECK(turn.granted == 50);
  CHECK(turn.state.period_start_s == kDay * 3600);
  CHECK(turn.state.period_end_ms == 2 * kDay * kHour);
  // What the subject starts with was counted elsewhere.
  CHECK(RunningHour(turn.state, Totals(3)).units == 0);
  CHECK(RunningHour(turn.state, Totals(5)).units == 2);
}

TEST_CASE("a period and limit have a number that no other has, and a refusal belongs to its own") {
  const SlotTurn begun = BeginSlot({.quota_turn = 6}, DayAim(5, 100));
  CHECK(begun.quota_turn == 8);
  CHECK(BeginSlot({.quota_turn = 7}, DayAim(5, 100)).quota_turn == 8);
  const SlotTotals refused{.units = 1, .quota_turn = begun.quota_turn | 1};
  SlotAim aim = DayAim(6, 100);
  aim.limit_version = 2;  // of a key that was renamed
  const SlotTurn renamed = TurnSlot(begun.state, refused, aim);
  CHECK(renamed.quota_turn == refused.quota_turn);
  CHECK(renamed.state.carried_period.present == 0);
  aim.limit = 101;
  aim.limit_version = 3;
  CHECK(TurnSlot(renamed.state, refused, aim).quota_turn == 10);
  const SlotTurn next_day = TurnSlot(renamed.state, refused, DayAim(24, 100));
  CHECK(next_day.quota_turn == 10);
  CHECK(next_day.state.carried_period.refused());
  const SlotTotals unrefused{.units = 1, .quota_turn = begun.quota_turn};
  CHECK_FALSE(TurnSlot(renamed.state, unrefused, DayAim(24, 100)).state.carried_period.refused());
}

TEST_CASE("an hour that two periods share has the units of both") {
  SlotAim first = DayAim(5);
  first.period_end_ms = 5 * kHour + 60'000;
  const SlotTurn begun = BeginSlot({}, first);
  SlotAim second = DayAim(5);
  second.period_start_s = first.period_end_ms / 1000;
  const SlotTurn turn = TurnSlot(begun.state, Totals(10), second);
  CHECK(turn.state.carried_hour.present == 0);
  CHECK(turn.state.carried_period.used == 10);
  CHECK(turn.units == 0);
  CHECK(RunningHour(turn.state, Totals(4)).units == 14);
  CHECK(RunningHour(turn.state, Totals(4)).allowed == 14);
}

TEST_CASE("an hour never goes back") {
  const SlotTurn begun = BeginSlot({}, DayAim(9));
  const SlotTurn turn = TurnSlot(begun.state, Totals(2), DayAim(8));
  CHECK(turn.state.hour == 9);
  CHECK(turn.state.carried_hour.present == 0);
  CHECK(turn.fresh_until_ms == 10 * kHour);
  CHECK(RunningHour(turn.state, Totals(2)).units == 2);
}

TEST_CASE("while an ended hour is carried the old hour goes on, so that the sum stays right") {
  const SlotTurn one = TurnSlot(BeginSlot({}, DayAim(5)).state, Totals(10), DayAim(6));
  const SlotTurn two = TurnSlot(one.state, Totals(14), DayAim(7));
  CHECK(two.state.hour == 6);
  CHECK(two.state.carried_hour.hour == 5);
  CHECK(two.state.carried_hour.units == 10);
  CHECK(RunningHour(two.state, Totals(19)).hour == 6);
  CHECK(RunningHour(two.state, Totals(19)).units == 9);
  // It ends at the first turn after it was collected.
  SlotState collected = two.state;
  collected.carried_hour = {};
  const SlotTurn three = TurnSlot(collected, Totals(19), DayAim(7));
  CHECK(three.state.hour == 7);
  CHECK(three.state.carried_hour.hour == 6);
  CHECK(three.state.carried_hour.units == 9);
}

TEST_CASE("an hour is not negative, and what it could not show is missing from the next one") {
  // Eight requests of one unit, and in the next hour five of them are given back.
  const SlotTurn one = TurnSlot(BeginSlot({}, DayAim(5)).state, Totals(8), DayAim(6));
  CHECK(one.state.carried_hour.units == 8);
  CHECK(RunningHour(one.state, Totals(3)).units == 0);
  CHECK(RunningHour(one.state, Totals(3)).allowed == 0);
  SlotState collected = one.state;
  collected.carried_hour = {};
  const SlotTurn two = TurnSlot(collected, Totals(3), DayAim(7));
  CHECK(two.state.carried_hour.units == 0);
  CHECK(RunningHour(two.state, Totals(6)).units == 0);
  CHECK(RunningHour(two.state, Totals(9)).units == 1);
  CHECK(RunningHour(two.state, Totals(9)).allowed == 1);
}

// --- Histories

struct Row {
  std::int64_t allowed = 0;
  std::int64_t units = 0;
  std::array<std::int64_t, kRefusalKinds> refused = {};

  void Add(const Row& other) {
    allowed += other.allowed;
    units += other.units;
    for (std::size_t i = 0; i < kRefusalKinds; ++i) refused[i] += other.refused[i];
  }
  friend bool operator==(const Row&, const Row&) = default;
};

using Rows = std::map<std::int64_t, Row>;  // by hour

Row SumOf(const Rows& rows) {
  Row sum;
  for (const auto& [hour, row] : rows) sum.Add(row);
  return sum;
}

// A slot, a settler that collects what it carries, and a ledger of what was done.
class History {
 public:
  History(const SlotTotals& totals, const SlotAim& aim)
      : turn_(BeginSlot(totals, aim)), totals_(totals), aim_(aim), now_(aim.hour) {
    totals_.units = turn_.units;
    spent_[aim.period_start_s] = aim.units;
  }

  void Spend(std::int64_t cost) { Count(1, cost); }

  // As when another limit refuses the request after all.
  void Undo(std::int64_t cost) {
    if (cost <= totals_.units) Count(-1, -cost);
  }

  // The request cost less or more than was thought.
  void Adjust(std::int64_t units) { Count(0, std::max(units, -totals_.units)); }

  void Refuse(std::size_t kind) {
    ++totals_.refused[kind];
    ++done_[now_].refused[kind];
  }

  void Turn(std::int64_t hour, std::int64_t periods, std::int64_t limit, std::int64_t base) {
    aim_.hour = hour;
    aim_.limit = limit;
    aim_.base = base;
    if (periods > 0) {
      CollectPeriod();
      aim_.period_start_s += periods * 86'400;
      aim_.period_end_ms = aim_.period_start_s * 1000 + kDay * kHour;
      aim_.units = periods % 2;
      spent_[aim_.period_start_s] = aim_.units;
    }
    const SlotState old = turn_.state;
    now_ = std::max(now_, hour);
    turn_ = TurnSlot(old, totals_, aim_);
    totals_.units = turn_.units;
    const bool goes_on = old.carried_hour.present != 0 || hour <= old.hour;
    RC_ASSERT(turn_.state.hour == (goes_on ? old.hour : hour));
    RC_ASSERT(turn_.fresh_until_ms ==
              std::min(aim_.period_end_ms, (std::max(hour, turn_.state.hour) + 1) * kHour));
    const std::int64_t left = limit == kNoLimit ? kLimitMax : limit - base;
    RC_ASSERT(turn_.granted == std::max<std::int64_t>(left, 0));
  }

  void CollectHour() {
    if (turn_.state.carried_hour.present != 0) Emit(turn_.state.carried_hour);
    turn_.state.carried_hour = {};
  }

  void CollectPeriod() {
    const PeriodTotal& period = turn_.state.carried_period;
    if (period.present != 0) settled_[period.start_s] = period.used;
    turn_.state.carried_period = {};
  }

  void CollectAll() {
    CollectHour();
    CollectPeriod();
    Emit(RunningHour(turn_.state, totals_));
    settled_[aim_.period_start_s] = totals_.units;
  }

  const Rows& done() const { return done_; }
  const Rows& emitted() const { return emitted_; }
  const std::map<std::int64_t, std::int64_t>& settled() const { return settled_; }
  const std::map<std::int64_t, std::int64_t>& spent() const { return spent_; }
  std::int64_t now() const { return now_; }

 private:
  void Count(std::int64_t requests, std::int64_t units) {
    totals_.units += units;
    totals_.surplus += units - requests;
    spent_[aim_.period_start_s] += units;
    done_[now_].allowed += requests;
    done_[now_].units += units;
  }

  void Emit(const HourTotal& hour) {
    RC_ASSERT(hour.present == 1);
    RC_ASSERT(hour.units >= 0);
    RC_ASSERT(hour.allowed >= 0);
    emitted_[hour.hour].Add(
        {.allowed = hour.allowed, .units = hour.units, .refused = hour.refused});
  }

  SlotTurn turn_;
  SlotTotals totals_;
  SlotAim aim_;
  std::int64_t now_;
  Rows done_;
  Rows emitted_;
  std::map<std::int64_t, std::int64_t> settled_;  // units, by start of period
  std::map<std::int64_t, std::int64_t> spent_;    // the same
};

History BegunHistory() {
  const auto counter = rc::gen::inRange<std::int64_t>(-50, 50);
  const auto refusals = rc::gen::inRange<std::int64_t>(0, 50);
  SlotAim aim = DayAim(*rc::gen::inRange(100, 124));
  aim.units = *rc::gen::inRange(0, 20);
  return {{.units = aim.units, .surplus = *counter, .refused = {*refusals, *refusals, *refusals}},
          aim};
}

void TakeStep(History& history, bool with_giving_back) {
  switch (*rc::gen::inRange(with_giving_back ? 0 : 2, 10)) {
    case 0:
      history.Undo(*rc::gen::inRange(0, 40));
      break;
    case 1:
      history.Adjust(*rc::gen::inRange(-40, 40));
      break;
    case 2:
      history.Refuse(*rc::gen::inRange<std::size_t>(0, kRefusalKinds));
      break;
    case 3:
      history.CollectHour();
      break;
    case 4:
      history.CollectPeriod();
      break;
    case 5:
    case 6:
      history.Turn(
          history.now() + *rc::gen::inRange(-2, 4), *rc::gen::element(0, 0, 0, 1, 2),
          *rc::gen::element(kNoLimit, std::int64_t{0}, std::int64_t{50}, kLimitMax),
          *rc::gen::element(std::int64_t{0}, std::int64_t{7}, std::int64_t{51}, kLimitMax));
      break;
    default:
      history.Spend(*rc::gen::inRange(0, 30));
  }
}

TEST_CASE("over any history the hours that were carried add up to what was done") {
  CHECK(rc::check([] {
    History history = BegunHistory();
    const auto steps = *rc::gen::inRange(1, 120);
    for (int i = 0; i < steps; ++i) TakeStep(history, true);
    // What was given back of earlier hours is made up for by these.
    for (int i = 0; i < 120 * 40; ++i) history.Spend(1);
    history.CollectAll();
    RC_ASSERT(SumOf(history.emitted()) == SumOf(history.done()));
    RC_ASSERT(history.settled() == history.spent());
  }));
}

TEST_CASE("each hour has what was done in it, when the hour before was collected in time") {
  CHECK(rc::check([] {
    History history = BegunHistory();
    const auto steps = *rc::gen::inRange(1, 120);
    for (int i = 0; i < steps; ++i) {
      TakeStep(history, false);
      history.CollectHour();
    }
    history.CollectAll();
    for (const auto& [hour, row] : history.done()) {
      RC_ASSERT(history.emitted().count(hour) == 1);
      RC_ASSERT(history.emitted().at(hour) == row);
    }
    RC_ASSERT(SumOf(history.emitted()) == SumOf(history.done()));
    RC_ASSERT(history.settled() == history.spent());
  }));
}

TEST_CASE("while an hour is not collected, what is done later counts in the hour that goes on") {
  CHECK(rc::check([] {
    History history = BegunHistory();
    const auto steps = *rc::gen::inRange(1, 120);
    for (int i = 0; i < steps; ++i) TakeStep(history, false);
    history.CollectAll();
    // So up to any hour at least what was done until then is there.
    Row emitted;
    Row done;
    for (std::int64_t hour = 0; hour <= history.now(); ++hour) {
      if (history.emitted().count(hour) != 0) emitted.Add(history.emitted().at(hour));
      if (history.done().count(hour) != 0) done.Add(history.done().at(hour));
      RC_ASSERT(emitted.units >= done.units);
      RC_ASSERT(emitted.allowed >= done.allowed);
      for (std::size_t i = 0; i < kRefusalKinds; ++i) {
        RC_ASSERT(emitted.refused[i] >= done.refused[i]);
      }
    }
    RC_ASSERT(emitted == done);
  }));
}

}  // namespace
}  // namespace throttl::internal
