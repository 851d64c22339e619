#include "src/engine/key_rules.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

thread_local bool rules_ended = false;

std::uint64_t NextRuleId() {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1) + 1;
}

}  // namespace

constinit thread_local RulesCache::RulesOfThread* RulesCache::rules_of_thread = nullptr;

struct RulesCache::RulesOwner {
  std::unique_ptr<RulesOfThread> rules = std::make_unique<RulesOfThread>();
  ~RulesOwner() {
    rules_of_thread = nullptr;
    rules_ended = true;
  }
};

RulesCache::RulesOfThread* RulesCache::MakeRulesOfThread() {
  if (rules_ended) {
    // A request from a later destructor of the thread: nothing frees what it takes.
    rules_of_thread = std::make_unique<RulesOfThread>().release();
    return rules_of_thread;
  }
  static thread_local const RulesOwner kOwner;
  rules_of_thread = kOwner.rules.get();
  return rules_of_thread;
}

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
  rule->rate_limits = plan.rate_limits;
  if (!plan.rate_limits.empty()) {
    auto common = std::make_shared<KeyRule>();
    common->id = NextRuleId();
    THROTTL_ASSIGN_OR_RETURN(common->rates, RateSet::Create(plan.rate_limits, {}));
    rule->common = std::move(common);
  }
  return std::shared_ptr<const PlanRule>(std::move(rule));
}

absl::StatusOr<std::shared_ptr<const KeyRule>> KeyRule::Create(const Key& key,
                                                               const PlanRule& plan) {
  if (key.addresses.empty() && key.scopes.empty() && !key.quota.has_value() &&
      key.rate_limits.empty()) {
    return plan.common;
  }
  auto rule = std::make_shared<KeyRule>();
  rule->id = NextRuleId();
  rule->scopes = key.scopes;
  THROTTL_ASSIGN_OR_RETURN(rule->rates, RateSet::Create(plan.rate_limits, key.rate_limits));
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

std::shared_ptr<const KeyRule> RulesCache::FindRule(std::uint64_t id) {
  const MutexLock lock(mutex_);
  const auto found = rules_.find(id);
  return found == rules_.end() ? nullptr : found->second;
}

const KeyRule* RulesCache::KeepRule(std::uint64_t id) {
  RulesOfThread* const own = rules_of_thread != nullptr ? rules_of_thread : MakeRulesOfThread();
  std::shared_ptr<const KeyRule>& kept = (*own)[id % kRulesOfThread];
  if (kept == nullptr || kept->id != id) kept = FindRule(id);
  return kept.get();
}

void RulesCache::PutPlan(std::shared_ptr<const PlanRule> plan) {
  const MutexLock lock(mutex_);
  plans_[plan->plan_id] = std::move(plan);
}

void RulesCache::PutRule(std::shared_ptr<const KeyRule> rule) {
  const MutexLock lock(mutex_);
  if (rules_.size() >= rules_max_) rules_.clear();
  rules_[rule->id] = std::move(rule);
}

void RulesCache::Clear() {
  const MutexLock lock(mutex_);
  plans_.clear();
  rules_.clear();
}

}  // namespace throttl::internal
