// Webhooks and deliveries as rows, and the pruning of what may be forgotten. Each function runs
// inside a transaction of its caller.
//
// Thread safety: as the connection.
//
//   THROTTL_ASSIGN_OR_RETURN(QuotaStore::Claimed claimed, SqliteClaimDeliveries(db, claim));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_OUTBOX_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_OUTBOX_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/quota_store.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

absl::StatusOr<std::vector<WebhookRecord>> SqliteListWebhooks(SqliteConnection& db,
                                                              const WebhookQuery& query);
// Aborted: the stored version is not one less. AlreadyExists: a new webhook's id is taken.
absl::Status SqlitePutWebhook(SqliteConnection& db, const WebhookRecord& webhook);
// Aborted: the stored version is another.
absl::Status SqliteDeleteWebhook(SqliteConnection& db, const ChangeSet::Deletion& deletion);

absl::StatusOr<QuotaStore::Claimed> SqliteClaimDeliveries(SqliteConnection& db,
                                                          const DeliveryClaim& claim);
absl::Status SqlitePutDeliveries(SqliteConnection& db, std::span<const Delivery> deliveries,
                                 std::int64_t planned_seq);
absl::StatusOr<Page<Delivery>> SqliteListDeliveries(SqliteConnection& db,
                                                    const DeliveryQuery& query);

// Returns how many rows were forgotten.
absl::StatusOr<std::int64_t> SqlitePrune(SqliteConnection& db, const PruneLimits& limits);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_OUTBOX_H_
