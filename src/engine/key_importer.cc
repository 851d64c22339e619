#include "src/engine/key_importer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/sha256.h"
#include "src/base/status_macros.h"
#include "src/engine/field_rules.h"
#include "src/engine/key_manager.h"
#include "src/engine/subject.h"
#include "src/key/secret_format.h"

namespace throttl::internal {
namespace {

// The holder of what one imported key had used: the same one when the import is repeated, so that
// nothing is counted twice.
HolderId ImportHolder(const ImportedKey& imported) {
  std::string text = absl::StrCat("throttl import ", imported.key.id, " ");
  text.append(reinterpret_cast<const char*>(imported.digest.data()), imported.digest.size());
  const Sha256Digest hash = Sha256(text);
  std::uint64_t bits = 0;
  std::memcpy(&bits, hash.data(), sizeof(bits));
  return HolderId{bits};
}

absl::flat_hash_map<std::string, KeyRecord> ById(std::vector<KeyRecord>&& records) {
  absl::flat_hash_map<std::string, KeyRecord> map;
  for (KeyRecord& record : records) {
    std::string id = record.key.id;
    map.emplace(std::move(id), std::move(record));
  }
  return map;
}

absl::flat_hash_set<std::string> LocatorsOf(const std::vector<KeyRecord>& records) {
  absl::flat_hash_set<std::string> locators;
  for (const KeyRecord& record : records) {
    for (const SecretRecord& secret : record.secrets) locators.insert(secret.info.locator);
  }
  return locators;
}

}  // namespace

absl::Status KeyImporter::Check(std::span<const ImportedKey> keys, const Caller& caller) const {
  absl::flat_hash_set<std::string> plan_ids;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    absl::Status status = CheckImportedKey(keys[i]);
    if (status.ok()) status = CheckOwner(keys[i].key.owner_id, caller);
    if (status.ok() && plan_ids.insert(keys[i].key.plan_id).second) {
      status = CheckPlanExists(plans_, keys[i].key.plan_id);
    }
    if (status.ok()) continue;
    return absl::Status(status.code(), absl::StrCat("keys[", i, "]: ", status.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> KeyImporter::HasDigest(const KeyRecord& record,
                                            const Sha256Digest& digest) const {
  for (const SecretRecord& secret : record.secrets) {
    THROTTL_ASSIGN_OR_RETURN(const Sha256Digest expected,
                             context_.peppers.Digest(digest, secret.pepper_version));
    if (DigestsEqual(expected, secret.digest)) return true;
  }
  return false;
}

absl::Status KeyImporter::AddToChange(const ImportedKey& imported, const Caller& caller,
                                      ChangeSet& changes) const {
  KeyRecord record{.key = SettingsOf(imported.key)};
  record.key.created_at = context_.Now();
  record.key.version = 1;
  SecretRecord secret{
      .info = {.locator = ImportedLocator(imported.digest), .created_at = record.key.created_at},
      .pepper_version = context_.peppers.newest_version()};
  THROTTL_ASSIGN_OR_RETURN(secret.digest,
                           context_.peppers.Digest(imported.digest, secret.pepper_version));
  record.secrets.push_back(std::move(secret));
  THROTTL_ASSIGN_OR_RETURN(
      Event event,
      context_.NewEvent({.type = event_type::kKeyCreated,
                         .owner_id = record.key.owner_id,
                         .subject_id = record.key.id,
                         .data = absl::StrCat("{\"version\":1,\"plan_id\":\"", record.key.plan_id,
                                              "\",\"imported\":true}")},
                        caller));
  changes.events.push_back(std::move(event));
  changes.put_keys.push_back(std::move(record));
  return absl::OkStatus();
}

// Before the key is made: a kill in between leaves a counter that no key spends from yet, and the
// import that is repeated finds it. Two steps: the holder takes units, then says that it spent
// them.
absl::Status KeyImporter::WriteUsage(const ImportedKey& imported) const {
  if (imported.used == 0) return absl::OkStatus();
  THROTTL_ASSIGN_OR_RETURN(const Plan plan, plans_.Get(imported.key.plan_id));
  const absl::Time now = context_.Now();
  THROTTL_ASSIGN_OR_RETURN(const CountedAs counted, SubjectOf(imported.key, plan, now));
  // A larger `used` has a larger seq, so that a repeated import may raise what an earlier one
  // wrote. Without a limit of its own the row takes all that was used, also when that is beyond the
  // limit.
  SettleRow row{.counter = counted.counter,
                .period_end = counted.period_end,
                .seq = 2 * imported.used + 1,
                .want = imported.used};
  SettleBatch batch{.holder = ImportHolder(imported), .now = now, .rows = {row}};
  THROTTL_ASSIGN_OR_RETURN(const std::vector<SettleReply> granted, context_.store->Settle(batch));
  if (granted.front().code != SettleCode::kApplied)
    return absl::OkStatus();  // there is more already
  row.seq = 2 * imported.used + 2;
  row.used = granted.front().allowance;
  row.keep = row.used;
  row.want = 0;
  row.close = true;
  batch.rows = {row};
  return context_.store->Settle(batch).status();
}

absl::StatusOr<ImportReport> KeyImporter::TryBatch(std::span<const ImportedKey> keys,
                                                   const Caller& caller) const {
  std::vector<std::string> ids;
  std::vector<std::string> locators;
  for (const ImportedKey& imported : keys) {
    ids.push_back(imported.key.id);
    locators.push_back(ImportedLocator(imported.digest));
  }
  THROTTL_ASSIGN_OR_RETURN(std::vector<KeyRecord> stored, context_.store->ReadKeys(ids));
  THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> taken, context_.store->FindKeys(locators));
  absl::flat_hash_map<std::string, KeyRecord> by_id = ById(std::move(stored));
  absl::flat_hash_set<std::string> taken_locators = LocatorsOf(taken);

  ImportReport report;
  ChangeSet changes;
  THROTTL_ASSIGN_OR_RETURN(changes.id, context_.NewId("chg_"));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const ImportedKey& imported = keys[i];
    if (auto it = by_id.find(imported.key.id); it != by_id.end()) {
      THROTTL_ASSIGN_OR_RETURN(const bool same, HasDigest(it->second, imported.digest));
      if (same && it->second.key.owner_id == imported.key.owner_id) {
        ++report.unchanged;
      } else {
        report.conflicts.push_back(imported.key.id);
      }
      continue;
    }
    if (!taken_locators.insert(locators[i]).second) {
      report.conflicts.push_back(imported.key.id);
      continue;
    }
    THROTTL_RETURN_IF_ERROR(WriteUsage(imported));
    THROTTL_RETURN_IF_ERROR(AddToChange(imported, caller, changes));
    by_id.emplace(imported.key.id, changes.put_keys.back());
    ++report.imported;
  }
  if (changes.put_keys.empty()) return report;
  absl::Status status = context_.change_gate->Apply(changes);
  // Another call made one of these keys meanwhile: look again.
  if (absl::IsAlreadyExists(status)) return absl::AbortedError(status.message());
  THROTTL_RETURN_IF_ERROR(status);
  return report;
}

absl::StatusOr<ImportReport> KeyImporter::Import(std::span<const ImportedKey> keys,
                                                 const Caller& caller) const {
  THROTTL_RETURN_IF_ERROR(CheckCaller(caller));
  THROTTL_RETURN_IF_ERROR(Check(keys, caller));
  ImportReport report;
  for (std::size_t done = 0; done < keys.size();) {
    const std::size_t count =
        std::min(keys.size() - done, static_cast<std::size_t>(kStoreBatchMax));
    THROTTL_ASSIGN_OR_RETURN(ImportReport batch, RetryConflicts([&] {
                               return TryBatch(keys.subspan(done, count), caller);
                             }));
    report.imported += batch.imported;
    report.unchanged += batch.unchanged;
    for (std::string& id : batch.conflicts) report.conflicts.push_back(std::move(id));
    done += count;
  }
  return report;
}

}  // namespace throttl::internal
