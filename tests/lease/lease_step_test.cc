// What a request does between two steps of a change of its slot: each order of the two is forced.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "src/lease/fault_point.h"
#include "tests/lease/lease_parts.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

using internal::LeaseTable;
using internal::RefusalKind;
using internal::RunningHour;
using internal::SlotRef;
using internal::SlotTarget;
using internal::SpendCode;
using internal::UnsettledSlot;

constexpr std::int64_t kLimit = 1'000'000;
constexpr std::array<std::string_view, 7> kChangePoints = {
    "change.written", "change.valid",  "change.closed", "change.state",
    "change.fields",  "change.opened", "settle.cleared"};

// Runs `act` once, when the table comes to `point`.
class At {
 public:
  At(std::string_view point, std::function<void()> act) {
    point_ = point;
    act_ = std::move(act);
    internal::fault_hook = [](const char* reached) {
      if (act_ == nullptr || point_ != reached) return;
      const std::function<void()> now = std::exchange(act_, nullptr);
      now();
    };
  }
  ~At() {
    internal::fault_hook = nullptr;
    act_ = nullptr;
  }
  At(const At&) = delete;
  At& operator=(const At&) = delete;

  bool reached() const { return act_ == nullptr; }

 private:
  static inline std::string_view point_;
  static inline std::function<void()> act_;
};

SlotRef MustSlot(LeaseTable& table, const std::string& subject, const Aiming& aiming) {
  const auto ref = SlotOf(table, subject, AimOf(aiming));
  REQUIRE_MESSAGE(ref.ok(), ref.status().ToString());
  return *ref;
}

bool Spends(LeaseTable& table, SlotRef ref, std::int64_t now_ms = kStart) {
  return table.TrySpend(ref, {.cost = 1, .now_ms = now_ms, .generation = table.generation()})
             .code == SpendCode::kSpent;
}

std::vector<UnsettledSlot> Unsettled(LeaseTable& table) {
  std::uint64_t next = 0;
  const auto slots = table.ReadUnsettled(10'000, 0, next);
  REQUIRE(slots.ok());
  return *slots;
}

void SettleAll(LeaseTable& table) { REQUIRE(table.MarkSettled(Unsettled(table)).ok()); }

TEST_CASE("SetBase: what is spent or refused at any step of it stays unsettled") {
  for (const std::string_view point : kChangePoints) {
    for (const bool spends : {true, false}) {
      INFO("at " << std::string(point) << std::string(spends ? " spends" : " is refused"));
      const auto table = OpenTable("");
      const SlotRef ref = MustSlot(**table, "k:one", {.limit = kLimit});
      REQUIRE(Spends(**table, ref));
      const std::vector<UnsettledSlot> read = Unsettled(**table);
      REQUIRE((*table)->MarkSettled(read).ok());
      std::int64_t spent = 1;
      const At at(point, [&] {
        if (spends) {
          spent += Spends(**table, ref) ? 1 : 0;
        } else {
          (*table)->CountRefusal(ref, RefusalKind::kOtherwise);
        }
      });
      REQUIRE((*table)->SetBase(read.front(), 3).ok());
      CHECK(at.reached() == (point != "settle.cleared"));
      const std::vector<UnsettledSlot> left = Unsettled(**table);
      if (!at.reached() || (spends && spent == 1)) {
        // The slot was closed: the spend was not made.
        CHECK(left.empty());
        continue;
      }
      REQUIRE(left.size() == 1);
      CHECK(left.front().totals.units == spent);
      CHECK(left.front().totals.refused[2] == (spends ? 0 : 1));
    }
  }
}

TEST_CASE("MarkSettled: what is spent or refused in the middle of it stays unsettled") {
  for (const bool spends : {true, false}) {
    const auto table = OpenTable("");
    const SlotRef ref = MustSlot(**table, "k:one", {.limit = kLimit});
    REQUIRE(Spends(**table, ref));
    const At at("settle.cleared", [&] {
      if (spends) {
        Spends(**table, ref);
      } else {
        (*table)->CountRefusal(ref, RefusalKind::kOtherwise);
      }
    });
    SettleAll(**table);
    CHECK(at.reached());
    CHECK(Unsettled(**table).size() == 1);
  }
}

TEST_CASE("a slot goes to no other subject when it is spent from at any step of that") {
  for (const std::string_view point :
       {"begin.picked", "change.written", "change.valid", "change.closed", "change.fields"}) {
    INFO("at " << std::string(point));
    const auto table = OpenTable("");
    std::vector<SlotRef> refs;
    for (int i = 0; i < 1024; ++i) {
      refs.push_back(MustSlot(**table, absl::StrCat("k:", i), {.limit = kLimit}));
    }
    REQUIRE(Unsettled(**table).empty());
    // A request with a clock of the hour before, on whichever slot was picked.
    std::int64_t spent = 0;
    const At at(point, [&] {
      for (const SlotRef ref : refs) spent += Spends(**table, ref) ? 1 : 0;
    });
    const Aiming later{.limit = kLimit, .now_ms = kStart + kHourMs};
    const SlotTarget target{.subject = "m:new", .owner_id = "acme", .aim = AimOf(later)};
    const auto found = (*table)->Find(target);
    REQUIRE(found.ok());
    const auto begun = (*table)->Begin(target, found->reuses);
    REQUIRE(begun.ok());
    CHECK(at.reached());
    // Whoever was told that it spent is counted, and is not settled yet.
    std::int64_t counted = 0;
    for (const UnsettledSlot& slot : Unsettled(**table)) {
      CHECK(slot.identity.subject.view() != "m:new");
      counted += RunningHour(slot.state, slot.totals).units;
    }
    CHECK(counted == spent);
    CHECK(spent == (begun->has_value() ? 1023 : 1024));
  }
}

TEST_CASE("before a change the old limit holds, after it the new one, in the midst of it none") {
  for (const std::string_view point : {"change.written", "change.closed", "change.opened"}) {
    INFO("at " << std::string(point));
    const auto table = OpenTable("");
    const SlotRef ref = MustSlot(**table, "k:one", {.limit = 2});
    REQUIRE(Spends(**table, ref));
    bool spent = false;
    const At at(point, [&] { spent = Spends(**table, ref); });
    MustSlot(**table, "k:one", {.limit = 1, .limit_version = 2});
    CHECK(at.reached());
    CHECK(spent == (point == "change.written"));
    CHECK(!Spends(**table, ref));
  }
}

TEST_CASE("what is read of a slot belongs together: nothing that fits is refused") {
  for (const std::string point : {"spend.read", "probe.read"}) {
    const auto table = OpenTable("");
    const Aiming later{.limit = 10, .now_ms = kStart + kMonthMs};
    const SlotRef ref = MustSlot(**table, "k:one", {.limit = 10});
    for (int i = 0; i < 9; ++i) REQUIRE(Spends(**table, ref));
    // From 9 of 10 to 0 of 1, between the units and the grant: one fits before and after.
    const At at(point, [&] {
      MustSlot(**table, "k:one", {.limit = 1000, .limit_version = 2});
      MustSlot(**table, "k:one", later);
      REQUIRE((*table)->MarkSettled(Unsettled(**table)).ok());
      SlotTarget target{.subject = "k:one", .aim = AimOf(later)};
      target.aim.period_end_ms += kHourMs;
      target.aim.limit = 1;
      target.aim.limit_version = 3;
      REQUIRE((*table)->Find(target).ok());
    });
    const internal::UnitSpend spend{
        .cost = 1, .now_ms = kStart, .generation = (*table)->generation()};
    const internal::SpendAnswer answer =
        point == "spend.read" ? (*table)->TrySpend(ref, spend) : (*table)->Probe(ref, spend);
    CHECK(at.reached());
    CHECK(answer.code == SpendCode::kSpent);
    CHECK(answer.granted == 1);
    CHECK(answer.used == (point == "spend.read" ? 1 : 0));
  }
}

TEST_CASE(
    "a spend that was found to fit fails when the limit is lowered or the key revoked first") {
  const auto table = OpenTable("");
  const SlotRef ref = MustSlot(**table, "k:one", {.limit = 10});
  const std::uint64_t generation = (*table)->generation();
  const internal::UnitSpend spend{.cost = 1, .now_ms = kStart, .generation = generation};
  {
    const At at("spend.fits",
                [&] { MustSlot(**table, "k:one", {.limit = 0, .limit_version = 2}); });
    CHECK((*table)->TrySpend(ref, spend).code == SpendCode::kRefused);
    CHECK(at.reached());
  }
  MustSlot(**table, "k:one", {.limit = 10, .limit_version = 3});
  const At at("spend.fits", [&] {
    PublishKey(**table, "7");
    REQUIRE((*table)->Interrupt("k:one").ok());
  });
  CHECK((*table)->TrySpend(ref, spend).code == SpendCode::kChanged);
  CHECK(at.reached());
}

// Ends `act` at `point` as a kill does, but for the lock, which the kernel gives back.
void DieAt(const std::string& point, const std::function<void()>& act) {
  struct Death {};
  bool died = false;
  const At at(point, [] { throw Death(); });
  try {
    act();
  } catch (const Death&) {
    died = true;
  }
  CHECK(died);
}

TEST_CASE("Find: a carry-over that begins in the midst of it is not taken for seen") {
  const auto table = OpenTable("");
  const SlotTarget target{.subject = "k:one", .owner_id = "acme", .aim = AimOf({.limit = 10})};
  const At at("find.counted", [&] {
    (*table)->BeginChange();
    (*table)->NoteCarries("");
  });
  const auto found = (*table)->Find(target);
  REQUIRE(found.ok());
  CHECK(at.reached());
  CHECK(found->carries_seen < 1);
}

TEST_CASE("ReadUnsettled: a slot that is being changed is read too") {
  const auto table = OpenTable("");
  const SlotRef ref = MustSlot(**table, "k:one", {.limit = 10});
  REQUIRE(Spends(**table, ref));
  const Aiming later{.limit = 10, .now_ms = kStart + kHourMs};
  const At at("settle.scans", [&] {
    DieAt("change.closed", [&] { static_cast<void>(SlotOf(**table, "k:one", AimOf(later))); });
  });
  const std::vector<UnsettledSlot> read = Unsettled(**table);
  REQUIRE(read.size() == 1);
  CHECK(read.front().totals.units == 1);
  CHECK(read.front().state.hour == later.now_ms / kHourMs);
  REQUIRE((*table)->MarkSettled(read).ok());
  CHECK(Unsettled(**table).empty());
}

TEST_CASE("an index that one process left torn, and the next one too, is made anew") {
  for (const std::string point : {"change.indexed", "change.opened", "index.cleared"}) {
    INFO("the next one died at " << point);
    const TempDir directory;
    const std::string path = directory.File("t-lease");
    const auto table = OpenTable(path);
    for (int i = 0; i < 500; ++i) {
      Spends(**table, MustSlot(**table, absl::StrCat("k:", i), {.limit = kLimit}));
    }
    DieAt("change.fields", [&] { static_cast<void>(SlotOf(**table, "m:new", AimOf({}))); });
    // As far as it came: the entries for 1024 slots are half written.
    const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const std::string zeros(2048 * 2, '\0');
    REQUIRE(pwrite(file, zeros.data(), zeros.size(), internal::kHeaderBytes + 2048 * 4) == 4096);
    close(file);
    DieAt(point, [&] { static_cast<void>((*table)->Interrupt("k:1")); });
    for (int i = 0; i < 500; ++i) {
      const std::string subject = absl::StrCat("k:", i);
      const auto found = (*table)->Find({.subject = subject, .aim = AimOf({.limit = kLimit})});
      REQUIRE(found.ok());
      REQUIRE(found->ref.has_value());
      CHECK(Spends(**table, *found->ref));
    }
    CHECK(Unsettled(**table).size() == 500);
    CHECK((*table)->Find({.subject = "m:new", .aim = AimOf({})})->ref.has_value());
  }
}

}  // namespace
}  // namespace throttl::testing
