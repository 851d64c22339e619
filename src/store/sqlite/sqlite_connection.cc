#include "src/store/sqlite/sqlite_connection.h"

#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

// Our SQL is constant and fits the schema: when it is wrong in SQLite's eyes, what is stored of the
// schema is damaged.
int OfConstant(int code) { return code == SQLITE_ERROR ? SQLITE_CORRUPT : code; }

}  // namespace

absl::Status ToStatus(sqlite3* db, int code, std::string_view doing) {
  const std::string message =
      absl::StrCat(AbslView(doing), ": ", db == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db),
                   " (SQLite ", code, ")");
  if (code == SQLITE_IOERR_CORRUPTFS) return absl::DataLossError(message);
  // A parent is always written before its children: that it is not found is damage.
  if (code == SQLITE_CONSTRAINT_FOREIGNKEY) return absl::DataLossError(message);
  // Values are checked before they come here: that the schema refuses one is damage of the schema.
  if (code == SQLITE_CONSTRAINT_CHECK) return absl::DataLossError(message);
  if (code == SQLITE_IOERR_SHMSIZE) {
    return absl::ResourceExhaustedError(
        absl::StrCat(message, "; the disk is full, or a file may not grow"));
  }
  switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
      return absl::OkStatus();
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      return absl::DataLossError(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_IOERR:
    case SQLITE_INTERRUPT:
    case SQLITE_SCHEMA:
      return absl::UnavailableError(message);
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(message);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::FailedPreconditionError(message);
    case SQLITE_TOOBIG:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(
    const SqliteConnectionOptions& options) {
  sqlite3* db = nullptr;
  // NOMUTEX: a connection is used by one thread at a time. NOFOLLOW is not needed: the path is
  // resolved.
  const int code = sqlite3_open_v2(options.path.c_str(), &db,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) {
    absl::Status status = ToStatus(db, code, absl::StrCat("opening ", options.path));
    sqlite3_close(db);
    return status;
  }
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(db));
  THROTTL_RETURN_IF_ERROR(connection->Configure(options));
  return connection;
}

absl::Status SqliteConnection::Configure(const SqliteConnectionOptions& options) {
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, static_cast<int>(absl::ToInt64Milliseconds(options.busy_timeout)));
  // A checkpoint on close would run outside the gate.
  sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  // In the place of SQLite's own hook, which checkpoints: we do that ourselves, under the gate.
  sqlite3_wal_hook(
      db_,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<SqliteConnection*>(self)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  THROTTL_RETURN_IF_ERROR(
      RunScript("PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;"
                "PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 0;"));
  THROTTL_RETURN_IF_ERROR(RunScript(options.durability == Durability::kPower
                                        ? "PRAGMA synchronous = FULL"
                                        : "PRAGMA synchronous = NORMAL"));
  if (options.read_only) return RunScript("PRAGMA query_only = ON");
  return absl::OkStatus();
}

SqliteConnection::~SqliteConnection() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

sqlite3_stmt* SqliteConnection::Prepare(const char* sql) {
  if (auto it = statements_.find(sql); it != statements_.end()) return it->second;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) !=
      SQLITE_OK) {
    return nullptr;
  }
  statements_.emplace(sql, statement);
  return statement;
}

absl::Status SqliteConnection::Run(const char* sql) { return SqliteStatement(*this, sql).Finish(); }

absl::Status SqliteConnection::RunScript(const char* sql) {
  const int code = OfConstant(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr));
  return ToStatus(db_, code, "preparing the database");
}

absl::StatusOr<std::int64_t> SqliteConnection::ReadNumber(const char* sql) {
  SqliteStatement read(*this, sql);
  if (read.Step()) return read.Int(0);
  THROTTL_RETURN_IF_ERROR(read.status());
  return absl::DataLossError(absl::StrCat("the database has no row for: ", sql));
}

absl::StatusOr<std::string> SqliteConnection::ReadText(const char* sql) {
  SqliteStatement read(*this, sql);
  if (read.Step()) return read.Text(0);
  THROTTL_RETURN_IF_ERROR(read.status());
  return absl::DataLossError(absl::StrCat("the database has no row for: ", sql));
}

void SqliteConnection::Rollback() {
  if (sqlite3_get_autocommit(db_) == 0) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

SqliteStatement::SqliteStatement(SqliteConnection& db, const char* sql)
    : db_(db), statement_(db.Prepare(sql)) {
  if (statement_ != nullptr) return;
  code_ = OfConstant(sqlite3_extended_errcode(db.handle()));
}

SqliteStatement::~SqliteStatement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

SqliteStatement& SqliteStatement::Bind(std::int64_t number) {
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_, ++parameters_, number);
  return *this;
}

SqliteStatement& SqliteStatement::Bind(std::optional<std::int64_t> number) {
  if (number.has_value()) return Bind(*number);
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_null(statement_, ++parameters_);
  return *this;
}

SqliteStatement& SqliteStatement::Bind(std::string_view text) {
  const char* data = text.data() == nullptr ? "" : text.data();  // a null pointer would bind NULL
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_text64(statement_, ++parameters_, data, text.size(), SQLITE_STATIC,
                                SQLITE_UTF8);
  }
  return *this;
}

SqliteStatement& SqliteStatement::BindBlob(std::span<const std::uint8_t> bytes) {
  const void* data = bytes.data() == nullptr ? static_cast<const void*>("") : bytes.data();
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_blob64(statement_, ++parameters_, data, bytes.size(), SQLITE_STATIC);
  }
  return *this;
}

bool SqliteStatement::Step() {
  if (code_ != SQLITE_OK && code_ != SQLITE_ROW) return false;
  code_ = sqlite3_step(statement_);
  return code_ == SQLITE_ROW;
}

absl::Status SqliteStatement::status() const {
  return ToStatus(db_.handle(), code_, "using the database");
}

absl::Status SqliteStatement::Finish() {
  while (Step()) {
  }
  return status();
}

std::optional<std::int64_t> SqliteStatement::OptionalInt(int column) const {
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::nullopt;
  return Int(column);
}

std::string SqliteStatement::Text(int column) const {
  // Null where a damaged database holds NULL in a column that cannot.
  const unsigned char* text = sqlite3_column_text(statement_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  return text == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(text), size);
}

std::string_view SqliteStatement::Blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  return bytes == nullptr ? std::string_view()
                          : std::string_view(static_cast<const char*>(bytes), size);
}

}  // namespace throttl::internal
