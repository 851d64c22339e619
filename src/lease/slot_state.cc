#include "src/lease/slot_state.h"

#include <algorithm>
#include <cassert>

#include "throttl/plan.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kHourMs = 3'600'000;
constexpr std::int64_t kPercentBits = 16;
constexpr std::size_t kPercentsPerWord = 4;

std::int64_t GrantedOf(const SlotState& state) {
  if (state.limit == kNoLimit) return kLimitMax;
  const std::int64_t limit = state.limit + state.added;
  const std::int64_t ceiling = limit + limit * state.soft_percent / 100;
  return std::clamp<std::int64_t>(ceiling + state.forgiven - state.base, 0, kLimitMax);
}

std::int64_t UnitsInHour(const SlotState& state, const SlotTotals& totals) {
  return state.hour_units_before + totals.units - state.units_mark;
}

// Moves the marks to where the counters stand, except for what the ended hour could not show: units
// or requests that were given back in it and spent before.
void BeginHour(const SlotTotals& totals, const HourTotal& ended, SlotState& state) {
  const std::int64_t units = UnitsInHour(state, totals);
  const std::int64_t allowed = units - (totals.surplus - state.surplus_mark);
  state.hour_units_before = units - ended.units;
  state.units_mark = totals.units;
  state.surplus_mark = totals.surplus - (state.hour_units_before - (allowed - ended.allowed));
  state.refused_mark = totals.refused;
}

void SetAim(const SlotAim& aim, SlotState& state) {
  if (aim.limit != state.limit) state.limit_since = aim.limit_version;
  // A carry-over raises alerts anew even under the same limit, as the store knows by its version.
  if (aim.carries > state.carries_seen && aim.limit_since != 0) {
    state.limit_since = aim.limit_since;
  }
  state.period_start_s = aim.period_start_s;
  state.period_end_ms = aim.period_end_ms;
  state.limit = aim.limit;
  state.soft_percent = aim.soft_percent;
  state.limit_version = aim.limit_version;
  state.period_version = aim.period_version;
  state.alert_percents = aim.alert_percents;
  state.base = aim.base;
  state.forgiven = aim.forgiven;
  state.added = aim.added;
  state.carries_seen = aim.carries_seen;
}

// Whether the period is one that the slot comes to, and that may have been counted before it began:
// by an earlier table, or in another slot, before a clock went back. Else it starts at zero, and
// needs no store.
bool ComesAgain(const SlotState& state, const SlotAim& aim) {
  return aim.period_start_s > state.period_start_s &&
         aim.period_start_s * 1000 <= state.known_to_ms;
}

void KeepLimit(const SlotState& state, SlotAim& aim) {
  aim.limit = state.limit;
  aim.soft_percent = state.soft_percent;
  aim.limit_version = state.limit_version;
  aim.alert_percents = state.alert_percents;
}

// Leaves the period as it is, but for its end where `has_newer_end`: a newer limit may come with
// another end of a period that began at the same time.
void KeepPeriod(const SlotState& state, bool has_newer_end, SlotAim& aim) {
  aim.period_start_s = state.period_start_s;
  if (!has_newer_end) aim.period_end_ms = state.period_end_ms;
}

// What a slot that is turned without the store knows of it.
void KeepUnits(const SlotState& state, bool later_period, SlotAim& aim) {
  aim.base = later_period ? 0 : state.base;
  aim.forgiven = later_period ? 0 : state.forgiven;
  aim.added = later_period ? 0 : state.added;
  aim.carries = 0;
  aim.carries_seen = state.carries_seen;
  aim.units = 0;
}

std::uint64_t NextQuotaTurn(std::uint64_t quota_turn) { return (quota_turn | 1) + 1; }

SlotTurn TurnOf(const SlotState& state, std::int64_t units, std::int64_t hour) {
  return {
      .state = state,
      .units = units,
      .granted = GrantedOf(state),
      .fresh_until_ms = std::min(state.period_end_ms, (std::max(hour, state.hour) + 1) * kHourMs)};
}

}  // namespace

PackedPercents PackPercents(std::span<const std::int32_t> percents) {
  assert(percents.size() <= kAlertPercentsMax);
  PackedPercents packed = {};
  for (std::size_t i = 0; i < percents.size(); ++i) {
    packed[i / kPercentsPerWord] |= static_cast<std::uint64_t>(percents[i])
                                    << (i % kPercentsPerWord * kPercentBits);
  }
  return packed;
}

std::vector<std::int32_t> UnpackPercents(const PackedPercents& packed) {
  std::vector<std::int32_t> percents;
  for (std::size_t i = 0; i < kAlertPercentsMax; ++i) {
    const std::uint64_t word = packed[i / kPercentsPerWord];
    const auto percent =
        static_cast<std::int32_t>((word >> (i % kPercentsPerWord * kPercentBits)) & 0xFFFF);
    if (percent == 0) break;
    percents.push_back(percent);
  }
  return percents;
}

SlotPlan PlanSlot(const SlotState& state, const SlotAim& wanted) {
  SlotPlan plan{.aim = wanted};
  SlotAim& aim = plan.aim;
  // Who knows less than whoever set the limit spends nothing.
  const bool carried =
      wanted.carries > state.carries_seen && wanted.limit_version >= state.limit_version;
  if (!carried) aim.limit_since = 0;
  const bool lags = wanted.period_end_ms <= state.period_start_s * 1000;
  const bool newer_limit = wanted.limit_version > state.limit_version;
  // Who knows less than whoever set the limit does not bring its period either.
  const bool newer_period = wanted.limit_version > state.period_version &&
                            wanted.limit_version >= state.limit_version && !lags;
  if (!newer_limit && !newer_period) KeepLimit(state, aim);
  aim.period_version = newer_period ? wanted.limit_version : state.period_version;
  const bool other_start = wanted.period_start_s != state.period_start_s;
  if ((newer_period && other_start) || ComesAgain(state, wanted)) {
    // With another limit it is perhaps another kind of period.
    plan.need = SlotNeed::kStore;
    return plan;
  }
  const bool later_period = wanted.period_start_s > state.period_start_s;
  // One that began earlier is a lagging clock's.
  if (!later_period) KeepPeriod(state, newer_period, aim);
  if (carried) {
    plan.need = SlotNeed::kStore;
    return plan;
  }
  KeepUnits(state, later_period, aim);
  const bool turns = later_period || wanted.hour > state.hour || newer_limit || newer_period;
  const bool carries = later_period && state.carried_period.present != 0;
  plan.need = carries ? SlotNeed::kSettle : (turns ? SlotNeed::kTurn : SlotNeed::kNothing);
  return plan;
}

SlotTurn BeginSlot(const SlotTotals& totals, const SlotAim& aim) {
  SlotState state;
  SetAim(aim, state);
  state.period_version = aim.limit_version;
  state.limit_since = aim.limit_since != 0 ? aim.limit_since : aim.limit_version;
  state.known_to_ms = aim.known_to_ms;
  state.hour = aim.hour;
  state.units_mark = aim.units;
  state.surplus_mark = totals.surplus;
  state.refused_mark = totals.refused;
  SlotTurn turn = TurnOf(state, aim.units, aim.hour);
  turn.quota_turn = NextQuotaTurn(totals.quota_turn);
  return turn;
}

SlotTurn TurnSlot(const SlotState& old, const SlotTotals& totals, const SlotAim& aim) {
  SlotState state = old;
  std::int64_t units = totals.units;
  if (aim.hour > old.hour && old.carried_hour.present == 0) {
    state.carried_hour = RunningHour(old, totals);
    BeginHour(totals, state.carried_hour, state);
    state.hour = aim.hour;
  }
  if (aim.period_start_s != old.period_start_s) {
    assert(old.carried_period.present == 0);
    state.carried_period = {.present = QuotaRefused(totals.quota_turn) ? 2 : 1,
                            .start_s = old.period_start_s,
                            .end_ms = old.period_end_ms,
                            .limit = old.limit,
                            .limit_version = old.limit_since,
                            .alert_percents = old.alert_percents,
                            .used = totals.units};
    state.hour_units_before = UnitsInHour(state, totals);
    state.units_mark = aim.units;
    units = aim.units;
  }
  SetAim(aim, state);
  SlotTurn turn = TurnOf(state, units, aim.hour);
  const bool same_quota =
      aim.period_start_s == old.period_start_s && state.limit_since == old.limit_since;
  turn.quota_turn = same_quota ? totals.quota_turn : NextQuotaTurn(totals.quota_turn);
  return turn;
}

HourTotal RunningHour(const SlotState& state, const SlotTotals& totals) {
  const std::int64_t units = UnitsInHour(state, totals);
  HourTotal hour{
      .present = 1,
      .hour = state.hour,
      .allowed = std::max<std::int64_t>(0, units - (totals.surplus - state.surplus_mark)),
      .units = std::max<std::int64_t>(0, units)};
  for (std::size_t i = 0; i < kRefusalKinds; ++i) {
    hour.refused[i] = totals.refused[i] - state.refused_mark[i];
  }
  return hour;
}

}  // namespace throttl::internal
