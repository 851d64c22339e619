// One SQLite transaction a request: BEGIN IMMEDIATE, read a counter, write it, COMMIT. The journal
// is a write-ahead log, and the statements are prepared once.
//
// sqlite_peer normal|full CALLS: with that setting of PRAGMA synchronous; full is what SQLite has
// by default, and waits for the disk at each COMMIT
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sqlite3.h>

#include "tests/temp_dir.h"

#include "benchmarks/bench_keys.h"
#include "benchmarks/compare/peer.h"

namespace throttl::benchmarks {
namespace {

std::int64_t NowSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A fixed window of a minute for each key, which begins with its first request.
class SqliteLimiter {
 public:
  SqliteLimiter(const std::string& path, const std::string& synchronous, std::int64_t limit)
      : limit_(limit) {
    sqlite3* db = nullptr;
    const int opened = sqlite3_open(path.c_str(), &db);
    db_.reset(db);
    Require(opened == SQLITE_OK, "the file cannot be opened");
    Run("PRAGMA journal_mode=WAL");
    Run("PRAGMA synchronous=" + synchronous);
    Run("CREATE TABLE counters (key TEXT PRIMARY KEY, used INTEGER NOT NULL,"
        " ends_at INTEGER NOT NULL) WITHOUT ROWID");
    begin_ = Prepare("BEGIN IMMEDIATE");
    read_ = Prepare("SELECT used, ends_at FROM counters WHERE key = ?1");
    write_ = Prepare("INSERT OR REPLACE INTO counters (key, used, ends_at) VALUES (?1, ?2, ?3)");
    commit_ = Prepare("COMMIT");
  }

  bool Check(const std::string& key) {
    const std::int64_t now = NowSeconds();
    std::int64_t used = 0;
    std::int64_t ends_at = now + kPeerWindowSeconds;
    Finish(begin_);
    BindKey(read_, key);
    if (sqlite3_step(read_.get()) == SQLITE_ROW && sqlite3_column_int64(read_.get(), 1) > now) {
      used = sqlite3_column_int64(read_.get(), 0);
      ends_at = sqlite3_column_int64(read_.get(), 1);
    }
    sqlite3_reset(read_.get());
    const bool allowed = used < limit_;
    if (allowed) {
      BindKey(write_, key);
      sqlite3_bind_int64(write_.get(), 2, used + 1);
      sqlite3_bind_int64(write_.get(), 3, ends_at);
      Finish(write_);
    }
    Finish(commit_);
    return allowed;
  }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Close>;

  void Run(const std::string& sql) {
    const int done = sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
    Require(done == SQLITE_OK, sqlite3_errmsg(db_.get()));
  }
  Statement Prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    const int done = sqlite3_prepare_v2(db_.get(), sql, -1, &statement, nullptr);
    Require(done == SQLITE_OK, sqlite3_errmsg(db_.get()));
    return Statement(statement);
  }
  static void BindKey(const Statement& statement, const std::string& key) {
    sqlite3_bind_text(statement.get(), 1, key.data(), static_cast<int>(key.size()), SQLITE_STATIC);
  }
  void Finish(const Statement& statement) {
    Require(sqlite3_step(statement.get()) == SQLITE_DONE, sqlite3_errmsg(db_.get()));
    sqlite3_reset(statement.get());
  }

  const std::int64_t limit_;
  std::unique_ptr<sqlite3, Close> db_;
  Statement begin_;
  Statement read_;
  Statement write_;
  Statement commit_;
};

void Run(const PeerArguments& arguments) {
  Require(arguments.row == "normal" || arguments.row == "full", "no such row");
  const testing::TempDir dir;
  const std::vector<std::string> keys = PeerKeys();
  SqliteLimiter three(dir.File("three.db"), arguments.row, 3);
  RequireThreeAllowed([&] { return three.Check(keys[0]); });
  SqliteLimiter all(dir.File("all.db"), arguments.row, kPeerLimit);
  PrintNsPerCheck(arguments.calls, [&](std::size_t number) { return all.Check(keys[number]); });
}

}  // namespace
}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  throttl::benchmarks::Run(throttl::benchmarks::PeerArguments(argc, argv));
}
