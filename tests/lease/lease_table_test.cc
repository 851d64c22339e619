// What lease_table.h promises to one thread, of a table in a file and of one in private memory.
#include "src/lease/lease_table.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/plan.h"

#include "src/base/fast_hash.h"
#include "tests/lease/lease_parts.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::ChangesSince;
using internal::EpochOf;
using internal::FoundSlot;
using internal::HourTotal;
using internal::kNoLimit;
using internal::LeaseTable;
using internal::RefusalKind;
using internal::RunningHour;
using internal::SlotAim;
using internal::SlotRef;
using internal::SlotTarget;
using internal::SpendAnswer;
using internal::SpendCode;
using internal::UnitsOf;
using internal::UnsettledSlot;

constexpr std::int64_t kSlotsMin = 1024;  // as many as the smallest table has

// A test of a table; `path` is empty for private memory.
using TableTest = std::function<void(LeaseTable& table, const std::string& path)>;

void OnBothKinds(const TableTest& test, std::int64_t slots_max = kSlotsMin) {
  const TempDir directory;
  for (const std::string& path : {directory.File("throttl.db-lease"), std::string()}) {
    INFO("path: " << path);
    const auto table = OpenTable(path, slots_max);
    REQUIRE_MESSAGE(table.ok(), table.status().ToString());
    test(**table, path);
  }
}

SlotRef MustSlot(LeaseTable& table, const std::string& subject, const SlotAim& aim) {
  const absl::StatusOr<SlotRef> ref = SlotOf(table, subject, aim);
  REQUIRE_MESSAGE(ref.ok(), ref.status().ToString());
  return *ref;
}

SpendAnswer Try(LeaseTable& table, SlotRef ref, std::int64_t cost, std::int64_t now_ms = kStart) {
  return table.TrySpend(ref, {.cost = cost, .now_ms = now_ms, .generation = table.generation()});
}

SpendAnswer Ask(const LeaseTable& table, SlotRef ref, std::int64_t cost = 0,
                std::int64_t now_ms = kStart) {
  return table.Probe(ref, {.cost = cost, .now_ms = now_ms, .generation = table.generation()});
}

std::map<std::string, UnsettledSlot> Unsettled(LeaseTable& table) {
  std::map<std::string, UnsettledSlot> all;
  std::uint64_t first = 0;
  do {
    const auto part = table.ReadUnsettled(100, first, first);
    REQUIRE_MESSAGE(part.ok(), part.status().ToString());
    CHECK(part->size() <= 100);
    for (const UnsettledSlot& slot : *part) {
      const bool is_new = all.emplace(std::string(slot.identity.subject.view()), slot).second;
      REQUIRE(is_new);
    }
  } while (first != 0);
  return all;
}

void Mark(LeaseTable& table, const std::map<std::string, UnsettledSlot>& slots) {
  const auto commit = table.AcquireCommitLock(absl::Seconds(30));
  REQUIRE(commit.ok());
  std::vector<UnsettledSlot> list;
  for (const auto& [subject, slot] : slots) list.push_back(slot);
  const absl::Status status = table.MarkSettled(list);
  REQUIRE_MESSAGE(status.ok(), status.ToString());
}

void SettleAll(LeaseTable& table) { Mark(table, Unsettled(table)); }

// --- TrySpend and Probe

TEST_CASE("TrySpend spends `cost` units if all of them fit; otherwise changes nothing") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    SpendAnswer answer = Try(table, ref, 1);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 1);
    CHECK(answer.granted == 10);
    CHECK(answer.period.end_ms() == kStart + kMonthMs);
    CHECK(Try(table, ref, 6).used == 7);
    answer = Try(table, ref, 4);
    CHECK(answer.code == SpendCode::kRefused);
    CHECK(answer.used == 7);
    CHECK(answer.granted == 10);
    CHECK(answer.period.end_ms() == kStart + kMonthMs);
    CHECK(Try(table, ref, kCostMax).code == SpendCode::kRefused);
    answer = Try(table, ref, 3);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 10);
    CHECK(Try(table, ref, 1).code == SpendCode::kRefused);
    // Nothing always fits.
    answer = Try(table, ref, 0);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 10);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(UnitsOf(slot.consumed) == 10);
    CHECK(slot.totals.units == 10);
    CHECK(slot.last_used_ms == kStart);
  });
}

TEST_CASE("a limit of 0 refuses every unit, and no limit spends as much as a counter holds") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    CHECK(Try(table, MustSlot(table, "k:none", AimOf({.limit = 0})), 1).code ==
          SpendCode::kRefused);
    SlotAim aim = AimOf({.limit = kNoLimit});
    aim.units = kLimitMax - kCostMax - 1;
    const SlotRef ref = MustSlot(table, "k:all", aim);
    CHECK(Try(table, ref, kCostMax).used == kLimitMax - 1);
    CHECK(Try(table, ref, 2).code == SpendCode::kRefused);
    CHECK(Try(table, ref, 1).used == kLimitMax);
    CHECK(Try(table, ref, 1).code == SpendCode::kRefused);
    CHECK(Try(table, ref, kCostMax).code == SpendCode::kRefused);
    CHECK(UnitsOf(Unsettled(table).at("k:all").consumed) == kLimitMax);
  });
}

TEST_CASE("Probe answers what TrySpend would, with what was used before, and spends nothing") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 4);
    SettleAll(table);
    SpendAnswer answer = Ask(table, ref, 6);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 4);
    CHECK(answer.granted == 10);
    CHECK(answer.period.end_ms() == kStart + kMonthMs);
    answer = Ask(table, ref, 7);
    CHECK(answer.code == SpendCode::kRefused);
    CHECK(answer.used == 4);
    CHECK(Ask(table, ref, 1, kStart + kHourMs).code == SpendCode::kStale);
    CHECK(Ask(table, {}, 1).code == SpendCode::kStale);
    CHECK(table.Probe(ref, {.cost = 1, .now_ms = kStart, .generation = table.generation() + 1})
              .code == SpendCode::kChanged);
    CHECK(Unsettled(table).empty());
    CHECK(Try(table, ref, 6).used == 10);
  });
}

TEST_CASE("`ref` may be of any table: one that is not the slot's is stale") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    const std::vector<SlotRef> wrong = {{},
                                        {.slot = ref.slot, .claim = 0},
                                        {.slot = ref.slot, .claim = ref.claim + 1},
                                        {.slot = ref.slot + 1, .claim = ref.claim},
                                        {.slot = 1024, .claim = ref.claim},
                                        {.slot = 0xFFFFFFFF, .claim = ref.claim}};
    for (const SlotRef& other : wrong) {
      CHECK(Try(table, other, 1).code == SpendCode::kStale);
      CHECK(Ask(table, other, 1).code == SpendCode::kStale);
      CHECK(table.Correct(other, kStart + kMonthMs, 1) == 0);
      table.CountRefusal(other, RefusalKind::kOtherwise);
      table.CountSurplus(other, 3);
    }
    const auto unsettled = Unsettled(table);
    for (const auto& [subject, slot] : unsettled) {
      CHECK(slot.totals.units == 0);
      CHECK(slot.totals.surplus == 0);
      CHECK(slot.totals.refused[2] == 0);
    }
  });
}

TEST_CASE("a spend from the end of the hour on is stale, and one with another generation changed") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    CHECK(Try(table, ref, 1, kStart + kHourMs - 1).code == SpendCode::kSpent);
    CHECK(Try(table, ref, 1, kStart + kHourMs).code == SpendCode::kStale);
    const std::uint64_t generation = table.generation();
    CHECK(generation != 0);
    for (const std::uint64_t other : {std::uint64_t{0}, generation - 1, generation + 1}) {
      const SpendAnswer answer =
          table.TrySpend(ref, {.cost = 1, .now_ms = kStart, .generation = other});
      CHECK(answer.code == SpendCode::kChanged);
    }
    CHECK(Ask(table, ref).used == 1);
  });
}

// --- Find and Begin

TEST_CASE("Find of a subject without a slot asks the store, and Begin takes what the store said") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 10})};
    const auto found = table.Find(target);
    REQUIRE(found.ok());
    CHECK(!found->ref.has_value());
    CHECK(!found->counted_before);
    target.aim.units = 3;
    target.aim.base = 2;
    const auto begun = table.Begin(target, found->reuses);
    REQUIRE(begun.ok());
    REQUIRE(begun->has_value());
    CHECK(Try(table, **begun, 6).code == SpendCode::kRefused);
    const SpendAnswer answer = Try(table, **begun, 5);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 10);
    CHECK(answer.granted == 8);
    const auto again = table.Find(target);
    REQUIRE(again.ok());
    CHECK(again->ref == *begun);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.ref == **begun);
    CHECK(slot.identity.owner_id.view() == "acme");
    CHECK(slot.state.base == 2);
    CHECK(slot.totals.units == 8);
    CHECK(RunningHour(slot.state, slot.totals).units == 5);
  });
}

TEST_CASE("Begin: std::nullopt when somebody else began the subject meanwhile") {
  OnBothKinds([](LeaseTable& table, const std::string& path) {
    const SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 10})};
    const auto found = table.Find(target);
    REQUIRE(found.ok());
    // Another process where there can be one.
    const auto opened = path.empty() ? nullptr : *OpenTable(path);
    LeaseTable& other = path.empty() ? table : *opened;
    const SlotRef ref = MustSlot(other, "k:one", target.aim);
    Try(other, ref, 4);
    const auto begun = table.Begin(target, found->reuses);
    REQUIRE(begun.ok());
    CHECK(!begun->has_value());
    const auto again = table.Find(target);
    REQUIRE(again.ok());
    CHECK(again->ref == ref);
    CHECK(Try(table, *again->ref, 1).used == 5);
  });
}

TEST_CASE("a subject has 1 to 111 bytes without NUL, an owner at most 63; each is told apart") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::string longest(111, 's');
    const SlotRef one = MustSlot(table, longest, AimOf({.limit = 5}));
    const SlotRef two = MustSlot(table, longest.substr(1), AimOf({.limit = 5}));
    const SlotRef three = MustSlot(table, "s", AimOf({.limit = 5}));
    CHECK(one != two);
    CHECK(two != three);
    Try(table, one, 1);
    Try(table, two, 2);
    Try(table, three, 3);
    const auto unsettled = Unsettled(table);
    REQUIRE(unsettled.size() == 3);
    CHECK(unsettled.at(longest).totals.units == 1);
    CHECK(unsettled.at(longest.substr(1)).totals.units == 2);
    CHECK(unsettled.at("s").totals.units == 3);

    const SlotTarget target{.subject = "k",
                            .owner_id = std::string_view(longest).substr(0, 63),
                            .aim = AimOf({.limit = 5})};
    REQUIRE(table.Begin(target, 0).ok());
    Try(table, *table.Find(target)->ref, 1);
    CHECK(Unsettled(table).at("k").identity.owner_id.view() == longest.substr(0, 63));
  });
}

// --- Turning

TEST_CASE("an hour turns without the store: the units go on, the ended hour waits to be settled") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 4);
    const SlotAim next = AimOf({.limit = 10, .now_ms = kStart + kHourMs});
    CHECK(MustSlot(table, "k:one", next) == ref);
    CHECK(Try(table, ref, 1, kStart + kHourMs).used == 5);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.carried_hour.present == 1);
    CHECK(slot.state.carried_hour.hour == kStart / kHourMs);
    CHECK(slot.state.carried_hour.units == 4);
    CHECK(slot.state.carried_hour.allowed == 4);
    const HourTotal running = RunningHour(slot.state, slot.totals);
    CHECK(running.hour == kStart / kHourMs + 1);
    CHECK(running.units == 1);
    SettleAll(table);
    CHECK(Unsettled(table).empty());
    CHECK(Ask(table, ref, 0, kStart + kHourMs).used == 5);
  });
}

TEST_CASE(
    "a period rolls without the store: its units start again, its total waits to be settled") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    SlotAim aim = AimOf({.limit = 10});
    aim.base = 3;
    const SlotRef ref = MustSlot(table, "k:one", aim);
    Try(table, ref, 7);
    CHECK(Try(table, ref, 1).code == SpendCode::kRefused);
    const std::int64_t now = kStart + kMonthMs;
    CHECK(MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now})) == ref);
    CHECK(Try(table, ref, 10, now).used == 10);
    CHECK(Try(table, ref, 1, now).code == SpendCode::kRefused);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.carried_period.present == 1);
    CHECK(slot.state.carried_period.start_s == kStart / 1000);
    CHECK(slot.state.carried_period.end_ms == now);
    CHECK(slot.state.carried_period.used == 7);
    CHECK(slot.state.carried_period.limit == 10);
    CHECK(slot.state.period_start_s == now / 1000);
    CHECK(slot.totals.units == 10);
  });
}

TEST_CASE("Find: Aborted while the slot still carries what must be settled first") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 7);
    for (const std::int64_t months : {1, 2}) {
      const std::int64_t now = kStart + months * kMonthMs;
      const SlotTarget target{
          .subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 10, .now_ms = now})};
      if (months == 2) {
        CHECK(table.Find(target).status().code() == absl::StatusCode::kAborted);
        CHECK(Ask(table, ref, 0, kStart + kMonthMs).used == 2);
        CHECK(Unsettled(table).at("k:one").state.carried_period.used == 7);
        SettleAll(table);
      }
      const auto found = table.Find(target);
      REQUIRE(found.ok());
      REQUIRE(found->ref == ref);
      CHECK(Try(table, ref, 2, now).used == 2);
    }
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.carried_period.start_s == (kStart + kMonthMs) / 1000);
    CHECK(slot.state.carried_period.used == 2);
  });
}

TEST_CASE(
    "a slot that is ahead of `target` stays as it is: a clock that lags spends in the newer") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t now = kStart + kMonthMs;
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now}));
    Try(table, ref, 6, now);
    const auto before = Unsettled(table).at("k:one");
    CHECK(MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now - 1})) == ref);
    const auto after = Unsettled(table).at("k:one");
    CHECK(after.state.period_start_s == now / 1000);
    CHECK(after.state.hour == now / kHourMs);
    CHECK(after.state.carried_period.present == 0);
    CHECK(after.state.carried_hour.present == 0);
    CHECK(after.totals.units == before.totals.units);
    const SpendAnswer answer = Try(table, ref, 4, now - 1);
    CHECK(answer.used == 10);
    CHECK(answer.period.end_ms() == kStart + 2 * kMonthMs);
    CHECK(Try(table, ref, 1, now - 1).code == SpendCode::kRefused);
  });
}

TEST_CASE("a newer limit holds at once, an older one is ignored") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10, .limit_version = 5}));
    Try(table, ref, 8);
    MustSlot(table, "k:one", AimOf({.limit = 100, .limit_version = 4}));
    CHECK(Ask(table, ref).granted == 10);
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 6}));
    SpendAnswer answer = Try(table, ref, 7);
    CHECK(answer.used == 15);
    CHECK(answer.granted == 20);
    // Below what is used.
    MustSlot(table, "k:one", AimOf({.limit = 12, .limit_version = 7}));
    answer = Try(table, ref, 1);
    CHECK(answer.code == SpendCode::kRefused);
    CHECK(answer.used == 15);
    CHECK(answer.granted == 12);
    MustSlot(table, "k:one", AimOf({.limit = kNoLimit, .limit_version = 8}));
    CHECK(Try(table, ref, kCostMax).code == SpendCode::kSpent);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.limit == kNoLimit);
    CHECK(slot.state.limit_version == 8);
  });
}

TEST_CASE(
    "a newer limit keeps the base that was set, and an older one in a new period is not taken") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    SlotAim aim = AimOf({.limit = 10, .limit_version = 5});
    aim.base = 4;
    const SlotRef ref = MustSlot(table, "k:one", aim);
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 6}));
    CHECK(Ask(table, ref).granted == 16);
    CHECK(Ask(table, ref).used == 4);
    const std::int64_t now = kStart + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 99, .limit_version = 3, .now_ms = now}));
    CHECK(Ask(table, ref, 0, now).granted == 20);
    CHECK(Ask(table, ref, 0, now).used == 0);
  });
}

TEST_CASE("NoteNewest: a later period that may have been counted before is looked up, others not") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t month_2 = kStart + kMonthMs;
    REQUIRE(table.NoteNewest(month_2).ok());
    REQUIRE(table.NoteNewest(kStart).ok());  // never back
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 4);
    SlotTarget target{.subject = "k:one", .aim = AimOf({.limit = 10, .now_ms = month_2})};
    const auto found = table.Find(target);
    REQUIRE(found.ok());
    CHECK_FALSE(found->ref.has_value());
    CHECK(found->counted_before);
    // Nothing has changed yet.
    CHECK(Ask(table, ref).used == 4);
    target.aim.units = 7;
    target.aim.base = 2;
    const auto begun = table.Begin(target, found->reuses);
    REQUIRE((begun.ok() && begun->has_value()));
    CHECK(**begun == ref);
    CHECK(Ask(table, ref, 0, month_2).used == 9);
    CHECK(Try(table, ref, 2, month_2).code == SpendCode::kRefused);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.carried_period.used == 4);
    // The month after could not have been counted.
    SettleAll(table);
    const std::int64_t month_3 = month_2 + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = month_3}));
    CHECK(Ask(table, ref, 0, month_3).used == 0);
    CHECK_FALSE(*table.Begin(target, found->reuses));
  });
}

TEST_CASE("a subject that begins on a clock that went back is looked up where others have been") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t month_2 = kStart + kMonthMs;
    const std::int64_t month_3 = month_2 + kMonthMs;
    MustSlot(table, "k:other", AimOf({.limit = 10, .now_ms = month_2}));
    MustSlot(table, "k:one", AimOf({.limit = 10}));
    const auto comes_again = [&](std::int64_t now) {
      const auto found =
          table.Find({.subject = "k:one", .aim = AimOf({.limit = 10, .now_ms = now})});
      REQUIRE(found.ok());
      return !found->ref.has_value();
    };
    CHECK(comes_again(month_2));
    // An older limit does not come back with it.
    MustSlot(table, "k:two", AimOf({.limit = 20, .limit_version = 2}));
    const SlotTarget older{.subject = "k:two", .aim = AimOf({.limit = 10, .now_ms = month_2})};
    const auto begun = table.Begin(older, table.Find(older)->reuses);
    REQUIRE((begun.ok() && begun->has_value()));
    CHECK(Ask(table, **begun, 0, month_2).granted == 20);
    CHECK_FALSE(comes_again(month_3));
  });
}

TEST_CASE(
    "where a slot has gone on to, by itself or by what the store said, others have been too") {
  const std::int64_t month_2 = kStart + kMonthMs;
  const std::int64_t month_3 = month_2 + kMonthMs;
  OnBothKinds([=](LeaseTable& table, const std::string&) {
    const auto begins_again = [&](const std::string& subject, std::int64_t later) {
      MustSlot(table, subject, AimOf({.limit = 10}));
      const auto found =
          table.Find({.subject = subject, .aim = AimOf({.limit = 10, .now_ms = later})});
      REQUIRE(found.ok());
      return !found->ref.has_value();
    };
    MustSlot(table, "k:one", AimOf({.limit = 10}));
    CHECK_FALSE(begins_again("k:two", kStart + kHourMs));
    MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = month_2}));
    CHECK(begins_again("k:three", month_2));
    SettleAll(table);
    // With another limit and period, the store says how the slot goes on.
    const SlotTarget target{.subject = "k:one",
                            .aim = AimOf({.limit = 20, .limit_version = 2, .now_ms = month_3})};
    const auto found = table.Find(target);
    REQUIRE((found.ok() && !found->ref.has_value()));
    const auto begun = table.Begin(target, found->reuses);
    REQUIRE((begun.ok() && begun->has_value()));
    CHECK(begins_again("k:four", month_3));
  });
}

TEST_CASE("a new table that was told of no newest time looks every later period up") {
  auto table = LeaseTable::Open({.store_id = "store-of-the-test", .slots_max = kSlotsMin});
  REQUIRE(table.ok());
  MustSlot(**table, "k:one", AimOf({.limit = 10}));
  const auto found = (*table)->Find(
      {.subject = "k:one", .aim = AimOf({.limit = 10, .now_ms = kStart + kMonthMs})});
  REQUIRE(found.ok());
  CHECK_FALSE(found->ref.has_value());
}

TEST_CASE("another period with a newer limit: the store must say what was used in it") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 7);
    // A quota of a day in place of one of a month.
    SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 5})};
    target.aim.period_start_s = (kStart + 24 * kHourMs) / 1000;
    target.aim.period_end_ms = kStart + 48 * kHourMs;
    target.aim.limit_version = 2;
    const auto found = table.Find(target);
    REQUIRE(found.ok());
    CHECK(!found->ref.has_value());
    CHECK(found->counted_before);
    CHECK(Ask(table, ref).used == 7);
    target.aim.units = 2;
    target.aim.base = 1;
    const auto begun = table.Begin(target, found->reuses);
    REQUIRE(begun.ok());
    REQUIRE(*begun == ref);
    const SpendAnswer answer = Ask(table, ref);
    CHECK(answer.used == 3);
    CHECK(answer.granted == 4);
    CHECK(answer.period.end_ms() == kStart + 48 * kHourMs);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    CHECK(slot.state.carried_period.used == 7);
    CHECK(slot.state.carried_period.start_s == kStart / 1000);
    CHECK(RunningHour(slot.state, slot.totals).units == 7);
    // Somebody who still knows the old limit finds the slot ahead.
    CHECK(MustSlot(table, "k:one", AimOf({.limit = 10})) == ref);
    CHECK(Ask(table, ref).granted == 4);
    // And back: what is carried must be settled first.
    target.aim = AimOf({.limit = 10, .limit_version = 3});
    const auto back = table.Find(target);
    REQUIRE(back.ok());
    CHECK(!back->ref.has_value());
    CHECK(table.Begin(target, back->reuses).status().code() == absl::StatusCode::kAborted);
    SettleAll(table);
    target.aim.units = 7;
    const auto again = table.Begin(target, back->reuses);
    REQUIRE(again.ok());
    REQUIRE(*again == ref);
    CHECK(Ask(table, ref).used == 7);
  });
}

TEST_CASE("a newer limit on a lagging clock does not go back to a period that has closed") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t now = kStart + kMonthMs;
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now}));
    Try(table, ref, 6, now);
    const SlotTarget late{.subject = "k:one",
                          .owner_id = "acme",
                          .aim = AimOf({.limit = 10, .limit_version = 2, .now_ms = now - 1})};
    const auto found = table.Find(late);
    REQUIRE(found.ok());
    CHECK(found->ref == ref);
    const auto begun = table.Begin(late, found->reuses);
    REQUIRE(begun.ok());
    CHECK(!begun->has_value());
    // Else it would begin the newer period from 0 a second time.
    MustSlot(table, "k:one", AimOf({.limit = 10, .limit_version = 2, .now_ms = now}));
    const SpendAnswer answer = Try(table, ref, 4, now);
    CHECK(answer.used == 10);
    CHECK(Try(table, ref, 1, now).code == SpendCode::kRefused);
  });
}

TEST_CASE("a newer limit holds at once, also when a lagging clock brings it; its period follows") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t now = kStart + kMonthMs;
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now}));
    Try(table, ref, 6, now);
    // The new limit is one of a day, and the day of this clock is over.
    SlotAim yesterday = AimOf({.limit = 7, .limit_version = 3, .now_ms = now - 1});
    yesterday.period_start_s = now / 1000 - 24 * 3600;
    CHECK(MustSlot(table, "k:one", yesterday) == ref);
    CHECK(Ask(table, ref, 0, now).period.end_ms() == now + kMonthMs);
    CHECK(Try(table, ref, 2, now).code == SpendCode::kRefused);
    CHECK(Try(table, ref, 1, now).used == 7);
    // Who knows less changes nothing, with whatever clock.
    for (const std::int64_t at : {now - 1, now}) {
      MustSlot(table, "k:one", AimOf({.limit = 100, .limit_version = 2, .now_ms = at}));
      CHECK(Try(table, ref, 1, now).code == SpendCode::kRefused);
    }
    SlotAim today = AimOf({.limit = 7, .limit_version = 3, .now_ms = now});
    today.period_end_ms = now + 24 * kHourMs;
    MustSlot(table, "k:one", today);
    CHECK(Ask(table, ref, 0, now).period.end_ms() == now + 24 * kHourMs);
    CHECK(Try(table, ref, 1, now).code == SpendCode::kRefused);
  });
}

TEST_CASE("a newer limit may make a period that began at the same time longer or shorter") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    SlotAim day = AimOf({.limit = 10});
    day.period_end_ms = kStart + 24 * kHourMs;
    const SlotRef ref = MustSlot(table, "k:one", day);
    Try(table, ref, 6);
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 2}));
    CHECK(Ask(table, ref).period.end_ms() == kStart + kMonthMs);
    CHECK(Ask(table, ref).used == 6);
    const std::int64_t tomorrow = kStart + 25 * kHourMs;
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 2, .now_ms = tomorrow}));
    CHECK(Try(table, ref, 1, tomorrow).used == 7);
    day.limit_version = 3;
    MustSlot(table, "k:one", day);
    CHECK(Ask(table, ref).period.end_ms() == kStart + 24 * kHourMs);
    // One who does not know of it changes nothing.
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 2}));
    CHECK(Ask(table, ref).period.end_ms() == kStart + 24 * kHourMs);
  });
}

// --- Correct, CountRefusal, CountSurplus

TEST_CASE("Correct gives back at most what is spent, and spends as far as the grant allows") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::int64_t end = kStart + kMonthMs;
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 6);
    CHECK(table.Correct(ref, end, 0) == 0);
    CHECK(table.Correct(ref, end, -2) == -2);
    CHECK(Ask(table, ref).used == 4);
    CHECK(table.Correct(ref, end, 5) == 5);
    CHECK(table.Correct(ref, end, 5) == 1);
    CHECK(Ask(table, ref).used == 10);
    CHECK(table.Correct(ref, end, 5) == 0);
    CHECK(table.Correct(ref, end, -11) == -10);
    CHECK(Ask(table, ref).used == 0);
    CHECK(table.Correct(ref, end, -1) == 0);
    CHECK(Ask(table, ref).used == 0);
    // Beyond a limit that was lowered there is nothing to spend, and everything to give back.
    Try(table, ref, 10);
    MustSlot(table, "k:one", AimOf({.limit = 3, .limit_version = 2}));
    CHECK(table.Correct(ref, end, 1) == 0);
    CHECK(table.Correct(ref, end, -4) == -4);
    CHECK(Ask(table, ref).used == 6);
  });
}

TEST_CASE("Correct: 0 when the slot is another subject's or of another period") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    Try(table, ref, 6);
    const std::int64_t now = kStart + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 10, .now_ms = now}));
    Try(table, ref, 3, now);
    CHECK(table.Correct(ref, kStart + kMonthMs, -1) == 0);
    CHECK(table.Correct(ref, kStart + kMonthMs, 1) == 0);
    CHECK(table.Correct({.slot = ref.slot, .claim = ref.claim + 1}, now + kMonthMs, -1) == 0);
    CHECK(Ask(table, ref, 0, now).used == 3);
    CHECK(table.Correct(ref, now + kMonthMs, -1) == -1);
  });
}

TEST_CASE("the number of requests is right when their costs were changed afterwards") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    Try(table, ref, 1);
    Try(table, ref, 5);
    table.CountSurplus(ref, 4);
    Try(table, ref, 0);
    table.CountSurplus(ref, -1);
    table.Correct(ref, kStart + kMonthMs, -3);
    const UnsettledSlot slot = Unsettled(table).at("k:one");
    const HourTotal hour = RunningHour(slot.state, slot.totals);
    CHECK(hour.units == 3);
    CHECK(hour.allowed == 3);
  });
}

TEST_CASE("a request whose units were all given back is counted in the next settle") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    Try(table, ref, 1);
    SettleAll(table);
    Try(table, ref, 1);
    CHECK(table.Correct(ref, kStart + kMonthMs, -1) == -1);
    const auto unsettled = Unsettled(table);
    REQUIRE(unsettled.count("k:one") == 1);
    const UnsettledSlot& slot = unsettled.at("k:one");
    CHECK(RunningHour(slot.state, slot.totals).units == 1);
    CHECK(RunningHour(slot.state, slot.totals).allowed == 2);
  });
}

TEST_CASE("refusals, and requests of other costs than 1, are settled once and change no units") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    CHECK(Unsettled(table).empty());
    table.CountRefusal(ref, RefusalKind::kRateLimited);
    table.CountRefusal(ref, RefusalKind::kQuotaExceeded);
    table.CountRefusal(ref, RefusalKind::kQuotaExceeded);
    for (int i = 0; i < 4; ++i) table.CountRefusal(ref, RefusalKind::kOtherwise);
    UnsettledSlot slot = Unsettled(table).at("k:one");
    const std::array<std::int64_t, internal::kRefusalKinds> refused = {1, 2, 4};
    CHECK(RunningHour(slot.state, slot.totals).refused == refused);
    CHECK(RunningHour(slot.state, slot.totals).units == 0);
    CHECK(slot.last_used_ms == 0);
    SettleAll(table);
    CHECK(Unsettled(table).empty());
    // A request that costs nothing moves no units, and is counted all the same.
    Try(table, ref, 0);
    table.CountSurplus(ref, -1);
    slot = Unsettled(table).at("k:one");
    CHECK(RunningHour(slot.state, slot.totals).allowed == 1);
    CHECK(RunningHour(slot.state, slot.totals).refused == refused);
    SettleAll(table);
    table.CountSurplus(ref, 0);
    CHECK(Unsettled(table).empty());
  });
}

// --- Settling

TEST_CASE("Begin: what the store said before a carry-over began is not taken") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    for (const char* noted : {"", "k:one"}) {
      SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 10})};
      if (*noted != '\0') target.aim.limit_version = 2;
      const auto early = table.Find(target);
      REQUIRE(early.ok());
      target.aim.carries = early->carries;
      target.aim.carries_seen = early->carries_seen;
      table.BeginChange();
      table.NoteCarries(noted);
      CHECK_FALSE(table.Begin(target, early->reuses)->has_value());
      const auto amid = table.Find(target);
      REQUIRE(amid.ok());
      CHECK_FALSE(amid->ref.has_value());
      CHECK(amid->carries == early->carries + 1);
      CHECK(amid->carries_seen == early->carries);
      target.aim.carries = amid->carries;
      target.aim.carries_seen = amid->carries_seen;
      CHECK(table.Begin(target, amid->reuses)->has_value());
      // It was asked too early, perhaps.
      CHECK_FALSE(table.Find(target)->ref.has_value());
      table.AbandonChange();
      const auto late = table.Find(target);
      REQUIRE(late.ok());
      CHECK_FALSE(late->ref.has_value());
      CHECK(late->carries_seen == late->carries);
      target.aim.carries_seen = late->carries_seen;
      CHECK(table.Begin(target, late->reuses)->has_value());
      CHECK(table.Find(target)->ref.has_value());
    }
  });
}

TEST_CASE("NoteQuotaRefusal: the period and limit of the refusal have had one, and no other") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 10}));
    const auto refused = [&] {
      const auto slot = table.Read("k:one");
      REQUIRE((slot.ok() && slot->has_value()));
      return internal::QuotaRefused((*slot)->totals.quota_turn);
    };
    Try(table, ref, 4);
    SettleAll(table);
    const SpendAnswer answer = Try(table, ref, 7);
    CHECK(answer.code == SpendCode::kRefused);
    CHECK_FALSE(refused());
    table.NoteQuotaRefusal(ref, answer.quota_turn);
    table.NoteQuotaRefusal(ref, answer.quota_turn);
    CHECK(refused());
    CHECK(Unsettled(table).size() == 1);
    // Of a limit that was raised meanwhile.
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 2}));
    CHECK_FALSE(refused());
    table.NoteQuotaRefusal(ref, answer.quota_turn);
    CHECK_FALSE(refused());
    const SpendAnswer again = Try(table, ref, 17);
    table.NoteQuotaRefusal(ref, again.quota_turn);
    CHECK(refused());
    // Of a period that has ended.
    const std::int64_t later = kStart + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 20, .limit_version = 2, .now_ms = later}));
    CHECK_FALSE(refused());
    table.NoteQuotaRefusal(ref, again.quota_turn);
    CHECK_FALSE(refused());
    const auto slot = table.Read("k:one");
    REQUIRE((slot.ok() && slot->has_value()));
    CHECK((*slot)->state.carried_period.refused());
  });
}

TEST_CASE("ReadUnsettled: at most count_max slots, each once, and `next` is where to go on") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    constexpr int kSubjects = 250;
    std::vector<SlotRef> refs;
    for (int i = 0; i < kSubjects; ++i) {
      refs.push_back(MustSlot(table, absl::StrCat("k:", i), AimOf({.limit = 1000})));
      if (i % 2 == 0) Try(table, refs.back(), i + 1);
    }
    auto unsettled = Unsettled(table);
    CHECK(unsettled.size() == kSubjects / 2);
    for (int i = 0; i < kSubjects; i += 2) {
      CHECK(unsettled.at(absl::StrCat("k:", i)).totals.units == i + 1);
    }
    std::uint64_t next = 0;
    REQUIRE(table.ReadUnsettled(7, 0, next)->size() == 7);
    CHECK(next != 0);
    SettleAll(table);
    CHECK(Unsettled(table).empty());
  });
}

TEST_CASE("MarkSettled: what was counted since stays unsettled") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef spends = MustSlot(table, "k:spends", AimOf({.limit = 100}));
    const SlotRef refuses = MustSlot(table, "k:refuses", AimOf({.limit = 100}));
    const SlotRef rests = MustSlot(table, "k:rests", AimOf({.limit = 100}));
    for (const SlotRef ref : {spends, refuses, rests}) Try(table, ref, 1);
    const auto read = Unsettled(table);
    CHECK(read.size() == 3);
    Try(table, spends, 1);
    table.CountRefusal(refuses, RefusalKind::kRateLimited);
    Mark(table, read);
    const auto since = Unsettled(table);
    CHECK(since.size() == 2);
    CHECK(since.at("k:spends").totals.units == 2);
    CHECK(since.at("k:refuses").totals.refused[0] == 1);
    // Without a word of success from the store nothing is settled.
    CHECK(Unsettled(table).size() == 2);
    SettleAll(table);
    CHECK(Unsettled(table).empty());
  });
}

TEST_CASE("MarkSettled clears what was read as carried, and nothing that is carried since") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    Try(table, ref, 3);
    const auto read = Unsettled(table);
    const std::int64_t now = kStart + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 100, .now_ms = now}));
    Mark(table, read);
    auto since = Unsettled(table);
    REQUIRE(since.size() == 1);
    CHECK(since.at("k:one").state.carried_period.used == 3);
    CHECK(since.at("k:one").state.carried_hour.units == 3);
    Try(table, ref, 2, now);
    Mark(table, since);
    since = Unsettled(table);
    REQUIRE(since.size() == 1);
    CHECK(since.at("k:one").state.carried_period.present == 0);
    CHECK(since.at("k:one").state.carried_hour.present == 0);
    CHECK(RunningHour(since.at("k:one").state, since.at("k:one").totals).units == 2);
    SettleAll(table);
    CHECK(Unsettled(table).empty());
  });
}

TEST_CASE("SetBase: units that others have used of the slot's period count toward the limit") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    Try(table, ref, 50);
    const UnsettledSlot read = Unsettled(table).at("k:one");
    REQUIRE(table.SetBase(read, 30).ok());
    CHECK(Try(table, ref, 21).code == SpendCode::kRefused);
    SpendAnswer answer = Try(table, ref, 20);
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.used == 100);
    CHECK(answer.granted == 70);
    REQUIRE(table.SetBase(read, 200).ok());
    CHECK(Ask(table, ref).granted == 0);
    CHECK(Unsettled(table).at("k:one").totals.units == 70);
    // It is of the period that was read.
    const std::int64_t now = kStart + kMonthMs;
    MustSlot(table, "k:one", AimOf({.limit = 100, .now_ms = now}));
    REQUIRE(table.SetBase(read, 30).ok());
    CHECK(Ask(table, ref, 0, now).granted == 100);
    UnsettledSlot other = Unsettled(table).at("k:one");
    ++other.ref.claim;
    REQUIRE(table.SetBase(other, 30).ok());
    CHECK(Ask(table, ref, 0, now).granted == 100);
  });
}

TEST_CASE("SetBase leaves a settled slot settled, and an unsettled one unsettled") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100}));
    Try(table, ref, 5);
    const auto read = Unsettled(table);
    Mark(table, read);
    REQUIRE(table.SetBase(read.at("k:one"), 3).ok());
    CHECK(Unsettled(table).empty());
    table.CountRefusal(ref, RefusalKind::kOtherwise);
    REQUIRE(table.SetBase(read.at("k:one"), 4).ok());
    CHECK(Unsettled(table).size() == 1);
    Mark(table, read);
    CHECK(Unsettled(table).size() == 1);
  });
}

TEST_CASE("NextSettleSeq is larger than any before, also of another process") {
  const TempDir directory;
  const std::string path = directory.File("t-lease");
  const auto one = OpenTable(path);
  const auto two = OpenTable(path);
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  CHECK((*one)->holder() == (*two)->holder());
  std::int64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    for (LeaseTable* table : {one->get(), two->get()}) {
      const std::int64_t seq = table->NextSettleSeq();
      CHECK(seq > last);
      last = seq;
    }
  }
}

// --- Interrupting and changes

TEST_CASE("Interrupt makes every swap that has begun fail, and changes no counter") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    std::vector<SlotRef> refs;
    for (int i = 0; i < 3; ++i) {
      refs.push_back(MustSlot(table, absl::StrCat("k:", i), AimOf({.limit = 10})));
      Try(table, refs.back(), 1);
    }
    const auto before = Unsettled(table);
    REQUIRE(table.Interrupt("k:1").ok());
    REQUIRE(table.Interrupt("k:none").ok());
    auto after = Unsettled(table);
    CHECK(after.at("k:0").consumed == before.at("k:0").consumed);
    CHECK(EpochOf(after.at("k:1").consumed) == EpochOf(before.at("k:1").consumed) + 2);
    CHECK(after.at("k:2").consumed == before.at("k:2").consumed);
    REQUIRE(table.InterruptAll().ok());
    after = Unsettled(table);
    CHECK(EpochOf(after.at("k:0").consumed) == EpochOf(before.at("k:0").consumed) + 2);
    CHECK(EpochOf(after.at("k:1").consumed) == EpochOf(before.at("k:1").consumed) + 4);
    for (const SlotRef ref : refs) CHECK(Try(table, ref, 1).used == 2);
  });
}

TEST_CASE("the epoch of a slot goes round, and its units stay") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const SlotRef ref = MustSlot(table, "k:one", AimOf({.limit = 100'000}));
    for (int i = 0; i < 33'000; ++i) {
      REQUIRE(table.InterruptAll().ok());
      if (i % 1000 != 0) continue;
      MustSlot(table, "k:one", AimOf({.limit = 100'000, .limit_version = i + 2}));
      REQUIRE(Try(table, ref, 1).used == i / 1000 + 1);
    }
  });
}

TEST_CASE("the generation grows by one with each change, and CatchUp names each change once") {
  OnBothKinds([](LeaseTable& table, const std::string& path) {
    const auto opened = path.empty() ? nullptr : *OpenTable(path);
    const LeaseTable& other = path.empty() ? table : *opened;
    const std::uint64_t first = table.generation();
    ChangesSince since = other.CatchUp(first);
    CHECK(since.generation == first);
    CHECK(!since.everything);
    CHECK(since.key_ids.empty());
    for (const char* const changed : {"7", "8", "7"}) {
      const auto commit = table.AcquireCommitLock(absl::Seconds(30));
      table.BeginChange();
      PublishKey(table, changed);
    }
    CHECK(other.generation() == first + 3);
    since = other.CatchUp(first);
    CHECK(since.generation == first + 3);
    CHECK(!since.everything);
    CHECK(since.key_ids == std::vector<std::string>{"7", "8", "7"});
    CHECK(other.CatchUp(first + 2).key_ids == std::vector<std::string>{"7"});
    PublishKey(table, "");
    CHECK(other.CatchUp(first + 3).everything);
    CHECK(other.CatchUp(first + 3).generation == first + 4);
    CHECK(other.CatchUp(0).everything);
    // Of a table that was there before.
    CHECK(other.CatchUp(first + 5).everything);
  });
}

TEST_CASE("CatchUp: everything may be changed when there were too many changes") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::uint64_t first = table.generation();
    for (std::uint64_t i = 1; i <= 1023; ++i) PublishKey(table, std::to_string(1000 + i));
    ChangesSince since = table.CatchUp(first);
    CHECK(!since.everything);
    REQUIRE(since.key_ids.size() == 1023);
    for (std::uint64_t i = 1; i <= 1023; ++i)
      CHECK(since.key_ids[i - 1] == std::to_string(1000 + i));
    PublishKey(table, "5000");
    since = table.CatchUp(first);
    CHECK(since.everything);
    CHECK(since.generation == first + 1024);
    CHECK(!table.CatchUp(first + 1).everything);
    CHECK(table.CatchUp(first + 1).key_ids.back() == "5000");
    CHECK(table.CatchUp(0).everything);
  });
}

TEST_CASE("a change that was begun and not published is published as everything by the next one") {
  OnBothKinds([](LeaseTable& table, const std::string& path) {
    const std::uint64_t first = table.generation();
    const auto opened = path.empty() ? nullptr : *OpenTable(path);
    {
      const auto commit = table.AcquireCommitLock(absl::Seconds(30));
      REQUIRE(commit.ok());
      table.BeginChange();
    }
    LeaseTable& other = path.empty() ? table : *opened;
    CHECK(other.generation() == first);
    for (int i = 0; i < 2; ++i) {
      const auto commit = other.AcquireCommitLock(absl::Seconds(30));
      REQUIRE(commit.ok());
      CHECK(other.generation() == first + 1);
      CHECK(other.CatchUp(first).everything);
    }
  });
}

TEST_CASE("AcquireCommitLock: Unavailable when another holder keeps it") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    auto commit = std::make_unique<absl::StatusOr<internal::LeaseLock::Hold>>(
        table.AcquireCommitLock(absl::Seconds(30)));
    REQUIRE(commit->ok());
    CHECK(table.AcquireCommitLock(absl::Milliseconds(1)).status().code() ==
          absl::StatusCode::kUnavailable);
    // The table lock is another one.
    MustSlot(table, "k:one", AimOf({.limit = 10}));
    commit.reset();
    CHECK(table.AcquireCommitLock(absl::Seconds(30)).ok());
  });
}

// --- Many slots

// Begins k:0, k:1, ... and spends 1 + i % 7 on each.
void FillSlots(LeaseTable& table, std::int64_t count, std::int64_t now_ms) {
  for (std::int64_t i = 0; i < count; ++i) {
    const SlotRef ref =
        MustSlot(table, absl::StrCat("k:", i), AimOf({.limit = 100, .now_ms = now_ms}));
    REQUIRE(Try(table, ref, 1 + i % 7, now_ms).code == SpendCode::kSpent);
  }
}

TEST_CASE("a table grows up to slots_max, keeps all counters, and then all slots are in use") {
  static constexpr std::int64_t kSlots = 4096;
  OnBothKinds(
      [](LeaseTable& table, const std::string& path) {
        const auto opened = path.empty() ? nullptr : *OpenTable(path);
        LeaseTable& other = path.empty() ? table : *opened;
        FillSlots(table, kSlots, kStart);
        for (std::int64_t i = 0; i < kSlots; ++i) {
          const SlotRef ref = MustSlot(other, absl::StrCat("k:", i), AimOf({.limit = 100}));
          REQUIRE(Ask(other, ref).used == 1 + i % 7);
        }
        CHECK(Unsettled(other).size() == kSlots);
        SettleAll(table);
        // They are idle only when the hour is over.
        const auto full = SlotOf(other, "k:more", AimOf({.limit = 100}));
        CHECK(full.status().code() == absl::StatusCode::kResourceExhausted);
        CHECK(absl::StrContains(full.status().message(), "4096"));
      },
      3000);
}

TEST_CASE("only a slot that is settled, and idle since its hour ended, goes to another subject") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    FillSlots(table, kSlotsMin, kStart);
    const std::int64_t now = kStart + kHourMs;
    const Aiming later{.limit = 100, .now_ms = now};
    CHECK(SlotOf(table, "k:more", AimOf(later)).status().code() ==
          absl::StatusCode::kResourceExhausted);
    // All but two are settled; one of the others has a refusal that is not.
    auto settled = Unsettled(table);
    settled.erase("k:500");
    settled.erase("k:501");
    const SlotRef refused = MustSlot(table, "k:502", AimOf({.limit = 100}));
    Mark(table, settled);
    table.CountRefusal(refused, RefusalKind::kOtherwise);
    CHECK(SlotOf(table, "k:more", AimOf({.limit = 100})).status().code() ==
          absl::StatusCode::kResourceExhausted);
    // Two turn to the new hour, one of them is settled again.
    MustSlot(table, "k:503", AimOf(later));
    MustSlot(table, "k:504", AimOf(later));
    auto turned = Unsettled(table);
    CHECK(turned.size() == 5);
    turned = {{"k:504", turned.at("k:504")}};
    Mark(table, turned);
    for (int i = 0; i < kSlotsMin - 5; ++i) {
      MustSlot(table, absl::StrCat("m:", i), AimOf(later));
    }
    CHECK(SlotOf(table, "k:more", AimOf(later)).status().code() ==
          absl::StatusCode::kResourceExhausted);
    for (int i = 500; i < 505; ++i) {
      const SlotRef ref = MustSlot(table, absl::StrCat("k:", i), AimOf(later));
      CHECK(Ask(table, ref, 0, now).used == 1 + i % 7);
    }
    const auto left = Unsettled(table);
    CHECK(left.size() == 4);
    CHECK(left.at("k:502").totals.refused[2] == 1);
  });
}

TEST_CASE("a subject whose slot was reused begins again from the store, and its old ref is stale") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    FillSlots(table, kSlotsMin, kStart);
    const SlotRef old = MustSlot(table, "k:0", AimOf({.limit = 100}));
    const SlotTarget first{.subject = "k:0", .owner_id = "acme", .aim = AimOf({.limit = 100})};
    const auto before = table.Find(first);
    REQUIRE(before.ok());
    CHECK(!before->counted_before);
    SettleAll(table);
    const std::int64_t now = kStart + kHourMs;
    const Aiming later{.limit = 100, .now_ms = now};
    for (int i = 0; i < kSlotsMin; ++i) MustSlot(table, absl::StrCat("m:", i), AimOf(later));
    CHECK(Try(table, old, 1).code == SpendCode::kStale);
    CHECK(table.Correct(old, kStart + kMonthMs, -1) == 0);
    table.CountRefusal(old, RefusalKind::kOtherwise);
    table.CountSurplus(old, 9);
    CHECK(Unsettled(table).empty());

    const SlotTarget target{.subject = "k:0", .owner_id = "acme", .aim = AimOf(later)};
    const auto found = table.Find(target);
    REQUIRE(found.ok());
    CHECK(!found->ref.has_value());
    CHECK(found->counted_before);
    // Who asked the store before its slot was reused may have asked too early.
    const auto begun = table.Begin(target, before->reuses);
    REQUIRE(begun.ok());
    CHECK(!begun->has_value());
  });
}

TEST_CASE("a table that may grow does, rather than take a slot that was used in the last hour") {
  OnBothKinds(
      [](LeaseTable& table, const std::string&) {
        FillSlots(table, kSlotsMin, kStart);
        SettleAll(table);
        const SlotRef grown = MustSlot(table, "m:1", AimOf({.now_ms = kStart + kHourMs}));
        CHECK(grown.slot == kSlotsMin);
        CHECK(MustSlot(table, "k:0", AimOf({.now_ms = kStart + kHourMs})).slot == 0);
        for (std::int64_t i = 2; i <= kSlotsMin; ++i) {
          MustSlot(table, absl::StrCat("m:", i), AimOf({.now_ms = kStart + kHourMs}));
        }
        // Full again, and one of those that were idle for all of an hour is taken.
        SettleAll(table);
        const SlotRef reused = MustSlot(table, "n:1", AimOf({.now_ms = kStart + 2 * kHourMs}));
        CHECK(reused.slot < kSlotsMin);
      },
      4 * kSlotsMin);
}

TEST_CASE("that one subject lost its slot concerns those that are like it, and no others") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    FillSlots(table, kSlotsMin, kStart);
    SettleAll(table);
    const auto target = [](int number) {
      SlotTarget made{.owner_id = "acme", .aim = AimOf({.now_ms = kStart + kHourMs})};
      static std::array<std::string, 400> names;
      made.subject = names.at(static_cast<std::size_t>(number)) = absl::StrCat("n:", number);
      return made;
    };
    std::vector<std::uint64_t> asked;
    for (int i = 0; i < 400; ++i) asked.push_back(table.Find(target(i))->reuses);
    // What others took meanwhile, one slot each, concerns about one in a thousand.
    for (int i = 0; i < 10; ++i) {
      MustSlot(table, absl::StrCat("m:", i), AimOf({.now_ms = kStart + kHourMs}));
    }
    int begun = 0, counted_before = 0;
    for (int i = 0; i < 400; ++i) {
      counted_before += table.Find(target(i))->counted_before ? 1 : 0;
      begun += (*table.Begin(target(i), asked[static_cast<std::size_t>(i)])).has_value() ? 1 : 0;
    }
    CHECK(begun > 200);
    CHECK(counted_before < 200);
  });
}

TEST_CASE("a subject begins at the newest hour in which a slot was reused, or later") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    FillSlots(table, kSlotsMin - 1, kStart);
    SettleAll(table);
    // The last free slot is no reuse.
    MustSlot(table, "m:free", AimOf({.limit = 100, .now_ms = kStart + 9 * kHourMs}));
    const std::int64_t now = kStart + 5 * kHourMs;
    MustSlot(table, "m:0", AimOf({.limit = 100, .now_ms = now}));
    // A clock that lags would count in an hour of which the store has a total.
    const SlotRef ref = MustSlot(table, "m:1", AimOf({.limit = 100, .now_ms = kStart + kHourMs}));
    Try(table, ref, 1, kStart + kHourMs);
    CHECK(Unsettled(table).at("m:1").state.hour == now / kHourMs);
  });
}

constexpr std::uint64_t kIndexEntries = 2 * kSlotsMin;

// Draws subjects by where the search for them in the index of a table begins.
class SubjectsByHome {
 public:
  explicit SubjectsByHome(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    file.seekg(offsetof(internal::LeaseHeader, seed));
    file.read(reinterpret_cast<char*>(&seed_), sizeof(seed_));
    REQUIRE(file.good());
  }

  // Another one, with a home from `first` to `last`.
  std::string Next(std::uint64_t first, std::uint64_t last) {
    for (;;) {
      std::string subject = absl::StrCat("k:", ++drawn_);
      const std::uint64_t home = internal::FastHash(seed_, subject) % kIndexEntries;
      if (first <= home && home <= last) return subject;
    }
  }

 private:
  std::uint64_t seed_ = 0;
  int drawn_ = 0;
};

TEST_CASE("who was pushed away by a subject is found when the slot of that one is reused") {
  const std::vector<std::vector<std::uint64_t>> layouts = {
      {10, 10, 10, 10}, {10, 11, 10, 11}, {10, 10, 11, 12, 10}, {2047, 0},
      {2047, 2047, 0},  {2047, 0, 2047},  {2046, 2046, 2046, 0}};
  for (const std::vector<std::uint64_t>& layout : layouts) {
    const TempDir directory;
    const std::string path = directory.File("throttl.db-lease");
    const auto table = OpenTable(path);
    REQUIRE(table.ok());
    SubjectsByHome subjects(path);
    std::vector<std::pair<std::string, SlotRef>> of_layout;
    for (const std::uint64_t home : layout) {
      const std::string subject = subjects.Next(home, home);
      of_layout.emplace_back(subject, MustSlot(**table, subject, AimOf({})));
    }
    // Others, too far away to be in the way, until the table is full.
    for (std::size_t i = layout.size(); i < std::size_t{kSlotsMin}; ++i) {
      MustSlot(**table, subjects.Next(100, 1100), AimOf({}));
    }
    // Slots are reused in the order in which they were begun.
    const Aiming later{.now_ms = kStart + 2 * kHourMs};
    for (std::size_t gone = 0; gone < layout.size(); ++gone) {
      INFO("home " << layout.front() << ", gone " << gone);
      MustSlot(**table, subjects.Next(100, 1100), AimOf(later));
      for (std::size_t i = 0; i < layout.size(); ++i) {
        const auto ref = (*table)->Lookup(of_layout[i].first);
        REQUIRE(ref.ok());
        CHECK(ref->has_value() == (i > gone));
        if (ref->has_value()) CHECK(**ref == of_layout[i].second);
      }
    }
  }
}

TEST_CASE("over any order of begins and reuses each subject finds its own slot") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  OnBothKinds([&](LeaseTable& table, const std::string&) {
    std::map<std::string, std::int64_t> stored;
    const std::int64_t hours = Scaled(60);
    for (std::int64_t hour = 0; hour < hours; ++hour) {
      const Aiming aiming{.now_ms = kStart + hour * kHourMs};
      for (int i = 0; i < 300; ++i) {
        const std::string subject = absl::StrCat("k:", random() % 3000);
        SlotTarget target{.subject = subject, .owner_id = "acme", .aim = AimOf(aiming)};
        auto found = table.Find(target);
        REQUIRE(found.ok());
        if (!found->ref.has_value()) {
          target.aim.units = stored[subject];
          const auto begun = table.Begin(target, found->reuses);
          REQUIRE_MESSAGE(begun.ok(), begun.status().ToString());
          REQUIRE(begun->has_value());
          found->ref = **begun;
        }
        REQUIRE(Try(table, *found->ref, 1, aiming.now_ms).used == ++stored[subject]);
      }
      SettleAll(table);
    }
    // There were more subjects than slots, so it was not all first uses.
    CHECK((hours < 10 || stored.size() > kSlotsMin));
  });
}

TEST_CASE("a slot of which no memory was taken yet is no place to spend") {
  OnBothKinds(
      [](LeaseTable& table, const std::string&) {
        MustSlot(table, "k:one", AimOf({.limit = 100}));
        for (const std::uint32_t slot : {1024U, 4095U, 4096U}) {
          CHECK(Try(table, {.slot = slot, .claim = 1}, 1).code == SpendCode::kStale);
          CHECK(Ask(table, {.slot = slot, .claim = 1}).code == SpendCode::kStale);
        }
      },
      4096);
}

TEST_CASE("a ref of another table is stale") {
  const auto one = OpenTable("");
  const auto two = OpenTable("");
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  CHECK((*one)->holder() != (*two)->holder());
  const SlotRef ref = MustSlot(**one, "k:one", AimOf({.limit = 100}));
  MustSlot(**two, "k:two", AimOf({.limit = 100}));
  CHECK(Try(**two, ref, 1).code == SpendCode::kStale);
  CHECK((*two)->Correct(ref, kStart + kMonthMs, 1) == 0);
  CHECK(Unsettled(**two).empty());
}

TEST_CASE("Begin: a subject or owner out of bounds is refused, not cut") {
  OnBothKinds([](LeaseTable& table, const std::string&) {
    const std::string long_subject(112, 's');
    const std::string long_owner(64, 'o');
    for (const SlotTarget& target : {SlotTarget{.subject = ""}, SlotTarget{.subject = long_subject},
                                     SlotTarget{.subject = std::string_view("a\0b", 3)},
                                     SlotTarget{.subject = "k", .owner_id = long_owner}}) {
      const auto found = table.Find(target);
      REQUIRE(found.ok());
      CHECK(!found->ref.has_value());
      CHECK(table.Begin(target, found->reuses).status().code() ==
            absl::StatusCode::kInvalidArgument);
    }
  });
}

}  // namespace
}  // namespace throttl::testing
