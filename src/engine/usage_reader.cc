#include "src/engine/usage_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "throttl/quota_store.h"

#include "src/base/status_macros.h"
#include "src/engine/field_rules.h"
#include "src/engine/subject.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {
namespace {

void SetUsed(std::int64_t total, std::int64_t forgiven, std::int64_t added, QuotaState& quota) {
  quota.used = std::max<std::int64_t>(0, total - forgiven);
  if (quota.limit.has_value()) quota.limit = *quota.limit + added;
}

}  // namespace

absl::StatusOr<UsageReader::PlansById> UsageReader::ReadPlans() const {
  THROTTL_ASSIGN_OR_RETURN(std::vector<Plan> plans, plans_.List());
  PlansById by_id;
  for (Plan& plan : plans) by_id.emplace(plan.id, std::move(plan));
  return by_id;
}

absl::StatusOr<Usage> UsageReader::UsageOf(const Key& key, const PlansById& plans) const {
  const auto found = plans.find(key.plan_id);
  // Only the plan of a revoked key may be gone.
  const Plan plan = found == plans.end() ? Plan{.id = key.plan_id} : found->second;
  THROTTL_ASSIGN_OR_RETURN(const CountedAs counted, SubjectOf(key, plan, context_.Now()));
  Usage usage{.key_id = key.id,
              .key_name = key.name,
              .owner_id = key.owner_id,
              .plan_id = key.plan_id,
              .period_start = counted.counter.period_start,
              .last_used_at = key.last_used_at};
  if (counted.quota.has_value()) {
    usage.quota.limit = counted.quota->limit;
    usage.quota.period = counted.quota->period;
  }
  usage.quota.resets_at = counted.period_end;
  if (counted.period_end.has_value()) usage.quota.starts_at = counted.counter.period_start;
  THROTTL_ASSIGN_OR_RETURN(const std::optional<UnsettledSlot> slot,
                           context_.table->Read(counted.counter.subject));
  const std::string key_subject = absl::StrCat("k:", key.id);
  std::optional<UnsettledSlot> own = slot;
  if (counted.counter.subject != key_subject) {
    THROTTL_ASSIGN_OR_RETURN(own, context_.table->Read(key_subject));
  }
  if (own.has_value() && own->last_used_ms != 0) {
    const absl::Time used_at = absl::FromUnixMillis(own->last_used_ms);
    usage.last_used_at = std::max(used_at, usage.last_used_at.value_or(used_at));
  }
  const std::int64_t start_s = absl::ToUnixSeconds(counted.counter.period_start);
  if (slot.has_value() && slot->state.period_start_s == start_s) {
    const std::int64_t total = slot->state.base + slot->totals.units;
    if (slot->carries <= slot->state.carries_seen) {
      SetUsed(total, slot->state.forgiven, slot->state.added, usage.quota);
      return usage;
    }
    THROTTL_ASSIGN_OR_RETURN(const Counter counter, ReadCounter(counted.counter));
    SetUsed(total, counter.forgiven, counter.added, usage.quota);
    return usage;
  }
  THROTTL_ASSIGN_OR_RETURN(const Counter counter, ReadCounter(counted.counter));
  SetUsed(counter.used + counter.forfeited, counter.forgiven, counter.added, usage.quota);
  return usage;
}

absl::StatusOr<Counter> UsageReader::ReadCounter(const CounterId& id) const {
  THROTTL_ASSIGN_OR_RETURN(const std::vector<Counter> counters,
                           context_.store->ReadCounters(std::span(&id, 1)));
  return counters.front();
}

absl::StatusOr<Usage> UsageReader::Get(std::string_view key_id, const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(const Key key, keys_.Get(key_id, caller));
  THROTTL_ASSIGN_OR_RETURN(const PlansById plans, ReadPlans());
  return UsageOf(key, plans);
}

absl::StatusOr<Page<Usage>> UsageReader::List(const KeyQuery& query, const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(const Page<Key> keys, keys_.List(query, caller));
  THROTTL_ASSIGN_OR_RETURN(const PlansById plans, ReadPlans());
  Page<Usage> page{.next_cursor = keys.next_cursor};
  for (const Key& key : keys.items) {
    THROTTL_ASSIGN_OR_RETURN(Usage usage, UsageOf(key, plans));
    page.items.push_back(std::move(usage));
  }
  return page;
}

absl::StatusOr<std::vector<UsageBucket>> UsageReader::History(const UsageQuery& query,
                                                              const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckUsageQuery(query));
  UsageQuery scoped = query;
  if (!query.key_id.empty()) {
    THROTTL_RETURN_IF_ERROR(keys_.Get(query.key_id, caller).status());
  } else if (!caller.owner_id.empty()) {
    if (!query.owner_id.empty()) THROTTL_RETURN_IF_ERROR(CheckOwner(query.owner_id, caller));
    scoped.owner_id = caller.owner_id;
  }
  THROTTL_RETURN_IF_ERROR(settler_.Settle());
  return context_.store->ReadUsage(scoped);
}

absl::StatusOr<UsagePage> UsageReader::ListWithPlans(const KeyQuery& query,
                                                     const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(const PlansById plans, ReadPlans());
  UsagePage page;
  THROTTL_ASSIGN_OR_RETURN(page.usage, List(query, caller));
  for (const Usage& usage : page.usage.items) {
    const auto plan = plans.find(usage.plan_id);
    page.plan_names.push_back(plan == plans.end() ? usage.plan_id : plan->second.name);
  }
  return page;
}

}  // namespace throttl::internal
