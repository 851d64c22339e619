#include "src/store/sqlite/sqlite_database.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_schema.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kPageBytes = 4096;
constexpr std::int64_t kCheckpointPages = 1000;
constexpr int kReaderPatienceMs = 50;

bool HandleIsSuspect(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDataLoss(status) || absl::IsInternal(status) ||
         absl::IsResourceExhausted(status);
}

}  // namespace

SqliteDatabase::SqliteDatabase(std::string path, const SqliteStoreOptions& options)
    : path_(std::move(path)),
      options_(options),
      gate_(path_ + "-gate"),
      checkpoint_at_pages_(std::min(kCheckpointPages, options.wal_bytes_max / kPageBytes / 4)) {}

absl::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(
    const SqliteStoreOptions& options) {
  const SqliteFileUse use = options.create ? SqliteFileUse::kMayCreate : SqliteFileUse::kMustExist;
  THROTTL_ASSIGN_OR_RETURN(const SqliteFile file, CheckSqliteFile(options.path, use));
  std::unique_ptr<SqliteDatabase> database(new SqliteDatabase(file.path, options));
  // A fork from here on waits until nothing of SQLite is under way, or closes it.
  AddForkParticipant(database.get());
  const MutexLock lock(database->opening_);
  // Before the gate, whose file must not appear beside a file of another program.
  if (file.exists) THROTTL_RETURN_IF_ERROR(CheckSqliteHeader(file.path));
  THROTTL_RETURN_IF_ERROR(database->gate_.Acquire(options.busy_timeout));
  absl::Status status = database->Create();
  database->gate_.Release();
  THROTTL_RETURN_IF_ERROR(status);
  return database;
}

SqliteDatabase::~SqliteDatabase() {
  Suspend();  // a fork meanwhile waits, or finds all closed
  RemoveForkParticipant(this);
}

// Under the gate: makes the file and its schema, as far as they are missing.
absl::Status SqliteDatabase::Create() {
  absl::Status made = MakeEmptyFile(path_);
  if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  THROTTL_RETURN_IF_ERROR(CheckSqliteHeader(path_));
  THROTTL_ASSIGN_OR_RETURN(identity_, IdentifyFile(path_));
  THROTTL_ASSIGN_OR_RETURN(writer_, Connect(/*read_only=*/false));
  THROTTL_ASSIGN_OR_RETURN(const std::string mode, writer_->ReadText("PRAGMA journal_mode = WAL"));
  if (mode != "wal") {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " cannot have a write-ahead log; its journal mode stays ", mode));
  }
  THROTTL_RETURN_IF_ERROR(MigrateSchema(*writer_));
  // So that the header is in the file itself, where the next CheckSqliteHeader looks.
  return writer_->Run("PRAGMA wal_checkpoint(PASSIVE)");
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteDatabase::Connect(bool read_only) {
  return SqliteConnection::Open({.path = path_,
                                 .durability = options_.durability,
                                 .busy_timeout = options_.busy_timeout,
                                 .read_only = read_only});
}

absl::Status SqliteDatabase::CheckIdentity() const {
  const absl::StatusOr<FileIdentity> now = IdentifyFile(path_);
  if (now.ok() && *now == identity_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " was removed or replaced while it was open; open the store again"));
}

absl::Status SqliteDatabase::Write(const Body& body) {
  THROTTL_RETURN_IF_ERROR(gate_.Acquire(options_.busy_timeout));
  absl::Status status = WriteLocked(body);
  gate_.Release();
  return status;
}

absl::Status SqliteDatabase::WriteLocked(const Body& body) {
  THROTTL_RETURN_IF_ERROR(CheckIdentity());
  if (writer_ == nullptr) {
    THROTTL_ASSIGN_OR_RETURN(writer_, Connect(/*read_only=*/false));
  }
  absl::Status status = MakeRoom(*writer_);
  if (status.ok()) {
    status = Transact(*writer_, body);
    // On a full disk the log's space is what the next call can have.
    if (absl::IsResourceExhausted(status)) EmptyLog(*writer_).IgnoreError();
  }
  if (status.ok()) CheckpointIfDue(*writer_);
  // An error may have left the handle in a state of its own: the next call starts with a new one.
  if (HandleIsSuspect(status) || sqlite3_get_autocommit(writer_->handle()) == 0) writer_ = nullptr;
  return status;
}

absl::Status SqliteDatabase::Transact(SqliteConnection& db, const Body& body) {
  THROTTL_RETURN_IF_ERROR(db.Run("BEGIN IMMEDIATE"));
  absl::Status status = body(db);
  if (status.ok()) status = db.Run("COMMIT");
  db.Rollback();  // nothing is open after a COMMIT
  return status;
}

// The log grows for as long as a reader, perhaps of another program, looks at an old state.
absl::Status SqliteDatabase::MakeRoom(SqliteConnection& db) {
  const std::string log = path_ + "-wal";
  if (FileBytes(log) < options_.wal_bytes_max) return absl::OkStatus();
  CutReaders();
  THROTTL_RETURN_IF_ERROR(EmptyLog(db));
  const std::int64_t bytes = FileBytes(log);
  if (bytes < options_.wal_bytes_max) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the write-ahead log ", log, " is ", bytes,
                                                   " bytes, at most ", options_.wal_bytes_max,
                                                   " are allowed; a reader holds it open"));
}

// Moves the log into the file and truncates it, unless a reader looks at it.
absl::Status SqliteDatabase::EmptyLog(SqliteConnection& db) {
  sqlite3_busy_timeout(db.handle(), kReaderPatienceMs);  // the gate is held meanwhile
  absl::Status status = db.Run("PRAGMA wal_checkpoint(TRUNCATE)");
  sqlite3_busy_timeout(db.handle(),
                       static_cast<int>(options_.busy_timeout / absl::Milliseconds(1)));
  return status;
}

// A failed checkpoint loses nothing, and the next commit tries again.
void SqliteDatabase::CheckpointIfDue(SqliteConnection& db) {
  if (db.wal_pages() < checkpoint_at_pages_) return;
  if (db.wal_pages() * kPageBytes >= options_.wal_bytes_max / 2) CutReaders();
  db.Run("PRAGMA wal_checkpoint(PASSIVE)").IgnoreError();
}

void SqliteDatabase::CutReaders() {
  for (Reader& reader : readers_) {
    const MutexLock lock(reader.interrupt_mutex);
    if (reader.running != nullptr) sqlite3_interrupt(reader.running);
  }
}

SqliteDatabase::Reader& SqliteDatabase::LockReader() {
  const std::uint32_t first = next_reader_.fetch_add(1, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < kReaders; ++i) {
    Reader& reader = readers_[(first + i) % kReaders];
    if (reader.mutex.TryLock()) return reader;
  }
  Reader& reader = readers_[first % kReaders];
  reader.mutex.Lock();
  return reader;
}

absl::Status SqliteDatabase::Read(const Body& body) {
  return ReadOutsideTransaction([&body](SqliteConnection& db) -> absl::Status {
    THROTTL_RETURN_IF_ERROR(db.Run("BEGIN"));
    absl::Status status = body(db);
    db.Rollback();  // a read has nothing to keep
    return status;
  });
}

absl::Status SqliteDatabase::ReadOutsideTransaction(const Body& body)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Reader& reader = LockReader();
  absl::Status status = ReadLocked(reader, body);
  {
    const MutexLock lock(reader.interrupt_mutex);
    reader.running = nullptr;
  }
  if (HandleIsSuspect(status)) reader.connection = nullptr;
  reader.mutex.Unlock();
  return status;
}

absl::Status SqliteDatabase::ReadLocked(Reader& reader,
                                        const Body& body) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  THROTTL_RETURN_IF_ERROR(CheckIdentity());
  if (reader.connection == nullptr) {
    THROTTL_ASSIGN_OR_RETURN(reader.connection, Connect(/*read_only=*/true));
  }
  SqliteConnection& db = *reader.connection;
  {
    const MutexLock lock(reader.interrupt_mutex);
    reader.running = db.handle();
  }
  return body(db);
}

void SqliteDatabase::Suspend() {
  BeforeFork();
  AfterFork();
}

void SqliteDatabase::BeforeFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  opening_.Lock();
  gate_.CloseForFork();
  writer_ = nullptr;
  for (Reader& reader : readers_) {
    reader.mutex.Lock();
    reader.connection = nullptr;
  }
}

void SqliteDatabase::AfterFork() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (Reader& reader : readers_) reader.mutex.Unlock();
  gate_.ResumeAfterFork();
  opening_.Unlock();
}

}  // namespace throttl::internal
