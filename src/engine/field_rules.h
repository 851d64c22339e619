// Field rules check what a caller passes to the engine, before anything is read or written.
//
// Every error is InvalidArgument, "<field> is <value>, <bound>", with the path of the field as in
// "seed_plans[1].rate_limits[0].limit". Texts are quoted, escaped and cut; of one that is too long
// only the length is told, since it may be a secret that was put in the wrong place. Empty, too
// long, not UTF-8 and control characters are told apart. All texts must be UTF-8.
//
// Thread safety: pure functions.
//
//   THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
//   THROTTL_RETURN_IF_ERROR(CheckKey(key));
#ifndef THROTTL_SRC_ENGINE_FIELD_RULES_H_
#define THROTTL_SRC_ENGINE_FIELD_RULES_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

#include "throttl/engine.h"
#include "throttl/key.h"
#include "throttl/plan.h"

namespace throttl::internal {

enum class QuotaHolder : std::uint8_t { kPlan = 1, kKey = 2 };

// 1..kKeyIdBytesMax bytes without control characters; the field is "key_id".
absl::Status CheckKeyId(std::string_view key_id);

// 1..kPlanIdBytesMax of [a-z0-9_.-]; the field is "plan_id".
absl::Status CheckPlanId(std::string_view plan_id);

// A key's own quota counts that key only (QuotaScope::kKey).
absl::Status CheckQuota(const Quota& quota, QuotaHolder holder);

absl::Status CheckPlan(const Plan& plan);

// The settings, and the id unless it is empty. Not what Throttl sets.
absl::Status CheckKey(const Key& key);

// As CheckKey, but the id must be there.
absl::Status CheckImportedKey(const ImportedKey& imported);

absl::Status CheckKeyQuery(const KeyQuery& query);
absl::Status CheckUsageQuery(const UsageQuery& query);
absl::Status CheckCaller(const Caller& caller);
absl::Status CheckRotateOptions(const RotateOptions& options);

// All but the peppers.
absl::Status CheckEngineOptions(const EngineOptions& options);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_FIELD_RULES_H_
