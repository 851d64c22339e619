// Counters, leases and hourly usage as rows. Each function runs inside a transaction of its caller.
//
// Thread safety: as the connection.
//
//   THROTTL_ASSIGN_OR_RETURN(std::vector<SettleReply> replies, SqliteSettle(db, batch));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_COUNTING_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_COUNTING_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/quota_store.h"

#include "src/store/sqlite/sqlite_connection.h"

namespace throttl::internal {

absl::StatusOr<std::vector<SettleReply>> SqliteSettle(SqliteConnection& db,
                                                      const SettleBatch& batch);
// Whether all rows have seq 0, and there is nothing else: what it changes is nothing.
bool SqliteOnlyAsks(const SettleBatch& batch);
// The replies to such a batch. The transaction may be one of a reader.
absl::StatusOr<std::vector<SettleReply>> SqliteAsk(SqliteConnection& db, const SettleBatch& batch);
// ChangeSet::carry_overs. DataLoss: a counter is damaged.
absl::Status SqliteCarryOver(SqliteConnection& db, const std::vector<CarryRow>& rows);
absl::StatusOr<Counter> SqliteReadCounter(SqliteConnection& db, const CounterId& id);
absl::StatusOr<absl::Time> SqliteReadNewestTime(SqliteConnection& db);
absl::Status SqliteRetireHolder(SqliteConnection& db, HolderId holder, LeaseState end);
// The counters that are due for SqliteEndPeriods, at most `rows_max`.
absl::StatusOr<std::vector<CounterId>> SqliteReadDueCounters(SqliteConnection& db, absl::Time now,
                                                             std::int32_t rows_max);
absl::StatusOr<std::int64_t> SqliteEndPeriods(SqliteConnection& db, absl::Time now,
                                              std::int32_t rows_max);
absl::StatusOr<std::vector<UsageBucket>> SqliteReadUsage(SqliteConnection& db,
                                                         const UsageQuery& query);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_COUNTING_H_
