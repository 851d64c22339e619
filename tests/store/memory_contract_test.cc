// The store contract on the memory store, and what is its own: bounds, cursors, forks.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/memory_store.h"

#include "tests/store/store_contract.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

TEST_CASE("the memory store keeps the store contract") {
  StoreContract({.name = "memory", .open_new = [] { return MakeMemoryStore(); }});
}

TEST_CASE("info: a memory store is of one process, and its id is 16 random bytes") {
  const auto store = MakeMemoryStore();
  CHECK(store->info().kind == "memory");
  CHECK(store->info().store_id.size() == 32);
  CHECK(store->info().store_id.find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(store->info().lease_path.empty());
  CHECK(store->info().durability == Durability::kProcess);
  CHECK_FALSE(store->info().shared_by_machines);
}

TEST_CASE("keys_max: ResourceExhausted beyond, names the bound, and nothing was changed") {
  const auto store = MakeMemoryStore({.keys_max = 3});
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  const std::string before = Snapshot(*store);
  ChangeSet changes{.id = UniqueId(), .put_keys = {NewKey("k2", "free"), NewKey("k3", "free")}};
  changes.put_keys.push_back(NewKey("k4", "free"));
  const absl::Status status = store->Apply(changes).status();
  CHECK(absl::IsResourceExhausted(status));
  CHECK(status.message().find("keys_max") != absl::string_view::npos);
  CHECK(status.message().find("at most 3 ") != absl::string_view::npos);
  CHECK(Snapshot(*store) == before);
  changes.put_keys.pop_back();
  MustApply(*store, changes);
  KeyRecord changed = NewKey("k1", "free");
  changed.key.version = 2;
  MustApply(*store, {.put_keys = {changed}});
  CHECK(absl::IsResourceExhausted(
      store->Apply({.id = UniqueId(), .put_keys = {NewKey("k4", "free")}}).status()));
}

TEST_CASE("events_max: the oldest are forgotten, and their seqs are not given again") {
  const auto store = MakeMemoryStore({.events_max = 3});
  for (int i = 1; i <= 5; ++i) MustApply(*store, {.events = {NewEvent(absl::StrCat("e", i))}});
  const auto events = Must(store->ReadEvents(0, 100));
  REQUIRE(events.size() == 3);
  CHECK(events.front().id == "e3");
  CHECK(events.front().seq == 3);
  CHECK(Must(store->ReadEvents(4, 100)).size() == 1);
  CHECK(MustApply(*store, {.events = {NewEvent("e6")}}) == 6);
}

TEST_CASE("events_max: finished deliveries are forgotten, pending ones are kept and refused") {
  const auto store = MakeMemoryStore({.events_max = 2});
  std::vector<Delivery> all;
  for (int i = 1; i <= 4; ++i) {
    all.push_back({.id = absl::StrCat("e", i, ".w"), .destination = "w", .due_at = At(0)});
    all.back().event.seq = i;
  }
  all[0].state = DeliveryState::kDelivered;
  REQUIRE(store->PutDeliveries(std::span(all).first(2), 2).ok());
  REQUIRE(store->PutDeliveries(std::span(all).subspan(2, 1), 3).ok());
  CHECK(Must(store->ListDeliveries({})).items.size() == 2);
  const absl::Status status = store->PutDeliveries(std::span(all).last(1), 4);
  CHECK(absl::IsResourceExhausted(status));
  CHECK(status.message().find("events_max") != absl::string_view::npos);
  CHECK(Must(store->ClaimDeliveries({.claim = 1, .now = At(1), .until = At(2)})).planned_seq == 3);
  CHECK(store->PutDeliveries(std::span(all).subspan(1, 2), 3).ok());
}

TEST_CASE("usage_rows_max: the oldest are forgotten") {
  const auto store = MakeMemoryStore({.usage_rows_max = 3});
  SettleBatch batch{.holder = HolderId{1}, .now = At(5)};
  for (const std::int64_t hour : {5, 1, 4, 2, 3}) {
    batch.usage.push_back({"k1", {.start = At(hour * 3600), .units = hour}});
  }
  MustSettle(*store, batch);
  const auto hours = Must(store->ReadUsage({.bucket = Period::kHour}));
  REQUIRE(hours.size() == 3);
  CHECK(hours[0].units == 3);
  CHECK(hours[2].units == 5);
}

TEST_CASE("a cursor is <created_ms>:<id>, and one that is not ours is InvalidArgument") {
  const auto store = MakeMemoryStore();
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k:1", "free"), NewKey("k:2", "free")}});
  CHECK(Must(store->ListKeys({.count_max = 1})).next_cursor == "1767225600000:k:1");
  for (const std::string cursor :
       {"x", "1767225600000", "1767225600000:", ":k1", "12x:k", " 1:k", "99999999999999999999:k"}) {
    CHECK_MESSAGE(absl::IsInvalidArgument(store->ListKeys({.cursor = cursor}).status()), cursor);
    CHECK_MESSAGE(absl::IsInvalidArgument(store->ListDeliveries({.cursor = cursor}).status()),
                  cursor);
  }
}

TEST_CASE("count_max outside of 1 to 1,000 is InvalidArgument") {
  const auto store = MakeMemoryStore();
  for (const std::int32_t count : {-1, 0, 1001}) {
    CHECK(absl::IsInvalidArgument(store->ListKeys({.count_max = count}).status()));
    CHECK(absl::IsInvalidArgument(store->ReadEvents(0, count).status()));
    CHECK(absl::IsInvalidArgument(store->ListDeliveries({.count_max = count}).status()));
    CHECK(
        absl::IsInvalidArgument(store->ClaimDeliveries({.claim = 1, .count_max = count}).status()));
  }
}

// The answers of every method to one call each.
std::vector<absl::Status> CallAll(QuotaStore& store) {
  const std::vector<std::string> texts = {"x"};
  const std::vector<CounterId> counters = {{"k:1", At(0)}};
  return {store.ReadPlans().status(),
          store.FindKeys(texts).status(),
          store.ReadPepperVersions().status(),
          store.HasImportedSecrets().status(),
          store.ReadKeys(texts).status(),
          store.ListKeys({}).status(),
          store.ListWebhooks({}).status(),
          store.Apply(NewChanges()).status(),
          store.ReadEvents(0, 1).status(),
          store.Settle({.holder = HolderId{1}}).status(),
          store.ReadCounters(counters).status(),
          store.RetireHolder(HolderId{1}, LeaseState::kLost),
          store.EndPeriods(At(0), 1).status(),
          store.ReadNewestTime().status(),
          store.ReadUsage({}).status(),
          store.ClaimDeliveries({.claim = 1}).status(),
          store.PutDeliveries({}, 0),
          store.ListDeliveries({}).status(),
          store.Prune({}).status()};
}

constexpr int kMethods = 19;

// How many answers say why a forked child may not call.
int RefusedForChild(QuotaStore& store) {
  int refused = 0;
  for (const absl::Status& status : CallAll(store)) {
    const bool says_why = status.message() ==
                          "this memory store belongs to the process that opened it; a forked child "
                          "must open its own";
    refused += absl::IsFailedPrecondition(status) && says_why ? 1 : 0;
  }
  return refused;
}

TEST_CASE("in a forked child every call is refused at once, whoever holds the mutex") {
  auto store = MakeMemoryStore();
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  for (const absl::Status& status : CallAll(*store)) CHECK_MESSAGE(status.ok(), status.ToString());
  // A thread that is nearly always inside a call when the forks come.
  std::atomic<bool> done = false;
  std::thread busy([&] {
    const std::vector<std::string> locators(1000, "none");
    while (!done) static_cast<void>(store->FindKeys(locators));
  });
  int good = 0;
  constexpr int kForks = 20;
  for (int i = 0; i < kForks; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // ends a child that waits for the mutex
      const int refused = RefusedForChild(*store);
      store.reset();
      const bool own_works = MakeMemoryStore()->Apply(NewChanges()).ok();
      _exit(own_works ? refused : 0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    good += WIFEXITED(status) && WEXITSTATUS(status) == kMethods ? 1 : 0;
  }
  done = true;
  busy.join();
  CHECK(good == kForks);
  CHECK(store->ReadPlans().ok());
}

}  // namespace
}  // namespace throttl::testing
