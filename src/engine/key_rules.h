// What a process keeps of plans and keys beside the key index: what is needed when a subject has no
// units in hand, and for keys with rate limits, addresses, scopes or a quota of their own.
//
// Thread safety: rules are constant once made, and shared; RulesCache is safe from any thread.
//
//   const std::shared_ptr<const PlanRule> plan = rules.FindPlan("free");
#ifndef THROTTL_SRC_ENGINE_KEY_RULES_H_
#define THROTTL_SRC_ENGINE_KEY_RULES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/key.h"
#include "throttl/plan.h"

#include "src/base/mutex.h"
#include "src/calendar/quota_calendar.h"
#include "src/engine/rate_rules.h"
#include "src/lease/slot_state.h"
#include "src/policy/cidr.h"

namespace throttl::internal {

// A quota with its calendar.
struct QuotaRule {
  Quota quota = {};
  QuotaCalendar calendar;
  static absl::StatusOr<QuotaRule> Create(const Quota& quota);
};

struct KeyRule;

struct PlanRule {
  std::string plan_id = {};
  std::optional<QuotaRule> quota = std::nullopt;
  PackedPercents alert_percents = {};
  std::vector<RateLimit> rate_limits = {};
  // For keys that have nothing of their own; nullptr: no rate limits either.
  std::shared_ptr<const KeyRule> common = nullptr;
  std::int64_t version = 0;
  static absl::StatusOr<std::shared_ptr<const PlanRule>> Create(const Plan& plan);
};

// Only of keys that have one of these.
struct KeyRule {
  std::uint64_t id = 0;                           // no other rule of this process has it
  RateSet rates = {};                             // the plan's and the key's
  std::optional<QuotaRule> quota = std::nullopt;  // of the key itself
  std::vector<Cidr> addresses = {};               // empty: any
  std::vector<std::string> scopes = {};
  // nullptr: there is nothing to look at.
  static absl::StatusOr<std::shared_ptr<const KeyRule>> Create(const Key& key,
                                                               const PlanRule& plan);

  // `text` is not read when the key has no list of addresses.
  bool AllowsAddress(std::string_view text) const;
  // Whether the key has all of `wanted`, which are separated by spaces.
  bool HasScopes(std::string_view wanted) const;
};

// At most `rules_max` rules of keys; then all of them are forgotten, and read again when needed.
class RulesCache {
 public:
  explicit RulesCache(std::size_t rules_max) : rules_max_(rules_max) {}

  std::shared_ptr<const PlanRule> FindPlan(std::string_view plan_id);
  void PutPlan(std::shared_ptr<const PlanRule> plan);
  void PutRule(std::shared_ptr<const KeyRule> rule);
  // nullptr: it was forgotten.
  std::shared_ptr<const KeyRule> FindRule(std::uint64_t id);
  // The same without a lock for the rules that a thread used last. Each thread keeps up to
  // kRulesOfThread of them alive, also when they were forgotten. What is returned lives until the
  // thread's next call.
  const KeyRule* UseRule(std::uint64_t id) {
    if (rules_of_thread != nullptr) {
      const KeyRule* const kept = (*rules_of_thread)[id % kRulesOfThread].get();
      if (kept != nullptr && kept->id == id) return kept;
    }
    return KeepRule(id);
  }
  static constexpr std::size_t kRulesOfThread = 64;
  void Clear();

  // Around a fork: no thread is inside then.
  void Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Lock(); }
  void Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex_.Unlock(); }

 private:
  using RulesOfThread = std::array<std::shared_ptr<const KeyRule>, kRulesOfThread>;
  // Ends with its thread.
  struct RulesOwner;

  static RulesOfThread* MakeRulesOfThread();
  const KeyRule* KeepRule(std::uint64_t id);

  // Without a guard, for what a request reads; nullptr before the first use and after the end.
  static constinit thread_local RulesOfThread* rules_of_thread;

  const std::size_t rules_max_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<const PlanRule>, std::less<>> plans_
      THROTTL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::uint64_t, std::shared_ptr<const KeyRule>> rules_
      THROTTL_GUARDED_BY(mutex_);
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_RULES_H_
