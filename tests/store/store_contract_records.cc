// The store contract: what the reads of plans, keys, webhooks and events promise.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
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

// Quotes, control characters, an SQL and a JSON text, and characters of 2, 3 and 4 bytes.
const std::string kHardText = "a'b\"c\\d\n\t\r%_;--{}[]:é€𝄞\x7f\x01 z";

// kHardText again and again, cut to `bytes` at a character's end and filled up.
std::string HardText(std::size_t bytes) {
  std::string text;
  while (text.size() + kHardText.size() <= bytes) text += kHardText;
  return text + std::string(bytes - text.size(), 'x');
}

void InfoIsConstant(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const StoreInfo before = store->info();
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  const StoreInfo& after = store->info();
  CHECK(&store->info() == &after);
  CHECK_FALSE(before.kind.empty());
  CHECK(after.kind == before.kind);
  CHECK(after.store_id == before.store_id);
  CHECK(after.lease_path == before.lease_path);
  CHECK(after.durability == before.durability);
  CHECK(after.shared_by_machines == before.shared_by_machines);
}

void StoreIdIsRandom(const StoreUnderTest& under) {
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.insert(under.open_new()->info().store_id);
  CHECK(ids.size() == 3);
  CHECK_FALSE(ids.contains(""));
  if (!under.reopen) return Skip(under, "the store_id after opening again");
  const auto store = under.open_new();
  CHECK(under.reopen()->info().store_id == store->info().store_id);
}

void OkMeansDone(const StoreUnderTest& under) {
  if (!under.reopen) return Skip(under, "reading through another handle");
  auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k1", "free")},
                     .events = {NewEvent("e1")}});
  MustSettle(*store, {.holder = HolderId{7}, .now = At(5), .rows = {NewRow("k:1", 1, 0, 0, 10)}});
  const std::string written = Snapshot(*store);
  const auto other = under.reopen();
  CHECK(Snapshot(*other) == written);
  CHECK(MustSettle(*other,
                   {.holder = HolderId{7}, .now = At(6), .rows = {NewRow("k:1", 2, 10, 10, 0)}})[0]
            .used_by_all == 10);
  const std::vector<CounterId> ids = {{"k:1", At(0)}};
  CHECK(Must(store->ReadCounters(ids))[0].used == 10);
  store.reset();
  CHECK(Snapshot(*under.reopen()) == written);
}

void EveryPlan(const StoreUnderTest& under) {
  const auto store = under.open_new();
  CHECK(Must(store->ReadPlans()).empty());
  std::set<std::string> written;
  for (int batch = 0; batch < 3; ++batch) {
    ChangeSet changes = NewChanges();
    for (int i = 0; i < 1000; ++i) {
      changes.put_plans.push_back(NewPlan(absl::StrCat("plan-", batch, "-", i)));
      written.insert(Dump(changes.put_plans.back()));
    }
    MustApply(*store, changes);
  }
  std::set<std::string> read;
  for (const Plan& plan : Must(store->ReadPlans())) {
    CHECK_MESSAGE(read.insert(Dump(plan)).second, plan.id);
  }
  CHECK(read == written);
}

void FindByLocator(const StoreUnderTest& under) {
  const auto store = under.open_new();
  KeyRecord two = NewKey("k2", "free");
  two.secrets = {NewSecret("loc-new"), NewSecret("loc-old")};
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free"), two}});
  const std::vector<std::string> mixed = {"loc-old", "loc-none", "loc-k1", ""};
  auto found = Must(store->FindKeys(mixed));
  CHECK(Ids(found) == std::vector<std::string>{"k1", "k2"});
  for (const KeyRecord& record : found) {
    CHECK(Dump(record) == Dump(record.key.id == "k1" ? NewKey("k1", "free") : two));
  }
  const std::vector<std::string> newer = {"loc-new"};
  CHECK(Ids(Must(store->FindKeys(newer))) == std::vector<std::string>{"k2"});
  CHECK(Must(store->FindKeys({})).empty());
  // The id is no locator, and case counts.
  const std::vector<std::string> none = {"k1", "LOC-K1", "loc-k", "loc-k11"};
  CHECK(Must(store->FindKeys(none)).empty());
}

void ReadById(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k1", "free"), NewKey("k2", "free")}});
  const std::vector<std::string> mixed = {"k2", "none", "k1", "", "K1"};
  const auto found = Must(store->ReadKeys(mixed));
  REQUIRE(Ids(found) == std::vector<std::string>{"k1", "k2"});
  for (const KeyRecord& record : found) CHECK(Dump(record) == Dump(NewKey(record.key.id, "free")));
  CHECK(Must(store->ReadKeys({})).empty());
  CHECK(Must(ListAllKeys(*store, {})).size() == 2);
}

void ImportedSecrets(const StoreUnderTest& under) {
  const auto store = under.open_new();
  KeyRecord record = NewKey("k1", "free");
  const bool before = Must(store->HasImportedSecrets());
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {record}});
  // A store may always say that there may be one.
  CHECK(Must(store->HasImportedSecrets()) == before);
  record.key.version = 2;
  record.secrets = {
      NewSecret("imp_1234567890123456789012"),
      NewSecret("im"),
  };
  MustApply(*store, {.id = "imported", .put_keys = {record}});
  CHECK(Must(store->HasImportedSecrets()));
  record.key.version = 3;
  record.secrets = {NewSecret("imp"), NewSecret("impx")};
  MustApply(*store, {.id = "none", .put_keys = {record}});
  CHECK(Must(store->HasImportedSecrets()) == before);
}

void PepperVersions(const StoreUnderTest& under) {
  const auto store = under.open_new();
  CHECK(Must(store->ReadPepperVersions()).empty());
  ChangeSet changes{.put_plans = {NewPlan("free")}};
  for (const std::int32_t version : {7, 0, 1000, 7, 3}) {
    KeyRecord record = NewKey(absl::StrCat("k", changes.put_keys.size()), "free");
    record.secrets[0].pepper_version = version;
    if (version == 3) record.key.revoked_at = At(1);
    changes.put_keys.push_back(record);
  }
  changes.put_keys[1].secrets.push_back(NewSecret("loc-second"));
  changes.put_keys[1].secrets[1].pepper_version = 5;
  KeyRecord bare = NewKey("bare", "free");
  bare.secrets.clear();
  changes.put_keys.push_back(bare);
  MustApply(*store, changes);
  CHECK(Must(store->ReadPepperVersions()) == std::vector<std::int32_t>{0, 5, 7, 1000});
  // More keys than a page holds: the last one counts too.
  ChangeSet more;
  for (int i = 0; i < 1000; ++i) {
    more.put_keys.push_back(NewKey(absl::StrCat("m", i), "free", "acme", 1 + i));
  }
  more.put_keys.back().secrets[0].pepper_version = 9;
  MustApply(*store, more);
  CHECK(Must(store->ReadPepperVersions()) == std::vector<std::int32_t>{0, 5, 7, 9, 1000});
}

void OldestFirst(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}});
  // Ids and the order of writing are both against the order of time; some are of one instant.
  std::vector<std::string> by_age;
  for (int i = 0; i < 40; ++i) by_age.push_back(absl::StrCat("k", 90 - i));
  for (int i = 39; i >= 0; --i) {
    MustApply(*store,
              {.put_keys = {NewKey(by_age[static_cast<std::size_t>(i)], "free", "acme", i / 4)}});
  }
  for (const std::int32_t count_max : {1, 3, 20, 39, 40, 41, 1000}) {
    const auto all = Must(ListAllKeys(*store, {.count_max = count_max}));
    REQUIRE(all.size() == 40);
    CHECK(std::is_sorted(all.begin(), all.end(), [](const KeyRecord& a, const KeyRecord& b) {
      return a.key.created_at < b.key.created_at;
    }));
    std::set<std::string> ids;
    for (const KeyRecord& record : all) ids.insert(record.key.id);
    CHECK(ids.size() == 40);
    for (const KeyRecord& record : all) {
      const bool known = std::find(by_age.begin(), by_age.end(), record.key.id) != by_age.end();
      CHECK_MESSAGE(known, record.key.id);
    }
  }
  CHECK(Must(store->ListKeys({.count_max = 40})).next_cursor.empty());
  CHECK_FALSE(Must(store->ListKeys({.count_max = 39})).next_cursor.empty());
}

void KeyFilters(const StoreUnderTest& under) {
  const auto store = under.open_new();
  ChangeSet changes{.put_plans = {NewPlan("free"), NewPlan("pro")}};
  for (int i = 0; i < 48; ++i) {
    KeyRecord record =
        NewKey(absl::StrCat("k", i), i % 3 == 0 ? "pro" : "free", i % 2 == 0 ? "acme" : "Acme", i);
    if (i % 4 == 0) record.key.revoked_at = At(100);
    changes.put_keys.push_back(record);
  }
  MustApply(*store, changes);
  for (const std::string owner : {"", "acme", "Acme", "nobody"}) {
    for (const std::string plan : {"", "pro", "free", "none"}) {
      for (const std::string locator : {"", "loc-k12", "loc-k13", "loc-none"}) {
        for (const bool revoked : {true, false}) {
          std::vector<std::string> expected;
          for (const KeyRecord& record : changes.put_keys) {
            if (!owner.empty() && record.key.owner_id != owner) continue;
            if (!plan.empty() && record.key.plan_id != plan) continue;
            if (!locator.empty() && record.secrets[0].info.locator != locator) continue;
            if (!revoked && record.key.revoked_at.has_value()) continue;
            expected.push_back(record.key.id);
          }
          std::sort(expected.begin(), expected.end());
          CAPTURE(owner);
          CAPTURE(plan);
          CAPTURE(locator);
          CAPTURE(revoked);
          CHECK(Ids(Must(ListAllKeys(*store, {.owner_id = owner,
                                              .plan_id = plan,
                                              .locator = locator,
                                              .include_revoked = revoked,
                                              .count_max = 5}))) == expected);
        }
      }
    }
  }
  CHECK(Must(ListAllKeys(*store, {})).size() == 48);
}

void WebhookFilters(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const auto none = store->ListWebhooks({});
  if (absl::IsUnimplemented(none.status())) {
    CHECK(none.status().message().find(store->info().kind) != absl::string_view::npos);
    // OK would mean done.
    CHECK_FALSE(store->Apply({.id = UniqueId(), .put_webhooks = {NewWebhook("w1", "acme")}}).ok());
    return Skip(under, "webhooks");
  }
  CHECK(Must(store->ListWebhooks({})).empty());
  MustApply(*store, {.put_webhooks = {NewWebhook("w1", "acme"), NewWebhook("w2", "acme"),
                                      NewWebhook("w3", "globex")}});
  const auto ids = [&](const WebhookQuery& query) {
    std::set<std::string> found;
    for (const WebhookRecord& webhook : Must(store->ListWebhooks(query))) found.insert(webhook.id);
    return found;
  };
  CHECK(ids({}) == std::set<std::string>{"w1", "w2", "w3"});
  CHECK(ids({.owner_id = "acme"}) == std::set<std::string>{"w1", "w2"});
  CHECK(ids({.id = "w3"}) == std::set<std::string>{"w3"});
  CHECK(ids({.owner_id = "acme", .id = "w3"}).empty());
}

void EventsInOrder(const StoreUnderTest& under) {
  const auto store = under.open_new();
  CHECK(Must(store->ReadEvents(0, 1000)).empty());
  std::vector<std::string> written;
  std::int64_t last = 0;
  for (int set = 0; set < 10; ++set) {
    ChangeSet changes = NewChanges();
    for (int i = 0; i < 10; ++i) {
      changes.events.push_back(NewEvent(absl::StrCat("e", 99 - set, "-", i)));
      changes.events.back().at = At(50 - set);
      written.push_back(Dump(changes.events.back()));
    }
    const std::int64_t seq = MustApply(*store, changes);
    CHECK(seq > last);
    last = seq;
  }
  const auto all = Must(store->ReadEvents(0, 1000));
  REQUIRE(all.size() == written.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(Dump(all[i]) == written[i]);
    CHECK(all[i].seq > (i == 0 ? 0 : all[i - 1].seq));
    const auto next = Must(store->ReadEvents(all[i].seq, 7));
    REQUIRE(next.size() == std::min<std::size_t>(7, all.size() - i - 1));
    for (std::size_t j = 0; j < next.size(); ++j) CHECK(next[j].seq == all[i + 1 + j].seq);
  }
  CHECK(all.back().seq == last);
  CHECK(Must(store->ReadEvents(last, 1000)).empty());
  CHECK(Must(store->ReadEvents(last + 1'000'000, 1000)).empty());
}

KeyRecord FullKey() {
  KeyRecord record = NewKey(HardText(39), HardText(31), HardText(63));
  Key& key = record.key;
  key.name = HardText(255);
  key.enabled = false;
  key.expires_at = absl::FromUnixMillis(253402300799999);
  key.scopes = {HardText(127), "read"};
  key.addresses = {"2001:db8::/32", "192.0.2.0/24"};
  key.quota = Quota{.limit = kLimitMax,
                    .period = Period::kYear,
                    .anchor_day = 31,
                    .time_zone = "America/Argentina/ComodRivadavia",
                    .soft_percent = 1000};
  key.rate_limits = {{.name = "x", .limit = kLimitMax, .window = absl::Milliseconds(1), .burst = 1},
                     {.name = HardText(31),
                      .limit = 1,
                      .window = absl::Hours(744),
                      .endpoint = HardText(1024),
                      .algorithm = RateAlgorithm::kSlidingWindow,
                      .counts = RateCost::kRequests,
                      .shadow = true}};
  key.metadata = HardText(4096);
  key.secret_prefix = HardText(32);
  key.created_at = absl::FromUnixMillis(1767225600001);
  key.revoked_at = absl::FromUnixMillis(1767225600999);
  key.version = 1;
  record.secrets = {NewSecret(HardText(64)), NewSecret("loc-bare")};
  record.secrets[0].info.expires_at = absl::FromUnixMillis(1767225600123);
  record.secrets[0].pepper_version = std::numeric_limits<std::int32_t>::max();
  record.secrets[1].info.last4.clear();
  record.secrets[1].digest.fill(0);
  return record;
}

Plan FullPlan() {
  Plan plan = NewPlan(HardText(31));
  plan.name = HardText(255);
  plan.quota = Quota{.limit = 0,
                     .period = Period::kWeek,
                     .anchor_day = 7,
                     .time_zone = HardText(64),
                     .scope = QuotaScope::kOwner,
                     .soft_percent = 1};
  plan.rate_limits = FullKey().key.rate_limits;
  plan.alert_percents = {1, 2, 3, 4, 5, 6, 7, 1000};
  return plan;
}

// What is optional is there in one record and absent in the other.
void RoundTrip(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Plan bare_plan{.id = "bare", .alert_percents = {}, .version = 1};
  KeyRecord bare;
  bare.key = {.owner_id = "o", .plan_id = "bare", .id = "bare", .version = 1};
  WebhookRecord hook = NewWebhook(HardText(39), HardText(63));
  hook.url = HardText(2048);
  hook.event_types = {HardText(50), "x"};
  hook.sealed_secrets = {std::string("\0\xfe'", 3) + HardText(500), "x"};
  hook.active = false;
  WebhookRecord bare_hook{.id = "bare", .version = 1};
  Event event = NewEvent(HardText(200));
  event.type = HardText(64);
  event.at = absl::FromUnixMillis(1767225600007);
  event.owner_id = HardText(63);
  event.key_id = HardText(39);
  event.actor = HardText(127);
  event.data = HardText(16384);
  ChangeSet changes{.put_plans = {FullPlan(), bare_plan}, .put_keys = {FullKey(), bare}};
  changes.events = {event, {.id = "bare"}};
  const bool has_webhooks = !absl::IsUnimplemented(store->ListWebhooks({}).status());
  if (has_webhooks) changes.put_webhooks = {hook, bare_hook};
  MustApply(*store, changes);

  std::set<std::string> records = {Dump(FullPlan()), Dump(bare_plan), Dump(FullKey()), Dump(bare)};
  if (has_webhooks) records.insert({Dump(hook), Dump(bare_hook)});
  std::string expected;
  for (const std::string& record : records) expected += record;
  expected += Dump(event) + Dump(changes.events[1]);
  CHECK(Snapshot(*store) == expected);
  const std::vector<std::string> locators = {FullKey().secrets[0].info.locator};
  CHECK(Must(store->FindKeys(locators)).size() == 1);
  CHECK(Must(ListAllKeys(*store, {.owner_id = FullKey().key.owner_id})).size() == 1);
  if (under.reopen) CHECK(Snapshot(*under.reopen()) == expected);
}

void ListsOfAThousand(const StoreUnderTest& under) {
  const auto store = under.open_new();
  ChangeSet changes{.put_plans = {NewPlan("free")}};
  std::vector<std::string> locators;
  std::vector<std::string> ids;
  SettleBatch batch{.holder = HolderId{1}, .now = At(5)};
  std::vector<CounterId> counters;
  for (int i = 0; i < kStoreBatchMax; ++i) {
    const KeyRecord record = NewKey(absl::StrCat("k", i), "free");
    changes.put_keys.push_back(record);
    changes.events.push_back(NewEvent(absl::StrCat("e", i)));
    ids.push_back(record.key.id);
    locators.push_back(record.secrets[0].info.locator);
    batch.rows.push_back(NewRow(absl::StrCat("k:", i), 1, 0, 0, i % 100));
    batch.usage.push_back({.key_id = record.key.id, .hour = {.start = At(0), .allowed = 1}});
    batch.activity.push_back({.key_id = record.key.id, .last_used_at = At(4)});
    counters.push_back({absl::StrCat("k:", i), At(0)});
  }
  MustApply(*store, changes);
  CHECK(Must(store->FindKeys(locators)).size() == ids.size());
  CHECK(Must(store->ReadKeys(ids)).size() == ids.size());
  CHECK(Must(store->ListKeys({.count_max = kStoreBatchMax})).items.size() == ids.size());
  CHECK(Must(store->ReadEvents(0, kStoreBatchMax)).size() == ids.size());
  const auto replies = MustSettle(*store, batch);
  const auto read = Must(store->ReadCounters(counters));
  REQUIRE(read.size() == counters.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    CHECK(replies[i].allowance == static_cast<std::int64_t>(i % 100));
    CHECK(read[i].charged == static_cast<std::int64_t>(i % 100));
  }
  CHECK(Must(store->ReadUsage({}))[0].allowed == kStoreBatchMax);
}

}  // namespace

std::span<const StorePromise> RecordPromises() {
  static constexpr std::array kPromises = {
      StorePromise{"OK means done and as durable as info() says. A store holds nothing back",
                   &OkMeansDone},
      StorePromise{"lists of at most 1,000", &ListsOfAThousand},
      StorePromise{"strings as their types say; times in whole milliseconds", &RoundTrip},
      StorePromise{"Constant, and cheap", &InfoIsConstant},
      StorePromise{"random, made with the store: another one means another, or a restored, store",
                   &StoreIdIsRandom},
      StorePromise{"Every plan", &EveryPlan},
      StorePromise{"The keys of these secret locators, in any order, without those that are not "
                   "there",
                   &FindByLocator},
      StorePromise{"The pepper versions (0: none) that the secrets of keys that are not revoked "
                   "need, ascending",
                   &PepperVersions},
      StorePromise{"Whether there is a locator that begins with \"imp_\"", &ImportedSecrets},
      StorePromise{"Keys by id, in any order, without those that are not there", &ReadById},
      StorePromise{"One page of the keys that match, oldest first", &OldestFirst},
      StorePromise{"empty: any; else the key with this secret locator", &KeyFilters},
      StorePromise{"WebhookQuery: empty: any", &WebhookFilters},
      StorePromise{"Events with a larger seq, in order", &EventsInOrder},
  };
  return kPromises;
}

}  // namespace throttl::testing
