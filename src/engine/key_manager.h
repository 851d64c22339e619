// A KeyManager makes, rotates, changes, revokes and finds keys.
//
// Thread safety: as Engine.
//
//   THROTTL_ASSIGN_OR_RETURN(const IssuedKey issued, keys.Create({.owner_id = "acme"}, caller));
#ifndef THROTTL_SRC_ENGINE_KEY_MANAGER_H_
#define THROTTL_SRC_ENGINE_KEY_MANAGER_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "src/engine/engine_context.h"
#include "src/engine/plan_manager.h"

namespace throttl::internal {

class KeyManager {
 public:
  // All outlive this.
  KeyManager(const EngineContext& context, const PlanManager& plans, const CarryPlanner& carry)
      : context_(context), plans_(plans), carry_(carry) {}

  // What Engine's methods of these names promise.
  absl::StatusOr<IssuedKey> Create(const Key& key, const Caller& caller) const;
  absl::StatusOr<IssuedKey> Rotate(std::string_view key_id, const RotateOptions& options,
                                   const Caller& caller) const;
  absl::StatusOr<Key> Update(const Key& key, const Caller& caller, CarryOver carry_over) const;
  absl::Status Revoke(std::string_view key_id, const Caller& caller) const;
  absl::StatusOr<Key> Get(std::string_view key_id, const Caller& caller) const;
  absl::StatusOr<Page<Key>> List(const KeyQuery& query, const Caller& caller) const;

 private:
  struct NewSecret {
    Secret secret = {};
    SecretRecord record = {};
  };
  absl::StatusOr<NewSecret> MakeSecret(const Key& key) const;
  absl::StatusOr<IssuedKey> TryCreate(const Key& key, const Caller& caller) const;
  absl::StatusOr<IssuedKey> TryRotate(std::string_view key_id, const RotateOptions& options,
                                      const Caller& caller) const;
  // Applies the change of `before` that is in `changes`.
  absl::Status ApplyUpdate(const Key& before, ChangeSet changes, CarryOver carry_over) const;
  // A revoked key's plan may be gone: then one without a quota.
  absl::StatusOr<Plan> PlanOf(const Key& key) const;
  absl::Status TryRevoke(std::string_view key_id, const Caller& caller) const;
  // NotFound also for a key of another owner than the caller's.
  absl::StatusOr<KeyRecord> Read(std::string_view key_id, const Caller& caller) const;

  const EngineContext& context_;
  const PlanManager& plans_;
  const CarryPlanner& carry_;
};

// The key with what may be known of its secrets.
Key WithSecretInfo(const KeyRecord& record);

// NotFound when the caller is an owner, and another one than `owner_id`.
absl::Status CheckOwner(std::string_view owner_id, const Caller& caller);

// InvalidArgument when there is no such plan.
absl::Status CheckPlanExists(const PlanManager& plans, std::string_view plan_id);

// The settings of `key` as they are stored: times in whole milliseconds, nothing that Throttl sets.
Key SettingsOf(const Key& key);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_MANAGER_H_
