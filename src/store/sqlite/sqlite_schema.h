// The schema of a database: making it, checking its version, bringing it up to date.
//
// Thread safety: as the connection.
//
//   THROTTL_RETURN_IF_ERROR(MigrateSchema(db));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_SCHEMA_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_SCHEMA_H_

#include <cstdint>

#include "absl/status/status.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

// FailedPrecondition: the schema is newer than this library's.
absl::Status CheckSchemaVersion(std::int64_t version);

// Runs the migrations that are missing, in one transaction: a kill leaves all of them or none.
// FailedPrecondition: the schema is newer than this library's, or another program's table is there.
// REQUIRES: the gate is held.
absl::Status MigrateSchema(SqliteConnection& db);

// Gives the database another store_id.
absl::Status RenewStoreId(SqliteConnection& db);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_SCHEMA_H_
