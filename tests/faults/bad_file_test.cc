// Paths and files that cannot be a store: each is refused with an error of its own that names the
// value and the bound, and nothing is written.

#include <sys/types.h>

#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

#include "throttl/sqlite_store.h"

#include "tests/faults/fault_parts.h"

namespace throttl::testing {
namespace {

struct BadFile {
  std::string what;
  SqliteStoreOptions options;
  absl::StatusCode code;
  std::string names;  // what the message must hold: the value, the bound
};

void CheckRefusal(const BadFile& bad, const absl::Status& status) {
  CAPTURE(bad.what);
  CAPTURE(status.ToString());
  CHECK(status.code() == bad.code);
  CHECK(absl::StrContains(status.message(), bad.names));
}

// Opens each: checks the error, that no two say the same, and that nothing in `scratch` changed.
void CheckRefused(const ScratchDirectory& scratch, const std::vector<BadFile>& cases) {
  std::set<std::string> messages;
  for (const BadFile& bad : cases) {
    const auto before = Listing(scratch.path());
    const absl::Status status = OpenSqliteStore(bad.options).status();
    CheckRefusal(bad, status);
    CHECK_MESSAGE(Listing(scratch.path()) == before, bad.what);
    std::string text(status.message());
    if (!bad.options.path.empty()) {
      text = absl::StrReplaceAll(text, {{bad.options.path, "PATH"}});
    }
    CHECK_MESSAGE(messages.insert(text).second, text);
  }
}

// A store as this library makes it.
void MakeStore(const std::string& path) {
  const auto store = OpenSqliteStore({.path = path});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
}

TEST_CASE("a path that cannot be a database is refused by name, and nothing is written") {
  const ScratchDirectory scratch;
  const std::string text_file = scratch / "plain.txt";
  WriteBytes(text_file, "0");
  REQUIRE(mkdir((scratch / "folder").c_str(), 0700) == 0);
  REQUIRE(mkfifo((scratch / "fifo").c_str(), 0600) == 0);
  REQUIRE(symlink("nowhere", (scratch / "dangling").c_str()) == 0);
  REQUIRE(symlink("loop", (scratch / "loop").c_str()) == 0);
  const std::string missing = scratch / "missing/throttl.db";
  const std::string too_long = scratch / std::string(5000, 'x');
  const std::string long_name = scratch / std::string(252, 'n');
  CheckRefused(
      scratch,
      {{"an empty path", {.path = ""}, absl::StatusCode::kInvalidArgument, "empty"},
       {"a NUL byte",
        {.path = scratch / std::string("a\0b", 3)},
        absl::StatusCode::kInvalidArgument,
        "NUL byte"},
       {"SQLite's own name for memory",
        {.path = ":memory:"},
        absl::StatusCode::kInvalidArgument,
        "\":memory:\""},
       {"a path of more bytes than the system takes",
        {.path = too_long},
        absl::StatusCode::kInvalidArgument,
        absl::StrCat(too_long.size(), " bytes, at most 4080")},
       {"a name that leaves no room for -gate",
        {.path = long_name},
        absl::StatusCode::kFailedPrecondition,
        long_name},
       {"a missing directory", {.path = missing}, absl::StatusCode::kNotFound, scratch / "missing"},
       {"a file as directory",
        {.path = text_file + "/throttl.db"},
        absl::StatusCode::kFailedPrecondition,
        text_file + " is not a directory"},
       {"a directory",
        {.path = scratch / "folder"},
        absl::StatusCode::kFailedPrecondition,
        scratch / "folder is a directory"},
       {"a FIFO",
        {.path = scratch / "fifo"},
        absl::StatusCode::kFailedPrecondition,
        "regular file"},
       {"a dangling link",
        {.path = scratch / "dangling"},
        absl::StatusCode::kNotFound,
        scratch / "dangling"},
       {"a link to itself",
        {.path = scratch / "loop"},
        absl::StatusCode::kFailedPrecondition,
        scratch / "loop"},
       {"create=false and no file",
        {.path = scratch / "absent.db", .create = false},
        absl::StatusCode::kNotFound,
        scratch / "absent.db"}});
  CheckRefusal(
      {"a device", {}, absl::StatusCode::kFailedPrecondition, "/dev/null is not a regular"},
      OpenSqliteStore({.path = "/dev/null"}).status());
}

TEST_CASE("an option out of its bounds is refused with its value and bounds") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "throttl.db";
  CheckRefused(scratch, {{"no busy_timeout",
                          {.path = path, .busy_timeout = absl::ZeroDuration()},
                          absl::StatusCode::kInvalidArgument,
                          "busy_timeout is 0, 1 ms to 10 min"},
                         {"a long busy_timeout",
                          {.path = path, .busy_timeout = absl::Minutes(11)},
                          absl::StatusCode::kInvalidArgument,
                          "busy_timeout is 11m, 1 ms to 10 min"},
                         {"an endless busy_timeout",
                          {.path = path, .busy_timeout = absl::InfiniteDuration()},
                          absl::StatusCode::kInvalidArgument,
                          "busy_timeout is inf, 1 ms to 10 min"},
                         {"a small log",
                          {.path = path, .wal_bytes_max = (1 << 20) - 1},
                          absl::StatusCode::kInvalidArgument,
                          "wal_bytes_max is 1048575, 1 MiB to 1 TiB"},
                         {"a huge log",
                          {.path = path, .wal_bytes_max = (std::int64_t{1} << 40) + 1},
                          absl::StatusCode::kInvalidArgument,
                          "wal_bytes_max is 1099511627777, 1 MiB to 1 TiB"},
                         {"a durability that there is not",
                          {.path = path, .durability = static_cast<Durability>(3)},
                          absl::StatusCode::kInvalidArgument,
                          "durability is 3"}});
}

TEST_CASE("a file of another program or of a newer version is refused, and nothing is written") {
  const ScratchDirectory scratch;
  WriteBytes(scratch / "text.db", std::string(20'000, 't'));
  WriteBytes(scratch / "short.db", "SQLite format 3");
  PlainSqlite(scratch / "named.db").Run("CREATE TABLE t(a); PRAGMA application_id = 77");
  PlainSqlite(scratch / "tables.db").Run("CREATE TABLE t(a); CREATE INDEX i ON t(a)");
  MakeStore(scratch / "newer.db");
  PlainSqlite(scratch / "newer.db").Run("PRAGMA user_version = 5");
  MakeStore(scratch / "newer_copy.db");
  PlainSqlite(scratch / "newer_copy.db")
      .Run("PRAGMA user_version = 6; PRAGMA journal_mode = DELETE");
  PlainSqlite(scratch / "version.db").Run("PRAGMA user_version = 7");
  MakeStore(scratch / "linked.db");
  REQUIRE(link((scratch / "linked.db").c_str(), (scratch / "second_name.db").c_str()) == 0);
  CheckRefused(scratch, {{"a text file",
                          {.path = scratch / "text.db"},
                          absl::StatusCode::kFailedPrecondition,
                          scratch / "text.db is not a SQLite database"},
                         {"an application_id",
                          {.path = scratch / "named.db"},
                          absl::StatusCode::kFailedPrecondition,
                          "application_id 77"},
                         {"tables without an application_id",
                          {.path = scratch / "tables.db"},
                          absl::StatusCode::kFailedPrecondition,
                          "application_id 0, 2 tables"},
                         {"a newer schema",
                          {.path = scratch / "newer.db"},
                          absl::StatusCode::kFailedPrecondition,
                          "version 5, and this library knows versions up to 4"},
                         {"a newer schema in a file without a log",
                          {.path = scratch / "newer_copy.db"},
                          absl::StatusCode::kFailedPrecondition,
                          "version 6, and this library knows versions up to 4"},
                         {"a version and nothing else",
                          {.path = scratch / "version.db"},
                          absl::StatusCode::kFailedPrecondition,
                          "version 7, and this library knows versions up to 4"},
                         {"a hard link",
                          {.path = scratch / "linked.db"},
                          absl::StatusCode::kFailedPrecondition,
                          scratch / "linked.db has 2 hard links"}});
  const auto before = Listing(scratch.path());
  CheckRefusal({"15 bytes of a header", {}, absl::StatusCode::kFailedPrecondition, "short.db"},
               OpenSqliteStore({.path = scratch / "short.db"}).status());
  CHECK(Listing(scratch.path()) == before);
}

// The log can be looked into only with the help of files beside it, under the gate.
TEST_CASE("another program's tables that are only in its log are seen, and stay as they are") {
  const ScratchDirectory scratch;
  const std::string path = scratch / "foreign.db";
  {
    PlainSqlite foreign(scratch / "original.db");
    REQUIRE(foreign.Run("PRAGMA journal_mode = WAL; CREATE TABLE theirs(a)") == "wal");
    // Copied while it is open, since closing it would move the table from the log to the file.
    WriteBytes(path, ReadBytes(scratch / "original.db"));
    WriteBytes(path + "-wal", ReadBytes(scratch / "original.db-wal"));
  }
  const auto before = Listing(scratch.path());
  CheckRefusal({"tables in the log", {}, absl::StatusCode::kFailedPrecondition, "1 tables"},
               OpenSqliteStore({.path = path}).status());
  const auto after = Listing(scratch.path());
  CHECK(after.at(path) == before.at(path));
  CHECK(after.at(path + "-wal") == before.at(path + "-wal"));
  CHECK(PlainSqlite(path).Run("SELECT name FROM sqlite_schema") == "theirs");
}

// Root is not bound by modes, so this is asked by nobody (65534).
std::string OpenAsNobody(const std::string& path) {
  return InChild([&]() -> std::string {
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) return "cannot become nobody";
    return OpenSqliteStore({.path = path}).status().ToString();
  });
}

TEST_CASE("a file or directory that is read-only for this user is refused, nothing is written") {
  const ScratchDirectory scratch;
  const auto make = [&](const std::string& name, mode_t directory_mode, mode_t file_mode) {
    const std::string directory = scratch / name;
    REQUIRE(mkdir(directory.c_str(), 0700) == 0);
    WriteBytes(directory + "/throttl.db", "");
    REQUIRE(mkdir((directory + "/folder").c_str(), 0777) == 0);
    REQUIRE(chmod((directory + "/throttl.db").c_str(), file_mode) == 0);
    REQUIRE(chmod(directory.c_str(), directory_mode) == 0);
    return directory;
  };
  REQUIRE(chmod(scratch.path().c_str(), 0777) == 0);
  const std::string read_only_file = make("file", 0777, 0444) + "/throttl.db";
  const std::string secret_file = make("secret", 0777, 0000) + "/throttl.db";
  const std::string read_only_directory = make("directory", 0555, 0666);
  const std::string writable = make("writable", 0777, 0666) + "/throttl.db";
  const auto before = Listing(scratch.path());
  CHECK(OpenAsNobody(read_only_file) ==
        absl::StrCat("FAILED_PRECONDITION: ", read_only_file,
                     " is read-only for this user; a store must be written to"));
  CHECK(absl::StrContains(OpenAsNobody(secret_file), secret_file));
  const std::string in_directory = OpenAsNobody(read_only_directory + "/throttl.db");
  CHECK(absl::StrContains(in_directory, "FAILED_PRECONDITION"));
  CHECK(absl::StrContains(in_directory, read_only_directory + " is read-only for this user"));
  CHECK(OpenAsNobody(read_only_directory + "/new.db") == in_directory);
  const std::string folder = read_only_directory + "/folder";
  CHECK(OpenAsNobody(folder) ==
        absl::StrCat("FAILED_PRECONDITION: ", folder, " is a directory, not a database"));
  CHECK(Listing(scratch.path()) == before);
  // The same nobody may open what is writable, so it was the mode that was refused.
  CHECK(OpenAsNobody(writable) == "OK");
  REQUIRE(chmod(read_only_directory.c_str(), 0700) == 0);
}

TEST_CASE("a link to a database works, and both names share one gate") {
  const ScratchDirectory scratch;
  REQUIRE(mkdir((scratch / "links").c_str(), 0700) == 0);
  REQUIRE(mkdir((scratch / "data").c_str(), 0700) == 0);
  const std::string link = scratch / "links/linked.db";
  const std::string path = scratch / "data/throttl.db";
  MakeStore(path);
  REQUIRE(symlink("../data/throttl.db", link.c_str()) == 0);
  auto by_name = OpenSqliteStore({.path = path});
  auto by_link = OpenSqliteStore({.path = link});
  REQUIRE(by_name.ok());
  REQUIRE(by_link.ok());
  CHECK((*by_link)->info().store_id == (*by_name)->info().store_id);
  CHECK((*by_link)->info().lease_path == (*by_name)->info().lease_path);
  ChangeSet changes{.id = "one", .put_plans = {{.id = "free", .version = 1}}};
  CHECK((*by_link)->Apply(changes).ok());
  const auto plans = (*by_name)->ReadPlans();
  REQUIRE(plans.ok());
  CHECK(plans->size() == 1);
  for (const auto& entry : std::filesystem::directory_iterator(scratch / "links")) {
    CHECK(entry.path().string() == link);  // no -gate, -wal or -shm beside the link
  }
  CHECK(std::filesystem::exists(path + "-gate"));
}

TEST_CASE("a database in a linked directory has the gate of the directory itself") {
  const ScratchDirectory scratch;
  REQUIRE(mkdir((scratch / "data").c_str(), 0700) == 0);
  REQUIRE(symlink("data", (scratch / "alias").c_str()) == 0);
  const auto store = OpenSqliteStore({.path = scratch / "alias/throttl.db"});
  REQUIRE(store.ok());
  CHECK((*store)->info().lease_path == scratch / "data/throttl.db-lease");
}

TEST_CASE("an empty file is made into a store") {
  const ScratchDirectory scratch;
  WriteBytes(scratch / "empty.db", "");
  const auto store = OpenSqliteStore({.path = scratch / "empty.db", .create = false});
  REQUIRE_MESSAGE(store.ok(), store.status().ToString());
  CHECK((*store)->info().store_id.size() == 32);
  const auto again = OpenSqliteStore({.path = scratch / "empty.db", .create = false});
  REQUIRE(again.ok());
  CHECK((*again)->info().store_id == (*store)->info().store_id);
}

TEST_CASE("names with spaces, percent, question and number signs are names like others") {
  const ScratchDirectory scratch;
  for (const std::string name : {"a b.db", "a%41.db", "a?mode=ro.db", "a#b.db", "'; --.db"}) {
    MakeStore(scratch / name);
    CHECK_MESSAGE(std::filesystem::exists(scratch / name), name);
    CHECK_MESSAGE(OpenSqliteStore({.path = scratch / name, .create = false}).ok(), name);
  }
}

}  // namespace
}  // namespace throttl::testing
