#include "src/store/sqlite/sqlite_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <sqlite3.h>

#include "src/base/absl_string.h"
#include "src/base/errno_status.h"
#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_connection.h"
#include "src/store/sqlite/sqlite_schema.h"

namespace throttl::internal {
namespace {

struct NetworkFileSystem {
  std::int64_t magic;
  const char* name;
};

// From statfs(2) and linux/magic.h.
constexpr NetworkFileSystem kNetworkFileSystems[] = {
    {0x6969, "NFS"},        {0x517B, "SMB"},        {0xFF534D42, "CIFS"},
    {0xFE534D42, "SMB2"},   {0x01021997, "9P"},     {0x65735546, "FUSE"},
    {0x00C36400, "Ceph"},   {0x0BD00BD0, "Lustre"}, {0x5346414F, "AFS"},
    {0x6B414653, "AFS"},    {0x73757245, "Coda"},   {0x01161970, "GFS2"},
    {0x7461636F, "OCFS2"},  {0x47504653, "GPFS"},   {0x786F4256, "VirtualBox shared folder"},
    {0xBACBACBC, "vmhgfs"}, {0x19830326, "BeeGFS"},
};

std::string Directory(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<std::string> Resolve(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> resolved(realpath(path.c_str(), nullptr), &free);
  if (resolved == nullptr) return ErrnoStatus(errno, absl::StrCat("resolving ", path));
  return std::string(resolved.get());
}

absl::Status CheckPathText(std::string_view path) {
  if (path.empty()) return absl::InvalidArgumentError("the path of the database is empty");
  if (path.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("the path of the database holds a NUL byte");
  }
  // Beside the database stand files whose names are longer by up to 6 bytes.
  if (path.size() > PATH_MAX - 16) {
    return absl::InvalidArgumentError(absl::StrCat("the path of the database is ", path.size(),
                                                   " bytes, at most ", PATH_MAX - 16,
                                                   " are allowed"));
  }
  if (path == ":memory:") {
    return absl::InvalidArgumentError(
        "the path of the database is \":memory:\"; a store in memory is \"memory:\"");
  }
  return absl::OkStatus();
}

absl::Status CheckDirectory(const std::string& directory) {
  struct stat info = {};
  if (stat(directory.c_str(), &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat("the directory ", directory, " of the database"));
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(directory, " is not a directory"));
  }
  struct statfs system = {};
  if (statfs(directory.c_str(), &system) != 0) {
    return ErrnoStatus(errno, absl::StrCat("asking for the file system of ", directory));
  }
  // The magic numbers are 32 bits; the field is wider and signed.
  const std::int64_t magic = static_cast<std::int64_t>(system.f_type) & 0xFFFFFFFF;
  const std::string_view name = NetworkFileSystemName(magic);
  if (!name.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " is on a network or user-space file system (", AbslView(name),
                     "), where locks and shared memory cannot be relied on; use a local disk"));
  }
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the directory ", directory,
                     " is read-only for this user; files beside the database must be made there"));
  }
  return absl::OkStatus();
}

absl::Status CheckExisting(const std::string& path, const struct stat& info) {
  if (S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is a directory, not a database"));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  }
  if (info.st_nlink > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has ", info.st_nlink,
                     " hard links; under two names a database is damaged, so remove the others"));
  }
  if (access(path.c_str(), R_OK | W_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is read-only for this user; a store must be written to"));
  }
  return absl::OkStatus();
}

// The file URI that opens `path` without locks and without its write-ahead log
// (https://sqlite.org/uri.html).
std::string ImmutableUri(const std::string& path) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      absl::StrAppend(&uri, "%", absl::BytesToHexString(absl::string_view(&c, 1)));
    } else {
      uri.push_back(c);
    }
  }
  return uri + "?immutable=1";
}

// What a database's header says of whose it is (https://sqlite.org/fileformat.html, section 1.3).
struct FileMarks {
  std::int64_t user_version = 0;
  std::int64_t application_id = 0;
};

std::int64_t BigEndian32(const std::uint8_t* bytes) {
  const auto value = static_cast<std::uint32_t>(bytes[0]) << 24 |
                     static_cast<std::uint32_t>(bytes[1]) << 16 |
                     static_cast<std::uint32_t>(bytes[2]) << 8 | bytes[3];
  return static_cast<std::int32_t>(value);
}

// Nothing when the file has no whole header. Read through SQLite's file, since closing another
// descriptor would drop the locks that this process holds on the file.
std::optional<FileMarks> ReadMarks(sqlite3* db) {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
      file == nullptr || file->pMethods == nullptr) {
    return std::nullopt;
  }
  std::array<std::uint8_t, 100> header = {};
  if (file->pMethods->xRead(file, header.data(), static_cast<int>(header.size()), 0) != SQLITE_OK ||
      std::memcmp(header.data(), "SQLite format 3", 16) != 0) {
    return std::nullopt;
  }
  return FileMarks{BigEndian32(&header[60]), BigEndian32(&header[68])};
}

bool IsMarkedAsStore(const std::optional<FileMarks>& marks) {
  return marks.has_value() && marks->application_id == kApplicationId;
}

absl::Status CheckApplicationId(sqlite3* db, const std::string& path) {
  sqlite3_stmt* statement = nullptr;
  int code = sqlite3_prepare_v2(
      db, "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id",
      -1, &statement, nullptr);
  if (code == SQLITE_OK) code = sqlite3_step(statement);
  const std::int64_t id = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  const std::int64_t tables = code == SQLITE_ROW ? sqlite3_column_int64(statement, 1) : 0;
  sqlite3_finalize(statement);
  if (code == SQLITE_NOTADB) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a SQLite database, or its header is damaged"));
  }
  if (code != SQLITE_ROW) return ToStatus(db, code, absl::StrCat("reading the header of ", path));
  if (id == kApplicationId || (id == 0 && tables == 0)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is a database of another program (application_id ", id, ", ", tables,
                   " tables, indexes and views); Throttl's have ", kApplicationId));
}

// Without its log, the rest of a store's file may be half-written: a checkpoint is under way, or
// was killed. So a file that is marked as ours is not looked into, also when it became so
// meanwhile.
absl::Status CheckOpenedHeader(sqlite3* db, const std::string& path) {
  if (!IsMarkedAsStore(ReadMarks(db))) {
    absl::Status status = CheckApplicationId(db, path);
    if (!status.ok() && !IsMarkedAsStore(ReadMarks(db))) return status;
  }
  const std::optional<FileMarks> marks = ReadMarks(db);
  return marks.has_value() ? CheckSchemaVersion(marks->user_version) : absl::OkStatus();
}

}  // namespace

std::string_view NetworkFileSystemName(std::int64_t magic) {
  for (const NetworkFileSystem& system : kNetworkFileSystems) {
    if (system.magic == magic) return system.name;
  }
  return {};
}

absl::StatusOr<SqliteFile> CheckSqliteFile(std::string_view path, SqliteFileUse use) {
  THROTTL_RETURN_IF_ERROR(CheckPathText(path));
  SqliteFile file{.path = std::string(path)};
  struct stat info = {};
  file.exists = lstat(file.path.c_str(), &info) == 0;
  if (file.exists && S_ISLNK(info.st_mode)) {
    THROTTL_ASSIGN_OR_RETURN(file.path, Resolve(file.path));
    file.exists = stat(file.path.c_str(), &info) == 0;
  }
  if (file.exists) THROTTL_RETURN_IF_ERROR(CheckExisting(file.path, info));
  THROTTL_RETURN_IF_ERROR(CheckDirectory(Directory(file.path)));
  if (!file.exists && use == SqliteFileUse::kMustExist) {
    return absl::NotFoundError(absl::StrCat("there is no database at ", file.path));
  }
  THROTTL_ASSIGN_OR_RETURN(const std::string directory, Resolve(Directory(file.path)));
  const std::string name = file.path.substr(file.path.rfind('/') + 1);
  if (name.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path, " ends with a slash"));
  }
  file.path = directory == "/" ? "/" + name : directory + "/" + name;
  return file;
}

absl::Status CheckSqliteHeader(const std::string& path) {
  if (FileBytes(path) == 0) return absl::OkStatus();
  sqlite3* db = nullptr;
  int code = sqlite3_open_v2(ImmutableUri(path).c_str(), &db,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
  sqlite3_extended_result_codes(db, 1);
  absl::Status status = code == SQLITE_OK ? CheckOpenedHeader(db, path)
                                          : ToStatus(db, code, absl::StrCat("opening ", path));
  sqlite3_close(db);
  return status;
}

absl::Status MakeEmptyFile(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) {
    if (errno == EEXIST) return absl::AlreadyExistsError(absl::StrCat(path, " exists already"));
    return ErrnoStatus(errno, absl::StrCat("making ", path));
  }
  close(file);
  return absl::OkStatus();
}

absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  return FileIdentity{info.st_dev, info.st_ino};
}

std::int64_t FileBytes(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

}  // namespace throttl::internal
