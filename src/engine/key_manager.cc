#include "src/engine/key_manager.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "src/base/status_macros.h"
#include "src/base/text_check.h"
#include "src/engine/field_rules.h"
#include "src/key/secret_format.h"

namespace throttl::internal {
namespace {

// How often an id or locator that is taken is drawn anew, which nobody will see happen.
constexpr int kDrawsMax = 4;

absl::Time ToWholeMillis(absl::Time time) { return absl::FromUnixMillis(absl::ToUnixMillis(time)); }

absl::Status NoSuchKey(std::string_view key_id) {
  return absl::NotFoundError(absl::StrCat("no key has the id ", Quoted(key_id)));
}

absl::Status IsRevoked(std::string_view key_id) {
  return absl::FailedPreconditionError(
      absl::StrCat("key ", Quoted(key_id), " is revoked, which is for good"));
}

// The settings that differ, by name, for the event.
std::vector<std::string> ChangedSettings(const Key& before, const Key& after) {
  std::vector<std::string> changed;
  const auto note = [&changed](bool same, const char* name) {
    if (!same) changed.emplace_back(name);
  };
  note(before.plan_id == after.plan_id, "plan_id");
  note(before.name == after.name, "name");
  note(before.enabled == after.enabled, "enabled");
  note(before.expires_at == after.expires_at, "expires_at");
  note(before.scopes == after.scopes, "scopes");
  note(before.addresses == after.addresses, "addresses");
  note(before.quota == after.quota, "quota");
  note(before.rate_limits == after.rate_limits, "rate_limits");
  note(before.metadata == after.metadata, "metadata");
  note(before.secret_prefix == after.secret_prefix, "secret_prefix");
  return changed;
}

std::string UpdateData(const Key& before, const Key& after, CarryOver carry_over) {
  std::vector<std::string> names = ChangedSettings(before, after);
  for (std::string& name : names) name = absl::StrCat("\"", name, "\"");
  return absl::StrCat("{\"version\":", after.version, ",\"changed\":[", absl::StrJoin(names, ","),
                      "]", carry_over == CarryOver::kDifference ? "" : CarryOverMember(carry_over),
                      "}");
}

// The old secrets of a key that stay beside a new one: the newest, until the overlap ends.
std::vector<SecretRecord> StillValid(std::vector<SecretRecord> secrets, absl::Duration overlap,
                                     absl::Time now) {
  std::vector<SecretRecord> kept;
  if (secrets.empty()) return kept;
  SecretRecord& newest = secrets.front();
  const absl::Time end = ToWholeMillis(now + overlap);
  const absl::Time expires_at = std::min(newest.info.expires_at.value_or(end), end);
  if (expires_at <= now) return kept;
  newest.info.expires_at = expires_at;
  kept.push_back(std::move(newest));
  return kept;
}

}  // namespace

Key WithSecretInfo(const KeyRecord& record) {
  Key key = record.key;
  key.secrets.clear();
  for (const SecretRecord& secret : record.secrets) key.secrets.push_back(secret.info);
  return key;
}

absl::Status CheckOwner(std::string_view owner_id, const Caller& caller) {
  if (caller.owner_id.empty() || caller.owner_id == owner_id) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("no owner has the id ", Quoted(owner_id)));
}

absl::Status CheckPlanExists(const PlanManager& plans, std::string_view plan_id) {
  THROTTL_ASSIGN_OR_RETURN(const std::optional<Plan> plan, plans.Find(plan_id));
  if (plan.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("plan_id is ", Quoted(plan_id), ", which no plan has"));
}

Key SettingsOf(const Key& key) {
  Key settings = key;
  if (settings.expires_at.has_value()) settings.expires_at = ToWholeMillis(*settings.expires_at);
  settings.created_at = absl::UnixEpoch();
  settings.revoked_at = std::nullopt;
  settings.last_used_at = std::nullopt;
  settings.secrets.clear();
  settings.version = 0;
  return settings;
}

absl::StatusOr<KeyManager::NewSecret> KeyManager::MakeSecret(const Key& key) const {
  const std::string& prefix =
      key.secret_prefix.empty() ? context_.options.secret_prefix : key.secret_prefix;
  NewSecret made;
  THROTTL_ASSIGN_OR_RETURN(made.secret, GenerateSecret(prefix, context_.options.random));
  const std::optional<SecretParts> parts = ParseSecret(made.secret.Reveal());
  if (!parts.has_value()) return absl::InternalError("a new secret does not have its own form");
  made.record.info = {.locator = std::string(parts->locator),
                      .last4 = std::string(parts->last4),
                      .created_at = context_.Now()};
  made.record.pepper_version = context_.peppers.newest_version();
  THROTTL_ASSIGN_OR_RETURN(made.record.digest, context_.peppers.Digest(Sha256(made.secret.Reveal()),
                                                                       made.record.pepper_version));
  return made;
}

absl::StatusOr<IssuedKey> KeyManager::TryCreate(const Key& key, const Caller& caller) const {
  KeyRecord record{.key = SettingsOf(key)};
  if (record.key.id.empty()) {
    THROTTL_ASSIGN_OR_RETURN(record.key.id, context_.NewId("key_"));
  }
  record.key.created_at = context_.Now();
  record.key.version = 1;
  THROTTL_ASSIGN_OR_RETURN(NewSecret made, MakeSecret(key));
  record.secrets.push_back(std::move(made.record));
  THROTTL_ASSIGN_OR_RETURN(ChangeSet changes,
                           context_.NewChange({.type = event_type::kKeyCreated,
                                               .owner_id = record.key.owner_id,
                                               .subject_id = record.key.id,
                                               .data = absl::StrCat("{\"version\":1,\"plan_id\":\"",
                                                                    record.key.plan_id, "\"}")},
                                              caller));
  changes.put_keys.push_back(record);
  THROTTL_RETURN_IF_ERROR(context_.change_gate->Apply(changes));
  return IssuedKey{.key = WithSecretInfo(record), .secret = std::move(made.secret)};
}

absl::StatusOr<IssuedKey> KeyManager::Create(const Key& key, const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckKey(key));
  THROTTL_RETURN_IF_ERROR(CheckOwner(key.owner_id, caller));
  for (int draws = 1;; ++draws) {
    absl::StatusOr<IssuedKey> issued = TryCreate(key, caller);
    if (absl::IsFailedPrecondition(issued.status())) {
      // The store found no such plan: say it as an error of the call.
      THROTTL_RETURN_IF_ERROR(CheckPlanExists(plans_, key.plan_id));
    }
    if (!absl::IsAlreadyExists(issued.status()) || draws == kDrawsMax) return issued;
    if (key.id.empty()) continue;
    // Either the id is taken, or the locator.
    const std::string id = key.id;
    THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> taken,
                             context_.store->ReadKeys(std::span(&id, 1)));
    if (!taken.empty()) return issued;
  }
}

absl::StatusOr<KeyRecord> KeyManager::Read(std::string_view key_id, const Caller& caller) const {
  // No key has such an id, and a store need not cope with it.
  if (!CheckKeyId(key_id).ok()) return NoSuchKey(key_id);
  const std::string id(key_id);
  THROTTL_ASSIGN_OR_RETURN(std::vector<KeyRecord> records,
                           context_.store->ReadKeys(std::span(&id, 1)));
  if (records.empty() || !CheckOwner(records.front().key.owner_id, caller).ok()) {
    return NoSuchKey(key_id);
  }
  return std::move(records.front());
}

absl::StatusOr<IssuedKey> KeyManager::TryRotate(std::string_view key_id,
                                                const RotateOptions& options,
                                                const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(KeyRecord record, Read(key_id, caller));
  if (record.key.revoked_at.has_value()) return IsRevoked(key_id);
  THROTTL_ASSIGN_OR_RETURN(NewSecret made, MakeSecret(record.key));
  std::vector<SecretRecord> kept =
      StillValid(std::move(record.secrets), options.overlap, context_.Now());
  record.secrets.clear();
  record.secrets.push_back(std::move(made.record));
  for (SecretRecord& old : kept) record.secrets.push_back(std::move(old));
  ++record.key.version;
  THROTTL_ASSIGN_OR_RETURN(
      ChangeSet changes,
      context_.NewChange(
          {.type = event_type::kKeyRotated,
           .owner_id = record.key.owner_id,
           .subject_id = record.key.id,
           .data = absl::StrCat("{\"version\":", record.key.version, ",\"locator\":\"",
                                record.secrets.front().info.locator, "\",\"overlap_ms\":",
                                absl::ToInt64Milliseconds(options.overlap), "}")},
          caller));
  changes.put_keys.push_back(record);
  absl::Status status = context_.change_gate->Apply(changes);
  // A locator that is taken is drawn again, as after a lost race.
  if (absl::IsAlreadyExists(status)) return absl::AbortedError(status.message());
  THROTTL_RETURN_IF_ERROR(status);
  return IssuedKey{.key = WithSecretInfo(record), .secret = std::move(made.secret)};
}

absl::StatusOr<IssuedKey> KeyManager::Rotate(std::string_view key_id, const RotateOptions& options,
                                             const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckRotateOptions(options));
  return RetryConflicts([&] { return TryRotate(key_id, options, caller); });
}

absl::StatusOr<Plan> KeyManager::PlanOf(const Key& key) const {
  THROTTL_ASSIGN_OR_RETURN(const std::optional<Plan> plan, plans_.Find(key.plan_id));
  return plan.value_or(Plan{.id = key.plan_id});
}

absl::Status KeyManager::ApplyUpdate(const Key& before, ChangeSet changes,
                                     CarryOver carry_over) const {
  const Key after = changes.put_keys.front().key;
  THROTTL_ASSIGN_OR_RETURN(const Plan plan_before, PlanOf(before));
  THROTTL_ASSIGN_OR_RETURN(const Plan plan_after, PlanOf(after));
  THROTTL_RETURN_IF_ERROR(CheckCarryOver({before, plan_before}, {after, plan_after}, carry_over));
  if (carry_over == CarryOver::kDifference) return context_.change_gate->Apply(changes);
  // Reads the plans again: none is changed meanwhile.
  const auto make_rows = [&]() -> absl::StatusOr<std::vector<CarryRow>> {
    THROTTL_ASSIGN_OR_RETURN(const Plan old_plan, PlanOf(before));
    THROTTL_ASSIGN_OR_RETURN(const Plan new_plan, PlanOf(after));
    return carry_.OfKey({before, old_plan}, {after, new_plan}, carry_over);
  };
  return context_.change_gate->Apply(std::move(changes), absl::StrCat("k:", before.id), make_rows);
}

absl::StatusOr<Key> KeyManager::Update(const Key& key, const Caller& caller,
                                       CarryOver carry_over) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_ASSIGN_OR_RETURN(KeyRecord record, Read(key.id, caller));
  THROTTL_RETURN_IF_ERROR(CheckKey(key));
  const Key before = record.key;
  if (key.owner_id != before.owner_id) {
    return absl::InvalidArgumentError(absl::StrCat(
        "owner_id is ", Quoted(key.owner_id), ", and the key belongs to another owner for life"));
  }
  if (before.revoked_at.has_value()) return IsRevoked(key.id);
  if (key.version != before.version) {
    return absl::AbortedError(absl::StrCat("version is ", key.version, ", and key ", Quoted(key.id),
                                           " has version ", before.version,
                                           ": it was changed since it was read"));
  }
  if (key.plan_id != before.plan_id) THROTTL_RETURN_IF_ERROR(CheckPlanExists(plans_, key.plan_id));
  record.key = SettingsOf(key);
  record.key.created_at = before.created_at;
  record.key.last_used_at = before.last_used_at;
  record.key.version = before.version + 1;
  THROTTL_ASSIGN_OR_RETURN(ChangeSet changes,
                           context_.NewChange({.type = event_type::kKeyUpdated,
                                               .owner_id = before.owner_id,
                                               .subject_id = before.id,
                                               .data = UpdateData(before, record.key, carry_over)},
                                              caller));
  changes.put_keys.push_back(record);
  THROTTL_RETURN_IF_ERROR(ApplyUpdate(before, std::move(changes), carry_over));
  return WithSecretInfo(record);
}

absl::Status KeyManager::TryRevoke(std::string_view key_id, const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(KeyRecord record, Read(key_id, caller));
  if (record.key.revoked_at.has_value()) return context_.change_gate->Confirm(record.key.id);
  record.key.revoked_at = context_.Now();
  ++record.key.version;
  THROTTL_ASSIGN_OR_RETURN(
      ChangeSet changes,
      context_.NewChange({.type = event_type::kKeyRevoked,
                          .owner_id = record.key.owner_id,
                          .subject_id = record.key.id,
                          .data = absl::StrCat("{\"version\":", record.key.version, "}")},
                         caller));
  // The secrets stay, so that their use is answered with "inactive" and not with "not found".
  changes.put_keys.push_back(std::move(record));
  return context_.change_gate->Apply(changes);
}

absl::Status KeyManager::Revoke(std::string_view key_id, const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  return RetryConflicts([&] { return TryRevoke(key_id, caller); });
}

absl::StatusOr<Key> KeyManager::Get(std::string_view key_id, const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_ASSIGN_OR_RETURN(const KeyRecord record, Read(key_id, caller));
  return WithSecretInfo(record);
}

absl::StatusOr<Page<Key>> KeyManager::List(const KeyQuery& query, const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(CheckKeyQuery(query));
  // Another owner has no keys that this caller may know of.
  if (!query.owner_id.empty() && !CheckOwner(query.owner_id, caller).ok()) return Page<Key>{};
  KeyQuery scoped = query;
  if (!caller.owner_id.empty()) scoped.owner_id = caller.owner_id;
  THROTTL_ASSIGN_OR_RETURN(const Page<KeyRecord> records, context_.store->ListKeys(scoped));
  Page<Key> page{.next_cursor = records.next_cursor};
  for (const KeyRecord& record : records.items) page.items.push_back(WithSecretInfo(record));
  return page;
}

}  // namespace throttl::internal
