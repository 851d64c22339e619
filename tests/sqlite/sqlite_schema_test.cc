// What the SQLite store's files are: schema, modes, settings of handles, plans of queries, handles
// across forks.

#include <array>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "throttl/sqlite_store.h"

#include "src/base/mutex.h"
#include "src/store/sqlite/sqlite_connection.h"
#include "tests/faults/fault_parts.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

using internal::SqliteConnection;

std::shared_ptr<QuotaStore> Open(const SqliteStoreOptions& options) {
  return Must(OpenSqliteStore(options));
}

// A store with `keys` keys of two owners on two plans.
std::shared_ptr<QuotaStore> OpenWithKeys(const std::string& path, std::int64_t keys) {
  auto store = Open({.path = path});
  ChangeSet changes{.put_plans = {NewPlan("free"), NewPlan("pro")}};
  for (std::int64_t i = 0; i < keys; ++i) {
    changes.put_keys.push_back(NewKey(absl::StrCat("key-", i), i % 2 == 0 ? "free" : "pro",
                                      i % 3 == 0 ? "acme" : "other", i));
    changes.events.push_back(NewEvent(absl::StrCat("event-", i)));
  }
  MustApply(*store, changes);
  return store;
}

TEST_CASE("the database is marked as Throttl's, has a version, a log, and STRICT tables only") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = OpenWithKeys(path, 1);
  PlainSqlite plain(path);
  CHECK(plain.Run("PRAGMA application_id") == "1414025812");
  CHECK(plain.Run("PRAGMA user_version") == "4");
  CHECK(plain.Run("PRAGMA journal_mode") == "wal");
  CHECK(plain.Run("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
                  "AND NOT strict AND name NOT LIKE 'sqlite_%'") == "");
  CHECK(plain.Run("SELECT count(*) FROM pragma_table_list WHERE strict") == "14");
  CHECK(plain.Run("SELECT count(*) FROM sqlite_schema WHERE type IN ('view', 'trigger')") == "0");
  CHECK(plain.Run("PRAGMA foreign_key_check") == "");
  CHECK(plain.Run("PRAGMA integrity_check") == "ok");
}

TEST_CASE("a new file is marked itself, and not only in its log, where others do not look") {
  const ScratchDirectory scratch;
  const auto store = Open({.path = scratch / "throttl.db"});
  CHECK(ReadBytes(scratch / "throttl.db").substr(60, 12) ==
        std::string("\0\0\0\4\0\0\0\0THRT", 12));
}

TEST_CASE("the schema itself refuses what no record may hold") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  KeyRecord key = NewKey("key", "free");
  key.key.scopes = {"read"};
  key.key.quota = Quota{.limit = 5};
  key.key.rate_limits = {{.name = "calls", .limit = 10, .window = absl::Seconds(1)}};
  const auto store = Open({.path = path});
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {key},
                     .put_webhooks = {NewWebhook("hook", "acme")}});
  MustSettle(*store, {.holder = HolderId{1}, .rows = {NewRow("key", 1, 0, 0, 10)}});
  PlainSqlite plain(path);
  for (const std::string change : {"plan SET version = 0",
                                   "plan SET quota_limit = -1",
                                   "plan SET quota_soft_percent = -1",
                                   "api_key SET version = 0",
                                   "api_key SET enabled = 2",
                                   "api_key SET quota_limit = -1",
                                   "api_key SET quota_soft_percent = -1",
                                   "key_secret SET digest = x'00'",
                                   "key_secret SET pepper_version = -1",
                                   "key_text SET kind = 3",
                                   "rate_limit SET of = 3",
                                   "rate_limit SET unit_limit = 0",
                                   "rate_limit SET window_ns = 0",
                                   "rate_limit SET shadow = 2",
                                   "counter SET used = -1",
                                   "counter SET forfeited = -1",
                                   "counter SET added = -1",
                                   "counter SET used = charged + 1",
                                   "counter SET open_leases = -1",
                                   "lease SET used = -1",
                                   "lease SET used = allowance + 1",
                                   "webhook SET active = 2",
                                   "webhook SET version = 0",
                                   "webhook_text SET kind = 3"}) {
    const std::string answer = plain.Run("UPDATE " + change);
    CHECK_MESSAGE(absl::StartsWith(answer, "error: CHECK constraint failed"), change, answer);
  }
  // Which of a key's secrets is the newest has one answer.
  CHECK(absl::StartsWith(
      plain.Run("INSERT INTO key_secret SELECT 'other', key_id, position, last4, created_at, "
                "expires_at, digest, pepper_version FROM key_secret"),
      "error: UNIQUE constraint failed"));
}

TEST_CASE("every file of the store and its backup has mode 0600, whatever the umask is") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const mode_t mask = umask(0);
  const auto store = OpenWithKeys(path, 1);
  const absl::Status backup = store->Backup(scratch / "copy.db");
  umask(mask);
  CHECK_MESSAGE(backup.ok(), backup.ToString());
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    struct stat info = {};
    REQUIRE(stat(entry.path().c_str(), &info) == 0);
    CHECK_MESSAGE((info.st_mode & 07777) == 0600, entry.path().string());
    names.insert(entry.path().filename().string());
  }
  CHECK(names == std::set<std::string>{"copy.db", "throttl.db", "throttl.db-gate", "throttl.db-shm",
                                       "throttl.db-wal"});
}

// What sqlite3_db_config was told of a handle.
int Configured(const SqliteConnection& db, int setting) {
  int value = -1;
  sqlite3_db_config(db.handle(), setting, -1, &value);
  return value;
}

TEST_CASE("a handle trusts no schema, checks cells and foreign keys, and syncs as it was told") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  Open({.path = path});
  for (const Durability durability : {Durability::kProcess, Durability::kPower}) {
    for (const bool read_only : {false, true}) {
      const auto db = Must(SqliteConnection::Open({.path = path,
                                                   .durability = durability,
                                                   .busy_timeout = absl::Milliseconds(1234),
                                                   .read_only = read_only}));
      CHECK(Must(db->ReadNumber("PRAGMA trusted_schema")) == 0);
      CHECK(Must(db->ReadNumber("PRAGMA foreign_keys")) == 1);
      CHECK(Must(db->ReadNumber("PRAGMA cell_size_check")) == 1);
      CHECK(Must(db->ReadNumber("PRAGMA mmap_size")) == 0);
      CHECK(Must(db->ReadNumber("PRAGMA temp_store")) == 2);  // memory
      CHECK(Must(db->ReadNumber("PRAGMA journal_size_limit")) == 0);
      CHECK(Must(db->ReadNumber("PRAGMA busy_timeout")) == 1234);
      CHECK(Must(db->ReadNumber("PRAGMA synchronous")) ==
            (durability == Durability::kPower ? 2 : 1));
      CHECK(Must(db->ReadNumber("PRAGMA query_only")) == (read_only ? 1 : 0));
      CHECK(Configured(*db, SQLITE_DBCONFIG_DEFENSIVE) == 1);
      CHECK(Configured(*db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE) == 1);
      CHECK(Configured(*db, SQLITE_DBCONFIG_DQS_DML) == 0);
      CHECK(Configured(*db, SQLITE_DBCONFIG_DQS_DDL) == 0);
    }
  }
}

TEST_CASE("a program that maps its databases into memory does not make a store's file so") {
  const ScratchDirectory scratch;
  CHECK(InChild([&]() -> std::string {
          constexpr sqlite3_int64 kMegabyte = 1 << 20;
          sqlite3_shutdown();
          sqlite3_config(SQLITE_CONFIG_MMAP_SIZE, kMegabyte, kMegabyte);
          Open({.path = scratch / "throttl.db"});
          if (PlainSqlite(scratch / "throttl.db").Run("PRAGMA mmap_size") == "0")
            return "no effect";
          const auto db = Must(SqliteConnection::Open({.path = scratch / "throttl.db"}));
          return Must(db->ReadText("PRAGMA mmap_size"));
        }) == "0");
}

TEST_CASE("SQLite begins no checkpoint by itself: not at 1,000 pages, and not on close") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  Open({.path = path});
  REQUIRE(PlainSqlite(path).Run("PRAGMA wal_checkpoint(TRUNCATE)") == "0|0|0");
  const auto bytes = std::filesystem::file_size(path);
  {
    const auto db = Must(SqliteConnection::Open({.path = path}));
    for (int i = 0; i < 3; ++i) {
      CHECK(db->RunScript("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                          "LIMIT 1000) INSERT INTO event(id, type, at, owner_id, key_id, actor, "
                          "data) SELECT hex(randomblob(16)), '', 0, '', '', '', "
                          "hex(zeroblob(2000)) FROM n; COMMIT")
                .ok());
    }
    CHECK(db->wal_pages() > 3000);
  }
  CHECK(std::filesystem::file_size(path) == bytes);
  CHECK(std::filesystem::file_size(path + "-wal") > 3000 * 4096);
}

// The statements that ran while it stands, on every handle that was opened meanwhile.
class StatementLog {
 public:
  StatementLog() {
    The() = this;
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(&Watch));
  }
  ~StatementLog() {
    sqlite3_cancel_auto_extension(reinterpret_cast<void (*)()>(&Watch));
    The() = nullptr;
  }
  StatementLog(const StatementLog&) = delete;
  StatementLog& operator=(const StatementLog&) = delete;

  std::set<std::string> statements() {
    const internal::MutexLock lock(mutex_);
    return statements_;
  }
  // Those that stepped through a whole table.
  std::set<std::string> full_scans() {
    const internal::MutexLock lock(mutex_);
    return full_scans_;
  }

 private:
  static StatementLog*& The() {
    static StatementLog* log = nullptr;
    return log;
  }
  static int Watch(sqlite3* db, char**, const sqlite3_api_routines*) {
    return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, &Note, nullptr);
  }
  static int Note(unsigned, void*, void* statement, void*) {
    if (The() == nullptr) return 0;
    auto* ended = static_cast<sqlite3_stmt*>(statement);
    const internal::MutexLock lock(The()->mutex_);
    The()->statements_.insert(sqlite3_sql(ended));
    if (sqlite3_stmt_status(ended, SQLITE_STMTSTATUS_FULLSCAN_STEP, 1) > 0) {
      The()->full_scans_.insert(sqlite3_sql(ended));
    }
    return 0;
  }

  internal::Mutex mutex_;
  std::set<std::string> statements_ THROTTL_GUARDED_BY(mutex_);
  std::set<std::string> full_scans_ THROTTL_GUARDED_BY(mutex_);
};

// Every call that a running engine makes, and every way to list.
void CallEverything(QuotaStore& store) {
  Must(store.FindKeys(std::vector<std::string>{"loc-key-7", "loc-none"}));
  Must(store.ReadKeys(std::vector<std::string>{"key-7", "none"}));
  Must(store.ReadPepperVersions());
  Must(store.HasImportedSecrets());
  Must(store.ReadNewestTime());
  for (const KeyQuery& query :
       {KeyQuery{.count_max = 5}, KeyQuery{.owner_id = "acme", .count_max = 5},
        KeyQuery{.plan_id = "pro", .count_max = 5}, KeyQuery{.locator = "loc-key-7"},
        KeyQuery{.owner_id = "acme", .plan_id = "pro", .include_revoked = false, .count_max = 5}}) {
    Must(ListAllKeys(store, query));
  }
  KeyRecord record = Must(store.ReadKeys(std::vector<std::string>{"key-7"})).at(0);
  ++record.key.version;
  MustApply(store, {.put_keys = {record}, .events = {NewEvent("changed")}});
  MustApply(store, {.put_plans = {NewPlan("empty")}});
  MustApply(store, {.delete_plans = {{.id = "empty", .version = 1}}});
  Must(store.ReadEvents(50, 10));
  SettleBatch batch{.holder = HolderId{1}, .now = At(1), .rows = {NewRow("key-7", 1, 1, 1, 10)}};
  batch.rows.front().sole = true;
  batch.usage = {{.key_id = "key-7", .hour = {.start = At(0), .allowed = 1}}};
  batch.activity = {{.key_id = "key-7", .last_used_at = At(1)}};
  MustSettle(store, batch);
  Must(store.ReadCounters(std::vector<CounterId>{{"key-7", At(0)}}));
  CHECK(Must(store.EndPeriods(At(40 * 86400), 10)) == 1);
  Must(store.ReadUsage({.key_id = "key-7"}));
  Must(store.ReadUsage({.owner_id = "acme"}));
  Must(store.ReadUsage({}));
  CHECK(store.RetireHolder(HolderId{1}, LeaseState::kClosed).ok());
}

// What a notifier and a host's housekeeping call.
void CallForOthers(QuotaStore& store) {
  MustApply(store, {.put_webhooks = {NewWebhook("hook", "acme"), NewWebhook("else", "other")}});
  CHECK(Must(store.ListWebhooks({})).size() == 2);
  CHECK(Must(store.ListWebhooks({.owner_id = "acme"})).at(0).id == "hook");
  CHECK(Must(store.ListWebhooks({.id = "hook"})).at(0).owner_id == "acme");
  const Event event = Must(store.ReadEvents(0, 1)).at(0);
  const Delivery delivery{.id = "event.hook", .destination = "hook", .event = event};
  CHECK(store.PutDeliveries(std::span(&delivery, 1), event.seq).ok());
  const DeliveryClaim claim{.claim = 7, .now = At(1), .until = At(60)};
  CHECK(Must(store.ClaimDeliveries(claim)).deliveries.size() == 1);
  Must(store.ListDeliveries({.owner_id = "acme"}));
  Must(store.Prune({.counters_before = At(2),
                    .usage_before = At(2),
                    .events_before = At(2),
                    .deliveries_before = At(2)}));
}

// The indexes that a plan's steps name, but those that SQLite made by itself.
std::set<std::string> IndexesIn(const std::vector<std::string>& steps) {
  std::set<std::string> indexes;
  for (const std::string& step : steps) {
    if (absl::StrContains(step, "VIRTUAL TABLE")) continue;
    const std::vector<std::string> words = absl::StrSplit(step, ' ');
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
      if (words[i] == "INDEX" && !absl::StartsWith(words[i + 1], "sqlite_")) {
        indexes.insert(words[i + 1]);
      }
    }
  }
  return indexes;
}

TEST_CASE("every statement on what can be many goes by an index, and every index serves one") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  OpenWithKeys(path, 200);
  StatementLog log;
  {
    const auto store = Open({.path = path, .create = false});
    CallEverything(*store);
    CallForOthers(*store);
  }
  PlainSqlite plain(path);
  const std::vector<std::string> tables = {"api_key", "key_secret", "event",   "counter",
                                           "lease",   "usage_hour", "delivery"};
  std::set<std::string> used;
  std::set<std::string> of_tables;
  for (const std::string& sql : log.statements()) {
    if (absl::StartsWith(sql, "PRAGMA") || absl::StartsWith(sql, "EXPLAIN")) continue;
    const std::vector<std::string> steps =
        absl::StrSplit(plain.Run("EXPLAIN QUERY PLAN " + sql), '\n');
    used.merge(IndexesIn(steps));
    for (const std::string& table : tables) {
      if (!absl::StrContains(sql, table)) continue;
      of_tables.insert(sql);
      for (const std::string& step : steps) {
        CHECK_MESSAGE(!absl::StrContains(step, absl::StrCat("SCAN ", table)),
                      absl::StrCat(sql, "\n", step));
      }
      CHECK_MESSAGE(log.full_scans().count(sql) == 0, sql);
    }
  }
  // If the log had missed them, nothing would have been checked.
  CHECK(of_tables.size() >= 23);
  CHECK(absl::StrJoin(used, " ") ==
        "api_key_by_age api_key_by_owner api_key_by_plan api_key_live_by_plan counter_by_end "
        "counter_due delivery_by_age delivery_by_claim delivery_due event_by_age key_secret_by_key "
        "key_secret_by_pepper lease_open_by_holder usage_hour_by_start webhook_by_owner");
  CHECK(plain.Run("SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL") ==
        absl::StrCat(used.size()));
  MESSAGE(absl::StrCat(of_tables.size(), " statements"));
}

// The descriptors of this process that are open on files of the store at `path`.
std::set<std::string> OpenFiles(const std::string& path) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the iterator's own
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (absl::StartsWith(target, path)) files.insert(target);
  }
  return files;
}

TEST_CASE("Suspend closes every handle and lock descriptor; the next call opens them again") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = OpenWithKeys(path, 3);
  CHECK(OpenFiles(path).size() == 4);  // the file, its log, its index, the gate
  store->Suspend();
  CHECK(OpenFiles(path).empty());
  CHECK(Must(store->ReadPlans()).size() == 2);
  MustApply(*store, {.put_plans = {NewPlan("third")}});
  CHECK(Must(store->ReadPlans()).size() == 3);
  store->Suspend();
  store->Suspend();
  CHECK(OpenFiles(path).empty());
}

TEST_CASE("a program that takes a process's place inherits no descriptor") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = OpenWithKeys(path, 1);
  std::size_t open_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (!absl::StartsWith(target, path)) continue;
    ++open_files;
    const int flags = fcntl(std::stoi(entry.path().filename()), F_GETFD);
    CHECK_MESSAGE((flags & FD_CLOEXEC) != 0, target);
  }
  CHECK(open_files >= 4);
}

TEST_CASE("a closed store leaves no descriptor open") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  OpenWithKeys(path, 1);
  CHECK(OpenFiles(path).empty());
}

TEST_CASE("a forked child inherits no descriptor, and parent and child both go on") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  const auto store = OpenWithKeys(path, 3);
  for (int i = 0; i < 20; ++i) {
    const std::string answer = InChild([&]() -> std::string {
      if (!OpenFiles(path).empty()) return "inherited " + *OpenFiles(path).begin();
      ChangeSet changes{.put_plans = {NewPlan(absl::StrCat("child-", i))}};
      changes.id = absl::StrCat("child-", i);
      return store->Apply(changes).status().ToString();
    });
    CHECK(answer == "OK");
    MustApply(*store, {.put_plans = {NewPlan(absl::StrCat("parent-", i))}});
  }
  CHECK(Must(store->ReadPlans()).size() == 42);
  CHECK(PlainSqlite(path).Run("PRAGMA integrity_check") == "ok");
}

}  // namespace
}  // namespace throttl::testing
