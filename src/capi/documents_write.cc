#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

Json Text(std::string_view text) { return Json(std::string(text)); }

Json MillisToJson(const std::optional<absl::Duration>& duration) {
  if (!duration.has_value() || *duration == absl::InfiniteDuration()) return nullptr;
  // A wait is never said to be shorter than it is.
  return absl::ToInt64Milliseconds(absl::Ceil(*duration, absl::Milliseconds(1)));
}

Json OptionalToJson(const std::optional<std::int64_t>& number) {
  return number.has_value() ? Json(*number) : Json(nullptr);
}

template <typename Item>
Json ListToJson(const std::vector<Item>& items) {
  Json list = Json::array();
  for (const Item& item : items) list.push_back(ToJson(item));
  return list;
}

Json QuotaMember(const std::optional<Quota>& quota) {
  return quota.has_value() ? ToJson(*quota) : Json(nullptr);
}

}  // namespace

Json TimeToJson(const std::optional<absl::Time>& time) {
  if (!time.has_value()) return nullptr;
  return absl::FormatTime("%E4Y-%m-%dT%H:%M:%E*SZ", absl::FromUnixMillis(absl::ToUnixMillis(*time)),
                          absl::UTCTimeZone());
}

Json ToJson(const SecretInfo& secret) {
  return {{"locator", secret.locator},
          {"last4", secret.last4},
          {"created_at", TimeToJson(secret.created_at)},
          {"expires_at", TimeToJson(secret.expires_at)}};
}

Json ToJson(const QuotaState& quota) {
  const bool runs = quota.starts_at != absl::InfinitePast();
  return {{"limit", OptionalToJson(quota.limit)},
          {"used", quota.used},
          {"remaining", OptionalToJson(quota.remaining())},
          {"starts_at", runs ? TimeToJson(quota.starts_at) : Json(nullptr)},
          {"resets_at", TimeToJson(quota.resets_at)},
          {"period", Text(PeriodName(quota.period))}};
}

Json ToJson(const ExplainedLimit& limit) {
  return {{"kind", limit.kind == LimitKind::kQuota ? "quota" : "rate_limit"},
          {"name", limit.name},
          {"endpoint", limit.endpoint},
          {"of_key", limit.of_key},
          {"shadow", limit.shadow},
          {"refuses", limit.refuses},
          {"limit", limit.limit},
          {"at_rest", limit.at_rest},
          {"remaining", limit.remaining},
          {"window_ms", MillisToJson(limit.window)},
          {"resets_at", TimeToJson(limit.resets_at)},
          {"retry_after_ms", MillisToJson(limit.retry_after)}};
}

Json ToJson(const Quota& quota) {
  return {{"limit", quota.limit},
          {"period", Text(PeriodName(quota.period))},
          {"anchor_day", quota.anchor_day},
          {"time_zone", quota.time_zone},
          {"scope", quota.scope == QuotaScope::kOwner ? "owner" : "key"},
          {"soft_percent", quota.soft_percent}};
}

Json ToJson(const RateLimit& limit) {
  const bool slides = limit.algorithm == RateAlgorithm::kSlidingWindow;
  return {{"name", limit.name},
          {"limit", limit.limit},
          {"window_ms", MillisToJson(limit.window)},
          {"burst", OptionalToJson(limit.burst)},
          {"endpoint", limit.endpoint},
          {"algorithm", slides ? "sliding_window" : "gcra"},
          {"counts", limit.counts == RateCost::kRequests ? "requests" : "units"},
          {"shadow", limit.shadow}};
}

Json ToJson(const Plan& plan) {
  return {{"id", plan.id},
          {"name", plan.name},
          {"quota", QuotaMember(plan.quota)},
          {"rate_limits", ListToJson(plan.rate_limits)},
          {"alert_percents", plan.alert_percents},
          {"version", plan.version}};
}

Json SettingsToJson(const Key& key) {
  return {{"owner_id", key.owner_id},
          {"plan_id", key.plan_id},
          {"name", key.name},
          {"enabled", key.enabled},
          {"expires_at", TimeToJson(key.expires_at)},
          {"scopes", key.scopes},
          {"addresses", key.addresses},
          {"quota", QuotaMember(key.quota)},
          {"rate_limits", ListToJson(key.rate_limits)},
          {"metadata", key.metadata},
          {"secret_prefix", key.secret_prefix}};
}

Json ToJson(const Key& key) {
  Json json = SettingsToJson(key);
  json["id"] = key.id;
  json["created_at"] = TimeToJson(key.created_at);
  json["revoked_at"] = TimeToJson(key.revoked_at);
  json["last_used_at"] = TimeToJson(key.last_used_at);
  json["secrets"] = ListToJson(key.secrets);
  json["version"] = key.version;
  return json;
}

Json ToJson(const Usage& usage) {
  return {{"key_id", usage.key_id},
          {"key_name", usage.key_name},
          {"owner_id", usage.owner_id},
          {"plan_id", usage.plan_id},
          {"quota", ToJson(usage.quota)},
          {"period_start", TimeToJson(usage.period_start)},
          {"last_used_at", TimeToJson(usage.last_used_at)}};
}

Json ToJson(const UsageBucket& bucket) {
  return {{"start", TimeToJson(bucket.start)},
          {"allowed", bucket.allowed},
          {"units", bucket.units},
          {"rate_limited", bucket.rate_limited},
          {"quota_exceeded", bucket.quota_exceeded},
          {"refused_otherwise", bucket.refused_otherwise}};
}

Json ToJson(const Event& event) {
  // What is no JSON, from a store of another make, is told as text.
  Json data = Json::parse(event.data, nullptr, false);
  if (data.is_discarded()) data = event.data;
  return {{"seq", event.seq},           {"id", event.id},
          {"type", event.type},         {"at", TimeToJson(event.at)},
          {"owner_id", event.owner_id}, {"key_id", event.key_id},
          {"actor", event.actor},       {"data", std::move(data)}};
}

Json ToJson(const Explanation& explanation) {
  return {{"code", Text(CodeName(explanation.code))},
          {"at", TimeToJson(explanation.at)},
          {"limits", ListToJson(explanation.limits)}};
}

Json ToJson(const EngineStats& stats) {
  return {{"allowed", stats.allowed},
          {"refused", stats.refused},
          {"shadow_refusals", stats.shadow_refusals},
          {"key_cache_misses", stats.key_cache_misses},
          {"settles", stats.settles},
          {"settle_failures", stats.settle_failures},
          {"last_settled_at", TimeToJson(stats.last_settled_at)},
          {"last_store_error",
           {{"status", stats.last_store_error.raw_code()},
            {"message", Text({stats.last_store_error.message().data(),
                              stats.last_store_error.message().size()})}}}};
}

Json ToJson(const ImportReport& report) {
  return {{"imported", report.imported},
          {"unchanged", report.unchanged},
          {"conflicts", report.conflicts}};
}

}  // namespace throttl::capi
