#include "throttl/quota_store.h"

#include <set>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"

namespace throttl {
namespace {

absl::Status NotThere(const StoreInfo& info, const char* method) {
  return absl::UnimplementedError(absl::StrCat("the ", info.kind, " store has no ", method));
}

}  // namespace

absl::StatusOr<std::vector<std::int32_t>> QuotaStore::ReadPepperVersions() {
  std::set<std::int32_t> versions;
  KeyQuery query{.include_revoked = false, .count_max = kStoreBatchMax};
  do {
    THROTTL_ASSIGN_OR_RETURN(const Page<KeyRecord> page, ListKeys(query));
    for (const KeyRecord& record : page.items) {
      for (const SecretRecord& secret : record.secrets) versions.insert(secret.pepper_version);
    }
    query.cursor = page.next_cursor;
  } while (!query.cursor.empty());
  return std::vector<std::int32_t>(versions.begin(), versions.end());
}

absl::StatusOr<bool> QuotaStore::HasImportedSecrets() { return true; }

absl::StatusOr<std::vector<WebhookRecord>> QuotaStore::ListWebhooks(const WebhookQuery&) {
  return NotThere(info(), "ListWebhooks");
}

absl::StatusOr<absl::Time> QuotaStore::ReadNewestTime() { return absl::InfiniteFuture(); }

absl::StatusOr<std::int64_t> QuotaStore::EndPeriods(absl::Time, std::int32_t) { return 0; }

absl::StatusOr<QuotaStore::Claimed> QuotaStore::ClaimDeliveries(const DeliveryClaim&) {
  return NotThere(info(), "ClaimDeliveries");
}

absl::Status QuotaStore::PutDeliveries(std::span<const Delivery>, std::int64_t) {
  return NotThere(info(), "PutDeliveries");
}

absl::StatusOr<Page<Delivery>> QuotaStore::ListDeliveries(const DeliveryQuery&) {
  return NotThere(info(), "ListDeliveries");
}

absl::StatusOr<std::int64_t> QuotaStore::Prune(const PruneLimits&) { return 0; }

absl::Status QuotaStore::Backup(std::string_view) { return NotThere(info(), "Backup"); }

void QuotaStore::Suspend() {}

}  // namespace throttl
