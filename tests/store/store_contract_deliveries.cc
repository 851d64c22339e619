// The store contract: deliveries and upkeep.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

constexpr std::uint64_t kHighClaim = ~std::uint64_t{0};

// Logs the events `e1`, `e2`, ... of these owners, made a second apart, and plans one delivery of
// each that is due at once.
std::vector<Delivery> PlanDeliveries(QuotaStore& store, const std::vector<std::string>& owners) {
  ChangeSet changes = NewChanges();
  for (std::size_t i = 0; i < owners.size(); ++i) {
    Event event = NewEvent(absl::StrCat("e", i + 1));
    event.at = At(static_cast<std::int64_t>(i) + 1);
    event.owner_id = owners[i];
    changes.events.push_back(event);
  }
  MustApply(store, changes);
  std::vector<Delivery> planned;
  for (const Event& event : Must(ReadAllEvents(store, 0))) {
    planned.push_back({.id = absl::StrCat(event.id, ".w1"),
                       .destination = "w1",
                       .event = event,
                       .due_at = event.at});
  }
  return planned;
}

std::vector<Delivery> PlanDeliveries(QuotaStore& store, std::size_t count) {
  return PlanDeliveries(store, std::vector<std::string>(count, "acme"));
}

// nullptr, and says so, when the store has no deliveries.
std::shared_ptr<QuotaStore> OpenForDeliveries(const StoreUnderTest& under) {
  auto store = under.open_new();
  const auto none = store->ListDeliveries({});
  if (!absl::IsUnimplemented(none.status())) return store;
  CHECK(none.status().message().find(store->info().kind) != absl::string_view::npos);
  CHECK(absl::IsUnimplemented(store->ClaimDeliveries({.claim = 1}).status()));
  CHECK(absl::IsUnimplemented(store->PutDeliveries({}, 1)));
  Skip(under, "deliveries");
  return nullptr;
}

std::vector<std::string> IdsOf(const std::vector<Delivery>& deliveries) {
  std::vector<std::string> ids;
  for (const Delivery& delivery : deliveries) ids.push_back(delivery.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::string DumpAll(QuotaStore& store) {
  std::string text;
  DeliveryQuery query{.count_max = 3};
  do {
    const auto page = Must(store.ListDeliveries(query));
    for (const Delivery& delivery : page.items) text += Dump(delivery);
    query.cursor = page.next_cursor;
  } while (!query.cursor.empty());
  return text;
}

void ClaimsOnce(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  CHECK(
      Must(store->ClaimDeliveries({.claim = 1, .now = At(9), .until = At(99)})).deliveries.empty());
  std::vector<Delivery> planned = PlanDeliveries(*store, 6);
  planned[3].due_at = At(50);
  planned[4].state = DeliveryState::kDelivered;
  planned[5].state = DeliveryState::kDead;
  REQUIRE(store->PutDeliveries(planned, 6).ok());
  const auto first = Must(
      store->ClaimDeliveries({.claim = kHighClaim, .now = At(9), .until = At(30), .count_max = 2}));
  CHECK(first.planned_seq == 6);
  CHECK(IdsOf(first.deliveries) == std::vector<std::string>{"e1.w1", "e2.w1"});
  for (const Delivery& delivery : first.deliveries) CHECK(delivery.claim == kHighClaim);
  const auto second = Must(store->ClaimDeliveries({.claim = 2, .now = At(9), .until = At(40)}));
  CHECK(IdsOf(second.deliveries) == std::vector<std::string>{"e3.w1"});
  CHECK(Must(store->ClaimDeliveries({.claim = 3, .now = At(29), .until = At(99)}))
            .deliveries.empty());
  // When `until` has come it may be claimed by another.
  const auto third = Must(store->ClaimDeliveries({.claim = 3, .now = At(30), .until = At(99)}));
  CHECK(IdsOf(third.deliveries) == std::vector<std::string>{"e1.w1", "e2.w1"});
  const auto fourth = Must(store->ClaimDeliveries({.claim = 4, .now = At(50), .until = At(99)}));
  CHECK(IdsOf(fourth.deliveries) == std::vector<std::string>{"e3.w1", "e4.w1"});
}

void RepeatedClaim(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  REQUIRE(store->PutDeliveries(PlanDeliveries(*store, 5), 5).ok());
  const DeliveryClaim claim{.claim = 8, .now = At(9), .until = At(60), .count_max = 2};
  const auto first = Must(store->ClaimDeliveries(claim));
  const auto again = Must(store->ClaimDeliveries(claim));
  CHECK(first.deliveries.size() == 2);
  CHECK(IdsOf(again.deliveries) == IdsOf(first.deliveries));
  CHECK(
      Must(store->ClaimDeliveries({.claim = 9, .now = At(9), .until = At(60)})).deliveries.size() ==
      3);
}

void PutAddsAndReplaces(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  const std::vector<Delivery> more = PlanDeliveries(*store, 3);
  const std::vector<Delivery> planned(more.begin(), more.begin() + 2);
  REQUIRE(store->PutDeliveries(planned, 2).ok());
  const std::string before = DumpAll(*store);
  CHECK(before == Dump(planned[1]) + Dump(planned[0]));
  REQUIRE(store->PutDeliveries(planned, 2).ok());
  CHECK(DumpAll(*store) == before);
  auto claimed =
      Must(store->ClaimDeliveries({.claim = kHighClaim, .now = At(1), .until = At(60)})).deliveries;
  REQUIRE(claimed.size() == 1);
  // Planning it again leaves it with its worker, and so does another worker's report.
  REQUIRE(store->PutDeliveries(std::span(planned).first(1), 2).ok());
  Delivery stranger = claimed[0];
  stranger.claim = 5;
  stranger.state = DeliveryState::kDead;
  REQUIRE(store->PutDeliveries(std::span(&stranger, 1), 2).ok());
  CHECK(DumpAll(*store) == Dump(planned[1]) + Dump(claimed[0]));
  claimed[0].state = DeliveryState::kDelivered;
  claimed[0].attempts = 3;
  claimed[0].last_http_status = 204;
  claimed[0].last_error = std::string("'\"\n\t€𝄞") + std::string(1009, 'x');
  claimed[0].due_at = At(70);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(store->PutDeliveries(claimed, 2).ok());
    CHECK(DumpAll(*store) == Dump(planned[1]) + Dump(claimed[0]));
  }
  // Some that are new among some that are not.
  REQUIRE(store->PutDeliveries(more, 3).ok());
  CHECK(DumpAll(*store) == Dump(more[2]) + Dump(planned[1]) + Dump(claimed[0]));
}

void PlannedSeqStays(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  const auto planned_seq = [&] {
    return Must(store->ClaimDeliveries({.claim = 1, .now = At(0), .until = At(1)})).planned_seq;
  };
  CHECK(planned_seq() == 0);
  REQUIRE(store->PutDeliveries({}, 7).ok());
  CHECK(planned_seq() == 7);
  REQUIRE(store->PutDeliveries(PlanDeliveries(*store, 1), 3).ok());
  CHECK(planned_seq() == 7);
}

void NewestFirst(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  std::vector<std::string> owners;
  for (int n = 0; n < 24; ++n) owners.push_back(n % 3 == 0 ? "globex" : "acme");
  std::vector<Delivery> all = PlanDeliveries(*store, owners);
  for (std::size_t n = 0; n < all.size(); ++n) {
    if (n % 2 == 0) all[n].destination = "mailto:ops@example.org";
    all[n].id = absl::StrCat(all[n].event.id, ".", all[n].destination);
    all[n].state = static_cast<DeliveryState>(1 + n % 4 % 3);
  }
  // Planned in the order of the log, as a notifier does.
  REQUIRE(store->PutDeliveries(std::span(all).first(12), 12).ok());
  REQUIRE(store->PutDeliveries(std::span(all).last(12), 24).ok());
  for (const std::string owner : {"", "acme", "globex", "nobody"}) {
    for (const std::string destination : {"", "w1", "mailto:ops@example.org", "w2"}) {
      for (const int state : {0, 1, 2, 3}) {
        DeliveryQuery query{.owner_id = owner, .destination = destination, .count_max = 2};
        if (state != 0) query.state = static_cast<DeliveryState>(state);
        std::string expected;
        for (auto it = all.rbegin(); it != all.rend(); ++it) {
          if (!owner.empty() && it->event.owner_id != owner) continue;
          if (!destination.empty() && it->destination != destination) continue;
          if (query.state && it->state != *query.state) continue;
          expected += Dump(*it);
        }
        std::string found;
        do {
          const auto page = Must(store->ListDeliveries(query));
          CHECK(page.items.size() <= 2);
          for (const Delivery& delivery : page.items) found += Dump(delivery);
          query.cursor = page.next_cursor;
        } while (!query.cursor.empty());
        CHECK(found == expected);
      }
    }
  }
}

// Prunes until nothing goes any more, in steps of `rows_max`.
std::int64_t PruneAll(QuotaStore& store, PruneLimits limits) {
  std::int64_t total = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t rows = Must(store.Prune(limits));
    CHECK(rows <= limits.rows_max);
    if (rows == 0) return total;
    total += rows;
  }
  FAIL("Prune never comes to an end");
  return total;
}

SettleRow PrunableRow(const std::string& subject, std::int64_t start_s,
                      std::optional<absl::Time> period_end) {
  SettleRow row = NewRow(subject, 1, 0, 0, 9);
  row.counter.period_start = absl::FromUnixSeconds(start_s);
  row.period_end = period_end;
  return row;
}

void PruneForgets(const StoreUnderTest& under) {
  const auto store = under.open_new();
  constexpr std::int64_t k2001 = 978307200;
  const absl::Time over = absl::FromUnixSeconds(k2001 + 3600);
  const absl::Time never_over = absl::FromUnixSeconds(32503680000);  // the year 3000
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k1", "free")},
                     .events = {NewEvent("e1"), NewEvent("e2"), NewEvent("e3")}});
  // Closed and over; open and over; closed and running; closed and without an end.
  SettleBatch batch{.holder = HolderId{1}, .now = absl::FromUnixSeconds(k2001)};
  batch.rows = {PrunableRow("closed", k2001, over), PrunableRow("open", k2001, over),
                PrunableRow("running", k2001, never_over),
                PrunableRow("lifetime", 0, std::nullopt)};
  for (const std::int64_t hour : {0, 1, 2}) {
    batch.usage.push_back({"k1", {.start = At(hour * 3600), .units = hour + 1}});
  }
  MustSettle(*store, batch);
  batch.usage.clear();
  batch.now = absl::FromUnixSeconds(k2001 + 7200);
  for (SettleRow& row : batch.rows) {
    row.seq = 2;
    row.want = 0;
    row.keep = row.counter.subject == "open" ? 9 : 4;
    row.used = 4;
    row.close = row.counter.subject != "open";
  }
  MustSettle(*store, batch);
  CHECK(Must(store->Prune({})) == 0);
  const absl::Time all = absl::FromUnixSeconds(64060588800);  // the year 4000
  const std::int64_t rows = PruneAll(*store, {.counters_before = over, .rows_max = 1});
  CHECK(rows == 0);
  if (PruneAll(*store, {.counters_before = all, .rows_max = 1}) == 0) return Skip(under, "Prune");
  std::vector<CounterId> ids;
  for (const SettleRow& row : batch.rows) ids.push_back(row.counter);
  const auto counters = Must(store->ReadCounters(ids));
  CHECK(Dump(counters[0]) == Dump(Counter{}));
  CHECK(counters[1].charged == 9);
  CHECK(counters[2].charged == 4);
  CHECK(counters[3].charged == 4);

  CHECK(PruneAll(*store, {.usage_before = At(7200), .rows_max = 1}) == 2);
  CHECK(Must(store->ReadUsage({}))[0].units == 3);
  CHECK(PruneAll(*store, {.events_before = At(1), .rows_max = 2}) == 0);
  const std::int64_t last = Must(store->ReadEvents(0, 1000)).back().seq;
  CHECK(PruneAll(*store, {.events_before = At(2), .rows_max = 2}) == 3);
  CHECK(Must(store->ReadEvents(0, 1000)).empty());
  // A seq that was given is not given again.
  CHECK(MustApply(*store, {.events = {NewEvent("e4")}}) > last);
  CHECK(Must(ListAllKeys(*store, {})).size() == 1);
}

void PrunedDeliveries(const StoreUnderTest& under) {
  const auto store = OpenForDeliveries(under);
  if (store == nullptr) return;
  std::vector<Delivery> all = PlanDeliveries(*store, 4);
  all[0].state = DeliveryState::kDelivered;
  all[1].state = DeliveryState::kDead;
  all[3].state = DeliveryState::kDelivered;
  REQUIRE(store->PutDeliveries(all, 4).ok());
  PruneAll(*store, {.deliveries_before = At(3), .rows_max = 1});
  CHECK(DumpAll(*store) == Dump(all[3]) + Dump(all[2]));
}

void SuspendAndGoOn(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  const std::string before = Snapshot(*store);
  for (int i = 0; i < 3; ++i) {
    store->Suspend();
    CHECK(Snapshot(*store) == before);
  }
  store->Suspend();
  MustApply(*store, {.put_keys = {NewKey("k2", "free")}});
  CHECK(Must(ListAllKeys(*store, {})).size() == 2);
}

}  // namespace

std::span<const StorePromise> DeliveryPromises() {
  static constexpr std::array kPromises = {
      StorePromise{"Hands out pending deliveries that are due and not claimed, each to one claim "
                   "until `until`",
                   &ClaimsOnce},
      StorePromise{"Repeating a call, with the same arguments, after an unknown outcome has the "
                   "effect of one call (ClaimDeliveries)",
                   &RepeatedClaim},
      StorePromise{"Adds each delivery whose id is not stored; replaces a stored one whose claim "
                   "is the same, and leaves it otherwise",
                   &PutAddsAndReplaces},
      StorePromise{"`planned_seq`, which never goes back", &PlannedSeqStays},
      StorePromise{"One page, newest first", &NewestFirst},
      StorePromise{"Open leases, counters of running periods and pending deliveries never are",
                   &PruneForgets},
      StorePromise{"Open leases, counters of running periods and pending deliveries never are "
                   "(deliveries)",
                   &PrunedDeliveries},
      StorePromise{"Closes every handle and thread; the next call opens them again",
                   &SuspendAndGoOn},
  };
  return kPromises;
}

}  // namespace throttl::testing
