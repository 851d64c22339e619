// A SqliteDatabase is the file with its gate and its handles: one writer, which works under the
// gate, and a few readers.
//
// Every commit and every checkpoint happens under the gate, a kernel lock that all processes take
// in turn. So no writer starves, and the race of a checkpoint with a commit that damages a
// write-ahead log in SQLite before 3.51.3 (https://sqlite.org/wal.html, "The WAL-Reset Bug") cannot
// happen. Before a fork all handles are closed, since SQLite's own table of locks must not be
// inherited; both sides open them again when they are needed.
//
// Thread safety: all methods from any thread, and from any process that opened the file.
//
//   THROTTL_RETURN_IF_ERROR(database->Write([&](SqliteConnection& db) { return db.Run(kSql); }));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_DATABASE_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_DATABASE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/sqlite_store.h"

#include "src/base/fork_registry.h"
#include "src/base/kernel_lock.h"
#include "src/base/mutex.h"
#include "src/store/sqlite/sqlite_connection.h"
#include "src/store/sqlite/sqlite_file.h"

namespace throttl::internal {

class SqliteDatabase final : public ForkParticipant {
 public:
  using Body = std::function<absl::Status(SqliteConnection&)>;

  // Checks the file, makes it when there is none, and brings its schema up to date.
  static absl::StatusOr<std::unique_ptr<SqliteDatabase>> Open(const SqliteStoreOptions& options);
  ~SqliteDatabase() override;

  // Runs `body` in a transaction that is committed if it returns OK, and otherwise leaves nothing
  // behind. Unavailable: the gate was not to be had in busy_timeout, or the outcome of the commit
  // is unknown. ResourceExhausted: the disk is full, or the write-ahead log is, because a reader
  // holds it open.
  absl::Status Write(const Body& body);

  // Runs `body` on one consistent state. Unavailable: it took so long that the write-ahead log grew
  // to half of its bound, and the read was cut.
  absl::Status Read(const Body& body);

  // The same without a transaction around it, for a statement that must have its own.
  absl::Status ReadOutsideTransaction(const Body& body);

  // Closes every handle and lock descriptor; the next call opens them again.
  void Suspend();

  const std::string& path() const { return path_; }

  void BeforeFork() override;
  void AfterFork() override;

 private:
  // A reader and the mutex of its turn. `interrupt_mutex` keeps the handle while another thread
  // cuts it.
  struct Reader {
    Mutex mutex;
    std::unique_ptr<SqliteConnection> connection THROTTL_GUARDED_BY(mutex);
    Mutex interrupt_mutex;
    sqlite3* running THROTTL_GUARDED_BY(interrupt_mutex) = nullptr;
  };
  static constexpr std::size_t kReaders = 4;

  SqliteDatabase(std::string path, const SqliteStoreOptions& options);
  absl::Status Create();
  absl::StatusOr<std::unique_ptr<SqliteConnection>> Connect(bool read_only);
  absl::Status CheckIdentity() const;
  absl::Status WriteLocked(const Body& body);
  absl::Status Transact(SqliteConnection& db, const Body& body);
  absl::Status MakeRoom(SqliteConnection& db);
  absl::Status EmptyLog(SqliteConnection& db);
  void CheckpointIfDue(SqliteConnection& db);
  void CutReaders();
  Reader& LockReader() ABSL_NO_THREAD_SAFETY_ANALYSIS;
  absl::Status ReadLocked(Reader& reader, const Body& body);

  const std::string path_;
  const SqliteStoreOptions options_;
  FileIdentity identity_;  // set by Open, before any other call

  Mutex opening_;  // held by Open
  KernelLock gate_;
  // Guarded by the gate.
  std::unique_ptr<SqliteConnection> writer_;
  std::int64_t checkpoint_at_pages_;

  std::array<Reader, kReaders> readers_;
  std::atomic<std::uint32_t> next_reader_ = 0;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_DATABASE_H_
