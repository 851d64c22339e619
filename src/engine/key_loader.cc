#include "src/engine/key_loader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "throttl/quota_store.h"

#include "src/base/sha256.h"
#include "src/base/status_macros.h"
#include "src/engine/subject.h"
#include "src/key/secret_digest.h"
#include "src/key/secret_format.h"

namespace throttl::internal {
namespace {

// Imported secrets are printable ASCII of such lengths; anything else never reaches a table.
constexpr std::size_t kForeignSizeMin = 8;
constexpr std::size_t kForeignSizeMax = 512;

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

bool SameDigest(const Sha256Digest& a, const Sha256Digest& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

std::int64_t MillisOf(const std::optional<absl::Time>& time) {
  return time.has_value() ? absl::ToUnixMillis(*time) : kNever;
}

}  // namespace

std::optional<SecretShape> ShapeOf(std::string_view secret) {
  const std::optional<SecretParts> parts = ParseSecret(secret);
  if (parts.has_value()) {
    return SecretShape{.locator = LocatorKey::Own(parts->locator), .issued = true};
  }
  if (secret.size() < kForeignSizeMin || secret.size() > kForeignSizeMax || !IsPrintable(secret)) {
    return std::nullopt;
  }
  return SecretShape{.locator = LocatorKey::Imported(Sha256(secret)), .issued = false};
}

const QuotaRule* QuotaOfKey::rule() const {
  if (own != nullptr && own->quota.has_value()) return &*own->quota;
  return plan->quota.has_value() ? &*plan->quota : nullptr;
}

SlotAim QuotaOfKey::AimAt(std::int64_t now_ms, std::int64_t limit_version) const {
  SlotAim aim;
  aim.hour =
      absl::ToUnixMillis(BucketStart(absl::FromUnixMillis(now_ms), Period::kHour)) / 3'600'000;
  aim.limit_version = limit_version;
  aim.alert_percents = plan->alert_percents;
  const QuotaRule* const quota = rule();
  if (quota == nullptr) return aim;
  const PeriodBounds bounds = quota->calendar.At(absl::FromUnixMillis(now_ms));
  aim.period_start_s = absl::ToUnixSeconds(bounds.start);
  aim.period_end_ms = MillisOf(bounds.end);
  aim.limit = quota->quota.limit;
  aim.soft_percent = quota->quota.soft_percent;
  return aim;
}

bool KeyLoader::MayAsk(std::int64_t now_ms) {
  const MutexLock lock(mutex_);
  return unknown_until_us_ <= (now_ms + 1000) * 1000;
}

// A text that is not of our format costs others nothing while no such secret can be right.
absl::StatusOr<bool> KeyLoader::MayBeImported() {
  const std::uint64_t generation = context_.table->generation();
  {
    const MutexLock lock(mutex_);
    if (imported_as_of_ == generation) return has_imported_;
  }
  THROTTL_ASSIGN_OR_RETURN(const bool has_imported, context_.store->HasImportedSecrets());
  const MutexLock lock(mutex_);
  has_imported_ = has_imported;
  imported_as_of_ = generation;
  return has_imported;
}

// A token bucket of one second (GCRA): asking is refused while the tokens are overdrawn.
void KeyLoader::CountUnknown(std::int64_t now_ms) {
  const MutexLock lock(mutex_);
  unknown_until_us_ = std::max(unknown_until_us_, now_ms * 1000) + 1'000'000 / kUnknownPerSecond;
}

LoadOutcome KeyLoader::Load(std::string_view secret, const SecretShape& shape,
                            std::int64_t now_ms) {
  if (!shape.issued) {
    const absl::StatusOr<bool> may_be = MayBeImported();
    if (may_be.ok() && !*may_be) return LoadOutcome::kUnknown;
  }
  if (!MayAsk(now_ms)) return LoadOutcome::kUnavailable;
  const absl::StatusOr<LoadOutcome> outcome = TryLoad(secret, shape);
  if (!outcome.ok()) {
    context_.NoteStoreError(outcome.status());
    return LoadOutcome::kUnavailable;
  }
  if (*outcome == LoadOutcome::kUnknown) CountUnknown(now_ms);
  return *outcome;
}

absl::StatusOr<LoadOutcome> KeyLoader::TryLoad(std::string_view secret, const SecretShape& shape) {
  const std::uint64_t as_of = index_.invalidations();
  const Sha256Digest digest = Sha256(secret);
  const std::string locator =
      shape.issued ? std::string(ParseSecret(secret)->locator) : ImportedLocator(digest);
  THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> records,
                           context_.store->FindKeys(std::span(&locator, 1)));
  for (const KeyRecord& record : records) {
    for (const SecretRecord& used : record.secrets) {
      if (used.info.locator != locator) continue;
      THROTTL_ASSIGN_OR_RETURN(const Sha256Digest stored,
                               context_.peppers.Digest(digest, used.pepper_version));
      if (!SameDigest(stored, used.digest)) continue;
      THROTTL_ASSIGN_OR_RETURN(const CachedKey cached, MakeCached(record, used, secret));
      // What was read may be out of date: the rules are forgotten again, and so is the key.
      if (!index_.Insert(shape.locator, cached, as_of)) rules_.Clear();
      return LoadOutcome::kLoaded;
    }
  }
  return LoadOutcome::kUnknown;
}

absl::StatusOr<std::shared_ptr<const PlanRule>> KeyLoader::PlanOf(const Key& key) {
  std::shared_ptr<const PlanRule> rule = rules_.FindPlan(key.plan_id);
  if (rule != nullptr) return rule;
  THROTTL_ASSIGN_OR_RETURN(const std::vector<Plan> plans, context_.store->ReadPlans());
  for (const Plan& plan : plans) {
    THROTTL_ASSIGN_OR_RETURN(std::shared_ptr<const PlanRule> made, PlanRule::Create(plan));
    if (plan.id == key.plan_id) rule = made;
    rules_.PutPlan(std::move(made));
  }
  if (rule != nullptr) return rule;
  // Only a revoked key may be on a plan that is gone.
  return PlanRule::Create({.id = key.plan_id});
}

absl::StatusOr<CachedKey> KeyLoader::MakeCached(const KeyRecord& record, const SecretRecord& used,
                                                std::string_view secret) {
  const Key& key = record.key;
  CachedKey cached{.ids = {.key_id = std::string_view(key.id),
                           .owner_id = std::string_view(key.owner_id),
                           .plan_id = std::string_view(key.plan_id)}};
  KeyFacts& facts = cached.facts;
  THROTTL_ASSIGN_OR_RETURN(const std::shared_ptr<const PlanRule> plan, PlanOf(key));
  QuotaOfKey quota{.plan = plan};
  const auto flag = [&facts](bool is, KeyFlag bit) {
    if (is) facts.flags = static_cast<std::uint8_t>(facts.flags | bit);
  };
  THROTTL_ASSIGN_OR_RETURN(quota.own, KeyRule::Create(key, *plan));
  if (quota.own != nullptr) {
    facts.rules = quota.own->id;
    flag(!quota.own->rates.empty(), kHasRateLimits);
    rules_.PutRule(quota.own);
  }
  facts.secret_tag = SipHash128(sip_key_, secret);
  facts.secret_expires_at_ms = MillisOf(used.info.expires_at);
  facts.key_expires_at_ms = MillisOf(key.expires_at);
  facts.limit_version = (key.version << kKeyVersionShift) + plan->version;
  flag(key.revoked_at.has_value() || !key.enabled, kKeyInactive);
  flag(used.info.expires_at.has_value(), kSecretRetiring);
  flag(!key.addresses.empty(), kHasAddresses);
  flag(!key.scopes.empty(), kHasScopes);
  facts.period = Period::kLifetime;
  const QuotaRule* const rule = quota.rule();
  if (rule == nullptr) return cached;
  facts.limit = rule->quota.limit;
  facts.soft_percent = static_cast<std::int16_t>(rule->quota.soft_percent);
  facts.period = rule->quota.period;
  flag(true, kQuotaHasLimit);
  flag(!key.quota.has_value() && rule->quota.scope == QuotaScope::kOwner, kQuotaOfOwner);
  const std::vector<std::int32_t> percents = UnpackPercents(plan->alert_percents);
  std::transform(percents.begin(), percents.end(), facts.alert_percents.begin(),
                 [](std::int32_t percent) { return static_cast<std::int16_t>(percent); });
  return cached;
}

std::optional<QuotaOfKey> KeyLoader::QuotaOf(const KeyIndex::Found& found,
                                             std::string_view plan_id) {
  QuotaOfKey quota{.plan = rules_.FindPlan(plan_id)};
  const std::int64_t version_mask = (std::int64_t{1} << kKeyVersionShift) - 1;
  if (quota.plan == nullptr || quota.plan->version != (found.facts.limit_version & version_mask)) {
    return std::nullopt;
  }
  if (found.facts.rules == 0) return quota;
  quota.own = rules_.FindRule(found.facts.rules);
  if (quota.own == nullptr) return std::nullopt;
  return quota;
}

}  // namespace throttl::internal
