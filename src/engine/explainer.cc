#include "src/engine/explainer.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/engine/key_rules.h"
#include "src/engine/rate_pass.h"

namespace throttl::internal {
namespace {

class ContextClock final : public RatePass::RateClock {
 public:
  explicit ContextClock(const EngineContext& context) : context_(context) {}
  std::int64_t ReadNs() const override {
    return absl::ToInt64Nanoseconds(context_.options.clock->Read().monotonic);
  }
  std::int64_t ReadFineNs() const override { return ReadNs(); }

 private:
  const EngineContext& context_;
};

const RateLimit* FindLimit(const std::vector<RateLimit>& limits, std::string_view name) {
  const auto found = std::find_if(limits.begin(), limits.end(),
                                  [&](const RateLimit& limit) { return limit.name == name; });
  return found == limits.end() ? nullptr : &*found;
}

// What is decided before limits are looked at; kValid: nothing refuses.
absl::StatusOr<DecisionCode> CodeOfIdentity(const Key& key, const Plan& plan,
                                            const Request& request, absl::Time now) {
  if (key.revoked_at.has_value() || !key.enabled) return DecisionCode::kInactive;
  if (key.expires_at.has_value() && now >= *key.expires_at) return DecisionCode::kExpired;
  THROTTL_ASSIGN_OR_RETURN(const std::shared_ptr<const PlanRule> plan_rule, PlanRule::Create(plan));
  THROTTL_ASSIGN_OR_RETURN(const std::shared_ptr<const KeyRule> made,
                           KeyRule::Create(key, *plan_rule));
  const KeyRule none;
  const KeyRule& rule = made == nullptr ? none : *made;
  if (!rule.AllowsAddress(request.address)) return DecisionCode::kForbidden;
  return rule.HasScopes(request.scope) ? DecisionCode::kValid : DecisionCode::kScopeMissing;
}

ExplainedLimit ExplainRate(const RatePass::Seen& seen, const RateLimit& limit, absl::Time now) {
  ExplainedLimit explained{.kind = LimitKind::kRateLimit,
                           .name = limit.name,
                           .endpoint = limit.endpoint,
                           .shadow = limit.shadow,
                           .refuses = seen.refuses,
                           .limit = limit.limit,
                           .at_rest = seen.rule->burst,
                           .remaining = seen.remaining,
                           .window = limit.window,
                           .resets_at = now + absl::Nanoseconds(seen.rests_in_ns)};
  if (seen.refuses && seen.wait_ns != RatePass::kNever) {
    explained.retry_after = absl::Nanoseconds(seen.wait_ns);
  }
  return explained;
}

// Of the limits that refuse, the one with the longest wait decides, as in Validate.
DecisionCode CodeOfLimits(const std::vector<ExplainedLimit>& limits) {
  DecisionCode code = DecisionCode::kValid;
  absl::Duration longest = absl::ZeroDuration();
  for (const ExplainedLimit& limit : limits) {
    const absl::Duration wait = limit.retry_after.value_or(absl::InfiniteDuration());
    if (!limit.refuses || limit.shadow || wait < longest) continue;
    longest = wait;
    code =
        limit.kind == LimitKind::kQuota ? DecisionCode::kQuotaExceeded : DecisionCode::kRateLimited;
  }
  return code;
}

}  // namespace

absl::StatusOr<Explanation> Explainer::Explain(std::string_view key_id, const Request& request,
                                               const Caller& caller) const {
  if (request.cost < 0 || request.cost > kCostMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("cost is ", request.cost, ", 0 to ", kCostMax, " are allowed"));
  }
  THROTTL_ASSIGN_OR_RETURN(const Key key, keys_.Get(key_id, caller));
  absl::StatusOr<Plan> found = plans_.Get(key.plan_id);
  // Only a revoked key may be on a plan that is gone.
  if (absl::IsNotFound(found.status())) found = Plan{.id = key.plan_id};
  THROTTL_ASSIGN_OR_RETURN(const Plan plan, std::move(found));
  Explanation explanation{.at = context_.options.clock->Read().wall};
  THROTTL_ASSIGN_OR_RETURN(explanation.code, CodeOfIdentity(key, plan, request, explanation.at));
  THROTTL_RETURN_IF_ERROR(AddRates(key, plan, request, explanation));
  THROTTL_RETURN_IF_ERROR(AddQuota(key, plan, request, caller, explanation));
  if (explanation.code == DecisionCode::kValid) explanation.code = CodeOfLimits(explanation.limits);
  return explanation;
}

absl::Status Explainer::AddRates(const Key& key, const Plan& plan, const Request& request,
                                 Explanation& explanation) const {
  THROTTL_ASSIGN_OR_RETURN(const RateSet set, RateSet::Create(plan.rate_limits, key.rate_limits));
  const ContextClock clock(context_);
  RatePass pass(*context_.table, gate_, clock);
  pass.Begin(set, request, std::string_view(key.id));
  pass.Look(clock.ReadNs());
  pass.Leave();
  for (std::size_t i = 0; i < pass.size(); ++i) {
    const RatePass::Seen seen = pass.At(i);
    const RateLimit* const own = FindLimit(key.rate_limits, seen.rule->name.view());
    const RateLimit* const limit =
        own != nullptr ? own : FindLimit(plan.rate_limits, seen.rule->name.view());
    explanation.limits.push_back(ExplainRate(seen, *limit, explanation.at));
    explanation.limits.back().of_key = own != nullptr;
  }
  return absl::OkStatus();
}

absl::Status Explainer::AddQuota(const Key& key, const Plan& plan, const Request& request,
                                 const Caller& caller, Explanation& explanation) const {
  const std::optional<Quota>& quota = key.quota.has_value() ? key.quota : plan.quota;
  if (!quota.has_value()) return absl::OkStatus();
  THROTTL_ASSIGN_OR_RETURN(const Usage usage, usage_.Get(key.id, caller));
  // Of this period: a carry-over may have added to it.
  const std::int64_t limit = usage.quota.limit.value_or(quota->limit);
  const std::int64_t ceiling = limit + limit * quota->soft_percent / 100;
  const std::int64_t next_ceiling = quota->limit + quota->limit * quota->soft_percent / 100;
  ExplainedLimit explained{.kind = LimitKind::kQuota,
                           .name = std::string(PeriodName(quota->period)),
                           .of_key = key.quota.has_value(),
                           .refuses = usage.quota.used + request.cost > ceiling,
                           .limit = limit,
                           .at_rest = ceiling,
                           .remaining = std::max<std::int64_t>(0, ceiling - usage.quota.used),
                           .resets_at = usage.quota.resets_at};
  if (usage.quota.resets_at.has_value()) {
    explained.window = *usage.quota.resets_at - usage.quota.starts_at;
    if (explained.refuses && request.cost <= next_ceiling) {
      explained.retry_after = *usage.quota.resets_at - explanation.at;
    }
  }
  explanation.limits.push_back(std::move(explained));
  return absl::OkStatus();
}

}  // namespace throttl::internal
