// ApplySettle and ApplyRetire: each promise by itself, and 3,000 random histories.
#include "throttl/settle.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "throttl/plan.h"

#include "tests/scale.h"
#include "tests/settle/settle_history.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
const absl::Time kStart = absl::FromUnixSeconds(1767225600);
const absl::Time kEnd = kStart + absl::Hours(24 * 31);

// One counter and any number of leases, as a store would hold them.
struct Bench {
  Counter counter = {};
  std::map<int, Lease> leases = {};
  std::vector<Event> events = {};
  absl::Time now = kStart + absl::Hours(1);
  std::optional<absl::Duration> lease_ttl = std::nullopt;

  SettleReply Settle(int holder, const SettleRow& row) {
    return ApplySettle(row, now, lease_ttl, counter, leases[holder], events);
  }
  void Retire(int holder, LeaseState end) { ApplyRetire(end, counter, leases[holder]); }
};

SettleRow Row(std::int64_t seq, std::int64_t used, std::int64_t keep, std::int64_t want) {
  SettleRow row{.counter = {"k:1", kStart},
                .period_end = kEnd,
                .limit = 100,
                .limit_version = 1,
                .alert_percents = {50, 90, 100},
                .owner_id = "acme",
                .key_id = "key"};
  row.seq = seq;
  row.used = used;
  row.keep = keep;
  row.want = want;
  return row;
}

bool Same(const Counter& a, const Counter& b) {
  return a.period_end == b.period_end && a.limit == b.limit && a.limit_version == b.limit_version &&
         a.used == b.used && a.charged == b.charged && a.forfeited == b.forfeited &&
         a.open_leases == b.open_leases && a.alerted_percent == b.alerted_percent &&
         a.recall == b.recall && a.exceeded == b.exceeded && a.ended == b.ended &&
         a.forgiven == b.forgiven && a.added == b.added && a.owner_id == b.owner_id &&
         a.key_id == b.key_id;
}

bool Same(const Lease& a, const Lease& b) {
  return a.state == b.state && a.seq == b.seq && a.allowance == b.allowance && a.used == b.used &&
         a.expires_at == b.expires_at;
}

TEST_CASE("a first call opens a lease and grants what is wanted") {
  Bench bench;
  const SettleReply reply = bench.Settle(1, Row(1, 0, 0, 30));
  CHECK(reply.code == SettleCode::kApplied);
  CHECK(reply.allowance == 30);
  CHECK(reply.used_by_all == 0);
  CHECK(reply.charged_to_all == 30);
  CHECK(reply.forfeited == 0);
  CHECK(reply.limit == 100);
  CHECK(reply.limit_version == 1);
  CHECK_FALSE(reply.recall);
  CHECK(bench.counter.period_end == kEnd);
  CHECK(bench.counter.open_leases == 1);
  CHECK(bench.leases[1].state == LeaseState::kOpen);
  CHECK_FALSE(bench.leases[1].expires_at.has_value());
}

TEST_CASE("saying it again is harmless, and an older seq is stale: nothing changes") {
  Bench bench;
  bench.Settle(1, Row(5, 0, 0, 60));
  bench.Settle(1, Row(6, 60, 60, 10));
  const Counter counter = bench.counter;
  const Lease lease = bench.leases[1];
  const std::size_t events = bench.events.size();
  const SettleReply again = bench.Settle(1, Row(6, 60, 60, 10));
  CHECK(again.code == SettleCode::kApplied);
  CHECK(again.allowance == 70);
  CHECK(bench.Settle(1, Row(5, 0, 0, 60)).code == SettleCode::kStale);
  CHECK(Same(bench.counter, counter));
  CHECK(Same(bench.leases[1], lease));
  CHECK(bench.events.size() == events);
}

TEST_CASE("used > keep or keep > allowance is invalid: nothing changes") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 30));
  const Counter counter = bench.counter;
  const Lease lease = bench.leases[1];
  CHECK(bench.Settle(1, Row(2, 11, 10, 5)).code == SettleCode::kInvalid);
  CHECK(bench.Settle(1, Row(2, 0, 31, 5)).code == SettleCode::kInvalid);
  CHECK(bench.Settle(1, Row(2, -1, 10, 5)).code == SettleCode::kInvalid);
  CHECK(bench.Settle(2, Row(1, 1, 1, 5)).code == SettleCode::kInvalid);
  CHECK(Same(bench.counter, counter));
  CHECK(Same(bench.leases[1], lease));
  CHECK(bench.Settle(1, Row(2, 30, 30, 5)).code == SettleCode::kApplied);
}

TEST_CASE("charged is never above the limit by a grant: all that are free if so many are not") {
  Bench bench;
  CHECK(bench.Settle(1, Row(1, 0, 0, 80)).allowance == 80);
  CHECK(bench.Settle(2, Row(1, 0, 0, 80)).allowance == 20);
  CHECK(bench.Settle(3, Row(1, 0, 0, 1)).allowance == 0);
  CHECK(bench.counter.charged == 100);
}

TEST_CASE("want_min: none rather than fewer than this") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 95));
  SettleRow row = Row(1, 0, 0, 20);
  row.want_min = 6;
  CHECK(bench.Settle(2, row).allowance == 0);
  row.seq = 2;
  row.want_min = 5;
  CHECK(bench.Settle(2, row).allowance == 5);
  row = Row(1, 0, 0, 3);
  row.limit = std::nullopt;
  row.limit_version = 2;
  row.want_min = 4;
  CHECK(bench.Settle(3, row).allowance == 0);
}

TEST_CASE("keep: the rest is given back, and others get it") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 100));
  CHECK(bench.Settle(1, Row(2, 10, 40, 0)).charged_to_all == 40);
  CHECK(bench.Settle(2, Row(1, 0, 0, 100)).allowance == 60);
}

TEST_CASE("used may be smaller than before, after Adjust") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 50));
  bench.Settle(1, Row(2, 50, 50, 0));
  const SettleReply reply = bench.Settle(1, Row(3, 20, 50, 0));
  CHECK(reply.used_by_all == 20);
  CHECK(reply.charged_to_all == 50);
}

TEST_CASE("now decides whether the period may still grant") {
  Bench bench;
  bench.now = kStart - absl::Milliseconds(1);
  CHECK(bench.Settle(1, Row(1, 0, 0, 10)).allowance == 0);
  bench.now = kStart;
  CHECK(bench.Settle(1, Row(2, 0, 0, 10)).allowance == 10);
  bench.now = kEnd - absl::Milliseconds(1);
  CHECK(bench.Settle(1, Row(3, 0, 10, 10)).allowance == 20);
  bench.now = kEnd;
  const SettleReply late = bench.Settle(1, Row(4, 15, 20, 10));
  CHECK(late.allowance == 20);
  CHECK(late.used_by_all == 15);
  SettleRow lifetime = Row(5, 15, 20, 10);
  lifetime.period_end = std::nullopt;
  CHECK(bench.Settle(1, lifetime).allowance == 30);
}

TEST_CASE("the newest limit wins, and a row with an older one is told so") {
  Bench bench;
  SettleRow raised = Row(1, 0, 0, 10);
  raised.limit = 200;
  raised.limit_version = 3;
  bench.Settle(1, raised);
  const SettleReply reply = bench.Settle(2, Row(1, 0, 0, 1000));
  CHECK(reply.limit == 200);
  CHECK(reply.limit_version == 3);
  CHECK(reply.allowance == 190);
  SettleRow lowered = Row(2, 0, 10, 5);
  lowered.limit = 20;
  lowered.limit_version = 4;
  CHECK(bench.Settle(1, lowered).allowance == 10);
  CHECK(bench.counter.charged == 200);
}

TEST_CASE("thresholds that one settle jumps over are told in order, each once") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 100));
  CHECK(bench.events.empty());
  bench.Settle(1, Row(2, 49, 100, 0));
  CHECK(bench.events.empty());
  bench.Settle(1, Row(3, 90, 100, 0));
  REQUIRE(bench.events.size() == 2);
  CHECK(bench.events[0].data == "{\"percent\":50,\"used\":90,\"limit\":100}");
  CHECK(bench.events[1].data == "{\"percent\":90,\"used\":90,\"limit\":100}");
  CHECK(bench.events[0].id == "k:1.1767225600.50.1");
  CHECK(bench.events[0].type == event_type::kQuotaThreshold);
  CHECK(bench.events[0].at == bench.now);
  CHECK(bench.events[0].owner_id == "acme");
  CHECK(bench.events[0].key_id == "key");
  bench.Settle(1, Row(4, 40, 100, 0));
  bench.Settle(1, Row(5, 95, 100, 0));
  CHECK(bench.events.size() == 2);
  bench.Settle(1, Row(6, 100, 100, 0));
  REQUIRE(bench.events.size() == 4);
  CHECK(bench.events[2].id == "k:1.1767225600.100.1");
  CHECK(bench.events[3].type == event_type::kQuotaExceeded);
}

TEST_CASE("quota.exceeded when the limit is reached, once for a limit") {
  Bench bench;
  SettleRow row = Row(1, 0, 0, 100);
  row.alert_percents = {};
  bench.Settle(1, row);
  row = Row(2, 99, 100, 0);
  row.alert_percents = {};
  bench.Settle(1, row);
  CHECK(bench.events.empty());
  for (std::int64_t seq = 3; seq < 6; ++seq) {
    row.seq = seq;
    row.used = 103 - seq;  // 100, then less again
    bench.Settle(1, row);
    REQUIRE(bench.events.size() == 1);
  }
  CHECK(bench.events[0].id == "k:1.1767225600.exceeded.1");
  CHECK(bench.events[0].type == event_type::kQuotaExceeded);
  CHECK(bench.events[0].at == bench.now);
  CHECK(bench.events[0].owner_id == "acme");
  CHECK(bench.events[0].key_id == "key");
  CHECK(bench.events[0].data == "{\"used\":100,\"limit\":100}");
  row.seq = 6;
  row.limit = 98;
  row.limit_version = 2;
  bench.Settle(1, row);
  REQUIRE(bench.events.size() == 2);
  CHECK(bench.events[1].id == "k:1.1767225600.exceeded.2");
  CHECK(bench.events[1].data == "{\"used\":98,\"limit\":98}");
}

TEST_CASE("quota.exceeded when a request was refused for the limit, also one of 0") {
  for (const std::int64_t limit : {0, 100}) {
    Bench bench;
    SettleRow row = Row(1, 0, 0, 0);
    row.limit = limit;
    bench.Settle(1, row);
    CHECK(bench.events.empty());
    row.seq = 2;
    row.refused = true;
    bench.Settle(1, row);
    REQUIRE(bench.events.size() == 1);
    CHECK(bench.events[0].data == absl::StrCat("{\"used\":0,\"limit\":", limit, "}"));
    row.seq = 3;
    bench.Settle(1, row);
    CHECK(bench.events.size() == 1);
    // Told late, of a limit that is no longer in force.
    SettleRow newer = row;
    newer.seq = 4;
    newer.limit = limit + 50;
    newer.limit_version = 2;
    newer.refused = false;
    bench.Settle(1, newer);
    bench.Settle(2, row);
    CHECK(bench.events.size() == 1);
    newer.seq = 5;
    newer.refused = true;
    bench.Settle(1, newer);
    CHECK(bench.events.size() == 2);
  }
}

TEST_CASE("without a limit nothing is exceeded") {
  Bench bench;
  SettleRow row = Row(1, 7, 7, 0);
  row.sole = true;
  row.limit = std::nullopt;
  row.refused = true;
  bench.Settle(1, row);
  CHECK(bench.events.empty());
}

TEST_CASE(
    "quota.reset if the period has ended, something was used in it, and it was not told yet") {
  Bench bench;
  const CounterId id{"k:1", kStart};
  const auto end_at = [&](absl::Time now) {
    return ApplyPeriodEnd(id, now, bench.counter, bench.events);
  };
  SettleRow row = Row(1, 0, 0, 0);
  bench.Settle(1, row);
  CHECK_FALSE(end_at(kEnd));  // nothing was used
  row = Row(2, 7, 7, 0);
  row.sole = true;
  bench.Settle(1, row);
  const Counter before = bench.counter;
  CHECK_FALSE(end_at(kEnd - absl::Nanoseconds(1)));
  CHECK(Same(bench.counter, before));
  CHECK(end_at(kEnd));
  CHECK_FALSE(end_at(kEnd + absl::Hours(1)));
  REQUIRE(bench.events.size() == 1);
  CHECK(bench.events[0].id == "k:1.1767225600.reset");
  CHECK(bench.events[0].type == event_type::kQuotaReset);
  CHECK(bench.events[0].at == kEnd);
  CHECK(bench.events[0].owner_id == "acme");
  CHECK(bench.events[0].key_id == "key");
  CHECK(bench.events[0].data ==
        "{\"used\":7,\"limit\":100,\"period_start\":\"2026-01-01T00:00:00Z\","
        "\"period_end\":\"2026-02-01T00:00:00Z\"}");
}

TEST_CASE("a period that never ends is never told of, and one without a limit is told without it") {
  Bench bench;
  SettleRow row = Row(1, 7, 7, 0);
  row.sole = true;
  row.limit = std::nullopt;
  row.period_end = std::nullopt;
  bench.Settle(1, row);
  CHECK_FALSE(ApplyPeriodEnd({"k:1", kStart}, absl::InfiniteFuture(), bench.counter, bench.events));
  row.seq = 2;
  row.period_end = kEnd;
  bench.Settle(1, row);
  CHECK(ApplyPeriodEnd({"k:1", kStart}, kEnd, bench.counter, bench.events));
  CHECK(bench.events[0].data ==
        "{\"used\":7,\"period_start\":\"2026-01-01T00:00:00Z\","
        "\"period_end\":\"2026-02-01T00:00:00Z\"}");
}

TEST_CASE("what a lost holder may have used counts as used: its period has an end to tell") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 30));
  bench.Retire(1, LeaseState::kLost);
  CHECK(ApplyPeriodEnd({"k:1", kStart}, kEnd, bench.counter, bench.events));
}

TEST_CASE("a new limit raises its thresholds anew, and a limit of 0 raises none") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 60));
  bench.Settle(1, Row(2, 60, 60, 0));
  CHECK(bench.events.size() == 1);
  SettleRow raised = Row(3, 60, 60, 0);
  raised.limit = 110;
  raised.limit_version = 2;
  bench.Settle(1, raised);
  REQUIRE(bench.events.size() == 2);
  CHECK(bench.events[1].id == "k:1.1767225600.50.2");
  SettleRow none = Row(4, 60, 60, 0);
  none.limit = 0;
  none.limit_version = 3;
  bench.Settle(1, none);
  CHECK(bench.events.size() == 2);
}

TEST_CASE("a threshold is rounded up to whole units") {
  Bench bench;
  SettleRow row = Row(1, 0, 0, 3);
  row.limit = 3;
  bench.Settle(1, row);
  row.seq = 2;
  row.used = 1;
  row.keep = 3;
  row.want = 0;
  bench.Settle(1, row);
  CHECK(bench.events.empty());
  row.seq = 3;
  row.used = 2;
  bench.Settle(1, row);
  CHECK(bench.events.size() == 1);
}

TEST_CASE("recall: a holder went short while others had units left") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 100));
  CHECK(bench.Settle(2, Row(1, 0, 0, 1)).recall);
  CHECK(bench.Settle(1, Row(2, 50, 60, 0)).recall);
  CHECK_FALSE(bench.Settle(2, Row(2, 0, 0, 40)).recall);
  bench.Settle(1, Row(3, 60, 60, 0));
  CHECK_FALSE(bench.Settle(2, Row(3, 30, 40, 1)).recall);
  CHECK(bench.Settle(1, Row(4, 60, 60, 1)).recall);
}

TEST_CASE("recall does not count what is forfeited") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 100));
  bench.Retire(1, LeaseState::kLost);
  CHECK_FALSE(bench.Settle(2, Row(1, 0, 0, 1)).recall);
}

TEST_CASE("close: the holder is done with this counter and gets no more") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 50));
  SettleRow row = Row(2, 30, 30, 0);
  row.close = true;
  const SettleReply reply = bench.Settle(1, row);
  CHECK(reply.charged_to_all == 30);
  CHECK(bench.counter.open_leases == 0);
  CHECK(bench.leases[1].state == LeaseState::kClosed);
  SettleRow greedy = Row(1, 0, 0, 10);
  greedy.close = true;
  CHECK(bench.Settle(2, greedy).allowance == 0);
  CHECK(bench.Settle(1, Row(3, 30, 30, 5)).allowance == 35);
  CHECK(bench.counter.open_leases == 1);
}

TEST_CASE("lease_ttl: a call says until when the lease lives") {
  Bench bench;
  bench.lease_ttl = absl::Seconds(30);
  bench.Settle(1, Row(1, 0, 0, 10));
  CHECK(bench.leases[1].expires_at == bench.now + absl::Seconds(30));
  bench.now += absl::Seconds(5);
  bench.Settle(1, Row(2, 0, 10, 0));
  CHECK(bench.leases[1].expires_at == bench.now + absl::Seconds(30));
  bench.lease_ttl = std::nullopt;
  bench.Settle(1, Row(3, 0, 10, 0));
  CHECK_FALSE(bench.leases[1].expires_at.has_value());
}

CarryRow Carry(CarryOver carry_over, std::int64_t limit_before, std::int64_t limit,
               std::int64_t limit_version) {
  return {.counter = {"k:1", kStart},
          .carry_over = carry_over,
          .period_end = kEnd,
          .limit_before = limit_before,
          .limit = limit,
          .limit_version = limit_version,
          .owner_id = "acme",
          .key_id = "key"};
}

// A stored counter, whose limit has version 1.
Counter Stored(std::int64_t used, std::int64_t forgiven = 0, std::int64_t added = 0) {
  return {.limit = 100,
          .limit_version = 1,
          .used = used,
          .charged = used,
          .forgiven = forgiven,
          .added = added};
}

TEST_CASE("carry-over: what is used becomes this, and this is added") {
  struct Case {
    CarryRow row;
    Counter before;
    std::int64_t used;
    std::int64_t added;
  };
  constexpr std::int64_t kQ = kLimitMax;
  const std::vector<Case> cases = {
      {Carry(CarryOver::kDifference, 100, 10, 2), Stored(60, 5, 7), 55, 7},
      {Carry(CarryOver::kReset, 100, 100, 2), Stored(60), 0, 0},
      {Carry(CarryOver::kReset, 100, 100, 2), Stored(60, -30, 7), 0, 0},
      {Carry(CarryOver::kReset, kQ, kQ, 2), Stored(kQ), 0, 0},
      // floor(60 * 10 / 107)
      {Carry(CarryOver::kProportional, 100, 10, 2), Stored(60, 0, 7), 5, 0},
      {Carry(CarryOver::kProportional, 100, 1000, 2), Stored(60), 600, 0},
      // More of what counts than was used: forgiven is negative, and stays so.
      {Carry(CarryOver::kProportional, 100, 1000, 2), Stored(60, -40), 1000, 0},
      {Carry(CarryOver::kProportional, 100, 0, 2), Stored(60), 0, 0},
      {Carry(CarryOver::kProportional, 0, 10, 2), Stored(60), 60, 0},
      {Carry(CarryOver::kProportional, 0, 10, 2), Stored(60, 0, 30), 20, 0},
      // Products beyond 64 bits, and what comes to more than may be stored.
      {Carry(CarryOver::kProportional, kQ, kQ - 1, 2), Stored(kQ), kQ - 1, 0},
      {Carry(CarryOver::kProportional, kQ, kQ / 2, 2), Stored(kQ - 1), kQ / 2 - 1, 0},
      {Carry(CarryOver::kProportional, 1, kQ, 2), Stored(2), kQ, 0},
      {Carry(CarryOver::kProportional, 1, kQ, 2), Stored(kQ), kQ, 0},
      {Carry(CarryOver::kAdditive, 100, 10, 2), Stored(60), 60, 100},
      {Carry(CarryOver::kAdditive, 100, 10, 2), Stored(60, 0, 7), 60, 107},
      // Nothing was left.
      {Carry(CarryOver::kAdditive, 50, 10, 2), Stored(60), 60, 60},
      {Carry(CarryOver::kAdditive, 50, 10, 2), Stored(60, -15), 75, 75},
      {Carry(CarryOver::kAdditive, kQ, kQ, 2), Stored(60), 60, 0},
      {Carry(CarryOver::kAdditive, kQ, 1, 2), Stored(60, 0, kQ), 60, kQ - 1},
      {Carry(CarryOver::kAdditive, 100, kQ - 1, 2), Stored(60), 60, 1}};
  for (const Case& test : cases) {
    CAPTURE(static_cast<int>(test.row.carry_over));
    CAPTURE(*test.row.limit_before);
    CAPTURE(*test.row.limit);
    CAPTURE(test.before.used);
    Counter counter = test.before;
    counter.alerted_percent = 90;
    counter.exceeded = true;
    CHECK(ApplyCarryOver(test.row, counter));
    CHECK(counter.used - counter.forgiven == test.used);
    CHECK(counter.added == test.added);
    CHECK(counter.used == test.before.used);
    CHECK(counter.charged == test.before.charged);
    CHECK(counter.limit == test.row.limit);
    CHECK(counter.limit_version == 2);
    CHECK(counter.alerted_percent == 0);
    CHECK_FALSE(counter.exceeded);
    CHECK(counter.period_end == kEnd);
    CHECK(counter.owner_id == "acme");
    CHECK(counter.key_id == "key");
  }
}

TEST_CASE("carry-over: not when the counter has this limit, or a newer one, already") {
  for (const CarryOver carry_over : {CarryOver::kDifference, CarryOver::kReset,
                                     CarryOver::kProportional, CarryOver::kAdditive}) {
    for (const std::int64_t version : {std::int64_t{0}, std::int64_t{1}}) {
      Counter counter = Stored(60, 5, 7);
      CHECK_FALSE(ApplyCarryOver(Carry(carry_over, 100, 10, version), counter));
      CHECK(Same(counter, Stored(60, 5, 7)));
    }
    // Saying it again is harmless.
    Counter counter = Stored(60, 5, 7);
    CHECK(ApplyCarryOver(Carry(carry_over, 100, 10, 2), counter));
    const Counter once = counter;
    CHECK_FALSE(ApplyCarryOver(Carry(carry_over, 100, 10, 2), counter));
    CHECK(Same(counter, once));
    Counter unused;
    CHECK(ApplyCarryOver(Carry(carry_over, 100, 10, 2), unused) ==
          (carry_over == CarryOver::kAdditive));
  }
}

TEST_CASE("carry-over: what a lost holder may have used is forgiven as if it were used") {
  Bench b;
  b.Settle(1, Row(1, 0, 0, 50));
  b.Settle(1, Row(2, 10, 50, 0));
  b.Retire(1, LeaseState::kLost);
  CHECK(b.counter.forfeited == 40);
  CHECK(ApplyCarryOver(Carry(CarryOver::kReset, 100, 20, 2), b.counter));
  CHECK(b.counter.forgiven == 50);
  SettleRow row = Row(1, 0, 0, 1000);
  row.limit = 20;
  row.limit_version = 2;
  const SettleReply reply = b.Settle(2, row);
  CHECK(reply.allowance == 20);
  CHECK(reply.forgiven == 50);
  // It is heard of again: what it did not use is free twice, and counts as nothing.
  CHECK(b.Settle(1, Row(3, 10, 10, 0)).used_by_all == 10);
  CHECK(b.counter.forgiven == 50);
}

TEST_CASE("carry-over: alerts and grants go by what counts, and by the limit and what is added") {
  Bench b;
  b.Settle(1, Row(1, 0, 0, 100));
  b.Settle(1, Row(2, 60, 100, 0));
  REQUIRE(b.events.size() == 1);
  CHECK(ApplyCarryOver(Carry(CarryOver::kAdditive, 100, 20, 2), b.counter));
  SettleRow row = Row(3, 100, 100, 1000);
  row.limit = 20;
  row.limit_version = 2;
  const SettleReply reply = b.Settle(1, row);
  CHECK(reply.allowance == 120);
  CHECK(reply.added == 100);
  // 50 percent of 120, and not 90.
  REQUIRE(b.events.size() == 2);
  CHECK(b.events.back().data == "{\"percent\":50,\"used\":100,\"limit\":120}");
  CHECK(ApplyCarryOver(Carry(CarryOver::kReset, 20, 20, 3), b.counter));
  row = Row(4, 117, 120, 1000);
  row.limit = 20;
  row.limit_version = 3;
  CHECK(b.Settle(1, row).allowance == 120);
  REQUIRE(b.events.size() == 3);
  CHECK(b.events.back().data == "{\"percent\":50,\"used\":17,\"limit\":20}");
}

TEST_CASE("kClosed: the rest is free again, and later calls of this holder are stale") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 50));
  bench.Settle(1, Row(2, 20, 50, 0));
  bench.Retire(1, LeaseState::kClosed);
  CHECK(bench.counter.charged == 20);
  CHECK(bench.counter.used == 20);
  CHECK(bench.counter.open_leases == 0);
  CHECK(bench.Settle(1, Row(2, 20, 50, 0)).code == SettleCode::kStale);
  CHECK(bench.Settle(1, Row(3, 20, 20, 5)).code == SettleCode::kStale);
  CHECK(bench.Settle(1, Row(kMax, 20, 20, 5)).code == SettleCode::kStale);
  CHECK(bench.counter.charged == 20);
  bench.Retire(1, LeaseState::kLost);
  CHECK(bench.leases[1].state == LeaseState::kClosed);
  CHECK(bench.counter.open_leases == 0);
}

TEST_CASE("kLost: the rest counts as used until the holder is heard of again") {
  Bench bench;
  bench.Settle(1, Row(1, 0, 0, 50));
  bench.Settle(1, Row(2, 20, 50, 0));
  bench.Retire(1, LeaseState::kLost);
  bench.Retire(1, LeaseState::kLost);
  CHECK(bench.counter.charged == 50);
  CHECK(bench.counter.forfeited == 30);
  CHECK(bench.counter.open_leases == 0);
  const SettleReply other = bench.Settle(2, Row(1, 0, 0, 100));
  CHECK(other.allowance == 50);
  CHECK(bench.events.size() == 1);
  const SettleReply back = bench.Settle(1, Row(3, 45, 50, 0));
  CHECK(back.forfeited == 0);
  CHECK(back.used_by_all == 45);
  CHECK(back.charged_to_all == 100);
  CHECK(bench.counter.open_leases == 2);
}

TEST_CASE("retiring changes only an open lease, and never opens one") {
  Bench bench;
  bench.Retire(1, LeaseState::kClosed);
  CHECK(Same(bench.counter, Counter{}));
  bench.Settle(1, Row(1, 0, 0, 50));
  const Counter counter = bench.counter;
  bench.Retire(1, LeaseState::kOpen);
  CHECK(Same(bench.counter, counter));
}

TEST_CASE("without a limit every wish is granted, up to what a lease and a counter can hold") {
  Bench bench;
  SettleRow row = Row(1, 0, 0, kMax);
  row.limit = std::nullopt;
  CHECK(bench.Settle(1, row).allowance == kLimitMax);
  row.seq = 2;
  row.keep = kLimitMax;
  CHECK(bench.Settle(1, row).allowance == kLimitMax);
  row.seq = 1;
  row.keep = 0;
  row.want = 1'000'000'000;
  CHECK(bench.Settle(2, row).allowance == 1'000'000'000);
  bench.counter.charged = kMax - 5;
  CHECK(bench.Settle(3, row).allowance == 5);
  CHECK(bench.counter.charged == kMax);
}

TEST_CASE("any row within the documented ranges keeps used <= allowance, charged <= limit") {
  const auto units = rc::gen::element<std::int64_t>(-1, 0, 1, 99, 100, kLimitMax - 1, kLimitMax);
  const bool held = rc::check([&] {
    Bench bench;
    for (std::int64_t step = 1; step < 30; ++step) {
      const int holder = *rc::gen::inRange(0, 3);
      const std::int64_t allowance = bench.leases[holder].allowance;
      SettleRow row = Row(*rc::gen::inRange<std::int64_t>(step - 1, step + 2), 0, 0, 0);
      row.keep = *rc::gen::oneOf(units, rc::gen::just(allowance));
      row.used = *rc::gen::oneOf(units, rc::gen::just(row.keep));
      row.want = *rc::gen::oneOf(units, rc::gen::just(kMax));
      row.want_min = *units;
      row.limit = *rc::gen::element<std::int64_t>(0, 1, 99, kLimitMax);
      row.limit_version = *rc::gen::inRange<std::int64_t>(0, 4);
      row.alert_percents = {1, 100, 999, 1000};
      if (*rc::gen::inRange(0, 8) == 0) {
        bench.Retire(holder, *rc::gen::element(LeaseState::kClosed, LeaseState::kLost));
      }
      const std::int64_t charged = bench.counter.charged;
      const SettleReply reply = bench.Settle(holder, row);
      const Counter& counter = bench.counter;
      RC_ASSERT(counter.charged <= std::max(charged, counter.limit.value_or(kMax)));
      RC_ASSERT(counter.used + counter.forfeited <= counter.charged);
      RC_ASSERT(reply.allowance == bench.leases[holder].allowance);
      std::int64_t used = 0;
      std::int64_t allowances = 0;
      std::int32_t open = 0;
      for (const auto& [id, lease] : bench.leases) {
        RC_ASSERT(lease.used >= 0 && lease.used <= lease.allowance);
        used += lease.used;
        allowances += lease.allowance;
        open += lease.state == LeaseState::kOpen ? 1 : 0;
      }
      RC_ASSERT(used == counter.used);
      RC_ASSERT(allowances == counter.charged);
      RC_ASSERT(open == counter.open_leases);
    }
  });
  CHECK(held);
}

TEST_CASE("3,000 random histories never admit more than the limit, and without loss exactly it") {
  std::int64_t exact = 0;
  std::int64_t settles = 0;
  std::int64_t events = 0;
  const std::int64_t histories = Scaled(3000);
  for (std::int64_t seed = 1; seed <= histories; ++seed) {
    Counter counter;
    std::map<HolderId, Lease> leases;
    std::vector<Event> log;
    const SettleTarget target{
        .settle = [&](HolderId holder, absl::Time now,
                      const SettleRow& row) -> absl::StatusOr<SettleReply> {
          return ApplySettle(row, now, std::nullopt, counter, leases[holder], log);
        },
        .retire =
            [&](HolderId holder, LeaseState end) {
              ApplyRetire(end, counter, leases[holder]);
              return absl::OkStatus();
            },
        .read = [&](const CounterId&) -> absl::StatusOr<Counter> { return counter; },
        .events = [&]() -> absl::StatusOr<std::vector<Event>> { return log; }};
    const HistoryOutcome outcome =
        RunSettleHistory(target, static_cast<std::uint32_t>(seed), "k:1");
    REQUIRE_MESSAGE(outcome.failure.empty(), outcome.failure);
    exact += outcome.exact ? 1 : 0;
    settles += outcome.settles;
    events += outcome.events;
  }
  MESSAGE(absl::StrCat("seeds 1 to ", histories, ": ", settles, " settles, ", exact,
                       " histories ended at exactly the limit, ", events, " events"));
  CHECK((exact * 4 >= histories || histories < 100));
}

}  // namespace
}  // namespace throttl::testing
