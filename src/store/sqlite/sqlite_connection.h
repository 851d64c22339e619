// A SqliteConnection is one handle on the database with its prepared statements; a SqliteStatement
// is one use of a statement.
//
// Thread safety: none; one thread at a time. Interrupt alone may come from any thread.
//
//   SqliteStatement read(db, "SELECT name FROM plan WHERE id = ?");
//   read.Bind(id);
//   while (read.Step()) names.push_back(read.Text(0));
//   THROTTL_RETURN_IF_ERROR(read.status());
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_CONNECTION_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <sqlite3.h>

#include "throttl/quota_store.h"

namespace throttl::internal {

// The one translation of SQLite's result codes. The message is the driver's, which never holds a
// value that was bound.
absl::Status ToStatus(sqlite3* db, int code, std::string_view doing);

struct SqliteConnectionOptions {
  std::string path = {};  // absolute, of an existing file
  Durability durability = Durability::kProcess;
  absl::Duration busy_timeout = absl::Seconds(5);
  bool read_only = false;
};

class SqliteConnection {
 public:
  // Opens `options.path`, which must be a database that may be opened (see sqlite_file.h).
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(
      const SqliteConnectionOptions& options);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  // Runs one statement, a constant, that returns no rows of interest.
  absl::Status Run(const char* sql);
  // Runs every statement of `sql`, a constant.
  absl::Status RunScript(const char* sql);
  // The first column of the first row. DataLoss: there is none.
  absl::StatusOr<std::int64_t> ReadNumber(const char* sql);
  absl::StatusOr<std::string> ReadText(const char* sql);

  // Ends the transaction, if one is open, without its changes.
  void Rollback();

  // Rows that the last INSERT, UPDATE or DELETE changed.
  std::int64_t changes() const { return sqlite3_changes64(db_); }
  // Pages in the write-ahead log after the last commit of this connection.
  std::int64_t wal_pages() const { return wal_pages_; }

  sqlite3* handle() const { return db_; }

 private:
  friend class SqliteStatement;
  explicit SqliteConnection(sqlite3* db) : db_(db) {}
  absl::Status Configure(const SqliteConnectionOptions& options);
  // Prepared once for each constant, and kept; null on an error, which is in the handle.
  sqlite3_stmt* Prepare(const char* sql);

  sqlite3* db_;
  std::int64_t wal_pages_ = 0;
  absl::flat_hash_map<const char*, sqlite3_stmt*> statements_;
};

class SqliteStatement {
 public:
  // `sql` is a constant: statements are cached by its address. Not two at a time of one constant.
  SqliteStatement(SqliteConnection& db, const char* sql);
  ~SqliteStatement();
  SqliteStatement(const SqliteStatement&) = delete;
  SqliteStatement& operator=(const SqliteStatement&) = delete;

  // Binds the next parameter. Texts and blobs are borrowed until the statement goes.
  SqliteStatement& Bind(std::int64_t number);
  SqliteStatement& Bind(std::int32_t number) { return Bind(std::int64_t{number}); }
  SqliteStatement& Bind(std::optional<std::int64_t> number);
  SqliteStatement& Bind(std::string_view text);
  SqliteStatement& Bind(const std::string& text) { return Bind(std::string_view(text)); }
  SqliteStatement& Bind(const char* text) { return Bind(std::string_view(text)); }
  SqliteStatement& Bind(absl::Time) = delete;  // say the unit: absl::ToUnixMillis
  SqliteStatement& Bind(bool) = delete;        // 0 or 1
  SqliteStatement& BindBlob(std::span<const std::uint8_t> bytes);

  // Whether there is a row. False at the end and on an error: ask status() then.
  bool Step();
  absl::Status status() const;
  // Steps to the end and returns status().
  absl::Status Finish();

  // Columns of the row, counted from 0.
  std::int64_t Int(int column) const { return sqlite3_column_int64(statement_, column); }
  std::int32_t Int32(int column) const { return sqlite3_column_int(statement_, column); }
  std::optional<std::int64_t> OptionalInt(int column) const;
  std::string Text(int column) const;
  std::string_view Blob(int column) const;  // until the next Step

 private:
  SqliteConnection& db_;
  sqlite3_stmt* statement_;
  int parameters_ = 0;
  int code_ = SQLITE_OK;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_CONNECTION_H_
