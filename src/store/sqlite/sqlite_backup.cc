#include "src/store/sqlite/sqlite_backup.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

#include "src/base/errno_status.h"
#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_file.h"
#include "src/store/sqlite/sqlite_schema.h"

namespace throttl::internal {
namespace {

// Another store_id tells lease tables that this is another, or a restored, store.
absl::Status MakeStandalone(const std::string& path) {
  THROTTL_ASSIGN_OR_RETURN(
      std::unique_ptr<SqliteConnection> copy,
      SqliteConnection::Open({.path = path, .durability = Durability::kPower}));
  return RenewStoreId(*copy);
}

absl::Status Publish(const std::string& part, const std::string& destination) {
  // The rename must not come to the disk before the bytes do.
  const int file = open(part.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return ErrnoStatus(errno, absl::StrCat("opening ", part));
  const int synced = fsync(file);
  const int sync_error = errno;
  close(file);
  if (synced != 0) return ErrnoStatus(sync_error, absl::StrCat("writing ", part));
  if (renameat2(AT_FDCWD, part.c_str(), AT_FDCWD, destination.c_str(), RENAME_NOREPLACE) == 0) {
    return absl::OkStatus();
  }
  if (errno == EEXIST) {
    return absl::AlreadyExistsError(absl::StrCat("the backup ", destination, " exists already"));
  }
  return ErrnoStatus(errno, absl::StrCat("making ", destination));
}

absl::Status CopyTo(SqliteConnection& db, const std::string& part, const std::string& destination) {
  // A reader's handle refuses every write, also this one to another file.
  THROTTL_RETURN_IF_ERROR(db.Run("PRAGMA query_only = OFF"));
  absl::Status copied = SqliteStatement(db, "VACUUM INTO ?").Bind(part).Finish();
  copied.Update(db.Run("PRAGMA query_only = ON"));
  THROTTL_RETURN_IF_ERROR(copied);
  THROTTL_RETURN_IF_ERROR(MakeStandalone(part));
  return Publish(part, destination);
}

}  // namespace

absl::Status SqliteBackup(SqliteConnection& db, const std::string& destination) {
  if (destination.empty() || destination.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the destination of a backup is empty or holds a NUL byte");
  }
  if (access(destination.c_str(), F_OK) == 0) {
    return absl::AlreadyExistsError(absl::StrCat("the backup ", destination, " exists already"));
  }
  // What a killed backup left behind is of no use; VACUUM INTO wants an empty file.
  const std::string part = absl::StrCat(destination, ".part");
  if (unlink(part.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("removing ", part));
  }
  THROTTL_RETURN_IF_ERROR(MakeEmptyFile(part));
  absl::Status status = CopyTo(db, part, destination);
  if (!status.ok()) unlink(part.c_str());
  return status;
}

}  // namespace throttl::internal
