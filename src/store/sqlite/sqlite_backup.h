// Copies a database while it is in use.
//
// Thread safety: as the connection.
//
//   THROTTL_RETURN_IF_ERROR(SqliteBackup(db, "/backup/throttl.db"));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_BACKUP_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_BACKUP_H_

#include <string>

#include "absl/status/status.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

// Writes one consistent state to a new file `destination` with mode 0600, under a store_id of its
// own. The file appears whole or not at all. AlreadyExists: `destination` is there. REQUIRES: no
// transaction is open on `db`.
absl::Status SqliteBackup(SqliteConnection& db, const std::string& destination);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_BACKUP_H_
