#include "src/store/memory/memory_records.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kChangeSetsMax = 10'000;

absl::Status WrongVersion(const char* what, const std::string& id, std::int64_t stored,
                          std::int64_t wanted) {
  return absl::AbortedError(absl::StrCat(what, " ", id, " has version ", stored,
                                         " and the change is for version ", wanted,
                                         "; read it again"));
}

// The stored version that a put of `version` replaces.
std::int64_t Before(std::int64_t version) { return version - 1; }

// "<created_ms>:<id>", or nothing when the cursor is not one of ours.
std::optional<std::pair<std::int64_t, std::string>> ParseCursor(const std::string& cursor) {
  std::int64_t created_ms = 0;
  const char* end = cursor.data() + cursor.size();
  const auto [rest, error] = std::from_chars(cursor.data(), end, created_ms);
  if (error != std::errc() || rest == end || *rest != ':' || rest + 1 == end) return std::nullopt;
  return std::pair(created_ms, std::string(rest + 1, end));
}

bool Matches(const KeyRecord& record, const KeyQuery& query) {
  return (query.owner_id.empty() || record.key.owner_id == query.owner_id) &&
         (query.plan_id.empty() || record.key.plan_id == query.plan_id) &&
         (query.include_revoked || !record.key.revoked_at.has_value());
}

bool IsLive(const KeyRecord& record) { return !record.key.revoked_at.has_value(); }

bool IsImported(std::string_view locator) { return locator.starts_with("imp_"); }

}  // namespace

MemoryRecords::MemoryRecords(const MemoryStoreOptions& options) : options_(options) {}

std::vector<Plan> MemoryRecords::ReadPlans() const {
  std::vector<Plan> plans;
  plans.reserve(plans_.size());
  for (const auto& [id, plan] : plans_) plans.push_back(plan);
  return plans;
}

std::vector<KeyRecord> MemoryRecords::FindKeys(std::span<const std::string> locators) const {
  std::vector<std::string> ids;
  for (const std::string& locator : locators) {
    const auto it = key_of_locator_.find(locator);
    if (it != key_of_locator_.end()) ids.push_back(it->second);
  }
  return ReadKeys(ids);
}

std::vector<KeyRecord> MemoryRecords::ReadKeys(std::span<const std::string> key_ids) const {
  const std::set<std::string> distinct(key_ids.begin(), key_ids.end());
  std::vector<KeyRecord> found;
  for (const std::string& id : distinct) {
    if (const KeyRecord* record = StoredKey(id)) found.push_back(*record);
  }
  return found;
}

std::vector<std::int32_t> MemoryRecords::ReadPepperVersions() const {
  std::set<std::int32_t> versions;
  for (const auto& [id, record] : keys_) {
    if (!IsLive(record)) continue;
    for (const SecretRecord& secret : record.secrets) versions.insert(secret.pepper_version);
  }
  return {versions.begin(), versions.end()};
}

absl::StatusOr<Page<KeyRecord>> MemoryRecords::ListKeys(const KeyQuery& query) const {
  Page<KeyRecord> page;
  std::optional<Age> after;
  if (!query.cursor.empty()) {
    after = ParseCursor(query.cursor);
    if (!after) return absl::InvalidArgumentError("the cursor is not one that ListKeys gave");
  }
  std::set<Age> one;
  const std::set<Age>* ages = &by_age_;
  if (!query.locator.empty()) {
    const auto it = key_of_locator_.find(query.locator);
    if (it == key_of_locator_.end()) return page;
    one.emplace(absl::ToUnixMillis(keys_.at(it->second).key.created_at), it->second);
    ages = &one;
  } else if (!query.owner_id.empty()) {
    const auto it = by_age_of_owner_.find(query.owner_id);
    if (it == by_age_of_owner_.end()) return page;
    ages = &it->second;
  }
  const Age* last = nullptr;
  for (auto it = after ? ages->upper_bound(*after) : ages->begin(); it != ages->end(); ++it) {
    const KeyRecord& record = keys_.at(it->second);
    if (!Matches(record, query)) continue;
    if (last != nullptr && page.items.size() == static_cast<std::size_t>(query.count_max)) {
      page.next_cursor = absl::StrCat(last->first, ":", last->second);
      break;
    }
    page.items.push_back(record);
    last = &*it;
  }
  return page;
}

std::vector<WebhookRecord> MemoryRecords::ListWebhooks(const WebhookQuery& query) const {
  std::vector<WebhookRecord> found;
  for (const auto& [id, webhook] : webhooks_) {
    if (!query.owner_id.empty() && webhook.owner_id != query.owner_id) continue;
    if (!query.id.empty() && id != query.id) continue;
    found.push_back(webhook);
  }
  return found;
}

std::vector<Event> MemoryRecords::ReadEvents(std::int64_t after_seq, std::int32_t count_max) const {
  const std::int64_t first_seq = last_seq_ - static_cast<std::int64_t>(events_.size()) + 1;
  const std::int64_t first = after_seq < first_seq ? first_seq : after_seq + 1;
  const std::int64_t count = std::clamp<std::int64_t>(last_seq_ - first + 1, 0, count_max);
  if (count == 0) return {};
  const auto begin = events_.begin() + (first - first_seq);
  return {begin, begin + count};
}

absl::StatusOr<std::int64_t> MemoryRecords::Apply(const ChangeSet& changes) {
  if (change_sets_.contains(changes.id)) return last_seq_;
  THROTTL_ASSIGN_OR_RETURN(const Outcome outcome, Check(changes));
  for (const auto& [id, plan] : outcome.plans) {
    if (plan == nullptr) {
      plans_.erase(id);
    } else {
      plans_[id] = *plan;
    }
  }
  for (const auto& [id, record] : outcome.keys) PutKey(*record);
  for (const auto& [locator, key_id] : outcome.locators) {
    if (key_id.empty()) {
      if (key_of_locator_.erase(locator) > 0 && IsImported(locator)) --imported_secrets_;
    } else {
      const bool is_new = key_of_locator_.insert_or_assign(locator, key_id).second;
      if (is_new && IsImported(locator)) ++imported_secrets_;
    }
  }
  for (const auto& [id, webhook] : outcome.webhooks) {
    if (webhook == nullptr) {
      webhooks_.erase(id);
    } else {
      webhooks_[id] = *webhook;
    }
  }
  for (const Event& event : changes.events) AppendEvent(event);
  RememberChangeSet(changes.id);
  return last_seq_;
}

void MemoryRecords::AppendEvent(const Event& event) {
  events_.push_back(event);
  events_.back().seq = ++last_seq_;
  while (static_cast<std::int64_t>(events_.size()) > options_.events_max) events_.pop_front();
}

const std::string& MemoryRecords::OwnerOf(const std::string& key_id) const {
  static const std::string kNobody;
  const KeyRecord* record = StoredKey(key_id);
  return record == nullptr ? kNobody : record->key.owner_id;
}

void MemoryRecords::Touch(const KeyActivity& activity) {
  const auto it = keys_.find(activity.key_id);
  if (it == keys_.end()) return;
  std::optional<absl::Time>& last_used_at = it->second.key.last_used_at;
  if (!last_used_at || *last_used_at < activity.last_used_at) last_used_at = activity.last_used_at;
  it->second.detector_state = activity.detector_state;
}

std::int64_t MemoryRecords::PruneEvents(absl::Time before, std::int64_t rows_max) {
  std::int64_t rows = 0;
  while (rows < rows_max && !events_.empty() && events_.front().at < before) {
    events_.pop_front();
    ++rows;
  }
  return rows;
}

absl::StatusOr<MemoryRecords::Outcome> MemoryRecords::Check(const ChangeSet& changes) const {
  Outcome outcome;
  THROTTL_RETURN_IF_ERROR(CheckPlans(changes, outcome));
  for (const KeyRecord& record : changes.put_keys) {
    THROTTL_RETURN_IF_ERROR(CheckKey(record, outcome));
  }
  std::int64_t keys = static_cast<std::int64_t>(keys_.size());
  for (const auto& [id, record] : outcome.keys) keys += keys_.contains(id) ? 0 : 1;
  if (keys > options_.keys_max && keys > static_cast<std::int64_t>(keys_.size())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the memory store would hold ", keys, " keys, at most ", options_.keys_max,
                     " are allowed (MemoryStoreOptions::keys_max)"));
  }
  THROTTL_RETURN_IF_ERROR(CheckPlansOfKeys(changes, outcome));
  THROTTL_RETURN_IF_ERROR(CheckWebhooks(changes, outcome));
  return outcome;
}

absl::Status MemoryRecords::CheckPlans(const ChangeSet& changes, Outcome& outcome) const {
  const auto version_of = [&](const std::string& id) {
    if (const auto it = outcome.plans.find(id); it != outcome.plans.end()) {
      return it->second == nullptr ? 0 : it->second->version;
    }
    const auto it = plans_.find(id);
    return it == plans_.end() ? 0 : it->second.version;
  };
  for (const Plan& plan : changes.put_plans) {
    const std::int64_t stored = version_of(plan.id);
    if (stored != Before(plan.version)) {
      return WrongVersion("plan", plan.id, stored, Before(plan.version));
    }
    outcome.plans[plan.id] = &plan;
  }
  for (const ChangeSet::Deletion& gone : changes.delete_plans) {
    const std::int64_t stored = version_of(gone.id);
    if (stored != gone.version) return WrongVersion("plan", gone.id, stored, gone.version);
    outcome.plans[gone.id] = nullptr;
  }
  return absl::OkStatus();
}

absl::Status MemoryRecords::CheckKey(const KeyRecord& record, Outcome& outcome) const {
  const std::string& id = record.key.id;
  const auto staged = outcome.keys.find(id);
  const KeyRecord* before = staged != outcome.keys.end() ? staged->second : StoredKey(id);
  if (before != nullptr && record.key.version == 1) {
    return absl::AlreadyExistsError(absl::StrCat("the key id ", id, " is taken"));
  }
  const std::int64_t stored = before == nullptr ? 0 : before->key.version;
  if (stored != Before(record.key.version)) {
    return WrongVersion("key", id, stored, Before(record.key.version));
  }
  if (before != nullptr) {
    for (const SecretRecord& old : before->secrets) outcome.locators[old.info.locator].clear();
  }
  for (const SecretRecord& secret : record.secrets) {
    const std::string& locator = secret.info.locator;
    const auto changed = outcome.locators.find(locator);
    const auto kept = key_of_locator_.find(locator);
    const bool taken = changed != outcome.locators.end() ? !changed->second.empty()
                                                         : kept != key_of_locator_.end();
    if (taken) {
      return absl::AlreadyExistsError(absl::StrCat("the secret locator ", locator, " is taken"));
    }
    outcome.locators[locator] = id;
  }
  outcome.keys[id] = &record;
  return absl::OkStatus();
}

absl::Status MemoryRecords::CheckWebhooks(const ChangeSet& changes, Outcome& outcome) const {
  const auto version_of = [&](const std::string& id) {
    if (const auto it = outcome.webhooks.find(id); it != outcome.webhooks.end()) {
      return it->second == nullptr ? 0 : it->second->version;
    }
    const auto it = webhooks_.find(id);
    return it == webhooks_.end() ? 0 : it->second.version;
  };
  for (const WebhookRecord& webhook : changes.put_webhooks) {
    const std::int64_t stored = version_of(webhook.id);
    if (stored != 0 && webhook.version == 1) {
      return absl::AlreadyExistsError(
          absl::StrCat("a webhook has the id \"", webhook.id, "\" already"));
    }
    if (stored != Before(webhook.version)) {
      return WrongVersion("webhook", webhook.id, stored, Before(webhook.version));
    }
    outcome.webhooks[webhook.id] = &webhook;
  }
  for (const ChangeSet::Deletion& gone : changes.delete_webhooks) {
    const std::int64_t stored = version_of(gone.id);
    if (stored != gone.version) return WrongVersion("webhook", gone.id, stored, gone.version);
    outcome.webhooks[gone.id] = nullptr;
  }
  return absl::OkStatus();
}

// Every key that is not revoked must be on a plan that exists when the whole change set is done.
absl::Status MemoryRecords::CheckPlansOfKeys(const ChangeSet& changes,
                                             const Outcome& outcome) const {
  for (const auto& [id, record] : outcome.keys) {
    const std::string& plan_id = record->key.plan_id;
    const auto changed = outcome.plans.find(plan_id);
    const bool exists =
        changed != outcome.plans.end() ? changed->second != nullptr : plans_.contains(plan_id);
    if (IsLive(*record) && !exists) {
      return absl::FailedPreconditionError(
          absl::StrCat("key ", id, " would be on plan ", plan_id, ", which does not exist"));
    }
  }
  for (const ChangeSet::Deletion& gone : changes.delete_plans) {
    std::int64_t live = LiveKeysOn(gone.id);
    for (const auto& [id, record] : outcome.keys) {
      const KeyRecord* before = StoredKey(id);
      if (before != nullptr && IsLive(*before) && before->key.plan_id == gone.id) --live;
    }
    if (live > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("plan ", gone.id, " cannot be deleted: ", live, " keys are on it"));
    }
  }
  return absl::OkStatus();
}

const KeyRecord* MemoryRecords::StoredKey(const std::string& key_id) const {
  const auto it = keys_.find(key_id);
  return it == keys_.end() ? nullptr : &it->second;
}

std::int64_t MemoryRecords::LiveKeysOn(const std::string& plan_id) const {
  const auto it = live_keys_on_plan_.find(plan_id);
  return it == live_keys_on_plan_.end() ? 0 : it->second;
}

void MemoryRecords::PutKey(const KeyRecord& record) {
  const std::string& id = record.key.id;
  const auto [it, is_new] = keys_.try_emplace(id);
  KeyRecord& stored = it->second;
  const std::optional<absl::Time> last_used_at = stored.key.last_used_at;
  std::string detector_state = std::move(stored.detector_state);
  if (!is_new) {
    const Age age(absl::ToUnixMillis(stored.key.created_at), id);
    by_age_.erase(age);
    by_age_of_owner_[stored.key.owner_id].erase(age);
    if (IsLive(stored) && --live_keys_on_plan_[stored.key.plan_id] == 0) {
      live_keys_on_plan_.erase(stored.key.plan_id);
    }
  }
  stored = record;
  stored.key.last_used_at = last_used_at;
  stored.detector_state = std::move(detector_state);
  const Age age(absl::ToUnixMillis(stored.key.created_at), id);
  by_age_.insert(age);
  by_age_of_owner_[stored.key.owner_id].insert(age);
  if (IsLive(stored)) ++live_keys_on_plan_[stored.key.plan_id];
}

void MemoryRecords::RememberChangeSet(const std::string& id) {
  change_sets_.insert(id);
  change_set_order_.push_back(id);
  if (change_set_order_.size() <= kChangeSetsMax) return;
  change_sets_.erase(change_set_order_.front());
  change_set_order_.pop_front();
}

}  // namespace throttl::internal
