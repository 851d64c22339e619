// What a statement, a handle and a database of the SQLite store promise to the code that uses them.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"

#include "throttl/sqlite_store.h"

#include "src/base/kernel_lock.h"
#include "src/store/sqlite/sqlite_connection.h"
#include "src/store/sqlite/sqlite_database.h"
#include "tests/faults/fault_parts.h"
#include "tests/store/store_contract_parts.h"

namespace {

std::atomic<int> interrupts = 0;

}  // namespace

// In the place of SQLite's own: no test here needs that a read ends early.
extern "C" void sqlite3_interrupt(sqlite3*) { ++interrupts; }

namespace throttl::testing {
namespace {

using internal::SqliteConnection;
using internal::SqliteDatabase;
using internal::SqliteStatement;

constexpr sqlite3_int64 kMark = 4711;

std::unique_ptr<SqliteConnection> NewConnection(const ScratchDirectory& scratch) {
  WriteBytes(scratch / "plain.db", "");
  return Must(SqliteConnection::Open({.path = scratch / "plain.db"}));
}

TEST_CASE("a statement begins anew: nothing of an earlier use is bound to it") {
  const ScratchDirectory scratch;
  const auto db = NewConnection(scratch);
  static const char* const kSql = "SELECT ?1 IS NULL";
  {
    SqliteStatement first(*db, kSql);
    REQUIRE(first.Bind(7).Step());
    CHECK(first.Int(0) == 0);
  }
  SqliteStatement second(*db, kSql);
  REQUIRE(second.Step());
  CHECK(second.Int(0) == 1);
}

TEST_CASE("an empty text and an empty blob are bound as such, and not as NULL") {
  const ScratchDirectory scratch;
  const auto db = NewConnection(scratch);
  SqliteStatement read(*db, "SELECT typeof(?1), typeof(?2), typeof(?3)");
  read.Bind(std::string_view()).BindBlob({}).Bind(std::optional<std::int64_t>());
  REQUIRE(read.Step());
  CHECK(read.Text(0) == "text");
  CHECK(read.Text(1) == "blob");
  CHECK(read.Text(2) == "null");
}

TEST_CASE("NULL where a damaged database cannot have it is read as empty") {
  const ScratchDirectory scratch;
  const auto db = NewConnection(scratch);
  SqliteStatement read(*db, "SELECT NULL, NULL");
  REQUIRE(read.Step());
  CHECK(read.Text(0).empty());
  CHECK(read.Blob(1).empty());
  CHECK(read.OptionalInt(0) == std::nullopt);
}

TEST_CASE("a damaged file system is DataLoss, and not an error that passes") {
  CHECK(absl::IsDataLoss(internal::ToStatus(nullptr, SQLITE_IOERR_CORRUPTFS, "reading")));
  CHECK(absl::IsUnavailable(internal::ToStatus(nullptr, SQLITE_IOERR_READ, "reading")));
}

std::unique_ptr<SqliteDatabase> NewDatabase(const ScratchDirectory& scratch) {
  return Must(SqliteDatabase::Open({.path = scratch / "throttl.db"}));
}

// Marks the handle that it is given, and answers `status`.
SqliteDatabase::Body Mark(const absl::Status& status) {
  return [status](SqliteConnection& db) {
    sqlite3_set_last_insert_rowid(db.handle(), kMark);
    return status;
  };
}

// Whether the handle that it is given was marked.
SqliteDatabase::Body LookForMark(bool& found) {
  return [&found](SqliteConnection& db) {
    found = sqlite3_last_insert_rowid(db.handle()) == kMark;
    return absl::OkStatus();
  };
}

// Whether a handle is used again after a call in which it had `status`.
std::string KeptAfter(SqliteDatabase& database, const absl::Status& status) {
  CHECK(database.Write(Mark(status)) == status);
  bool writer_kept = false;
  CHECK(database.Write(LookForMark(writer_kept)).ok());
  constexpr int kReaders = 4;
  for (int i = 0; i < kReaders; ++i) CHECK(database.Read(Mark(status)) == status);
  int readers_kept = 0;
  for (int i = 0; i < kReaders; ++i) {
    bool kept = false;
    CHECK(database.Read(LookForMark(kept)).ok());
    readers_kept += kept ? 1 : 0;
  }
  return absl::StrCat(writer_kept ? "writer kept, " : "new writer, ", readers_kept, " readers");
}

TEST_CASE("an error may have left a handle in a state of its own: the next call has a new one") {
  const ScratchDirectory scratch;
  const auto database = NewDatabase(scratch);
  for (const absl::Status& status : {absl::UnavailableError("x"), absl::DataLossError("x"),
                                     absl::InternalError("x"), absl::ResourceExhaustedError("x")}) {
    CHECK_MESSAGE(KeptAfter(*database, status) == "new writer, 0 readers", status.ToString());
  }
  for (const absl::Status& status :
       {absl::OkStatus(), absl::AbortedError("x"), absl::AlreadyExistsError("x"),
        absl::InvalidArgumentError("x"), absl::FailedPreconditionError("x")}) {
    CHECK_MESSAGE(KeptAfter(*database, status) == "writer kept, 4 readers", status.ToString());
  }
}

TEST_CASE("a handle whose transaction could not be rolled back is not used again") {
  const ScratchDirectory scratch;
  const auto database = NewDatabase(scratch);
  const absl::Status status = database->Write([](SqliteConnection& db) {
    CHECK(db.Run("INSERT INTO meta VALUES('half', '1')").ok());
    sqlite3_limit(db.handle(), SQLITE_LIMIT_SQL_LENGTH, 1);  // even "ROLLBACK" is too long now
    return absl::AbortedError("x");
  });
  CHECK(absl::IsAborted(status));
  CHECK(database->Write([](SqliteConnection&) { return absl::OkStatus(); }).ok());
  CHECK(PlainSqlite(scratch / "throttl.db").Run("SELECT * FROM meta WHERE name = 'half'") == "");
}

TEST_CASE("Read runs `body` on one consistent state") {
  const ScratchDirectory scratch;
  const auto database = NewDatabase(scratch);
  const absl::Status status = database->Read([&](SqliteConnection& db) {
    const std::int64_t before = Must(db.ReadNumber("SELECT count(*) FROM meta"));
    CHECK(database
              ->Write([](SqliteConnection& writer) {
                return writer.Run("INSERT INTO meta VALUES('meanwhile', '1')");
              })
              .ok());
    CHECK(Must(db.ReadNumber("SELECT count(*) FROM meta")) == before);
    return absl::OkStatus();
  });
  CHECK(status.ok());
}

TEST_CASE("only a read that is under way is cut: the handle of one that has ended may be gone") {
  const ScratchDirectory scratch;
  const auto database =
      Must(SqliteDatabase::Open({.path = scratch / "throttl.db", .wal_bytes_max = 1 << 20}));
  // More than half of the log's bound, at which reads are cut.
  const auto write_much = [&] {
    return database->Write([](SqliteConnection& writer) {
      return writer.Run("REPLACE INTO meta VALUES('much', hex(zeroblob(300000)))");
    });
  };
  const SqliteDatabase::Body nothing = [](SqliteConnection&) { return absl::OkStatus(); };
  for (int i = 0; i < 4; ++i) REQUIRE(database->Read(nothing).ok());
  interrupts = 0;
  CHECK(write_much().ok());
  CHECK(interrupts == 0);
  database->Suspend();
  CHECK(write_much().ok());
  CHECK(interrupts == 0);
  CHECK(database->Read([&](SqliteConnection&) { return write_much(); }).ok());
  CHECK(interrupts > 0);
}

// Whether `done` stays false while others have the chance to make it true.
bool StaysUndone(const std::atomic<bool>& done) {
  for (int i = 0; i < 2000; ++i) {
    if (done) return false;
    sched_yield();
  }
  return !done;
}

TEST_CASE("BeforeFork waits for the calls under way, and keeps others out until AfterFork") {
  const ScratchDirectory scratch;
  const auto database = NewDatabase(scratch);
  for (const auto call : {&SqliteDatabase::Read, &SqliteDatabase::Write}) {
    std::atomic<bool> inside = false;
    std::atomic<bool> leave = false;
    std::atomic<bool> others_in = false;
    std::atomic<bool> closed = false;
    std::thread under_way([&] {
      const SqliteDatabase::Body wait = [&](SqliteConnection&) {
        inside = true;
        while (!leave) sched_yield();
        return absl::OkStatus();
      };
      CHECK((*database.*call)(wait).ok());
    });
    while (!inside) sched_yield();
    std::thread forking([&] {
      database->BeforeFork();
      closed = true;
      std::thread late([&] {
        const SqliteDatabase::Body note = [&](SqliteConnection&) {
          others_in = true;
          return absl::OkStatus();
        };
        CHECK((*database.*call)(note).ok());
      });
      CHECK(StaysUndone(others_in));
      database->AfterFork();
      late.join();
    });
    CHECK(StaysUndone(closed));
    leave = true;
    forking.join();
    under_way.join();
    CHECK(others_in);
  }
}

TEST_CASE("opening waits for the gate, and makes no file without it") {
  const ScratchDirectory scratch;
  internal::KernelLock gate(scratch / "throttl.db-gate");
  REQUIRE(gate.Acquire(absl::Seconds(1)).ok());
  const absl::Status status =
      OpenSqliteStore({.path = scratch / "throttl.db", .busy_timeout = absl::Milliseconds(20)})
          .status();
  CHECK(absl::IsUnavailable(status));
  CHECK(absl::StrContains(status.message(), gate.path()));
  CHECK(!std::filesystem::exists(scratch / "throttl.db"));
  gate.Release();
}

TEST_CASE("asking what a lease has does not wait for the gate, and says what settling said") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = Must(OpenSqliteStore({.path = path, .busy_timeout = absl::Milliseconds(20)}));
  const CounterId counter{.subject = "k:1", .period_start = absl::FromUnixSeconds(3600)};
  SettleBatch batch{.holder = HolderId{7}, .now = absl::FromUnixSeconds(3700)};
  batch.rows = {{.counter = counter, .seq = 1, .used = 5, .keep = 5, .sole = true}};
  REQUIRE(store->Settle(batch).ok());
  internal::KernelLock gate(path + "-gate");
  REQUIRE(gate.Acquire(absl::Seconds(1)).ok());
  batch.rows = {{.counter = counter, .seq = 0},
                {.counter = {.subject = "k:2", .period_start = counter.period_start}, .seq = 0}};
  const auto replies = store->Settle(batch);
  REQUIRE_MESSAGE(replies.ok(), replies.status().ToString());
  CHECK(replies->front().allowance == 5);
  CHECK(replies->front().charged_to_all == 5);
  CHECK(replies->back().charged_to_all == 0);
  // With anything to write, it waits.
  batch.activity = {{.key_id = "key_1", .last_used_at = batch.now}};
  CHECK(absl::IsUnavailable(store->Settle(batch).status()));
  gate.Release();
}

// Whether anybody stands in the queue for the gate at `path`.
bool HasQueue(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_start = 1;
  lock.l_len = 16;
  const bool asked = fcntl(file, F_OFD_GETLK, &lock) == 0;
  close(file);
  return asked && lock.l_type != F_UNLCK;
}

TEST_CASE("a file that another program makes while the gate is waited for is left as it is") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  PlainSqlite(scratch / "theirs.db").Run("CREATE TABLE t(a)");
  const std::string theirs = ReadBytes(scratch / "theirs.db");
  internal::KernelLock gate(path + "-gate");
  REQUIRE(gate.Acquire(absl::Seconds(1)).ok());
  absl::Status status;
  std::thread opening([&] { status = OpenSqliteStore({.path = path}).status(); });
  const bool waits = WaitUntil([&] { return HasQueue(gate.path()); });
  std::error_code failed;
  std::filesystem::copy_file(scratch / "theirs.db", path, failed);
  gate.Release();
  opening.join();
  CHECK(waits);
  CHECK(!failed);
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(absl::StrContains(status.message(), "1 tables"));
  CHECK(ReadBytes(path) == theirs);
}

// A checkpoint that is under way, or was killed, leaves such a file: what is right is in its log.
TEST_CASE("a file that is marked as a store is not looked into before its log can be") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  NewDatabase(scratch);
  std::string bytes = ReadBytes(path);
  constexpr std::size_t kHeaderBytes = 100;
  std::fill(bytes.begin() + kHeaderBytes, bytes.end(), '?');
  WriteBytes(path, bytes);
  CHECK(internal::CheckSqliteHeader(path).ToString() == "OK");
  constexpr std::size_t kApplicationIdAt = 68;
  bytes[kApplicationIdAt] = '?';
  WriteBytes(path, bytes);
  CHECK(!internal::CheckSqliteHeader(path).ok());
}

TEST_CASE("where SQLite can have no log, a store is refused with the reason") {
  const ScratchDirectory scratch;
  const std::string answer = InChild([&]() -> std::string {
    // SQLite's own way to lock where nothing else works has no shared memory.
    sqlite3_vfs_register(sqlite3_vfs_find("unix-dotfile"), 1);
    return OpenSqliteStore({.path = scratch / "throttl.db"}).status().ToString();
  });
  CHECK(answer == absl::StrCat("FAILED_PRECONDITION: ", scratch / "throttl.db",
                               " cannot have a write-ahead log; its journal mode stays delete"));
}

}  // namespace
}  // namespace throttl::testing
