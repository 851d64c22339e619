// The subject of a quota: what a store counts under which name, and in which period.
//
// Thread safety: pure functions.
//
//   THROTTL_ASSIGN_OR_RETURN(const CountedAs counted, SubjectOf(key, plan, now));
#ifndef THROTTL_SRC_ENGINE_SUBJECT_H_
#define THROTTL_SRC_ENGINE_SUBJECT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/key.h"
#include "throttl/plan.h"
#include "throttl/settle.h"

namespace throttl::internal {

struct CountedAs {
  CounterId counter = {};
  std::optional<absl::Time> period_end = std::nullopt;
  std::optional<Quota> quota =
      std::nullopt;  // std::nullopt: counted over the lifetime, never refused
};

// Whether the key is counted by a quota that all keys of its owner on the plan share.
bool IsOfOwner(const Key& key, const Plan& plan);

// The subject alone.
std::string SubjectNameOf(const Key& key, const Plan& plan);

// Orders all limits that a key ever has: a plan's version fits below a key's.
inline constexpr int kKeyVersionShift = 31;
inline std::int64_t LimitVersionOf(std::int64_t key_version, const Plan& plan) {
  return (key_version << kKeyVersionShift) + plan.version;
}

// The key's own quota stands in for the plan's. The subject is "k:<key id>", or "o:<plan id>:<owner
// id>" for a quota that all keys of an owner on the plan share; both are at most 127 bytes.
absl::StatusOr<CountedAs> SubjectOf(const Key& key, const Plan& plan, absl::Time now);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_SUBJECT_H_
