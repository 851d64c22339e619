#include "src/engine/key_rules.h"

#include <algorithm>
#include <utility>

#include "src/base/status_macros.h"

namespace throttl::internal {

absl::StatusOr<QuotaRule> QuotaRule::Create(const Quota& quota) {
  THROTTL_ASSIGN_OR_RETURN(QuotaCalendar calendar,
                           QuotaCalendar::Create(quota.period, quota.anchor_day, quota.time_zone));
  return QuotaRule{.quota = quota, .calendar = calendar};
}

absl::StatusOr<std::shared_ptr<const PlanRule>> PlanRule::Create(const Plan& plan) {
  auto rule = std::make_shared<PlanRule>();
  rule->plan_id = plan.id;
  rule->version = plan.version;
  rule->alert_percents = PackPercents(plan.alert_percents);
  if (plan.quota.has_value()) {
    THROTTL_ASSIGN_OR_RETURN(rule->quota, QuotaRule::Create(*plan.quota));
  }
  return std::shared_ptr<const PlanRule>(std::move(rule));
}

absl::StatusOr<std::shared_ptr<const KeyRule>> KeyRule::Create(const Key& key) {
  auto rule = std::make_shared<KeyRule>();
  rule->scopes = key.scopes;
  rule->version = key.version;
  for (const std::string& text : key.addresses) {
    THROTTL_ASSIGN_OR_RETURN(const Cidr block, Cidr::Parse(text));
    rule->addresses.push_back(block);
  }
  if (key.quota.has_value()) {
    THROTTL_ASSIGN_OR_RETURN(rule->quota, QuotaRule::Create(*key.quota));
  }
  return std::shared_ptr<const KeyRule>(std::move(rule));
}

bool KeyRule::AllowsAddress(std::string_view text) const {
  if (addresses.empty()) return true;
  const std::optional<IpAddress> address = IpAddress::Parse(text);
  return address.has_value() && std::any_of(addresses.begin(), addresses.end(),
                                            [&](const Cidr& b) { return b.Contains(*address); });
}

bool KeyRule::HasScopes(std::string_view wanted) const {
  while (!wanted.empty()) {
    const std::string_view scope = wanted.substr(0, wanted.find(' '));
    wanted.remove_prefix(std::min(wanted.size(), scope.size() + 1));
    if (scope.empty()) continue;
    if (std::find(scopes.begin(), scopes.end(), scope) == scopes.end()) return false;
  }
  return true;
}

std::shared_ptr<const PlanRule> RulesCache::FindPlan(std::string_view plan_id) {
  const MutexLock lock(mutex_);
  const auto found = plans_.find(plan_id);
  return found == plans_.end() ? nullptr : found->second;
}

std::shared_ptr<const KeyRule> RulesCache::FindKey(std::string_view key_id, std::uint64_t version) {
  const MutexLock lock(mutex_);
  const auto found = keys_.find(key_id);
  // A thread that has read the key before a change may put its old rules after the new ones.
  if (found == keys_.end() || static_cast<std::uint64_t>(found->second->version) != version) {
    return nullptr;
  }
  return found->second;
}

void RulesCache::PutPlan(std::shared_ptr<const PlanRule> plan) {
  const MutexLock lock(mutex_);
  plans_[plan->plan_id] = std::move(plan);
}

void RulesCache::PutKey(std::string_view key_id, std::shared_ptr<const KeyRule> rule) {
  const MutexLock lock(mutex_);
  if (keys_.size() >= keys_max_) keys_.clear();
  keys_[std::string(key_id)] = std::move(rule);
}

void RulesCache::Clear() {
  const MutexLock lock(mutex_);
  plans_.clear();
  keys_.clear();
}

}  // namespace throttl::internal
