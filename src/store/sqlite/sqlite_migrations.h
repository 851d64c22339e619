// The migrations of the SQLite schema: entry N brings a database from version N to version N + 1.
//
// Thread safety: a constant.
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_MIGRATIONS_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_MIGRATIONS_H_

#include <span>

namespace throttl::internal {

// From migrations/NNN.sql, in the order of their numbers. Each ends with its own PRAGMA
// user_version.
std::span<const char* const> SqliteMigrations();

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_MIGRATIONS_H_
