// Reads the url that Engine::Open takes.
//
// Thread safety: pure functions.
//
//   THROTTL_ASSIGN_OR_RETURN(const StoreUrl url, ParseStoreUrl("sqlite:a.db?durability=power"));
#ifndef THROTTL_SRC_OPEN_STORE_URL_H_
#define THROTTL_SRC_OPEN_STORE_URL_H_

#include <string_view>
#include <variant>

#include "absl/status/statusor.h"

#include "throttl/memory_store.h"
#include "throttl/sqlite_store.h"

namespace throttl::internal {

using StoreUrl = std::variant<MemoryStoreOptions, SqliteStoreOptions>;

// "memory:", "sqlite:PATH" or a PATH, each with "?name=value&name=value" after it. A path that
// holds '?' can only be given to OpenSqliteStore. Parameters of SQLite: durability=process|power,
// create=true|false, busy_timeout and wal_bytes_max, as absl durations ("5s") and numbers; of
// memory: keys_max, usage_rows_max, events_max. InvalidArgument names the scheme, parameter or
// value that is not known.
absl::StatusOr<StoreUrl> ParseStoreUrl(std::string_view url);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_OPEN_STORE_URL_H_
