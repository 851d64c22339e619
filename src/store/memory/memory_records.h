// MemoryRecords are the plans, keys, webhooks and the event log of a memory store.
//
// Thread safety: none; the store's mutex guards it.
//
//   MemoryRecords records(options);
//   THROTTL_RETURN_IF_ERROR(records.Apply(changes));
#ifndef THROTTL_SRC_STORE_MEMORY_MEMORY_RECORDS_H_
#define THROTTL_SRC_STORE_MEMORY_MEMORY_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/memory_store.h"
#include "throttl/quota_store.h"

namespace throttl::internal {

class MemoryRecords {
 public:
  explicit MemoryRecords(const MemoryStoreOptions& options);

  std::vector<Plan> ReadPlans() const;
  std::vector<KeyRecord> FindKeys(std::span<const std::string> locators) const;
  std::vector<KeyRecord> ReadKeys(std::span<const std::string> key_ids) const;
  std::vector<std::int32_t> ReadPepperVersions() const;
  bool HasImportedSecrets() const { return imported_secrets_ > 0; }
  absl::StatusOr<Page<KeyRecord>> ListKeys(const KeyQuery& query) const;
  std::vector<WebhookRecord> ListWebhooks(const WebhookQuery& query) const;
  std::vector<Event> ReadEvents(std::int64_t after_seq, std::int32_t count_max) const;

  bool WasApplied(const std::string& change_id) const { return change_sets_.contains(change_id); }
  // As QuotaStore::Apply, but for ChangeSet::carry_overs.
  absl::StatusOr<std::int64_t> Apply(const ChangeSet& changes);

  void AppendEvent(const Event& event);
  // The owner of a key, empty when there is no such key.
  const std::string& OwnerOf(const std::string& key_id) const;
  void Touch(const KeyActivity& activity);

  // Forgets the oldest events, at most `rows_max`, as far as they are from before `before`; returns
  // how many.
  std::int64_t PruneEvents(absl::Time before, std::int64_t rows_max);

 private:
  using Age = std::pair<std::int64_t, std::string>;  // created_at in ms, id: the order of lists

  // What a change set makes of the records that it names, found before anything is changed.
  struct Outcome {
    std::unordered_map<std::string, const Plan*> plans;      // nullptr: deleted
    std::unordered_map<std::string, const KeyRecord*> keys;  // the last one of each id
    std::unordered_map<std::string, std::string> locators;   // of which key; empty: of none
    std::unordered_map<std::string, const WebhookRecord*> webhooks;
  };

  absl::StatusOr<Outcome> Check(const ChangeSet& changes) const;
  absl::Status CheckPlans(const ChangeSet& changes, Outcome& outcome) const;
  absl::Status CheckKey(const KeyRecord& record, Outcome& outcome) const;
  absl::Status CheckWebhooks(const ChangeSet& changes, Outcome& outcome) const;
  absl::Status CheckPlansOfKeys(const ChangeSet& changes, const Outcome& outcome) const;
  const KeyRecord* StoredKey(const std::string& key_id) const;
  std::int64_t LiveKeysOn(const std::string& plan_id) const;
  void PutKey(const KeyRecord& record);
  void RememberChangeSet(const std::string& id);

  const MemoryStoreOptions options_;
  std::map<std::string, Plan> plans_;
  std::unordered_map<std::string, KeyRecord> keys_;
  std::unordered_map<std::string, std::string> key_of_locator_;
  std::int64_t imported_secrets_ = 0;  // of these
  std::set<Age> by_age_;
  std::unordered_map<std::string, std::set<Age>> by_age_of_owner_;
  std::unordered_map<std::string, std::int64_t> live_keys_on_plan_;
  std::map<std::string, WebhookRecord> webhooks_;
  std::deque<Event> events_;   // consecutive seqs
  std::int64_t last_seq_ = 0;  // of events_.back(), or of the last one forgotten
  std::deque<std::string> change_set_order_;
  std::unordered_set<std::string> change_sets_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_MEMORY_MEMORY_RECORDS_H_
