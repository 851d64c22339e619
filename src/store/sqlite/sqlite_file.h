// What may be opened as a database: the checks that come before SQLite touches a file.
//
// Thread safety: pure but for the file system.
//
//   THROTTL_ASSIGN_OR_RETURN(const SqliteFile file, CheckSqliteFile(path,
//   SqliteFileUse::kMayCreate));
#ifndef THROTTL_SRC_STORE_SQLITE_SQLITE_FILE_H_
#define THROTTL_SRC_STORE_SQLITE_SQLITE_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace throttl::internal {

// "THRT": PRAGMA application_id, at byte 68 of the file (https://sqlite.org/fileformat.html,
// section 1.3).
inline constexpr std::int64_t kApplicationId = 0x54485254;

enum class SqliteFileUse : std::uint8_t { kMayCreate = 1, kMustExist = 2 };

struct SqliteFile {
  std::string path = {};  // absolute, without symbolic links, so that one file has one gate
  bool exists = false;
};

// Resolves `path` and checks it. InvalidArgument: the text. NotFound: no directory, or no file and
// it must exist. FailedPrecondition: a directory, a device, a hard link, read-only, or on a network
// file system.
absl::StatusOr<SqliteFile> CheckSqliteFile(std::string_view path, SqliteFileUse use);

// FailedPrecondition when the file is a database of another program or of a newer version, or none.
// Reads only, and takes no lock that a database handle of this process may hold. An empty file is
// fine.
absl::Status CheckSqliteHeader(const std::string& path);

// Makes an empty file with mode 0600. REQUIRES: nobody in this process has it open.
absl::Status MakeEmptyFile(const std::string& path);

// Which file a path names now: another one when it was replaced.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};
absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path);

// Bytes of the file, 0 when there is none.
std::int64_t FileBytes(const std::string& path);

// Why databases must not be on the file system with this magic number (statfs(2)), or empty. Locks
// and shared memory are what a network file system does not have.
std::string_view NetworkFileSystemName(std::int64_t magic);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_STORE_SQLITE_SQLITE_FILE_H_
