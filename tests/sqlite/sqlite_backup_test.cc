// Backups of a SQLite store: files of their own, whole or not there.

#include "src/store/sqlite/sqlite_backup.h"

#include "absl/strings/match.h"

#include "throttl/sqlite_store.h"

#include "tests/faults/fault_parts.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

std::shared_ptr<QuotaStore> OpenWithKey(const std::string& path) {
  auto store = Must(OpenSqliteStore({.path = path}));
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("key", "free")}});
  return store;
}

TEST_CASE("a backup is another store: it has an id of its own, in one file that is whole") {
  const ScratchDirectory scratch;
  const auto store = OpenWithKey(scratch / "throttl.db");
  REQUIRE(store->Backup(scratch / "copy.db").ok());
  // Bytes 18 and 19 are 2 in a file that needs its log (https://sqlite.org/fileformat.html).
  CHECK(ReadBytes(scratch / "copy.db").substr(18, 2) == "\1\1");
  CHECK(!std::filesystem::exists(scratch / "copy.db-wal"));
  CHECK(!std::filesystem::exists(scratch / "copy.db-journal"));
  const auto copy = Must(OpenSqliteStore({.path = scratch / "copy.db", .create = false}));
  CHECK(copy->info().store_id.size() == 32);
  CHECK(copy->info().store_id != store->info().store_id);
  CHECK(Snapshot(*copy) == Snapshot(*store));
}

TEST_CASE("the handle of a reader only reads after it made a backup") {
  const ScratchDirectory scratch;
  OpenWithKey(scratch / "throttl.db");
  const auto db =
      Must(internal::SqliteConnection::Open({.path = scratch / "throttl.db", .read_only = true}));
  CHECK(internal::SqliteBackup(*db, scratch / "copy.db").ok());
  CHECK(!db->Run("DELETE FROM meta").ok());
}

TEST_CASE("AlreadyExists: a file that is there is never replaced, a link to nothing included") {
  const ScratchDirectory scratch;
  const auto store = OpenWithKey(scratch / "throttl.db");
  WriteBytes(scratch / "file", "theirs");
  REQUIRE(symlink("nowhere", (scratch / "link").c_str()) == 0);
  for (const std::string name : {"file", "link"}) {
    CHECK_MESSAGE(absl::IsAlreadyExists(store->Backup(scratch / name)), name);
    CHECK(!std::filesystem::exists(scratch / (name + ".part")));
  }
  CHECK(ReadBytes(scratch / "file") == "theirs");
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(!std::filesystem::exists(scratch / "nowhere"));
}

TEST_CASE("a destination that is no name is InvalidArgument") {
  const ScratchDirectory scratch;
  const auto store = OpenWithKey(scratch / "throttl.db");
  for (const std::string& name : {std::string(), scratch / std::string("a\0b", 3)}) {
    const absl::Status status = store->Backup(name);
    CHECK(absl::IsInvalidArgument(status));
    CHECK(absl::StrContains(status.message(), "empty or holds a NUL byte"));
  }
  CHECK(!std::filesystem::exists(scratch / "a"));
}

TEST_CASE("what a killed backup left behind is in nobody's way, and is not followed") {
  const ScratchDirectory scratch;
  const auto store = OpenWithKey(scratch / "throttl.db");
  WriteBytes(scratch / "copy.db.part", "half of a backup");
  CHECK(store->Backup(scratch / "copy.db").ok());
  CHECK(!std::filesystem::exists(scratch / "copy.db.part"));

  WriteBytes(scratch / "theirs", "theirs");
  REQUIRE(symlink("theirs", (scratch / "second.db.part").c_str()) == 0);
  CHECK(store->Backup(scratch / "second.db").ok());
  CHECK(ReadBytes(scratch / "theirs") == "theirs");
}

TEST_CASE("a backup that fails leaves no file") {
  const ScratchDirectory scratch;
  const auto store = OpenWithKey(scratch / "throttl.db");
  // With a damaged schema the copy cannot be made.
  PlainSqlite plain(scratch / "throttl.db");
  plain.Run(
      "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE' "
      "WHERE name = 'webhook_text'");
  store->Suspend();
  const absl::Status status = store->Backup(scratch / "copy.db");
  CHECK(!status.ok());
  CHECK(!std::filesystem::exists(scratch / "copy.db"));
  CHECK(!std::filesystem::exists(scratch / "copy.db.part"));
}

}  // namespace
}  // namespace throttl::testing
