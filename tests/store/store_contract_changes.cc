// The store contract: what Apply promises.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/scale.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

// Plans free (1) and pro (2), unused; keys k1 on free, k2 on pro (version 2), gone (revoked).
void Furnish(QuotaStore& store) {
  KeyRecord gone = NewKey("gone", "free", "globex");
  gone.key.revoked_at = At(3);
  MustApply(store, {.put_plans = {NewPlan("free"), NewPlan("pro"), NewPlan("unused")},
                    .put_keys = {NewKey("k1", "free"), NewKey("k2", "pro"), gone},
                    .events = {NewEvent("furnished")}});
  Plan pro = NewPlan("pro");
  pro.version = 2;
  KeyRecord k2 = NewKey("k2", "pro");
  k2.key.version = 2;
  MustApply(store, {.put_plans = {pro}, .put_keys = {k2}});
}

KeyRecord Version(KeyRecord record, std::int64_t version) {
  record.key.version = version;
  return record;
}

Plan Version(Plan plan, std::int64_t version) {
  plan.version = version;
  return plan;
}

struct Refusal {
  const char* why;
  absl::StatusCode code;
  ChangeSet changes;
};

// Each set is fine but for its last element of a kind.
std::vector<Refusal> Refusals() {
  using absl::StatusCode;
  KeyRecord thief = NewKey("thief", "free");
  thief.secrets.push_back(NewSecret("loc-k1"));
  KeyRecord moved = Version(NewKey("k1", "none"), 2);
  KeyRecord back = Version(NewKey("gone", "none", "globex"), 2);
  std::vector<Refusal> all = {
      {"a plan that is there", StatusCode::kAborted, {.put_plans = {NewPlan("free")}}},
      {"a plan's version too high",
       StatusCode::kAborted,
       {.put_plans = {Version(NewPlan("pro"), 4)}}},
      {"a plan's version too low",
       StatusCode::kAborted,
       {.put_plans = {Version(NewPlan("pro"), 2)}}},
      {"a plan that is not there",
       StatusCode::kAborted,
       {.put_plans = {Version(NewPlan("nova"), 2)}}},
      {"a deleted plan's version",
       StatusCode::kAborted,
       {.delete_plans = {{.id = "unused", .version = 2}}}},
      {"a deleted plan that is not there",
       StatusCode::kAborted,
       {.delete_plans = {{.id = "nova", .version = 1}}}},
      {"a key's version too high",
       StatusCode::kAborted,
       {.put_keys = {Version(NewKey("k1", "free"), 3)}}},
      {"a key's version too low",
       StatusCode::kAborted,
       {.put_keys = {Version(NewKey("k2", "pro"), 2)}}},
      {"a key that is not there",
       StatusCode::kAborted,
       {.put_keys = {Version(NewKey("nova", "free"), 2)}}},
      {"a new key's id is taken", StatusCode::kAlreadyExists, {.put_keys = {NewKey("k2", "free")}}},
      {"a new key's id is taken by a revoked key",
       StatusCode::kAlreadyExists,
       {.put_keys = {NewKey("gone", "free", "globex")}}},
      {"a locator is taken", StatusCode::kAlreadyExists, {.put_keys = {thief}}},
      {"a changed key's new locator is taken", StatusCode::kAlreadyExists, {}},
      {"two new keys of one id",
       StatusCode::kAlreadyExists,
       {.put_keys = {NewKey("twin", "free"), NewKey("twin", "free")}}},
      {"two new keys of one locator", StatusCode::kAlreadyExists, {}},
      {"a new key on no plan",
       StatusCode::kFailedPrecondition,
       {.put_keys = {NewKey("new", "none")}}},
      {"a key moved to no plan", StatusCode::kFailedPrecondition, {.put_keys = {moved}}},
      {"a revoked key would live again on no plan",
       StatusCode::kFailedPrecondition,
       {.put_keys = {back}}},
      {"a plan that keys are on",
       StatusCode::kFailedPrecondition,
       {.delete_plans = {{.id = "pro", .version = 2}}}},
      {"a new key on the plan that goes",
       StatusCode::kFailedPrecondition,
       {.delete_plans = {{.id = "unused", .version = 1}}, .put_keys = {NewKey("new", "unused")}}},
  };
  KeyRecord changed = Version(NewKey("k2", "pro"), 3);
  changed.secrets.push_back(NewSecret("loc-k1"));
  all[12].changes.put_keys = {changed};
  KeyRecord twin = NewKey("twin-b", "free");
  twin.secrets[0] = NewSecret("loc-twin-a");
  all[14].changes.put_keys = {NewKey("twin-a", "free"), twin};
  return all;
}

void RefusedSetLeavesNothing(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const bool has_webhooks = !absl::IsUnimplemented(store->ListWebhooks({}).status());
  Furnish(*store);
  const std::string before = Snapshot(*store);
  std::vector<Refusal> refusals = Refusals();
  if (has_webhooks) {
    WebhookRecord second = NewWebhook("w1", "acme");
    second.version = 2;
    refusals.push_back(
        {"a webhook that is not there", absl::StatusCode::kAborted, {.put_webhooks = {second}}});
    refusals.push_back({"a deleted webhook that is not there",
                        absl::StatusCode::kAborted,
                        {.delete_webhooks = {{.id = "w1", .version = 1}}}});
  }
  for (Refusal& refusal : refusals) {
    INFO(std::string(refusal.why));
    // Good elements of every kind come first.
    ChangeSet& changes = refusal.changes;
    changes.id = UniqueId();
    changes.put_plans.insert(changes.put_plans.begin(), NewPlan("fresh"));
    changes.put_keys.insert(changes.put_keys.begin(), NewKey("fresh", "fresh"));
    if (has_webhooks) {
      changes.put_webhooks.insert(changes.put_webhooks.begin(), NewWebhook("w0", "acme"));
    }
    changes.events = {NewEvent("refused")};
    const auto seq = store->Apply(changes);
    CHECK_MESSAGE(seq.status().code() == refusal.code, seq.status().ToString());
    CHECK(Snapshot(*store) == before);
    const std::vector<std::string> locators = {"loc-fresh", "loc-thief", "loc-twin-a"};
    CHECK(Must(store->FindKeys(locators)).empty());
    // Once more: the refused id was not remembered as applied.
    CHECK(store->Apply(changes).status().code() == refusal.code);
  }
  ChangeSet good{.put_plans = {NewPlan("fresh")}, .put_keys = {NewKey("fresh", "fresh")}};
  MustApply(*store, good);
  CHECK(Snapshot(*store) != before);
}

CarryRow CarryOf(const std::string& subject, CarryOver carry_over, std::int64_t version) {
  return {.counter = {subject, At(0)},
          .carry_over = carry_over,
          .period_end = At(31 * 86400),
          .limit_before = 100,
          .limit = 50,
          .limit_version = version,
          .owner_id = "acme",
          .key_id = "key"};
}

Counter CounterOf(QuotaStore& store, const std::string& subject) {
  const CounterId id{subject, At(0)};
  return Must(store.ReadCounters(std::span(&id, 1))).at(0);
}

void CarryOversAreOfTheSet(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Furnish(*store);
  const auto settle = [&](std::int64_t seq, std::int64_t limit_version, std::int64_t want) {
    SettleBatch batch{
        .holder = HolderId{1}, .now = At(5), .rows = {NewRow("k:1", seq, 40, 40, want)}};
    batch.rows[0].sole = true;
    batch.rows[0].limit_version = limit_version;
    return MustSettle(*store, batch)[0];
  };
  settle(1, 1, 0);
  const std::string before = Dump(CounterOf(*store, "k:1"));
  for (Refusal& refusal : Refusals()) {
    INFO(std::string(refusal.why));
    refusal.changes.id = UniqueId();
    for (const std::string subject : {"k:1", "k:new"}) {
      refusal.changes.carry_overs.push_back(CarryOf(subject, CarryOver::kAdditive, 2));
    }
    CHECK(store->Apply(refusal.changes).status().code() == refusal.code);
    CHECK(Dump(CounterOf(*store, "k:1")) == before);
    CHECK(Dump(CounterOf(*store, "k:new")) == Dump(Counter{}));
  }
  // Once, however often the set is said, and though its row would be news each time.
  ChangeSet changes = NewChanges();
  changes.put_plans = {NewPlan("fresh")};
  for (const std::string subject : {"k:1", "k:new"}) {
    changes.carry_overs.push_back(CarryOf(subject, CarryOver::kAdditive, 2));
  }
  for (int i = 0; i < 3; ++i) {
    MustApply(*store, changes);
    CHECK(CounterOf(*store, "k:1").added == 100);
    CHECK(CounterOf(*store, "k:new").added == 100);
    for (CarryRow& row : changes.carry_overs) ++row.limit_version;
  }
  CHECK(CounterOf(*store, "k:1").limit_version == 2);
  // A settle that knows the older limit changes nothing of it, hears what it is, and gets no more
  // than that allows: 150, of which 40 are used.
  const SettleReply reply = settle(2, 1, 1000);
  CHECK(reply.limit == 50);
  CHECK(reply.limit_version == 2);
  CHECK(reply.added == 100);
  CHECK(reply.forgiven == 0);
  CHECK(reply.allowance == 150);
  CHECK(CounterOf(*store, "k:1").limit == 50);
  MustApply(*store, {.carry_overs = {CarryOf("k:1", CarryOver::kReset, 3)}});
  const SettleReply reset = settle(3, 2, 1000);
  CHECK(reset.forgiven == 40);
  CHECK(reset.added == 0);
  CHECK(reset.allowance == 90);
}

void CarryOversMayBeMany(const StoreUnderTest& under) {
  const auto store = under.open_new();
  constexpr int kRows = 2500;
  ChangeSet changes = NewChanges();
  for (int i = 0; i < kRows; ++i) {
    changes.carry_overs.push_back(
        CarryOf(absl::StrCat("k:", i), static_cast<CarryOver>(1 + i % 4), 1));
  }
  MustApply(*store, changes);
  // Of a counter that is not stored only what is added is kept.
  Counter added{.period_end = At(31 * 86400),
                .limit = 50,
                .limit_version = 1,
                .added = 100,
                .owner_id = "acme",
                .key_id = "key"};
  for (int i = 0; i < kRows; ++i) {
    const Counter expected = i % 4 == 3 ? added : Counter{};
    CHECK(Dump(CounterOf(*store, absl::StrCat("k:", i))) == Dump(expected));
  }
}

void VersionsFollow(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  for (std::int64_t version = 2; version < 6; ++version) {
    Plan plan = Version(NewPlan("free"), version);
    plan.name = absl::StrCat("name ", version);
    KeyRecord key = Version(NewKey("k1", "free"), version);
    key.key.name = plan.name;
    MustApply(*store, {.put_plans = {plan}, .put_keys = {key}});
    CHECK(Snapshot(*store) == Dump(key) + Dump(plan));
  }
  // A deleted plan starts again at version 1.
  KeyRecord revoked = Version(NewKey("k1", "free"), 6);
  revoked.key.revoked_at = At(9);
  MustApply(*store, {.delete_plans = {{.id = "free", .version = 5}}, .put_keys = {revoked}});
  CHECK(Must(store->ReadPlans()).empty());
  CHECK(Snapshot(*store) == Dump(revoked));
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  CHECK(Must(store->ReadPlans()).size() == 1);
}

// What a plan and a key say alike.
struct Limits {
  Quota quota = {.limit = 10};
  RateLimit rate_limit = {.name = "calls", .limit = 20};
};

// Values that differ from the default in one field, for each field.
std::vector<Limits> OneFieldEach() {
  return {
      {.quota = {.limit = 11}},
      {.quota = {.limit = 10, .period = Period::kDay}},
      {.quota = {.limit = 10, .anchor_day = 2}},
      {.quota = {.limit = 10, .time_zone = "Europe/Berlin"}},
      {.quota = {.limit = 10, .scope = QuotaScope::kOwner}},
      {.quota = {.limit = 10, .soft_percent = 20}},
      {.rate_limit = {.name = "other", .limit = 20}},
      {.rate_limit = {.name = "calls", .limit = 21}},
      {.rate_limit = {.name = "calls", .limit = 20, .window = absl::Milliseconds(7)}},
      {.rate_limit = {.name = "calls", .limit = 20, .burst = 20}},
      {.rate_limit = {.name = "calls", .limit = 20, .endpoint = "/v1"}},
      {.rate_limit = {.name = "calls", .limit = 20, .algorithm = RateAlgorithm::kSlidingWindow}},
      {.rate_limit = {.name = "calls", .limit = 20, .counts = RateCost::kRequests}},
      {.rate_limit = {.name = "calls", .limit = 20, .shadow = true}},
  };
}

void EveryFieldIsReplaced(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Plan plan = NewPlan("free");
  KeyRecord record = NewKey("k1", "free");
  std::int64_t version = 0;
  // Between two fields all are the default, so that each is also taken back.
  for (const Limits& changed : OneFieldEach()) {
    for (const Limits& limits : {changed, Limits()}) {
      ++version;
      plan.version = version;
      plan.quota = limits.quota;
      plan.rate_limits = {limits.rate_limit};
      record.key.version = version;
      record.key.quota = limits.quota;
      record.key.rate_limits = {limits.rate_limit};
      MustApply(*store, {.put_plans = {plan}, .put_keys = {record}});
      CAPTURE(Dump(plan));
      const Plan stored = Must(store->ReadPlans()).at(0);
      CHECK(stored.quota == plan.quota);
      CHECK(stored.rate_limits == plan.rate_limits);
      const Key key = Must(store->ReadKeys(std::vector<std::string>{"k1"})).at(0).key;
      CHECK(key.quota == record.key.quota);
      CHECK(key.rate_limits == record.key.rate_limits);
    }
  }
}

void WebhookVersions(const StoreUnderTest& under) {
  const auto store = under.open_new();
  if (absl::IsUnimplemented(store->ListWebhooks({}).status())) return Skip(under, "webhooks");
  MustApply(*store, {.put_webhooks = {NewWebhook("w1", "acme"), NewWebhook("w2", "acme")}});
  WebhookRecord changed = NewWebhook("w1", "acme");
  changed.version = 2;
  changed.active = false;
  MustApply(*store, {.put_webhooks = {changed}});
  CHECK(Dump(Must(store->ListWebhooks({.id = "w1"}))[0]) == Dump(changed));
  CHECK(absl::IsAborted(
      store->Apply({.id = UniqueId(), .delete_webhooks = {{.id = "w1", .version = 1}}}).status()));
  CHECK(absl::IsAborted(store->Apply({.id = UniqueId(), .put_webhooks = {changed}}).status()));
  MustApply(*store, {.delete_webhooks = {{.id = "w1", .version = 2}}});
  CHECK(Must(store->ListWebhooks({})).size() == 1);
}

void PlansOfKeys(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Furnish(*store);
  // A key may go to a plan of the same set, away from a plan that goes, and stay where a revoked
  // key needs none.
  KeyRecord moved = Version(NewKey("k2", "nova"), 3);
  MustApply(*store, {.put_plans = {NewPlan("nova")},
                     .delete_plans = {{.id = "pro", .version = 2}},
                     .put_keys = {moved}});
  KeyRecord revoked = NewKey("dead", "none");
  revoked.key.revoked_at = At(5);
  MustApply(*store, {.put_keys = {revoked}});
  revoked = Version(NewKey("k1", "free"), 2);
  revoked.key.revoked_at = At(5);
  MustApply(*store, {.delete_plans = {{.id = "free", .version = 1}}, .put_keys = {revoked}});
  CHECK(Must(store->ReadPlans()).size() == 2);
  CHECK(absl::IsFailedPrecondition(
      store->Apply({.id = UniqueId(), .delete_plans = {{.id = "nova", .version = 1}}}).status()));
}

void LocatorsAreFreed(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k1", "free"), NewKey("k2", "free")}});
  KeyRecord rotated = Version(NewKey("k1", "free"), 2);
  rotated.secrets = {NewSecret("loc-2"), NewSecret("loc-k1")};
  MustApply(*store, {.put_keys = {rotated}});
  const std::vector<std::string> both = {"loc-k1", "loc-2"};
  CHECK(Ids(Must(store->FindKeys(std::span(both).first(1)))) == std::vector<std::string>{"k1"});
  CHECK(Ids(Must(store->FindKeys(std::span(both).last(1)))) == std::vector<std::string>{"k1"});
  rotated.key.version = 3;
  rotated.secrets.pop_back();
  MustApply(*store, {.put_keys = {rotated}});
  CHECK(Must(store->FindKeys(std::span(both).first(1))).empty());
  CHECK(Must(ListAllKeys(*store, {.locator = "loc-k1"})).empty());
  KeyRecord next = Version(NewKey("k2", "free"), 2);
  next.secrets.insert(next.secrets.begin(), NewSecret("loc-k1"));
  MustApply(*store, {.put_keys = {next}});
  CHECK(Dump(Must(store->FindKeys(std::span(both).first(1)))[0]) == Dump(next));
}

void RepeatedSet(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Furnish(*store);
  ChangeSet changes{.id = UniqueId(),
                    .put_plans = {NewPlan("nova"), Version(NewPlan("free"), 2)},
                    .delete_plans = {{.id = "unused", .version = 1}},
                    .put_keys = {NewKey("new", "nova"), Version(NewKey("k1", "nova"), 2)},
                    .events = {NewEvent("once")}};
  const std::int64_t seq = MustApply(*store, changes);
  const std::string after = Snapshot(*store);
  CHECK(MustApply(*store, changes) == seq);
  CHECK(Snapshot(*store) == after);
  // Also when the record has moved on, and through another handle.
  MustApply(*store, {.put_keys = {Version(NewKey("k1", "free"), 3)}});
  const std::string moved = Snapshot(*store);
  CHECK(MustApply(*store, changes) >= seq);
  CHECK(Snapshot(*store) == moved);
  if (under.reopen) CHECK(MustApply(*under.reopen(), changes) >= seq);
  CHECK(Snapshot(*store) == moved);
}

void RemembersSets(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  const ChangeSet first{.id = UniqueId(), .put_keys = {NewKey("k1", "free")}};
  MustApply(*store, first);
  const std::int64_t others = Scaled(9'999);
  for (std::int64_t i = 0; i < others; ++i) MustApply(*store, NewChanges());
  const auto again = store->Apply(first);
  CHECK_MESSAGE(again.ok(), again.status().ToString());
  CHECK(Must(ListAllKeys(*store, {})).size() == 1);
}

void ActivityIsKept(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  MustSettle(*store, {.holder = HolderId{1},
                      .now = At(60),
                      .activity = {{"k1", At(59), "state"}, {"nobody", At(59), "x"}}});
  KeyRecord changed = Version(NewKey("k1", "free"), 2);
  changed.key.name = "renamed";
  changed.key.last_used_at = At(1);
  changed.detector_state = "forged";
  MustApply(*store, {.put_keys = {changed}});
  KeyRecord expected = changed;
  expected.key.last_used_at = At(59);
  expected.detector_state = "state";
  const auto all = Must(ListAllKeys(*store, {}));
  REQUIRE(all.size() == 1);
  CHECK(Dump(all[0]) == Dump(expected));
}

void LastSeq(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const std::int64_t two = MustApply(*store, {.events = {NewEvent("e1"), NewEvent("e2")}});
  CHECK(Must(store->ReadEvents(0, 1000)).back().seq == two);
  CHECK(MustApply(*store, {.put_plans = {NewPlan("free")}}) == two);
  SettleBatch batch{.holder = HolderId{1}, .now = At(5), .rows = {NewRow("k:1", 1, 0, 0, 100)}};
  MustSettle(*store, batch);
  batch.rows = {NewRow("k:1", 2, 60, 100, 0)};
  MustSettle(*store, batch);
  const std::int64_t three = MustApply(*store, NewChanges());
  CHECK(three > two);
  const auto log = Must(store->ReadEvents(0, 1000));
  REQUIRE(log.size() == 3);
  CHECK(log.back().seq == three);
  CHECK(log.back().type == event_type::kQuotaThreshold);
}

void MessagesHoldNoDigest(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Furnish(*store);
  int refused = 0;
  for (Refusal& refusal : Refusals()) {
    refusal.changes.id = UniqueId();
    const auto seq = store->Apply(refusal.changes);
    const std::string message = seq.status().ToString();
    for (const KeyRecord& record : refusal.changes.put_keys) {
      for (const SecretRecord& secret : record.secrets) {
        // Any eight bytes of it in a row are too many.
        const std::string tail(secret.digest.end() - 8, secret.digest.end());
        for (const std::string& form :
             {tail, absl::BytesToHexString(tail), absl::Base64Escape(tail).substr(1, 8)}) {
          CHECK_MESSAGE(message.find(form) == std::string::npos, message);
        }
      }
    }
    refused += seq.ok() ? 0 : 1;
  }
  CHECK(refused > 10);
}

}  // namespace

std::span<const StorePromise> ChangePromises() {
  static constexpr std::array kPromises = {
      StorePromise{"Each method is atomic: all of it or nothing", &RefusedSetLeavesNothing},
      StorePromise{"Writes all of `changes`", &EveryFieldIsReplaced},
      StorePromise{"Repeating a call, with the same arguments, after an unknown outcome has the "
                   "effect of one call (Apply)",
                   &RepeatedSet},
      StorePromise{"Each method is atomic: all of it or nothing (carry_overs)",
                   &CarryOversAreOfTheSet},
      StorePromise{"lists of at most 1,000, but for ChangeSet::carry_overs", &CarryOversMayBeMany},
      StorePromise{"Messages never hold a digest", &MessagesHoldNoDigest},
      StorePromise{"the stored one must be one less, 0 when there is none", &VersionsFollow},
      StorePromise{"the stored one must be one less, 0 when there is none (webhooks)",
                   &WebhookVersions},
      StorePromise{"FailedPrecondition: a key that is not revoked would be on a plan that does not "
                   "exist",
                   &PlansOfKeys},
      StorePromise{"info.locator is unique in the store", &LocatorsAreFreed},
      StorePromise{"A store remembers at least its last 10,000 change sets", &RemembersSets},
      StorePromise{"Leaves last_used_at and detector_state of a stored key as they are",
                   &ActivityIsKept},
      StorePromise{"Appends `changes.events` to the log, and returns the log's last seq", &LastSeq},
  };
  return kPromises;
}

}  // namespace throttl::testing
