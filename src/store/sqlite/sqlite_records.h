// Plans and keys as rows. Each function runs inside a transaction of its caller.
//
// Thread safety: as the connection.
//
//   THROTTL_ASSIGN_OR_RETURN(std::vector<Plan> plans, SqliteReadPlans(db));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_RECORDS_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_RECORDS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/quota_store.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

// Every plan, by id. DataLoss: one of them does not match its checksum.
absl::StatusOr<std::vector<Plan>> SqliteReadPlans(SqliteConnection& db);

// Aborted: the stored version is not one less.
absl::Status SqlitePutPlan(SqliteConnection& db, const Plan& plan);
// Aborted: the stored version is another.
absl::Status SqliteDeletePlan(SqliteConnection& db, const ChangeSet::Deletion& deletion);
absl::StatusOr<bool> SqliteHasPlan(SqliteConnection& db, std::string_view plan_id);
// Whether a key that is not revoked is on the plan.
absl::StatusOr<bool> SqlitePlanIsUsed(SqliteConnection& db, std::string_view plan_id);

// The key, or std::nullopt. DataLoss: it does not match its checksum.
absl::StatusOr<std::optional<KeyRecord>> SqliteReadKey(SqliteConnection& db, std::string_view id);
absl::StatusOr<std::optional<KeyRecord>> SqliteFindKey(SqliteConnection& db,
                                                       std::string_view locator);
absl::StatusOr<Page<KeyRecord>> SqliteListKeys(SqliteConnection& db, const KeyQuery& query);
absl::StatusOr<std::vector<std::int32_t>> SqliteReadPepperVersions(SqliteConnection& db);
absl::StatusOr<bool> SqliteHasImportedSecrets(SqliteConnection& db);

// Writes the keys, all of whose old secrets go first, so that a locator may move from one to
// another. Aborted: a stored version is not one less. AlreadyExists: a new key's id, or a locator,
// is taken.
absl::Status SqlitePutKeys(SqliteConnection& db, std::span<const KeyRecord> records);

absl::Status SqlitePutActivity(SqliteConnection& db, const KeyActivity& activity);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_RECORDS_H_
