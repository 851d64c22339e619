#include "tests/golden/golden_content.h"

#include <memory>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"

#include "throttl/clock.h"
#include "throttl/engine.h"
#include "throttl/memory_store.h"
#include "throttl/sqlite_store.h"

#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

EngineOptions GoldenOptions(std::shared_ptr<ManualClock> clock) {
  EngineOptions options;
  options.settle_thread = false;
  options.clock = std::move(clock);
  options.random = [generator = std::mt19937_64(1)](std::span<std::uint8_t> bytes) mutable {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
  };
  return options;
}

Plan GoldenPlan() {
  return {.id = "team",
          .name = "Team \"\xC3\xBC\"",
          .quota = Quota{.limit = 200'000,
                         .period = Period::kWeek,
                         .anchor_day = 3,
                         .time_zone = "Europe/Berlin",
                         .scope = QuotaScope::kOwner,
                         .soft_percent = 10},
          .rate_limits = {{.name = "search",
                           .limit = 20,
                           .window = absl::Milliseconds(1500),
                           .burst = 5,
                           .endpoint = "GET /v1/search/**"},
                          {.name = "all",
                           .limit = 600,
                           .algorithm = RateAlgorithm::kSlidingWindow,
                           .counts = RateCost::kRequests}},
          .alert_percents = {50, 90, 100}};
}

Key GoldenKey(const std::string& id) { return {.owner_id = "acme", .name = "a key", .id = id}; }

// A key with a value in every field.
Key FullKey() {
  return {.owner_id = "globex",
          .plan_id = "team",
          .name = "every field",
          .expires_at = At(400 * 86400),
          .scopes = {"read", "write:all"},
          .addresses = {"10.0.0.0/8", "2001:db8::/32"},
          .quota = Quota{.limit = 7,
                         .period = Period::kDay,
                         .time_zone = "America/New_York",
                         .soft_percent = 100},
          .rate_limits = {{.name = "own",
                           .limit = 5,
                           .window = absl::Seconds(1),
                           .algorithm = RateAlgorithm::kSlidingWindow,
                           .counts = RateCost::kRequests,
                           .shadow = true}},
          .metadata = "{\"a\": \"\xE2\x82\xAC\"}",
          .secret_prefix = "glo_test",
          .id = "key-full"};
}

void WriteKeys(Engine& engine, ManualClock& clock) {
  Must(engine.PutPlan(GoldenPlan()));
  Must(engine.CreateKey(GoldenKey("key-plain"), {.actor = "someone"}));
  clock.Advance(absl::Seconds(1));
  Must(engine.CreateKey(FullKey()));
  for (const char* id : {"key-rotated", "key-revoked", "key-disabled"}) {
    clock.Advance(absl::Seconds(1));
    Must(engine.CreateKey(GoldenKey(id)));
  }
  Must(engine.RotateKey("key-rotated", {.overlap = absl::Hours(24)}));
  CHECK(engine.RevokeKey("key-revoked").ok());
  Key disabled = Must(engine.GetKey("key-disabled"));
  disabled.enabled = false;
  disabled.expires_at = At(5);
  Must(engine.UpdateKey(disabled));
  const std::vector<ImportedKey> imported = {
      {.key = GoldenKey("key-imported"), .digest = Sha256("tk_a secret of another system")}};
  CHECK(Must(engine.ImportKeys(imported)).imported == 1);
}

Delivery GoldenDelivery(const std::string& id, DeliveryState state) {
  return {.id = id,
          .destination = "hook",
          .event = NewEvent("event-of-" + id),
          .state = state,
          .attempts = 3,
          .due_at = At(60),
          .last_http_status = 503,
          .last_error = "busy"};
}

SettleRow UsedRow(const std::string& subject, std::int64_t used) {
  SettleRow row = NewRow(subject, 1, used, used, 0);
  row.sole = true;
  return row;
}

void WriteCounts(QuotaStore& store) {
  MustApply(store, {.id = "webhook", .put_webhooks = {NewWebhook("hook", "acme")}});
  SettleBatch batch{.holder = HolderId{0xFEDCBA9876543210}, .now = At(10)};
  batch.rows = {NewRow("key-plain", 1, 0, 0, 60), NewRow("acme@team", 1, 0, 0, 10)};
  MustSettle(store, batch);
  batch.rows = {NewRow("key-plain", 2, 55, 60, 0)};
  batch.usage = {{.key_id = "key-plain", .hour = {At(0), 1, 2, 3, 4, 5}},
                 {.key_id = "key-plain", .hour = {At(3600), 10, 20, 30, 40, 50}}};
  batch.activity = {{.key_id = "key-plain", .last_used_at = At(9), .detector_state = "state"}};
  MustSettle(store, batch);
  batch = {.holder = HolderId{2}, .now = At(10), .rows = {NewRow("key-plain", 1, 0, 0, 20)}};
  MustSettle(store, batch);
  CHECK(store.RetireHolder(HolderId{2}, LeaseState::kLost).ok());
  MustSettle(store, {.holder = HolderId{3}, .now = At(11), .rows = {UsedRow("key-exceeded", 100)}});
  CHECK(Must(store.EndPeriods(At(32 * 86400), 10)) == 2);
  MustSettle(store, {.holder = HolderId{3}, .now = At(12), .rows = {UsedRow("key-reset", 40)}});
  CarryRow reset{.counter = {"key-reset", At(0)}, .limit = 50, .limit_version = 2};
  CarryRow added{.counter = {"key-added", At(0)},
                 .carry_over = CarryOver::kAdditive,
                 .period_end = At(31 * 86400),
                 .limit_before = 100,
                 .limit = 50,
                 .limit_version = 2,
                 .owner_id = "acme",
                 .key_id = "key-added"};
  MustApply(store, {.id = "carry", .carry_overs = {reset, added}});
  const std::vector<Delivery> deliveries = {GoldenDelivery("one", DeliveryState::kPending),
                                            GoldenDelivery("two", DeliveryState::kDead)};
  CHECK(store.PutDeliveries(deliveries, 3).ok());
}

}  // namespace

void WriteGolden(const std::string& path) {
  const auto store = Must(OpenSqliteStore({.path = path}));
  const auto clock = std::make_shared<ManualClock>(At(0));
  const auto engine = Must(Engine::Create(store, GoldenOptions(clock)));
  WriteKeys(*engine, *clock);
  WriteCounts(*store);
}

std::string DescribeGolden(QuotaStore& store, int version) {
  std::string text = Snapshot(store);
  std::vector<std::string> subjects = {"key-plain", "acme@team"};
  if (version >= 2) subjects.emplace_back("key-exceeded");
  if (version >= 4) subjects.insert(subjects.end(), {"key-reset", "key-added"});
  for (const std::string& subject : subjects) {
    const CounterId id{subject, At(0)};
    std::string counter = Dump(Must(store.ReadCounters(std::vector<CounterId>{id})).at(0));
    if (version < 2) counter = counter.substr(0, counter.find(" exceeded ")) + "\n";
    absl::StrAppend(&text, subject, ": ", counter);
  }
  for (const UsageBucket& bucket : Must(store.ReadUsage({.bucket = Period::kHour}))) {
    absl::StrAppend(&text, Dump(bucket));
  }
  for (const Delivery& delivery : Must(store.ListDeliveries({})).items) {
    absl::StrAppend(&text, Dump(delivery));
  }
  absl::StrAppend(
      &text, "planned_seq ",
      Must(store.ClaimDeliveries({.claim = 1, .now = At(0), .until = At(1)})).planned_seq, "\n");
  return text;
}

std::string GoldenSecret() {
  const auto engine =
      Must(Engine::Create(MakeMemoryStore(), GoldenOptions(std::make_shared<ManualClock>(At(0)))));
  Must(engine->PutPlan(GoldenPlan()));
  const IssuedKey issued = Must(engine->CreateKey(GoldenKey("key-plain"), {.actor = "someone"}));
  return std::string(issued.secret.Reveal());
}

}  // namespace throttl::testing
