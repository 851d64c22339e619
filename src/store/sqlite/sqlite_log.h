// The event log and the memory of applied change sets. Each function runs inside a transaction of
// its caller; since there is one writer at a time, the order of seq is the order of commits.
//
// Thread safety: as the connection.
//
//   THROTTL_RETURN_IF_ERROR(SqliteAppendEvents(db, changes.events));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_LOG_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_LOG_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/event.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

// How many applied change sets are remembered.
inline constexpr std::int64_t kRememberedChanges = 10'000;

// An event whose id is in the log already is left out: it is the same one.
absl::Status SqliteAppendEvents(SqliteConnection& db, std::span<const Event> events);
absl::StatusOr<std::vector<Event>> SqliteReadEvents(SqliteConnection& db, std::int64_t after_seq,
                                                    std::int32_t count_max);
// The seq of the last event, also when it was pruned; 0 before the first.
absl::StatusOr<std::int64_t> SqliteLastSeq(SqliteConnection& db);

absl::StatusOr<bool> SqliteWasApplied(SqliteConnection& db, std::string_view change_id);
absl::Status SqliteRememberChange(SqliteConnection& db, std::string_view change_id);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_LOG_H_
