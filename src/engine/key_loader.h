// A KeyLoader fetches from the store what a process must know of a key: when its secret is seen for
// the first time, and again after a change.
//
// Thread safety: all methods from any thread.
//
//   if (loader.Load(secret, shape) == LoadOutcome::kLoaded) ... the index has it now
#ifndef THROTTL_SRC_ENGINE_KEY_LOADER_H_
#define THROTTL_SRC_ENGINE_KEY_LOADER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "src/base/mutex.h"
#include "src/base/sip_hash.h"
#include "src/engine/cached_key.h"
#include "src/engine/engine_context.h"
#include "src/engine/key_index.h"
#include "src/engine/key_rules.h"
#include "src/lease/slot_state.h"

namespace throttl::internal {

// How a text may be a secret.
struct SecretShape {
  LocatorKey locator = {};
  bool issued = false;  // in the format that Throttl issues; else perhaps imported
};

// std::nullopt: no key can have such a secret. Does no I/O.
std::optional<SecretShape> ShapeOf(std::string_view secret);

enum class LoadOutcome : std::uint8_t {
  kLoaded = 1,   // or is there again: look again
  kUnknown = 2,  // no key has this secret
  kUnavailable = 3,
};

// What a key's subject is counted by.
struct QuotaOfKey {
  std::shared_ptr<const PlanRule> plan = nullptr;
  std::shared_ptr<const KeyRule> own = nullptr;

  const QuotaRule* rule() const;  // nullptr: no quota
  // What the slot shall be at `now_ms`, but for its base and units.
  SlotAim AimAt(std::int64_t now_ms, std::int64_t limit_version) const;
};

class KeyLoader {
 public:
  // All outlive this.
  KeyLoader(const EngineContext& context, KeyIndex& index, RulesCache& rules, SipKey sip_key)
      : context_(context), index_(index), rules_(rules), sip_key_(sip_key) {}

  // Reads the key of `secret` and puts it into the index. One that is not of our format is looked
  // up only while the store holds an imported one. More than kUnknownPerSecond secrets in a second
  // that no key has (that many at once) make it answer kUnavailable without asking.
  LoadOutcome Load(std::string_view secret, const SecretShape& shape, std::int64_t now_ms);

  // std::nullopt: it has changed, or was forgotten: invalidate the key, and load it again.
  std::optional<QuotaOfKey> QuotaOf(const KeyIndex::Found& found, std::string_view plan_id);

  static constexpr std::int64_t kUnknownPerSecond = 1000;

 private:
  absl::StatusOr<bool> MayBeImported();
  bool MayAsk(std::int64_t now_ms);
  void CountUnknown(std::int64_t now_ms);
  absl::StatusOr<LoadOutcome> TryLoad(std::string_view secret, const SecretShape& shape);
  absl::StatusOr<std::shared_ptr<const PlanRule>> PlanOf(const Key& key);
  absl::StatusOr<CachedKey> MakeCached(const KeyRecord& record, const SecretRecord& used,
                                       std::string_view secret);

  const EngineContext& context_;
  KeyIndex& index_;
  RulesCache& rules_;
  const SipKey sip_key_;
  Mutex mutex_;
  // What the store answered to HasImportedSecrets, as of that generation of keys; 0: none yet.
  bool has_imported_ THROTTL_GUARDED_BY(mutex_) = true;
  std::uint64_t imported_as_of_ THROTTL_GUARDED_BY(mutex_) = 0;
  std::int64_t unknown_until_us_ THROTTL_GUARDED_BY(mutex_) = 0;  // arrival time of the bucket
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_LOADER_H_
