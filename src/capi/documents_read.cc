#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

const std::vector<Word>& Periods() {
  static const auto* const kPeriods = new std::vector<Word>{
      {"hour", static_cast<int>(Period::kHour)}, {"day", static_cast<int>(Period::kDay)},
      {"week", static_cast<int>(Period::kWeek)}, {"month", static_cast<int>(Period::kMonth)},
      {"year", static_cast<int>(Period::kYear)}, {"lifetime", static_cast<int>(Period::kLifetime)}};
  return *kPeriods;
}

// A choice whose numbers are those of an enum.
template <typename Enum>
void ReadEnum(ObjectReader& reader, const char* name, const std::vector<Word>& words, Enum& out) {
  int number = static_cast<int>(out);
  reader.Choice(name, words, number);
  out = static_cast<Enum>(number);
}

absl::Status ReadQuota(const Json& object, const std::string& path, Quota& quota) {
  ObjectReader reader(object, path);
  reader.Integer("limit", quota.limit);
  ReadEnum(reader, "period", Periods(), quota.period);
  reader.Integer("anchor_day", quota.anchor_day);
  reader.String("time_zone", quota.time_zone);
  ReadEnum(reader, "scope",
           {{"key", static_cast<int>(QuotaScope::kKey)},
            {"owner", static_cast<int>(QuotaScope::kOwner)}},
           quota.scope);
  reader.Integer("soft_percent", quota.soft_percent);
  return reader.Finish();
}

absl::Status ReadRateLimit(const Json& object, const std::string& path, RateLimit& limit) {
  ObjectReader reader(object, path);
  reader.String("name", limit.name);
  reader.Integer("limit", limit.limit);
  reader.Millis("window_ms", absl::Minutes(1), limit.window);
  reader.Integer("burst", limit.burst);
  reader.String("endpoint", limit.endpoint);
  ReadEnum(reader, "algorithm",
           {{"gcra", static_cast<int>(RateAlgorithm::kGcra)},
            {"sliding_window", static_cast<int>(RateAlgorithm::kSlidingWindow)}},
           limit.algorithm);
  ReadEnum(reader, "counts",
           {{"units", static_cast<int>(RateCost::kUnits)},
            {"requests", static_cast<int>(RateCost::kRequests)}},
           limit.counts);
  reader.Bool("shadow", limit.shadow);
  return reader.Finish();
}

void ReadQuotaMember(ObjectReader& reader, std::optional<Quota>& quota) {
  reader.Nullable(
      "quota", [&quota] { quota = std::nullopt; },
      [&quota](const Json& object, const std::string& path) {
        Quota read = quota.value_or(Quota());
        absl::Status status = ReadQuota(object, path, read);
        quota = read;
        return status;
      });
}

void ReadRateLimits(ObjectReader& reader, std::vector<RateLimit>& limits) {
  if (reader.Has("rate_limits")) limits.clear();
  reader.Objects("rate_limits", [&limits](const Json& object, const std::string& path) {
    limits.emplace_back();
    return ReadRateLimit(object, path, limits.back());
  });
}

absl::Status ReadPepper(const Json& object, const std::string& path, Pepper& pepper) {
  ObjectReader reader(object, path);
  std::string value;
  reader.Integer("version", pepper.version);
  reader.String("value", value);
  pepper.value = Secret(std::move(value));
  return reader.Finish();
}

void ReadNumbers(ObjectReader& reader, EngineOptions& options) {
  reader.Bool("settle_thread", options.settle_thread);
  reader.Millis("settle_interval_ms", EngineOptions().settle_interval, options.settle_interval);
  reader.Millis("history_kept_ms", absl::InfiniteDuration(), options.history_kept);
  reader.Millis("events_kept_ms", absl::InfiniteDuration(), options.events_kept);
  reader.Integer("cached_keys_max", options.cached_keys_max);
  reader.Integer("active_subjects_max", options.active_subjects_max);
  reader.Integer("rate_slots_max", options.rate_slots_max);
}

}  // namespace

void ReadCaller(ObjectReader& reader, Caller& caller) {
  reader.Nullable(
      "caller", [&caller] { caller = {}; },
      [&caller](const Json& object, const std::string& path) {
        ObjectReader members(object, path);
        members.String("owner_id", caller.owner_id);
        members.String("actor", caller.actor);
        return members.Finish();
      });
}

void ReadCarryOver(ObjectReader& reader, CarryOver& carry_over) {
  ReadEnum(reader, "carry_over",
           {{"difference", static_cast<int>(CarryOver::kDifference)},
            {"reset", static_cast<int>(CarryOver::kReset)},
            {"proportional", static_cast<int>(CarryOver::kProportional)},
            {"additive", static_cast<int>(CarryOver::kAdditive)}},
           carry_over);
}

void ReadKeyQuery(ObjectReader& reader, KeyQuery& query) {
  reader.String("owner_id", query.owner_id);
  reader.String("plan_id", query.plan_id);
  reader.String("locator", query.locator);
  reader.Bool("include_revoked", query.include_revoked);
  reader.String("cursor", query.cursor);
  reader.Integer("count_max", query.count_max);
}

void ReadUsageQuery(ObjectReader& reader, UsageQuery& query) {
  reader.String("key_id", query.key_id);
  reader.String("owner_id", query.owner_id);
  reader.Time("from", query.from);
  reader.Time("to", query.to);
  ReadEnum(reader, "bucket", Periods(), query.bucket);
}

void ReadKeySettings(ObjectReader& reader, Key& key) {
  reader.String("owner_id", key.owner_id);
  reader.String("plan_id", key.plan_id);
  reader.String("name", key.name);
  reader.Bool("enabled", key.enabled);
  reader.Time("expires_at", key.expires_at);
  reader.Strings("scopes", key.scopes);
  reader.Strings("addresses", key.addresses);
  ReadQuotaMember(reader, key.quota);
  ReadRateLimits(reader, key.rate_limits);
  reader.String("metadata", key.metadata);
  reader.String("secret_prefix", key.secret_prefix);
}

void ReadPlan(ObjectReader& reader, Plan& plan) {
  reader.String("id", plan.id);
  reader.String("name", plan.name);
  ReadQuotaMember(reader, plan.quota);
  ReadRateLimits(reader, plan.rate_limits);
  reader.Integers("alert_percents", plan.alert_percents);
}

absl::StatusOr<OpenOptions> ReadOpenOptions(const Json& object) {
  OpenOptions options;
  EngineOptions& engine = options.engine;
  ObjectReader reader(object, "options.");
  ReadEnum(reader, "on_store_failure",
           {{"refuse", static_cast<int>(StoreFailure::kRefuse)},
            {"allow", static_cast<int>(StoreFailure::kAllow)}},
           engine.on_store_failure);
  ReadNumbers(reader, engine);
  reader.String("secret_prefix", engine.secret_prefix);
  if (reader.Has("seed_plans")) engine.seed_plans.clear();
  reader.Objects("seed_plans", [&engine](const Json& plan, const std::string& path) {
    engine.seed_plans.emplace_back();
    ObjectReader members(plan, path);
    ReadPlan(members, engine.seed_plans.back());
    return members.Finish();
  });
  reader.Objects("peppers", [&engine](const Json& pepper, const std::string& path) {
    engine.peppers.emplace_back();
    return ReadPepper(pepper, path, engine.peppers.back());
  });
  std::optional<absl::Time> clock;
  reader.Time("clock", clock);
  absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  if (clock.has_value()) {
    options.clock = std::make_shared<ManualClock>(*clock);
    engine.clock = options.clock;
  }
  return options;
}

absl::StatusOr<HttpOptions> ReadHttpOptions(const Json& object, std::string& realm,
                                            std::string& scope) {
  HttpOptions options;
  realm = std::string(options.realm);
  ObjectReader reader(object, "options.");
  ReadEnum(reader, "fields",
           {{"none", static_cast<int>(RateLimitFields::kNone)},
            {"draft-6", static_cast<int>(RateLimitFields::kDraft6)},
            {"draft-7", static_cast<int>(RateLimitFields::kDraft7)},
            {"draft-8", static_cast<int>(RateLimitFields::kDraft8)},
            {"draft-10", static_cast<int>(RateLimitFields::kDraft10)}},
           options.fields);
  reader.Bool("legacy_fields", options.legacy_fields);
  reader.String("realm", realm);
  reader.String("scope", scope);
  absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  options.realm = realm;
  options.scope = scope;
  return options;
}

}  // namespace throttl::capi
