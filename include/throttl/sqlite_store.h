// The SQLite store: one file, shared by all processes of one machine.
//
// Thread safety: as QuotaStore; many processes may open one file, and a process may fork while it
// is open. Do not open the file with another copy of SQLite in the same process.
//
//   auto store = throttl::OpenSqliteStore({.path = "throttl.db"});
#ifndef THROTTL_SQLITE_STORE_H_
#define THROTTL_SQLITE_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "throttl/quota_store.h"

namespace throttl {

struct SqliteStoreOptions {
  // Of a file on a local disk, without a NUL byte. The file is made with mode 0600; beside it stand
  // PATH-wal, PATH-shm and PATH-gate.
  std::string path = {};
  Durability durability = Durability::kProcess;  // kPower: synchronous=FULL
  // Waiting for the gate; then Unavailable. 1 ms..10 min.
  absl::Duration busy_timeout = absl::Seconds(5);
  // Bytes of the write-ahead log, 1 MiB..1 TiB. Reads of this process that hold it open longer than
  // to half of it are cut (Unavailable); at the bound, writes are refused (ResourceExhausted) until
  // the reader that holds it open is gone.
  std::int64_t wal_bytes_max = 64 << 20;
  bool create = true;  // false: NotFound when there is no file
};

// InvalidArgument: an option. NotFound: no directory, or no file and `create` is false.
// FailedPrecondition: the file is of a newer version, of another program, a directory, hard-linked,
// read-only, or on a network file system. DataLoss: it is damaged. ResourceExhausted: the disk is
// full. Unavailable: another process held the gate for busy_timeout.
absl::StatusOr<std::shared_ptr<QuotaStore>> OpenSqliteStore(const SqliteStoreOptions& options);

}  // namespace throttl

#endif  // THROTTL_SQLITE_STORE_H_
