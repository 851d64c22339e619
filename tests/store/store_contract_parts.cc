#include "tests/store/store_contract_parts.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace throttl::testing {
namespace {

constexpr int kRepeatsMax = 100;

// Escaped, so that a text with quotes and newlines cannot look like two fields.
std::string Text(const std::string& text) { return absl::StrCat("'", absl::CHexEscape(text), "'"); }

std::string Text(absl::Time time) { return absl::FormatTime(time, absl::UTCTimeZone()); }

template <typename T>
std::string Text(const std::optional<T>& value) {
  if (!value.has_value()) return "none";
  if constexpr (std::is_same_v<T, absl::Time>) {
    return Text(*value);
  } else {
    return absl::StrCat(*value);
  }
}

std::string Text(const std::vector<std::string>& texts) {
  std::vector<std::string> escaped;
  for (const std::string& text : texts) escaped.push_back(Text(text));
  return absl::StrCat("[", absl::StrJoin(escaped, ","), "]");
}

// Fields that came after version 2 of the SQLite schema: only what is not the default, so that the
// golden texts of older versions hold.
std::string NewerText(const Quota& quota) {
  return quota.soft_percent == 0 ? "" : absl::StrCat(" soft ", quota.soft_percent);
}

std::string NewerText(const RateLimit& limit) {
  if (limit.algorithm == RateAlgorithm::kGcra && limit.counts == RateCost::kUnits &&
      !limit.shadow) {
    return "";
  }
  return absl::StrCat(" ", static_cast<int>(limit.algorithm), " ", static_cast<int>(limit.counts),
                      limit.shadow ? " shadow" : "");
}

std::string Text(const std::optional<Quota>& quota) {
  if (!quota.has_value()) return "none";
  return absl::StrCat("{", quota->limit, " ", static_cast<int>(quota->period), " ",
                      quota->anchor_day, " ", Text(quota->time_zone), " ",
                      static_cast<int>(quota->scope), NewerText(*quota), "}");
}

std::string Text(const std::vector<RateLimit>& limits) {
  std::string text;
  for (const RateLimit& limit : limits) {
    absl::StrAppend(&text, "{", Text(limit.name), " ", limit.limit, " ",
                    absl::FormatDuration(limit.window), " ", Text(limit.burst), " ",
                    Text(limit.endpoint), NewerText(limit), "}");
  }
  return text;
}

std::string Text(const SecretRecord& secret) {
  const std::string digest(secret.digest.begin(), secret.digest.end());
  return absl::StrCat("{", Text(secret.info.locator), " ", Text(secret.info.last4), " ",
                      Text(secret.info.created_at), " ", Text(secret.info.expires_at), " ",
                      Text(digest), " ", secret.pepper_version, "}");
}

}  // namespace

std::string UniqueId() {
  static std::atomic<std::int64_t> last = 0;
  static const std::uint32_t random = std::random_device{}();
  return absl::StrCat(getpid(), "-", random, "-", ++last);
}

Plan NewPlan(const std::string& id) {
  return {.id = id, .name = "Plan", .quota = Quota{.limit = 1000}, .version = 1};
}

SecretRecord NewSecret(const std::string& locator) {
  SecretRecord secret;
  secret.info = {.locator = locator, .last4 = "wxyz", .created_at = At(0)};
  for (std::size_t i = 0; i < secret.digest.size(); ++i) {
    secret.digest[i] = static_cast<std::uint8_t>(
        i < locator.size() ? static_cast<unsigned char>(locator[i]) : 200 + i);
  }
  return secret;
}

KeyRecord NewKey(const std::string& id, const std::string& plan_id, const std::string& owner_id,
                 std::int64_t created_s) {
  KeyRecord record;
  record.key.owner_id = owner_id;
  record.key.plan_id = plan_id;
  record.key.name = "a key";
  record.key.id = id;
  record.key.created_at = At(created_s);
  record.key.version = 1;
  record.secrets = {NewSecret(absl::StrCat("loc-", id))};
  return record;
}

WebhookRecord NewWebhook(const std::string& id, const std::string& owner_id) {
  return {.id = id,
          .owner_id = owner_id,
          .url = "https://example.org/hook",
          .event_types = {event_type::kKeyCreated},
          .sealed_secrets = {"sealed"},
          .version = 1};
}

Event NewEvent(const std::string& id) {
  return {.id = id,
          .type = event_type::kKeyUpdated,
          .at = At(1),
          .owner_id = "acme",
          .key_id = "key",
          .actor = "somebody",
          .data = "{}"};
}

ChangeSet NewChanges() {
  ChangeSet changes;
  changes.id = UniqueId();
  return changes;
}

SettleRow NewRow(const std::string& subject, std::int64_t seq, std::int64_t used, std::int64_t keep,
                 std::int64_t want) {
  SettleRow row{.counter = {subject, At(0)},
                .period_end = At(31 * 86400),
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

std::string Dump(const Plan& plan) {
  return absl::StrCat("plan ", Text(plan.id), " ", Text(plan.name), " ", Text(plan.quota), " ",
                      Text(plan.rate_limits), " [", absl::StrJoin(plan.alert_percents, ","), "] v",
                      plan.version, "\n");
}

std::string Dump(const KeyRecord& record) {
  const Key& key = record.key;
  std::string text = absl::StrCat(
      "key ", Text(key.id), " ", Text(key.owner_id), " ", Text(key.plan_id), " ", Text(key.name),
      " ", key.enabled, " ", Text(key.expires_at), " ", Text(key.scopes), " ", Text(key.addresses));
  absl::StrAppend(&text, " ", Text(key.quota), " ", Text(key.rate_limits), " ", Text(key.metadata),
                  " ", Text(key.secret_prefix), " ", Text(key.created_at), " ",
                  Text(key.revoked_at), " ", Text(key.last_used_at), " v", key.version);
  for (const SecretRecord& secret : record.secrets) absl::StrAppend(&text, " ", Text(secret));
  return absl::StrCat(text, " ", Text(record.detector_state), "\n");
}

std::string Dump(const WebhookRecord& webhook) {
  return absl::StrCat("webhook ", Text(webhook.id), " ", Text(webhook.owner_id), " ",
                      Text(webhook.url), " ", Text(webhook.event_types), " ",
                      Text(webhook.sealed_secrets), " ", webhook.active, " v", webhook.version,
                      "\n");
}

std::string Dump(const Event& event) {
  return absl::StrCat("event ", Text(event.id), " ", Text(event.type), " ", Text(event.at), " ",
                      Text(event.owner_id), " ", Text(event.key_id), " ", Text(event.actor), " ",
                      Text(event.data), "\n");
}

std::string Dump(const Counter& counter) {
  return absl::StrCat("counter ", Text(counter.period_end), " ", Text(counter.limit), " v",
                      counter.limit_version, " used ", counter.used, " charged ", counter.charged,
                      " forfeited ", counter.forfeited, " forgiven ", counter.forgiven, " added ",
                      counter.added, " open ", counter.open_leases, " alerted ",
                      counter.alerted_percent, " recall ", counter.recall, " exceeded ",
                      counter.exceeded, " ended ", counter.ended, " owner ", Text(counter.owner_id),
                      " key ", Text(counter.key_id), "\n");
}

std::string Dump(const SettleReply& reply) {
  return absl::StrCat("reply ", static_cast<int>(reply.code), " allowance ", reply.allowance,
                      " used ", reply.used_by_all, " charged ", reply.charged_to_all, " forfeited ",
                      reply.forfeited, " ", Text(reply.limit), " v", reply.limit_version,
                      " recall ", reply.recall, " forgiven ", reply.forgiven, " added ",
                      reply.added, "\n");
}

std::string Dump(const UsageBucket& bucket) {
  return absl::StrCat("bucket ", Text(bucket.start), " ", bucket.allowed, " ", bucket.units, " ",
                      bucket.rate_limited, " ", bucket.quota_exceeded, " ",
                      bucket.refused_otherwise, "\n");
}

std::string Dump(const Delivery& delivery) {
  return absl::StrCat("delivery ", Text(delivery.id), " ", Text(delivery.destination), " ",
                      delivery.event.seq, " ", Dump(delivery.event), " ",
                      static_cast<int>(delivery.state), " ", delivery.attempts, " ",
                      Text(delivery.due_at), " ", delivery.claim, " ", delivery.last_http_status,
                      " ", Text(delivery.last_error), "\n");
}

std::string Snapshot(QuotaStore& store) {
  std::set<std::string> records;  // sorted: plans and webhooks come in any order
  for (const Plan& plan : Must(store.ReadPlans())) records.insert(Dump(plan));
  for (const KeyRecord& record : Must(ListAllKeys(store, {}))) records.insert(Dump(record));
  const auto webhooks = store.ListWebhooks({});
  if (webhooks.ok()) {
    for (const WebhookRecord& webhook : *webhooks) records.insert(Dump(webhook));
  }
  std::string text = absl::StrJoin(records, "");
  for (const Event& event : Must(ReadAllEvents(store, 0))) absl::StrAppend(&text, Dump(event));
  return text;
}

absl::StatusOr<std::vector<KeyRecord>> ListAllKeys(QuotaStore& store, KeyQuery query) {
  std::vector<KeyRecord> all;
  std::set<std::string> cursors;
  do {
    auto page = store.ListKeys(query);
    if (!page.ok()) return page.status();
    if (page->items.size() > static_cast<std::size_t>(query.count_max)) {
      return absl::InternalError("a page is longer than count_max");
    }
    all.insert(all.end(), page->items.begin(), page->items.end());
    query.cursor = page->next_cursor;
    if (!query.cursor.empty() && !cursors.insert(query.cursor).second) {
      return absl::InternalError("a cursor came twice");
    }
  } while (!query.cursor.empty());
  return all;
}

absl::StatusOr<std::vector<Event>> ReadAllEvents(QuotaStore& store, std::int64_t after_seq) {
  std::vector<Event> all;
  while (true) {
    auto events = store.ReadEvents(after_seq, kStoreBatchMax);
    if (!events.ok()) return events.status();
    if (events->empty()) return all;
    if (events->front().seq <= after_seq) return absl::InternalError("an old event was read");
    after_seq = events->back().seq;
    all.insert(all.end(), events->begin(), events->end());
  }
}

absl::StatusOr<std::int64_t> ApplyRepeating(QuotaStore& store, const ChangeSet& changes) {
  auto seq = store.Apply(changes);
  for (int i = 0; i < kRepeatsMax && absl::IsUnavailable(seq.status()); ++i) {
    seq = store.Apply(changes);
  }
  return seq;
}

absl::StatusOr<std::vector<SettleReply>> SettleRepeating(QuotaStore& store,
                                                         const SettleBatch& batch) {
  auto replies = store.Settle(batch);
  for (int i = 0; i < kRepeatsMax && absl::IsUnavailable(replies.status()); ++i) {
    replies = store.Settle(batch);
  }
  return replies;
}

std::vector<std::string> Ids(const std::vector<KeyRecord>& records) {
  std::vector<std::string> ids;
  for (const KeyRecord& record : records) ids.push_back(record.key.id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::int64_t MustApply(QuotaStore& store, ChangeSet changes) {
  if (changes.id.empty()) changes.id = UniqueId();
  return Must(store.Apply(changes));
}

std::vector<SettleReply> MustSettle(QuotaStore& store, const SettleBatch& batch) {
  auto replies = Must(store.Settle(batch));
  REQUIRE(replies.size() == batch.rows.size());
  return replies;
}

void Skip(const StoreUnderTest& store, const std::string& what) {
  MESSAGE(absl::StrCat("skipped on ", store.name, ": ", what));
}

}  // namespace throttl::testing
